package iot

import (
	"context"
	"strconv"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) policyRows() []wire.Row {
	return append([]wire.Row{
		wire.Do("CreatePolicy", a.createPolicy).
			OnAny(named("policy", func(in *CreatePolicyInput) string { return in.PolicyName })).
			Conditions(tagging(func(in *CreatePolicyInput) []Tag { return in.Tags })),
		wire.Do("GetPolicy", a.getPolicy).On(named("policy", func(in *GetPolicyInput) string { return in.PolicyName })),
		wire.Do("DeletePolicy", a.deletePolicy).On(named("policy", func(in *DeletePolicyInput) string { return in.PolicyName })),
		wire.Do("ListPolicies", a.listPolicies),
		wire.Do("CreatePolicyVersion", a.createPolicyVersion).On(named("policy", func(in *CreatePolicyVersionInput) string { return in.PolicyName })),
		wire.Do("GetPolicyVersion", a.getPolicyVersion).On(named("policy", func(in *GetPolicyVersionInput) string { return in.PolicyName })),
		wire.Do("ListPolicyVersions", a.listPolicyVersions).OnAny(named("policy", func(in *ListPolicyVersionsInput) string { return in.PolicyName })),
		wire.Do("SetDefaultPolicyVersion", a.setDefaultPolicyVersion).On(named("policy", func(in *SetDefaultPolicyVersionInput) string { return in.PolicyName })),
		wire.Do("DeletePolicyVersion", a.deletePolicyVersion).On(named("policy", func(in *DeletePolicyVersionInput) string { return in.PolicyName })),
	}, a.attachmentRows()...)
}

func (a *API) createPolicy(ctx context.Context, in *CreatePolicyInput) (*CreatePolicyOutput, error) {
	var out CreatePolicyOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		p, err := registry.CreatePolicy(tx, s, in.PolicyName, in.PolicyDocument, tagsFrom(in.Tags))
		out = CreatePolicyOutput{PolicyName: &p.Name, PolicyArn: new(s.IoT("policy", p.Name)), PolicyDocument: &p.Document,
			PolicyVersionId: new(strconv.Itoa(p.Default))}
		return err
	})
	return &out, err
}

func (a *API) getPolicy(ctx context.Context, in *GetPolicyInput) (*GetPolicyOutput, error) {
	var out GetPolicyOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		p, err := tx.Policy(s, in.PolicyName)
		out = GetPolicyOutput{PolicyName: &p.Name, PolicyArn: new(s.IoT("policy", p.Name)), PolicyDocument: &p.Document,
			DefaultVersionId: new(strconv.Itoa(p.Default)), CreationDate: &p.Created, LastModifiedDate: &p.Modified, GenerationId: &p.Generation}
		return err
	})
	return &out, err
}

func (a *API) deletePolicy(ctx context.Context, in *DeletePolicyInput) (*DeletePolicyOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.DeletePolicy(tx, s, in.PolicyName) })
}

func policyRefs(s fleet.Scope, names []string) []Policy {
	out := []Policy{}
	for _, n := range names {
		out = append(out, Policy{PolicyName: &n, PolicyArn: new(s.IoT("policy", n))})
	}
	return out
}

func (a *API) listPolicies(ctx context.Context, in *ListPoliciesInput) (*ListPoliciesOutput, error) {
	desc, sorted := order(in.AscendingOrder)
	l, err := list(ctx, in.Marker, in.PageSize, "ListPolicies", sorted)
	if err != nil {
		return nil, err
	}
	l.Desc = desc
	var out ListPoliciesOutput
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		page, next, err := tx.Policies(s, l.Page)
		var names []string
		for _, p := range page {
			names = append(names, p.Name)
		}
		out = ListPoliciesOutput{Policies: policyRefs(s, names), NextMarker: l.Token(next)}
		return err
	})
	return &out, err
}

func (a *API) createPolicyVersion(ctx context.Context, in *CreatePolicyVersionInput) (*CreatePolicyVersionOutput, error) {
	var out CreatePolicyVersionOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		v, err := registry.AddPolicyVersion(tx, s, in.PolicyName, in.PolicyDocument, wire.Value(in.SetAsDefault))
		out = CreatePolicyVersionOutput{PolicyArn: new(s.IoT("policy", in.PolicyName)), PolicyDocument: &v.Document,
			PolicyVersionId: new(strconv.Itoa(v.ID)), IsDefaultVersion: &v.Default}
		return err
	})
	return &out, err
}

func (a *API) getPolicyVersion(ctx context.Context, in *GetPolicyVersionInput) (*GetPolicyVersionOutput, error) {
	var out GetPolicyVersionOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		v, err := registry.PolicyVersion(tx, s, in.PolicyName, in.PolicyVersionId)
		if err != nil {
			return err
		}
		p, err := tx.Policy(s, in.PolicyName)
		out = GetPolicyVersionOutput{PolicyName: &p.Name, PolicyArn: new(s.IoT("policy", p.Name)), PolicyDocument: &v.Document,
			PolicyVersionId: new(strconv.Itoa(v.ID)), IsDefaultVersion: &v.Default, CreationDate: &v.Created, LastModifiedDate: &v.Created,
			GenerationId: &p.Generation}
		return err
	})
	return &out, err
}

func (a *API) listPolicyVersions(ctx context.Context, in *ListPolicyVersionsInput) (*ListPolicyVersionsOutput, error) {
	out := ListPolicyVersionsOutput{PolicyVersions: []PolicyVersion{}}
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if _, err := tx.Policy(s, in.PolicyName); err != nil {
			return err
		}
		versions, err := tx.PolicyVersions(s, in.PolicyName)
		for _, v := range versions {
			out.PolicyVersions = append(out.PolicyVersions, PolicyVersion{VersionId: new(strconv.Itoa(v.ID)), IsDefaultVersion: &v.Default, CreateDate: &v.Created})
		}
		return err
	})
	return &out, err
}

func (a *API) setDefaultPolicyVersion(ctx context.Context, in *SetDefaultPolicyVersionInput) (*SetDefaultPolicyVersionOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.SetDefaultPolicyVersion(tx, s, in.PolicyName, in.PolicyVersionId)
	})
}

func (a *API) deletePolicyVersion(ctx context.Context, in *DeletePolicyVersionInput) (*DeletePolicyVersionOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DeletePolicyVersion(tx, s, in.PolicyName, in.PolicyVersionId)
	})
}
