// Package mqtt is the message core of the device gateway: MQTT 3.1.1 and 5 at QoS 0 and 1 on connections that somebody else
// has accepted and identified. It knows sessions, topics, retained messages and wills, and nothing of TLS, certificates,
// policies or SQL: what a connection may do it asks the Access that was handed in with the connection, and what happens on
// reserved topics it leaves to the handlers in its Config.
//
// Begin with Broker.Serve here, then read conn.go (one connection's life), session.go (what outlives a connection) and
// tree.go (who gets a message). DESIGN.md tells why it is built so; the rules are iot-core spec sections 5.9 and 6.
package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Config is what a Broker needs. Its zero value is a broker without reserved topics and with the default limits.
type Config struct {
	// Reserved is the table of reserved topics: a publish to a topic that begins with one of the prefixes goes to its handler
	// and nowhere else. The longest prefix wins. A client's publish to any other topic that begins with "$" ends the connection.
	Reserved map[string]Handler

	// SessionExpiry is how long a persistent session outlives its connection at most; 0 is one hour, the ceiling is seven days
	// (iot-core spec 6.6).
	SessionExpiry time.Duration

	// Denied says what 3.1.1 clients hear of a denial.
	Denied Denied

	// Queue is how many QoS 1 messages may wait for one session (0: 1000), QueueBytes how many bytes may wait for all sessions of
	// a scope (0: 64 MiB). Retained and RetainedBytes bound the retained messages of a scope (0: 100,000 and 256 MiB). TotalBytes
	// bounds both together, of all scopes (0: 1 GiB).
	// Sessions is how many sessions a scope may have (0: one million); a CONNECT that asks for one more to keep is refused.
	Queue         int
	Sessions      int
	TotalBytes    int64
	QueueBytes    int64
	Retained      int
	RetainedBytes int64

	// Limits are rates that clients may not exceed.
	Limits Limits

	// Rules, if set, get messages beside their subscribers, and alone what is published to $aws/rules/RULE/rest (iot-core spec 6.11).
	Rules Rules

	// Journal keeps persistent sessions and retained messages through a restart; nil: nothing is kept.
	Journal Journal

	// Clock measures elapsed time: keep-alive, expiry. Leave it nil outside tests, so that a step of the wall clock ends nobody's
	// connection.
	Clock fleet.Clock
	Log   *slog.Logger
}

// Denied says what 3.1.1 clients, whose protocol has few words for it, hear of a denial (iot-core spec 5.9).
type Denied struct {
	Connack int  // return code of the CONNACK for a denied CONNECT: 5 (also for 0), 7, or -1 to close without CONNACK
	Keep    bool // a connection stays open after the SUBACK for a denied SUBSCRIBE
}

// An Access decides what one connection may do. It is called from several goroutines at once, must not call the broker, and
// should answer from memory: the broker holds locks of the connection's session meanwhile.
//
// A nil error allows. A *fleet.Error of kind KindDenied refuses, and its text becomes the reason string of MQTT 5 answers, as
// does that of kind KindThrottled, which says that a quota is used up; an End is how the connection ends, without a word if it
// has no Code; any other error is ours and ends the connection as a server error.
type Access interface {
	// Connect is called once, before the other methods. The will has been found well-formed and is asked for separately through
	// Publish, after Connect has allowed.
	Connect(ctx context.Context, c *Connect) error
	Publish(topic string, retain bool) error
	Subscribe(filter string) error // filter as sent, "$share/group/" included
	Receive(topic string) error    // what is refused is not delivered, silently
}

// An Identity is who is at the other end of a connection, established before the first MQTT byte.
type Identity struct {
	Scope     fleet.Scope
	Principal string // certificate id or the like; shown in events
	Access    Access
	Brief     bool // whatever the client asks for, its sessions end with their connections

	// Owe, if not nil, hears of each packet with n filters to subscribe to or unsubscribe from, and returns how long the client is kept
	// waiting before it takes effect. It is held back by TCP meanwhile.
	Owe func(n int) time.Duration

	// Notify, if not nil, hears of everything in the life of this connection, in order. It should return soon, may publish, and
	// must not disconnect anybody: Disconnect waits for it.
	Notify func(Event)

	// Published, if not nil, hears of each PUBLISH of the client that has a topic, and why it was refused; nil: it was not. It
	// must be quick.
	Published func(m *Message, refused error)
}

// A Broker serves connections of any number of scopes that see nothing of each other.
type Broker struct {
	cfg    Config
	log    *slog.Logger
	wheel  *wheel
	keeper *keeper // nil without a journal

	ctx    context.Context // of the reserved handlers: ends with Close
	cancel context.CancelFunc

	received, sent atomic.Uint64 // messages
	stored         atomic.Int64  // bytes of messages that wait or are retained
	dropped        atomic.Uint64 // messages that found no room

	mu     sync.Mutex
	conns  map[*conn]struct{}
	spaces map[fleet.Scope]*space
	closed bool
	idle   chan struct{} // closed when the last connection is gone after Close
}

// New returns a broker that is ready to serve. Close stops it.
func New(cfg Config) *Broker {
	if cfg.SessionExpiry <= 0 {
		cfg.SessionExpiry = defaultSessionExpiry
	}
	cfg.SessionExpiry = min(cfg.SessionExpiry, maxSessionExpiry)
	if cfg.Denied.Connack == 0 {
		cfg.Denied.Connack = 5
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 1000
	}
	if cfg.QueueBytes <= 0 {
		cfg.QueueBytes = 64 << 20
	}
	if cfg.Sessions <= 0 {
		cfg.Sessions = 1_000_000
	}
	if cfg.TotalBytes <= 0 {
		cfg.TotalBytes = 1 << 30
	}
	if cfg.Retained <= 0 {
		cfg.Retained = 100_000
	}
	if cfg.RetainedBytes <= 0 {
		cfg.RetainedBytes = 256 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		cfg:    cfg,
		log:    cfg.Log,
		wheel:  newWheel(cfg.Clock),
		conns:  make(map[*conn]struct{}),
		spaces: make(map[fleet.Scope]*space),
		idle:   make(chan struct{}),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.keeper = newKeeper(b, cfg.Journal)
	return b
}

// ShuttingDown is how connections end when the server does.
var ShuttingDown = End{Reason: ServerInitiated, Code: codeShuttingDown, Text: "the server is shutting down"}

// Serve speaks MQTT on nc until the connection ends, closes nc, and says how it ended. It blocks; the caller gives it a
// goroutine. Ending ctx ends the connection.
func (b *Broker) Serve(ctx context.Context, nc net.Conn, id Identity) End {
	c := newConn(b, nc, id)
	if !b.add(c) {
		nc.Close()
		return ShuttingDown
	}
	defer b.remove(c)
	stop := context.AfterFunc(ctx, func() { c.end(ShuttingDown) })
	defer stop()
	c.run(ctx)
	return c.ended()
}

func (b *Broker) add(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *Broker) remove(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
	if b.closed && len(b.conns) == 0 {
		close(b.idle)
	}
}

// A Match picks connections. Client is nil before the CONNECT packet.
type Match func(id *Identity, client *Client) bool

// Disconnect ends every connection that match picks, for the given reason, and returns how many there were. Connections that
// have not sent their CONNECT yet are asked about too.
func (b *Broker) Disconnect(match Match, how End) int {
	b.mu.Lock()
	var picked []*conn
	for c := range b.conns {
		if match(&c.id, c.client.Load()) {
			picked = append(picked, c)
		}
	}
	b.mu.Unlock()
	for _, c := range picked {
		c.end(how)
	}
	return len(picked)
}

// Connections returns how many connections are being served, those before their CONNECT included.
func (b *Broker) Connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// Messages returns how many messages clients have published, refused ones included, and how many were sent to clients.
func (b *Broker) Messages() (received, sent uint64) { return b.received.Load(), b.sent.Load() }

// Stored returns how many bytes of messages wait or are retained, and how many QoS 1 messages were dropped because there was no room
// for them to wait.
func (b *Broker) Stored() (bytes int64, dropped uint64) { return b.stored.Load(), b.dropped.Load() }

// Publish routes a message of the service itself to the subscribers in scope, whatever its topic: what arrives by HTTP after it
// was authorised. Receivers need to be allowed to receive it. It returns when the message is safe from a power cut wherever it
// has to be; when ctx ends before, that is not known.
func (b *Broker) Publish(ctx context.Context, scope fleet.Scope, m *Message) error {
	var w wait
	if err := b.publish(ctx, scope, m, &w); err != nil {
		return err
	}
	return w.now(ctx)
}

// Announce is Publish for events: it does not wait, and nobody is told whether they are safe.
func (b *Broker) Announce(scope fleet.Scope, m *Message) error {
	return b.publish(b.ctx, scope, m, nil)
}

// Heard reports whether a session, connected or kept, subscribes to topic, or a rule selects it. It spares those who announce
// what nobody wants to hear the work. A scope whose sessions are not read yet may hold one that does.
func (b *Broker) Heard(scope fleet.Scope, topic string) bool {
	s := b.space(scope)
	if !s.loaded.Load() {
		return true
	}
	hits := s.tree.match(topic, nil)
	defer hits.free()
	if len(hits.list) > 0 {
		return true
	}
	work, err := s.work(&Message{Topic: topic})
	return work != nil || err != nil
}

func (b *Broker) publish(ctx context.Context, scope fleet.Scope, m *Message, w *wait) error {
	if err := fleet.CheckTopic(m.Topic); err != nil && !strings.HasPrefix(m.Topic, "$aws/events/") { // events with two long names are longer than topics may be
		return err
	}
	if len(m.Payload) > MaxPayload {
		return fleet.OverLimit("payload", m.Topic, "a message has at most %d bytes", MaxPayload)
	}
	s, err := b.open(ctx, scope)
	if err != nil {
		return err
	}
	if ingested(m.Topic) {
		return s.ingest(m, w)
	}
	return s.publish(m, nil, w)
}

// open returns the scope's sessions, topics and retained messages, with what the journal keeps of them.
func (b *Broker) open(ctx context.Context, scope fleet.Scope) (*space, error) {
	s := b.space(scope)
	return s, s.load(ctx)
}

// Load reads what is kept of a scope, so that the first client does not wait for it and sessions end in time.
func (b *Broker) Load(ctx context.Context, scope fleet.Scope) error {
	_, err := b.open(ctx, scope)
	return err
}

// space returns the scope's sessions, topics and retained messages, made on first use and perhaps not loaded yet.
func (b *Broker) space(scope fleet.Scope) *space {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.spaces[scope]
	if s == nil {
		s = newSpace(b, scope)
		b.spaces[scope] = s
	}
	return s
}

// Close refuses new connections, ends those that are open as a shutdown, and waits for them and their reserved requests until
// ctx ends.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return errors.New("mqtt: broker closed twice")
	}
	b.closed = true
	if len(b.conns) == 0 {
		close(b.idle)
	}
	b.mu.Unlock()
	b.Disconnect(func(*Identity, *Client) bool { return true }, ShuttingDown)
	defer b.wheel.close()
	defer b.cancel()
	select {
	case <-b.idle:
		return b.keeper.close(ctx)
	case <-ctx.Done():
		// What sessions are now is worth a moment more.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return errors.Join(ctx.Err(), b.keeper.close(last))
	}
}
