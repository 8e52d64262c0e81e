package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// ChangedRoleAlias is the kind of Change for role aliases; the key is the name.
const ChangedRoleAlias = "rolealias"

const roleAliasColumns = `name, role, duration, created, modified`

func scanRoleAlias(s scanner) (r fleet.RoleAlias, err error) {
	var duration, created, modified int64
	err = s.Scan(&r.Name, &r.RoleARN, &duration, &created, &modified)
	r.Duration, r.Created, r.Modified = time.Duration(duration)*time.Second, fromMillis(created), fromMillis(modified)
	return r, err
}

// RoleAlias returns a role alias. It fails with KindNotFound.
func (tx *Tx) RoleAlias(s fleet.Scope, name string) (fleet.RoleAlias, error) {
	r, found, err := one(tx, scanRoleAlias, `SELECT `+roleAliasColumns+` FROM role_aliases WHERE account = ? AND region = ? AND name = ?`,
		s.Account, s.Region, name)
	if err == nil && !found {
		err = fleet.NotFound("role alias", name)
	}
	return r, err
}

// RoleAliases lists role aliases by name.
func (tx *Tx) RoleAliases(s fleet.Scope, p fleet.Page) ([]fleet.RoleAlias, string, error) {
	keyset, order, keyArgs := pageOrder(p, "name")
	list, err := all(tx, scanRoleAlias, `SELECT `+roleAliasColumns+` FROM role_aliases WHERE account = ? AND region = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(r fleet.RoleAlias) string { return r.Name })
	return list, next, err
}

// CountRoleAliases returns how many role aliases the scope has.
func (tx *Tx) CountRoleAliases(s fleet.Scope) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM role_aliases WHERE account = ? AND region = ?`, s.Account, s.Region).Scan(&n)
	return n, err
}

// CreateRoleAlias adds a role alias. It fails with KindExists if the name is taken.
func (tx *Tx) CreateRoleAlias(s fleet.Scope, r fleet.RoleAlias) error {
	added, err := tx.insert(`INSERT INTO role_aliases (account, region, name, role, duration, created, modified) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, r.Name, r.RoleARN, int64(r.Duration/time.Second), millis(r.Created), millis(r.Modified))
	if err == nil && !added {
		return fleet.Exists("role alias", r.Name, "already exists")
	}
	tx.Changed(s, ChangedRoleAlias, r.Name)
	return err
}

// UpdateRoleAlias stores role, duration and time of change.
func (tx *Tx) UpdateRoleAlias(s fleet.Scope, r fleet.RoleAlias) error {
	_, err := tx.exec(`UPDATE role_aliases SET role = ?, duration = ?, modified = ? WHERE account = ? AND region = ? AND name = ?`,
		r.RoleARN, int64(r.Duration/time.Second), millis(r.Modified), s.Account, s.Region, r.Name)
	tx.Changed(s, ChangedRoleAlias, r.Name)
	return err
}

// DeleteRoleAlias removes a role alias with its tags.
func (tx *Tx) DeleteRoleAlias(s fleet.Scope, name string) error {
	if _, err := tx.exec(`DELETE FROM role_aliases WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name); err != nil {
		return err
	}
	tx.Changed(s, ChangedRoleAlias, name)
	return tx.deleteTags(s, "rolealias/"+name)
}
