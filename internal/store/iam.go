package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// GlobalRegion is the region of everything in IAM, which belongs to an account as a whole. Methods of this subject take any
// scope of the account.
const GlobalRegion = "aws-global"

// Kinds of Change that writes to IAM announce, in the account's global region.
const (
	ChangedEntity = "iam-entity" // KIND/NAME: created, deleted, renamed, or may do other things
	ChangedKey    = "iam-key"    // access key id: another status, deleted
	ChangedGrants = "iam-grants" // ARN of a managed policy: another default document, deleted
	ChangedOIDC   = "iam-oidc"   // URL of an OIDC provider
)

// global is where the account of s keeps its IAM.
func global(s fleet.Scope) fleet.Scope { return fleet.Scope{Account: s.Account, Region: GlobalRegion} }

func (tx *Tx) changedEntity(s fleet.Scope, e fleet.Entity) {
	tx.Changed(global(s), ChangedEntity, string(e.Kind)+"/"+e.Name)
}

const entityColumns = `e.kind, e.name, e.id, e.path, e.description, e.trust, e.max_session, e.boundary, e.created`

func scanEntity(s scanner) (e fleet.Entity, err error) {
	var kind string
	var session, created int64
	err = s.Scan(&kind, &e.Name, &e.ID, &e.Path, &e.Description, &e.Trust, &session, &e.Boundary, &created)
	e.Kind, e.MaxSession, e.Created = fleet.EntityKind(kind), time.Duration(session)*time.Second, fromMillis(created)
	return e, err
}

// Entity returns a user, group or role. It fails with KindNotFound.
func (tx *Tx) Entity(s fleet.Scope, kind fleet.EntityKind, name string) (fleet.Entity, error) {
	e, found, err := one(tx, scanEntity, `SELECT `+entityColumns+` FROM iam_entities e WHERE account = ? AND region = ? AND kind = ? AND name = ?`,
		s.Account, GlobalRegion, string(kind), name)
	if err == nil && !found {
		err = fleet.NotFound(string(kind), name)
	}
	return e, err
}

// CreateEntity adds a user, group or role. It fails with KindExists if a namesake of its kind exists.
func (tx *Tx) CreateEntity(s fleet.Scope, e fleet.Entity) error {
	_, err := tx.exec(`INSERT INTO iam_entities (account, region, kind, name, id, path, description, trust, max_session, boundary, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, GlobalRegion, string(e.Kind), e.Name, e.ID, e.Path, e.Description, e.Trust, int64(e.MaxSession/time.Second), e.Boundary, millis(e.Created))
	if isUnique(err) {
		return fleet.Exists(string(e.Kind), e.Name, "already exists")
	}
	tx.changedEntity(s, e)
	return err
}

// UpdateEntity stores everything of e but its kind, id and creation time. It fails with KindExists if the new name is taken.
func (tx *Tx) UpdateEntity(s fleet.Scope, e fleet.Entity) error {
	_, err := tx.exec(`UPDATE iam_entities SET name = ?, path = ?, description = ?, trust = ?, max_session = ?, boundary = ?
		WHERE account = ? AND region = ? AND kind = ? AND id = ?`,
		e.Name, e.Path, e.Description, e.Trust, int64(e.MaxSession/time.Second), e.Boundary, s.Account, GlobalRegion, string(e.Kind), e.ID)
	if isUnique(err) {
		return fleet.Exists(string(e.Kind), e.Name, "already exists")
	}
	tx.changedEntity(s, e)
	return err
}

// DeleteEntity removes an entity with its tags. Its keys, policies and memberships must be gone before.
func (tx *Tx) DeleteEntity(s fleet.Scope, e fleet.Entity) error {
	if _, err := tx.exec(`DELETE FROM iam_entities WHERE account = ? AND region = ? AND id = ?`, s.Account, GlobalRegion, e.ID); err != nil {
		return err
	}
	tx.changedEntity(s, e)
	return tx.deleteIAMTags(s, e.ID)
}

// Entities lists entities of a kind whose path begins with prefix, by name.
func (tx *Tx) Entities(s fleet.Scope, kind fleet.EntityKind, prefix string, p fleet.Page) ([]fleet.Entity, string, error) {
	lo, hi := prefixRange(prefix)
	keyset, order, keyArgs := pageOrder(p, "e.name")
	list, err := all(tx, scanEntity, `SELECT `+entityColumns+` FROM iam_entities e
		WHERE account = ? AND region = ? AND kind = ? AND path >= ? AND path < ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, GlobalRegion, string(kind), lo, hi}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(e fleet.Entity) string { return e.Name })
	return list, next, err
}

// CountEntities returns how many entities of a kind the account has.
func (tx *Tx) CountEntities(s fleet.Scope, kind fleet.EntityKind) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM iam_entities WHERE account = ? AND region = ? AND kind = ?`, s.Account, GlobalRegion, string(kind)).Scan(&n)
	return n, err
}

// AddMember puts a user into a group; being there already is no error.
func (tx *Tx) AddMember(s fleet.Scope, group, user fleet.Entity) error {
	_, err := tx.exec(`INSERT INTO iam_members (account, region, usr, grp) VALUES (?, ?, ?, ?) ON CONFLICT (account, region, usr, grp) DO NOTHING`,
		s.Account, GlobalRegion, user.ID, group.ID)
	tx.changedEntity(s, user)
	return err
}

// RemoveMember takes a user out of a group; not being there is no error.
func (tx *Tx) RemoveMember(s fleet.Scope, group, user fleet.Entity) error {
	_, err := tx.exec(`DELETE FROM iam_members WHERE account = ? AND region = ? AND usr = ? AND grp = ?`, s.Account, GlobalRegion, user.ID, group.ID)
	tx.changedEntity(s, user)
	return err
}

// GroupUsers lists the users of a group by name.
func (tx *Tx) GroupUsers(s fleet.Scope, group fleet.Entity, p fleet.Page) ([]fleet.Entity, string, error) {
	return tx.related(s, `JOIN iam_members m ON m.account = e.account AND m.region = e.region AND m.usr = e.id AND m.grp = ?`, group.ID, p)
}

// UserGroups lists the groups of a user by name.
func (tx *Tx) UserGroups(s fleet.Scope, user fleet.Entity, p fleet.Page) ([]fleet.Entity, string, error) {
	return tx.related(s, `JOIN iam_members m ON m.account = e.account AND m.region = e.region AND m.grp = e.id AND m.usr = ?`, user.ID, p)
}

func (tx *Tx) related(s fleet.Scope, join, id string, p fleet.Page) ([]fleet.Entity, string, error) {
	keyset, order, keyArgs := pageOrder(p, "e.name")
	list, err := all(tx, scanEntity, `SELECT `+entityColumns+` FROM iam_entities e `+join+` WHERE e.account = ? AND e.region = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{id, s.Account, GlobalRegion}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(e fleet.Entity) string { return e.Name })
	return list, next, err
}

// IAMTags returns the tags of an owner: the id of an entity or managed policy, or the URL of a provider; by key.
func (tx *Tx) IAMTags(s fleet.Scope, owner string, p fleet.Page) ([]fleet.Tag, string, error) {
	keyset, order, keyArgs := pageOrder(p, "key")
	list, err := all(tx, func(row scanner) (t fleet.Tag, err error) {
		err = row.Scan(&t.Key, &t.Value)
		return t, err
	}, `SELECT key, value FROM iam_tags WHERE account = ? AND region = ? AND owner = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, GlobalRegion, owner}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(t fleet.Tag) string { return t.Key })
	return list, next, err
}

// PutIAMTags sets tags of an owner; the others stay. Tags of a principal are conditions of policies: ChangedEntity is
// announced.
func (tx *Tx) PutIAMTags(s fleet.Scope, owner string, tags []fleet.Tag) error {
	for _, t := range tags {
		if _, err := tx.exec(`INSERT INTO iam_tags (account, region, owner, key, value) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (account, region, owner, key) DO UPDATE SET value = excluded.value`, s.Account, GlobalRegion, owner, t.Key, t.Value); err != nil {
			return err
		}
	}
	tx.Changed(global(s), ChangedEntity, owner)
	return nil
}

// RemoveIAMTags removes tags of an owner by key; unknown keys are no error.
func (tx *Tx) RemoveIAMTags(s fleet.Scope, owner string, keys []string) error {
	for _, k := range keys {
		if _, err := tx.exec(`DELETE FROM iam_tags WHERE account = ? AND region = ? AND owner = ? AND key = ?`, s.Account, GlobalRegion, owner, k); err != nil {
			return err
		}
	}
	tx.Changed(global(s), ChangedEntity, owner)
	return nil
}

func (tx *Tx) deleteIAMTags(s fleet.Scope, owner string) error {
	_, err := tx.exec(`DELETE FROM iam_tags WHERE account = ? AND region = ? AND owner = ?`, s.Account, GlobalRegion, owner)
	return err
}
