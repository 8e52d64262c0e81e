package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) domainRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateDomainConfiguration", a.createDomainConfiguration).
			On(domain(func(in *CreateDomainConfigurationInput) string { return in.DomainConfigurationName })).
			Conditions(tagging(func(in *CreateDomainConfigurationInput) []Tag { return in.Tags })).
			Refuse("AuthorizerConfig", "ServerCertificateArns", "ValidationCertificateArn", "ServerCertificateConfig", "ClientCertificateConfig"),
		wire.Do("DescribeDomainConfiguration", a.describeDomainConfiguration).
			On(domain(func(in *DescribeDomainConfigurationInput) string { return in.DomainConfigurationName })),
		wire.Do("UpdateDomainConfiguration", a.updateDomainConfiguration).
			On(domain(func(in *UpdateDomainConfigurationInput) string { return in.DomainConfigurationName })).
			Refuse("AuthorizerConfig", "RemoveAuthorizerConfig", "ServerCertificateConfig", "ClientCertificateConfig"),
		wire.Do("DeleteDomainConfiguration", a.deleteDomainConfiguration).
			On(domain(func(in *DeleteDomainConfigurationInput) string { return in.DomainConfigurationName })),
		wire.Do("ListDomainConfigurations", a.listDomainConfigurations),
	}
}

// domain is the resource of an operation on a domain configuration.
func domain[In any](name func(*In) string) func(fleet.Scope, *In) []string {
	return func(s fleet.Scope, in *In) []string { return []string{domainARN(s, name(in))} }
}

func domainARN(s fleet.Scope, name string) string { return s.ARN("iot", fleet.DomainResource(s, name)) }

func securityPolicy(c *TlsConfig) *string {
	if c == nil {
		return nil
	}
	return c.SecurityPolicy
}

func (a *API) createDomainConfiguration(ctx context.Context, in *CreateDomainConfigurationInput) (*CreateDomainConfigurationOutput, error) {
	spec := registry.DomainSpec{Domain: wire.Value(in.DomainName), Service: wire.Value(in.ServiceType), SecurityPolicy: securityPolicy(in.TlsConfig),
		Authentication: in.AuthenticationType, Protocol: in.ApplicationProtocol, Tags: tagsFrom(in.Tags)}
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return a.Registry.CreateDomain(tx, s, in.DomainConfigurationName, spec)
	})
	return &CreateDomainConfigurationOutput{DomainConfigurationName: &in.DomainConfigurationName,
		DomainConfigurationArn: new(domainARN(scope(ctx), in.DomainConfigurationName))}, err
}

// endpointServices are the services of the domain configurations that every account has, one for each endpoint type.
var endpointServices = map[string]string{"iot:Data-ATS": "DATA", "iot:CredentialProvider": "CREDENTIAL_PROVIDER", "iot:Jobs": "JOBS"}

func (a *API) describeDomainConfiguration(ctx context.Context, in *DescribeDomainConfigurationInput) (*DescribeDomainConfigurationOutput, error) {
	out := DescribeDomainConfigurationOutput{DomainConfigurationName: &in.DomainConfigurationName, DomainConfigurationArn: new(domainARN(scope(ctx), in.DomainConfigurationName)),
		DomainConfigurationStatus: new("ENABLED"), ServiceType: new("DATA"), ServerCertificates: []ServerCertificateSummary{}}
	if service, reserved := endpointServices[in.DomainConfigurationName]; reserved {
		host, err := a.Registry.Endpoint(ctx, scope(ctx), in.DomainConfigurationName)
		out.DomainName, out.DomainType, out.ServiceType = &host, new("ENDPOINT"), &service
		return &out, err
	}
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		d, err := tx.Domain(s, in.DomainConfigurationName)
		out.DomainName, out.DomainType, out.LastStatusChangeDate = &d.Domain, new("CUSTOMER_MANAGED"), &d.Changed
		if d.Managed {
			out.DomainType = new("AWS_MANAGED")
		}
		if !d.Enabled {
			out.DomainConfigurationStatus = new("DISABLED")
		}
		out.TlsConfig, out.AuthenticationType, out.ApplicationProtocol = &TlsConfig{SecurityPolicy: &d.SecurityPolicy}, &d.Authentication, &d.Protocol
		return err
	})
	return &out, err
}

func (a *API) updateDomainConfiguration(ctx context.Context, in *UpdateDomainConfigurationInput) (*UpdateDomainConfigurationOutput, error) {
	spec := registry.DomainSpec{SecurityPolicy: securityPolicy(in.TlsConfig), Authentication: in.AuthenticationType, Protocol: in.ApplicationProtocol}
	if in.DomainConfigurationStatus != nil {
		spec.Enabled = new(*in.DomainConfigurationStatus == "ENABLED")
	}
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.UpdateDomain(tx, s, in.DomainConfigurationName, spec)
	})
	return &UpdateDomainConfigurationOutput{DomainConfigurationName: &in.DomainConfigurationName,
		DomainConfigurationArn: new(domainARN(scope(ctx), in.DomainConfigurationName))}, err
}

func (a *API) deleteDomainConfiguration(ctx context.Context, in *DeleteDomainConfigurationInput) (*DeleteDomainConfigurationOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DeleteDomain(tx, s, in.DomainConfigurationName)
	})
}

// listDomainConfigurations lists what the account has made: all of it serves DATA.
func (a *API) listDomainConfigurations(ctx context.Context, in *ListDomainConfigurationsInput) (*ListDomainConfigurationsOutput, error) {
	service := wire.Value(in.ServiceType)
	l, err := list(ctx, in.Marker, in.PageSize, "ListDomainConfigurations", service)
	if err != nil {
		return nil, err
	}
	out := ListDomainConfigurationsOutput{DomainConfigurations: []DomainConfigurationSummary{}}
	if service != "" && service != "DATA" {
		return &out, nil
	}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		page, next, err := tx.Domains(s, l.Page)
		for _, d := range page {
			out.DomainConfigurations = append(out.DomainConfigurations, DomainConfigurationSummary{DomainConfigurationName: &d.Name,
				DomainConfigurationArn: new(domainARN(s, d.Name)), ServiceType: new("DATA")})
		}
		out.NextMarker = l.Token(next)
		return err
	})
	return &out, err
}
