package gateway

import (
	"context"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/reserved"
)

// provisioningTopics are the topics of the requests with which a certificate is had from a template.
func provisioningTopics(template string) (topics []string) {
	for _, f := range reserved.Formats {
		for _, o := range []reserved.Operation{reserved.Create, reserved.CreateFromCSR, reserved.Register} {
			topics = append(topics, o.Topic(template, f))
		}
	}
	return topics
}

// admitExpired lets a certificate in after its end, if the template that it comes from gives it some time to renew itself.
func (g *Gateway) admitExpired(a *arrival, i identity, leaf *x509.Certificate, now time.Time) (identity, error) {
	template, until, found, err := g.Provision.Grace(g.ctx, i.scope, i.principal)
	if err != nil {
		return i, err
	}
	if !found {
		return i, a.notValid(leaf, now)
	}
	i.renews = &renewal{until, provisioningTopics(template)}
	a.trace.Step("certificate", "expired at %s; to renew itself with template %s, and for nothing else, it may connect until %s (ExpiredGrace)",
		leaf.NotAfter.Format(time.RFC3339), template, until.Format(time.RFC3339))
	return i, nil
}

// A renewal is what remains of the rights of a certificate that has expired: what its policies allow of these topics.
type renewal struct {
	until  time.Time
	topics []string // of the requests
}

// allows checks a topic that is published or subscribed to.
func (r *renewal) allows(now time.Time, action, topic string) error {
	if r == nil || now.Before(r.until) && slices.Contains(r.topics, reserved.Request(topic)) {
		return nil
	}
	return fleet.Denied("%s on %s is not allowed: the certificate has expired and may do nothing but renew itself", action, topic).WithCode("AUTHORIZATION_FAILED")
}

// arrivals gathers which certificates have connected, so that many are noted at once.
type arrivals struct {
	mu    sync.Mutex
	at    map[usedCertificate]time.Time
	filed chan struct{} // has room for one: there is something to note
}

type usedCertificate struct {
	scope fleet.Scope
	id    string
}

const (
	noteEvery   = time.Second
	maxArrivals = 100_000 // not noted yet; more are forgotten, and come again
)

func newArrivals() arrivals {
	return arrivals{at: map[usedCertificate]time.Time{}, filed: make(chan struct{}, 1)}
}

func (s *arrivals) add(scope fleet.Scope, id string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.at) < maxArrivals {
		s.at[usedCertificate{scope, id}] = at
	}
	select {
	case s.filed <- struct{}{}:
	default:
	}
}

func (s *arrivals) take() (list []provision.Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, at := range s.at {
		list = append(list, provision.Connection{Scope: c.scope, Certificate: c.id, At: at})
	}
	clear(s.at)
	return list
}

// noteArrivals tells the rules of provisioning who has connected, until the gateway is closed. What fails is left out: the next
// connection says the same.
func (g *Gateway) noteArrivals() {
	for {
		select {
		case <-g.arrivals.filed:
		case <-g.ctx.Done():
			g.note(context.WithoutCancel(g.ctx))
			return
		}
		g.note(g.ctx)
		select {
		case <-time.After(noteEvery):
		case <-g.ctx.Done():
		}
	}
}

func (g *Gateway) note(ctx context.Context) {
	list := g.arrivals.take()
	if len(list) == 0 {
		return
	}
	if err := g.Provision.Connected(ctx, list); err != nil {
		g.Log.Error("noting which certificates have connected", "error", err)
	}
}
