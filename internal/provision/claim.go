package provision

import (
	"context"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
	"github.com/imprint-iot/imprint/internal/trace"
)

// An IssuedClaim is a claim with the certificate and key that its holder needs. The private key is in no other place.
type IssuedClaim struct {
	fleet.Claim
	CertificatePEM string
	PublicKeyPEM   string
	PrivateKeyPEM  fleet.Secret
}

// CreateClaim makes a temporary certificate for a device that caller, the installer, vouches for: five minutes, one template
// (provisioning spec 1.2, 1.3). Whether caller may do so is decided before. Errors are of KindNotFound for an unknown template and
// KindInvalid for one that devices can't use.
func (p *Service) CreateClaim(ctx context.Context, caller *fleet.Caller, template string) (*IssuedClaim, error) {
	t := trace.New(caller.Scope, trace.Claim, p.Clock)
	t.Fact("installer", fleet.InstallerOf(caller).Who())
	t.Fact("template", template)
	t.Fact("sourceIp", caller.SourceIP)
	out, err := p.createClaim(ctx, caller, template, t)
	if err != nil {
		p.refused(err)
		t.DefaultCure(Cure(err))
		p.Recorder.Finish(t, err)
		return nil, err
	}
	return out, nil
}

func (p *Service) createClaim(ctx context.Context, caller *fleet.Caller, name string, t *trace.Trace) (*IssuedClaim, error) {
	s := caller.Scope
	if err := p.rates.account(t, s, opClaim); err != nil {
		return nil, err
	}
	now := p.Clock.Now() // from here on, whatever ends the installer's rights ends the claim
	var limits narrowing
	err := p.Store.View(ctx, func(tx *store.Tx) (err error) {
		_, limits, err = p.claimable(tx, caller, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	key, err := p.Keys.Key(ctx, limits.key)
	if err != nil {
		return nil, fmt.Errorf("making a claim's key: %w", err)
	}
	private, err := pki.PrivateKeyPEM(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a claim's key: %w", err)
	}
	public, err := pki.PublicKeyPEM(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding a claim's key: %w", err)
	}
	handle := fleet.RandomString(64, fleet.AlphaHex)
	expires := now.Truncate(time.Second).Add(limits.life)
	leaf, err := p.Authority.IssueClaim(key.Public(), handle, expires)
	if err != nil {
		return nil, err
	}
	claim := fleet.Claim{ID: leaf.ID, Subject: handle, Template: name, Created: now, Expires: expires, Installer: fleet.InstallerOf(caller)}
	t.Fact("claimId", claim.ID)
	t.Fact("username", claim.Installer.Username)
	t.Step("claim", "for template %s until %s", name, expires.Format(time.RFC3339))
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		made, now, err := p.claimable(tx, caller, name)
		if err != nil {
			return err
		}
		if now.life < limits.life { // the template has changed meanwhile, and the certificate is signed
			return &fleet.Error{Kind: fleet.KindConflict, Resource: "provisioning template", Name: name, Msg: "has changed meanwhile: try again"}
		}
		claim.Generation, claim.Limits = made.Generation, now.ClaimLimits
		if !caller.IssuedAt.IsZero() { // a session may have ended since it was authenticated
			if err := p.Permissions.StillEntitled(tx, s, claim.Installer, caller.IssuedAt, "iot:CreateProvisioningClaim", templateARN(s, name)); err != nil {
				return err
			}
		}
		if err := tx.CreateClaim(s, claim); err != nil {
			return err
		}
		if err := tx.ExpectClaim(claim.ID); err != nil {
			return err
		}
		return keepTrace(tx, t)
	})
	if err != nil {
		return nil, err
	}
	return &IssuedClaim{Claim: claim, CertificatePEM: leaf.PEM, PublicKeyPEM: public, PrivateKeyPEM: private}, nil
}

// claimable checks that claims can be made for a template by caller, and returns it with what limits them.
func (p *Service) claimable(tx *store.Tx, caller *fleet.Caller, name string) (fleet.Template, narrowing, error) {
	t, err := tx.Template(caller.Scope, name)
	switch {
	case err != nil:
		return t, narrowing{}, err
	case t.Type != fleet.FleetProvisioning:
		return t, narrowing{}, fleet.Invalid("provisioning template", name, "is of type %s; claims are for FLEET_PROVISIONING templates", t.Type)
	case !enabled(t):
		return t, narrowing{}, fleet.Invalid("provisioning template", name, "is not enabled: enable it with UpdateProvisioningTemplate")
	}
	parsed, err := p.parsed.parse(t.Body, template.Fleet)
	if err != nil {
		return t, narrowing{}, err
	}
	limits, err := narrowed(parsed.Settings(), caller.Tags)
	return t, limits, err
}
