package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) groups() []wire.Row {
	return []wire.Row{
		wire.Do("CreateGroup", a.createGroup).
			On(func(s fleet.Scope, in *CreateGroupInput) []string {
				return created(s, store.IAMGroup, in.GroupName, in.Path)
			}),
		aboutGroup(a, wire.Do("GetGroup", a.getGroup)),
		wire.Do("ListGroups", a.listGroups).On(func(s fleet.Scope, in *ListGroupsInput) []string { return under(s, store.IAMGroup, in.PathPrefix) }),
		aboutGroup(a, act[UpdateGroupOutput]("UpdateGroup", func(ctx context.Context, s fleet.Scope, in *UpdateGroupInput) error {
			return a.IAM.Rename(ctx, s, store.IAMGroup, in.GroupName, wire.Value(in.NewGroupName), wire.Value(in.NewPath))
		})).On(func(s fleet.Scope, in *UpdateGroupInput) []string {
			return a.renamed(s, store.IAMGroup, in.GroupName, in.NewGroupName, in.NewPath)
		}),
		aboutGroup(a, act[DeleteGroupOutput]("DeleteGroup", func(ctx context.Context, s fleet.Scope, in *DeleteGroupInput) error {
			return a.IAM.Delete(ctx, s, store.IAMGroup, in.GroupName)
		})),
		aboutGroup(a, act[AddUserToGroupOutput]("AddUserToGroup", func(ctx context.Context, s fleet.Scope, in *AddUserToGroupInput) error {
			return a.IAM.AddToGroup(ctx, s, in.GroupName, in.UserName)
		})),
		aboutGroup(a, act[RemoveUserFromGroupOutput]("RemoveUserFromGroup", func(ctx context.Context, s fleet.Scope, in *RemoveUserFromGroupInput) error {
			return a.IAM.RemoveFromGroup(ctx, s, in.GroupName, in.UserName)
		})),
		aboutUser(a, wire.Do("ListGroupsForUser", a.listGroupsForUser)),
	}
}

func entityName(e iam.Entity) string { return e.Name }

func (a *api) createGroup(ctx context.Context, in *CreateGroupInput) (*CreateGroupOutput, error) {
	e, err := a.IAM.CreateGroup(ctx, scope(ctx), iam.Entity{Name: in.GroupName, Path: wire.Value(in.Path)})
	if err != nil {
		return nil, err
	}
	return &CreateGroupOutput{Group: groupOut(scope(ctx), e)}, nil
}

func (a *api) getGroup(ctx context.Context, in *GetGroupInput) (*GetGroupOutput, error) {
	l, err := list(ctx, in.Marker, in.MaxItems, "GetGroup", in.GroupName)
	if err != nil {
		return nil, err
	}
	e, err := a.IAM.Entity(ctx, scope(ctx), store.IAMGroup, in.GroupName)
	if err != nil {
		return nil, err
	}
	members, err := a.IAM.Members(ctx, scope(ctx), in.GroupName)
	if err != nil {
		return nil, err
	}
	out := &GetGroupOutput{Group: groupOut(scope(ctx), e)}
	members, out.IsTruncated, out.Marker = cut(l, members, entityName)
	out.Users = usersOut(scope(ctx), members)
	return out, nil
}

func (a *api) listGroups(ctx context.Context, in *ListGroupsInput) (*ListGroupsOutput, error) {
	l, err := list(ctx, in.Marker, in.MaxItems, "ListGroups", wire.Value(in.PathPrefix))
	if err != nil {
		return nil, err
	}
	found, next, err := a.IAM.Entities(ctx, scope(ctx), store.IAMGroup, wire.Value(in.PathPrefix), l.Page)
	if err != nil {
		return nil, err
	}
	out := &ListGroupsOutput{Groups: groupsOut(scope(ctx), found)}
	out.IsTruncated, out.Marker = l.rest(next)
	return out, nil
}

func (a *api) listGroupsForUser(ctx context.Context, in *ListGroupsForUserInput) (*ListGroupsForUserOutput, error) {
	l, err := list(ctx, in.Marker, in.MaxItems, "ListGroupsForUser", in.UserName)
	if err != nil {
		return nil, err
	}
	found, err := a.IAM.GroupsOf(ctx, scope(ctx), in.UserName)
	if err != nil {
		return nil, err
	}
	out := &ListGroupsForUserOutput{}
	found, out.IsTruncated, out.Marker = cut(l, found, entityName)
	out.Groups = groupsOut(scope(ctx), found)
	return out, nil
}
