package registry

import (
	"strconv"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// Hard limits of policies (iot-core spec 11).
const (
	maxPolicyVersions      = 5
	maxPoliciesOfPrincipal = 10
	maxPoliciesOfGroup     = 2
)

// CreatePolicy creates a policy with document as its first version. A name that is taken is KindExists even for the same
// document.
func CreatePolicy(tx *store.Tx, s fleet.Scope, name, document string, tags []fleet.Tag) (fleet.Policy, error) {
	if !fleet.ValidPolicyName(name) {
		return fleet.Policy{}, fleet.Invalid("policy", name, "has no valid name: 1 to 128 letters, digits or characters of _+=,.@- are allowed")
	}
	if _, err := policy.Parse(document, policy.IoT); err != nil {
		return fleet.Policy{}, err
	}
	now := tx.Now()
	p := fleet.Policy{Name: name, Default: 1, Document: document, Created: now, Modified: now, Generation: fleet.NewUUID()}
	if err := tx.CreatePolicy(s, p); err != nil {
		if fleet.KindOf(err) == fleet.KindExists {
			err = exists(name, s.IoT("policy", name), "Policy cannot be created - name already exists (name=%s)", name)
		}
		return fleet.Policy{}, err
	}
	return p, PutNewTags(tx, s, "policy/"+name, tags)
}

// AddPolicyVersion adds a version to a policy, of which there may be five, and makes it the default if asked.
func AddPolicyVersion(tx *store.Tx, s fleet.Scope, name, document string, asDefault bool) (fleet.PolicyVersion, error) {
	if _, err := policy.Parse(document, policy.IoT); err != nil {
		return fleet.PolicyVersion{}, err
	}
	if _, err := tx.Policy(s, name); err != nil {
		return fleet.PolicyVersion{}, err
	}
	versions, err := tx.PolicyVersions(s, name)
	if err != nil {
		return fleet.PolicyVersion{}, err
	}
	if len(versions) >= maxPolicyVersions {
		return fleet.PolicyVersion{}, exact(fleet.KindVersionsLimit, "The policy %s already has the maximum number of versions (%d)", name, maxPolicyVersions)
	}
	id, err := tx.AddPolicyVersion(s, name, document)
	if err == nil && asDefault {
		err = tx.SetDefaultPolicyVersion(s, name, id)
	}
	return fleet.PolicyVersion{ID: id, Document: document, Default: asDefault, Created: tx.Now()}, err
}

// PolicyVersion returns one version of a policy. A version that does not exist is KindNotFound.
func PolicyVersion(tx *store.Tx, s fleet.Scope, name, id string) (fleet.PolicyVersion, error) {
	if _, err := tx.Policy(s, name); err != nil {
		return fleet.PolicyVersion{}, err
	}
	versions, err := tx.PolicyVersions(s, name)
	if err != nil {
		return fleet.PolicyVersion{}, err
	}
	for _, v := range versions {
		if strconv.Itoa(v.ID) == id {
			return v, nil
		}
	}
	return fleet.PolicyVersion{}, fleet.NotFound("policy version", name+":"+id)
}

// SetDefaultPolicyVersion puts a version in force.
func SetDefaultPolicyVersion(tx *store.Tx, s fleet.Scope, name, id string) error {
	v, err := PolicyVersion(tx, s, name, id)
	if err != nil || v.Default {
		return err
	}
	return tx.SetDefaultPolicyVersion(s, name, v.ID)
}

// DeletePolicyVersion deletes a version that is not the default.
func DeletePolicyVersion(tx *store.Tx, s fleet.Scope, name, id string) error {
	v, err := PolicyVersion(tx, s, name, id)
	if err != nil {
		return err
	}
	if v.Default {
		return exact(fleet.KindInUse, "Cannot delete the default version of a policy (name=%s)", name)
	}
	return tx.DeletePolicyVersion(s, name, v.ID)
}

// DeletePolicy deletes a policy that is attached to nothing and has its default version only.
func DeletePolicy(tx *store.Tx, s fleet.Scope, name string) error {
	if _, err := tx.Policy(s, name); err != nil {
		return err
	}
	targets, _, err := tx.TargetsOf(s, name, fleet.Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(targets) > 0 {
		return exact(fleet.KindInUse, "The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", name)
	}
	versions, err := tx.PolicyVersions(s, name)
	if err != nil {
		return err
	}
	if len(versions) > 1 {
		return exact(fleet.KindInUse, "Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", name)
	}
	return tx.DeletePolicy(s, name)
}

// AttachPolicy ties a policy to a certificate, a thing group or a Cognito identity; again is no error.
func AttachPolicy(tx *store.Tx, s fleet.Scope, name, target string) error {
	if _, err := tx.Policy(s, name); err != nil {
		return err
	}
	if err := CheckTarget(tx, s, target); err != nil {
		return err
	}
	if err := checkStays(tx, s, target); err != nil {
		return err
	}
	attached, err := tx.AttachPolicy(s, name, target)
	if err != nil || !attached {
		return err
	}
	limit := maxPoliciesOfPrincipal
	if a, ok := fleet.ParseARN(target); ok && a.Kind() == "thinggroup" {
		limit = maxPoliciesOfGroup
	}
	n, err := tx.CountPolicies(s, target)
	if err == nil && n > limit {
		return fleet.OverLimit("policy", name, "cannot be attached to %s: it has %d policies, more are not allowed", target, limit)
	}
	return err
}

// DetachPolicy unties a policy from a target; if they are not tied that is no error. A policy or target that does not exist is
// KindNotFound.
func DetachPolicy(tx *store.Tx, s fleet.Scope, name, target string) error {
	if _, err := tx.Policy(s, name); err != nil {
		return err
	}
	if err := CheckTarget(tx, s, target); err != nil {
		return err
	}
	_, err := tx.DetachPolicy(s, name, target)
	return err
}
