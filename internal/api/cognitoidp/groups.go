package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func groupOut(poolID string, g userpool.Group) *GroupType {
	return &GroupType{GroupName: new(g.Name), UserPoolId: new(poolID), Description: text(g.Description), RoleArn: text(g.RoleARN),
		Precedence: g.Precedence, CreationDate: new(g.Created), LastModifiedDate: new(g.Modified)}
}

func groupsOut(poolID string, groups []userpool.Group) []GroupType {
	out := []GroupType{}
	for _, g := range groups {
		out = append(out, *groupOut(poolID, g))
	}
	return out
}

func (a *api) createGroup(ctx context.Context, in *CreateGroupInput) (*CreateGroupOutput, error) {
	g, err := a.pools.CreateGroup(ctx, scope(ctx), in.UserPoolId, userpool.Group{Name: in.GroupName, Description: wire.Value(in.Description),
		RoleARN: wire.Value(in.RoleArn), Precedence: in.Precedence})
	if err != nil {
		return nil, err
	}
	return &CreateGroupOutput{Group: groupOut(in.UserPoolId, g)}, nil
}

func (a *api) getGroup(ctx context.Context, in *GetGroupInput) (*GetGroupOutput, error) {
	g, err := a.pools.Group(ctx, scope(ctx), in.UserPoolId, in.GroupName)
	if err != nil {
		return nil, err
	}
	return &GetGroupOutput{Group: groupOut(in.UserPoolId, g)}, nil
}

func (a *api) updateGroup(ctx context.Context, in *UpdateGroupInput) (*UpdateGroupOutput, error) {
	g, err := a.pools.UpdateGroup(ctx, scope(ctx), in.UserPoolId, in.GroupName,
		userpool.GroupChange{Description: in.Description, RoleARN: in.RoleArn, Precedence: in.Precedence})
	if err != nil {
		return nil, err
	}
	return &UpdateGroupOutput{Group: groupOut(in.UserPoolId, g)}, nil
}

func (a *api) deleteGroup(ctx context.Context, in *DeleteGroupInput) (*DeleteGroupOutput, error) {
	return nil, a.pools.DeleteGroup(ctx, scope(ctx), in.UserPoolId, in.GroupName)
}

func (a *api) listGroups(ctx context.Context, in *ListGroupsInput) (*ListGroupsOutput, error) {
	groups, next, err := a.pools.Groups(ctx, scope(ctx), in.UserPoolId, wire.Value(in.NextToken), limit(in.Limit))
	if err != nil {
		return nil, err
	}
	return &ListGroupsOutput{Groups: groupsOut(in.UserPoolId, groups), NextToken: text(next)}, nil
}

func (a *api) listUsersInGroup(ctx context.Context, in *ListUsersInGroupInput) (*ListUsersInGroupOutput, error) {
	users, next, err := a.pools.Members(ctx, scope(ctx), in.UserPoolId, in.GroupName, wire.Value(in.NextToken), limit(in.Limit))
	if err != nil {
		return nil, err
	}
	out := &ListUsersInGroupOutput{Users: []UserType{}, NextToken: text(next)}
	for _, u := range users {
		out.Users = append(out.Users, userOut(u))
	}
	return out, nil
}

func (a *api) adminAddUserToGroup(ctx context.Context, in *AdminAddUserToGroupInput) (*AdminAddUserToGroupOutput, error) {
	return nil, a.pools.AddToGroup(ctx, scope(ctx), in.UserPoolId, in.Username, in.GroupName)
}

func (a *api) adminRemoveUserFromGroup(ctx context.Context, in *AdminRemoveUserFromGroupInput) (*AdminRemoveUserFromGroupOutput, error) {
	return nil, a.pools.RemoveFromGroup(ctx, scope(ctx), in.UserPoolId, in.Username, in.GroupName)
}

func (a *api) adminListGroupsForUser(ctx context.Context, in *AdminListGroupsForUserInput) (*AdminListGroupsForUserOutput, error) {
	groups, next, err := a.pools.GroupsOf(ctx, scope(ctx), in.UserPoolId, in.Username, wire.Value(in.NextToken), limit(in.Limit))
	if err != nil {
		return nil, err
	}
	return &AdminListGroupsForUserOutput{Groups: groupsOut(in.UserPoolId, groups), NextToken: text(next)}, nil
}
