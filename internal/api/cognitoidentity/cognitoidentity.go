// Package cognitoidentity is the edge of identity pools: the awsJson1_1 service AWSCognitoIdentityService. It translates
// between the wire's structs and the rules in internal/identitypool and decides nothing itself.
//
// Begin with Service; model.gen.go is generated.
package cognitoidentity

import (
	"context"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/identitypool"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Roles says whether a caller may hand a role to a service (iam:PassRole).
type Roles interface {
	PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error
}

// Config says what the edge stands on.
type Config struct {
	Pools *identitypool.Service
	Roles Roles
}

type api struct{ Config }

// Service makes the table. Developer identities have no rows, and pools that name their provider, or SAML's, are refused.
func Service(cfg Config) *wire.Service {
	a := &api{cfg}
	external := []string{"DeveloperProviderName", "SamlProviderARNs"}
	return wire.NewService(Model, []wire.Row{
		wire.Do("CreateIdentityPool", a.createIdentityPool).Refuse(external...),
		wire.Do("UpdateIdentityPool", a.updateIdentityPool).On(func(s fleet.Scope, in *IdentityPool) []string { return arn(s, in.IdentityPoolId) }).Refuse(external...),
		wire.Do("DescribeIdentityPool", a.describeIdentityPool).On(func(s fleet.Scope, in *DescribeIdentityPoolInput) []string { return arn(s, in.IdentityPoolId) }),
		wire.Do("DeleteIdentityPool", a.deleteIdentityPool).On(func(s fleet.Scope, in *DeleteIdentityPoolInput) []string { return arn(s, in.IdentityPoolId) }),
		wire.Do("ListIdentityPools", a.listIdentityPools),
		wire.Do("SetIdentityPoolRoles", a.setIdentityPoolRoles).On(func(s fleet.Scope, in *SetIdentityPoolRolesInput) []string { return arn(s, in.IdentityPoolId) }),
		wire.Do("GetIdentityPoolRoles", a.getIdentityPoolRoles).On(func(s fleet.Scope, in *GetIdentityPoolRolesInput) []string { return arn(s, in.IdentityPoolId) }),
		wire.Do("SetPrincipalTagAttributeMap", a.setPrincipalTagAttributeMap).On(func(s fleet.Scope, in *SetPrincipalTagAttributeMapInput) []string { return arn(s, in.IdentityPoolId) }),
		wire.Do("GetPrincipalTagAttributeMap", a.getPrincipalTagAttributeMap).On(func(s fleet.Scope, in *GetPrincipalTagAttributeMapInput) []string { return arn(s, in.IdentityPoolId) }),
		wire.Do("GetId", a.getID).Public(),
		wire.Do("GetCredentialsForIdentity", a.getCredentialsForIdentity).Public(),
		wire.Do("GetOpenIdToken", a.getOpenIDToken).Public(),
		wire.Do("UnlinkIdentity", a.unlinkIdentity).Public(),
		wire.Do("DescribeIdentity", a.describeIdentity),
		wire.Do("ListIdentities", a.listIdentities).On(func(s fleet.Scope, in *ListIdentitiesInput) []string { return arn(s, in.IdentityPoolId) }),
		wire.Do("DeleteIdentities", a.deleteIdentities),
		wire.Do("TagResource", a.tagResource).On(func(_ fleet.Scope, in *TagResourceInput) []string { return []string{in.ResourceArn} }),
		wire.Do("UntagResource", a.untagResource).On(func(_ fleet.Scope, in *UntagResourceInput) []string { return []string{in.ResourceArn} }),
		wire.Do("ListTagsForResource", a.listTagsForResource).On(func(_ fleet.Scope, in *ListTagsForResourceInput) []string { return []string{in.ResourceArn} }),
	}, wire.ErrorTable{
		fleet.KindInvalid:   "InvalidParameterException",
		fleet.KindNotFound:  "ResourceNotFoundException",
		fleet.KindConflict:  "ResourceConflictException",
		fleet.KindLimit:     "LimitExceededException",
		fleet.KindThrottled: "TooManyRequestsException",
	})
}

func arn(s fleet.Scope, pool string) []string { return []string{identitypool.ARN(s, pool)} }

func scope(ctx context.Context) fleet.Scope { return fleet.CallerFrom(ctx).Scope }

func (a *api) createIdentityPool(ctx context.Context, in *CreateIdentityPoolInput) (*IdentityPool, error) {
	p, err := a.Pools.Create(ctx, scope(ctx), in.IdentityPoolName, in.IdentityPoolTags, identitypool.Settings{
		Guests: in.AllowUnauthenticatedIdentities, Classic: wire.Value(in.AllowClassicFlow), Providers: providersIn(in.CognitoIdentityProviders),
		OIDC: in.OpenIdConnectProviderARNs, Public: in.SupportedLoginProviders})
	if err != nil {
		return nil, err
	}
	return poolOut(p), nil
}

// updateIdentityPool replaces the pool's settings; roles and tag maps have calls of their own and stay.
func (a *api) updateIdentityPool(ctx context.Context, in *IdentityPool) (*IdentityPool, error) {
	p, err := a.Pools.Update(ctx, scope(ctx), in.IdentityPoolId, func(p *identitypool.Pool) {
		p.Name, p.Guests, p.Classic = in.IdentityPoolName, in.AllowUnauthenticatedIdentities, wire.Value(in.AllowClassicFlow)
		p.Providers = providersIn(in.CognitoIdentityProviders)
		p.OIDC, p.Public = in.OpenIdConnectProviderARNs, in.SupportedLoginProviders
		if in.IdentityPoolTags != nil {
			p.Tags = in.IdentityPoolTags
		}
	})
	if err != nil {
		return nil, err
	}
	return poolOut(p), nil
}

func (a *api) describeIdentityPool(ctx context.Context, in *DescribeIdentityPoolInput) (*IdentityPool, error) {
	p, err := a.Pools.Pool(ctx, scope(ctx), in.IdentityPoolId)
	if err != nil {
		return nil, err
	}
	return poolOut(p), nil
}

func (a *api) deleteIdentityPool(ctx context.Context, in *DeleteIdentityPoolInput) (*DeleteIdentityPoolOutput, error) {
	return nil, a.Pools.Delete(ctx, scope(ctx), in.IdentityPoolId)
}

func (a *api) listIdentityPools(ctx context.Context, in *ListIdentityPoolsInput) (*ListIdentityPoolsOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListIdentityPools")
	if err != nil {
		return nil, err
	}
	pools, next, err := a.Pools.Pools(ctx, scope(ctx), l.Page)
	if err != nil {
		return nil, err
	}
	out := &ListIdentityPoolsOutput{IdentityPools: []IdentityPoolShortDescription{}, NextToken: l.Token(next)}
	for _, p := range pools {
		out.IdentityPools = append(out.IdentityPools, IdentityPoolShortDescription{IdentityPoolId: new(p.ID), IdentityPoolName: new(p.Name)})
	}
	return out, nil
}

func (a *api) setIdentityPoolRoles(ctx context.Context, in *SetIdentityPoolRolesInput) (*SetIdentityPoolRolesOutput, error) {
	settings := identitypool.Settings{Roles: in.Roles, Mappings: mappingsIn(in.RoleMappings)}
	for _, role := range settings.RoleARNs() {
		if err := a.Roles.PassRole(ctx, fleet.CallerFrom(ctx), role, fleet.IdentityPools); err != nil {
			return nil, err
		}
	}
	_, err := a.Pools.Update(ctx, scope(ctx), in.IdentityPoolId, func(p *identitypool.Pool) {
		p.Roles, p.Mappings = settings.Roles, settings.Mappings
	})
	return nil, err
}

func (a *api) getIdentityPoolRoles(ctx context.Context, in *GetIdentityPoolRolesInput) (*GetIdentityPoolRolesOutput, error) {
	p, err := a.Pools.Pool(ctx, scope(ctx), in.IdentityPoolId)
	if err != nil {
		return nil, err
	}
	return &GetIdentityPoolRolesOutput{IdentityPoolId: new(p.ID), Roles: p.Roles, RoleMappings: mappingsOut(p.Mappings)}, nil
}

func (a *api) setPrincipalTagAttributeMap(ctx context.Context, in *SetPrincipalTagAttributeMapInput) (*SetPrincipalTagAttributeMapOutput, error) {
	m := identitypool.TagMap{Defaults: wire.Value(in.UseDefaults), Tags: in.PrincipalTags}
	if err := a.Pools.SetTagMap(ctx, scope(ctx), in.IdentityPoolId, in.IdentityProviderName, m); err != nil {
		return nil, err
	}
	return &SetPrincipalTagAttributeMapOutput{IdentityPoolId: new(in.IdentityPoolId), IdentityProviderName: new(in.IdentityProviderName),
		PrincipalTags: m.Tags, UseDefaults: new(m.Defaults)}, nil
}

func (a *api) getPrincipalTagAttributeMap(ctx context.Context, in *GetPrincipalTagAttributeMapInput) (*GetPrincipalTagAttributeMapOutput, error) {
	p, err := a.Pools.Pool(ctx, scope(ctx), in.IdentityPoolId)
	if err != nil {
		return nil, err
	}
	m := a.Pools.TagMap(p, in.IdentityProviderName)
	return &GetPrincipalTagAttributeMapOutput{IdentityPoolId: new(in.IdentityPoolId), IdentityProviderName: new(in.IdentityProviderName),
		PrincipalTags: m.Tags, UseDefaults: new(m.Defaults)}, nil
}

// getID ignores AccountId: a pool's id tells the account, and AWS marks the member as optional.
func (a *api) getID(ctx context.Context, in *GetIdInput) (*GetIdOutput, error) {
	id, err := a.Pools.ID(ctx, in.IdentityPoolId, in.Logins)
	if err != nil {
		return nil, err
	}
	return &GetIdOutput{IdentityId: new(id)}, nil
}

func (a *api) getCredentialsForIdentity(ctx context.Context, in *GetCredentialsForIdentityInput) (*GetCredentialsForIdentityOutput, error) {
	id, c, err := a.Pools.Credentials(ctx, in.IdentityId, in.Logins, wire.Value(in.CustomRoleArn))
	if err != nil {
		return nil, err
	}
	return &GetCredentialsForIdentityOutput{IdentityId: new(id), Credentials: &Credentials{
		AccessKeyId: new(c.AccessKeyID), SecretKey: new(c.Secret), SessionToken: new(c.Token), Expiration: new(c.Expires)}}, nil
}

func (a *api) getOpenIDToken(ctx context.Context, in *GetOpenIdTokenInput) (*GetOpenIdTokenOutput, error) {
	id, token, err := a.Pools.OpenIDToken(ctx, in.IdentityId, in.Logins)
	if err != nil {
		return nil, err
	}
	return &GetOpenIdTokenOutput{IdentityId: new(id), Token: new(token)}, nil
}

func (a *api) unlinkIdentity(ctx context.Context, in *UnlinkIdentityInput) (*UnlinkIdentityOutput, error) {
	return nil, a.Pools.Unlink(ctx, in.IdentityId, in.Logins, in.LoginsToRemove)
}

func (a *api) describeIdentity(ctx context.Context, in *DescribeIdentityInput) (*IdentityDescription, error) {
	i, err := a.Pools.Identity(ctx, scope(ctx), in.IdentityId)
	if err != nil {
		return nil, err
	}
	d := identityOut(i)
	return &d, nil
}

func (a *api) listIdentities(ctx context.Context, in *ListIdentitiesInput) (*ListIdentitiesOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListIdentities", in.IdentityPoolId)
	if err != nil {
		return nil, err
	}
	identities, next, err := a.Pools.Identities(ctx, scope(ctx), in.IdentityPoolId, l.Page)
	if err != nil {
		return nil, err
	}
	out := &ListIdentitiesOutput{IdentityPoolId: new(in.IdentityPoolId), Identities: []IdentityDescription{}, NextToken: l.Token(next)}
	for _, i := range identities {
		out.Identities = append(out.Identities, identityOut(i))
	}
	return out, nil
}

func (a *api) deleteIdentities(ctx context.Context, in *DeleteIdentitiesInput) (*DeleteIdentitiesOutput, error) {
	return &DeleteIdentitiesOutput{UnprocessedIdentityIds: []UnprocessedIdentityId{}}, a.Pools.DeleteIdentities(ctx, scope(ctx), in.IdentityIdsToDelete)
}

// poolID reads the pool's id from an ARN of the scope.
func poolID(s fleet.Scope, text string) (string, error) {
	a, ok := fleet.ParseARN(text)
	if !ok || !a.In(s, "cognito-identity") || a.Kind() != "identitypool" {
		return "", fleet.NotFound("identity pool", text)
	}
	return a.Name(), nil
}

func (a *api) changeTags(ctx context.Context, resource string, change func(map[string]string)) error {
	id, err := poolID(scope(ctx), resource)
	if err != nil {
		return err
	}
	_, err = a.Pools.Update(ctx, scope(ctx), id, func(p *identitypool.Pool) {
		if p.Tags == nil {
			p.Tags = map[string]string{}
		}
		change(p.Tags)
	})
	return err
}

func (a *api) tagResource(ctx context.Context, in *TagResourceInput) (*TagResourceOutput, error) {
	return nil, a.changeTags(ctx, in.ResourceArn, func(tags map[string]string) {
		for k, v := range in.Tags {
			tags[k] = v
		}
	})
}

func (a *api) untagResource(ctx context.Context, in *UntagResourceInput) (*UntagResourceOutput, error) {
	return nil, a.changeTags(ctx, in.ResourceArn, func(tags map[string]string) {
		for _, k := range in.TagKeys {
			delete(tags, k)
		}
	})
}

func (a *api) listTagsForResource(ctx context.Context, in *ListTagsForResourceInput) (*ListTagsForResourceOutput, error) {
	id, err := poolID(scope(ctx), in.ResourceArn)
	if err != nil {
		return nil, err
	}
	p, err := a.Pools.Pool(ctx, scope(ctx), id)
	if err != nil {
		return nil, err
	}
	if p.Tags == nil {
		p.Tags = map[string]string{}
	}
	return &ListTagsForResourceOutput{Tags: p.Tags}, nil
}

// Conversions.

func providersIn(list []CognitoIdentityProvider) (out []identitypool.Provider) {
	for _, p := range list {
		out = append(out, identitypool.Provider{Name: strings.TrimPrefix(wire.Value(p.ProviderName), "https://"),
			ClientID: wire.Value(p.ClientId), ServerCheck: wire.Value(p.ServerSideTokenCheck)})
	}
	return out
}

func poolOut(p *identitypool.Pool) *IdentityPool {
	out := &IdentityPool{IdentityPoolId: p.ID, IdentityPoolName: p.Name, AllowUnauthenticatedIdentities: p.Guests,
		AllowClassicFlow: new(p.Classic), IdentityPoolTags: p.Tags, CognitoIdentityProviders: []CognitoIdentityProvider{},
		OpenIdConnectProviderARNs: p.OIDC, SupportedLoginProviders: p.Public}
	for _, c := range p.Providers {
		out.CognitoIdentityProviders = append(out.CognitoIdentityProviders,
			CognitoIdentityProvider{ProviderName: new(c.Name), ClientId: new(c.ClientID), ServerSideTokenCheck: new(c.ServerCheck)})
	}
	return out
}

func mappingsIn(in map[string]RoleMapping) map[string]identitypool.Mapping {
	out := map[string]identitypool.Mapping{}
	for key, m := range in {
		to := identitypool.Mapping{Type: m.Type, Ambiguous: wire.Value(m.AmbiguousRoleResolution)}
		if m.RulesConfiguration != nil {
			for _, r := range m.RulesConfiguration.Rules {
				to.Rules = append(to.Rules, identitypool.Rule{Claim: r.Claim, Match: r.MatchType, Value: r.Value, RoleARN: r.RoleARN})
			}
		}
		out[key] = to
	}
	return out
}

func mappingsOut(in map[string]identitypool.Mapping) map[string]RoleMapping {
	out := map[string]RoleMapping{}
	for key, m := range in {
		to := RoleMapping{Type: m.Type, AmbiguousRoleResolution: new(m.Ambiguous)}
		if len(m.Rules) > 0 {
			to.RulesConfiguration = &RulesConfigurationType{}
			for _, r := range m.Rules {
				to.RulesConfiguration.Rules = append(to.RulesConfiguration.Rules, MappingRule{Claim: r.Claim, MatchType: r.Match, Value: r.Value, RoleARN: r.RoleARN})
			}
		}
		out[key] = to
	}
	return out
}

func identityOut(i store.Identity) IdentityDescription {
	d := IdentityDescription{IdentityId: new(i.ID), Logins: []string{}, CreationDate: times(i.Created), LastModifiedDate: times(i.Modified)}
	for provider := range i.Logins {
		d.Logins = append(d.Logins, provider)
	}
	return d
}

func times(t time.Time) *time.Time { return &t }

// list begins or continues a list. question is the operation and whatever else decides which entries come.
func list(ctx context.Context, token *string, limit int, question ...string) (wire.Listing, error) {
	s := scope(ctx)
	l, ok := wire.NewListing(token, &limit, limit, append([]string{s.Account, s.Region}, question...)...)
	if !ok {
		return l, fleet.Invalid("", "", "NextToken does not continue this list; begin without one").WithCode("InvalidParameterException")
	}
	return l, nil
}
