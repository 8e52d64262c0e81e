// Package gateway is the door for devices: TLS on the MQTT port and, chosen by ALPN, on the HTTPS port. It finds out at the
// handshake who is there (a registered certificate, or a temporary claim), holds each connection to its policies, serves the
// reserved provisioning topics, and ends connections whose right has ended.
//
// Begin with Gateway and ServeMQTT here. identity.go says who is let in, newcomer.go who is registered by their first
// connection, strangers.go what was wrong with the rest, access.go and claim.go what they may do, provisioning.go speaks the
// provisioning topics, presence.go tells the fleet who came and went, iotlog.go AWS IoT's log, drain.go ends in order. Messages
// themselves are internal/mqtt's business.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Config says what the gateway stands on.
type Config struct {
	Store       *store.DB
	Authority   *pki.Authority
	Provision   *provision.Service
	Recorder    *trace.Recorder
	Logs        *logs.Service   // hears what devices do; may be nil
	Home        fleet.Scope     // traces of strangers are kept here
	HostNames   []string        // names under which clients may reach us; an unknown server name is refused
	OwnNames    bool            // each account has endpoint names of its own: HostNames are Home's then
	Door        *admission.Door // for strangers; nil: open to all
	Connections int             // MQTT connections at most; 0 and less: any number
	Violations  admission.Rate  // that a certificate may commit, from each address; then its CONNECT waits
	Filters     admission.Rate  // that a principal may subscribe to or unsubscribe from, from each address; then it waits
	Rules       mqtt.Rules      // get messages beside their subscribers; nil: there are none
	Limits      mqtt.Limits     // rates that clients may not exceed; zero: none
	Denied      mqtt.Denied     // what 3.1.1 clients hear of a denied CONNECT and SUBSCRIBE
	// HoldFirstConnect: a device that its CA's template provisions at its first connection goes on with that, and is not sent
	// away to connect again, as AWS does.
	HoldFirstConnect bool
	Work             *atomic.Int64 // counts handshakes and provisioning requests in work; nil: nobody asks
	Clock            fleet.Clock
	Log              *slog.Logger

	// OnHandshake, if set, hears of each TLS handshake: cause is "" when it succeeded, else one of the causes in identity.go.
	// OnRequest hears of each request on a reserved topic: kind as in package trace, code as sent, "" when it was accepted.
	// OnEnd hears why an MQTT connection ended.
	OnHandshake func(cause string, took time.Duration)
	OnRequest   func(kind, code, traceID string, took time.Duration)
	// OnFirstConnection hears of each connection with a certificate that waited for its activation: outcome is one of those in
	// newcomer.go.
	OnFirstConnection func(outcome string, took time.Duration)
	// OnFull hears of each CONNECT that is refused because there are too many connections.
	OnEnd  func(mqtt.Reason)
	OnFull func()
}

// A Gateway serves any number of listeners.
type Gateway struct {
	Config
	broker *mqtt.Broker
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool                                    // Close has begun
	devices  map[store.Change]map[*deviceAccess]bool // live accesses by what may change their rights
	claims   map[*claimAccess]bool                   // live claim sessions
	versions map[versionKey]count                    // presence: connections so far

	groups    atomic.Uint64 // counts changes of thing groups' policies: they may matter to any connection
	changes   atomic.Uint64 // counts all changes heard of
	documents documentCache
	domains   domains
	flows     flows
	arrivals  arrivals
	conduct   conduct
}

// handshakeTimeout bounds TLS; the broker bounds the wait for CONNECT.
const handshakeTimeout = 10 * time.Second

// New makes a gateway and follows the store's changes.
func New(c Config) *Gateway {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Door == nil {
		c.Door = &admission.Door{Room: admission.NewRoom(1<<20, nil), Queue: admission.NewQueue(admission.QueueConfig{})}
	}
	if c.Work == nil {
		c.Work = new(atomic.Int64)
	}
	g := &Gateway{Config: c, devices: map[store.Change]map[*deviceAccess]bool{}, claims: map[*claimAccess]bool{}, versions: map[versionKey]count{},
		documents: documentCache{parsed: map[string]*policy.Document{}}, flows: newFlows(), arrivals: newArrivals(), conduct: newConduct(c.Clock)}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.broker = mqtt.New(mqtt.Config{Reserved: g.handlers(), Journal: journal{c.Store}, Limits: c.Limits, Denied: c.Denied, Rules: c.Rules, Log: c.Log})
	c.Store.Listen(g.changed)
	g.wg.Go(g.expireClaims)
	g.wg.Go(g.noteArrivals)
	g.wg.Go(g.loadMessages)
	return g
}

// Broker gives the services that publish (events, HTTPS) the message core.
func (g *Gateway) Broker() *mqtt.Broker { return g.broker }

// Close lets connections end in order until ctx ends. The listeners must be closed before, by whoever opened them.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	err := g.broker.Close(ctx)
	done := make(chan struct{})
	go func() { g.wg.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// ServeMQTT serves MQTT over TLS until the listener is closed.
func (g *Gateway) ServeMQTT(l net.Listener) error {
	return g.accept(l, func(v *admission.Visit) { g.serve(v, g.mqttTLS) })
}

// ServeHTTPS multiplexes by ALPN: connections that ask for MQTT are served here, all others come out of the returned listener
// with their handshake done, as *tls.Conn on top of an *admission.Visit, or as a connection of WithDevice, for an http.Server. It
// returns at once.
func (g *Gateway) ServeHTTPS(l net.Listener) net.Listener { return g.hand(l, g.serveEither) }

// hand has serve look at each connection, which gives it to the returned listener or keeps it.
func (g *Gateway) hand(l net.Listener, serve func(*admission.Visit, *handed)) net.Listener {
	out := &handed{Listener: l, conns: make(chan net.Conn), failed: make(chan error, 1), closed: make(chan struct{})}
	g.wg.Go(func() {
		out.failed <- g.accept(l, func(v *admission.Visit) { serve(v, out) })
	})
	return out
}

func (g *Gateway) accept(l net.Listener, serve func(*admission.Visit)) error {
	if !g.enter() {
		return net.ErrClosed
	}
	defer g.wg.Done()
	for backoff := time.Millisecond; ; {
		nc, err := l.Accept()
		if err != nil {
			if g.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return net.ErrClosed
			}
			// Out of file descriptors, most likely: one who has proven nothing has to go, and we wait rather than die.
			g.Log.Error("accepting a connection", "error", err)
			g.Door.Room.EvictOne()
			select {
			case <-time.After(backoff):
			case <-g.ctx.Done():
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = time.Millisecond
		v := g.Door.Arrive(nc)
		g.wg.Go(func() { makeRoom(); serve(v) })
	}
}

// enter counts one whom Close waits for, since they may still accept; false if it waits already, which it does for nobody new.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.wg.Add(1)
	}
	return !g.closed
}

// makeRoom lets the stack of a goroutine grow at once to what a handshake or a registration needs. Grown step by step, as one calls
// the next, it would be copied three times and more, each time with all that stands on it by then.
//
//go:noinline
func makeRoom() {
	var room [8 << 10]byte
	runtime.KeepAlive(&room)
}

// serve runs the handshake of one connection and then MQTT on it.
func (g *Gateway) serve(v *admission.Visit, config func(*arrival) *tls.Config) {
	a := &arrival{address: host(v.RemoteAddr()), visit: v}
	tc := tls.Server(v, config(a))
	if g.handshake(tc, a) {
		g.serveDevice(tc, a)
	}
}

func (g *Gateway) serveEither(v *admission.Visit, out *handed) {
	a := &arrival{address: host(v.RemoteAddr()), visit: v}
	tc := tls.Server(v, g.eitherTLS(a))
	if !g.handshake(tc, a) {
		return
	}
	if a.mqtt {
		g.serveDevice(tc, a)
		return
	}
	if a.https {
		out.give(g, g.httpsDevice(tc, a))
		return
	}
	out.give(g, tc)
}

// handshake reports whether the connection may go on; if not it is closed, and a refusal of ours leaves a trace.
func (g *Gateway) handshake(tc *tls.Conn, a *arrival) bool {
	g.Work.Add(1)
	defer g.Work.Add(-1)
	ctx, cancel := context.WithTimeout(g.ctx, handshakeTimeout)
	defer cancel()
	start := time.Now() // a duration; the clock may be moved
	err := a.visit.Handshake(ctx, tc)
	if g.OnHandshake != nil {
		g.OnHandshake(a.causeOf(err), time.Since(start))
	}
	if err == nil {
		a.hello, a.serial = nil, nil
		return true
	}
	tc.Close()
	if a.refusal != nil {
		a.trace.Fact("certificateSerial", fmt.Sprintf("%x", a.serial))
		g.Recorder.Finish(a.trace, a.refusal)
	} else {
		g.finishStranger(a, err)
	}
	g.Log.Debug("handshake failed", "address", a.address, "error", err)
	return false
}

// serveDevice speaks MQTT with whoever the handshake has let in.
//
// The stack from here to the read that waits for the next packet is under 4 KiB, a quarter of what CONNECT makes it grow to: the
// collector halves a stack of which less than a quarter is used, and an idle connection keeps 8 KiB in place of 16. Hence the
// functions of their own for what comes before and after.
func (g *Gateway) serveDevice(tc *tls.Conn, a *arrival) {
	a.noteTLS(tc)
	g.holdBack(a)
	switch {
	case a.who.claim != nil:
		g.ended(a, g.serveClaim(tc, a))
	case a.who.newcomer != nil:
		g.ended(a, g.serveNewcomer(tc, a))
	default:
		g.ended(a, g.serveCertificate(tc, a))
	}
}

func (a *arrival) noteTLS(tc *tls.Conn) {
	st := tc.ConnectionState()
	a.trace.Step("tls", "%s, %s, server name %q, ALPN %q", tls.VersionName(st.Version), tls.CipherSuiteName(st.CipherSuite), st.ServerName, st.NegotiatedProtocol)
}

func (g *Gateway) ended(a *arrival, end mqtt.End) {
	g.judge(a, end) // before anybody hears of it, so that what they do next meets it
	if g.OnEnd != nil {
		g.OnEnd(end.Reason)
	}
	// A connection that ended before CONNECT was decided still has its trace.
	if end.Reason != mqtt.ClientInitiated {
		a.finish(g, fleet.Invalid("", "", "the connection ended before an MQTT CONNECT was accepted: %v", end).WithCode(fmt.Sprint(end.Reason)))
	}
	g.Log.Debug("connection ended", "address", a.address, "principal", a.who.principal, "reason", end.Reason, "text", end.Text)
}

// toldPerConnection is how many refusals of one connection leave a trace; the recorder bounds those of all.
const toldPerConnection = 20

func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}

// handed is a listener of connections whose handshake is done.
type handed struct {
	net.Listener
	conns  chan net.Conn
	failed chan error
	closed chan struct{}
	once   sync.Once
}

// give hands a connection to whoever accepts.
func (h *handed) give(g *Gateway, c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	case <-g.ctx.Done():
		c.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case err := <-h.failed:
		h.failed <- err
		return nil, err
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Listener.Close()
}

// checkRoom refuses a CONNECT when the server has as many connections as it may.
func (g *Gateway) checkRoom() error {
	if g.Connections <= 0 || g.broker.Connections() <= g.Connections {
		return nil
	}
	if g.OnFull != nil {
		g.OnFull()
	}
	return &fleet.Error{Kind: fleet.KindThrottled, Msg: fmt.Sprintf("the server has %d connections and takes no more", g.Connections)}
}
