package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// inline are the operations on the policies that belong to one user, role or group: the same four for each kind.
func (a *api) inline() []wire.Row {
	return []wire.Row{
		aboutUser(a, act[PutUserPolicyOutput]("PutUserPolicy", func(ctx context.Context, s fleet.Scope, in *PutUserPolicyInput) error {
			return a.IAM.PutInline(ctx, s, store.IAMUser, in.UserName, in.PolicyName, in.PolicyDocument)
		})),
		aboutRole(a, act[PutRolePolicyOutput]("PutRolePolicy", func(ctx context.Context, s fleet.Scope, in *PutRolePolicyInput) error {
			return a.IAM.PutInline(ctx, s, store.IAMRole, in.RoleName, in.PolicyName, in.PolicyDocument)
		})),
		aboutGroup(a, act[PutGroupPolicyOutput]("PutGroupPolicy", func(ctx context.Context, s fleet.Scope, in *PutGroupPolicyInput) error {
			return a.IAM.PutInline(ctx, s, store.IAMGroup, in.GroupName, in.PolicyName, in.PolicyDocument)
		})),
		aboutUser(a, act[DeleteUserPolicyOutput]("DeleteUserPolicy", func(ctx context.Context, s fleet.Scope, in *DeleteUserPolicyInput) error {
			return a.IAM.DeleteInline(ctx, s, store.IAMUser, in.UserName, in.PolicyName)
		})),
		aboutRole(a, act[DeleteRolePolicyOutput]("DeleteRolePolicy", func(ctx context.Context, s fleet.Scope, in *DeleteRolePolicyInput) error {
			return a.IAM.DeleteInline(ctx, s, store.IAMRole, in.RoleName, in.PolicyName)
		})),
		aboutGroup(a, act[DeleteGroupPolicyOutput]("DeleteGroupPolicy", func(ctx context.Context, s fleet.Scope, in *DeleteGroupPolicyInput) error {
			return a.IAM.DeleteInline(ctx, s, store.IAMGroup, in.GroupName, in.PolicyName)
		})),
		aboutUser(a, wire.Do("GetUserPolicy", a.getUserPolicy)),
		aboutRole(a, wire.Do("GetRolePolicy", a.getRolePolicy)),
		aboutGroup(a, wire.Do("GetGroupPolicy", a.getGroupPolicy)),
		aboutUser(a, wire.Do("ListUserPolicies", a.listUserPolicies)),
		aboutRole(a, wire.Do("ListRolePolicies", a.listRolePolicies)),
		aboutGroup(a, wire.Do("ListGroupPolicies", a.listGroupPolicies)),
	}
}

func (a *api) getUserPolicy(ctx context.Context, in *GetUserPolicyInput) (*GetUserPolicyOutput, error) {
	doc, err := a.IAM.InlineDocument(ctx, scope(ctx), store.IAMUser, in.UserName, in.PolicyName)
	return &GetUserPolicyOutput{UserName: in.UserName, PolicyName: in.PolicyName, PolicyDocument: doc}, err
}

func (a *api) getRolePolicy(ctx context.Context, in *GetRolePolicyInput) (*GetRolePolicyOutput, error) {
	doc, err := a.IAM.InlineDocument(ctx, scope(ctx), store.IAMRole, in.RoleName, in.PolicyName)
	return &GetRolePolicyOutput{RoleName: in.RoleName, PolicyName: in.PolicyName, PolicyDocument: doc}, err
}

func (a *api) getGroupPolicy(ctx context.Context, in *GetGroupPolicyInput) (*GetGroupPolicyOutput, error) {
	doc, err := a.IAM.InlineDocument(ctx, scope(ctx), store.IAMGroup, in.GroupName, in.PolicyName)
	return &GetGroupPolicyOutput{GroupName: in.GroupName, PolicyName: in.PolicyName, PolicyDocument: doc}, err
}

// inlineNames lists a page of the names of an entity's inline policies.
func (a *api) inlineNames(ctx context.Context, kind, name string, marker *string, items *int) (names []string, truncated *bool, next *string, err error) {
	l, err := list(ctx, marker, items, "inline", kind, name)
	if err != nil {
		return nil, nil, nil, err
	}
	all, err := a.IAM.Inline(ctx, scope(ctx), kind, name)
	if err != nil {
		return nil, nil, nil, err
	}
	page, truncated, next := cut(l, all, func(p store.InlinePolicy) string { return p.Name })
	for _, p := range page {
		names = append(names, p.Name)
	}
	return names, truncated, next, nil
}

func (a *api) listUserPolicies(ctx context.Context, in *ListUserPoliciesInput) (out *ListUserPoliciesOutput, err error) {
	out = &ListUserPoliciesOutput{}
	out.PolicyNames, out.IsTruncated, out.Marker, err = a.inlineNames(ctx, store.IAMUser, in.UserName, in.Marker, in.MaxItems)
	return out, err
}

func (a *api) listRolePolicies(ctx context.Context, in *ListRolePoliciesInput) (out *ListRolePoliciesOutput, err error) {
	out = &ListRolePoliciesOutput{}
	out.PolicyNames, out.IsTruncated, out.Marker, err = a.inlineNames(ctx, store.IAMRole, in.RoleName, in.Marker, in.MaxItems)
	return out, err
}

func (a *api) listGroupPolicies(ctx context.Context, in *ListGroupPoliciesInput) (out *ListGroupPoliciesOutput, err error) {
	out = &ListGroupPoliciesOutput{}
	out.PolicyNames, out.IsTruncated, out.Marker, err = a.inlineNames(ctx, store.IAMGroup, in.GroupName, in.Marker, in.MaxItems)
	return out, err
}
