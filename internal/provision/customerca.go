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

// NewCA is what a customer's CA is registered with (provisioning spec 7.1).
type NewCA struct {
	PEM          string
	Verification string                // PEM of the proof, in mode DEFAULT alone
	Mode         fleet.CertificateMode // "": DEFAULT
	Active       bool
	Auto         bool // certificates that it has signed are registered at their first connection
	Config       *fleet.RegistrationConfig
	Tags         []fleet.Tag
}

// RegisterCA registers a customer's CA. caller must be allowed to pass the role of its configuration. Errors are of KindInvalid, some with
// a code of their own, KindDenied, KindNotFound, KindExists and KindLimit.
func (p *Service) RegisterCA(ctx context.Context, caller *fleet.Caller, n NewCA) (ca fleet.CA, err error) {
	cert, err := pki.ParseCertificatePEM(n.PEM)
	if err != nil {
		return ca, err
	}
	if err := pki.CheckCA(cert, p.Clock.Now()); err != nil {
		return ca, err
	}
	if p.Authority.Holds(cert.PublicKey) { // a certificate with any subject can be had of it, which proves nothing
		return ca, fleet.Invalid("CA certificate", fleet.CertificateID(cert.Raw), "is this service's own: certificates that it has signed are registered already").
			WithCode("CertificateValidationException")
	}
	code, err := p.proveCA(ctx, caller.Scope, n, cert)
	if err != nil {
		return ca, err
	}
	if ca, err = registry.NewCA(cert); err != nil {
		return ca, err
	}
	if n.Active {
		ca.Status = fleet.Active
	}
	if n.Mode != "" {
		ca.Mode = n.Mode
	}
	ca.Auto = n.Auto
	if n.Config != nil {
		ca.Config = *n.Config
		if err := p.checkConfig(ctx, caller, ca.Config); err != nil {
			return ca, err
		}
	}
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		now, err := tx.RegistrationCode(caller.Scope)
		if err == nil && code != "" && now != code {
			err = otherCode()
		}
		if err != nil {
			return err
		}
		if err := configured(tx, caller.Scope, ca.Config); err != nil {
			return err
		}
		_, err = registry.RegisterCA(tx, caller.Scope, ca, n.Tags)
		return err
	})
	return ca, err
}

// proveCA checks the proof that mode DEFAULT asks for, and returns the registration code that it is for; SNI_ONLY has none.
func (p *Service) proveCA(ctx context.Context, s fleet.Scope, n NewCA, cert *x509.Certificate) (code string, err error) {
	switch {
	case n.Mode == fleet.ModeSNIOnly && n.Verification != "":
		return "", fleet.Invalid("CA certificate", "", "verificationCertificate must be left out in mode SNI_ONLY")
	case n.Mode == fleet.ModeSNIOnly:
		return "", nil
	case n.Verification == "":
		return "", fleet.Invalid("CA certificate", "", "verificationCertificate must be given in mode DEFAULT: a certificate signed by the CA with the code of GetRegistrationCode as its common name")
	}
	proof, err := pki.ParseCertificatePEM(n.Verification)
	if err != nil {
		return "", err
	}
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		code, err = tx.RegistrationCode(s)
		return err
	})
	if err != nil {
		return "", err
	}
	err = pki.CheckVerification(proof, cert, code, p.Clock.Now())
	if errors.Is(err, pki.ErrOtherCode) || err == nil && code == "" {
		err = otherCode()
	}
	return code, err
}

func otherCode() error {
	return fleet.Invalid("", "", "The verification certificate does not carry the registration code of this account as its common name: ask GetRegistrationCode and make another one").
		WithCode("RegistrationCodeValidationException")
}

// checkConfig checks what can be checked of a configuration without the store, and that caller may pass its role.
func (p *Service) checkConfig(ctx context.Context, caller *fleet.Caller, c fleet.RegistrationConfig) error {
	switch {
	case c.Template != "" && c.Body != "":
		return fleet.Invalid("registration config", "", "has a templateName and a templateBody: give one of them")
	case c.Template == "" && c.Body == "":
		return fleet.Invalid("registration config", "", "has no template: give templateName, or templateBody with roleArn; without a registrationConfig certificates are registered and nothing else")
	case c.Body != "" && c.RoleARN == "":
		return fleet.Invalid("registration config", "", "has a templateBody and no roleArn")
	case c.RoleARN != "" && !roleARN(c.RoleARN):
		return fleet.Invalid("registration config", "", "roleArn %q is not the ARN of a role", c.RoleARN)
	}
	if c.Body != "" {
		if _, err := template.Parse(c.Body, template.JITP); err != nil {
			return err
		}
	}
	if c.RoleARN == "" {
		return nil
	}
	return p.passRole(ctx, caller, c.RoleARN)
}

// configured checks that the template of a configuration exists and is for this.
func configured(tx *store.Tx, s fleet.Scope, c fleet.RegistrationConfig) error {
	if c.Template == "" {
		return nil
	}
	t, err := tx.Template(s, c.Template)
	if err == nil && t.Type != fleet.JITP {
		err = fleet.Invalid("provisioning template", t.Name, "is of type %s: a CA provisions with templates of type JITP", t.Type)
	}
	return err
}

// CAChange says what to change about a CA; nil and zero fields leave things as they are.
type CAChange struct {
	Status       fleet.CertificateStatus // Active or Inactive
	Auto         *bool
	Config       *fleet.RegistrationConfig
	RemoveConfig bool
}

// UpdateCA changes a CA. caller must be allowed to pass the role of a new configuration. Errors are of KindInvalid, KindDenied and
// KindNotFound.
func (p *Service) UpdateCA(ctx context.Context, caller *fleet.Caller, id string, c CAChange) error {
	if c.Config != nil && c.RemoveConfig {
		return fleet.Invalid("CA certificate", id, "cannot get a registrationConfig and lose it (removeAutoRegistration) at once")
	}
	if c.Config != nil {
		if err := p.checkConfig(ctx, caller, *c.Config); err != nil {
			return err
		}
	}
	return p.Store.Tx(ctx, func(tx *store.Tx) error {
		was, err := tx.CA(caller.Scope, id)
		if err != nil {
			return err
		}
		now := was
		if c.Status != "" {
			now.Status = c.Status
		}
		if c.Auto != nil {
			now.Auto = *c.Auto
		}
		if c.RemoveConfig {
			now.Config = fleet.RegistrationConfig{}
		}
		if c.Config != nil {
			now.Config = *c.Config
			if err := configured(tx, caller.Scope, now.Config); err != nil {
				return err
			}
		}
		if now == was {
			return nil
		}
		now.Modified, now.Version = tx.Now(), was.Version+1
		return tx.UpdateCA(caller.Scope, now)
	})
}
