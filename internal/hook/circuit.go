package hook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A target that does not answer is not asked for a while: devices are refused at once, not after their whole patience, and the target
// is left alone to come back.
const (
	opensAfter = 5                // calls in a row without an answer
	opensFor   = 10 * time.Second // until one call tries whether it is back
)

// States of a circuit.
const (
	Closed   = "closed" // calls go through
	Open     = "open"
	HalfOpen = "half_open" // one call tries
)

// unreachable says that a target gave no answer: it counts against its circuit. What a target answers, however wrong, does not: the
// device's own parameters may be the cause, and one device must not shut out the others.
type unreachable struct{ error }

func (e unreachable) Unwrap() error { return e.error }

func noAnswer(format string, args ...any) error { return unreachable{fmt.Errorf(format, args...)} }
func wrong(format string, args ...any) error    { return fmt.Errorf(format, args...) }

// circuits are those of the functions that were called since the start.
type circuits struct {
	mu sync.Mutex
	m  map[circuitKey]*circuit
}

type circuitKey struct {
	scope fleet.Scope
	name  string
}

type circuit struct {
	modified time.Time // of the function: another target behind the same name begins anew

	mu       sync.Mutex
	failures int // in a row
	opened   time.Time
	trying   bool
	last     string
}

func (c *circuits) of(s fleet.Scope, f fleet.Function) *circuit {
	key := circuitKey{s, f.Name}
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.m[key]; one != nil && one.modified.Equal(f.Modified) {
		return one
	}
	if c.m == nil {
		c.m = map[circuitKey]*circuit{}
	}
	c.m[key] = &circuit{modified: f.Modified}
	return c.m[key]
}

func (c *circuits) forget(s fleet.Scope, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, circuitKey{s, name})
}

// Circuits counts the circuits in each state at a time.
func (s *Service) Circuits() map[string]int {
	states := map[string]int{Closed: 0, Open: 0, HalfOpen: 0}
	now := s.Clock.Now()
	s.circuits.mu.Lock()
	defer s.circuits.mu.Unlock()
	for _, c := range s.circuits.m {
		states[c.state(now)]++
	}
	return states
}

func (c *circuit) state(now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failures < opensAfter:
		return Closed
	case c.trying || !now.Before(c.opened.Add(opensFor)):
		return HalfOpen
	}
	return Open
}

// enter asks whether to call. Who may call must leave.
func (c *circuit) enter(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < opensAfter {
		return nil
	}
	if c.trying || now.Before(c.opened.Add(opensFor)) {
		return fmt.Errorf("not called: it gave no answer %d times in a row, the last time because: %s", c.failures, c.last)
	}
	c.trying = true
	return nil
}

// leave notes how a call went.
func (c *circuit) leave(now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var none unreachable
	switch {
	case errors.As(err, &none), errors.Is(err, context.DeadlineExceeded):
		c.failures++
		c.opened, c.last = now, err.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			c.last = "it took too long"
		}
	case errors.Is(err, context.Canceled): // the device has gone: nothing is known
	default:
		c.failures, c.last = 0, ""
	}
	c.trying = false
}
