package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
)

// A Door stands before a listener: it gives every connection a seat in the Room until something is known of it, and lets few
// compute their handshakes at a time.
type Door struct {
	Room  *Room
	Queue *Queue // of handshakes; its meter is charged for each one that begins
}

// maxHandshakeBytes is what a peer may send until its handshake is done. Chains of certificates have a few kilobytes.
const maxHandshakeBytes = 64 << 10

// ErrTooMuch is the error of a handshake that is longer than any sensible one.
var ErrTooMuch = errors.New("the handshake is too long")

// A Visit is a connection that came through a Door. TLS runs on top of it.
type Visit struct {
	net.Conn
	door *Door
	from Address
	seat *Seat

	ctx     context.Context // of the handshake; nil before and after
	ticket  *Ticket         // during the handshake, once it has begun
	read    int             // bytes of the handshake
	refused bool

	charged atomic.Bool
	evicted atomic.Bool
}

// Arrive takes in a connection. It may be closed from now on, to make room for others.
func (d *Door) Arrive(nc net.Conn) *Visit {
	v := &Visit{Conn: nc, door: d, from: AddressOfConn(nc.RemoteAddr())}
	if m := d.Queue.cfg.Meter; m == nil || !m.Trusts(v.from) {
		v.seat = d.Room.Sit(v.from, func() {
			v.evicted.Store(true)
			nc.Close()
		})
	}
	return v
}

// From is the address of the visitor.
func (v *Visit) From() Address { return v.from }

// Handshake runs the handshake of tc, which is on top of v, taking turns with others.
func (v *Visit) Handshake(ctx context.Context, tc *tls.Conn) error {
	v.ctx = ctx
	err := tc.HandshakeContext(ctx)
	v.ticket.Leave()
	v.ctx, v.ticket = nil, nil
	return err
}

// Busy reports whether it was for our sake that the visit ended: too many were here.
func (v *Visit) Busy() bool { return v.refused || v.evicted.Load() }

// Read implements net.Conn. During the handshake the turn is given up while the peer is waited for. Who sends nothing has none.
func (v *Visit) Read(p []byte) (int, error) {
	if v.ctx == nil {
		return v.Conn.Read(p)
	}
	v.ticket.Leave()
	n, err := v.Conn.Read(p)
	if v.read += n; v.read > maxHandshakeBytes {
		return 0, ErrTooMuch
	}
	if err != nil {
		return n, err
	}
	if v.ticket != nil {
		v.ticket.Resume()
		return n, nil
	}
	if v.ticket, err = v.door.Queue.Enter(v.ctx, v.from); err != nil {
		v.refused = true
		return 0, err
	}
	v.charged.Store(true)
	return n, nil
}

// Welcome says that the visitor has proven to be worth it. It may be called more than once, and on a nil Visit.
func (v *Visit) Welcome() {
	if v == nil {
		return
	}
	v.seat.Leave()
	if v.charged.CompareAndSwap(true, false) {
		v.door.Queue.Worth(v.from, 1)
	}
}

// Regret says that the visitor was welcomed and was not worth it after all. It may be called on a nil Visit.
func (v *Visit) Regret() {
	if v != nil && v.door.Queue.cfg.Meter != nil {
		v.door.Queue.cfg.Meter.Charge(v.from)
	}
}

// Close implements net.Conn.
func (v *Visit) Close() error {
	v.seat.Leave()
	return v.Conn.Close()
}
