package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func userOut(u userpool.User) UserType {
	return UserType{Username: new(u.Username), Attributes: attributesOut(u.Attributes), Enabled: new(u.Enabled), UserStatus: new(u.Status),
		UserCreateDate: new(u.Created), UserLastModifiedDate: new(u.Modified)}
}

func (a *api) listUsers(ctx context.Context, in *ListUsersInput) (*ListUsersOutput, error) {
	users, next, err := a.pools.Users(ctx, scope(ctx), in.UserPoolId, wire.Value(in.Filter), in.AttributesToGet, wire.Value(in.PaginationToken), limit(in.Limit))
	if err != nil {
		return nil, err
	}
	out := &ListUsersOutput{Users: []UserType{}, PaginationToken: text(next)}
	for _, u := range users {
		out.Users = append(out.Users, userOut(u))
	}
	return out, nil
}

func (a *api) adminCreateUser(ctx context.Context, in *AdminCreateUserInput) (*AdminCreateUserOutput, error) {
	action := wire.Value(in.MessageAction)
	u, err := a.pools.CreateUser(userpool.WithMetadata(ctx, in.ClientMetadata), scope(ctx), in.UserPoolId, userpool.NewUser{
		Username: in.Username, Attributes: attributesIn(in.UserAttributes), TemporaryPassword: wire.Value(in.TemporaryPassword),
		Suppress: action == "SUPPRESS", Resend: action == "RESEND", Mediums: in.DesiredDeliveryMediums, ForceAlias: wire.Value(in.ForceAliasCreation),
		Validation: attributesIn(in.ValidationData),
	})
	if err != nil {
		return nil, err
	}
	return &AdminCreateUserOutput{User: new(userOut(u))}, nil
}

func (a *api) adminGetUser(ctx context.Context, in *AdminGetUserInput) (*AdminGetUserOutput, error) {
	u, err := a.pools.User(ctx, scope(ctx), in.UserPoolId, in.Username)
	if err != nil {
		return nil, err
	}
	return &AdminGetUserOutput{Username: u.Username, UserAttributes: attributesOut(u.Attributes), Enabled: new(u.Enabled), UserStatus: new(u.Status),
		UserCreateDate: new(u.Created), UserLastModifiedDate: new(u.Modified), UserMFASettingList: u.MFA, PreferredMfaSetting: text(u.PreferredMFA)}, nil
}

func (a *api) adminDeleteUser(ctx context.Context, in *AdminDeleteUserInput) (*AdminDeleteUserOutput, error) {
	return nil, a.pools.DeleteUser(ctx, scope(ctx), in.UserPoolId, in.Username)
}

func (a *api) adminEnableUser(ctx context.Context, in *AdminEnableUserInput) (*AdminEnableUserOutput, error) {
	return nil, a.pools.EnableUser(ctx, scope(ctx), in.UserPoolId, in.Username, true)
}

func (a *api) adminDisableUser(ctx context.Context, in *AdminDisableUserInput) (*AdminDisableUserOutput, error) {
	return nil, a.pools.EnableUser(ctx, scope(ctx), in.UserPoolId, in.Username, false)
}

func (a *api) adminConfirmSignUp(ctx context.Context, in *AdminConfirmSignUpInput) (*AdminConfirmSignUpOutput, error) {
	return nil, a.pools.ConfirmUser(userpool.WithMetadata(ctx, in.ClientMetadata), scope(ctx), in.UserPoolId, in.Username)
}

func (a *api) adminSetUserPassword(ctx context.Context, in *AdminSetUserPasswordInput) (*AdminSetUserPasswordOutput, error) {
	return nil, a.pools.SetPassword(ctx, scope(ctx), in.UserPoolId, in.Username, in.Password, wire.Value(in.Permanent))
}

func (a *api) adminResetUserPassword(ctx context.Context, in *AdminResetUserPasswordInput) (*AdminResetUserPasswordOutput, error) {
	return nil, a.pools.ResetPassword(userpool.WithMetadata(ctx, in.ClientMetadata), scope(ctx), in.UserPoolId, in.Username)
}

func (a *api) adminUpdateUserAttributes(ctx context.Context, in *AdminUpdateUserAttributesInput) (*AdminUpdateUserAttributesOutput, error) {
	return nil, a.pools.UpdateUser(userpool.WithMetadata(ctx, in.ClientMetadata), scope(ctx), in.UserPoolId, in.Username, attributesIn(in.UserAttributes))
}

func (a *api) adminDeleteUserAttributes(ctx context.Context, in *AdminDeleteUserAttributesInput) (*AdminDeleteUserAttributesOutput, error) {
	return nil, a.pools.DeleteUserAttributes(ctx, scope(ctx), in.UserPoolId, in.Username, in.UserAttributeNames)
}

func (a *api) adminUserGlobalSignOut(ctx context.Context, in *AdminUserGlobalSignOutInput) (*AdminUserGlobalSignOutOutput, error) {
	return nil, a.pools.SignOutUser(ctx, scope(ctx), in.UserPoolId, in.Username)
}
