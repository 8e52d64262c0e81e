// Package cognitoidp is the edge of user pools: the awsJson1_1 service AWSCognitoIdentityProviderService. It translates between the
// wire's structs and the rules in internal/userpool and decides nothing itself.
//
// Begin with Service, the table of operations. signin.go and self.go hold the operations that anybody may call, who prove themselves
// by a client, a session or an access token; mfa.go second factors, passkeys.go passkeys; pools.go, clients.go, hosted.go (domains, resource servers, looks of the
// sign-in pages), users.go, groups.go and imports.go (users from a file) those of administrators, providers.go
// identity providers. model.gen.go is generated.
package cognitoidp

import (
	"context"
	"maps"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Config says what the edge stands on.
type Config struct {
	Pools *userpool.Service
}

type api struct{ pools *userpool.Service }

// Service makes the table. Devices have no rows yet.
func Service(cfg Config) *wire.Service {
	a := &api{cfg.Pools}
	return wire.NewService(Model, slices.Concat(a.publicRows(), a.poolRows(), a.hostedRows(), a.userRows(), a.importRows(), a.providerRows()), wire.ErrorTable{
		fleet.KindInvalid:     "InvalidParameterException",
		fleet.KindNotFound:    "ResourceNotFoundException",
		fleet.KindExists:      "InvalidParameterException",
		fleet.KindState:       "InvalidParameterException",
		fleet.KindConflict:    "ConcurrentModificationException",
		fleet.KindLimit:       "LimitExceededException",
		fleet.KindThrottled:   "TooManyRequestsException",
		fleet.KindUnavailable: "InternalErrorException",
	})
}

// publicRows are unsigned (identity spec 1.1).
func (a *api) publicRows() []wire.Row {
	return []wire.Row{
		wire.Do("InitiateAuth", a.initiateAuth).Public().Refuse("Session"),
		wire.Do("RespondToAuthChallenge", a.respondToAuthChallenge).Public(),
		wire.Do("GetTokensFromRefreshToken", a.getTokensFromRefreshToken).Public(),
		wire.Do("RevokeToken", a.revokeToken).Public(),
		wire.Do("SignUp", a.signUp).Public(),
		wire.Do("ConfirmSignUp", a.confirmSignUp).Public().Refuse("Session"),
		wire.Do("ResendConfirmationCode", a.resendConfirmationCode).Public(),
		wire.Do("ForgotPassword", a.forgotPassword).Public(),
		wire.Do("ConfirmForgotPassword", a.confirmForgotPassword).Public(),
		wire.Do("GetUser", a.getUser).Public(),
		wire.Do("GlobalSignOut", a.globalSignOut).Public(),
		wire.Do("ChangePassword", a.changePassword).Public(),
		wire.Do("UpdateUserAttributes", a.updateUserAttributes).Public(),
		wire.Do("DeleteUserAttributes", a.deleteUserAttributes).Public(),
		wire.Do("GetUserAttributeVerificationCode", a.getUserAttributeVerificationCode).Public(),
		wire.Do("VerifyUserAttribute", a.verifyUserAttribute).Public(),
		wire.Do("DeleteUser", a.deleteUser).Public(),
		wire.Do("AssociateSoftwareToken", a.associateSoftwareToken).Public(),
		wire.Do("VerifySoftwareToken", a.verifySoftwareToken).Public(),
		wire.Do("SetUserMFAPreference", a.setUserMFAPreference).Public(),
		wire.Do("SetUserSettings", a.setUserSettings).Public(),
		wire.Do("GetUserAuthFactors", a.getUserAuthFactors).Public(),
		wire.Do("StartWebAuthnRegistration", a.startWebAuthnRegistration).Public(),
		wire.Do("CompleteWebAuthnRegistration", a.completeWebAuthnRegistration).Public(),
		wire.Do("ListWebAuthnCredentials", a.listWebAuthnCredentials).Public(),
		wire.Do("DeleteWebAuthnCredential", a.deleteWebAuthnCredential).Public(),
	}
}

func (a *api) poolRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateUserPool", a.createUserPool).Conditions(func(_ fleet.Scope, in *CreateUserPoolInput) map[string][]string {
			return tagConditions(in.UserPoolTags)
		}),
		wire.Do("ListUserPools", a.listUserPools),
		wire.Do("DescribeUserPool", a.describeUserPool).On(func(s fleet.Scope, in *DescribeUserPoolInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("UpdateUserPool", a.updateUserPool).On(func(s fleet.Scope, in *UpdateUserPoolInput) []string { return pool(s, in.UserPoolId) }).
			Conditions(func(_ fleet.Scope, in *UpdateUserPoolInput) map[string][]string {
				return tagConditions(in.UserPoolTags)
			}),
		wire.Do("DeleteUserPool", a.deleteUserPool).On(func(s fleet.Scope, in *DeleteUserPoolInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AddCustomAttributes", a.addCustomAttributes).On(func(s fleet.Scope, in *AddCustomAttributesInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("GetUserPoolMfaConfig", a.getUserPoolMfaConfig).On(func(s fleet.Scope, in *GetUserPoolMfaConfigInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("SetUserPoolMfaConfig", a.setUserPoolMfaConfig).On(func(s fleet.Scope, in *SetUserPoolMfaConfigInput) []string { return pool(s, in.UserPoolId) }).
			Refuse("EmailMfaConfiguration", "SmsMfaConfiguration"),
		wire.Do("TagResource", a.tagResource).On(func(_ fleet.Scope, in *TagResourceInput) []string { return []string{in.ResourceArn} }).
			Conditions(func(_ fleet.Scope, in *TagResourceInput) map[string][]string { return tagConditions(in.Tags) }),
		wire.Do("UntagResource", a.untagResource).On(func(_ fleet.Scope, in *UntagResourceInput) []string { return []string{in.ResourceArn} }).
			Conditions(func(_ fleet.Scope, in *UntagResourceInput) map[string][]string {
				return map[string][]string{"aws:TagKeys": in.TagKeys}
			}),
		wire.Do("ListTagsForResource", a.listTagsForResource).On(func(_ fleet.Scope, in *ListTagsForResourceInput) []string { return []string{in.ResourceArn} }),

		wire.Do("CreateUserPoolClient", a.createUserPoolClient).On(func(s fleet.Scope, in *CreateUserPoolClientInput) []string { return pool(s, in.UserPoolId) }).
			Refuse("AnalyticsConfiguration"),
		wire.Do("DescribeUserPoolClient", a.describeUserPoolClient).On(func(s fleet.Scope, in *DescribeUserPoolClientInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("ListUserPoolClients", a.listUserPoolClients).On(func(s fleet.Scope, in *ListUserPoolClientsInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("UpdateUserPoolClient", a.updateUserPoolClient).On(func(s fleet.Scope, in *UpdateUserPoolClientInput) []string { return pool(s, in.UserPoolId) }).
			Refuse("AnalyticsConfiguration"),
		wire.Do("DeleteUserPoolClient", a.deleteUserPoolClient).On(func(s fleet.Scope, in *DeleteUserPoolClientInput) []string { return pool(s, in.UserPoolId) }),

		wire.Do("CreateGroup", a.createGroup).On(func(s fleet.Scope, in *CreateGroupInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("GetGroup", a.getGroup).On(func(s fleet.Scope, in *GetGroupInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("UpdateGroup", a.updateGroup).On(func(s fleet.Scope, in *UpdateGroupInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("DeleteGroup", a.deleteGroup).On(func(s fleet.Scope, in *DeleteGroupInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("ListGroups", a.listGroups).On(func(s fleet.Scope, in *ListGroupsInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("ListUsersInGroup", a.listUsersInGroup).On(func(s fleet.Scope, in *ListUsersInGroupInput) []string { return pool(s, in.UserPoolId) }),
	}
}

func (a *api) userRows() []wire.Row {
	return []wire.Row{
		wire.Do("ListUsers", a.listUsers).On(func(s fleet.Scope, in *ListUsersInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminCreateUser", a.adminCreateUser).On(func(s fleet.Scope, in *AdminCreateUserInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminGetUser", a.adminGetUser).On(func(s fleet.Scope, in *AdminGetUserInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminDeleteUser", a.adminDeleteUser).On(func(s fleet.Scope, in *AdminDeleteUserInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminEnableUser", a.adminEnableUser).On(func(s fleet.Scope, in *AdminEnableUserInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminDisableUser", a.adminDisableUser).On(func(s fleet.Scope, in *AdminDisableUserInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminConfirmSignUp", a.adminConfirmSignUp).On(func(s fleet.Scope, in *AdminConfirmSignUpInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminSetUserPassword", a.adminSetUserPassword).On(func(s fleet.Scope, in *AdminSetUserPasswordInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminResetUserPassword", a.adminResetUserPassword).On(func(s fleet.Scope, in *AdminResetUserPasswordInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminUpdateUserAttributes", a.adminUpdateUserAttributes).On(func(s fleet.Scope, in *AdminUpdateUserAttributesInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminDeleteUserAttributes", a.adminDeleteUserAttributes).On(func(s fleet.Scope, in *AdminDeleteUserAttributesInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminUserGlobalSignOut", a.adminUserGlobalSignOut).On(func(s fleet.Scope, in *AdminUserGlobalSignOutInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminSetUserMFAPreference", a.adminSetUserMFAPreference).On(func(s fleet.Scope, in *AdminSetUserMFAPreferenceInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminSetUserSettings", a.adminSetUserSettings).On(func(s fleet.Scope, in *AdminSetUserSettingsInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminAddUserToGroup", a.adminAddUserToGroup).On(func(s fleet.Scope, in *AdminAddUserToGroupInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminRemoveUserFromGroup", a.adminRemoveUserFromGroup).On(func(s fleet.Scope, in *AdminRemoveUserFromGroupInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminListGroupsForUser", a.adminListGroupsForUser).On(func(s fleet.Scope, in *AdminListGroupsForUserInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminInitiateAuth", a.adminInitiateAuth).On(func(s fleet.Scope, in *AdminInitiateAuthInput) []string { return pool(s, in.UserPoolId) }).Refuse("Session"),
		wire.Do("AdminRespondToAuthChallenge", a.adminRespondToAuthChallenge).On(func(s fleet.Scope, in *AdminRespondToAuthChallengeInput) []string { return pool(s, in.UserPoolId) }),
	}
}

func pool(s fleet.Scope, id string) []string { return []string{userpool.ARN(s, id)} }

func tagConditions(tags map[string]string) map[string][]string {
	if len(tags) == 0 {
		return nil
	}
	c := map[string][]string{"aws:TagKeys": slices.Sorted(maps.Keys(tags))}
	for k, v := range tags {
		c["aws:RequestTag/"+k] = []string{v}
	}
	return c
}

func scope(ctx context.Context) fleet.Scope { return fleet.CallerFrom(ctx).Scope }

// limit reads a list's optional size; AWS takes 0 for absent.
func limit(n *int) int {
	if v := wire.Value(n); v > 0 {
		return v
	}
	return 60
}

// text leaves out what is empty.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func attributesIn(list []AttributeType) map[string]string {
	m := make(map[string]string, len(list))
	for _, a := range list {
		m[a.Name] = wire.Value(a.Value)
	}
	return m
}

// attributesOut lists attributes by name, sub first as AWS has it.
func attributesOut(m map[string]string) []AttributeType {
	list := []AttributeType{}
	if sub, ok := m["sub"]; ok {
		list = append(list, AttributeType{Name: "sub", Value: new(sub)})
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if name != "sub" {
			list = append(list, AttributeType{Name: name, Value: new(m[name])})
		}
	}
	return list
}
