package cognitoidp

import (
	"context"
	"strconv"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

// hostedRows are the operations that set up hosted sign-in; the pages themselves are package hosted.
func (a *api) hostedRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateUserPoolDomain", a.createUserPoolDomain).On(func(s fleet.Scope, in *CreateUserPoolDomainInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("DescribeUserPoolDomain", a.describeUserPoolDomain), // names no pool
		wire.Do("UpdateUserPoolDomain", a.updateUserPoolDomain).On(func(s fleet.Scope, in *UpdateUserPoolDomainInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("DeleteUserPoolDomain", a.deleteUserPoolDomain).On(func(s fleet.Scope, in *DeleteUserPoolDomainInput) []string { return pool(s, in.UserPoolId) }),

		wire.Do("CreateResourceServer", a.createResourceServer).On(func(s fleet.Scope, in *CreateResourceServerInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("DescribeResourceServer", a.describeResourceServer).On(func(s fleet.Scope, in *DescribeResourceServerInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("UpdateResourceServer", a.updateResourceServer).On(func(s fleet.Scope, in *UpdateResourceServerInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("DeleteResourceServer", a.deleteResourceServer).On(func(s fleet.Scope, in *DeleteResourceServerInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("ListResourceServers", a.listResourceServers).On(func(s fleet.Scope, in *ListResourceServersInput) []string { return pool(s, in.UserPoolId) }),

		wire.Do("SetUICustomization", a.setUICustomization).On(func(s fleet.Scope, in *SetUICustomizationInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("GetUICustomization", a.getUICustomization).On(func(s fleet.Scope, in *GetUICustomizationInput) []string { return pool(s, in.UserPoolId) }),
	}
}

// domainSettings reads what creation and update have in common.
func domainSettings(custom *CustomDomainConfigType, managedLogin *int) (userpool.DomainSettings, error) {
	s := userpool.DomainSettings{ManagedLogin: wire.Value(managedLogin)}
	if custom != nil {
		if custom.SecurityPolicy != nil {
			return s, wire.RefusedMember("SecurityPolicy", "CustomDomainConfig")
		}
		s.Certificate = custom.CertificateArn
	}
	return s, nil
}

// managedLogin leaves out a version that was never said.
func managedLogin(d userpool.DomainSettings) *int {
	if d.ManagedLogin == 0 {
		return nil
	}
	return new(d.ManagedLogin)
}

func (a *api) createUserPoolDomain(ctx context.Context, in *CreateUserPoolDomainInput) (*CreateUserPoolDomainOutput, error) {
	settings, err := domainSettings(in.CustomDomainConfig, in.ManagedLoginVersion)
	if err != nil {
		return nil, err
	}
	d := userpool.Domain{Scope: scope(ctx), Name: in.Domain, PoolID: in.UserPoolId, Custom: in.CustomDomainConfig != nil, DomainSettings: settings}
	if err := a.pools.CreateDomain(ctx, d); err != nil {
		return nil, err
	}
	out := &CreateUserPoolDomainOutput{ManagedLoginVersion: managedLogin(d.DomainSettings)}
	if d.Custom {
		out.CloudFrontDomain = new(a.pools.Host())
	}
	return out, nil
}

func (a *api) describeUserPoolDomain(ctx context.Context, in *DescribeUserPoolDomainInput) (*DescribeUserPoolDomainOutput, error) {
	d, err := a.pools.Domain(ctx, scope(ctx), in.Domain)
	if err != nil {
		return nil, err
	}
	out := &DescribeUserPoolDomainOutput{DomainDescription: &DomainDescriptionType{}}
	if d == nil { // as AWS says it
		return out, nil
	}
	out.DomainDescription = &DomainDescriptionType{AWSAccountId: new(d.Scope.Account), Domain: new(d.Name), UserPoolId: new(d.PoolID), Status: new("ACTIVE"),
		CloudFrontDistribution: new(a.pools.Host()), Version: new(strconv.FormatInt(d.Modified.UnixMilli(), 10)), ManagedLoginVersion: managedLogin(d.DomainSettings)}
	if d.Custom {
		out.DomainDescription.CustomDomainConfig = &CustomDomainConfigType{CertificateArn: d.Certificate}
	}
	return out, nil
}

func (a *api) updateUserPoolDomain(ctx context.Context, in *UpdateUserPoolDomainInput) (*UpdateUserPoolDomainOutput, error) {
	settings, err := domainSettings(in.CustomDomainConfig, in.ManagedLoginVersion)
	if err != nil {
		return nil, err
	}
	d, err := a.pools.UpdateDomain(ctx, scope(ctx), in.UserPoolId, in.Domain, settings)
	if err != nil {
		return nil, err
	}
	out := &UpdateUserPoolDomainOutput{ManagedLoginVersion: managedLogin(d.DomainSettings)}
	if d.Custom {
		out.CloudFrontDomain = new(a.pools.Host())
	}
	return out, nil
}

func (a *api) deleteUserPoolDomain(ctx context.Context, in *DeleteUserPoolDomainInput) (*DeleteUserPoolDomainOutput, error) {
	return nil, a.pools.DeleteDomain(ctx, scope(ctx), in.UserPoolId, in.Domain)
}

func resourceServer(poolID, identifier, name string, scopes []ResourceServerScopeType) userpool.ResourceServer {
	r := userpool.ResourceServer{PoolID: poolID, Identifier: identifier, Name: name}
	for _, s := range scopes {
		r.Scopes = append(r.Scopes, userpool.ResourceScope{Name: s.ScopeName, Description: s.ScopeDescription})
	}
	return r
}

func resourceServerOut(r userpool.ResourceServer) *ResourceServerType {
	out := &ResourceServerType{UserPoolId: new(r.PoolID), Identifier: new(r.Identifier), Name: new(r.Name), Scopes: []ResourceServerScopeType{}}
	for _, s := range r.Scopes {
		out.Scopes = append(out.Scopes, ResourceServerScopeType{ScopeName: s.Name, ScopeDescription: s.Description})
	}
	return out
}

func (a *api) createResourceServer(ctx context.Context, in *CreateResourceServerInput) (*CreateResourceServerOutput, error) {
	r := resourceServer(in.UserPoolId, in.Identifier, in.Name, in.Scopes)
	return &CreateResourceServerOutput{ResourceServer: resourceServerOut(r)}, a.pools.CreateResourceServer(ctx, scope(ctx), r)
}

func (a *api) updateResourceServer(ctx context.Context, in *UpdateResourceServerInput) (*UpdateResourceServerOutput, error) {
	r := resourceServer(in.UserPoolId, in.Identifier, in.Name, in.Scopes)
	return &UpdateResourceServerOutput{ResourceServer: resourceServerOut(r)}, a.pools.UpdateResourceServer(ctx, scope(ctx), r)
}

func (a *api) describeResourceServer(ctx context.Context, in *DescribeResourceServerInput) (*DescribeResourceServerOutput, error) {
	r, err := a.pools.ResourceServer(ctx, scope(ctx), in.UserPoolId, in.Identifier)
	if err != nil {
		return nil, err
	}
	return &DescribeResourceServerOutput{ResourceServer: resourceServerOut(r)}, nil
}

func (a *api) deleteResourceServer(ctx context.Context, in *DeleteResourceServerInput) (*DeleteResourceServerOutput, error) {
	return nil, a.pools.DeleteResourceServer(ctx, scope(ctx), in.UserPoolId, in.Identifier)
}

func (a *api) listResourceServers(ctx context.Context, in *ListResourceServersInput) (*ListResourceServersOutput, error) {
	size := wire.Value(in.MaxResults)
	if size == 0 {
		size = 50
	}
	list, next, err := a.pools.ResourceServers(ctx, scope(ctx), in.UserPoolId, wire.Value(in.NextToken), size)
	if err != nil {
		return nil, err
	}
	out := &ListResourceServersOutput{ResourceServers: []ResourceServerType{}, NextToken: text(next)}
	for _, r := range list {
		out.ResourceServers = append(out.ResourceServers, *resourceServerOut(r))
	}
	return out, nil
}

// lookOut shows a look with the address of its logo.
func (a *api) lookOut(ctx context.Context, l userpool.Look) (*UICustomizationType, error) {
	out := &UICustomizationType{UserPoolId: new(l.PoolID), ClientId: new(l.Client), CSS: text(l.CSS)}
	if !l.Created.IsZero() {
		out.CreationDate, out.LastModifiedDate = new(l.Created), new(l.Modified)
		out.CSSVersion = new(l.Modified.UTC().Format("20060102150405"))
	}
	if l.ImageType() == "" {
		return out, nil
	}
	base, err := a.pools.PageURL(ctx, scope(ctx), l.PoolID)
	if base != "" {
		out.ImageUrl = new(base + "/oauth2/assets/logo?client=" + l.Client)
	}
	return out, err
}

func (a *api) setUICustomization(ctx context.Context, in *SetUICustomizationInput) (*SetUICustomizationOutput, error) {
	l, err := a.pools.SetLook(ctx, scope(ctx), in.UserPoolId, wire.Value(in.ClientId), in.CSS, in.ImageFile)
	if err != nil {
		return nil, err
	}
	look, err := a.lookOut(ctx, l)
	return &SetUICustomizationOutput{UICustomization: look}, err
}

func (a *api) getUICustomization(ctx context.Context, in *GetUICustomizationInput) (*GetUICustomizationOutput, error) {
	l, err := a.pools.Look(ctx, scope(ctx), in.UserPoolId, wire.Value(in.ClientId))
	if err != nil {
		return nil, err
	}
	look, err := a.lookOut(ctx, l)
	return &GetUICustomizationOutput{UICustomization: look}, err
}
