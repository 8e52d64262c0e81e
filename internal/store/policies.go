package store

import (
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const policySelect = `SELECT p.name, p.default_version, v.document, p.created, p.modified, p.generation FROM policies p
	JOIN policy_versions v ON v.account = p.account AND v.region = p.region AND v.policy = p.name AND v.id = p.default_version`

func scanPolicy(s scanner) (p fleet.Policy, err error) {
	var created, modified int64
	err = s.Scan(&p.Name, &p.Default, &p.Document, &created, &modified, &p.Generation)
	p.Created, p.Modified = fromMillis(created), fromMillis(modified)
	return p, err
}

// Policy returns a policy with its default document. It fails with KindNotFound.
func (tx *Tx) Policy(s fleet.Scope, name string) (fleet.Policy, error) {
	return remembered(tx, Change{s, ChangedPolicy, name}, "", func() (fleet.Policy, error) {
		return find(tx, "policy", name, scanPolicy, policySelect+
			` WHERE p.account = ? AND p.region = ? AND p.name = ?`, s.Account, s.Region, name)
	})
}

// CreatePolicy adds a policy with p.Document as version 1. It fails with KindExists if the name is taken.
func (tx *Tx) CreatePolicy(s fleet.Scope, p fleet.Policy) error {
	added, err := tx.insert(`INSERT INTO policies (account, region, name, default_version, last_version, created, modified, generation)
		VALUES (?, ?, ?, 1, 1, ?, ?, ?)`, s.Account, s.Region, p.Name, millis(p.Created), millis(p.Modified), p.Generation)
	if err == nil && !added {
		return fleet.Exists("policy", p.Name, "already exists")
	}
	if err != nil {
		return err
	}
	tx.Changed(s, ChangedPolicy, p.Name)
	return tx.insertPolicyVersion(s, p.Name, fleet.PolicyVersion{ID: 1, Document: p.Document, Created: p.Created})
}

func (tx *Tx) insertPolicyVersion(s fleet.Scope, policy string, v fleet.PolicyVersion) error {
	_, err := tx.exec(`INSERT INTO policy_versions (account, region, policy, id, document, created) VALUES (?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, policy, v.ID, v.Document, millis(v.Created))
	return err
}

// AddPolicyVersion adds a version that is not the default and returns its id. Ids grow and are never used again.
func (tx *Tx) AddPolicyVersion(s fleet.Scope, policy, document string) (id int, err error) {
	err = tx.row(`UPDATE policies SET last_version = last_version + 1 WHERE account = ? AND region = ? AND name = ? RETURNING last_version`,
		s.Account, s.Region, policy).Scan(&id)
	if err != nil {
		return 0, err
	}
	return id, tx.insertPolicyVersion(s, policy, fleet.PolicyVersion{ID: id, Document: document, Created: tx.Now()})
}

// SetDefaultPolicyVersion makes an existing version the default.
func (tx *Tx) SetDefaultPolicyVersion(s fleet.Scope, policy string, id int) error {
	_, err := tx.exec(`UPDATE policies SET default_version = ?, modified = ? WHERE account = ? AND region = ? AND name = ?`,
		id, millis(tx.Now()), s.Account, s.Region, policy)
	tx.Changed(s, ChangedPolicy, policy)
	return err
}

// DeletePolicyVersion removes a version that is not the default.
func (tx *Tx) DeletePolicyVersion(s fleet.Scope, policy string, id int) error {
	_, err := tx.exec(`DELETE FROM policy_versions WHERE account = ? AND region = ? AND policy = ? AND id = ?`, s.Account, s.Region, policy, id)
	return err
}

// DeletePolicy removes a policy with its versions and tags. It must be detached before.
func (tx *Tx) DeletePolicy(s fleet.Scope, name string) error {
	for _, q := range []string{
		`DELETE FROM policy_versions WHERE account = ? AND region = ? AND policy = ?`,
		`DELETE FROM policies WHERE account = ? AND region = ? AND name = ?`,
	} {
		if _, err := tx.exec(q, s.Account, s.Region, name); err != nil {
			return err
		}
	}
	tx.Changed(s, ChangedPolicy, name)
	return tx.deleteTags(s, "policy/"+name)
}

// PolicyVersions lists the versions of a policy, newest first. It is empty if the policy does not exist.
func (tx *Tx) PolicyVersions(s fleet.Scope, policy string) ([]fleet.PolicyVersion, error) {
	return all(tx, func(row scanner) (v fleet.PolicyVersion, err error) {
		var created int64
		err = row.Scan(&v.ID, &v.Document, &v.Default, &created)
		v.Created = fromMillis(created)
		return v, err
	}, `SELECT v.id, v.document, v.id = p.default_version, v.created FROM policy_versions v
		JOIN policies p ON p.account = v.account AND p.region = v.region AND p.name = v.policy
		WHERE v.account = ? AND v.region = ? AND v.policy = ? ORDER BY v.id DESC`, s.Account, s.Region, policy)
}

// Policies lists policies by creation time, oldest first, newest first if p.Desc.
func (tx *Tx) Policies(s fleet.Scope, p fleet.Page) ([]fleet.Policy, string, error) {
	keyset, order, keyArgs := timePage(p, "p.created", "p.name")
	list, err := all(tx, scanPolicy, policySelect+` WHERE p.account = ? AND p.region = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(p fleet.Policy) string { return timeKey(p.Created, p.Name) })
	return list, next, err
}

// AttachPolicy ties a policy to a target: a certificate or thing-group ARN, or a Cognito identity id. attached is false if
// it was tied already.
func (tx *Tx) AttachPolicy(s fleet.Scope, policy, target string) (attached bool, err error) {
	attached, err = changedRows(tx.exec(`INSERT INTO policy_attachments (account, region, target, policy) VALUES (?, ?, ?, ?)
		ON CONFLICT (account, region, target, policy) DO NOTHING`, s.Account, s.Region, principalKey(s, target), policy))
	if attached {
		tx.tiesChanged(s, target, func(all *Ties) {
			all.Policies = append(slices.Clone(all.Policies), policy)
			slices.Sort(all.Policies)
		})
	}
	return attached, err
}

// DetachPolicy unties a policy from a target. detached is false if they were not tied.
func (tx *Tx) DetachPolicy(s fleet.Scope, policy, target string) (detached bool, err error) {
	detached, err = changedRows(tx.exec(`DELETE FROM policy_attachments WHERE account = ? AND region = ? AND target = ? AND policy = ?`,
		s.Account, s.Region, principalKey(s, target), policy))
	if detached {
		tx.Changed(s, ChangedAttachment, target)
	}
	return detached, err
}

// pageOrder orders a list by one name.
func pageOrder(p fleet.Page, name string) (keyset, order string, args []any) {
	cmp, dir := ">", "ASC"
	if p.Desc {
		cmp, dir = "<", "DESC"
	}
	order = " ORDER BY " + name + " " + dir
	if p.After == "" {
		return "", order, nil
	}
	return " AND " + name + " " + cmp + " ?", order, []any{p.After}
}

// PoliciesOf lists the names of the policies tied to a target, by name.
func (tx *Tx) PoliciesOf(s fleet.Scope, target string, p fleet.Page) ([]string, string, error) {
	keyset, order, keyArgs := pageOrder(p, "policy")
	list, err := all(tx, scanString, `SELECT policy FROM policy_attachments WHERE account = ? AND region = ? AND target = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region, principalKey(s, target)}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, self)
	return list, next, err
}

// TargetsOf lists the targets that a policy is tied to, as ARNs and identity ids, in the order of their stored keys.
func (tx *Tx) TargetsOf(s fleet.Scope, policy string, p fleet.Page) ([]string, string, error) {
	keyset, order, keyArgs := pageOrder(p, "target")
	list, err := all(tx, scanString, `SELECT target FROM policy_attachments WHERE account = ? AND region = ? AND policy = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region, policy}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, self)
	for i, key := range list {
		list[i] = principalName(s, key)
	}
	return list, next, err
}

// CountPolicies returns how many policies are tied to a target.
func (tx *Tx) CountPolicies(s fleet.Scope, target string) (n int, err error) {
	if a, known := tx.tiesSeen(s, target); known {
		return len(a.Policies), nil
	}
	err = tx.row(`SELECT COUNT(*) FROM policy_attachments WHERE account = ? AND region = ? AND target = ?`,
		s.Account, s.Region, principalKey(s, target)).Scan(&n)
	return n, err
}

// effectivePolicies leads from the few targets to their policies, and from a group to its parent. CROSS JOIN makes SQLite keep that order:
// the other way round it would walk all that a popular policy is attached to, and all groups.
const effectivePolicies = `WITH RECURSIVE up (grp) AS (
		SELECT grp FROM thing_group_members WHERE account = ? AND region = ? AND thing = ?
		UNION
		SELECT g.parent FROM up CROSS JOIN thing_groups g WHERE g.account = ? AND g.region = ? AND g.name = up.grp AND g.parent <> ''
	), targets (target) AS (SELECT ? UNION SELECT 'thinggroup/' || grp FROM up)
	SELECT p.name, v.document, MIN(a.target) FROM targets t CROSS JOIN policy_attachments a CROSS JOIN policies p CROSS JOIN policy_versions v
	WHERE a.account = ? AND a.region = ? AND a.target = t.target
		AND p.account = a.account AND p.region = a.region AND p.name = a.policy
		AND v.account = p.account AND v.region = p.region AND v.policy = p.name AND v.id = p.default_version
	GROUP BY p.name, v.document ORDER BY p.name`

// An EffectivePolicy is a policy that counts for a principal or thing, with the document in force.
type EffectivePolicy struct {
	Name, Document string
	Target         string // where it is attached: certificate or thing-group ARN, or identity id; the first by key if at several
}

// EffectivePolicies returns the default documents of the policies of principal and of the groups of thing with all their
// ancestors (iot-core spec 5.7), each policy once, by name. Either may be "".
func (tx *Tx) EffectivePolicies(s fleet.Scope, principal, thing string) ([]EffectivePolicy, error) {
	if known, ok := tx.device(s, principal).may(thing); ok {
		return known, nil
	}
	return all(tx, func(row scanner) (e EffectivePolicy, err error) {
		err = row.Scan(&e.Name, &e.Document, &e.Target)
		e.Target = principalName(s, e.Target)
		return e, err
	}, effectivePolicies,
		s.Account, s.Region, thing, s.Account, s.Region, principalKey(s, principal), s.Account, s.Region)
}

// PoliciesUnder lists the names of the policies tied to a group or to any of its ancestors, each once, by name.
func (tx *Tx) PoliciesUnder(s fleet.Scope, group string, p fleet.Page) ([]string, string, error) {
	keyset, order, keyArgs := pageOrder(p, "a.policy")
	list, err := all(tx, scanString, `WITH RECURSIVE up (grp) AS (
			SELECT name FROM thing_groups WHERE account = ? AND region = ? AND name = ?
			UNION
			SELECT g.parent FROM up CROSS JOIN thing_groups g WHERE g.account = ? AND g.region = ? AND g.name = up.grp AND g.parent <> ''
		)
		SELECT DISTINCT a.policy FROM up CROSS JOIN policy_attachments a
		WHERE a.account = ? AND a.region = ? AND a.target = 'thinggroup/' || up.grp`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region, group, s.Account, s.Region, s.Account, s.Region}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, self)
	return list, next, err
}
