package provision

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// InlineResult is the answer to RegisterThing over HTTPS (provisioning spec 6.1).
type InlineResult struct {
	CertificatePEM string            // "" when the body has no certificate
	ResourceARNs   map[string]string // by logical name; policies that existed under their name are not in it
}

// codeRegistration is AWS's code for any step that fails once the body is understood.
const codeRegistration = "ResourceRegistrationFailureException"

// RegisterInline registers a thing with a template that stands in the call. Whoever calls wrote the template and gives the
// parameters, so there is no guard; but caller must hold every permission that the plan takes, or RegisterThing would be a way around
// all of them. Errors are of KindInvalid for the body and the parameters, of KindDenied, and otherwise have AWS's code for a step
// that failed.
func (p *Service) RegisterInline(ctx context.Context, caller *fleet.Caller, body string, params map[string]string) (*InlineResult, error) {
	t, err := template.Parse(body, template.Inline)
	if err != nil {
		return nil, err
	}
	d, err := p.PrepareInline(ctx, caller, t, params)
	if err != nil {
		return nil, err
	}
	var out *InlineResult
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		out, _, err = p.WriteInline(tx, caller, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// PrepareInline is what can be done of such a registration before its transaction: the template is evaluated, and the certificate
// that a CSR asks for is signed. Errors are those of RegisterInline.
func (p *Service) PrepareInline(ctx context.Context, caller *fleet.Caller, t *template.Template, params map[string]string) (*template.Desired, error) {
	d, err := t.Evaluate(params, nil)
	if err != nil {
		return nil, err
	}
	if d.Certificate != nil {
		if err := p.bringCertificate(ctx, caller, d.Certificate); err != nil {
			return nil, stepFailed(err)
		}
	}
	return d, nil
}

// stepFailed gives a domain error AWS's code for a failed step; denials keep theirs.
func stepFailed(err error) error {
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind == fleet.KindInternal || e.Kind == fleet.KindDenied || e.Kind == fleet.KindUnavailable {
		return err
	}
	return &fleet.Error{Kind: fleet.KindInvalid, Code: codeRegistration, Resource: e.Resource, Name: e.Name, Msg: e.Msg, Err: e.Err}
}

// bringCertificate makes a record of the certificate that a CSR or PEM stands for.
func (p *Service) bringCertificate(ctx context.Context, caller *fleet.Caller, c *template.Certificate) error {
	switch {
	case c.CSR != "":
		csr, err := pki.ParseCSR(c.CSR)
		if err != nil {
			return err
		}
		leaf, err := p.Authority.IssueDevice(pki.DeviceRequest{PublicKey: csr.PublicKey, Subject: csr.Subject})
		if err != nil {
			return err
		}
		c.Issued = &fleet.Certificate{ID: leaf.ID, PEM: leaf.PEM, Status: fleet.Inactive, Mode: fleet.ModeDefault, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
			Origin: fleet.CertificateOrigin{Requester: caller.ARN}}
	case c.PEM != "":
		cert, err := pki.ParseCertificatePEM(c.PEM)
		if err != nil {
			return err
		}
		if err := pki.CheckRegistrable(cert); err != nil {
			return err
		}
		return p.Store.View(ctx, func(tx *store.Tx) error { return foreign(tx, caller.Scope, c, cert) })
	}
	return nil
}

// foreign finds the record of a certificate that was issued elsewhere, or makes one if a registered CA has signed it.
func foreign(tx *store.Tx, s fleet.Scope, c *template.Certificate, cert *x509.Certificate) error {
	id := fleet.CertificateID(cert.Raw)
	_, err := tx.Certificate(s, id)
	if err == nil {
		c.ID = id
		return nil
	}
	if fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	ca, err := registry.SigningCA(tx, s, cert, c.CAPEM)
	if err != nil {
		return err
	}
	record := registry.NewForeign(tx.Now(), cert, ca, fleet.Inactive)
	c.Issued = &record
	return nil
}

// WriteInline writes a registration that was prepared, in the rights that caller has then. Errors are those of RegisterInline; after one,
// began reports whether some of it is written, so that the transaction must not be kept.
func (p *Service) WriteInline(tx *store.Tx, caller *fleet.Caller, d *template.Desired) (out *InlineResult, began bool, err error) {
	plan, err := p.planInline(tx, caller, d)
	if err != nil {
		return nil, false, stepFailed(err)
	}
	if out, err = writeInline(tx, caller.Scope, d, plan); err != nil {
		return nil, true, stepFailed(err)
	}
	return out, false, nil
}

func (p *Service) planInline(tx *store.Tx, caller *fleet.Caller, d *template.Desired) (*template.Plan, error) {
	s := caller.Scope
	snap, err := registry.Snapshot(tx, s, d)
	if err != nil {
		return nil, err
	}
	plan, err := template.Resolve(snap, d)
	if err != nil {
		return nil, err
	}
	for _, n := range plan.Needs(s) {
		if err := p.Permissions.AuthorizeTx(tx, caller, n.Action, n.Resource, nil); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func writeInline(tx *store.Tx, s fleet.Scope, d *template.Desired, plan *template.Plan) (*InlineResult, error) {
	if err := registry.Apply(tx, s, plan); err != nil {
		return nil, err
	}
	out := &InlineResult{ResourceARNs: map[string]string{}}
	if d.Thing != nil {
		out.ResourceARNs[d.Thing.Logical] = s.IoT("thing", d.Thing.Name)
	}
	for _, pol := range d.Policies {
		if pol.Document != "" {
			out.ResourceARNs[pol.Logical] = s.IoT("policy", pol.Name)
		}
	}
	if d.Certificate != nil {
		out.ResourceARNs[d.Certificate.Logical] = s.IoT("cert", plan.Certificate)
		c, err := tx.Certificate(s, plan.Certificate)
		if err != nil {
			return nil, err
		}
		out.CertificatePEM = c.PEM
	}
	return out, nil
}
