package provision

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Renewal is a registration whose requester is the certificate of a device. It gets another certificate for its own thing, as the
// template makes it now, for the parameters of the first time; the old one goes when the new one has connected (registry.Supersede).

// ownThings are the things that the requester, a registered certificate, is a device's certificate of: those that it is attached to, and
// the one that it was registered for, which may be gone. A bootstrap certificate has none.
func (g *registration) ownThings(tx *store.Tx) (things []string, own store.Registration, err error) {
	if g.IsClaim {
		return nil, own, nil
	}
	own, found, err := tx.Registration(g.Scope, g.PrincipalID)
	if err != nil {
		return nil, own, err
	}
	if found && own.Thing != "" {
		things = append(things, own.Thing)
	}
	attached, _, err := tx.ThingsOf(g.Scope, g.arn(), "", fleet.Page{})
	for _, a := range attached {
		if !slices.Contains(things, a.Thing) {
			things = append(things, a.Thing)
		}
	}
	return things, own, err
}

// checkRenewal keeps a device from choosing other rights with other parameters than those that it was provisioned with, when a hook or
// an installer stood behind it.
func (g *registration) checkRenewal(own store.Registration, d *template.Desired) error {
	if d.Thing == nil || own.Thing != d.Thing.Name || own.Template != g.template || own.Parameters == g.hash || d.Settings.RenewalParameters == template.RenewalAny {
		return nil
	}
	g.Trace.SetCure("send the parameters of the first registration, or set Mappings.Imprint.Settings.RenewalParameters to any in the template %s", g.template)
	return fleet.Invalid("", "", "the parameters differ from those that the certificate of this connection was registered with: a renewal takes the same")
}

// grace returns until when the device's certificate c may connect, and the template that it may renew itself with after its end. A
// certificate that no template allows more may connect until its end.
func (p *Service) grace(tx *store.Tx, s fleet.Scope, c fleet.Certificate) (name string, until time.Time, err error) {
	t, settings, err := p.comesFrom(tx, s, c.ID)
	if err != nil || !enabled(t) {
		return "", c.NotAfter, err
	}
	return t.Name, c.NotAfter.Add(settings.ExpiredGrace), nil
}

// comesFrom returns the template that a certificate was registered with, as it is now. Both are empty if there is none any more.
func (p *Service) comesFrom(tx *store.Tx, s fleet.Scope, certificate string) (t fleet.Template, settings template.Settings, err error) {
	own, found, err := tx.Registration(s, certificate)
	if err != nil || !found {
		return t, settings, err
	}
	return p.settingsOf(tx, s, own.Template)
}

func (p *Service) settingsOf(tx *store.Tx, s fleet.Scope, name string) (t fleet.Template, settings template.Settings, err error) {
	t, err = tx.Template(s, name)
	if fleet.KindOf(err) == fleet.KindNotFound && err != nil || err == nil && t.Type != fleet.FleetProvisioning {
		return fleet.Template{}, settings, nil
	}
	if err != nil {
		return t, settings, err
	}
	tm, err := p.parsed.parse(t.Body, template.Fleet)
	if err != nil {
		return t, settings, err
	}
	return t, tm.Settings(), nil
}

// shape says how long a certificate lives that r asks for, and which key is made for it: what the template says that a claim is bound
// to, or that the certificate comes from that is to be renewed, or that is the only one that the policies of a bootstrap certificate
// name. Where they allow more, nobody knows yet which template it is going to be registered with.
func (p *Service) shape(tx *store.Tx, r Requester, st *standing) (err error) {
	var from fleet.Template
	var settings template.Settings
	if st.template != "" {
		from, settings, err = p.settingsOf(tx, r.Scope, st.template)
	} else {
		from, settings, err = p.comesFrom(tx, r.Scope, r.PrincipalID)
		if err == nil && from.Name == "" {
			from, settings, err = p.boundSettings(tx, r)
		}
	}
	st.validity, st.key = settings.CertificateDays.Duration(), cmp.Or(pki.KeyType(settings.CertificateKeyType), pki.RSA2048)
	if st.validity != 0 {
		r.Trace.Step("validity", "%v, as template %s says", st.validity, from.Name)
	}
	return err
}

func (p *Service) boundSettings(tx *store.Tx, r Requester) (t fleet.Template, settings template.Settings, err error) {
	name, err := p.boundTo(tx, r.Scope, r.PrincipalID)
	if err != nil || name == "" {
		return t, settings, err
	}
	return p.settingsOf(tx, r.Scope, name)
}

// Grace tells how the certificate of a device, whose end has come, may be renewed: with this template alone, until the time. found is
// false if it may not.
func (p *Service) Grace(ctx context.Context, s fleet.Scope, id string) (name string, until time.Time, found bool, err error) {
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		c, err := tx.Certificate(s, id)
		if err == nil {
			name, until, err = p.grace(tx, s, c)
			found = err == nil && tx.Now().Before(until)
		}
		return err
	})
	return name, until, found, err
}

// A Connection is a certificate that has connected.
type Connection struct {
	Scope       fleet.Scope
	Certificate string // id
	At          time.Time
}

// connectedChunk is how many connections one transaction notes.
const connectedChunk = 100

// Connected notes that certificates have connected. Those that they succeed go from now on.
func (p *Service) Connected(ctx context.Context, list []Connection) error {
	due := false
	for chunk := range slices.Chunk(list, connectedChunk) {
		err := p.Store.Tx(ctx, func(tx *store.Tx) error {
			due = false
			for _, c := range chunk {
				soonest, err := tx.CertificateUsed(c.Scope, c.Certificate, c.At)
				if err != nil {
					return err
				}
				due = due || !soonest.IsZero() && !soonest.After(tx.Now())
			}
			return nil
		})
		if err != nil {
			return err
		}
		if due {
			if err := p.Retire(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Retire takes all certificates out of service whose time has come since a successor has connected.
func (p *Service) Retire(ctx context.Context) error {
	return p.sweep(ctx, func(tx *store.Tx) (int, error) { return retire(tx, p.Clock) })
}

// retireChunk is how many certificates one transaction retires: each takes several rows.
const retireChunk = 20

// retire takes those certificates out of service whose successors have connected, and tells each in a trace.
func retire(tx *store.Tx, clock fleet.Clock) (int, error) {
	retired, looked, err := registry.RetireDue(tx, tx.Now(), retireChunk)
	if err != nil {
		return 0, err
	}
	for _, n := range retired {
		t := trace.New(n.Scope, trace.Retire, clock)
		t.Fact("certificateId", n.Certificate)
		t.Fact("thing", n.Thing)
		t.Fact("successor", n.Successor)
		t.Step("retire", "certificate %s is INACTIVE and detached from %s: its successor %s has connected %v before", short(n.Certificate), n.Thing, short(n.Successor), n.Overlap)
		if err := keepTrace(tx, t); err != nil {
			return 0, err
		}
	}
	if looked == retireChunk {
		return sweepChunk, nil // there may be more
	}
	return 0, nil
}
