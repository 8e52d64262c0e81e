package gateway

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/trace"
)

// claimAccess holds a claim to the fixed policy of claims: any client id, the provisioning topics of its template, nothing else
// (provisioning spec 1.4).
type claimAccess struct {
	g      *Gateway
	a      *arrival
	topics []string // of the requests that the claim may make
	told   atomic.Int32
}

var _ mqtt.Access = (*claimAccess)(nil)

// claimGrace is how long after its claim's end a session may live on, so that a slow hook can still answer.
const claimGrace = 5 * time.Minute

func (g *Gateway) serveClaim(tc *tls.Conn, a *arrival) mqtt.End {
	c := &claimAccess{g: g, a: a, topics: provisioningTopics(a.who.claim.Template)}
	g.mu.Lock()
	g.claims[c] = true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.claims, c)
		g.mu.Unlock()
	}()
	return g.speak(tc, a, c, true)
}

// Connect implements mqtt.Access. The claim is looked at once more, now that a withdrawal of it would find the connection.
func (c *claimAccess) Connect(ctx context.Context, p *mqtt.Connect) error {
	c.a.trace.Fact("clientId", p.ClientID)
	err := c.g.checkRoom()
	if err == nil {
		err = c.g.checkClaim(ctx, c.a)
	}
	if err != nil {
		c.a.finish(c.g, err)
	}
	return err
}

// Publish implements mqtt.Access.
func (c *claimAccess) Publish(topic string, retain bool) error {
	if !retain && slices.Contains(c.topics, topic) {
		return nil
	}
	return c.refuse("publish to", topic)
}

// Subscribe implements mqtt.Access.
func (c *claimAccess) Subscribe(filter string) error {
	if c.Receive(filter) == nil {
		return nil
	}
	return c.refuse("subscribe to", filter)
}

// Receive implements mqtt.Access.
func (c *claimAccess) Receive(topic string) error {
	if slices.Contains(c.topics, reserved.Request(topic)) {
		return nil
	}
	return errNotForIt
}

// checkClaim checks that the claim of an arrival may still be used. A refusal is of KindDenied and its trace says what to do.
func (g *Gateway) checkClaim(ctx context.Context, a *arrival) error {
	err := g.Provision.CheckClaim(ctx, a.who.scope, a.who.principal)
	switch fleet.KindOf(err) {
	case fleet.KindNotFound:
		err = refuse("the claim exists no more")
		fallthrough
	case fleet.KindDenied:
		a.trace.SetCure("enable the template, or make it anew if it is gone, then ask for a new claim, as somebody who may do so")
	}
	return err
}

func (c *claimAccess) refuse(what, topic string) error {
	err := fleet.Denied("a claim for template %s may not %s %s", c.a.who.claim.Template, what, topic).WithCode("AUTHORIZATION_FAILED")
	if c.told.Add(1) > toldPerConnection {
		return err
	}
	t := trace.New(c.a.who.scope, trace.Connect, c.g.Clock)
	t.Fact("claimId", c.a.who.principal)
	t.Fact("sourceIp", c.a.address)
	t.Fact("template", c.a.who.claim.Template)
	t.SetCure("a claim is good for the provisioning topics of its own template only: %s", strings.Join(c.topics, ", "))
	c.g.Recorder.Finish(t, err)
	return err
}
