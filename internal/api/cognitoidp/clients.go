package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) createUserPoolClient(ctx context.Context, in *CreateUserPoolClientInput) (*CreateUserPoolClientOutput, error) {
	c, err := a.pools.CreateClient(ctx, scope(ctx), in.UserPoolId, userpool.NewClient{
		Name: in.ClientName, GenerateSecret: wire.Value(in.GenerateSecret), Secret: wire.Value(in.ClientSecret),
		ClientSettings: clientSettings(&UpdateUserPoolClientInput{
			AccessTokenValidity: in.AccessTokenValidity, AllowedOAuthFlows: in.AllowedOAuthFlows,
			AllowedOAuthFlowsUserPoolClient: in.AllowedOAuthFlowsUserPoolClient, AllowedOAuthScopes: in.AllowedOAuthScopes,
			AuthSessionValidity: in.AuthSessionValidity, CallbackURLs: in.CallbackURLs, DefaultRedirectURI: in.DefaultRedirectURI,
			EnablePropagateAdditionalUserContextData: in.EnablePropagateAdditionalUserContextData, EnableTokenRevocation: in.EnableTokenRevocation,
			ExplicitAuthFlows: in.ExplicitAuthFlows, IdTokenValidity: in.IdTokenValidity, LogoutURLs: in.LogoutURLs,
			PreventUserExistenceErrors: in.PreventUserExistenceErrors, ReadAttributes: in.ReadAttributes,
			RefreshTokenRotation: in.RefreshTokenRotation, RefreshTokenValidity: in.RefreshTokenValidity,
			SupportedIdentityProviders: in.SupportedIdentityProviders, TokenValidityUnits: in.TokenValidityUnits, WriteAttributes: in.WriteAttributes,
		}),
	})
	if err != nil {
		return nil, err
	}
	return &CreateUserPoolClientOutput{UserPoolClient: clientOut(c)}, nil
}

func (a *api) describeUserPoolClient(ctx context.Context, in *DescribeUserPoolClientInput) (*DescribeUserPoolClientOutput, error) {
	c, err := a.pools.Client(ctx, scope(ctx), in.UserPoolId, in.ClientId)
	if err != nil {
		return nil, err
	}
	return &DescribeUserPoolClientOutput{UserPoolClient: clientOut(c)}, nil
}

func (a *api) listUserPoolClients(ctx context.Context, in *ListUserPoolClientsInput) (*ListUserPoolClientsOutput, error) {
	clients, next, err := a.pools.Clients(ctx, scope(ctx), in.UserPoolId, wire.Value(in.NextToken), limit(in.MaxResults))
	if err != nil {
		return nil, err
	}
	out := &ListUserPoolClientsOutput{UserPoolClients: []UserPoolClientDescription{}, NextToken: text(next)}
	for _, c := range clients {
		out.UserPoolClients = append(out.UserPoolClients, UserPoolClientDescription{ClientId: new(c.ID), ClientName: new(c.Name), UserPoolId: new(c.PoolID)})
	}
	return out, nil
}

func (a *api) updateUserPoolClient(ctx context.Context, in *UpdateUserPoolClientInput) (*UpdateUserPoolClientOutput, error) {
	c, err := a.pools.UpdateClient(ctx, scope(ctx), in.UserPoolId, in.ClientId, wire.Value(in.ClientName), clientSettings(in))
	if err != nil {
		return nil, err
	}
	return &UpdateUserPoolClientOutput{UserPoolClient: clientOut(c)}, nil
}

func (a *api) deleteUserPoolClient(ctx context.Context, in *DeleteUserPoolClientInput) (*DeleteUserPoolClientOutput, error) {
	return nil, a.pools.DeleteClient(ctx, scope(ctx), in.UserPoolId, in.ClientId)
}

// clientSettings reads what creation and update have in common.
func clientSettings(in *UpdateUserPoolClientInput) userpool.ClientSettings {
	s := userpool.ClientSettings{
		AuthFlows: in.ExplicitAuthFlows, AccessValidity: in.AccessTokenValidity, IDValidity: in.IdTokenValidity,
		RefreshValidity: in.RefreshTokenValidity, SessionMinutes: wire.Value(in.AuthSessionValidity),
		ReadAttributes: in.ReadAttributes, WriteAttributes: in.WriteAttributes,
		NoRevocation:     in.EnableTokenRevocation != nil && !*in.EnableTokenRevocation,
		ShowUnknownUsers: wire.Value(in.PreventUserExistenceErrors) == "LEGACY",
		Providers:        in.SupportedIdentityProviders, CallbackURLs: in.CallbackURLs, LogoutURLs: in.LogoutURLs,
		DefaultRedirect: wire.Value(in.DefaultRedirectURI), OAuthFlows: in.AllowedOAuthFlows, OAuthScopes: in.AllowedOAuthScopes,
		OAuth: wire.Value(in.AllowedOAuthFlowsUserPoolClient), PropagateContext: wire.Value(in.EnablePropagateAdditionalUserContextData),
	}
	if u := in.TokenValidityUnits; u != nil {
		s.AccessUnit, s.IDUnit, s.RefreshUnit = wire.Value(u.AccessToken), wire.Value(u.IdToken), wire.Value(u.RefreshToken)
	}
	if r := in.RefreshTokenRotation; r != nil {
		s.Rotation = &userpool.Rotation{Enabled: r.Feature == "ENABLED", GraceSeconds: wire.Value(r.RetryGracePeriodSeconds)}
	}
	return s
}

func clientOut(c *userpool.Client) *UserPoolClientType {
	out := &UserPoolClientType{
		UserPoolId: new(c.PoolID), ClientId: new(c.ID), ClientName: new(c.Name), CreationDate: new(c.Created), LastModifiedDate: new(c.Modified),
		ExplicitAuthFlows: c.AuthFlows, AccessTokenValidity: c.AccessValidity, IdTokenValidity: c.IDValidity, RefreshTokenValidity: c.RefreshValidity,
		TokenValidityUnits:  &TokenValidityUnitsType{AccessToken: text(c.AccessUnit), IdToken: text(c.IDUnit), RefreshToken: text(c.RefreshUnit)},
		AuthSessionValidity: new(c.SessionMinutes), ReadAttributes: c.ReadAttributes, WriteAttributes: c.WriteAttributes,
		EnableTokenRevocation: new(!c.NoRevocation), PreventUserExistenceErrors: new("ENABLED"),
		SupportedIdentityProviders: c.Providers, CallbackURLs: c.CallbackURLs, LogoutURLs: c.LogoutURLs, DefaultRedirectURI: text(c.DefaultRedirect),
		AllowedOAuthFlows: c.OAuthFlows, AllowedOAuthScopes: c.OAuthScopes, AllowedOAuthFlowsUserPoolClient: new(c.OAuth),
		EnablePropagateAdditionalUserContextData: new(c.PropagateContext),
	}
	if out.RefreshTokenValidity == nil || *out.RefreshTokenValidity == 0 {
		out.RefreshTokenValidity = new(30)
	}
	if c.ShowUnknownUsers {
		out.PreventUserExistenceErrors = new("LEGACY")
	}
	if c.Secret != "" {
		out.ClientSecret = new(c.Secret)
	}
	if c.Rotation != nil {
		out.RefreshTokenRotation = &RefreshTokenRotationType{Feature: "DISABLED", RetryGracePeriodSeconds: new(c.Rotation.GraceSeconds)}
		if c.Rotation.Enabled {
			out.RefreshTokenRotation.Feature = "ENABLED"
		}
	}
	return out
}
