package iam

import (
	"context"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// attachments are the operations that tie managed policies to users, roles and groups.
func (a *api) attachments() []wire.Row {
	return []wire.Row{
		aboutUser(a, act[AttachUserPolicyOutput]("AttachUserPolicy", func(ctx context.Context, s fleet.Scope, in *AttachUserPolicyInput) error {
			return a.IAM.Attach(ctx, s, store.IAMUser, in.UserName, in.PolicyArn)
		}), func(in *AttachUserPolicyInput) facts { return policyARN(in.PolicyArn) }),
		aboutRole(a, act[AttachRolePolicyOutput]("AttachRolePolicy", func(ctx context.Context, s fleet.Scope, in *AttachRolePolicyInput) error {
			return a.IAM.Attach(ctx, s, store.IAMRole, in.RoleName, in.PolicyArn)
		}), func(in *AttachRolePolicyInput) facts { return policyARN(in.PolicyArn) }),
		aboutGroup(a, act[AttachGroupPolicyOutput]("AttachGroupPolicy", func(ctx context.Context, s fleet.Scope, in *AttachGroupPolicyInput) error {
			return a.IAM.Attach(ctx, s, store.IAMGroup, in.GroupName, in.PolicyArn)
		}), func(in *AttachGroupPolicyInput) facts { return policyARN(in.PolicyArn) }),
		aboutUser(a, act[DetachUserPolicyOutput]("DetachUserPolicy", func(ctx context.Context, s fleet.Scope, in *DetachUserPolicyInput) error {
			return a.IAM.Detach(ctx, s, store.IAMUser, in.UserName, in.PolicyArn)
		}), func(in *DetachUserPolicyInput) facts { return policyARN(in.PolicyArn) }),
		aboutRole(a, act[DetachRolePolicyOutput]("DetachRolePolicy", func(ctx context.Context, s fleet.Scope, in *DetachRolePolicyInput) error {
			return a.IAM.Detach(ctx, s, store.IAMRole, in.RoleName, in.PolicyArn)
		}), func(in *DetachRolePolicyInput) facts { return policyARN(in.PolicyArn) }),
		aboutGroup(a, act[DetachGroupPolicyOutput]("DetachGroupPolicy", func(ctx context.Context, s fleet.Scope, in *DetachGroupPolicyInput) error {
			return a.IAM.Detach(ctx, s, store.IAMGroup, in.GroupName, in.PolicyArn)
		}), func(in *DetachGroupPolicyInput) facts { return policyARN(in.PolicyArn) }),
		aboutUser(a, wire.Do("ListAttachedUserPolicies", a.listAttachedUserPolicies)),
		aboutRole(a, wire.Do("ListAttachedRolePolicies", a.listAttachedRolePolicies)),
		aboutGroup(a, wire.Do("ListAttachedGroupPolicies", a.listAttachedGroupPolicies)),
	}
}

func policyARN(arn string) facts { return facts{"iam:PolicyARN": {arn}} }

// attached lists a page of the managed policies attached to an entity whose path begins with prefix.
func (a *api) attached(ctx context.Context, kind, name string, prefix, marker *string, items *int) (list []AttachedPolicy, truncated *bool, next *string, err error) {
	l, err := a.attachedListing(ctx, kind, name, prefix, marker, items)
	if err != nil {
		return nil, nil, nil, err
	}
	arns, err := a.IAM.Attached(ctx, scope(ctx), kind, name)
	if err != nil {
		return nil, nil, nil, err
	}
	list = []AttachedPolicy{}
	var under []string
	for _, arn := range arns {
		if path, _ := splitPolicy(arn); strings.HasPrefix(path, wire.Value(prefix)) {
			under = append(under, arn)
		}
	}
	under, truncated, next = cut(l, under, func(arn string) string { return arn })
	for _, arn := range under {
		_, name := splitPolicy(arn)
		list = append(list, AttachedPolicy{PolicyArn: new(arn), PolicyName: new(name)})
	}
	return list, truncated, next, nil
}

func (a *api) attachedListing(ctx context.Context, kind, name string, prefix, marker *string, items *int) (listing, error) {
	return list(ctx, marker, items, "attached", kind, name, wire.Value(prefix))
}

// splitPolicy takes path and name out of a managed policy's ARN.
func splitPolicy(arn string) (path, name string) {
	_, rest, _ := strings.Cut(arn, ":policy")
	i := strings.LastIndexByte(rest, '/') + 1
	return rest[:i], rest[i:]
}

func (a *api) listAttachedUserPolicies(ctx context.Context, in *ListAttachedUserPoliciesInput) (out *ListAttachedUserPoliciesOutput, err error) {
	out = &ListAttachedUserPoliciesOutput{}
	out.AttachedPolicies, out.IsTruncated, out.Marker, err = a.attached(ctx, store.IAMUser, in.UserName, in.PathPrefix, in.Marker, in.MaxItems)
	return out, err
}

func (a *api) listAttachedRolePolicies(ctx context.Context, in *ListAttachedRolePoliciesInput) (out *ListAttachedRolePoliciesOutput, err error) {
	out = &ListAttachedRolePoliciesOutput{}
	out.AttachedPolicies, out.IsTruncated, out.Marker, err = a.attached(ctx, store.IAMRole, in.RoleName, in.PathPrefix, in.Marker, in.MaxItems)
	return out, err
}

func (a *api) listAttachedGroupPolicies(ctx context.Context, in *ListAttachedGroupPoliciesInput) (out *ListAttachedGroupPoliciesOutput, err error) {
	out = &ListAttachedGroupPoliciesOutput{}
	out.AttachedPolicies, out.IsTruncated, out.Marker, err = a.attached(ctx, store.IAMGroup, in.GroupName, in.PathPrefix, in.Marker, in.MaxItems)
	return out, err
}
