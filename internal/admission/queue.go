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

	// Meter says who is in good standing; nil: everybody. Others get what is left: one at a time, and together Slow of the time of
	// one processor, 0.5 for half of it; 0 is all of it.
	Meter *Meter
	Slow  float64

	OnRefuse func() // if set, hears of each refusal
	OnSlow   func() // if set, hears of each piece of work of an address in bad standing
}

// A Queue lets few compute at a time. Whoever waits, waits in the line of their address, and the lines take turns, so that a
// thousand requests from one address hold up another by one of them. When too many wait, the newest of the longest line is
// refused.
//
// Known addresses come before unknown ones, and those in bad standing when nobody else waits. Of these the newest and the oldest
// come in turn: under a flood that is not worked off in time, it is better to serve some at once than everybody too late.
type Queue struct {
	cfg QueueConfig

	mu      sync.Mutex
	running int
	slow    int // running, of those in bad standing
	waiting int
	lines   map[Address]*line
	turns   [3]*list.List // by Standing: *line with somebody waiting
	resumed []*waiter     // in the middle of their work
	sizes   crowd         // of the lines
	oldest  bool          // the next one in bad standing is the oldest of its line
	rest    time.Time     // until when those in bad standing wait in any case
	timer   *time.Timer
}

// A line is who waits at an address, oldest first.
type line struct {
	from    Address
	waiters []*waiter
	place   *list.Element // in Queue.turns
	as      Standing
}

type waiter struct {
	from   Address
	turn   chan struct{} // closed when it is granted or refused
	ticket *Ticket       // nil: refused
}

// NewQueue returns an empty queue.
func NewQueue(c QueueConfig) *Queue {
	return &Queue{cfg: c, lines: map[Address]*line{}, turns: [3]*list.List{list.New(), list.New(), list.New()}, sizes: newCrowd()}
}

// A Ticket is the right to compute. Its methods are called by one goroutine.
type Ticket struct {
	q    *Queue
	from Address
	slow bool
	held bool
	at   time.Time // when its turn began, of a slow one
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
		t.q.relax(time.Since(t.at))
	}
}

// relax has those in bad standing wait after one of them has computed for d.
func (q *Queue) relax(d time.Duration) {
	if q.cfg.Slow <= 0 {
		return
	}
	pause := time.Duration(float64(d) * (1/q.cfg.Slow - 1))
	if now := time.Now(); q.rest.Before(now) {
		q.rest = now.Add(pause)
	} else {
		q.rest = q.rest.Add(pause)
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
	if l := q.lines[from]; l != nil && l.as != Known {
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

// sort puts a line at the end of the turns that its standing calls for.
func (q *Queue) sort(l *line) {
	as := Known
	if q.cfg.Meter != nil {
		as, _ = q.cfg.Meter.Standing(l.from)
	}
	if l.place != nil {
		q.turns[l.as].Remove(l.place)
	}
	l.as, l.place = as, q.turns[as].PushBack(l)
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
		q.turns[l.as].Remove(l.place)
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
	for q.free() && len(q.resumed) > 0 {
		w := q.resumed[0]
		q.resumed = q.resumed[1:]
		q.grant(w, w.ticket)
	}
	for q.free() {
		l := q.next()
		switch {
		case l == nil:
			return
		case l.as != Bad:
			w := q.part(l, 0)
			q.grant(w, &Ticket{q: q, from: w.from})
		case q.slow > 0:
			return
		case time.Now().Before(q.rest): // elapsed time only
			q.wake(time.Until(q.rest))
			return
		default:
			i := len(l.waiters) - 1
			if q.oldest {
				i = 0
			}
			q.oldest = !q.oldest
			w := q.part(l, i)
			q.grant(w, &Ticket{q: q, from: w.from, slow: true})
			if q.cfg.OnSlow != nil {
				q.cfg.OnSlow()
			}
		}
	}
}

// next returns the line whose turn it is, by what is thought of its address now; nil if nobody waits.
func (q *Queue) next() *line {
	for as := Known; as <= Bad; as++ {
		for range q.turns[as].Len() {
			l := q.turns[as].Front().Value.(*line)
			if q.sort(l); l.as <= as {
				return l
			}
		}
	}
	return nil
}

func (q *Queue) grant(w *waiter, t *Ticket) {
	if q.cfg.Meter != nil && w.ticket == nil {
		q.cfg.Meter.Charge(w.from)
	}
	w.ticket, t.held = t, true
	q.running++
	if t.slow {
		q.slow++
		t.at = time.Now()
	}
	close(w.turn)
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
