package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) providerRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateIdentityProvider", a.createIdentityProvider).On(func(s fleet.Scope, in *CreateIdentityProviderInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("DescribeIdentityProvider", a.describeIdentityProvider).On(func(s fleet.Scope, in *DescribeIdentityProviderInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("UpdateIdentityProvider", a.updateIdentityProvider).On(func(s fleet.Scope, in *UpdateIdentityProviderInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("DeleteIdentityProvider", a.deleteIdentityProvider).On(func(s fleet.Scope, in *DeleteIdentityProviderInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("ListIdentityProviders", a.listIdentityProviders).On(func(s fleet.Scope, in *ListIdentityProvidersInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("GetIdentityProviderByIdentifier", a.getIdentityProviderByIdentifier).On(func(s fleet.Scope, in *GetIdentityProviderByIdentifierInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminLinkProviderForUser", a.adminLinkProviderForUser).On(func(s fleet.Scope, in *AdminLinkProviderForUserInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("AdminDisableProviderForUser", a.adminDisableProviderForUser).On(func(s fleet.Scope, in *AdminDisableProviderForUserInput) []string { return pool(s, in.UserPoolId) }),
	}
}

func (a *api) createIdentityProvider(ctx context.Context, in *CreateIdentityProviderInput) (*CreateIdentityProviderOutput, error) {
	i, err := a.pools.CreateProvider(ctx, scope(ctx), in.UserPoolId, userpool.IdentityProvider{Name: in.ProviderName, Identifiers: in.IdpIdentifiers,
		Provider: federation.Provider{Type: in.ProviderType, Details: detailsIn(in.ProviderDetails), Mapping: in.AttributeMapping}})
	if err != nil {
		return nil, err
	}
	return &CreateIdentityProviderOutput{IdentityProvider: providerOut(i)}, nil
}

func (a *api) describeIdentityProvider(ctx context.Context, in *DescribeIdentityProviderInput) (*DescribeIdentityProviderOutput, error) {
	i, err := a.pools.Provider(ctx, scope(ctx), in.UserPoolId, in.ProviderName)
	if err != nil {
		return nil, err
	}
	return &DescribeIdentityProviderOutput{IdentityProvider: providerOut(i)}, nil
}

func (a *api) updateIdentityProvider(ctx context.Context, in *UpdateIdentityProviderInput) (*UpdateIdentityProviderOutput, error) {
	i, err := a.pools.UpdateProvider(ctx, scope(ctx), in.UserPoolId, in.ProviderName, userpool.ProviderChange{
		Details: detailsIn(in.ProviderDetails), Mapping: in.AttributeMapping, Identifiers: in.IdpIdentifiers})
	if err != nil {
		return nil, err
	}
	return &UpdateIdentityProviderOutput{IdentityProvider: providerOut(i)}, nil
}

func (a *api) deleteIdentityProvider(ctx context.Context, in *DeleteIdentityProviderInput) (*DeleteIdentityProviderOutput, error) {
	return nil, a.pools.DeleteProvider(ctx, scope(ctx), in.UserPoolId, in.ProviderName)
}

func (a *api) listIdentityProviders(ctx context.Context, in *ListIdentityProvidersInput) (*ListIdentityProvidersOutput, error) {
	list, next, err := a.pools.Providers(ctx, scope(ctx), in.UserPoolId, wire.Value(in.NextToken), limit(in.MaxResults))
	if err != nil {
		return nil, err
	}
	out := &ListIdentityProvidersOutput{Providers: []ProviderDescription{}, NextToken: text(next)}
	for _, i := range list {
		out.Providers = append(out.Providers, ProviderDescription{ProviderName: new(i.Name), ProviderType: new(i.Type), CreationDate: new(i.Created), LastModifiedDate: new(i.Modified)})
	}
	return out, nil
}

func (a *api) getIdentityProviderByIdentifier(ctx context.Context, in *GetIdentityProviderByIdentifierInput) (*GetIdentityProviderByIdentifierOutput, error) {
	i, err := a.pools.ProviderByIdentifier(ctx, scope(ctx), in.UserPoolId, in.IdpIdentifier)
	if err != nil {
		return nil, err
	}
	return &GetIdentityProviderByIdentifierOutput{IdentityProvider: providerOut(i)}, nil
}

func (a *api) adminLinkProviderForUser(ctx context.Context, in *AdminLinkProviderForUserInput) (*AdminLinkProviderForUserOutput, error) {
	return nil, a.pools.LinkUser(ctx, scope(ctx), in.UserPoolId, providerUser(in.DestinationUser), providerUser(in.SourceUser))
}

func (a *api) adminDisableProviderForUser(ctx context.Context, in *AdminDisableProviderForUserInput) (*AdminDisableProviderForUserOutput, error) {
	return nil, a.pools.UnlinkUser(ctx, scope(ctx), in.UserPoolId, providerUser(in.User))
}

func providerUser(in *ProviderUserIdentifierType) userpool.ProviderUser {
	return userpool.ProviderUser{Provider: wire.Value(in.ProviderName), Attribute: wire.Value(in.ProviderAttributeName), Value: wire.Value(in.ProviderAttributeValue)}
}

// detailsIn keeps nil apart from empty: an update without details leaves them.
func detailsIn(in map[string]fleet.Secret) map[string]string {
	if in == nil {
		return nil
	}
	out := make(map[string]string, len(in))
	for name, value := range in {
		out[name] = value.Reveal()
	}
	return out
}

// providerOut shows a provider with its secrets, as AWS does.
func providerOut(i *userpool.IdentityProvider) *IdentityProviderType {
	details := make(map[string]fleet.Secret, len(i.Details))
	for name, value := range i.Details {
		details[name] = fleet.Secret(value)
	}
	return &IdentityProviderType{UserPoolId: new(i.PoolID), ProviderName: new(i.Name), ProviderType: new(i.Type), ProviderDetails: details,
		AttributeMapping: i.Mapping, IdpIdentifiers: i.Identifiers, CreationDate: new(i.Created), LastModifiedDate: new(i.Modified)}
}
