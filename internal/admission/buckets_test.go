package admission

import (
	"testing"
	"time"
)

func TestABucketGivesItsBurstAndThenItsRate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := NewBuckets[string](func() time.Time { return now })
	r := Rate{PerSecond: 2, Burst: 5}
	take := func(key string, n int) (got int) {
		for range n {
			if b.Take(key, r) == 0 {
				got++
			}
		}
		return got
	}
	if got := take("a", 10); got != 5 {
		t.Errorf("%d at once, want 5", got)
	}
	if wait := b.Take("a", r); wait != 500*time.Millisecond {
		t.Errorf("the next one in %v", wait)
	}
	if got := take("b", 3); got != 3 {
		t.Error("one key is charged for another")
	}
	now = now.Add(time.Second)
	if got := take("a", 10); got != 2 {
		t.Errorf("%d a second later, want 2", got)
	}
	now = now.Add(time.Hour)
	if got := take("a", 10); got != 5 {
		t.Errorf("%d after an hour, want the burst", got)
	}
	if b.Take("c", Rate{}) != 0 {
		t.Error("no rate is a bound")
	}
}

func TestBucketsAreBoundedAndForgetNoDebt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := NewBuckets[int](func() time.Time { return now })
	r := Rate{PerSecond: 1, Burst: 1}
	for i := range maxAddresses {
		b.Take(i, r)
	}
	if b.Take(-1, r) != 0 || b.Take(-2, r) == 0 { // those without a bucket share one
		t.Error("newcomers do not share a bucket")
	}
	if b.Take(0, r) == 0 || len(b.shelf.m) != maxAddresses {
		t.Errorf("a debt was forgotten, or there are %d buckets", len(b.shelf.m))
	}
	now = now.Add(2 * time.Second)
	if b.Take(-3, r) != 0 || len(b.shelf.m) != 1 {
		t.Errorf("%d buckets are kept though they are full", len(b.shelf.m))
	}
}

func TestABucketInDebtSaysHowLong(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := NewBuckets[string](func() time.Time { return now })
	r := Rate{PerSecond: 2, Burst: 5}
	if b.Wait("a", r) != 0 || len(b.shelf.m) != 0 {
		t.Error("who has done nothing waits or is remembered")
	}
	if wait := b.Charge("a", 4, r); wait != 0 {
		t.Errorf("one is left, and the wait is %v", wait)
	}
	if wait := b.Charge("a", 3, r); wait != 1500*time.Millisecond || b.Wait("a", r) != wait {
		t.Errorf("with a debt of two the wait is %v, then %v", wait, b.Wait("a", r))
	}
	if wait := b.Charge("a", 1000, r); wait != 3*time.Second {
		t.Errorf("the deepest debt is a wait of %v", wait)
	}
	now = now.Add(3 * time.Second)
	if b.Wait("a", r) != 0 || b.Wait("b", r) != 0 || b.Charge("a", 9, Rate{}) != 0 {
		t.Error("a debt does not end, is another's, or holds without a rate")
	}
}

func TestStrangersToFullBucketsShareADebt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := NewBuckets[int](func() time.Time { return now })
	r := Rate{PerSecond: 1, Burst: 1}
	for i := range maxAddresses {
		b.Charge(i, 1, r)
	}
	b.Charge(-1, 1, r)
	if b.Wait(-2, r) == 0 {
		t.Error("who finds no bucket has no share in the debt of others like it")
	}
}
