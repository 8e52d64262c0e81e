package admission

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// scene plays callers of a queue in a bubble, where time passes when all wait.
type scene struct {
	t   *testing.T
	q   *Queue
	wg  sync.WaitGroup
	mu  sync.Mutex
	log []string
}

func (s *scene) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

// come has somebody enter, who computes for a while.
func (s *scene) come(name string, from Address, work time.Duration) {
	s.wg.Go(func() {
		ticket, err := s.q.Enter(s.t.Context(), from)
		if err != nil {
			if fleet.KindOf(err) != fleet.KindThrottled {
				s.t.Errorf("%s: %v", name, err)
			}
			s.say("%s refused", name)
			return
		}
		s.say("%s", name)
		time.Sleep(work) // within the bubble
		ticket.Leave()
	})
	synctest.Wait()
}

func (s *scene) want(log string) {
	s.t.Helper()
	s.wg.Wait()
	if got := strings.Join(s.log, " "); got != log {
		s.t.Errorf("got  %s\nwant %s", got, log)
	}
	if s.q.running != 0 || s.q.slow != 0 || s.q.waiting != 0 || len(s.q.lines) != 0 {
		s.t.Errorf("left behind: %d running, %d slow, %d waiting, %d lines", s.q.running, s.q.slow, s.q.waiting, len(s.q.lines))
	}
}

func TestAddressesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, q: NewQueue(QueueConfig{Running: 1})}
		for n := range 5 {
			s.come(fmt.Sprint("a", n), at("192.0.2.1"), time.Second)
		}
		s.come("b0", at("192.0.2.2"), time.Second)
		s.come("b1", at("192.0.2.2"), time.Second)
		s.want("a0 a1 b0 a2 b1 a3 a4")
	})
}

func TestAFullQueueRefusesWhoAreTooMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused := 0
		s := &scene{t: t, q: NewQueue(QueueConfig{Running: 1, Waiting: 4, OnRefuse: func() { refused++ }})}
		for n := range 6 {
			s.come(fmt.Sprint("a", n), at("192.0.2.1"), time.Second)
		}
		s.come("b0", at("192.0.2.2"), time.Second) // takes the place of a4
		s.come("b1", at("192.0.2.2"), time.Second) // of a3
		s.come("b2", at("192.0.2.2"), time.Second) // has as many as a
		s.want("a0 a5 refused a4 refused a3 refused b2 refused a1 b0 a2 b1")
		if refused != 4 {
			t.Errorf("%d refusals were counted", refused)
		}
	})
}

func TestBadStandingWaitsForEverybodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := 0
		m := NewMeter(Rate{0.001, 2}, Rate{}, nil, nil)
		s := &scene{t: t, q: NewQueue(QueueConfig{Running: 2, Meter: m, Slow: 0.25, OnSlow: func() { slow++ }})}
		start := time.Now()
		for n := range 6 { // two are free
			s.come(fmt.Sprint("a", n), at("192.0.2.1"), 100*time.Millisecond+time.Duration(n))
		}
		s.come("b0", at("192.0.2.2"), 100*time.Millisecond)
		// Of the others the newest and the oldest come in turn, one at a time, a quarter of the time.
		s.want("a0 a1 b0 a5 a2 a4 a3")
		if d := time.Since(start).Round(100 * time.Millisecond); slow != 4 || d != 1400*time.Millisecond {
			t.Errorf("%d were slow, and took %v", slow, d)
		}
	})
}

func TestKnownAddressesComeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter(Rate{1, 10}, Rate{}, nil, nil)
		s := &scene{t: t, q: NewQueue(QueueConfig{Running: 1, Meter: m})}
		m.Worth(at("192.0.2.1"), 1)
		for n := range 4 {
			s.come(fmt.Sprint("s", n), number(n), time.Second)
		}
		s.come("a0", at("192.0.2.1"), time.Second)
		s.come("a1", at("192.0.2.1"), time.Second)
		s.want("s0 a0 a1 s1 s2 s3")
	})
}

func TestWhoeverProvesThemselvesIsInGoodStandingAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter(Rate{0.001, 2}, Rate{}, nil, nil)
		s := &scene{t: t, q: NewQueue(QueueConfig{Running: 2, Meter: m, Slow: 0.001})}
		start := time.Now()
		for n := range 200 { // a factory is switched on
			s.wg.Go(func() {
				ticket, err := s.q.Enter(t.Context(), at("192.0.2.1"))
				if err != nil {
					t.Error(n, err)
					return
				}
				time.Sleep(time.Millisecond)
				ticket.Leave()
				s.q.Worth(at("192.0.2.1"), 1)
			})
		}
		s.want("")
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

func TestWhatWasBegunIsFinishedFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, q: NewQueue(QueueConfig{Running: 1})}
		s.wg.Go(func() {
			ticket, err := s.q.Enter(t.Context(), at("192.0.2.9"))
			if err != nil {
				t.Error(err)
				return
			}
			ticket.Leave()
			time.Sleep(10 * time.Millisecond) // the network
			ticket.Resume()
			s.say("resumed")
			ticket.Leave()
		})
		synctest.Wait()
		for n := range 3 {
			s.come(fmt.Sprint("a", n), at("192.0.2.1"), time.Second)
		}
		s.want("a0 resumed a1 a2")
	})
}

func TestWhoGivesUpLeavesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, q: NewQueue(QueueConfig{Running: 1})}
		s.come("a0", at("192.0.2.1"), 10*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.q.Enter(ctx, at("192.0.2.1")); err != context.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		s.want("a0")
	})
}

func TestQueuesKeepTheirBoundsUnderRaces(t *testing.T) {
	t.Parallel()
	q := NewQueue(QueueConfig{Running: 3, Waiting: 50, Meter: NewMeter(Rate{1000, 20}, Rate{1000, 50}, nil, nil), Slow: 0.5})
	var mu sync.Mutex
	var wg sync.WaitGroup
	running, most := 0, 0
	work := func() {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		for range 100 {
			rand.Uint64()
		}
		mu.Lock()
		running--
		mu.Unlock()
	}
	for n := range 64 {
		wg.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Millisecond)
				ticket, err := q.Enter(ctx, number(n%7))
				cancel()
				if err != nil {
					continue
				}
				work()
				ticket.Leave()
				if i%2 == 0 {
					ticket.Resume()
					work()
					ticket.Leave()
					q.Worth(number(n%7), 1)
				}
			}
		})
	}
	wg.Wait()
	if most > 3 {
		t.Errorf("%d ran at once", most)
	}
	if q.running != 0 || q.waiting != 0 || len(q.lines) != 0 || q.turns[Known].Len()+q.turns[Unknown].Len()+q.turns[Bad].Len() != 0 || len(q.sizes.of) != 0 {
		t.Errorf("left behind: %+v", q)
	}
}

func TestACrowdKnowsItsLargest(t *testing.T) {
	t.Parallel()
	c, naive := newCrowd(), map[Address]int{}
	for range 20_000 {
		a := number(rand.IntN(20))
		if rand.IntN(2) == 0 || naive[a] == 0 {
			c.grow(a)
			naive[a]++
		} else {
			c.shrink(a)
			if naive[a]--; naive[a] == 0 {
				delete(naive, a)
			}
		}
		var sizes []int
		for _, n := range naive {
			sizes = append(sizes, n)
		}
		want := 0
		if len(sizes) > 0 {
			want = slices.Max(sizes)
		}
		if a, n := c.largest(); n != want || naive[a] != want {
			t.Fatalf("%v with %d is the largest, want one with %d", a, n, want)
		}
	}
}
