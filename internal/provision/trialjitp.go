package provision

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
	"github.com/imprint-iot/imprint/internal/trace"
)

// firstConnection plays through what the first connection of a device does with the template of its CA.
func (r *trial) firstConnection(ctx context.Context, tm *template.Template) (*Outcome, error) {
	leaf, err := r.readDevice(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.vouching(ctx, leaf); err != nil {
		return nil, err
	}
	if r.t.Enabled != nil && !*r.t.Enabled {
		r.refuse(fleet.Denied("the template %q is disabled: enable it with UpdateProvisioningTemplate", r.t.Name))
	}
	d, err := tm.Evaluate(nil, r.device.Parameters())
	if err != nil {
		r.refuse(err)
		return &r.out, nil
	}
	err = r.Store.View(ctx, func(tx *store.Tx) error { return r.plan(tx, d) })
	return &r.out, err
}

// readDevice checks what is asked, and reads the device's certificate.
func (r *trial) readDevice(ctx context.Context) (*x509.Certificate, error) {
	switch {
	case r.Certificate == "":
		return nil, fleet.Invalid("", "", "a template of type JITP takes its parameters from the device's certificate: send one")
	case len(r.Parameters) > 0:
		return nil, fleet.Invalid("", "", "a template of type JITP takes its parameters from the device's certificate: devices send none")
	}
	leaf, err := pki.ParseCertificatePEM(r.Certificate)
	if err != nil {
		return nil, err
	}
	if r.device, err = pki.NewFacts(leaf); err != nil {
		return nil, err
	}
	r.id = r.device.ID
	if r.Role == "" {
		return leaf, nil
	}
	if !roleARN(r.Role) {
		return nil, fleet.Invalid("role", r.Role, "is not the ARN of a role")
	}
	r.t.RoleARN, r.role = r.Role, true
	return leaf, r.passRole(ctx, r.Caller, r.Role)
}

// vouching says which CA would register the certificate, or why none would.
func (r *trial) vouching(ctx context.Context, leaf *x509.Certificate) error {
	t := trace.New(r.scope, trace.Connect, r.Clock)
	n, err := r.Newcomer(ctx, Place{Scope: r.scope}, leaf, t)
	var e *fleet.Error
	switch {
	case err == nil:
		r.ca, r.out.CA = n.CA.ID, n.CA.ID+" registers the certificate"
		if n.CA.Config == (fleet.RegistrationConfig{}) {
			r.out.CA += ", and provisions nothing: it has no registrationConfig yet"
		}
	case errors.As(err, &e) && e.Kind == fleet.KindDenied:
		r.out.CA = "the certificate would not be registered: " + e.Msg
		if record, _ := t.Finish(err); record.Cure != "" {
			r.out.CA += "; " + record.Cure
		}
	default:
		return err
	}
	return nil
}

// source is the ARN of what the service acts for when it assumes the role.
func (r *trial) source() string {
	if r.t.Name != "" || r.device == nil {
		return templateARN(r.scope, r.t.Name)
	}
	return r.scope.IoT("cacert", r.ca)
}
