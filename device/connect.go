package device

import (
	"context"
	"errors"
	"log/slog"
	"net"
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
	c    *mqtt.Client
	port int
}

// Connect opens a connection. The error is an *Error: of KindRefused if the service does not accept the identity, of
// KindConnect if it cannot be reached or trusted. There is no reconnecting: Run does that.
func Connect(ctx context.Context, id *Identity, o Options) (*Conn, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
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
	mo := mqtt.Options{ClientID: o.ClientID, KeepAlive: o.KeepAlive}
	if o.OnMessage != nil {
		mo.OnMessage = func(m mqtt.Message) { o.OnMessage(Message{m.Topic, m.Payload}) }
	}
	c, port, err := d.connect(ctx, id.pair, mo, identityRefused)
	if err != nil {
		return nil, err
	}
	return &Conn{c, port}, nil
}

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

// A RunConfig says what Run shall do.
type RunConfig struct {
	Options

	// Connected is called for each connection, to subscribe and publish. It must return when the connection is done or ctx
	// ends. Run waits for it. An error ends the connection, and Run too if Stop says so.
	Connected func(ctx context.Context, c *Conn) error

	// Lost is told why there is no connection and when the next attempt comes. It may be nil.
	Lost func(err error, next time.Duration)

	// Stop decides whether an error ends Run instead of leading to another attempt. nil: none does but the end of ctx.
	Stop func(err error) bool

	sleep func(ctx context.Context, d time.Duration) (ended bool)
}

// Pauses of Run: a fleet that lost its service must not come back at once.
const (
	firstRunPause   = time.Second
	longestRunPause = 5 * time.Minute
	steady          = 30 * time.Second // a connection that lasted so long starts the pauses anew
)

// Run stays connected until ctx ends, which is no error. It asks identity before each attempt, so that a new identity is used
// at the next one: give it Store.Identity.
func Run(ctx context.Context, identity func() (*Identity, error), rc RunConfig) error {
	if rc.Connected == nil {
		rc.Connected = func(context.Context, *Conn) error { return nil }
	}
	if rc.sleep == nil {
		rc.sleep = sleep
	}
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := runOnce(ctx, identity, rc)
		if ctx.Err() != nil {
			return nil
		}
		if rc.Stop != nil && rc.Stop(err) {
			return err
		}
		if time.Since(began) > steady {
			attempt = 0
		}
		d := pause(attempt, firstRunPause, longestRunPause)
		if rc.Lost != nil {
			rc.Lost(err, d)
		}
		if rc.sleep(ctx, d) {
			return nil
		}
	}
}

// runOnce connects, lets the caller work, and returns why the connection ended.
func runOnce(ctx context.Context, identity func() (*Identity, error), rc RunConfig) error {
	id, err := identity()
	if err != nil {
		return err
	}
	c, err := Connect(ctx, id, rc.Options)
	if err != nil {
		return err
	}
	defer c.Close()
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- rc.Connected(working, c) }()
	select {
	case err = <-done:
		if err != nil {
			return err
		}
		select {
		case <-c.Done():
		case <-ctx.Done():
		}
	case <-c.Done():
		cancel()
		err = <-done
	case <-ctx.Done():
		cancel()
		<-done
	}
	if err == nil || KindOf(err) == KindInterrupted { // the work's own reason is the better one, if it has any
		err = lost(id.Endpoint, c.Err())
	}
	return err
}

// lost explains the end of a connection that had been accepted.
func lost(server string, err error) *Error {
	var r *mqtt.Refused
	if errors.As(err, &r) && r.NotAuthorized() {
		return identityRefused(CodeNotAuthorized, err)
	}
	return &Error{Kind: KindConnect, Code: CodeLost, Message: "the connection to " + server + " ended", Err: err, retry: always,
		Cure: "nothing, unless it repeats: then another device may use the same client id, or the certificate was taken out of service"}
}
