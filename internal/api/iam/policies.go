package iam

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// policies are the operations on managed policies.
func (a *api) policies() []wire.Row {
	return []wire.Row{
		wire.Do("CreatePolicy", a.createPolicy).
			On(func(s fleet.Scope, in *CreatePolicyInput) []string {
				return created(s, store.IAMPolicy, in.PolicyName, in.Path)
			}).
			Conditions(func(_ fleet.Scope, in *CreatePolicyInput) facts { return requestTags(in.Tags) }),
		aboutPolicy(a, wire.Do("GetPolicy", a.getPolicy), func(in *GetPolicyInput) string { return in.PolicyArn }),
		wire.Do("ListPolicies", a.listPolicies),
		aboutPolicy(a, act[TagPolicyOutput]("TagPolicy", func(ctx context.Context, s fleet.Scope, in *TagPolicyInput) error {
			return a.tagARN(ctx, s, in.PolicyArn, in.Tags)
		}), func(in *TagPolicyInput) string { return in.PolicyArn }, func(in *TagPolicyInput) facts { return requestTags(in.Tags) }),
		aboutPolicy(a, act[UntagPolicyOutput]("UntagPolicy", func(ctx context.Context, s fleet.Scope, in *UntagPolicyInput) error {
			return a.IAM.UntagARN(ctx, s, in.PolicyArn, in.TagKeys)
		}), func(in *UntagPolicyInput) string { return in.PolicyArn }, func(in *UntagPolicyInput) facts { return facts{"aws:TagKeys": in.TagKeys} }),
		aboutPolicy(a, wire.Do("ListPolicyTags", a.listPolicyTags), func(in *ListPolicyTagsInput) string { return in.PolicyArn }),
		aboutPolicy(a, act[DeletePolicyOutput]("DeletePolicy", func(ctx context.Context, s fleet.Scope, in *DeletePolicyInput) error {
			return a.IAM.DeletePolicy(ctx, s, in.PolicyArn)
		}), func(in *DeletePolicyInput) string { return in.PolicyArn }),
		aboutPolicy(a, wire.Do("CreatePolicyVersion", a.createPolicyVersion), func(in *CreatePolicyVersionInput) string { return in.PolicyArn }),
		aboutPolicy(a, wire.Do("GetPolicyVersion", a.getPolicyVersion), func(in *GetPolicyVersionInput) string { return in.PolicyArn }),
		aboutPolicy(a, wire.Do("ListPolicyVersions", a.listPolicyVersions), func(in *ListPolicyVersionsInput) string { return in.PolicyArn }),
		aboutPolicy(a, act[SetDefaultPolicyVersionOutput]("SetDefaultPolicyVersion", func(ctx context.Context, s fleet.Scope, in *SetDefaultPolicyVersionInput) error {
			return a.IAM.SetDefaultVersion(ctx, s, in.PolicyArn, versionIn(in.VersionId))
		}), func(in *SetDefaultPolicyVersionInput) string { return in.PolicyArn }),
		aboutPolicy(a, act[DeletePolicyVersionOutput]("DeletePolicyVersion", func(ctx context.Context, s fleet.Scope, in *DeletePolicyVersionInput) error {
			return a.IAM.DeleteVersion(ctx, s, in.PolicyArn, versionIn(in.VersionId))
		}), func(in *DeletePolicyVersionInput) string { return in.PolicyArn }),
		aboutPolicy(a, wire.Do("ListEntitiesForPolicy", a.listEntitiesForPolicy), func(in *ListEntitiesForPolicyInput) string { return in.PolicyArn }),
	}
}

func (a *api) listPolicyTags(ctx context.Context, in *ListPolicyTagsInput) (*ListPolicyTagsOutput, error) {
	m, err := a.IAM.Policy(ctx, scope(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	out := &ListPolicyTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker, err = pageOfTags(ctx, m.Tags, in.Marker, in.MaxItems, "ListPolicyTags", in.PolicyArn)
	return out, err
}

// versionIn reads the number out of v1, v2 …; 0, which no version has, for anything else.
func versionIn(id string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "v"))
	if err != nil {
		return 0
	}
	return n
}

func versionOut(n int) string { return "v" + strconv.Itoa(n) }

func policyOut(m iam.Managed, all bool) *Policy {
	p := &Policy{Arn: new(m.ARN), AttachmentCount: new(len(m.Attached)), CreateDate: new(m.Created), DefaultVersionId: new(versionOut(m.Default)),
		IsAttachable: new(true), Path: new(m.Path), PermissionsBoundaryUsageCount: new(len(m.Bounds)), PolicyId: new(m.ID), PolicyName: new(m.Name),
		UpdateDate: new(m.Updated)}
	if all {
		p.Description, p.Tags = text(m.Description), tagsOut(m.Tags)
	}
	return p
}

func (a *api) createPolicy(ctx context.Context, in *CreatePolicyInput) (*CreatePolicyOutput, error) {
	tags, err := tagsIn(in.Tags)
	if err != nil {
		return nil, err
	}
	e, err := a.IAM.CreatePolicy(ctx, scope(ctx), iam.Entity{Name: in.PolicyName, Path: wire.Value(in.Path),
		Body: iam.Body{Tags: tags, Description: wire.Value(in.Description)}}, in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	return &CreatePolicyOutput{Policy: policyOut(iam.Managed{Entity: e, ARN: e.ARN(scope(ctx))}, full)}, nil
}

func (a *api) getPolicy(ctx context.Context, in *GetPolicyInput) (*GetPolicyOutput, error) {
	m, err := a.IAM.Policy(ctx, scope(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	return &GetPolicyOutput{Policy: policyOut(m, full)}, nil
}

// Values of PolicyUsageFilter.
const (
	asPermissions = "PermissionsPolicy"
	asBoundary    = "PermissionsBoundary"
)

// usedAs reports whether a policy is used in the way that a filter asks for. One that nothing uses is a permissions policy.
func usedAs(m iam.Managed, filter string, attached bool) bool {
	switch {
	case filter == asBoundary:
		return len(m.Bounds) > 0
	case attached:
		return len(m.Attached) > 0
	case filter == asPermissions:
		return len(m.Attached) > 0 || len(m.Bounds) == 0
	}
	return true
}

// usersOf returns the entities that a policy is attached to, that it bounds, or both.
func usersOf(m iam.Managed, filter string) (list []store.Attached) {
	if filter != asBoundary {
		list = append(list, m.Attached...)
	}
	if filter != asPermissions {
		for _, e := range m.Bounds {
			if !slices.Contains(list, e) {
				list = append(list, e)
			}
		}
	}
	return list
}

// listPolicies lists by name. Scope Local are the account's own policies, AWS those that come with the product.
func (a *api) listPolicies(ctx context.Context, in *ListPoliciesInput) (*ListPoliciesOutput, error) {
	from, prefix := wire.Value(in.Scope), wire.Value(in.PathPrefix)
	l, err := list(ctx, in.Marker, in.MaxItems, "ListPolicies", from, prefix, strconv.FormatBool(wire.Value(in.OnlyAttached)), wire.Value(in.PolicyUsageFilter))
	if err != nil {
		return nil, err
	}
	found, err := a.IAM.Policies(ctx, scope(ctx), from != "AWS", from != "Local", prefix)
	if err != nil {
		return nil, err
	}
	var wanted []iam.Managed
	for _, m := range found {
		if strings.HasPrefix(m.Path, prefix) && usedAs(m, wire.Value(in.PolicyUsageFilter), wire.Value(in.OnlyAttached)) {
			wanted = append(wanted, m)
		}
	}
	out := &ListPoliciesOutput{Policies: []Policy{}}
	wanted, out.IsTruncated, out.Marker = cut(l, wanted, func(m iam.Managed) string { return m.Name + " " + m.ARN })
	for _, m := range wanted {
		out.Policies = append(out.Policies, *policyOut(m, brief))
	}
	return out, nil
}

func policyVersionOut(v store.ManagedVersion, byDefault, document bool) PolicyVersion {
	out := PolicyVersion{CreateDate: new(v.Created), IsDefaultVersion: new(byDefault), VersionId: new(versionOut(v.Version))}
	if document {
		out.Document = new(v.Document)
	}
	return out
}

func (a *api) createPolicyVersion(ctx context.Context, in *CreatePolicyVersionInput) (*CreatePolicyVersionOutput, error) {
	v, err := a.IAM.AddVersion(ctx, scope(ctx), in.PolicyArn, in.PolicyDocument, wire.Value(in.SetAsDefault))
	if err != nil {
		return nil, err
	}
	return &CreatePolicyVersionOutput{PolicyVersion: new(policyVersionOut(v, wire.Value(in.SetAsDefault), brief))}, nil
}

func (a *api) getPolicyVersion(ctx context.Context, in *GetPolicyVersionInput) (*GetPolicyVersionOutput, error) {
	m, err := a.IAM.Policy(ctx, scope(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	for _, v := range m.Versions {
		if v.Version == versionIn(in.VersionId) {
			return &GetPolicyVersionOutput{PolicyVersion: new(policyVersionOut(v, v.Version == m.Default, full))}, nil
		}
	}
	return nil, &fleet.Error{Kind: fleet.KindNotFound, Code: "NoSuchEntity", Msg: "Policy " + in.PolicyArn + " version " + in.VersionId + " does not exist or is not attachable."}
}

func (a *api) listPolicyVersions(ctx context.Context, in *ListPolicyVersionsInput) (*ListPolicyVersionsOutput, error) {
	l, err := list(ctx, in.Marker, in.MaxItems, "ListPolicyVersions", in.PolicyArn)
	if err != nil {
		return nil, err
	}
	m, err := a.IAM.Policy(ctx, scope(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	out := &ListPolicyVersionsOutput{Versions: []PolicyVersion{}}
	newestFirst := func(v store.ManagedVersion) string { return strconv.FormatUint(1<<62-uint64(v.Version), 16) }
	versions := append([]store.ManagedVersion(nil), m.Versions...) // those of AWS's policies are shared
	versions, out.IsTruncated, out.Marker = cut(l, versions, newestFirst)
	for _, v := range versions {
		out.Versions = append(out.Versions, policyVersionOut(v, v.Version == m.Default, brief))
	}
	return out, nil
}

// Values of EntityFilter. The others, which name kinds of policies, match no entity.
var filters = map[string]string{store.IAMUser: "User", store.IAMRole: "Role", store.IAMGroup: "Group"}

func (a *api) listEntitiesForPolicy(ctx context.Context, in *ListEntitiesForPolicyInput) (*ListEntitiesForPolicyOutput, error) {
	filter, prefix := wire.Value(in.EntityFilter), wire.Value(in.PathPrefix)
	l, err := list(ctx, in.Marker, in.MaxItems, "ListEntitiesForPolicy", in.PolicyArn, filter, prefix, wire.Value(in.PolicyUsageFilter))
	if err != nil {
		return nil, err
	}
	m, err := a.IAM.Policy(ctx, scope(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	var wanted []store.Attached
	for _, e := range usersOf(m, wire.Value(in.PolicyUsageFilter)) {
		if filter != "" && filters[e.Kind] != filter || prefix != "" && !strings.HasPrefix(a.entity(scope(ctx), e.Kind, e.Name).Path, prefix) {
			continue
		}
		wanted = append(wanted, e)
	}
	out := &ListEntitiesForPolicyOutput{PolicyGroups: []PolicyGroup{}, PolicyRoles: []PolicyRole{}, PolicyUsers: []PolicyUser{}}
	wanted, out.IsTruncated, out.Marker = cut(l, wanted, func(e store.Attached) string { return e.Kind + " " + e.Name })
	for _, e := range wanted {
		switch e.Kind {
		case store.IAMUser:
			out.PolicyUsers = append(out.PolicyUsers, PolicyUser{UserId: new(e.ID), UserName: new(e.Name)})
		case store.IAMRole:
			out.PolicyRoles = append(out.PolicyRoles, PolicyRole{RoleId: new(e.ID), RoleName: new(e.Name)})
		case store.IAMGroup:
			out.PolicyGroups = append(out.PolicyGroups, PolicyGroup{GroupId: new(e.ID), GroupName: new(e.Name)})
		}
	}
	return out, nil
}
