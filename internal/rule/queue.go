package rule

import (
	"sync"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// What rules may have to do, so that one that is slow keeps neither others of its account for long, nor those of other accounts at all.
const (
	ruleWorkers  = 8         // messages that a rule works on at a time
	scopeWorkers = 64        // … that all rules of a scope do
	ruleWaiting  = 1000      // messages that wait for a rule
	scopeBytes   = 64 << 20  // … for all rules of a scope
	totalBytes   = 256 << 20 // … for all rules
)

// A lane is what the rules of a scope share.
type lane struct {
	slots   chan struct{}
	waiting atomic.Int64 // bytes
}

type lanes struct {
	mu  sync.Mutex
	all map[fleet.Scope]*lane
}

func (l *lanes) of(s fleet.Scope) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[fleet.Scope]*lane{}
	}
	if l.all[s] == nil {
		l.all[s] = &lane{slots: make(chan struct{}, scopeWorkers)}
	}
	return l.all[s]
}

// A queue is the messages that wait for a rule, in the order in which they came.
type queue struct {
	mu      sync.Mutex
	waiting []*event
	workers int
}

// enqueue puts a message in line for a rule, and reports whether there was room. When the service closes there is room, and no worker.
func (s *Service) enqueue(c *compiled, e *event, accepted bool) bool {
	if !s.reserve(c.lane, e.size, accepted) {
		return false
	}
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= ruleWaiting && !accepted {
		s.release(c.lane, e.size)
		return false
	}
	q.waiting = append(q.waiting, e)
	if q.workers < ruleWorkers && s.enter() {
		q.workers++
		go s.worker(c)
	}
	return true
}

func (s *Service) reserve(l *lane, n int64, accepted bool) bool {
	total, own := s.waiting.Add(n), l.waiting.Add(n)
	if accepted || total <= totalBytes && own <= scopeBytes {
		return true
	}
	s.release(l, n)
	return false
}

func (s *Service) release(l *lane, n int64) {
	s.waiting.Add(-n)
	l.waiting.Add(-n)
}

// enter counts a worker; false when the service closes.
func (s *Service) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Add(1)
	}
	return !s.closed
}

// worker runs a rule on what waits for it.
func (s *Service) worker(c *compiled) {
	defer s.wg.Done()
	for {
		e := s.next(c)
		if e == nil {
			return
		}
		s.run(c, e)
		<-c.lane.slots
	}
}

// next waits for a slot of the scope and takes a message. nil: nothing waits, or the service has to end, and the worker has been counted out.
func (s *Service) next(c *compiled) *event {
	select {
	case c.lane.slots <- struct{}{}:
	case <-s.ctx.Done():
	}
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil
	}
	if len(q.waiting) == 0 {
		q.waiting = nil
		q.workers--
		<-c.lane.slots
		return nil
	}
	e := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	s.release(c.lane, e.size)
	return e
}
