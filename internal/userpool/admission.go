package userpool

import (
	"context"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A budget lets few callers compute at a time and few more wait for them.
type budget struct {
	running chan struct{}
	waiting chan struct{}
}

func newBudget(running, waiting int) budget {
	return budget{make(chan struct{}, running), make(chan struct{}, running+waiting)}
}

// spend runs work within the budget. It fails with TooManyRequestsException when the queue is full.
func (b budget) spend(ctx context.Context, work func()) error {
	select {
	case b.waiting <- struct{}{}:
		defer func() { <-b.waiting }()
	default:
		return tooManyRequests()
	}
	select {
	case b.running <- struct{}{}:
		defer func() { <-b.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	work()
	return nil
}

// failures counts events per source address in fixed minutes. It is kept in memory and bounded: under a flood from many
// addresses it forgets the old ones first.
type failures struct {
	limit int

	mu        sync.Mutex
	byAddress map[string]failureCount
}

type failureCount struct {
	minute int64
	n      int
}

const maxAddresses = 50_000

func (f *failures) tooMany(ctx context.Context, now time.Time) bool {
	address := fleet.CallerFrom(ctx).SourceIP
	if f.limit < 0 || address == "" {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.byAddress[address]
	return c.minute == now.Unix()/60 && c.n >= f.limit
}

func (f *failures) add(ctx context.Context, now time.Time) {
	address := fleet.CallerFrom(ctx).SourceIP
	if f.limit < 0 || address == "" {
		return
	}
	minute := now.Unix() / 60
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.byAddress[address]
	if c.minute != minute {
		c = failureCount{minute: minute}
	}
	c.n++
	if len(f.byAddress) >= maxAddresses {
		for a, old := range f.byAddress {
			if old.minute != minute {
				delete(f.byAddress, a)
			}
		}
		if len(f.byAddress) >= maxAddresses {
			clear(f.byAddress)
		}
	}
	f.byAddress[address] = c
}
