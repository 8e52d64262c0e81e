package mqtt

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// testScope is where test clients live unless a test says otherwise.
var testScope = fleet.Scope{Account: "123456789012", Region: "eu-central-1"}

// A peer is the owner of the connections of a test: what it denies, and what it has heard.
type peer struct {
	scope     fleet.Scope
	principal string
	owe       func(filters int) time.Duration

	mu         sync.Mutex
	connect    error
	publish    map[string]error
	subscribe  map[string]error
	receive    map[string]error
	asked      func() // if set, is called whenever a message is about to be sent
	events     []Event
	lastWill   *Connect
	retainable error
}

func (p *peer) Connect(_ context.Context, c *Connect) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastWill = c
	return p.connect
}

func (p *peer) Publish(topic string, retain bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if retain && p.retainable != nil {
		return p.retainable
	}
	return p.publish[topic]
}

func (p *peer) Subscribe(filter string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.subscribe[filter]
}

func (p *peer) Receive(topic string) error {
	p.mu.Lock()
	err := p.receive[topic]
	asked := p.asked
	p.mu.Unlock()
	if asked != nil {
		asked()
	}
	return err
}

func (p *peer) notify(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// ends returns the reasons of the ended connections, in order.
func (p *peer) ends() (out []Reason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Kind == Disconnected {
			out = append(out, e.End.Reason)
		}
	}
	return out
}

func (p *peer) kinds() (out []EventKind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		out = append(out, e.Kind)
	}
	return out
}

// A server is a broker under test.
type server struct {
	*Broker
	t    testing.TB
	wg   sync.WaitGroup
	ends chan End
}

func serve(t testing.TB, cfg Config) *server {
	s := &server{Broker: New(cfg), t: t, ends: make(chan End, 1024)}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), mqtttest.Patience())
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		s.wg.Wait()
	})
	return s
}

// dial returns a client on a new connection of p.
func (s *server) dial(p *peer, version byte) *mqtttest.Client {
	here, there := net.Pipe()
	scope := p.scope
	if scope.Account == "" {
		scope = testScope
	}
	s.wg.Go(func() {
		s.ends <- s.Serve(context.Background(), there, Identity{Scope: scope, Principal: p.principal, Access: p, Owe: p.owe, Notify: p.notify})
	})
	return mqtttest.New(s.t, here, version)
}

// gone waits until a connection has been served to its end, and returns how it ended.
func (s *server) gone() End {
	s.t.Helper()
	select {
	case e := <-s.ends:
		return e
	case <-time.After(mqtttest.Patience()):
		s.t.Fatal("no connection ended")
	}
	return End{}
}

func denied(text string) error { return fleet.Denied("%s", text) }

func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantList[T comparable](t testing.TB, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// wantLife checks the seconds that a message has left to live, of those that it had when it was published or later.
func wantLife(t testing.TB, pk packets.Packet, life uint32, published time.Time) {
	t.Helper()
	gone := uint32(time.Since(published)/time.Second) + 1 // what is left is told in whole seconds
	if left := pk.Properties.MessageExpiryInterval; left > life || left+gone < life {
		t.Errorf("message expiry interval %d of %d, at most %d seconds later", left, life, gone)
	}
}

// leave has a client make a session, subscribe and go.
func (s *server) leave(p *peer, version byte, id string, filters ...string) {
	c := s.dial(p, version).Connected(id, persistent)
	c.Subscribe(filters...)
	c.Disconnect()
	s.gone()
}

// both runs a test for each protocol version.
func both(t *testing.T, f func(t *testing.T, version byte)) {
	for name, version := range map[string]byte{"3.1.1": 4, "5": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, version)
		})
	}
}

func encodeConnect(t testing.TB, clientID string, version byte) []byte {
	t.Helper()
	return mqtttest.Encode(t, mqtttest.ConnectPacket(clientID), version)
}

// holds counts what the broker keeps for the test's scope.
func (s *server) holds() (sessions, retained int) {
	sp := s.space(testScope)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.retained.mu.Lock()
	defer sp.retained.mu.Unlock()
	return len(sp.sessions), len(sp.retained.topics)
}
