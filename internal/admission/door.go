package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
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
	left    chan struct{} // closed when it was evicted
}

// Arrive takes in a connection. It may be closed from now on, to make room for others.
func (d *Door) Arrive(nc net.Conn) *Visit {
	v := &Visit{Conn: nc, door: d, from: AddressOfConn(nc.RemoteAddr()), left: make(chan struct{})}
	if m := d.Queue.cfg.Meter; m == nil || !m.Trusts(v.from) {
		v.seat = d.Room.Sit(v.from, func() {
			v.evicted.Store(true)
			close(v.left)
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

// maxHold is the longest that somebody is kept waiting. It is shorter than what clients wait for an answer.
const maxHold = 2 * time.Second

// Deter is called before a visitor is refused. If their address is in bad standing they hear of it late, when that may have changed:
// whoever tries again as soon as they are refused does so no faster than their budget. They compute nothing meanwhile, keep their
// seat, and may be asked to leave it.
func (v *Visit) Deter(ctx context.Context) {
	if v == nil || v.door.Queue.cfg.Meter == nil {
		return
	}
	if standing, after := v.door.Queue.cfg.Meter.Standing(v.from); standing == Bad {
		v.Hold(ctx, after)
	}
}

// Hold keeps a visitor waiting for d, two seconds at most, unless ctx ends or they are asked to leave. A turn that they have is given
// up. It may be called on a nil Visit.
func (v *Visit) Hold(ctx context.Context, d time.Duration) {
	if v == nil || d <= 0 {
		return
	}
	v.ticket.Leave()
	t := time.NewTimer(min(d, maxHold))
	defer t.Stop()
	select {
	case <-t.C:
	case <-v.left:
	case <-ctx.Done():
	}
}

// Trusted reports whether no budget by address holds for the visitor; also on a nil Visit, of whom nothing is known: false.
func (v *Visit) Trusted() bool {
	return v != nil && v.door.Queue.cfg.Meter != nil && v.door.Queue.cfg.Meter.Trusts(v.from)
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
