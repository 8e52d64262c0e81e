package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// slowKeys makes keys that take 60 ms each, on synctest's clock.
type slowKeys struct {
	made, running, most atomic.Int32
}

func (s *slowKeys) generate() *rsa.PrivateKey {
	now := s.running.Add(1)
	s.most.Store(max(s.most.Load(), now))
	time.Sleep(60 * time.Millisecond)
	s.running.Add(-1)
	s.made.Add(1)
	return new(rsa.PrivateKey)
}

func TestThePoolFillsOneKeyAtATimeAndStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		p := NewKeyPool(PoolConfig{Size: 4, generate: s.generate})
		defer p.Close()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := p.Stats(); got != (PoolStats{Size: 4, Ready: 4, Made: 4}) || s.most.Load() != 1 {
			t.Errorf("%+v, %d at a time", got, s.most.Load())
		}
		before := time.Now()
		if _, err := p.Take(t.Context()); err != nil || time.Since(before) != 0 {
			t.Errorf("a ready key took %v, %v", time.Since(before), err)
		}
		time.Sleep(time.Second)
		if got := p.Stats(); got != (PoolStats{Size: 4, Ready: 4, Made: 5, Taken: 1}) {
			t.Errorf("%+v", got)
		}
	})
}

func TestThePoolRestsWhileTheServiceIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		var busy atomic.Bool
		busy.Store(true)
		p := NewKeyPool(PoolConfig{Size: 2, Busy: busy.Load, generate: s.generate})
		defer p.Close()
		time.Sleep(time.Minute)
		if s.made.Load() != 0 {
			t.Errorf("%d keys were made", s.made.Load())
		}
		// Whoever needs a key gets one all the same.
		if _, err := p.Take(t.Context()); err != nil {
			t.Error(err)
		}
		busy.Store(false)
		time.Sleep(time.Second)
		if got := p.Stats(); got.Ready != 2 || got.Missed != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAFloodIsServedByAsManyWorkersAsAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		p := NewKeyPool(PoolConfig{Size: -1, Parallel: 2, generate: s.generate})
		defer p.Close()
		var wg sync.WaitGroup
		seen := make(map[*rsa.PrivateKey]bool)
		var mu sync.Mutex
		for range 20 {
			wg.Go(func() {
				k, err := p.Take(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[k] = true
				mu.Unlock()
			})
		}
		begin := time.Now()
		wg.Wait()
		if took := time.Since(begin); took != 600*time.Millisecond {
			t.Errorf("20 keys took %v", took)
		}
		if got := p.Stats(); len(seen) != 20 || s.most.Load() != 2 || got.Taken != 20 || got.Missed != 20 || got.Waiting != 0 {
			t.Errorf("%d different keys, %d workers, %+v", len(seen), s.most.Load(), got)
		}
		time.Sleep(time.Second)
		if s.running.Load() != 0 {
			t.Error("workers go on without need")
		}
	})
}

func TestAKeyWhoseCallerGaveUpGoesToTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		p := NewKeyPool(PoolConfig{Size: -1, generate: s.generate})
		defer p.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := p.Take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Take: %v", err)
		}
		time.Sleep(time.Second)
		begin := time.Now()
		if _, err := p.Take(t.Context()); err != nil || time.Since(begin) != 0 || s.made.Load() != 1 {
			t.Errorf("the next caller waited %v, %v, %d keys made", time.Since(begin), err, s.made.Load())
		}
	})
}

// synctest fails the test if a goroutine is left when its function returns.
func TestCloseEndsAllWorkAndEveryWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		p := NewKeyPool(PoolConfig{Size: 3, generate: s.generate})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := p.Take(t.Context()); !errors.Is(err, ErrPoolClosed) {
					t.Errorf("Take: %v", err)
				}
			})
		}
		synctest.Wait()
		p.Close()
		p.Close()
		wg.Wait()
		if s.running.Load() != 0 {
			t.Error("a key is still being made")
		}
		if _, err := p.Take(t.Context()); !errors.Is(err, ErrPoolClosed) {
			t.Errorf("Take after Close: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		busy := NewKeyPool(PoolConfig{Busy: func() bool { return true }, generate: new(slowKeys).generate})
		time.Sleep(time.Second)
		busy.Close()
	})
}

func TestTheKeysOfThePoolAreRSA2048AndP256(t *testing.T) {
	t.Parallel()
	p := NewKeyPool(PoolConfig{Size: -1})
	defer p.Close()
	k, err := p.Key(t.Context(), RSA2048)
	if err != nil || CheckPublicKey(k.Public()) != nil || typeOf(k.Public()) != RSA2048 {
		t.Errorf("%T, %v", k, err)
	}
	if k, err = p.Key(t.Context(), P256); err != nil || typeOf(k.Public()) != P256 {
		t.Errorf("%T, %v", k, err)
	}
	if _, ok := k.(*ecdsa.PrivateKey); !ok {
		t.Errorf("%T", k)
	}
	if _, err := p.Key(t.Context(), "DSA"); err == nil {
		t.Error("a DSA key was made")
	}
}

func TestTooManyWhoWaitForAKeyAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		p := NewKeyPool(PoolConfig{Size: -1, Queue: 3, generate: s.generate})
		defer p.Close()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := p.Take(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		_, err := p.Take(t.Context())
		var e *fleet.Error
		if !errors.As(err, &e) || e.Kind != fleet.KindThrottled || e.RetryAfter <= 0 {
			t.Errorf("got %v", err)
		}
		wg.Wait()
		if got := p.Stats(); got.Taken != 3 || got.Refused != 1 || got.Waiting != 0 {
			t.Errorf("%+v", got)
		}
		if _, err := p.Take(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
