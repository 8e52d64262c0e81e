package store

import (
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// ChangedIAM is the kind of Change that every write to an account's IAM announces; the key is "".
const ChangedIAM = "iam"

// Kinds of IAM entity.
const (
	IAMUser   = "user"
	IAMRole   = "role"
	IAMGroup  = "group"
	IAMPolicy = "policy" // managed by the account
	IAMOIDC   = "oidc"
)

// An IAMEntity is a user, role, group, managed policy or OIDC provider as stored. Body is the rules' JSON of what its kind has
// beside. The functions below take any scope of the account: IAM has no regions.
type IAMEntity struct {
	Kind, Name, ID, Path, Body string
	Created                    time.Time
}

const iamEntityColumns = `kind, name, id, path, body, created`

func scanIAMEntity(s scanner) (e IAMEntity, err error) {
	var created int64
	err = s.Scan(&e.Kind, &e.Name, &e.ID, &e.Path, &e.Body, &created)
	e.Created = fromMillis(created)
	return e, err
}

// IAMEntity returns an entity by its name, whose case does not matter. It fails with KindNotFound.
func (tx *Tx) IAMEntity(s fleet.Scope, kind, name string) (IAMEntity, error) {
	g, folded := s.Global(), strings.ToLower(name)
	return remembered(tx, Change{g, ChangedIAM, ""}, kind+"/"+folded, func() (IAMEntity, error) {
		return find(tx, kind, name, scanIAMEntity, `SELECT `+iamEntityColumns+` FROM iam_entities
			WHERE account = ? AND region = ? AND kind = ? AND folded = ?`, g.Account, g.Region, kind, folded)
	})
}

// CreateIAMEntity adds an entity. It fails with KindExists if the name is taken in any case.
func (tx *Tx) CreateIAMEntity(s fleet.Scope, e IAMEntity) error {
	g := s.Global()
	added, err := tx.insert(`INSERT INTO iam_entities (account, region, folded, `+iamEntityColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		g.Account, g.Region, strings.ToLower(e.Name), e.Kind, e.Name, e.ID, e.Path, e.Body, millis(e.Created))
	if err == nil && !added {
		return fleet.Exists(e.Kind, e.Name, "already exists")
	}
	tx.Changed(g, ChangedIAM, "")
	return err
}

// UpdateIAMEntity stores path and body.
func (tx *Tx) UpdateIAMEntity(s fleet.Scope, e IAMEntity) error {
	g := s.Global()
	_, err := tx.exec(`UPDATE iam_entities SET path = ?, body = ? WHERE account = ? AND region = ? AND kind = ? AND name = ?`,
		e.Path, e.Body, g.Account, g.Region, e.Kind, e.Name)
	tx.Changed(g, ChangedIAM, "")
	return err
}

// RenameIAMEntity gives a user or group another name, everywhere. It fails with KindExists if another has it in any case.
func (tx *Tx) RenameIAMEntity(s fleet.Scope, kind, from, to string) error {
	g := s.Global()
	if other, err := tx.IAMEntity(s, kind, to); err == nil && other.Name != from {
		return fleet.Exists(kind, to, "already exists")
	} else if err != nil && fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	if _, err := tx.exec(`UPDATE iam_entities SET name = ?, folded = ? WHERE account = ? AND region = ? AND kind = ? AND name = ?`,
		to, strings.ToLower(to), g.Account, g.Region, kind, from); err != nil {
		return err
	}
	for _, q := range map[string][]string{
		IAMUser: {
			`UPDATE iam_inline SET entity = ? WHERE account = ? AND region = ? AND kind = 'user' AND entity = ?`,
			`UPDATE iam_attachments SET entity = ? WHERE account = ? AND region = ? AND kind = 'user' AND entity = ?`,
			`UPDATE iam_members SET usr = ? WHERE account = ? AND region = ? AND usr = ?`,
			`UPDATE iam_keys SET usr = ? WHERE account = ? AND region = ? AND usr = ?`,
		},
		IAMGroup: {
			`UPDATE iam_inline SET entity = ? WHERE account = ? AND region = ? AND kind = 'group' AND entity = ?`,
			`UPDATE iam_attachments SET entity = ? WHERE account = ? AND region = ? AND kind = 'group' AND entity = ?`,
			`UPDATE iam_members SET grp = ? WHERE account = ? AND region = ? AND grp = ?`,
		},
	}[kind] {
		if _, err := tx.exec(q, to, g.Account, g.Region, from); err != nil {
			return err
		}
	}
	tx.Changed(g, ChangedIAM, "")
	return nil
}

// DeleteIAMEntity removes an entity; a managed policy goes with its versions. The rules see to it that nothing hangs on it.
func (tx *Tx) DeleteIAMEntity(s fleet.Scope, kind, name string) error {
	g := s.Global()
	if kind == IAMPolicy {
		if _, err := tx.exec(`DELETE FROM iam_policy_versions WHERE account = ? AND region = ? AND policy = ?`, g.Account, g.Region, name); err != nil {
			return err
		}
	}
	_, err := tx.exec(`DELETE FROM iam_entities WHERE account = ? AND region = ? AND kind = ? AND name = ?`, g.Account, g.Region, kind, name)
	tx.Changed(g, ChangedIAM, "")
	return err
}

// IAMEntities lists the entities of a kind whose path begins with prefix, by name.
func (tx *Tx) IAMEntities(s fleet.Scope, kind, prefix string, p fleet.Page) ([]IAMEntity, string, error) {
	g := s.Global()
	lo, hi := prefixRange(prefix)
	list, err := all(tx, scanIAMEntity, `SELECT `+iamEntityColumns+` FROM iam_entities
		WHERE account = ? AND region = ? AND kind = ? AND path >= ? AND path < ? AND name > ? ORDER BY name LIMIT ?`,
		g.Account, g.Region, kind, lo, hi, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(e IAMEntity) string { return e.Name })
	return list, next, err
}

// InlinePolicy is a policy document that belongs to one entity.
type InlinePolicy struct{ Name, Document string }

// InlinePolicies lists an entity's inline policies by name.
func (tx *Tx) InlinePolicies(s fleet.Scope, kind, entity string) ([]InlinePolicy, error) {
	g := s.Global()
	return all(tx, func(s scanner) (p InlinePolicy, err error) { return p, s.Scan(&p.Name, &p.Document) },
		`SELECT name, document FROM iam_inline WHERE account = ? AND region = ? AND kind = ? AND entity = ? ORDER BY name`,
		g.Account, g.Region, kind, entity)
}

// PutInlinePolicy adds or replaces an inline policy.
func (tx *Tx) PutInlinePolicy(s fleet.Scope, kind, entity string, p InlinePolicy) error {
	g := s.Global()
	_, err := tx.exec(`INSERT INTO iam_inline (account, region, kind, entity, name, document) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, kind, entity, name) DO UPDATE SET document = excluded.document`,
		g.Account, g.Region, kind, entity, p.Name, p.Document)
	tx.Changed(g, ChangedIAM, "")
	return err
}

// DeleteInlinePolicy removes an inline policy and reports whether it was there.
func (tx *Tx) DeleteInlinePolicy(s fleet.Scope, kind, entity, name string) (bool, error) {
	g := s.Global()
	tx.Changed(g, ChangedIAM, "")
	return changedRows(tx.exec(`DELETE FROM iam_inline WHERE account = ? AND region = ? AND kind = ? AND entity = ? AND name = ?`,
		g.Account, g.Region, kind, entity, name))
}

// AttachedPolicies lists the ARNs of the managed policies attached to an entity.
func (tx *Tx) AttachedPolicies(s fleet.Scope, kind, entity string) ([]string, error) {
	g := s.Global()
	return all(tx, scanString, `SELECT policy FROM iam_attachments WHERE account = ? AND region = ? AND kind = ? AND entity = ? ORDER BY policy`,
		g.Account, g.Region, kind, entity)
}

// AttachManagedPolicy attaches a managed policy to an entity; doing so twice changes nothing.
func (tx *Tx) AttachManagedPolicy(s fleet.Scope, kind, entity, arn string) error {
	g := s.Global()
	_, err := tx.exec(`INSERT INTO iam_attachments (account, region, kind, entity, policy) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		g.Account, g.Region, kind, entity, arn)
	tx.Changed(g, ChangedIAM, "")
	return err
}

// DetachManagedPolicy takes a managed policy from an entity and reports whether it was attached.
func (tx *Tx) DetachManagedPolicy(s fleet.Scope, kind, entity, arn string) (bool, error) {
	g := s.Global()
	tx.Changed(g, ChangedIAM, "")
	return changedRows(tx.exec(`DELETE FROM iam_attachments WHERE account = ? AND region = ? AND kind = ? AND entity = ? AND policy = ?`,
		g.Account, g.Region, kind, entity, arn))
}

// An Attached is an entity that a managed policy is attached to.
type Attached struct{ Kind, Name, ID string }

// EntitiesWithPolicy lists what a managed policy is attached to.
func (tx *Tx) EntitiesWithPolicy(s fleet.Scope, arn string) ([]Attached, error) {
	g := s.Global()
	return all(tx, func(s scanner) (a Attached, err error) { return a, s.Scan(&a.Kind, &a.Name, &a.ID) },
		`SELECT a.kind, a.entity, e.id FROM iam_attachments a JOIN iam_entities e
			ON e.account = a.account AND e.region = a.region AND e.kind = a.kind AND e.name = a.entity
		WHERE a.account = ? AND a.region = ? AND a.policy = ? ORDER BY a.kind, a.entity`, g.Account, g.Region, arn)
}

// A ManagedVersion is one document of a managed policy.
type ManagedVersion struct {
	Version  int
	Document string
	Created  time.Time
}

// ManagedVersions lists a managed policy's versions, newest first.
func (tx *Tx) ManagedVersions(s fleet.Scope, policy string) ([]ManagedVersion, error) {
	g := s.Global()
	return all(tx, func(s scanner) (v ManagedVersion, err error) {
		var created int64
		err = s.Scan(&v.Version, &v.Document, &created)
		v.Created = fromMillis(created)
		return v, err
	}, `SELECT version, document, created FROM iam_policy_versions WHERE account = ? AND region = ? AND policy = ? ORDER BY version DESC`,
		g.Account, g.Region, policy)
}

// AddManagedVersion adds a version.
func (tx *Tx) AddManagedVersion(s fleet.Scope, policy string, v ManagedVersion) error {
	g := s.Global()
	_, err := tx.exec(`INSERT INTO iam_policy_versions (account, region, policy, version, document, created) VALUES (?, ?, ?, ?, ?, ?)`,
		g.Account, g.Region, policy, v.Version, v.Document, millis(v.Created))
	tx.Changed(g, ChangedIAM, "")
	return err
}

// DeleteManagedVersion removes a version.
func (tx *Tx) DeleteManagedVersion(s fleet.Scope, policy string, version int) error {
	g := s.Global()
	_, err := tx.exec(`DELETE FROM iam_policy_versions WHERE account = ? AND region = ? AND policy = ? AND version = ?`,
		g.Account, g.Region, policy, version)
	tx.Changed(g, ChangedIAM, "")
	return err
}

// AddIAMMember puts a user into a group; doing so twice changes nothing.
func (tx *Tx) AddIAMMember(s fleet.Scope, group, user string) error {
	g := s.Global()
	_, err := tx.exec(`INSERT INTO iam_members (account, region, grp, usr) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, g.Account, g.Region, group, user)
	tx.Changed(g, ChangedIAM, "")
	return err
}

// RemoveIAMMember takes a user out of a group and reports whether it was in it.
func (tx *Tx) RemoveIAMMember(s fleet.Scope, group, user string) (bool, error) {
	g := s.Global()
	tx.Changed(g, ChangedIAM, "")
	return changedRows(tx.exec(`DELETE FROM iam_members WHERE account = ? AND region = ? AND grp = ? AND usr = ?`, g.Account, g.Region, group, user))
}

// IAMMembers lists the names of a group's users, IAMGroupsOf those of a user's groups.
func (tx *Tx) IAMMembers(s fleet.Scope, group string) ([]string, error) {
	g := s.Global()
	return all(tx, scanString, `SELECT usr FROM iam_members WHERE account = ? AND region = ? AND grp = ? ORDER BY usr`, g.Account, g.Region, group)
}

func (tx *Tx) IAMGroupsOf(s fleet.Scope, user string) ([]string, error) {
	g := s.Global()
	return all(tx, scanString, `SELECT grp FROM iam_members WHERE account = ? AND region = ? AND usr = ? ORDER BY grp`, g.Account, g.Region, user)
}

// An AccessKey is a long-lived key of a user. Secret is sealed.
type AccessKey struct {
	Account, ID, User string
	Secret            []byte
	Active            bool
	Created           time.Time
}

func scanAccessKey(s scanner) (k AccessKey, err error) {
	var active, created int64
	err = s.Scan(&k.Account, &k.ID, &k.User, &k.Secret, &active, &created)
	k.Active, k.Created = active != 0, fromMillis(created)
	return k, err
}

const accessKeyColumns = `account, id, usr, secret, active, created`

// FindAccessKey returns a key of any account: a signature names no account. It fails with KindNotFound.
func (tx *Tx) FindAccessKey(id string) (AccessKey, error) {
	return find(tx, "access key", id, scanAccessKey, `SELECT `+accessKeyColumns+` FROM iam_keys WHERE id = ?`, id)
}

// AccessKeys lists a user's keys, oldest first.
func (tx *Tx) AccessKeys(s fleet.Scope, user string) ([]AccessKey, error) {
	g := s.Global()
	return all(tx, scanAccessKey, `SELECT `+accessKeyColumns+` FROM iam_keys WHERE account = ? AND region = ? AND usr = ? ORDER BY created, id`, g.Account, g.Region, user)
}

// CreateAccessKey adds a key.
func (tx *Tx) CreateAccessKey(s fleet.Scope, k AccessKey) error {
	g := s.Global()
	_, err := tx.exec(`INSERT INTO iam_keys (account, region, id, usr, secret, active, created) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		g.Account, g.Region, k.ID, k.User, k.Secret, flag(k.Active), millis(k.Created))
	tx.Changed(g, ChangedIAM, "")
	return err
}

// SetAccessKeyActive switches a key on or off.
func (tx *Tx) SetAccessKeyActive(s fleet.Scope, id string, active bool) error {
	g := s.Global()
	_, err := tx.exec(`UPDATE iam_keys SET active = ? WHERE account = ? AND region = ? AND id = ?`, flag(active), g.Account, g.Region, id)
	tx.Changed(g, ChangedIAM, "")
	return err
}

// DeleteAccessKey removes a key.
func (tx *Tx) DeleteAccessKey(s fleet.Scope, id string) error {
	g := s.Global()
	_, err := tx.exec(`DELETE FROM iam_keys WHERE account = ? AND region = ? AND id = ?`, g.Account, g.Region, id)
	tx.Changed(g, ChangedIAM, "")
	return err
}
