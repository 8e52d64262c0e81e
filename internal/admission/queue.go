package admission

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// QueueConfig says how much of a kind of work is done at a time. The zero value bounds nothing.
type QueueConfig struct {
	Running int // at once; 0: no bound
	Waiting int // that may wait for their turn; 0: no bound

	// Meter says who is in good standing; nil: everybody. Others get what is left: one at a time, and Slow of them a second together.
	Meter *Meter
	Slow  float64

	OnRefuse func() // if set, hears of each refusal
	OnSlow   func() // if set, hears of each piece of work of an address that is not in good standing
}

// A Queue lets few compute at a time. Whoever waits, waits in the line of their address, and the lines take turns, so that a
// thousand requests from one address hold up another by one of them. When too many wait, the newest of the longest line is
// refused.
//
// Who isn't in good standing waits until nobody else does. Of those the newest comes first: under a flood that is not worked off
// in time, it is better to serve some at once than everybody too late.
type Queue struct {
	cfg QueueConfig

	mu      sync.Mutex
	running int
	slow    int // running, of those not in good standing
	waiting int
	lines   map[Address]*line
	good    *list.List // of *line with somebody waiting
	bad     *list.List
	resumed []*waiter // in the middle of their work
	sizes   crowd     // of the lines
	left    float64   // of the second's Slow
	at      time.Time
	timer   *time.Timer
}

// A line is who waits at an address, oldest first.
type line struct {
	from    Address
	waiters []*waiter
	place   *list.Element
	in      *list.List
}

type waiter struct {
	from   Address
	turn   chan struct{} // closed when it is granted or refused
	ticket *Ticket       // nil: refused
}

// NewQueue returns an empty queue.
func NewQueue(c QueueConfig) *Queue {
	return &Queue{cfg: c, lines: map[Address]*line{}, good: list.New(), bad: list.New(), sizes: newCrowd(), left: 1}
}

// A Ticket is the right to compute. Its methods are called by one goroutine.
type Ticket struct {
	q    *Queue
	from Address
	slow bool
	held bool
}

// Enter waits for the turn of the address. The caller computes, without waiting for others, and calls Leave. The error is that of
// ctx, or a refusal: a *fleet.Error of fleet.KindThrottled.
func (q *Queue) Enter(ctx context.Context, from Address) (*Ticket, error) {
	q.mu.Lock()
	if q.cfg.Waiting > 0 && q.waiting >= q.cfg.Waiting && !q.displace(from) {
		q.mu.Unlock()
		return nil, q.refusal()
	}
	w := &waiter{from: from, turn: make(chan struct{})}
	q.join(w)
	q.dispatch()
	q.mu.Unlock()
	select {
	case <-w.turn:
	case <-ctx.Done():
		if q.abandon(w) {
			return nil, ctx.Err()
		}
		<-w.turn
	}
	if w.ticket == nil {
		return nil, q.refusal()
	}
	return w.ticket, nil
}

func (q *Queue) refusal() error {
	if q.cfg.OnRefuse != nil {
		q.cfg.OnRefuse()
	}
	return Refused("too many are waiting. Try again in a moment", 2*time.Second)
}

// Leave ends the turn; what was not finished may go on with Resume.
func (t *Ticket) Leave() {
	if t == nil || !t.held {
		return
	}
	t.q.mu.Lock()
	t.release()
	t.q.dispatch()
	t.q.mu.Unlock()
}

func (t *Ticket) release() {
	t.held = false
	t.q.running--
	if t.slow {
		t.q.slow--
	}
}

// Resume waits for another turn, before all who have not begun.
func (t *Ticket) Resume() {
	q := t.q
	q.mu.Lock()
	w := &waiter{from: t.from, turn: make(chan struct{}), ticket: t}
	q.resumed = append(q.resumed, w)
	q.dispatch()
	q.mu.Unlock()
	<-w.turn
}

// Worth says that the address of the ticket has proven to be worth n charges of the meter.
func (q *Queue) Worth(from Address, n int) {
	if q.cfg.Meter == nil {
		return
	}
	q.cfg.Meter.Worth(from, n)
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lines[from]; l != nil && l.in == q.bad {
		q.sort(l)
		q.dispatch()
	}
}

// join puts w at the end of the line of its address.
func (q *Queue) join(w *waiter) {
	l := q.lines[w.from]
	if l == nil {
		l = &line{from: w.from}
		q.lines[w.from] = l
		q.sort(l)
	}
	l.waiters = append(l.waiters, w)
	q.sizes.grow(w.from)
	q.waiting++
}

// sort puts a line at the end of the list that its standing calls for.
func (q *Queue) sort(l *line) {
	in := q.good
	if q.cfg.Meter != nil {
		if good, _ := q.cfg.Meter.Good(l.from); !good {
			in = q.bad
		}
	}
	if l.place != nil {
		l.in.Remove(l.place)
	}
	l.in, l.place = in, in.PushBack(l)
}

// part takes waiter i out of a line.
func (q *Queue) part(l *line, i int) *waiter {
	w := l.waiters[i]
	copy(l.waiters[i:], l.waiters[i+1:])
	l.waiters[len(l.waiters)-1] = nil
	l.waiters = l.waiters[:len(l.waiters)-1]
	q.sizes.shrink(l.from)
	q.waiting--
	if len(l.waiters) == 0 {
		l.in.Remove(l.place)
		delete(q.lines, l.from)
	}
	return w
}

// displace makes room for a newcomer by refusing the newest of the longest line, unless that is the newcomer's.
func (q *Queue) displace(from Address) bool {
	longest, n := q.sizes.largest()
	if own := q.lines[from]; own != nil && len(own.waiters) >= n-1 || n <= 1 {
		return false
	}
	l := q.lines[longest]
	close(q.part(l, len(l.waiters)-1).turn)
	return true
}

// abandon takes w out of the queue; false if its turn has come already.
func (q *Queue) abandon(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[w.from]
	if l == nil {
		return false
	}
	for i, other := range l.waiters {
		if other == w {
			q.part(l, i)
			return true
		}
	}
	return false
}

func (q *Queue) free() bool { return q.cfg.Running <= 0 || q.running < q.cfg.Running }

// dispatch lets as many have their turn as there is room for.
func (q *Queue) dispatch() {
	for ; q.free() && len(q.resumed) > 0; q.resumed = q.resumed[1:] {
		w := q.resumed[0]
		q.grant(w, w.ticket)
	}
	for q.free() && q.good.Len() > 0 {
		l := q.good.Front().Value.(*line)
		if q.sort(l); l.in == q.bad {
			continue
		}
		w := q.part(l, 0)
		q.grant(w, &Ticket{q: q, from: w.from})
		q.charge(w.from)
	}
	for q.free() && q.slow == 0 && q.bad.Len() > 0 {
		l := q.bad.Front().Value.(*line)
		if q.sort(l); l.in == q.good { // time has passed
			q.dispatch()
			return
		}
		if wait := q.untilSlow(); wait > 0 {
			q.wake(wait)
			return
		}
		q.left--
		w := q.part(l, len(l.waiters)-1)
		q.grant(w, &Ticket{q: q, from: w.from, slow: true})
		q.charge(w.from)
		if q.cfg.OnSlow != nil {
			q.cfg.OnSlow()
		}
	}
}

func (q *Queue) grant(w *waiter, t *Ticket) {
	w.ticket, t.held = t, true
	q.running++
	if t.slow {
		q.slow++
	}
	close(w.turn)
}

func (q *Queue) charge(from Address) {
	if q.cfg.Meter != nil {
		q.cfg.Meter.Charge(from)
	}
}

// untilSlow is how long until another one that is not in good standing may begin.
func (q *Queue) untilSlow() time.Duration {
	if q.cfg.Slow <= 0 {
		return 0
	}
	now := time.Now() // elapsed time only
	const burst = 2
	q.left = min(q.left+now.Sub(q.at).Seconds()*q.cfg.Slow, burst)
	q.at = now
	if q.left >= 1 {
		return 0
	}
	return time.Duration((1 - q.left) / q.cfg.Slow * float64(time.Second))
}

// wake has the queue looked at again after d.
func (q *Queue) wake(d time.Duration) {
	if q.timer != nil {
		return
	}
	q.timer = time.AfterFunc(max(d, time.Millisecond), func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.timer = nil
		q.dispatch()
	})
}

// Waiting returns how many wait.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}
