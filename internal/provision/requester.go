package provision

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// A Requester is whoever speaks to the provisioning topics, as the gateway established it at the connection's beginning.
// Everything that may have changed since is looked up again.
type Requester struct {
	Scope       fleet.Scope
	PrincipalID string          // claim or certificate id, 64 hex digits; others may not provision
	IsClaim     bool            // a temporary claim
	Template    string          // a claim's template
	Installer   fleet.Installer // whoever stands behind a claim
	ClientID    string
	SourceIP    string
	Protocol    string
	Trace       *trace.Trace // nil: nobody listens
}

// arn names the requester among the principals of a thing. A claim is the principal of none.
func (r Requester) arn() string { return r.Scope.IoT("cert", r.PrincipalID) }

// facts puts into the trace who asks.
func (r Requester) facts() {
	r.Trace.Fact("clientId", r.ClientID)
	r.Trace.Fact("sourceIp", r.SourceIP)
	r.Trace.Fact("protocol", r.Protocol)
	if r.IsClaim {
		r.Trace.Fact("claimId", r.PrincipalID)
		r.Trace.Fact("installer", r.Installer.Who())
	} else {
		r.Trace.Fact("requester", r.PrincipalID)
	}
}

// standing is what the store says about a requester now.
type standing struct {
	template  string          // bound template, "" for none
	installer fleet.Installer // behind a claim
	requester string          // ARN that a new certificate names as its origin
	expired   bool            // a certificate after its end: it may be renewed
	renews    string          // the template that it may be renewed with

	validity time.Duration // of a new certificate; 0: as long as the authority says
	key      pki.KeyType   // of a key that is made for it
	limits   fleet.ClaimLimits
	budget   string // under which devices are counted
}

// stand checks that a requester may still provision. creating is true for requests that make certificates: those end with
// the claim, while a registration may end later on an open session (provisioning spec 1.4).
func (p *Service) stand(tx *store.Tx, r Requester, creating bool) (standing, error) {
	switch {
	case r.IsClaim:
		return p.standClaim(tx, r, creating)
	case !fleet.ValidCertificateID(r.PrincipalID):
		return standing{}, fleet.Denied("only the holder of a claim or a registered certificate may provision")
	}
	c, err := tx.Certificate(r.Scope, r.PrincipalID)
	if err == nil && c.Status != fleet.Active {
		err = fleet.BadState("certificate", c.ID, "is %s", c.Status)
	}
	if err != nil {
		r.Trace.Step("requester", "%v", err)
		return standing{}, refusedAs(tx, r.Scope, r.PrincipalID, denied(err, "the certificate of this connection is no longer active"))
	}
	b, err := bootstrapOf(tx, r.Scope, c)
	if err != nil {
		return standing{}, err
	}
	st := standing{requester: r.arn(), limits: b.Limits, budget: b.Budget}
	if now := tx.Now(); now.After(c.NotAfter) {
		var until time.Time
		if st.renews, until, err = p.grace(tx, r.Scope, c); err != nil {
			return st, err
		}
		if st.expired = true; !now.Before(until) {
			r.Trace.SetCure("provision the device anew; Mappings.Imprint.Settings.ExpiredGrace in its template would let it renew its certificate later")
			return st, fleet.Denied("the certificate of this connection expired at %s", c.NotAfter.Format(time.RFC3339))
		}
	}
	return st, p.limited(tx, r, b.Limits)
}

func (p *Service) standClaim(tx *store.Tx, r Requester, creating bool) (standing, error) {
	c, err := tx.Claim(r.Scope, r.PrincipalID)
	if err != nil {
		return standing{}, denied(err, "the claim of this connection does not exist any more")
	}
	if creating && tx.Now().After(c.Expires) {
		return standing{}, fleet.Denied("the claim expired at %s: ask the installer for a new one", c.Expires.Format(time.RFC3339))
	}
	if err := p.checkClaim(tx, r.Scope, c); err != nil {
		r.Trace.Step("requester", "%v", err)
		return standing{}, err
	}
	return standing{template: c.Template, installer: c.Installer, requester: c.Installer.CallerARN, limits: c.Limits, budget: c.ID}, p.limited(tx, r, c.Limits)
}

// checkClaim checks everything about a claim but its expiry.
func (p *Service) checkClaim(tx *store.Tx, s fleet.Scope, c fleet.Claim) error {
	if !c.Revoked.IsZero() {
		return refusedAs(tx, s, c.ID, fleet.Denied("the claim was revoked at %s", c.Revoked.Format(time.RFC3339)))
	}
	t, err := tx.Template(s, c.Template)
	if err != nil {
		return denied(err, "the template %q that the claim is for does not exist any more", c.Template)
	}
	if c.Generation != t.Generation {
		return fleet.Denied("the claim is for an earlier template %q, which was deleted", c.Template)
	}
	if !enabled(t) {
		return fleet.Denied("the template %q is disabled", c.Template)
	}
	err = p.Permissions.StillEntitled(tx, s, c.Installer, c.Created, "iot:CreateProvisioningClaim", templateARN(s, c.Template))
	return denied(err, "the installer who made the claim may not provision with template %q any more", c.Template)
}

// CheckClaim checks that a temporary claim may still be used: it is not revoked, its template is there and enabled, and its
// installer is still entitled. The claim's expiry is not looked at. Refusals are of KindDenied or KindNotFound.
func (p *Service) CheckClaim(ctx context.Context, s fleet.Scope, id string) error {
	return p.Store.View(ctx, func(tx *store.Tx) error {
		c, err := tx.Claim(s, id)
		if err != nil {
			return err
		}
		return p.checkClaim(tx, s, c)
	})
}

// RevokeClaim ends a temporary claim at once. What was made with it stays.
func (p *Service) RevokeClaim(ctx context.Context, s fleet.Scope, id string) error {
	return p.Store.Tx(ctx, func(tx *store.Tx) error { return tx.RevokeClaim(s, id) })
}
