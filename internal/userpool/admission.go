package userpool

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// Names of budgets, for Config.OnRefuse.
const (
	BudgetSignIn  = "sign_in" // arithmetic
	BudgetGuesses = "guesses"
	BudgetSignUps = "sign_ups"
)

func addressOf(ctx context.Context) admission.Address {
	return admission.AddressOf(fleet.CallerFrom(ctx).SourceIP)
}

// newArithmetic makes the queue of sign-ins. Those of addresses where they come to nothing have a quarter of one processor together, and
// so have those of unknown addresses while there is a flood of them.
func newArithmetic(cfg Config) *admission.Queue {
	per, all := admission.Rate{PerSecond: 5, Burst: 100}, admission.Rate{PerSecond: 10, Burst: 100}
	return admission.NewQueue(admission.QueueConfig{Running: cfg.Arithmetic, Waiting: cfg.Waiting, Slow: 0.25,
		Meter: admission.NewMeter(per, all, cfg.Trusted, nil)})
}

// compute runs the arithmetic of a sign-in when it is the caller's turn. It fails with TooManyRequestsException when too many
// wait.
func (s *Service) compute(ctx context.Context, work func()) error {
	t, err := s.arithmetic.Enter(ctx, addressOf(ctx))
	if err != nil && fleet.KindOf(err) == fleet.KindThrottled {
		return s.refuse(BudgetSignIn, time.Second)
	}
	if err != nil {
		return err
	}
	defer t.Leave()
	work()
	return nil
}

// refuse answers that a budget is used up.
func (s *Service) refuse(budget string, after time.Duration) error {
	if s.cfg.OnRefuse != nil {
		s.cfg.OnRefuse(budget)
	}
	e := tooManyRequests()
	e.RetryAfter = max(after, time.Second)
	return e
}

// proven tells whoever counts what strangers do that this one has proven who they are.
func (s *Service) proven(ctx context.Context) {
	const steps = 2 // of SRP
	s.arithmetic.Worth(addressOf(ctx), steps)
	if s.cfg.OnProof != nil {
		s.cfg.OnProof(ctx)
	}
}

// A tally bounds events per source address and minute, and of all strangers' addresses together.
type tally struct {
	budget string
	meter  *admission.Meter // nil: no bound
}

// newTally returns a tally of n a minute for each address; negative: no bound.
func newTally(budget string, n int, all admission.Rate, cfg Config) tally {
	if n < 0 {
		return tally{}
	}
	per := admission.Rate{PerSecond: float64(n) / 60, Burst: float64(n)}
	return tally{budget, admission.NewMeter(per, all, cfg.Trusted, cfg.Clock)}
}

// check refuses an address that has used up its budget. Callers without an address are ourselves.
func (s *Service) check(ctx context.Context, t tally) error {
	if t.meter == nil || fleet.CallerFrom(ctx).SourceIP == "" {
		return nil
	}
	if standing, after := t.meter.Standing(addressOf(ctx)); standing == admission.Bad {
		return s.refuse(t.budget, after)
	}
	return nil
}

func (t tally) add(ctx context.Context) {
	if t.meter != nil && fleet.CallerFrom(ctx).SourceIP != "" {
		t.meter.Charge(addressOf(ctx))
	}
}
