package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A PoolGroup is a group of a user pool.
type PoolGroup struct {
	Name              string
	Description       string
	RoleARN           string
	Precedence        *int // nil: none, which ranks last
	Created, Modified time.Time
}

const poolGroupColumns = `g.name, g.description, g.role_arn, g.precedence, g.created, g.modified`

func scanPoolGroup(s scanner) (g PoolGroup, err error) {
	var precedence int
	var created, modified int64
	err = s.Scan(&g.Name, &g.Description, &g.RoleARN, &precedence, &created, &modified)
	if precedence >= 0 {
		g.Precedence = &precedence
	}
	g.Created, g.Modified = fromMillis(created), fromMillis(modified)
	return g, err
}

func storedPrecedence(p *int) int {
	if p == nil {
		return -1
	}
	return *p
}

// PoolGroup returns a group. It fails with KindNotFound.
func (tx *Tx) PoolGroup(s fleet.Scope, pool, name string) (PoolGroup, error) {
	return find(tx, "group", name, scanPoolGroup,
		`SELECT `+poolGroupColumns+` FROM pool_groups g WHERE account = ? AND region = ? AND pool = ? AND name = ?`,
		s.Account, s.Region, pool, name)
}

// CreatePoolGroup adds a group. It fails with KindExists if the name is taken.
func (tx *Tx) CreatePoolGroup(s fleet.Scope, pool string, g PoolGroup) error {
	added, err := tx.insert(`INSERT INTO pool_groups (account, region, pool, name, description, role_arn, precedence, created, modified)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, g.Name, g.Description, g.RoleARN, storedPrecedence(g.Precedence), millis(g.Created), millis(g.Modified))
	if err == nil && !added {
		return fleet.Exists("group", g.Name, "already exists")
	}
	return err
}

// UpdatePoolGroup stores everything but the name and creation time.
func (tx *Tx) UpdatePoolGroup(s fleet.Scope, pool string, g PoolGroup) error {
	_, err := tx.exec(`UPDATE pool_groups SET description = ?, role_arn = ?, precedence = ?, modified = ?
		WHERE account = ? AND region = ? AND pool = ? AND name = ?`,
		g.Description, g.RoleARN, storedPrecedence(g.Precedence), millis(g.Modified), s.Account, s.Region, pool, g.Name)
	return err
}

// DeletePoolGroup removes a group. Its members must have left before.
func (tx *Tx) DeletePoolGroup(s fleet.Scope, pool, name string) error {
	_, err := tx.exec(`DELETE FROM pool_groups WHERE account = ? AND region = ? AND pool = ? AND name = ?`, s.Account, s.Region, pool, name)
	return err
}

// PoolGroups lists the groups of a pool by name.
func (tx *Tx) PoolGroups(s fleet.Scope, pool string, p fleet.Page) ([]PoolGroup, string, error) {
	groups, err := all(tx, scanPoolGroup, `SELECT `+poolGroupColumns+` FROM pool_groups g
		WHERE account = ? AND region = ? AND pool = ? AND name > ? ORDER BY name LIMIT ?`, s.Account, s.Region, pool, p.After, pageLimit(p))
	groups, next := cutPage(p, groups, func(g PoolGroup) string { return g.Name })
	return groups, next, err
}

// GroupsOfPoolUser lists the groups that a user is in, by name.
func (tx *Tx) GroupsOfPoolUser(s fleet.Scope, pool, sub string, p fleet.Page) ([]PoolGroup, string, error) {
	groups, err := all(tx, scanPoolGroup, `SELECT `+poolGroupColumns+` FROM pool_group_members m JOIN pool_groups g
		ON g.account = m.account AND g.region = m.region AND g.pool = m.pool AND g.name = m.grp
		WHERE m.account = ? AND m.region = ? AND m.pool = ? AND m.sub = ? AND m.grp > ? ORDER BY m.grp LIMIT ?`,
		s.Account, s.Region, pool, sub, p.After, pageLimit(p))
	groups, next := cutPage(p, groups, func(g PoolGroup) string { return g.Name })
	return groups, next, err
}

// AddPoolGroupMember puts a user into a group; a second time changes nothing.
func (tx *Tx) AddPoolGroupMember(s fleet.Scope, pool, sub, group string) error {
	_, err := tx.exec(`INSERT INTO pool_group_members (account, region, pool, sub, grp) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, region, pool, sub, grp) DO NOTHING`, s.Account, s.Region, pool, sub, group)
	tx.Changed(s, ChangedPoolUser, pool+"/"+sub)
	return err
}

// RemovePoolGroupMember takes a user out of a group and reports whether it was in it.
func (tx *Tx) RemovePoolGroupMember(s fleet.Scope, pool, sub, group string) (bool, error) {
	removed, err := changedRows(tx.exec(`DELETE FROM pool_group_members WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND grp = ?`,
		s.Account, s.Region, pool, sub, group))
	tx.Changed(s, ChangedPoolUser, pool+"/"+sub)
	return removed, err
}

// PoolGroupMembers lists the users of a group, by sub.
func (tx *Tx) PoolGroupMembers(s fleet.Scope, pool, group string, p fleet.Page) ([]PoolUser, string, error) {
	users, err := all(tx, scanPoolUser, `SELECT `+poolUserColumns+` FROM pool_group_members m JOIN pool_users u
		ON u.account = m.account AND u.region = m.region AND u.pool = m.pool AND u.sub = m.sub
		WHERE m.account = ? AND m.region = ? AND m.pool = ? AND m.grp = ? AND m.sub > ? ORDER BY m.sub LIMIT ?`,
		s.Account, s.Region, pool, group, p.After, pageLimit(p))
	if err != nil {
		return nil, "", err
	}
	users, next := cutPage(p, users, func(u PoolUser) string { return u.Sub })
	return users, next, tx.loadAttributes(s, pool, users)
}

// PoolGroupSubs lists the ids of the users of a group, at most limit.
func (tx *Tx) PoolGroupSubs(s fleet.Scope, pool, group string, limit int) ([]string, error) {
	return all(tx, scanString, `SELECT sub FROM pool_group_members WHERE account = ? AND region = ? AND pool = ? AND grp = ? ORDER BY sub LIMIT ?`,
		s.Account, s.Region, pool, group, limit)
}
