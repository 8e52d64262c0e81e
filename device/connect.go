package device

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/device/internal/mqtt"
)

// Options say how to connect with an identity. The zero value is sensible.
type Options struct {
	ClientID  string        // empty: the identity's
	Ports     []int         // nil: the identity's
	MQTT      string        // MQTT311 or MQTT5; empty: MQTT311
	KeepAlive time.Duration // 0: one minute
	OnMessage func(Message) // called for one message at a time; must not block for long, nor call methods of the Conn

	Log  *slog.Logger     // nil: silent
	Now  func() time.Time // nil: time.Now
	Dial DialFunc         // nil: net.Dialer
}

// A Message is what arrived on a topic.
type Message struct {
	Topic   string
	Payload []byte
}

// A Conn is a connection with the device's identity. Its methods may be called from several goroutines.
type Conn struct {
	c           *mqtt.Client
	id          *Identity
	port        int
	serverSince time.Time                // when the server's certificate began, by the server's clock
	asking      atomic.Pointer[exchange] // takes the answers of the provisioning topics; nil: nobody asks
}

func (o Options) complete() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o
}

// Connect opens a connection. The error is an *Error: of KindRefused if the service does not accept the identity, of
// KindConnect if it cannot be reached or trusted. There is no reconnecting: Run does that.
func Connect(ctx context.Context, id *Identity, o Options) (*Conn, error) {
	o = o.complete()
	if o.ClientID == "" {
		o.ClientID = id.ClientID
	}
	if len(o.Ports) == 0 {
		o.Ports = id.Ports
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = time.Minute
	}
	version, err := mqttVersion(o.MQTT)
	if err != nil {
		return nil, err
	}
	d := &dialer{endpoint: id.Endpoint, ports: o.Ports, roots: id.roots, version: version, now: id.clock(o.Now), dial: o.Dial, log: o.Log}
	conn := &Conn{id: id}
	mo := mqtt.Options{ClientID: o.ClientID, KeepAlive: o.KeepAlive, OnMessage: func(m mqtt.Message) {
		if x := conn.asking.Load(); x != nil && provisioningTopic(m.Topic) {
			x.receive(m)
		} else if o.OnMessage != nil {
			o.OnMessage(Message{m.Topic, m.Payload})
		}
	}}
	if conn.c, conn.port, err = d.connect(ctx, id.pair, mo, identityRefused); err != nil {
		return nil, err
	}
	conn.serverSince = d.since
	return conn, nil
}

// session asks for certificates over the connection, beside what else goes over it.
func (c *Conn) session(format string) session {
	x := newExchange(c.id.Endpoint, format)
	x.client, x.usedPort = c.c, c.port
	c.asking.Store(x)
	return &connSession{x, c}
}

// A connSession is a session that leaves its connection open.
type connSession struct {
	*exchange
	c *Conn
}

func (s *connSession) close() { s.c.asking.Store(nil) }

// Identity returns the identity that the connection was made with.
func (c *Conn) Identity() *Identity { return c.id }

// ClientID returns the id that the connection goes by.
func (c *Conn) ClientID() string { return c.c.ClientID() }

// Port returns the port that the connection was made to.
func (c *Conn) Port() int { return c.port }

// Publish sends a message with QoS 0 or 1. At 1 it returns when the service has acknowledged it. A refusal by policy is of
// KindRefused; with MQTT 3.1.1 the service has no way to say so but to close the connection, with CodeClosed.
func (c *Conn) Publish(ctx context.Context, topic string, payload []byte, qos byte) error {
	return c.explain("publish to "+topic, c.c.Publish(ctx, topic, payload, qos))
}

// Subscribe asks for messages on a topic filter, with QoS 0 or 1. Errors are as for Publish.
func (c *Conn) Subscribe(ctx context.Context, filter string, qos byte) error {
	return c.explain("subscribe to "+filter, c.c.Subscribe(ctx, qos, filter))
}

// Ping proves that the service still serves the connection.
func (c *Conn) Ping(ctx context.Context) error {
	return c.explain("ping", c.c.Ping(ctx))
}

func (c *Conn) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Kind: KindConnect, Code: CodeUnreachable, Message: "cannot " + what, Err: err, retry: always, Cure: "check the network"}
	var r *mqtt.Refused
	switch silent := mqtt.IsClosedByPeer(err); {
	case errors.As(err, &r) && !r.Transient():
		e.Kind, e.Code, e.retry = KindRefused, CodeNotAuthorized, never
	case silent:
		e.Kind, e.Code, e.retry = KindRefused, CodeClosed, few
	case errors.Is(err, context.Canceled):
		return interrupted(err)
	}
	if e.Kind == KindRefused {
		e.Cure = "the policy of this device's certificate must allow it"
	}
	return e
}

// Done is closed when the connection has ended; Err then tells why.
func (c *Conn) Done() <-chan struct{} { return c.c.Done() }

// Err returns why the connection ended, nil while it is open.
func (c *Conn) Err() error { return c.c.Err() }

// Close says goodbye and ends the connection.
func (c *Conn) Close() { c.c.Close() }
