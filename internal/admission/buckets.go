package admission

import (
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Buckets hold a token bucket for each of many keys: a claim, an address, an account. Unlike a Meter they count all work, not only
// what was in vain. They may be used concurrently, and keep at most maxAddresses buckets; only full ones are dropped, since those say
// nothing. While none is full, newcomers share one.
type Buckets[K comparable] struct {
	clock fleet.Clock

	mu    sync.Mutex
	shelf shelf[K]
	rest  bucket
}

// NewBuckets returns buckets that are all full.
func NewBuckets[K comparable](clock fleet.Clock) *Buckets[K] {
	return &Buckets[K]{clock: clock, shelf: newShelf[K]()}
}

// Take takes one from the bucket of a key, which fills at this rate. It returns zero, or how long to wait until there is one; then
// nothing was taken. The zero Rate is no bound.
func (b *Buckets[K]) Take(key K, r Rate) (wait time.Duration) {
	if r == (Rate{}) {
		return 0
	}
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.bucket(key, r, now)
	if wait = c.wait(now, r); wait == 0 {
		c.add(-1, now, r)
	}
	return wait
}

// Charge takes n from the bucket of a key, whether they are there or not, and returns how long to wait until there is one again, as
// Wait does. The bucket is in debt meanwhile, by its burst at most.
func (b *Buckets[K]) Charge(key K, n float64, r Rate) (wait time.Duration) {
	if r == (Rate{}) {
		return 0
	}
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.bucket(key, r, now)
	c.add(-n, now, r)
	return c.wait(now, r)
}

// Wait returns how long it is until there is one in the bucket of a key, and takes nothing.
func (b *Buckets[K]) Wait(key K, r Rate) time.Duration {
	now := b.clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch c, ok := b.shelf.m[key]; {
	case ok:
		return c.wait(now, r)
	case b.shelf.full() && !b.rest.at.IsZero():
		return b.rest.wait(now, r)
	}
	return 0
}

// bucket returns the bucket of a key, or the one that newcomers share.
func (b *Buckets[K]) bucket(key K, r Rate, now time.Time) *bucket {
	if c := b.shelf.get(key, r, now); c != nil {
		return c
	}
	if b.rest.at.IsZero() {
		b.rest.account = account{left: r.Burst, at: now}
	}
	return &b.rest
}
