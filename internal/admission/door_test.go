package admission

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var serverConfig = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

// A house is a listener behind a door.
type house struct {
	t    *testing.T
	door *Door
	l    net.Listener
	done chan result
}

type result struct {
	v   *Visit
	err error
}

func newHouse(t *testing.T, size int, q QueueConfig) *house {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	h := &house{t: t, door: &Door{Room: NewRoom(size, nil), Queue: NewQueue(q)}, l: l, done: make(chan result, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			v := h.door.Arrive(nc)
			wg.Go(func() {
				err := v.Handshake(ctx, tls.Server(v, serverConfig()))
				h.done <- result{v, err}
				if err != nil {
					v.Close()
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); wg.Wait() })
	return h
}

func (h *house) dial() net.Conn {
	nc, err := net.Dial("tcp", h.l.Addr().String())
	check(h.t, err)
	h.t.Cleanup(func() { nc.Close() })
	return nc
}

// visit shakes hands and returns the server's side.
func (h *house) visit() result {
	h.t.Helper()
	tc := tls.Client(h.dial(), &tls.Config{InsecureSkipVerify: true})
	err := tc.Handshake()
	r := <-h.done
	if (err == nil) != (r.err == nil) {
		h.t.Errorf("client: %v, server: %v", err, r.err)
	}
	return r
}

func TestSilentConnectionsTakeNoTurnAndCostNothing(t *testing.T) {
	t.Parallel()
	m := NewMeter(Rate{1, 5}, Rate{}, nil, nil)
	h := newHouse(t, 100, QueueConfig{Running: 1, Meter: m})
	for range 20 {
		h.dial()
	}
	slow := h.dial()
	_, err := slow.Write([]byte{22, 3, 1, 2}) // a TLS record that never ends: it has its turn while it computes, and no longer
	check(t, err)
	r := h.visit()
	check(t, r.err)
	if n := h.door.Room.Taken(); n < 1 {
		t.Errorf("%d are in the room", n)
	}
	r.v.Welcome()
	r.v.Welcome()
	if _, known := m.known[at("127.0.0.1")]; !known {
		t.Error("who is welcome is not known")
	}
}

func TestHandshakesThatLeadNowhereAreCharged(t *testing.T) {
	t.Parallel()
	m := NewMeter(Rate{0.0001, 3}, Rate{}, nil, nil)
	h := newHouse(t, 100, QueueConfig{Running: 1, Meter: m, Slow: 0.5})
	for range 10 {
		r := h.visit()
		check(t, r.err)
		r.v.Welcome()
	}
	if !good(m, at("127.0.0.1")) {
		t.Error("visitors who were welcome are held against their address")
	}
	for range 3 {
		check(t, h.visit().err)
	}
	if good(m, at("127.0.0.1")) {
		t.Error("handshakes without anything behind them are free")
	}
	check(t, h.visit().err) // slowly, but served
}

func TestAVisitorWhoMisbehavesIsChargedInTheEnd(t *testing.T) {
	t.Parallel()
	m := NewMeter(Rate{0.0001, 3}, Rate{}, nil, nil)
	h := newHouse(t, 100, QueueConfig{Running: 1, Meter: m, Slow: 0.5})
	for i := range 3 {
		if !good(m, at("127.0.0.1")) {
			t.Fatalf("in bad standing after %d", i)
		}
		r := h.visit()
		check(t, r.err)
		r.v.Welcome()
		r.v.Regret()
	}
	if good(m, at("127.0.0.1")) {
		t.Error("who connects only to misbehave stays in good standing")
	}
	(*Visit)(nil).Regret()
}

func TestAFullRoomAsksTheOldestToLeave(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3, QueueConfig{})
	first := h.dial()
	for range 3 {
		h.dial()
	}
	r := <-h.done
	if r.err == nil || !r.v.Busy() {
		t.Errorf("the oldest got %v", r.err)
	}
	check(t, first.SetReadDeadline(time.Now().Add(time.Minute)))
	if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest reads %v", err)
	}
	if n := h.door.Room.Taken(); n != 3 {
		t.Errorf("%d are in the room", n)
	}
}

func TestTheRoomIsFairByAddress(t *testing.T) {
	t.Parallel()
	var left []string
	r := NewRoom(4, nil)
	sit := func(name, from string) *Seat { return r.Sit(at(from), func() { left = append(left, name) }) }
	b0 := sit("b0", "192.0.2.2")
	sit("a0", "192.0.2.1")
	a1 := sit("a1", "192.0.2.1")
	sit("a2", "192.0.2.1")
	sit("c0", "192.0.2.3") // a0 leaves: b0 is older, but alone
	sit("c1", "192.0.2.3") // a has two, so has c by now
	a1.Leave()
	a1.Leave()
	b0.Leave()
	(*Seat)(nil).Leave()
	if got := strings.Join(left, " "); got != "a0 a1" {
		t.Errorf("left: %s", got)
	}
	if !r.EvictOne() || r.Taken() != 2 {
		t.Errorf("%d are left", r.Taken())
	}
}

func TestAHandshakeIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 10, QueueConfig{})
	nc := h.dial()
	// One handshake message, announced as 65,000 bytes and more, in records of 16 KiB.
	record := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0}, make([]byte, 16<<10-4)...)
	for range 8 {
		if _, err := nc.Write(record); err != nil {
			break
		}
	}
	if r := <-h.done; r.err == nil {
		t.Error("it was accepted")
	}
}

func TestLargeBodiesShareABudget(t *testing.T) {
	t.Parallel()
	refused := 0
	b := &Bytes{Max: 100 << 10, OnRefuse: func() { refused++ }}
	body := func(n int) *Body { return b.Body(io.NopCloser(bytes.NewReader(make([]byte, n)))) }
	for range 1000 { // small ones are free
		_, err := io.ReadAll(body(freeBytes))
		check(t, err)
	}
	first := body(90 << 10)
	_, err := io.ReadAll(first)
	check(t, err)
	second := body(90 << 10)
	if _, err := io.ReadAll(second); err == nil || fleet.KindOf(err) != fleet.KindThrottled {
		t.Errorf("got %v", err)
	}
	second.Release()
	first.Release()
	first.Release()
	third := body(90 << 10)
	_, err = io.ReadAll(third)
	check(t, err)
	third.Release()
	if b.used.Load() != 0 || refused != 1 {
		t.Errorf("%d bytes are still taken, %d refusals", b.used.Load(), refused)
	}
}

// held runs hold on a visit and tells when it is over.
func held(hold func()) chan struct{} {
	done := make(chan struct{})
	go func() { defer close(done); hold() }()
	return done
}

func TestWhoIsHeldLeavesWithTheirSeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter(Rate{1, 1}, Rate{}, nil, nil)
		d := &Door{Room: NewRoom(2, nil), Queue: NewQueue(QueueConfig{Meter: m})}
		near, far := net.Pipe()
		defer far.Close()
		v := d.Arrive(near)
		over := func(what string, took time.Duration, hold func()) {
			t.Helper()
			begin := time.Now()
			hold()
			if got := time.Since(begin); got != took {
				t.Errorf("%s: held for %v, want %v", what, got, took)
			}
		}
		over("in good standing", 0, func() { v.Deter(t.Context()) })
		m.Charge(v.From())
		over("in bad standing", time.Second, func() { v.Deter(t.Context()) })
		over("for long", maxHold, func() { v.Hold(t.Context(), time.Hour) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		over("with a deadline", time.Second/2, func() { v.Hold(ctx, time.Hour) })
		over("nobody", 0, func() { (*Visit)(nil).Hold(t.Context(), time.Hour); (*Visit)(nil).Deter(t.Context()) })
		over("asked to leave", 0, func() {
			done := held(func() { v.Hold(t.Context(), time.Hour) })
			synctest.Wait()
			d.Room.EvictOne()
			<-done
		})
	})
}

// TestWhoIsDeterredTakesNobodysTurn: one who is to be refused waits without a turn, so that others get theirs.
func TestWhoIsDeterredTakesNobodysTurn(t *testing.T) {
	t.Parallel()
	m := NewMeter(Rate{0.0001, 1}, Rate{}, nil, nil)
	q := NewQueue(QueueConfig{Running: 1, Meter: m})
	bad, err := q.Enter(t.Context(), at("192.0.2.1"))
	check(t, err)
	v := &Visit{door: &Door{Queue: q}, from: at("192.0.2.1"), ticket: bad, left: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := held(func() { v.Deter(ctx) })
	other, err := q.Enter(t.Context(), at("192.0.2.2")) // hangs if the turn is not given up
	check(t, err)
	other.Leave()
	cancel()
	<-done
}
