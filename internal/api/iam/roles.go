package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) roles() []wire.Row {
	return []wire.Row{
		wire.Do("CreateRole", a.createRole).
			On(func(s fleet.Scope, in *CreateRoleInput) []string {
				return created(s, store.IAMRole, in.RoleName, in.Path)
			}).
			Conditions(func(_ fleet.Scope, in *CreateRoleInput) facts {
				return bounded(requestTags(in.Tags), in.PermissionsBoundary)
			}),
		aboutRole(a, wire.Do("GetRole", a.getRole)),
		wire.Do("ListRoles", a.listRoles).On(func(s fleet.Scope, in *ListRolesInput) []string { return under(s, store.IAMRole, in.PathPrefix) }),
		aboutRole(a, act[UpdateRoleOutput]("UpdateRole", func(ctx context.Context, _ fleet.Scope, in *UpdateRoleInput) error {
			_, err := a.changeRole(ctx, in.RoleName, in.Description, in.MaxSessionDuration)
			return err
		})),
		aboutRole(a, wire.Do("UpdateRoleDescription", a.updateRoleDescription)),
		aboutRole(a, act[UpdateAssumeRolePolicyOutput]("UpdateAssumeRolePolicy", func(ctx context.Context, s fleet.Scope, in *UpdateAssumeRolePolicyInput) error {
			return a.IAM.SetTrust(ctx, s, in.RoleName, in.PolicyDocument)
		})),
		aboutRole(a, act[DeleteRoleOutput]("DeleteRole", func(ctx context.Context, s fleet.Scope, in *DeleteRoleInput) error {
			return a.IAM.Delete(ctx, s, store.IAMRole, in.RoleName)
		})),
		aboutRole(a, act[TagRoleOutput]("TagRole", func(ctx context.Context, s fleet.Scope, in *TagRoleInput) error {
			return a.tag(ctx, s, store.IAMRole, in.RoleName, in.Tags)
		}), func(in *TagRoleInput) facts { return requestTags(in.Tags) }),
		aboutRole(a, act[UntagRoleOutput]("UntagRole", func(ctx context.Context, s fleet.Scope, in *UntagRoleInput) error {
			return a.IAM.Untag(ctx, s, store.IAMRole, in.RoleName, in.TagKeys)
		}), func(in *UntagRoleInput) facts { return facts{"aws:TagKeys": in.TagKeys} }),
		aboutRole(a, wire.Do("ListRoleTags", a.listRoleTags)),
		aboutRole(a, act[PutRolePermissionsBoundaryOutput]("PutRolePermissionsBoundary", func(ctx context.Context, s fleet.Scope, in *PutRolePermissionsBoundaryInput) error {
			return a.IAM.SetBoundary(ctx, s, store.IAMRole, in.RoleName, in.PermissionsBoundary)
		}), func(in *PutRolePermissionsBoundaryInput) facts { return bounded(nil, &in.PermissionsBoundary) }),
		aboutRole(a, act[DeleteRolePermissionsBoundaryOutput]("DeleteRolePermissionsBoundary", func(ctx context.Context, s fleet.Scope, in *DeleteRolePermissionsBoundaryInput) error {
			return a.IAM.SetBoundary(ctx, s, store.IAMRole, in.RoleName, "")
		})),
		aboutRole(a, wire.Do("ListInstanceProfilesForRole", a.listInstanceProfilesForRole)),
	}
}

func (a *api) createRole(ctx context.Context, in *CreateRoleInput) (*CreateRoleOutput, error) {
	tags, err := tagsIn(in.Tags)
	if err != nil {
		return nil, err
	}
	e, err := a.IAM.CreateRole(ctx, scope(ctx), iam.Entity{Name: in.RoleName, Path: wire.Value(in.Path), Body: iam.Body{
		Tags: tags, Boundary: wire.Value(in.PermissionsBoundary), Description: wire.Value(in.Description),
		Trust: in.AssumeRolePolicyDocument, MaxSession: wire.Value(in.MaxSessionDuration)}})
	if err != nil {
		return nil, err
	}
	return &CreateRoleOutput{Role: roleOut(scope(ctx), e, full)}, nil
}

func (a *api) getRole(ctx context.Context, in *GetRoleInput) (*GetRoleOutput, error) {
	e, err := a.IAM.Entity(ctx, scope(ctx), store.IAMRole, in.RoleName)
	if err != nil {
		return nil, err
	}
	return &GetRoleOutput{Role: roleOut(scope(ctx), e, full)}, nil
}

func (a *api) listRoles(ctx context.Context, in *ListRolesInput) (*ListRolesOutput, error) {
	l, err := list(ctx, in.Marker, in.MaxItems, "ListRoles", wire.Value(in.PathPrefix))
	if err != nil {
		return nil, err
	}
	found, next, err := a.IAM.Entities(ctx, scope(ctx), store.IAMRole, wire.Value(in.PathPrefix), l.Page)
	if err != nil {
		return nil, err
	}
	out := &ListRolesOutput{Roles: []Role{}}
	for _, e := range found {
		out.Roles = append(out.Roles, *roleOut(scope(ctx), e, brief))
	}
	out.IsTruncated, out.Marker = l.rest(next)
	return out, nil
}

// changeRole sets a role's description and longest session; nil means unchanged.
func (a *api) changeRole(ctx context.Context, name string, description *string, maxSession *int) (iam.Entity, error) {
	return a.IAM.Change(ctx, scope(ctx), store.IAMRole, name, func(e *iam.Entity) error {
		if description != nil {
			e.Description = *description
		}
		if maxSession != nil {
			e.MaxSession = *maxSession
		}
		return nil
	})
}

func (a *api) updateRoleDescription(ctx context.Context, in *UpdateRoleDescriptionInput) (*UpdateRoleDescriptionOutput, error) {
	e, err := a.changeRole(ctx, in.RoleName, &in.Description, nil)
	if err != nil {
		return nil, err
	}
	return &UpdateRoleDescriptionOutput{Role: roleOut(scope(ctx), e, full)}, nil
}

func (a *api) listRoleTags(ctx context.Context, in *ListRoleTagsInput) (out *ListRoleTagsOutput, err error) {
	out = &ListRoleTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker, err = a.tags(ctx, "ListRoleTags", store.IAMRole, in.RoleName, in.Marker, in.MaxItems)
	return out, err
}

// listInstanceProfilesForRole answers what Terraform asks before it deletes a role: there are no instance profiles.
func (a *api) listInstanceProfilesForRole(ctx context.Context, in *ListInstanceProfilesForRoleInput) (*ListInstanceProfilesForRoleOutput, error) {
	l, err := list(ctx, in.Marker, in.MaxItems, "ListInstanceProfilesForRole", in.RoleName)
	if err != nil {
		return nil, err
	}
	if _, err := a.IAM.Entity(ctx, scope(ctx), store.IAMRole, in.RoleName); err != nil {
		return nil, err
	}
	out := &ListInstanceProfilesForRoleOutput{InstanceProfiles: []InstanceProfile{}}
	out.IsTruncated, out.Marker = l.rest("")
	return out, nil
}
