package mqtt

import (
	"sync"
	"time"
)

// Limits are rates per second, and numbers, that nobody may exceed. Zero is no limit, and the zero Limits are none at all. What
// exceeds them is treated as AWS does (iot-core spec 6.4, 6.7, 6.13, 11).
type Limits struct {
	Connections    int // open, per scope
	Connects       int // CONNECTs per scope and second; more are refused
	ClientConnects int // CONNECTs per client id and second; more are refused
	Subscriptions  int // per scope; more are refused
	Subscribes     int // filters per scope and second; more are refused
	Inbound        int // messages from clients per scope and second; more are dropped, without PUBACK
	Outbound       int // messages to clients per scope and second; at QoS 0 more are dropped, at QoS 1 they wait
	Messages       int // per connection and second, both directions together; as Inbound and Outbound
	Bytes          int // per connection, direction and second; more are delayed
	Replay         int // messages per second that a resumed session gets of those that waited; others pass them by
	SharedReplay   int // messages per second that a member takes of those that waited in its group
}

// AWSLimits are those of AWS (iot-core spec 11).
func AWSLimits() Limits {
	return Limits{Connections: 500_000, Connects: 500, ClientConnects: 1, Subscriptions: 500_000, Subscribes: 500, Inbound: 20_000, Outbound: 20_000,
		Messages: 100, Bytes: 512 << 10, Replay: 10, SharedReplay: 20}
}

// A bucket lets a rate through, with bursts of what one second allows. Its zero value is full.
type bucket struct {
	mu    sync.Mutex
	spent float64 // of what a second allows, at
	at    time.Time
}

// take reports whether n more are within rate, and counts them if so.
func (b *bucket) take(now time.Time, rate, n int) bool {
	if rate == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(now, rate)
	if b.spent+float64(n) > float64(rate) {
		return false
	}
	b.spent += float64(n)
	return true
}

// owe counts n whatever the rate and returns how long to wait until they are within it.
func (b *bucket) owe(now time.Time, rate, n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(now, rate)
	b.spent += float64(n)
	return time.Duration(max(0, b.spent-float64(rate)) / float64(rate) * float64(time.Second))
}

func (b *bucket) settle(now time.Time, rate int) {
	if !b.at.IsZero() {
		b.spent = max(0, b.spent-now.Sub(b.at).Seconds()*float64(rate))
	}
	b.at = now
}

// scopeRates are the buckets that all clients of a scope share.
type scopeRates struct {
	connects, subscribes, inbound, outbound bucket

	mu      sync.Mutex
	second  int64
	clients map[string]int // CONNECTs in this second, by client id
}

// connRates are the buckets of one connection.
type connRates struct {
	messages, in, out bucket
	replay, shared    bucket
}

// admitConnect reports whether a CONNECT is within the limits.
func (s *space) admitConnect(clientID string) bool {
	l := &s.b.cfg.Limits
	now := s.b.now()
	if l.ClientConnects > 0 && !s.rates.client(clientID, now.Unix(), l.ClientConnects) {
		return false
	}
	if l.Connections > 0 && int(s.open.Load()) >= l.Connections {
		return false
	}
	return s.rates.connects.take(now, l.Connects, 1)
}

// admitSubscription reports whether one more is within the limits.
func (s *space) admitSubscription() bool {
	l := &s.b.cfg.Limits
	if l.Subscriptions > 0 && int(s.subs.Load()) >= l.Subscriptions {
		return false
	}
	return s.rates.subscribes.take(s.b.now(), l.Subscribes, 1)
}

func (r *scopeRates) client(id string, second int64, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.second != second || r.clients == nil {
		r.second, r.clients = second, map[string]int{}
	}
	r.clients[id]++
	return r.clients[id] <= limit
}

// admitMessage reports whether a message from the client is within the limits.
func (c *conn) admitMessage() bool {
	if c.rates == nil {
		return true
	}
	l, now := &c.b.cfg.Limits, c.b.now()
	return c.rates.messages.take(now, l.Messages, 1) && c.sess.space.rates.inbound.take(now, l.Inbound, 1)
}

// maySend reports whether a message to the client is within the limits, and counts it if so.
func (c *conn) maySend() bool {
	if c.rates == nil {
		return true
	}
	l, now := &c.b.cfg.Limits, c.b.now()
	return c.rates.messages.take(now, l.Messages, 1) && c.sess.space.rates.outbound.take(now, l.Outbound, 1)
}

// slowDown holds the reader back when the client sends more bytes than it may.
func (c *conn) slowDown(n int) {
	if c.rates == nil || c.b.cfg.Limits.Bytes == 0 {
		return
	}
	_ = c.pause(c.rates.in.owe(c.b.now(), c.b.cfg.Limits.Bytes, n)) // how tells
}

// owe holds the reader back when the client has asked for more filters than it may.
func (c *conn) owe(filters int) error {
	if c.id.Owe == nil {
		return nil
	}
	return c.pause(c.id.Owe(filters))
}

// pause holds the reader back for d. The error is the end of the connection, if that came meanwhile.
func (c *conn) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := &ticket{}
	t.left.Store(2) // the timer's, and that of await
	timer := time.AfterFunc(d, t.release)
	defer timer.Stop()
	return c.await(&wait{t})
}

// paceOut is slowDown for the writer, which ends anyway when its connection does.
func (c *conn) paceOut(n int) {
	if c.rates == nil || c.b.cfg.Limits.Bytes == 0 {
		return
	}
	if d := c.rates.out.owe(c.b.now(), c.b.cfg.Limits.Bytes, n); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.b.ctx.Done():
		}
	}
}

// later has the session go on in a second with what a rate has held back. The session is locked.
func (s *session) later() {
	if s.pace == nil {
		s.pace = &timer{fire: func() { go s.goOn() }}
	}
	if !s.pacing {
		s.pacing = true
		s.space.b.wheel.set(s.pace, 0) // with the next tick
	}
}

func (s *session) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pacing = false
	if s.conn != nil {
		s.drain(s.conn)
	}
}
