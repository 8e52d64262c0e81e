package pki

import (
	"cmp"
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
	takes               time.Duration // for each, in place of 60 ms
	made, running, most atomic.Int32
}

func (s *slowKeys) Key(ctx context.Context) (*rsa.PrivateKey, error) {
	now := s.running.Add(1)
	defer s.running.Add(-1)
	s.most.Store(max(s.most.Load(), now))
	select {
	case <-time.After(cmp.Or(s.takes, 60*time.Millisecond)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.made.Add(1)
	return new(rsa.PrivateKey), nil
}

func TestThePoolFillsOneKeyAtATimeAndStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		p := NewKeyPool(PoolConfig{Size: 4, Source: &s})
		p.Fill()
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

func TestWhoWaitsForLongIsHelped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		starved, help := slowKeys{takes: time.Hour}, slowKeys{}
		p := NewKeyPool(PoolConfig{Size: 2, Parallel: 2, Source: &starved, Help: &help})
		p.Fill()
		defer p.Close()
		time.Sleep(time.Minute)
		if starved.most.Load() != 1 || help.most.Load() != 0 {
			t.Errorf("%d and %d keys at a time to fill a pool", starved.most.Load(), help.most.Load())
		}
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range 3 {
			wg.Go(func() {
				if _, err := p.Take(t.Context()); err != nil {
					t.Error(err)
				}
				if took, want := time.Since(begin), 2*time.Second+[]time.Duration{60, 60, 120}[i]*time.Millisecond; took != want {
					t.Errorf("a key after %v; want %v", took, want)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		time.Sleep(time.Minute)
		if got := p.Stats(); got != (PoolStats{Size: 2, Made: 3, Taken: 3, Missed: 3}) || starved.most.Load() != 2 || help.most.Load() != 2 {
			t.Errorf("%+v, %d and %d at a time: the second source is for those who wait", got, starved.most.Load(), help.most.Load())
		}
	})
}

// A machine without time for keys: two seconds each. Whoever would wait longer than devices do must not wait at all.
func TestNobodyWaitsLongerThanDevicesDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := slowKeys{takes: 2 * time.Second}
		p := NewKeyPool(PoolConfig{Size: -1, Source: &s})
		defer p.Close()
		var wg sync.WaitGroup
		var served, refused, atOnce int
		var longest, retry time.Duration
		var mu sync.Mutex
		for range 400 { // ten a second for forty seconds
			time.Sleep(100 * time.Millisecond)
			wg.Go(func() {
				begin := time.Now()
				_, err := p.Take(t.Context())
				mu.Lock()
				defer mu.Unlock()
				var e *fleet.Error
				switch {
				case err == nil:
					served++
					longest = max(longest, time.Since(begin))
				case errors.As(err, &e) && e.Kind == fleet.KindThrottled:
					refused, retry = refused+1, e.RetryAfter
					if waited := time.Since(begin); waited == 0 {
						atOnce++
					}
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if served < 20 || longest > 8*time.Second || refused-atOnce > refused/10 || retry < time.Second {
			t.Errorf("%d were served after %v at most, %d were refused until %v later, %d of them at once", served, longest, refused, retry, atOnce)
		}
		// When it has learned the pace, it keeps to it; and it learns a better one. First the key of a caller that gave up is finished.
		time.Sleep(s.takes)
		synctest.Wait()
		s.takes = 0
		for range 30 {
			if _, err := p.Take(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pace.each > 200*time.Millisecond {
			t.Errorf("the pace is still %v", p.pace.each)
		}
	})
}

func TestAFloodIsServedByAsManyWorkersAsAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s slowKeys
		p := NewKeyPool(PoolConfig{Size: -1, Parallel: 2, Source: &s})
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
		p := NewKeyPool(PoolConfig{Size: -1, Source: &s})
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
		p := NewKeyPool(PoolConfig{Size: 3, Source: &s})
		p.Fill()
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
		starved := NewKeyPool(PoolConfig{Source: &slowKeys{takes: time.Hour}})
		starved.Fill()
		time.Sleep(time.Second)
		starved.Close()
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
		p := NewKeyPool(PoolConfig{Size: -1, Queue: 3, Source: &s})
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
