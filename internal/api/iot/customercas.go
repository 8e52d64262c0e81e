package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// caKind is the resource type of customers' CAs in ARNs.
const caKind = "cacert"

func (a *API) caRows() []wire.Row {
	return []wire.Row{
		wire.Do("GetRegistrationCode", a.getRegistrationCode),
		wire.Do("DeleteRegistrationCode", a.deleteRegistrationCode),
		wire.Do("RegisterCACertificate", a.registerCACertificate).Conditions(tagging(func(in *RegisterCACertificateInput) []Tag { return in.Tags })),
		wire.Do("DescribeCACertificate", a.describeCACertificate).On(named(caKind, func(in *DescribeCACertificateInput) string { return certificateID(in.CertificateId) })),
		wire.Do("UpdateCACertificate", a.updateCACertificate).On(named(caKind, func(in *UpdateCACertificateInput) string { return certificateID(in.CertificateId) })),
		wire.Do("DeleteCACertificate", a.deleteCACertificate).On(named(caKind, func(in *DeleteCACertificateInput) string { return certificateID(in.CertificateId) })),
		wire.Do("ListCACertificates", a.listCACertificates),
		wire.Do("RegisterCertificate", a.registerCertificate),
	}
}

// codeDigits is the length of a registration code, in hexadecimal digits.
const codeDigits = 64

func (a *API) getRegistrationCode(ctx context.Context, _ *GetRegistrationCodeInput) (*GetRegistrationCodeOutput, error) {
	fresh, code := fleet.RandomString(codeDigits, fleet.AlphaHex), ""
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) (err error) {
		code, err = registry.RegistrationCode(tx, s, fresh)
		return err
	})
	return &GetRegistrationCodeOutput{RegistrationCode: &code}, err
}

func (a *API) deleteRegistrationCode(ctx context.Context, _ *DeleteRegistrationCodeInput) (*DeleteRegistrationCodeOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return tx.DeleteRegistrationCode(s) })
}

func configFrom(c *RegistrationConfig) *fleet.RegistrationConfig {
	if c == nil || *c == (RegistrationConfig{}) {
		return nil
	}
	return &fleet.RegistrationConfig{Template: wire.Value(c.TemplateName), Body: wire.Value(c.TemplateBody), RoleARN: wire.Value(c.RoleArn)}
}

func (a *API) registerCACertificate(ctx context.Context, in *RegisterCACertificateInput) (*RegisterCACertificateOutput, error) {
	c, err := a.Provision.RegisterCA(ctx, fleet.CallerFrom(ctx), provision.NewCA{PEM: in.CaCertificate, Verification: wire.Value(in.VerificationCertificate),
		Mode: fleet.CertificateMode(wire.Value(in.CertificateMode)), Active: wire.Value(in.SetAsActive), Auto: wire.Value(in.AllowAutoRegistration),
		Config: configFrom(in.RegistrationConfig), Tags: tagsFrom(in.Tags)})
	return &RegisterCACertificateOutput{CertificateArn: new(scope(ctx).IoT(caKind, c.ID)), CertificateId: &c.ID}, err
}

const (
	autoEnabled  = "ENABLE"
	autoDisabled = "DISABLE"
)

func (a *API) describeCACertificate(ctx context.Context, in *DescribeCACertificateInput) (*DescribeCACertificateOutput, error) {
	var out DescribeCACertificateOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		c, err := tx.CA(s, certificateID(in.CertificateId))
		auto := autoDisabled
		if c.Auto {
			auto = autoEnabled
		}
		out.CertificateDescription = &CACertificateDescription{CertificateArn: new(s.IoT(caKind, c.ID)), CertificateId: &c.ID, CertificatePem: &c.PEM,
			Status: new(string(c.Status)), CertificateMode: new(string(c.Mode)), AutoRegistrationStatus: &auto, OwnedBy: &s.Account, CreationDate: &c.Created,
			LastModifiedDate: &c.Modified, CustomerVersion: new(int(c.Version)), GenerationId: &c.Generation, Validity: &CertificateValidity{NotBefore: &c.NotBefore, NotAfter: &c.NotAfter}}
		if c.Config != (fleet.RegistrationConfig{}) {
			out.RegistrationConfig = &RegistrationConfig{TemplateName: wire.Optional(c.Config.Template), TemplateBody: wire.Optional(c.Config.Body), RoleArn: wire.Optional(c.Config.RoleARN)}
		}
		return err
	})
	return &out, err
}

func (a *API) updateCACertificate(ctx context.Context, in *UpdateCACertificateInput) (*UpdateCACertificateOutput, error) {
	change := provision.CAChange{Status: fleet.CertificateStatus(wire.Value(in.NewStatus)), Config: configFrom(in.RegistrationConfig), RemoveConfig: wire.Value(in.RemoveAutoRegistration)}
	if in.NewAutoRegistrationStatus != nil {
		change.Auto = new(*in.NewAutoRegistrationStatus == autoEnabled)
	}
	return nil, a.Provision.UpdateCA(ctx, fleet.CallerFrom(ctx), certificateID(in.CertificateId), change)
}

func (a *API) deleteCACertificate(ctx context.Context, in *DeleteCACertificateInput) (*DeleteCACertificateOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DeleteCA(tx, s, certificateID(in.CertificateId))
	})
}

func (a *API) listCACertificates(ctx context.Context, in *ListCACertificatesInput) (*ListCACertificatesOutput, error) {
	desc, sorted := order(in.AscendingOrder)
	l, err := list(ctx, in.Marker, in.PageSize, "ListCACertificates", wire.Value(in.TemplateName), sorted)
	if err != nil {
		return nil, err
	}
	l.Desc = desc
	out := ListCACertificatesOutput{Certificates: []CACertificate{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		page, next, err := tx.CAs(s, wire.Value(in.TemplateName), l.Page)
		for _, c := range page {
			out.Certificates = append(out.Certificates, CACertificate{CertificateArn: new(s.IoT(caKind, c.ID)), CertificateId: &c.ID, Status: new(string(c.Status)), CreationDate: &c.Created})
		}
		out.NextMarker = l.Token(next)
		return err
	})
	return &out, err
}

// registerCertificate takes status; where that is not given, the older setAsActive counts (provisioning spec 6.4).
func (a *API) registerCertificate(ctx context.Context, in *RegisterCertificateInput) (*RegisterCertificateOutput, error) {
	status := fleet.CertificateStatus(wire.Value(in.Status))
	if status == "" && wire.Value(in.SetAsActive) {
		status = fleet.Active
	}
	var out RegisterCertificateOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		c, err := registry.RegisterCertificate(tx, s, in.CertificatePem, wire.Value(in.CaCertificatePem), status)
		out = RegisterCertificateOutput{CertificateArn: new(s.IoT("cert", c.ID)), CertificateId: &c.ID}
		return err
	})
	return &out, err
}
