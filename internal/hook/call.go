package hook

import (
	"context"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Call is an event that another service than AWS IoT has a function answer: a trigger of a user pool.
type Call struct {
	Scope           fleet.Scope
	Function        string // ARN
	Service, Source string // who calls, and the ARN for which: the policy of a function that runs here has to permit both
	Event           []byte // JSON
	Timeout         time.Duration
	Hide            map[string]string // values that errors must not show

	// Alone says that nobody waits for the answer: a function that runs here has all of its own timeout, up to Timeout, and one that
	// fails is called again the next time all the same.
	Alone bool
}

// Raised is the error of a handler. Message is its own text, which its author writes for whoever caused the event.
type Raised struct{ Message, shown string }

// Error implements error: with the values hidden that were sent.
func (r Raised) Error() string { return r.shown }

// Call has a function answer and returns its answer as it came, at most 64 KiB, and what to show of what it wrote beside, "" or a text that begins
// with a semicolon. Errors: Raised, lambda.ErrNotPermitted,
// context.DeadlineExceeded, KindInvalid if there is no such function, all others if it gave no answer. Rules cannot be called.
func (s *Service) Call(ctx context.Context, c Call) (answer []byte, wrote string, err error) {
	var f fleet.Function
	var t target
	if err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		f, t, err = find(tx, c.Scope, c.Function)
		return err
	}); err != nil {
		return nil, "", err
	}
	timeout := min(f.Timeout, c.Timeout)
	if c.Alone && f.Kind == fleet.Local {
		timeout = c.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	state := s.circuits.of(c.Scope, f)
	if c.Alone { // its failures must not keep devices away that the same function lets in
		state = new(circuit)
	}
	if err := state.enter(s.Clock.Now()); err != nil {
		return nil, "", fmt.Errorf("%s %s: %w", f.Kind, place(f), err)
	}
	answer, wrote, err = s.ask(ctx, f, t, request{scope: c.Scope, body: c.Event, service: c.Service, source: c.Source, hide: c.Hide})
	state.leave(s.Clock.Now(), err)
	if err != nil {
		return nil, "", fmt.Errorf("%s %s: %w", f.Kind, place(f), err)
	}
	return answer, wrote, nil
}
