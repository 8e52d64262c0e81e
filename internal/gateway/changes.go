package gateway

import (
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/store"
)

// changed hears of every committed write before its writer has the answer: rights are marked for reading again, and
// connections whose certificate or claim has lost its power are ended at once.
func (g *Gateway) changed(changes []store.Change) {
	recheck := false
	for _, c := range changes {
		switch c.Kind {
		case store.ChangedPolicy, store.ChangedGroup:
			g.policies.Add(1)
		case store.ChangedAttachment:
			if strings.Contains(c.Key, ":thinggroup/") {
				g.policies.Add(1)
			}
			g.stale(c)
		case store.ChangedThing:
			g.stale(c)
		case store.ChangedCertificate:
			g.certificateChanged(c)
		case store.ChangedClaim, store.ChangedTemplate, store.ChangedIAM, "cutoff":
			recheck = true
		}
	}
	if recheck {
		g.recheckClaims()
	}
}

func (g *Gateway) stale(c store.Change) (live []*deviceAccess) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for d := range g.devices[deviceKey(c.Scope, c.Kind, c.Key)] {
		d.stale.Store(true)
		live = append(live, d)
	}
	return live
}

// certificateChanged ends the connections of a certificate that is not active any more.
func (g *Gateway) certificateChanged(c store.Change) {
	if len(g.stale(c)) == 0 {
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

// recheckClaims ends the sessions of claims that have lost their power: withdrawn, their installer gone, their template deleted
// or disabled.
func (g *Gateway) recheckClaims() {
	g.mu.Lock()
	live := make([]*claimAccess, 0, len(g.claims))
	for c := range g.claims {
		live = append(live, c)
	}
	g.mu.Unlock()
	for _, c := range live {
		if err := g.Provision.CheckClaim(g.ctx, c.a.who.scope, c.a.who.principal); err != nil && fleet.KindOf(err) != fleet.KindInternal {
			g.endClaim(c, "the claim is not valid any more")
		}
	}
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
		var late []*claimAccess
		g.mu.Lock()
		for c := range g.claims {
			if now.After(c.a.who.claim.Expires.Add(claimGrace)) {
				late = append(late, c)
			}
		}
		g.mu.Unlock()
		for _, c := range late {
			g.endClaim(c, "the claim has expired")
		}
	}
}
