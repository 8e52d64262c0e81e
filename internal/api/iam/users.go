package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) users() []wire.Row {
	return []wire.Row{
		wire.Do("CreateUser", a.createUser).
			On(func(s fleet.Scope, in *CreateUserInput) []string {
				return created(s, store.IAMUser, in.UserName, in.Path)
			}).
			Conditions(func(_ fleet.Scope, in *CreateUserInput) facts {
				return bounded(requestTags(in.Tags), in.PermissionsBoundary)
			}),
		wire.Do("GetUser", a.getUser).NoPermission(), // see self
		wire.Do("ListUsers", a.listUsers).On(func(s fleet.Scope, in *ListUsersInput) []string { return under(s, store.IAMUser, in.PathPrefix) }),
		aboutUser(a, act[UpdateUserOutput]("UpdateUser", func(ctx context.Context, s fleet.Scope, in *UpdateUserInput) error {
			return a.IAM.Rename(ctx, s, store.IAMUser, in.UserName, wire.Value(in.NewUserName), wire.Value(in.NewPath))
		})).On(func(s fleet.Scope, in *UpdateUserInput) []string {
			return a.renamed(s, store.IAMUser, in.UserName, in.NewUserName, in.NewPath)
		}),
		aboutUser(a, act[DeleteUserOutput]("DeleteUser", func(ctx context.Context, s fleet.Scope, in *DeleteUserInput) error {
			return a.IAM.Delete(ctx, s, store.IAMUser, in.UserName)
		})),
		aboutUser(a, act[TagUserOutput]("TagUser", func(ctx context.Context, s fleet.Scope, in *TagUserInput) error {
			return a.tag(ctx, s, store.IAMUser, in.UserName, in.Tags)
		}), func(in *TagUserInput) facts { return requestTags(in.Tags) }),
		aboutUser(a, act[UntagUserOutput]("UntagUser", func(ctx context.Context, s fleet.Scope, in *UntagUserInput) error {
			return a.IAM.Untag(ctx, s, store.IAMUser, in.UserName, in.TagKeys)
		}), func(in *UntagUserInput) facts { return facts{"aws:TagKeys": in.TagKeys} }),
		aboutUser(a, wire.Do("ListUserTags", a.listUserTags)),
		aboutUser(a, act[PutUserPermissionsBoundaryOutput]("PutUserPermissionsBoundary", func(ctx context.Context, s fleet.Scope, in *PutUserPermissionsBoundaryInput) error {
			return a.IAM.SetBoundary(ctx, s, store.IAMUser, in.UserName, in.PermissionsBoundary)
		}), func(in *PutUserPermissionsBoundaryInput) facts { return bounded(nil, &in.PermissionsBoundary) }),
		aboutUser(a, act[DeleteUserPermissionsBoundaryOutput]("DeleteUserPermissionsBoundary", func(ctx context.Context, s fleet.Scope, in *DeleteUserPermissionsBoundaryInput) error {
			return a.IAM.SetBoundary(ctx, s, store.IAMUser, in.UserName, "")
		})),
	}
}

// renamed are what a user or group is called before and after UpdateUser or UpdateGroup: the caller needs the permission on both, as
// with AWS.
func (a *api) renamed(s fleet.Scope, kind, name string, newName, newPath *string) []string {
	e := a.entity(s, kind, name)
	before := e.ARN(s)
	if newPath != nil {
		e.Path = *newPath
	}
	if newName != nil {
		e.Name = *newName
	}
	if after := e.ARN(s); after != before {
		return []string{before, after}
	}
	return []string{before}
}

func (a *api) createUser(ctx context.Context, in *CreateUserInput) (*CreateUserOutput, error) {
	tags, err := tagsIn(in.Tags)
	if err != nil {
		return nil, err
	}
	e, err := a.IAM.CreateUser(ctx, scope(ctx), iam.Entity{Name: in.UserName, Path: wire.Value(in.Path),
		Body: iam.Body{Tags: tags, Boundary: wire.Value(in.PermissionsBoundary)}})
	if err != nil {
		return nil, err
	}
	return &CreateUserOutput{User: userOut(scope(ctx), e, full)}, nil
}

func (a *api) getUser(ctx context.Context, in *GetUserInput) (*GetUserOutput, error) {
	user, err := a.self(ctx, "GetUser", in.UserName)
	if err != nil {
		return nil, err
	}
	e, err := a.IAM.Entity(ctx, scope(ctx), store.IAMUser, user)
	if err != nil {
		return nil, err
	}
	return &GetUserOutput{User: userOut(scope(ctx), e, full)}, nil
}

func (a *api) listUsers(ctx context.Context, in *ListUsersInput) (*ListUsersOutput, error) {
	l, err := list(ctx, in.Marker, in.MaxItems, "ListUsers", wire.Value(in.PathPrefix))
	if err != nil {
		return nil, err
	}
	found, next, err := a.IAM.Entities(ctx, scope(ctx), store.IAMUser, wire.Value(in.PathPrefix), l.Page)
	if err != nil {
		return nil, err
	}
	out := &ListUsersOutput{Users: usersOut(scope(ctx), found)}
	out.IsTruncated, out.Marker = l.rest(next)
	return out, nil
}

// tag adds tags to a user or role.
func (a *api) tag(ctx context.Context, s fleet.Scope, kind, name string, list []Tag) error {
	tags, err := tagsIn(list)
	if err != nil {
		return err
	}
	return a.IAM.Tag(ctx, s, kind, name, tags)
}

// tagARN adds tags to a policy or provider.
func (a *api) tagARN(ctx context.Context, s fleet.Scope, arn string, list []Tag) error {
	tags, err := tagsIn(list)
	if err != nil {
		return err
	}
	return a.IAM.TagARN(ctx, s, arn, tags)
}

// tags lists a page of the tags of a user or role.
func (a *api) tags(ctx context.Context, operation, kind, name string, marker *string, items *int) (page []Tag, truncated *bool, next *string, err error) {
	e, err := a.IAM.Entity(ctx, scope(ctx), kind, name)
	if err != nil {
		return nil, nil, nil, err
	}
	return pageOfTags(ctx, e.Tags, marker, items, operation, name)
}

func pageOfTags(ctx context.Context, tags map[string]string, marker *string, items *int, question ...string) (page []Tag, truncated *bool, next *string, err error) {
	l, err := list(ctx, marker, items, question...)
	if err != nil {
		return nil, nil, nil, err
	}
	page, truncated, next = cut(l, tagsOut(tags), func(t Tag) string { return t.Key })
	if page == nil {
		page = []Tag{}
	}
	return page, truncated, next, nil
}

func (a *api) listUserTags(ctx context.Context, in *ListUserTagsInput) (out *ListUserTagsOutput, err error) {
	out = &ListUserTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker, err = a.tags(ctx, "ListUserTags", store.IAMUser, in.UserName, in.Marker, in.MaxItems)
	return out, err
}
