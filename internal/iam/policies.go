package iam

import (
	"context"
	"errors"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

var inlineLimit = map[string]int{store.IAMUser: policy.MaxUserInline, store.IAMGroup: policy.MaxGroupInline, store.IAMRole: policy.MaxRoleInline}

// PutInline adds or replaces an inline policy of a user, role or group.
func (s *Service) PutInline(ctx context.Context, scope fleet.Scope, kind, entity, name, document string) error {
	if _, err := policy.Parse(document, policy.Identity); err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, entity)
		if err != nil {
			return err
		}
		all, err := tx.InlinePolicies(scope, kind, e.Name)
		if err != nil {
			return err
		}
		size := policy.Size(document)
		for _, p := range all {
			if p.Name != name {
				size += policy.Size(p.Document)
			}
		}
		if size > inlineLimit[kind] {
			return limitExceeded("Maximum policy size of %d bytes exceeded for %s %s", inlineLimit[kind], kind, e.Name)
		}
		return tx.PutInlinePolicy(scope, kind, e.Name, store.InlinePolicy{Name: name, Document: document})
	})
}

// Inline lists the inline policies of a user, role or group.
func (s *Service) Inline(ctx context.Context, scope fleet.Scope, kind, entity string) (list []store.InlinePolicy, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, entity)
		if err != nil {
			return err
		}
		list, err = tx.InlinePolicies(scope, kind, e.Name)
		return err
	})
	return list, err
}

// InlineDocument returns one inline policy's document.
func (s *Service) InlineDocument(ctx context.Context, scope fleet.Scope, kind, entity, name string) (string, error) {
	list, err := s.Inline(ctx, scope, kind, entity)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(list, func(p store.InlinePolicy) bool { return p.Name == name }); i >= 0 {
		return list[i].Document, nil
	}
	return "", noInline(kind, name)
}

func noInline(kind, name string) error {
	return noSuch("The %s policy with name %s cannot be found.", kind, name)
}

// DeleteInline removes an inline policy.
func (s *Service) DeleteInline(ctx context.Context, scope fleet.Scope, kind, entity, name string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, entity)
		if err != nil {
			return err
		}
		if was, err := tx.DeleteInlinePolicy(scope, kind, e.Name, name); err != nil || was {
			return err
		}
		return noInline(kind, name)
	})
}

// Attach attaches a managed policy to a user, role or group.
func (s *Service) Attach(ctx context.Context, scope fleet.Scope, kind, entity, arn string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, entity)
		if err != nil {
			return err
		}
		if _, err := managedDocument(tx, scope, arn); err != nil {
			return err
		}
		all, err := tx.AttachedPolicies(scope, kind, e.Name)
		if err != nil {
			return err
		}
		if len(all) >= maxManaged && !slices.Contains(all, arn) {
			return limitExceeded("Cannot exceed quota for PoliciesPer%s: %d", title(kind), maxManaged)
		}
		return tx.AttachManagedPolicy(scope, kind, e.Name, arn)
	})
}

// Detach takes a managed policy from a user, role or group.
func (s *Service) Detach(ctx context.Context, scope fleet.Scope, kind, entity, arn string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, entity)
		if err != nil {
			return err
		}
		if was, err := tx.DetachManagedPolicy(scope, kind, e.Name, arn); err != nil || was {
			return err
		}
		return noSuch("Policy %s was not found.", arn)
	})
}

// Attached lists the ARNs of the managed policies of a user, role or group.
func (s *Service) Attached(ctx context.Context, scope fleet.Scope, kind, entity string) (arns []string, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, entity)
		if err != nil {
			return err
		}
		arns, err = tx.AttachedPolicies(scope, kind, e.Name)
		return err
	})
	return arns, err
}

// CreatePolicy adds a managed policy with its first version.
func (s *Service) CreatePolicy(ctx context.Context, scope fleet.Scope, e Entity, document string) (Entity, error) {
	if err := checkDocument(document, policy.Identity, policy.MaxManaged, "PolicySize"); err != nil {
		return e, err
	}
	e.Kind, e.Default, e.Next = store.IAMPolicy, 1, 1
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		e.Updated = tx.Now()
		if err := create(tx, scope, &e); err != nil {
			return err
		}
		return tx.AddManagedVersion(scope, e.Name, store.ManagedVersion{Version: 1, Document: document, Created: e.Created})
	})
	return e, err
}

// AddVersion adds a document to a managed policy and may make it the default.
func (s *Service) AddVersion(ctx context.Context, scope fleet.Scope, arn, document string, makeDefault bool) (v store.ManagedVersion, err error) {
	if err := checkDocument(document, policy.Identity, policy.MaxManaged, "PolicySize"); err != nil {
		return v, err
	}
	err = s.changePolicy(ctx, scope, arn, func(tx *store.Tx, e *Entity, versions []store.ManagedVersion) error {
		if len(versions) >= maxVersions {
			return limitExceeded("A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", maxVersions)
		}
		e.Next++
		if makeDefault {
			e.Default = e.Next
		}
		e.Updated = tx.Now()
		v = store.ManagedVersion{Version: e.Next, Document: document, Created: e.Updated}
		return tx.AddManagedVersion(scope, e.Name, v)
	})
	return v, err
}

// SetDefaultVersion makes a version of a managed policy the one that counts.
func (s *Service) SetDefaultVersion(ctx context.Context, scope fleet.Scope, arn string, version int) error {
	return s.changePolicy(ctx, scope, arn, func(tx *store.Tx, e *Entity, versions []store.ManagedVersion) error {
		if !hasVersion(versions, version) {
			return noSuch("Policy %s version v%d does not exist or is not attachable.", arn, version)
		}
		e.Default, e.Updated = version, tx.Now()
		return nil
	})
}

// DeleteVersion removes a version that is not the default.
func (s *Service) DeleteVersion(ctx context.Context, scope fleet.Scope, arn string, version int) error {
	return s.changePolicy(ctx, scope, arn, func(tx *store.Tx, e *Entity, versions []store.ManagedVersion) error {
		if !hasVersion(versions, version) {
			return noSuch("Policy %s version v%d does not exist or is not attachable.", arn, version)
		}
		if e.Default == version {
			return deleteConflict("Cannot delete the default version of a policy.")
		}
		return tx.DeleteManagedVersion(scope, e.Name, version)
	})
}

func hasVersion(versions []store.ManagedVersion, n int) bool {
	return slices.ContainsFunc(versions, func(v store.ManagedVersion) bool { return v.Version == n })
}

// DeletePolicy removes a managed policy that nothing uses and that has its default version only.
func (s *Service) DeletePolicy(ctx context.Context, scope fleet.Scope, arn string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := ownPolicy(tx, scope, arn)
		if err != nil {
			return err
		}
		users, err := tx.EntitiesWithPolicy(scope, arn)
		if err != nil {
			return err
		}
		bounded, err := boundedBy(tx, scope, arn)
		if err != nil {
			return err
		}
		if len(users)+len(bounded) > 0 {
			return deleteConflict("Cannot delete a policy attached to entities.")
		}
		versions, err := tx.ManagedVersions(scope, e.Name)
		if err != nil {
			return err
		}
		if len(versions) > 1 {
			return deleteConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		return tx.DeleteIAMEntity(scope, store.IAMPolicy, e.Name)
	})
}

func (s *Service) changePolicy(ctx context.Context, scope fleet.Scope, arn string, change func(*store.Tx, *Entity, []store.ManagedVersion) error) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := ownPolicy(tx, scope, arn)
		if err != nil {
			return err
		}
		versions, err := tx.ManagedVersions(scope, e.Name)
		if err != nil {
			return err
		}
		if err := change(tx, &e, versions); err != nil {
			return err
		}
		return update(tx, scope, e)
	})
}

// ownPolicy reads a managed policy of the account by its ARN; AWS's own can't be changed.
func ownPolicy(tx *store.Tx, scope fleet.Scope, arn string) (Entity, error) {
	if _, ok := builtin(arn); ok {
		return Entity{}, fleet.Denied("%s is managed by AWS and cannot be changed", arn)
	}
	a, ok := fleet.ParseARN(arn)
	if !ok || a.Service != "iam" || a.Kind() != "policy" {
		return Entity{}, invalidInput("ARN %s is not valid.", arn)
	}
	if a.Account != scope.Account {
		return Entity{}, noSuch("Policy %s was not found.", arn)
	}
	e, err := get(tx, scope, store.IAMPolicy, lastSegment(a.Name()))
	if err != nil || e.ARN(scope) != arn {
		if err == nil || errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
			err = noSuch("Policy %s was not found.", arn)
		}
		return Entity{}, err
	}
	return e, nil
}

// A Managed is a managed policy of the account or of AWS, with its versions, newest first, and how often it is attached.
type Managed struct {
	Entity
	ARN      string
	Versions []store.ManagedVersion
	Attached []store.Attached
	Bounds   []store.Attached // users and roles whose permissions boundary it is
}

// Policy returns a managed policy by its ARN.
func (s *Service) Policy(ctx context.Context, scope fleet.Scope, arn string) (m Managed, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		m, err = managed(tx, scope, arn)
		return err
	})
	return m, err
}

func managed(tx *store.Tx, scope fleet.Scope, arn string) (m Managed, err error) {
	if b, ok := builtin(arn); ok {
		m = b
	} else {
		m.ARN = arn
		if m.Entity, err = ownPolicy(tx, scope, arn); err != nil {
			return m, err
		}
		if m.Versions, err = tx.ManagedVersions(scope, m.Name); err != nil {
			return m, err
		}
	}
	if m.Attached, err = tx.EntitiesWithPolicy(scope, arn); err != nil {
		return m, err
	}
	m.Bounds, err = boundedBy(tx, scope, arn)
	return m, err
}

// boundedBy lists the users and roles whose permissions boundary a managed policy is.
func boundedBy(tx *store.Tx, scope fleet.Scope, arn string) (list []store.Attached, err error) {
	for _, kind := range []string{store.IAMRole, store.IAMUser} {
		rows, _, err := tx.IAMEntities(scope, kind, "", fleet.Page{})
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			e, err := entityOf(row)
			if err != nil {
				return nil, err
			}
			if e.Boundary == arn {
				list = append(list, store.Attached{Kind: e.Kind, Name: e.Name, ID: e.ID})
			}
		}
	}
	return list, nil
}

// Policies lists the account's managed policies by name and, if asked, AWS's before them.
func (s *Service) Policies(ctx context.Context, scope fleet.Scope, local, aws bool, prefix string) (list []Managed, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		list = nil
		var arns []string
		if aws {
			arns = append(arns, builtinARNs()...)
		}
		if local {
			rows, _, err := tx.IAMEntities(scope, store.IAMPolicy, prefix, fleet.Page{})
			if err != nil {
				return err
			}
			for _, row := range rows {
				arns = append(arns, Entity{Kind: row.Kind, Name: row.Name, Path: row.Path}.ARN(scope))
			}
		}
		for _, arn := range arns {
			m, err := managed(tx, scope, arn)
			if err != nil {
				return err
			}
			list = append(list, m)
		}
		return nil
	})
	return list, err
}

// managedDocument returns the default document of a managed policy that may be attached.
func managedDocument(tx *store.Tx, scope fleet.Scope, arn string) (string, error) {
	if b, ok := builtin(arn); ok {
		return b.Versions[0].Document, nil
	}
	e, err := ownPolicy(tx, scope, arn)
	if err != nil {
		return "", err
	}
	versions, err := tx.ManagedVersions(scope, e.Name)
	if err != nil {
		return "", err
	}
	for _, v := range versions {
		if v.Version == e.Default {
			return v.Document, nil
		}
	}
	return "", noSuch("Policy %s does not exist or is not attachable.", arn)
}

func lastSegment(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return s[i+1:]
		}
	}
	return s
}
