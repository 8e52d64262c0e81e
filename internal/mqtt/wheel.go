package mqtt

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const (
	wheelTick  = time.Second
	wheelSlots = 2048 // the longest keep-alive fits into one round
)

// A wheel is the one clock of all connections: a hashed timing wheel of one-second ticks. Setting and stopping a timer links
// and unlinks a list element; a packet costs nothing, since connections note the tick of their last packet and a timer that
// finds them alive goes on.
type wheel struct {
	clock fleet.Clock
	start time.Time
	ticks atomic.Int64 // since start
	quit  chan struct{}

	mu    sync.Mutex
	slots [wheelSlots]timer // heads of rings
}

// A timer is an element of a wheel. Its zero value is stopped.
type timer struct {
	prev, next *timer
	due        int64
	fire       func() // called on the wheel's goroutine: it must not block
}

func newWheel(clock fleet.Clock) *wheel {
	w := &wheel{clock: clock, start: clock.Now(), quit: make(chan struct{})}
	for i := range w.slots {
		w.slots[i].prev, w.slots[i].next = &w.slots[i], &w.slots[i]
	}
	go w.run()
	return w
}

func (w *wheel) run() {
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.advance(int64(w.clock.Now().Sub(w.start) / wheelTick))
		case <-w.quit:
			return
		}
	}
}

func (w *wheel) close() { close(w.quit) }

// now is the current tick.
func (w *wheel) now() int64 { return w.ticks.Load() }

// set makes t fire once, not before d has passed and at most two ticks later. Setting a timer again moves it.
func (w *wheel) set(t *timer, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.unlink()
	t.due = w.ticks.Load() + int64((d+wheelTick-1)/wheelTick) + 1
	head := &w.slots[t.due%wheelSlots]
	t.prev, t.next = head.prev, head
	head.prev.next, head.prev = t, t
}

// stop prevents t from firing unless it is firing just now.
func (w *wheel) stop(t *timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.unlink()
}

func (t *timer) unlink() {
	if t.next != nil {
		t.prev.next, t.next.prev = t.next, t.prev
		t.prev, t.next = nil, nil
	}
}

// advance moves the wheel to tick target and fires what is due.
func (w *wheel) advance(target int64) {
	for tick := w.ticks.Load() + 1; tick <= target; tick++ {
		w.ticks.Store(tick)
		for _, t := range w.dueAt(tick) {
			t.fire()
		}
	}
}

func (w *wheel) dueAt(tick int64) (due []*timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	head := &w.slots[tick%wheelSlots]
	for t := head.next; t != head; {
		next := t.next
		if t.due <= tick {
			t.unlink()
			due = append(due, t)
		}
		t = next
	}
	return due
}
