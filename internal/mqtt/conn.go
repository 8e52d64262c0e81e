package mqtt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Client is what is known of a connection once its CONNECT was accepted, or refused by its Access. It does not change.
type Client struct {
	Scope     fleet.Scope
	ID        string // client id
	Principal string
	Session   string // UUID of this connection
	Address   string // host of the peer
	Version   byte   // 4 for MQTT 3.1.1, 5
	Clean     bool   // clean session, clean start
	KeepAlive time.Duration
	Expiry    time.Duration // how long the session outlives the connection
	Connected time.Time
}

// A conn is one connection. Its reader goroutine decodes and handles packets one after the other; end may be called from
// anywhere. Lock order: space.mu, session.mu, tree.mu or output.mu.
type conn struct {
	b      *Broker
	nc     net.Conn
	id     Identity
	client atomic.Pointer[Client] // nil before CONNECT was accepted

	head      [2]byte
	version   byte  // 0 before CONNECT
	refused   error // why the PUBLISH that is being handled was refused
	sess      *session
	will      *Message
	willLife  time.Duration
	keepTicks int64                    // one and a half keep-alives
	lastSeen  atomic.Int64             // tick of the last packet
	busy      atomic.Bool              // the reader waits for us, not for the client
	from      atomic.Pointer[Origin]   // of what the client publishes, made with the first message
	aliases   []string                 // topic aliases of the client, by number - 1
	requests  atomic.Pointer[requests] // reserved requests, made with the first one

	acks    atomic.Pointer[acks]   // PUBACKs that wait for the journal, made with the first one
	pending atomic.Pointer[ticket] // what the reader waits for
	rates   *connRates             // nil without limits

	timer timer
	out   output

	once   sync.Once
	how    atomic.Pointer[End] // set when the connection is ending
	life   sync.Mutex          // orders attach and end: taken before all other locks
	events sync.Mutex          // held while Notify is called, so that events come in order
}

func newConn(b *Broker, nc net.Conn, id Identity) *conn {
	c := &conn{b: b, nc: nc, id: id}
	c.timer.fire = func() { go c.timeout() }
	return c
}

// run is the reader: it serves the connection until it ends.
func (c *conn) run(ctx context.Context) {
	defer c.finish()
	c.b.wheel.set(&c.timer, connectTimeout)
	p, err := c.read()
	if err == nil {
		err = c.connect(ctx, p.connect)
	} else if e := endOf(err); e.Code == codeUnsupportedLevel {
		c.send(packets.Connack, func(p *packets.Packet) { p.ReasonCode = 1 })
	}
	for err == nil && c.how.Load() == nil {
		if p, err = c.read(); err == nil {
			c.lastSeen.Store(c.b.wheel.now())
			err = c.handle(p)
		}
		runtime.Gosched() // a client that never stops sending must not keep a processor from others for a whole time slice
	}
	c.end(endOf(err))
}

// endOf turns what stopped the reader into the end of the connection.
func endOf(err error) End {
	var e End
	switch {
	case err == nil:
		return End{} // somebody has ended it already
	case errors.As(err, &e):
		return e
	case err == io.EOF:
		return End{Reason: ConnectionLost, Text: "the client closed the connection without DISCONNECT"}
	}
	return End{Reason: ConnectionLost, Text: err.Error()}
}

// handle acts on one packet of a connected client. An error ends the connection.
func (c *conn) handle(p *packet) error {
	switch p.kind {
	case packets.Publish:
		return c.publish(p)
	case packets.Puback:
		c.sess.acknowledge(c, p.id)
	case packets.Subscribe:
		return c.subscribe(p)
	case packets.Unsubscribe:
		return c.unsubscribe(p)
	case packets.Pingreq:
		c.send(packets.Pingresp, nil)
	case packets.Disconnect:
		return c.disconnect(p)
	case packets.Connect:
		return protocolError("a second CONNECT")
	}
	return nil
}

// disconnect ends the connection as its client asks (MQTT 5.0 section 3.14).
func (c *conn) disconnect(p *packet) error {
	if p.expiry != nil {
		if c.client.Load().Expiry == 0 && *p.expiry != 0 {
			return protocolError("a session that was to end with the connection cannot be kept on DISCONNECT")
		}
		c.sess.setExpiry(c.b.sessionExpiry(*p.expiry))
	}
	return End{Reason: ClientInitiated, NoWill: p.code == codeSuccess, Text: "the client disconnected"}
}

// read returns the next packet. Memory for a large one is taken as its bytes arrive, not when they are announced.
func (c *conn) read() (*packet, error) {
	first, n, err := readHeader(c.nc, &c.head)
	if err != nil {
		return nil, err
	}
	kind, limit := first>>4, MaxPacket
	if kind == packets.Connect {
		limit = MaxConnect
	}
	switch {
	case c.version == 0 && kind != packets.Connect:
		return nil, protocolError("the first packet is not CONNECT")
	case n > limit:
		return nil, clientError(codeTooLarge, "a packet of %d bytes: at most %d are allowed", n, limit)
	}
	c.slowDown(n)
	switch {
	case n == 0:
		return decode(first, nil, c.version)
	case kind == packets.Publish && n <= 4096: // decode keeps the body of a PUBLISH
		body := make([]byte, n)
		if _, err := io.ReadFull(c.nc, body); err != nil {
			return nil, err
		}
		return decode(first, body, c.version)
	case kind == packets.Publish:
		var buf bytes.Buffer
		if err := readBody(c.nc, &buf, n); err != nil {
			return nil, err
		}
		return decode(first, buf.Bytes(), c.version)
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer recycle(buf)
	if err := readBody(c.nc, buf, n); err != nil {
		return nil, err
	}
	return decode(first, buf.Bytes(), c.version)
}

func readBody(r io.Reader, buf *bytes.Buffer, n int) error {
	got, err := buf.ReadFrom(io.LimitReader(r, int64(n)))
	if err == nil && got < int64(n) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// timeout is called when the CONNECT deadline or the keep-alive may have passed.
func (c *conn) timeout() {
	if c.client.Load() == nil {
		c.end(clientError(0, "no CONNECT within %v", connectTimeout))
		return
	}
	left := c.lastSeen.Load() + c.keepTicks - c.b.wheel.now()
	if c.busy.Load() {
		left = c.keepTicks
	}
	if left <= 0 {
		c.end(End{Reason: KeepAliveTimeout, Code: codeKeepAlive, Text: "nothing heard for one and a half keep-alive intervals"})
		return
	}
	c.watch(time.Duration(left) * wheelTick)
}

// watch sets the timer of a connection that is not ending.
func (c *conn) watch(d time.Duration) {
	c.b.wheel.set(&c.timer, d)
	if c.how.Load() != nil {
		c.b.wheel.stop(&c.timer)
	}
}

// end ends the connection, whoever calls it: the client is told, its session put aside or discarded, the will sent, the end
// reported. The first call counts; when end returns all that has been done. The caller holds no lock.
func (c *conn) end(how End) {
	c.once.Do(func() {
		c.life.Lock()
		c.how.Store(&how)
		accepted, sess := c.client.Load() != nil, c.sess
		c.life.Unlock()
		c.b.wheel.stop(&c.timer)
		if t := c.pending.Load(); t != nil {
			t.settle()
		}
		c.acks.Load().wake()
		c.sayGoodbye(how)
		c.requests.Load().abandon()
		if sess != nil {
			sess.detach(c)
		}
		if !accepted {
			return
		}
		if c.will != nil && !how.NoWill {
			c.sendWill()
		}
		c.notify(Event{Kind: Disconnected, End: how})
	})
}

func (c *conn) ended() End { return *c.how.Load() }

// sayGoodbye sends MQTT 5 clients the reason and closes the connection behind it.
func (c *conn) sayGoodbye(how End) {
	if how.Reason == ConnectionLost {
		c.nc.Close() // unblocks a writer, and spares the reader its wait
	}
	c.closeAfter(func() {
		if c.out.enc.version != 5 || c.client.Load() == nil || how.Code == 0 {
			return
		}
		c.out.enc.put(c.buffer(), packets.Disconnect, func(p *packets.Packet) {
			p.ReasonCode = how.Code
			p.Properties.ReasonString = how.Text
		})
	})
}

// finish is the end of the reader: it waits until the last packets are written and the peer has closed, or has been given the
// time to.
func (c *conn) finish() {
	c.out.mu.Lock()
	flushed := c.out.flushed
	c.out.mu.Unlock()
	<-flushed
	io.Copy(io.Discard, c.nc)
	c.nc.Close()
	c.requests.Load().abandon()
	c.requests.Load().wait()
}

// sendWill publishes the will of a connection that ended badly. It was authorised at CONNECT (iot-core spec 6.4).
func (c *conn) sendWill() {
	m := *c.will
	if c.willLife > 0 {
		m.Expires = c.b.now().Add(c.willLife)
	}
	m.Origin = c.origin()
	if err := c.sess.space.publish(&m, nil, nil); err != nil {
		c.b.log.Debug("publishing a will", "topic", m.Topic, "error", err)
	}
}

// notify reports e of this connection to its owner.
func (c *conn) notify(e Event) {
	c.events.Lock()
	defer c.events.Unlock()
	c.report(e)
}

func (c *conn) report(e Event) {
	if c.id.Notify != nil {
		e.Client = c.client.Load()
		e.Time = c.b.now()
		c.id.Notify(e)
	}
}

func (b *Broker) now() time.Time { return b.cfg.Clock.Now() }
