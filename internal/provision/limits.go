package provision

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// What one claim may do. A temporary claim's limits come from its template and from the tags of the installer's session, which
// only tighten; they are fixed when the claim is made. A bootstrap certificate's are set by an operator, any time.

// claimTagPrefix begins the tags that limit claims; the rest is one of claimTags. Case does not count, as in conditions.
const claimTagPrefix = "imprint:claim"

// claimTags are what tags of an installer's session may say: names after "imprint:".
var claimTags = map[string]func(l *narrowing, v string) error{
	"ClaimDevices": func(l *narrowing, v string) error {
		n, err := template.ParseDevices(v)
		if l.Devices == 0 || n < l.Devices {
			l.Devices = n
		}
		return err
	},
	"ClaimSeconds": func(l *narrowing, v string) error {
		n, err := template.ParseClaimSeconds(v)
		l.life = min(l.life, time.Duration(n)*time.Second)
		return err
	},
	"ClaimAddresses": func(l *narrowing, v string) error {
		list, err := fleet.ParseNetworks(v)
		if err != nil {
			return err
		}
		if l.Addresses != nil {
			if list = fleet.CommonNetworks(l.Addresses, list); list == nil {
				return fleet.Invalid("", "", "no address is in the template's ClaimAddresses and here")
			}
		}
		l.Addresses = list
		return nil
	},
	"ClaimSerials": func(l *narrowing, v string) (err error) { l.Serials, err = template.ParseSerials(v); return err },
}

// narrowing is what the limits of a claim come to.
type narrowing struct {
	fleet.ClaimLimits
	life time.Duration
	key  pki.KeyType
}

// narrowed works out the limits of a claim. A tag that can't be understood is refused: ignored, it would not tighten.
func narrowed(s template.Settings, tags map[string]string) (narrowing, error) {
	out := narrowing{fleet.ClaimLimits{Devices: s.ClaimDevices, Addresses: s.ClaimAddresses}, fleet.ClaimLifetime, cmp.Or(pki.KeyType(s.ClaimKeyType), pki.RSA2048)}
	if s.ClaimSeconds > 0 {
		out.life = time.Duration(s.ClaimSeconds) * time.Second
	}
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		if len(tag) < len(claimTagPrefix) || !strings.EqualFold(tag[:len(claimTagPrefix)], claimTagPrefix) {
			continue
		}
		err := error(fleet.Invalid("", "", "there is no such tag; those are imprint:%s", strings.Join(slices.Sorted(maps.Keys(claimTags)), ", imprint:")))
		for name, read := range claimTags {
			if strings.EqualFold(tag, "imprint:"+name) {
				err = read(&out, tags[tag])
			}
		}
		if err != nil {
			e := fleet.Invalid("tag", tag, "limits the claims of the installer, and cannot be read: %s", err)
			e.Reason = ReasonClaimTag
			return out, e
		}
	}
	return out, nil
}

// limited checks what can be checked before it is known what will be registered.
func (p *Service) limited(tx *store.Tx, r Requester, l fleet.ClaimLimits) error {
	if !l.MayFrom(r.SourceIP) {
		r.Trace.SetCure("use the claim from one of %s, or change its limits", strings.Join(l.Addresses, ", "))
		return reasoned(ReasonClaimAddress, fleet.Denied("this claim may not be used from %s", cmp.Or(r.SourceIP, "an unknown address")))
	}
	if !l.Expires.IsZero() && tx.Now().After(l.Expires) {
		r.Trace.SetCure("imprint claim limits %s --expires TIME, or give the devices another bootstrap certificate", r.PrincipalID)
		return reasoned(ReasonClaimExpired, fleet.Denied("the use of this certificate for provisioning ended at %s", l.Expires.Format(time.RFC3339)))
	}
	return nil
}

func reasoned(reason string, e *fleet.Error) *fleet.Error {
	e.Reason = reason
	return e
}

// room refuses to make one more certificate where too many of the claim wait for their registration, and one that could not be
// registered any more, since the claim has registered all that it may. Who asks again for one that is there needs none.
func (p *Service) room(tx *store.Tx, r Requester, st standing) error {
	limit := p.Limits.PendingPerBootstrap
	if r.IsClaim {
		limit = p.Limits.PendingPerClaim
	}
	n, err := tx.PendingOf(r.Scope, r.PrincipalID, limit)
	if err != nil {
		return err
	}
	if n >= limit {
		return &fleet.Error{Kind: fleet.KindThrottled, Code: CodeThrottled, Reason: ReasonClaimPending, RetryAfter: time.Minute,
			Msg: fmt.Sprintf("%d certificates of this claim wait for their registration: register them, or wait until they expire", n)}
	}
	if st.limits.Devices <= 0 {
		return nil
	}
	n, err = tx.DevicesOf(r.Scope, st.budget)
	if err == nil && n >= st.limits.Devices {
		err = usedUp(r, st.limits.Devices)
	}
	return err
}

// DefaultBootstrapDevices is how many devices a bootstrap certificate may register with a template that has neither hook nor list of
// serial numbers, and says nothing else: a thief who has it takes so many names at most.
const DefaultBootstrapDevices = 1000

// bound returns how many devices may be registered, 0 for any number.
func bound(r Requester, st standing, t fleet.Template, s template.Settings) int {
	limit := st.limits.Devices
	switch {
	case limit != 0 || r.IsClaim:
	case s.BootstrapDevices != 0:
		limit = s.BootstrapDevices
	case t.Hook == nil && s.AllowedSerials == nil && st.limits.Serials == nil:
		limit = DefaultBootstrapDevices
	}
	return max(limit, 0)
}

// count counts the device against its claim, in the transaction that registers it: exactly, whatever else happens at the time. A
// device that renews its own certificate costs nothing.
func (g *registration) count(tx *store.Tx, st standing, t fleet.Template, snap template.Snapshot, d *template.Desired) error {
	limit := bound(g.Requester, st, t, d.Settings)
	if limit == 0 || template.Renews(snap) {
		return nil
	}
	n, err := tx.CountDevice(g.Scope, st.budget)
	if err != nil {
		return err
	}
	if n > limit {
		return usedUp(g.Requester, limit)
	}
	g.Trace.Step("claim", "device %d of %d", n, limit)
	return nil
}

func usedUp(r Requester, limit int) error {
	if r.IsClaim {
		r.Trace.SetCure("ask for a new claim; ClaimDevices in the template's settings, or the tag imprint:ClaimDevices of the installer, says how many devices one is good for")
	} else {
		r.Trace.SetCure("imprint claim limits %s --devices N, if it was not stolen; or give the template a hook, or BootstrapDevices in its settings", r.PrincipalID)
	}
	return reasoned(ReasonClaimDevices, fleet.Denied("this claim has registered the %d devices that it is good for", limit))
}

// Bounds of what may be set.
const (
	maxLimitSerials  = 100
	maxLimitNetworks = 100
	maxPerMinute     = 1_000_000
)

// SetLimits sets the limits of a bootstrap certificate in place of those that it had. They hold for the certificates that it was
// rolled from and into, too. Devices that it has registered before count. Errors are of KindInvalid and KindNotFound.
func (p *Service) SetLimits(ctx context.Context, s fleet.Scope, certificate string, l fleet.ClaimLimits) error {
	if err := checkLimits(certificate, &l); err != nil {
		return err
	}
	return p.Store.Tx(ctx, func(tx *store.Tx) error {
		c, err := tx.Certificate(s, certificate)
		if err != nil {
			return err
		}
		b, err := bootstrapOf(tx, s, c)
		if err != nil {
			return err
		}
		family := []fleet.Bootstrap{b}
		if c.Limited {
			if family, err = tx.BootstrapsOfBudget(s, b.Budget); err != nil {
				return err
			}
		}
		ids := make([]string, 0, len(family))
		for _, b := range family {
			b.Limits, ids = l, append(ids, b.Certificate)
			if err := tx.PutBootstrap(s, b); err != nil {
				return err
			}
		}
		if l.Devices <= 0 {
			return nil
		}
		return tx.RecountDevices(s, b.Budget, ids)
	})
}

func checkLimits(certificate string, l *fleet.ClaimLimits) error {
	invalid := func(format string, args ...any) error {
		return fleet.Invalid("certificate", certificate, format, args...)
	}
	switch {
	case l.Devices < fleet.Unlimited:
		return invalid("%d is no number of devices", l.Devices)
	case l.PerMinute < 0 || l.PerMinute > maxPerMinute:
		return invalid("%d is no number of requests a minute: 1 to %d, or 0 for any", l.PerMinute, maxPerMinute)
	case len(l.Serials) > maxLimitSerials:
		return invalid("%d serial numbers are too many: at most %d; put longer lists into a table and let a hook with a rule ask it", len(l.Serials), maxLimitSerials)
	case len(l.Addresses) > maxLimitNetworks:
		return invalid("%d networks are too many: at most %d", len(l.Addresses), maxLimitNetworks)
	}
	if len(l.Addresses) > 0 {
		list, err := fleet.ParseNetworks(strings.Join(l.Addresses, " "))
		if err != nil {
			return invalid("addresses: %s", err)
		}
		l.Addresses = list
	}
	for _, serial := range l.Serials {
		if serial == "" || len(serial) > 256 {
			return invalid("a serial number or thing name has 1 to 256 characters")
		}
	}
	return nil
}

// bootstrapOf returns what is said of a certificate as a shared claim, or what holds when nothing is.
func bootstrapOf(tx *store.Tx, s fleet.Scope, c fleet.Certificate) (fleet.Bootstrap, error) {
	if c.Limited {
		b, found, err := tx.Bootstrap(s, c.ID)
		if found || err != nil {
			return b, err
		}
	}
	return fleet.Bootstrap{Certificate: c.ID, Budget: c.ID}, nil
}

// A BootstrapUse is a bootstrap certificate with how much of its budget is used.
type BootstrapUse struct {
	fleet.Bootstrap
	Devices int // that were counted so far
}

// LimitsOf returns the limits of a bootstrap certificate or of a temporary claim. It fails with KindNotFound.
func (p *Service) LimitsOf(ctx context.Context, s fleet.Scope, id string) (out BootstrapUse, err error) {
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		if out.Bootstrap, err = said(tx, s, id); err != nil {
			return err
		}
		out.Devices, err = tx.DevicesOf(s, out.Budget)
		return err
	})
	return out, err
}

func said(tx *store.Tx, s fleet.Scope, id string) (fleet.Bootstrap, error) {
	switch c, err := tx.Claim(s, id); {
	case err == nil:
		return fleet.Bootstrap{Certificate: id, Budget: id, Limits: c.Limits}, nil
	case fleet.KindOf(err) != fleet.KindNotFound:
		return fleet.Bootstrap{}, err
	}
	c, err := tx.Certificate(s, id)
	if err != nil {
		return fleet.Bootstrap{}, err
	}
	return bootstrapOf(tx, s, c)
}
