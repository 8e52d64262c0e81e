package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// A Provisioner holds the rules of templates, claims and registration; *provision.Service is the one. It checks iam:PassRole
// for the roles that it is given, and each action that a registration takes.
type Provisioner interface {
	CreateTemplate(ctx context.Context, caller *fleet.Caller, t provision.NewTemplate) (fleet.Template, error)
	UpdateTemplate(ctx context.Context, caller *fleet.Caller, name string, c provision.TemplateChange) error
	DeleteTemplate(ctx context.Context, s fleet.Scope, name string) error
	CreateTemplateVersion(ctx context.Context, s fleet.Scope, name, body string, setDefault bool) (fleet.TemplateVersion, error)
	DeleteTemplateVersion(ctx context.Context, s fleet.Scope, name string, id int) error
	CreateClaim(ctx context.Context, caller *fleet.Caller, template string) (*provision.IssuedClaim, error)
	RegisterCA(ctx context.Context, caller *fleet.Caller, n provision.NewCA) (fleet.CA, error)
	UpdateCA(ctx context.Context, caller *fleet.Caller, id string, c provision.CAChange) error
	RegisterInline(ctx context.Context, caller *fleet.Caller, body string, parameters map[string]string) (*provision.InlineResult, error)
}

var _ Provisioner = (*provision.Service)(nil)

// templateKind is the resource type of templates in ARNs.
const templateKind = "provisioningtemplate"

func (a *API) provisioningRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateProvisioningTemplate", a.createProvisioningTemplate).
			On(named(templateKind, func(in *CreateProvisioningTemplateInput) string { return in.TemplateName })).
			Conditions(tagging(func(in *CreateProvisioningTemplateInput) []Tag { return in.Tags })),
		wire.Do("DescribeProvisioningTemplate", a.describeProvisioningTemplate).
			On(named(templateKind, func(in *DescribeProvisioningTemplateInput) string { return in.TemplateName })),
		wire.Do("UpdateProvisioningTemplate", a.updateProvisioningTemplate).
			On(named(templateKind, func(in *UpdateProvisioningTemplateInput) string { return in.TemplateName })),
		wire.Do("DeleteProvisioningTemplate", a.deleteProvisioningTemplate).
			On(named(templateKind, func(in *DeleteProvisioningTemplateInput) string { return in.TemplateName })),
		wire.Do("ListProvisioningTemplates", a.listProvisioningTemplates),
		wire.Do("CreateProvisioningTemplateVersion", a.createProvisioningTemplateVersion).
			On(named(templateKind, func(in *CreateProvisioningTemplateVersionInput) string { return in.TemplateName })),
		wire.Do("DescribeProvisioningTemplateVersion", a.describeProvisioningTemplateVersion).
			On(named(templateKind, func(in *DescribeProvisioningTemplateVersionInput) string { return in.TemplateName })),
		wire.Do("ListProvisioningTemplateVersions", a.listProvisioningTemplateVersions).
			On(named(templateKind, func(in *ListProvisioningTemplateVersionsInput) string { return in.TemplateName })),
		wire.Do("DeleteProvisioningTemplateVersion", a.deleteProvisioningTemplateVersion).
			On(named(templateKind, func(in *DeleteProvisioningTemplateVersionInput) string { return in.TemplateName })),
		wire.Do("CreateProvisioningClaim", a.createProvisioningClaim).
			On(named(templateKind, func(in *CreateProvisioningClaimInput) string { return in.TemplateName })),
		wire.Do("RegisterThing", a.registerThing),
	}
}

func hookFrom(h *ProvisioningHook) *fleet.Hook {
	if h == nil {
		return nil
	}
	return &fleet.Hook{PayloadVersion: wire.Value(h.PayloadVersion), TargetARN: h.TargetArn}
}

func (a *API) createProvisioningTemplate(ctx context.Context, in *CreateProvisioningTemplateInput) (*CreateProvisioningTemplateOutput, error) {
	t, err := a.Provision.CreateTemplate(ctx, fleet.CallerFrom(ctx), provision.NewTemplate{Name: in.TemplateName, Description: wire.Value(in.Description),
		Body: in.TemplateBody, RoleARN: in.ProvisioningRoleArn, Type: fleet.TemplateType(wire.Value(in.Type)), Enabled: in.Enabled,
		Hook: hookFrom(in.PreProvisioningHook), Tags: tagsFrom(in.Tags)})
	if err != nil {
		return nil, err
	}
	return &CreateProvisioningTemplateOutput{TemplateArn: new(scope(ctx).IoT(templateKind, t.Name)), TemplateName: &t.Name, DefaultVersionId: &t.Default}, nil
}

func (a *API) describeProvisioningTemplate(ctx context.Context, in *DescribeProvisioningTemplateInput) (*DescribeProvisioningTemplateOutput, error) {
	var out DescribeProvisioningTemplateOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, err := tx.Template(s, in.TemplateName)
		out = DescribeProvisioningTemplateOutput{TemplateArn: new(s.IoT(templateKind, t.Name)), TemplateName: &t.Name, Description: wire.Optional(t.Description),
			Type: new(string(t.Type)), TemplateBody: &t.Body, DefaultVersionId: &t.Default, Enabled: new(wire.Value(t.Enabled)),
			ProvisioningRoleArn: &t.RoleARN, CreationDate: &t.Created, LastModifiedDate: &t.Modified}
		if t.Hook != nil {
			out.PreProvisioningHook = &ProvisioningHook{PayloadVersion: wire.Optional(t.Hook.PayloadVersion), TargetArn: t.Hook.TargetARN}
		}
		return err
	})
	return &out, err
}

func (a *API) updateProvisioningTemplate(ctx context.Context, in *UpdateProvisioningTemplateInput) (*UpdateProvisioningTemplateOutput, error) {
	return nil, a.Provision.UpdateTemplate(ctx, fleet.CallerFrom(ctx), in.TemplateName, provision.TemplateChange{Description: in.Description, Enabled: in.Enabled,
		Default: in.DefaultVersionId, RoleARN: in.ProvisioningRoleArn, Hook: hookFrom(in.PreProvisioningHook), RemoveHook: wire.Value(in.RemovePreProvisioningHook)})
}

func (a *API) deleteProvisioningTemplate(ctx context.Context, in *DeleteProvisioningTemplateInput) (*DeleteProvisioningTemplateOutput, error) {
	return nil, a.Provision.DeleteTemplate(ctx, scope(ctx), in.TemplateName)
}

func (a *API) listProvisioningTemplates(ctx context.Context, in *ListProvisioningTemplatesInput) (*ListProvisioningTemplatesOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListProvisioningTemplates")
	if err != nil {
		return nil, err
	}
	out := ListProvisioningTemplatesOutput{Templates: []ProvisioningTemplateSummary{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		templates, next, err := tx.Templates(s, l.Page)
		for _, t := range templates {
			out.Templates = append(out.Templates, ProvisioningTemplateSummary{TemplateArn: new(s.IoT(templateKind, t.Name)), TemplateName: &t.Name,
				Description: wire.Optional(t.Description), Type: new(string(t.Type)), Enabled: new(wire.Value(t.Enabled)), CreationDate: &t.Created, LastModifiedDate: &t.Modified})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return &out, err
}

func (a *API) createProvisioningTemplateVersion(ctx context.Context, in *CreateProvisioningTemplateVersionInput) (*CreateProvisioningTemplateVersionOutput, error) {
	v, err := a.Provision.CreateTemplateVersion(ctx, scope(ctx), in.TemplateName, in.TemplateBody, wire.Value(in.SetAsDefault))
	if err != nil {
		return nil, err
	}
	return &CreateProvisioningTemplateVersionOutput{TemplateArn: new(scope(ctx).IoT(templateKind, in.TemplateName)), TemplateName: &in.TemplateName,
		VersionId: &v.ID, IsDefaultVersion: &v.Default}, nil
}

func (a *API) describeProvisioningTemplateVersion(ctx context.Context, in *DescribeProvisioningTemplateVersionInput) (*DescribeProvisioningTemplateVersionOutput, error) {
	var out DescribeProvisioningTemplateVersionOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		v, err := tx.TemplateVersion(s, in.TemplateName, in.VersionId)
		out = DescribeProvisioningTemplateVersionOutput{VersionId: &v.ID, TemplateBody: &v.Body, IsDefaultVersion: &v.Default, CreationDate: &v.Created}
		return err
	})
	return &out, err
}

func (a *API) listProvisioningTemplateVersions(ctx context.Context, in *ListProvisioningTemplateVersionsInput) (*ListProvisioningTemplateVersionsOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListProvisioningTemplateVersions", in.TemplateName)
	if err != nil {
		return nil, err
	}
	out := ListProvisioningTemplateVersionsOutput{Versions: []ProvisioningTemplateVersionSummary{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if _, err := tx.Template(s, in.TemplateName); err != nil {
			return err
		}
		versions, next, err := tx.TemplateVersions(s, in.TemplateName, l.Page)
		for _, v := range versions {
			out.Versions = append(out.Versions, ProvisioningTemplateVersionSummary{VersionId: &v.ID, IsDefaultVersion: &v.Default, CreationDate: &v.Created})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return &out, err
}

func (a *API) deleteProvisioningTemplateVersion(ctx context.Context, in *DeleteProvisioningTemplateVersionInput) (*DeleteProvisioningTemplateVersionOutput, error) {
	return nil, a.Provision.DeleteTemplateVersion(ctx, scope(ctx), in.TemplateName, in.VersionId)
}

// createProvisioningClaim has no ARN in its answer: a claim is no registered certificate.
func (a *API) createProvisioningClaim(ctx context.Context, in *CreateProvisioningClaimInput) (*CreateProvisioningClaimOutput, error) {
	c, err := a.Provision.CreateClaim(ctx, fleet.CallerFrom(ctx), in.TemplateName)
	if err != nil {
		return nil, err
	}
	return &CreateProvisioningClaimOutput{CertificateId: &c.ID, CertificatePem: &c.CertificatePEM, Expiration: &c.Expires,
		KeyPair: &KeyPair{PublicKey: &c.PublicKeyPEM, PrivateKey: &c.PrivateKeyPEM}}, nil
}

func (a *API) registerThing(ctx context.Context, in *RegisterThingInput) (*RegisterThingOutput, error) {
	r, err := a.Provision.RegisterInline(ctx, fleet.CallerFrom(ctx), in.TemplateBody, in.Parameters)
	if err != nil {
		return nil, err
	}
	return &RegisterThingOutput{CertificatePem: wire.Optional(r.CertificatePEM), ResourceArns: r.ResourceARNs}, nil
}
