package gateway

import (
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/store"
)

// changed hears of every committed write before its writer has the answer: rights are marked for reading again, and
// connections whose certificate or claim has lost its power are ended at once. Another order of the same changes would do as
// well, since what is acted on is always read from the store.
func (g *Gateway) changed(changes []store.Change) {
	g.changes.Add(1) // before anything is marked, see deviceAccess.current
	for _, c := range changes {
		switch c.Kind {
		case store.ChangedPolicy, store.ChangedThing:
			g.stale(c)
		case store.ChangedAttachment:
			if strings.Contains(c.Key, ":thinggroup/") {
				g.groups.Add(1)
			}
			g.stale(c)
		case store.ChangedCertificate:
			g.certificateChanged(c)
		case store.ChangedClaim:
			g.recheckClaims(func(a *arrival) bool { return a.who.scope == c.Scope && a.who.principal == c.Key })
		case store.ChangedDomain:
			g.domains.stale.Store(true)
		case store.ChangedTemplate:
			g.recheckClaims(func(a *arrival) bool { return a.who.scope == c.Scope && a.who.claim.Template == c.Key })
		}
	}
	if slices.ContainsFunc(changes, func(c store.Change) bool { return c.Kind == store.ChangedIAM || c.Kind == store.ChangedCutoff }) {
		g.recheckClaims(func(*arrival) bool { return true }) // an installer may come from another account
	}
}

// stale marks the rights that a change may have changed, and reports whether there are any.
func (g *Gateway) stale(c store.Change) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	live := g.devices[c]
	for d := range live {
		d.stale.Store(true)
	}
	return len(live) > 0
}

// certificateChanged ends the connections of a certificate that is not active any more.
func (g *Gateway) certificateChanged(c store.Change) {
	if !g.stale(c) {
		return
	}
	active := false
	err := g.Store.View(g.ctx, func(tx *store.Tx) error {
		cert, err := tx.Certificate(c.Scope, c.Key)
		active = err == nil && cert.Status == fleet.Active
		return nil
	})
	if err == nil && active {
		return
	}
	g.broker.Disconnect(func(id *mqtt.Identity, _ *mqtt.Client) bool { return id.Scope == c.Scope && id.Principal == c.Key },
		mqtt.Unauthorized("the certificate is not active any more"))
}

// recheckClaims ends the sessions of those claims that have lost their power: withdrawn, their installer gone, their template
// deleted or disabled.
func (g *Gateway) recheckClaims(concerned func(*arrival) bool) {
	valid := map[fleet.Scope]map[string]bool{}
	for _, c := range g.claimSessions(concerned) {
		s, id := c.a.who.scope, c.a.who.principal
		if valid[s] == nil {
			valid[s] = map[string]bool{}
		}
		ok, known := valid[s][id]
		if !known {
			err := g.Provision.CheckClaim(g.ctx, s, id)
			kind := fleet.KindOf(err)
			ok = err == nil || kind == fleet.KindInternal || kind == fleet.KindUnavailable // each request asks again
			valid[s][id] = ok
		}
		if !ok {
			g.endClaim(c, "the claim is not valid any more")
		}
	}
}

// claimSessions lists the live sessions of claims that which picks.
func (g *Gateway) claimSessions(which func(*arrival) bool) (live []*claimAccess) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.claims {
		if which(c.a) {
			live = append(live, c)
		}
	}
	return live
}

func (g *Gateway) endClaim(c *claimAccess, why string) {
	g.broker.Disconnect(func(id *mqtt.Identity, _ *mqtt.Client) bool { return id.Access == mqtt.Access(c) }, mqtt.Unauthorized("%s", why))
}

// expireClaims ends claim sessions that have outlived their claim and its grace.
func (g *Gateway) expireClaims() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		now := g.Clock.Now()
		for _, c := range g.claimSessions(func(a *arrival) bool { return now.After(a.who.claim.Expires.Add(claimGrace)) }) {
			g.endClaim(c, "the claim has expired")
		}
	}
}
