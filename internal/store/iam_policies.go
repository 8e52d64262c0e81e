package store

import (
	"github.com/imprint-iot/imprint/internal/fleet"
)

// An InlinePolicy is a policy that belongs to one entity.
type InlinePolicy struct{ Name, Document string }

// InlinePolicies lists the inline policies of an entity by name.
func (tx *Tx) InlinePolicies(s fleet.Scope, e fleet.Entity, p fleet.Page) ([]InlinePolicy, string, error) {
	keyset, order, keyArgs := pageOrder(p, "name")
	list, err := all(tx, scanInlinePolicy, `SELECT name, document FROM iam_inline_policies WHERE account = ? AND region = ? AND entity = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, GlobalRegion, e.ID}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(i InlinePolicy) string { return i.Name })
	return list, next, err
}

func scanInlinePolicy(s scanner) (p InlinePolicy, err error) {
	err = s.Scan(&p.Name, &p.Document)
	return p, err
}

// PutInlinePolicy adds or replaces an inline policy.
func (tx *Tx) PutInlinePolicy(s fleet.Scope, e fleet.Entity, p InlinePolicy) error {
	_, err := tx.exec(`INSERT INTO iam_inline_policies (account, region, entity, name, document) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, region, entity, name) DO UPDATE SET document = excluded.document`, s.Account, GlobalRegion, e.ID, p.Name, p.Document)
	tx.changedEntity(s, e)
	return err
}

// DeleteInlinePolicy removes an inline policy. deleted is false if there was none.
func (tx *Tx) DeleteInlinePolicy(s fleet.Scope, e fleet.Entity, name string) (deleted bool, err error) {
	tx.changedEntity(s, e)
	return changedRows(tx.exec(`DELETE FROM iam_inline_policies WHERE account = ? AND region = ? AND entity = ? AND name = ?`,
		s.Account, GlobalRegion, e.ID, name))
}

// AttachedPolicies lists the ARNs of the managed policies of an entity, in their order.
func (tx *Tx) AttachedPolicies(s fleet.Scope, e fleet.Entity) ([]string, error) {
	return all(tx, scanString, `SELECT policy FROM iam_attachments WHERE account = ? AND region = ? AND entity = ? ORDER BY policy`,
		s.Account, GlobalRegion, e.ID)
}

// AttachManagedPolicy gives an entity a managed policy; having it is no error.
func (tx *Tx) AttachManagedPolicy(s fleet.Scope, e fleet.Entity, arn string) error {
	_, err := tx.exec(`INSERT INTO iam_attachments (account, region, entity, policy) VALUES (?, ?, ?, ?)
		ON CONFLICT (account, region, entity, policy) DO NOTHING`, s.Account, GlobalRegion, e.ID, arn)
	tx.changedEntity(s, e)
	return err
}

// DetachManagedPolicy takes a managed policy from an entity. detached is false if it had it not.
func (tx *Tx) DetachManagedPolicy(s fleet.Scope, e fleet.Entity, arn string) (detached bool, err error) {
	tx.changedEntity(s, e)
	return changedRows(tx.exec(`DELETE FROM iam_attachments WHERE account = ? AND region = ? AND entity = ? AND policy = ?`,
		s.Account, GlobalRegion, e.ID, arn))
}

// EntitiesWith lists the entities that have the managed policy arn, by kind and name.
func (tx *Tx) EntitiesWith(s fleet.Scope, arn string) ([]fleet.Entity, error) {
	return all(tx, scanEntity, `SELECT `+entityColumns+` FROM iam_entities e JOIN iam_attachments a
		ON a.account = e.account AND a.region = e.region AND a.entity = e.id
		WHERE a.account = ? AND a.region = ? AND a.policy = ? ORDER BY e.kind, e.name`, s.Account, GlobalRegion, arn)
}

// EntitiesBoundedBy lists the entities whose boundary is the managed policy arn, by kind and name.
func (tx *Tx) EntitiesBoundedBy(s fleet.Scope, arn string) ([]fleet.Entity, error) {
	return all(tx, scanEntity, `SELECT `+entityColumns+` FROM iam_entities e
		WHERE e.account = ? AND e.region = ? AND e.boundary = ? AND e.boundary <> '' ORDER BY e.kind, e.name`, s.Account, GlobalRegion, arn)
}

// CountGrants returns how many entities have the managed policy arn, and how many it bounds.
func (tx *Tx) CountGrants(s fleet.Scope, arn string) (attached, bounding int, err error) {
	err = tx.row(`SELECT (SELECT COUNT(*) FROM iam_attachments WHERE account = ? AND region = ? AND policy = ?),
		(SELECT COUNT(*) FROM iam_entities WHERE account = ? AND region = ? AND boundary = ? AND boundary <> '')`,
		s.Account, GlobalRegion, arn, s.Account, GlobalRegion, arn).Scan(&attached, &bounding)
	return attached, bounding, err
}

const managedPolicySelect = `SELECT p.name, p.id, p.path, p.description, p.default_version, p.created, p.modified FROM iam_policies p`

func scanManagedPolicy(s scanner) (p fleet.ManagedPolicy, err error) {
	var created, modified int64
	err = s.Scan(&p.Name, &p.ID, &p.Path, &p.Description, &p.Default, &created, &modified)
	p.Created, p.Modified = fromMillis(created), fromMillis(modified)
	return p, err
}

// ManagedPolicy returns a policy of the account, without its counts. It fails with KindNotFound.
func (tx *Tx) ManagedPolicy(s fleet.Scope, name string) (fleet.ManagedPolicy, error) {
	p, found, err := one(tx, scanManagedPolicy, managedPolicySelect+` WHERE account = ? AND region = ? AND name = ?`, s.Account, GlobalRegion, name)
	if err == nil && !found {
		err = fleet.NotFound("policy", name)
	}
	return p, err
}

// ManagedPolicies lists the policies of the account whose path begins with prefix, by name, without their counts.
func (tx *Tx) ManagedPolicies(s fleet.Scope, prefix string) ([]fleet.ManagedPolicy, error) {
	lo, hi := prefixRange(prefix)
	return all(tx, scanManagedPolicy, managedPolicySelect+` WHERE account = ? AND region = ? AND path >= ? AND path < ? ORDER BY name`,
		s.Account, GlobalRegion, lo, hi)
}

// CreateManagedPolicy adds a policy with document as version 1. It fails with KindExists if a namesake exists, whatever its
// path.
func (tx *Tx) CreateManagedPolicy(s fleet.Scope, p fleet.ManagedPolicy, document string) error {
	_, err := tx.exec(`INSERT INTO iam_policies (account, region, name, id, path, description, default_version, last_version, created, modified)
		VALUES (?, ?, ?, ?, ?, ?, 1, 1, ?, ?)`, s.Account, GlobalRegion, p.Name, p.ID, p.Path, p.Description, millis(p.Created), millis(p.Created))
	if isUnique(err) {
		return fleet.Exists("policy", p.Name, "already exists")
	}
	if err != nil {
		return err
	}
	tx.changedGrants(s, p)
	return tx.insertManagedVersion(s, p, 1, document)
}

func (tx *Tx) changedGrants(s fleet.Scope, p fleet.ManagedPolicy) {
	tx.Changed(global(s), ChangedGrants, p.ARN(s.Account))
}

func (tx *Tx) insertManagedVersion(s fleet.Scope, p fleet.ManagedPolicy, id int, document string) error {
	_, err := tx.exec(`INSERT INTO iam_policy_versions (account, region, policy, id, document, created) VALUES (?, ?, ?, ?, ?, ?)`,
		s.Account, GlobalRegion, p.Name, id, document, millis(tx.Now()))
	return err
}

// AddManagedPolicyVersion adds a version that is not the default and returns its id.
func (tx *Tx) AddManagedPolicyVersion(s fleet.Scope, p fleet.ManagedPolicy, document string) (id int, err error) {
	err = tx.row(`UPDATE iam_policies SET last_version = last_version + 1, modified = ? WHERE account = ? AND region = ? AND name = ? RETURNING last_version`,
		millis(tx.Now()), s.Account, GlobalRegion, p.Name).Scan(&id)
	if err != nil {
		return 0, err
	}
	return id, tx.insertManagedVersion(s, p, id, document)
}

// SetDefaultManagedVersion makes an existing version the default.
func (tx *Tx) SetDefaultManagedVersion(s fleet.Scope, p fleet.ManagedPolicy, id int) error {
	_, err := tx.exec(`UPDATE iam_policies SET default_version = ?, modified = ? WHERE account = ? AND region = ? AND name = ?`,
		id, millis(tx.Now()), s.Account, GlobalRegion, p.Name)
	tx.changedGrants(s, p)
	return err
}

// ManagedVersions lists the versions of a policy, newest first.
func (tx *Tx) ManagedVersions(s fleet.Scope, p fleet.ManagedPolicy) ([]fleet.PolicyVersion, error) {
	return all(tx, func(row scanner) (v fleet.PolicyVersion, err error) {
		var created int64
		err = row.Scan(&v.ID, &v.Document, &created)
		v.Created, v.Default = fromMillis(created), v.ID == p.Default
		return v, err
	}, `SELECT id, document, created FROM iam_policy_versions WHERE account = ? AND region = ? AND policy = ? ORDER BY id DESC`,
		s.Account, GlobalRegion, p.Name)
}

// DeleteManagedVersion removes a version that is not the default.
func (tx *Tx) DeleteManagedVersion(s fleet.Scope, p fleet.ManagedPolicy, id int) error {
	_, err := tx.exec(`DELETE FROM iam_policy_versions WHERE account = ? AND region = ? AND policy = ? AND id = ?`, s.Account, GlobalRegion, p.Name, id)
	return err
}

// DeleteManagedPolicy removes a policy with its versions and tags. Nothing may have it any more.
func (tx *Tx) DeleteManagedPolicy(s fleet.Scope, p fleet.ManagedPolicy) error {
	for _, q := range []string{
		`DELETE FROM iam_policy_versions WHERE account = ? AND region = ? AND policy = ?`,
		`DELETE FROM iam_policies WHERE account = ? AND region = ? AND name = ?`,
	} {
		if _, err := tx.exec(q, s.Account, GlobalRegion, p.Name); err != nil {
			return err
		}
	}
	tx.changedGrants(s, p)
	return tx.deleteIAMTags(s, p.ID)
}
