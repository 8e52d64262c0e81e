package gateway

import (
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
)

// What somebody who has proven who they are does badly is held against them as they come from one address: not against all others
// behind that address, thousands of devices perhaps, nor against all who share a bootstrap certificate.

type party struct {
	scope     fleet.Scope
	principal string
	from      admission.Address
}

// conduct is how parties behave.
type conduct struct {
	violations *admission.Buckets[party]
	filters    *admission.Buckets[party]
}

func newConduct(clock fleet.Clock) conduct {
	return conduct{admission.NewBuckets[party](clock), admission.NewBuckets[party](clock)}
}

func (a *arrival) party() party {
	return party{a.who.scope, a.who.principal, admission.AddressOf(a.address)}
}

// violates reports whether a connection ended for what its client did.
func violates(end mqtt.End) bool {
	return end.Reason == mqtt.ClientError || end.Reason == mqtt.AuthError
}

// judge holds the end of a connection against its party.
func (g *Gateway) judge(a *arrival, end mqtt.End) {
	if violates(end) && !a.visit.Trusted() {
		g.conduct.violations.Charge(a.party(), 1, g.Violations)
	}
}

// holdBack keeps a party waiting that was disconnected too often for what it did: its CONNECT is read late. It is a stranger
// meanwhile, with a seat like any other, so that those who wait are bounded.
func (g *Gateway) holdBack(a *arrival) {
	if a.visit.Trusted() {
		return
	}
	a.visit.Hold(g.ctx, g.conduct.violations.Wait(a.party(), g.Violations))
}

// deter keeps somebody waiting who is refused, if their address is in bad standing. It is no work.
func (g *Gateway) deter(a *arrival) {
	g.Work.Add(-1)
	defer g.Work.Add(1)
	a.visit.Deter(g.ctx)
}

// owe has a party wait that subscribes and unsubscribes too fast.
func (g *Gateway) owe(a *arrival) func(filters int) time.Duration {
	if g.Filters == (admission.Rate{}) || a.visit.Trusted() {
		return nil
	}
	who := a.party()
	return func(n int) time.Duration { return g.conduct.filters.Charge(who, float64(n), g.Filters) }
}
