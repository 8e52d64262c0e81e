package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/trace"
)

// flows knows which connections are in the middle of provisioning: a request is being served, or the device has its certificate
// and has not registered yet. A server that stops waits for those.
type flows struct {
	mu      sync.Mutex
	open    map[*mqtt.Client]*flow
	changed chan struct{} // closed and replaced when a flow ends
}

type flow struct {
	serving int
	until   time.Time // after this nobody waits for the device any more; zero: it has nothing left to do
}

// flowPatience is how long a device is waited for that has its certificate and could register now.
const flowPatience = 5 * time.Second

func newFlows() flows { return flows{open: map[*mqtt.Client]*flow{}, changed: make(chan struct{})} }

// begin notes that a request of a connection is being served, done that it was: ok is false if it was refused or if nobody was
// there to hear the answer.
func (f *flows) begin(c *mqtt.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[c] == nil {
		f.open[c] = &flow{}
	}
	f.open[c].serving++
}

func (f *flows) done(c *mqtt.Client, kind string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.open[c]
	if now == nil { // the connection has ended meanwhile
		return
	}
	now.serving--
	switch {
	case kind == trace.Create && ok:
		now.until = time.Now().Add(flowPatience) // a duration; the clock may be moved
	case kind == trace.Register:
		now.until = time.Time{}
	}
	if now.serving == 0 && now.until.IsZero() {
		f.forget(c)
	}
}

// gone notes that a connection has ended.
func (f *flows) gone(c *mqtt.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[c] != nil {
		f.forget(c)
	}
}

// forget ends a flow. f.mu is held.
func (f *flows) forget(c *mqtt.Client) {
	delete(f.open, c)
	close(f.changed)
	f.changed = make(chan struct{})
}

// waitFor reports whether somebody is in the middle of a flow, until when at the latest unless something changes, and how to
// hear of that.
func (f *flows) waitFor() (is func(*mqtt.Client) bool, any bool, until time.Time, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, in := time.Now(), map[*mqtt.Client]bool{}
	until = now.Add(flowPatience)
	for c, flow := range f.open {
		if flow.serving > 0 || now.Before(flow.until) {
			in[c] = true
		}
		if flow.serving == 0 && now.Before(flow.until) && flow.until.Before(until) {
			until = flow.until
		}
	}
	return func(c *mqtt.Client) bool { return in[c] }, len(in) > 0, until, f.changed
}

// Drain tells every client to go that is not in the middle of provisioning, and returns when nobody is, or when ctx ends. The
// listeners must be closed before.
func (g *Gateway) Drain(ctx context.Context) {
	for {
		inFlow, any, until, changed := g.flows.waitFor()
		g.broker.Disconnect(func(_ *mqtt.Identity, c *mqtt.Client) bool { return !inFlow(c) }, mqtt.ShuttingDown)
		if !any {
			return
		}
		next := time.NewTimer(time.Until(until))
		select {
		case <-changed:
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
		next.Stop()
	}
}
