package iot

import (
	"context"
	"errors"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) certificateRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateKeysAndCertificate", a.createKeysAndCertificate),
		wire.Do("CreateCertificateFromCsr", a.createCertificateFromCSR),
		wire.Do("RegisterCertificateWithoutCA", a.registerCertificateWithoutCA),
		wire.Do("DescribeCertificate", a.describeCertificate).On(named("cert", func(in *DescribeCertificateInput) string { return certificateID(in.CertificateId) })),
		wire.Do("UpdateCertificate", a.updateCertificate).On(named("cert", func(in *UpdateCertificateInput) string { return certificateID(in.CertificateId) })),
		wire.Do("DeleteCertificate", a.deleteCertificate).On(named("cert", func(in *DeleteCertificateInput) string { return certificateID(in.CertificateId) })),
		wire.Do("ListCertificates", a.listCertificates),
		wire.Do("ListCertificatesByCA", a.listCertificatesByCA),
	}
}

// certificateID is the stored form of an id, which requests may write in upper case or after 0x.
func certificateID(id string) string { return strings.TrimPrefix(strings.ToLower(id), "0x") }

func (a *API) createKeysAndCertificate(ctx context.Context, in *CreateKeysAndCertificateInput) (*CreateKeysAndCertificateOutput, error) {
	c, err := a.Registry.CreateKeysAndCertificate(ctx, scope(ctx), wire.Value(in.SetAsActive))
	if err != nil {
		return nil, err
	}
	return &CreateKeysAndCertificateOutput{CertificateArn: new(scope(ctx).IoT("cert", c.ID)), CertificateId: &c.ID, CertificatePem: &c.PEM,
		KeyPair: &KeyPair{PublicKey: &c.PublicKeyPEM, PrivateKey: &c.PrivateKeyPEM}}, nil
}

func (a *API) createCertificateFromCSR(ctx context.Context, in *CreateCertificateFromCsrInput) (*CreateCertificateFromCsrOutput, error) {
	c, err := a.Registry.CreateCertificateFromCSR(ctx, scope(ctx), in.CertificateSigningRequest, wire.Value(in.SetAsActive))
	if err != nil {
		return nil, withoutTopicCode(err)
	}
	return &CreateCertificateFromCsrOutput{CertificateArn: new(scope(ctx).IoT("cert", c.ID)), CertificateId: &c.ID, CertificatePem: &c.PEM}, nil
}

// withoutTopicCode takes off a code that only the MQTT API has.
func withoutTopicCode(err error) error {
	var e *fleet.Error
	if errors.As(err, &e) && e.Code == "InvalidCertificateSigningRequest" {
		plain := *e
		plain.Code = ""
		return &plain
	}
	return err
}

func (a *API) registerCertificateWithoutCA(ctx context.Context, in *RegisterCertificateWithoutCAInput) (*RegisterCertificateWithoutCAOutput, error) {
	var out RegisterCertificateWithoutCAOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		c, err := registry.RegisterWithoutCA(tx, s, in.CertificatePem, fleet.CertificateStatus(wire.Value(in.Status)))
		out = RegisterCertificateWithoutCAOutput{CertificateArn: new(s.IoT("cert", c.ID)), CertificateId: &c.ID}
		return err
	})
	return &out, err
}

func (a *API) describeCertificate(ctx context.Context, in *DescribeCertificateInput) (*DescribeCertificateOutput, error) {
	var out DescribeCertificateOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		c, err := tx.Certificate(s, certificateID(in.CertificateId))
		out.CertificateDescription = &CertificateDescription{CertificateArn: new(s.IoT("cert", c.ID)), CertificateId: &c.ID, CertificatePem: &c.PEM,
			CaCertificateId: wire.Optional(c.CAID), Status: new(string(c.Status)), CertificateMode: new(string(c.Mode)), OwnedBy: &s.Account,
			CreationDate: &c.Created, LastModifiedDate: &c.Modified, CustomerVersion: new(int(c.Version)), GenerationId: &c.Generation,
			Validity: &CertificateValidity{NotBefore: &c.NotBefore, NotAfter: &c.NotAfter}}
		if err != nil {
			return err
		}
		why, err := provision.WhyPending(tx, s, c)
		if err != nil {
			return err
		}
		out.Explain = inHeader(why)
		return showTransfer(tx, s, out.CertificateDescription)
	})
	return &out, err
}

// inHeader is a sentence as the value of a header, nil if there is nothing to say. Clients of AWS see members that they know; headers all of
// them can show.
func inHeader(text string) *string {
	return wire.Optional(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text))
}

func (a *API) updateCertificate(ctx context.Context, in *UpdateCertificateInput) (*UpdateCertificateOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.SetCertificateStatus(tx, s, certificateID(in.CertificateId), fleet.CertificateStatus(in.NewStatus))
	})
}

func (a *API) deleteCertificate(ctx context.Context, in *DeleteCertificateInput) (*DeleteCertificateOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DeleteCertificate(tx, s, certificateID(in.CertificateId), wire.Value(in.ForceDelete))
	})
}

// certificates is a page of the certificates that pass a filter.
func (a *API) certificates(ctx context.Context, operation string, f store.CertificateFilter, ascending *bool, marker *string, size *int) ([]Certificate, *string, error) {
	desc, sorted := order(ascending)
	l, err := list(ctx, marker, size, operation, f.CA, sorted)
	if err != nil {
		return nil, nil, err
	}
	l.Desc = desc
	out, next := []Certificate{}, ""
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		page, n, err := tx.Certificates(s, f, l.Page)
		for _, c := range page {
			out = append(out, Certificate{CertificateArn: new(s.IoT("cert", c.ID)), CertificateId: &c.ID, Status: new(string(c.Status)),
				CertificateMode: new(string(c.Mode)), CreationDate: &c.Created})
		}
		next = n
		return err
	})
	return out, l.Token(next), err
}

func (a *API) listCertificates(ctx context.Context, in *ListCertificatesInput) (*ListCertificatesOutput, error) {
	page, next, err := a.certificates(ctx, "ListCertificates", store.CertificateFilter{}, in.AscendingOrder, in.Marker, in.PageSize)
	return &ListCertificatesOutput{Certificates: page, NextMarker: next}, err
}

// listCertificatesByCA lists what a customer's CA has signed. A CA that is not registered has signed nothing.
func (a *API) listCertificatesByCA(ctx context.Context, in *ListCertificatesByCAInput) (*ListCertificatesByCAOutput, error) {
	f := store.CertificateFilter{CA: certificateID(in.CaCertificateId)}
	page, next, err := a.certificates(ctx, "ListCertificatesByCA", f, in.AscendingOrder, in.Marker, in.PageSize)
	return &ListCertificatesByCAOutput{Certificates: page, NextMarker: next}, err
}
