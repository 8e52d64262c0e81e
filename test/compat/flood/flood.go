// Package flood makes floods: what strangers, and devices that were taken over, can send to a server to keep it from its work.
// Tests run short ones and look whether devices are still provisioned, `make soak` runs long ones, and the benchmark measures what
// they do to the latency of provisioning.
//
// Begin with Kinds: each is a few lines that are repeated by many workers. All of it goes to loopback.
package flood

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Target is a server of our own on loopback.
type Target struct {
	MQTT, HTTPS string      // host:port
	TLS         *tls.Config // trusts the server
	Stranger    tls.Certificate
	Device      tls.Certificate // registered, and may do everything
	Claim       tls.Certificate // temporary; for floods of key requests
	AppID       string          // client of a user pool that lets people sign up
	From        []string        // source addresses, 127.x.y.z; taken in turn
	Hold        time.Duration   // how long connections are held that wait for nothing; 0: until the server closes them
}

// A Tally is what came of a flood.
type Tally struct {
	Tried   int64 // connections and requests
	Served  int64 // that were answered as if nothing was wrong
	Refused int64 // that were refused in words: status 429, or a CONNACK
	Closed  int64 // that were closed, or not let in
}

func (t Tally) String() string {
	return fmt.Sprintf("%d tried, %d served, %d refused, %d closed", t.Tried, t.Served, t.Refused, t.Closed)
}

// A Kind is one flood.
type Kind struct {
	Name    string
	Workers int // that repeat it
	once    func(*worker) outcome
}

type outcome int

const (
	served outcome = iota
	refused
	closed
	stopped // the flood is over
)

// Kinds are all floods.
var Kinds = []Kind{
	{"silent", 2000, silent},
	{"slow-tls", 2000, slowTLS},
	{"slow-http", 500, slowHTTP},
	{"slow-connect", 500, slowConnect},
	{"handshakes", 64, handshake},
	{"strangers", 64, strangerHandshake},
	{"requests", 32, badRequest},
	{"bodies", 64, largeBody},
	{"logins", 64, login},
	{"sign-ups", 32, signUp},
	{"packets", 32, badPacket},
	{"subscriptions", 16, subscribe},
	{"keys", 32, keyRequest},
}

// Named returns a kind by its name.
func Named(name string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// A worker repeats one flood.
type worker struct {
	ctx    context.Context
	t      *Target
	number int64 // of this attempt, over all workers
}

// Run floods the target until ctx ends, or until most attempts have been made (0: any number).
func (k Kind) Run(ctx context.Context, t Target, most int64) Tally {
	var sum Tally
	var wg sync.WaitGroup
	var attempts atomic.Int64
	count := [...]*int64{served: &sum.Served, refused: &sum.Refused, closed: &sum.Closed}
	for range k.Workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := attempts.Add(1)
				if most > 0 && n > most {
					return
				}
				w := &worker{ctx: ctx, t: &t, number: n}
				switch o := k.once(w); o {
				case stopped:
				default:
					atomic.AddInt64(&sum.Tried, 1)
					atomic.AddInt64(count[o], 1)
				}
			}
		})
	}
	wg.Wait()
	return sum
}

// patience is how long an attempt waits for the server.
const patience = 15 * time.Second

// dial opens a connection from the next address. It is closed when the flood ends.
func (w *worker) dial(addr string) (net.Conn, func(), error) {
	d := net.Dialer{Timeout: patience}
	if len(w.t.From) > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(w.t.From[int(w.number)%len(w.t.From)])}
	}
	nc, err := d.DialContext(w.ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	nc.(*net.TCPConn).SetLinger(0) // leave no port in TIME_WAIT: there are not that many
	stop := context.AfterFunc(w.ctx, func() { nc.Close() })
	return nc, func() { stop(); nc.Close() }, nil
}

// secure dials and shakes hands.
func (w *worker) secure(addr string, cert *tls.Certificate, protocols ...string) (*tls.Conn, func(), error) {
	nc, done, err := w.dial(addr)
	if err != nil {
		return nil, nil, err
	}
	c := w.t.TLS.Clone()
	c.NextProtos = protocols
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	tc := tls.Client(nc, c)
	if err := tc.HandshakeContext(w.ctx); err != nil {
		done()
		return nil, nil, err
	}
	return tc, done, nil
}

// failed is the outcome of an attempt that err has ended.
func (w *worker) failed(err error) outcome {
	if w.ctx.Err() != nil {
		return stopped
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return served // held as long as we wanted
	}
	return closed
}

// pause waits, unless the flood ends before.
func (w *worker) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}
