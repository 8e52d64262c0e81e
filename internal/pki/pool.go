package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A KeyPool keeps RSA-2048 keys ready, because one costs about 60 ms of CPU where everything else in a provisioning flow
// costs a millisecond. It sustains about 15 keys a second and core beyond its content; P-256 needs no pool.
//
// Keys are made in the background by one worker while the service is idle, live in memory only and are handed out once. When
// the pool is empty, callers wait for keys made at once, by at most as many workers as PoolConfig.Parallel allows, so that a
// flood of requests cannot take the processor from everybody else.
type KeyPool struct {
	size     int
	parallel int
	queue    int
	busy     func() bool
	generate func() *rsa.PrivateKey

	done  chan struct{} // closed by Close
	ready chan *rsa.PrivateKey
	wake  chan struct{} // tells the worker that there is room
	wg    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting int // callers of Take that found nothing
	making  int // workers that run for them
	stats   PoolStats
}

// PoolConfig is how a KeyPool works. The zero value is a pool of 32 keys.
type PoolConfig struct {
	Size     int         // keys kept ready; 0 means 32, a negative number none
	Parallel int         // workers for callers that wait; 0 means 1
	Queue    int         // callers that may wait at a time; 0 means 128, which takes about nine seconds
	Busy     func() bool // true while the processor has better things to do than to fill the pool; nil: never

	generate func() *rsa.PrivateKey // nil: RSA-2048
}

// PoolStats are the pool's gauges and counters.
type PoolStats struct {
	Size    int    // keys that the pool may hold
	Ready   int    // keys that it holds
	Waiting int    // callers that wait for one
	Refused uint64 // callers that found too many waiting
	Taken   uint64 // keys handed out
	Missed  uint64 // of these, keys that their caller had to wait for
	Made    uint64 // keys made
}

const (
	defaultPool = 32
	maxQueue    = 128
	keyTime     = 65 * time.Millisecond  // that a key takes, about
	busyPause   = 250 * time.Millisecond // between looks at Busy
)

// ErrPoolClosed is returned by Take after Close.
var ErrPoolClosed = errors.New("the key pool is closed")

// NewKeyPool starts filling a pool. Close ends it.
func NewKeyPool(c PoolConfig) *KeyPool {
	p := &KeyPool{size: c.Size, parallel: max(c.Parallel, 1), busy: c.Busy, generate: c.generate,
		queue: c.Queue, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	switch {
	case c.Size == 0:
		p.size = defaultPool
	case c.Size < 0:
		p.size = 0
	}
	if p.queue <= 0 {
		p.queue = maxQueue
	}
	if p.generate == nil {
		p.generate = func() *rsa.PrivateKey {
			k, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				panic(err) // fails for a bad size only; crypto/rand aborts the program instead of failing
			}
			return k
		}
	}
	// Room beyond size is for the keys of callers that gave up while theirs was being made.
	p.ready = make(chan *rsa.PrivateKey, p.size+p.parallel+1)
	if p.size > 0 {
		p.wg.Go(p.fill)
	}
	return p
}

// Key returns a new key of type t: RSA-2048 from the pool, P-256 made on the spot.
func (p *KeyPool) Key(ctx context.Context, t KeyType) (crypto.Signer, error) {
	if t == RSA2048 {
		return p.Take(ctx)
	}
	return GenerateKey(t)
}

// Take returns an RSA-2048 key that nobody else gets, at once if one is ready, else when one has been made or ctx ends. When too
// many wait it fails with fleet.KindThrottled at once, rather than after their patience.
func (p *KeyPool) Take(ctx context.Context) (*rsa.PrivateKey, error) {
	select {
	case <-p.done:
		return nil, ErrPoolClosed
	default:
	}
	select {
	case k := <-p.ready:
		p.note(func() { p.stats.Taken++ })
		return k, nil
	default:
	}
	full := false
	p.note(func() {
		if full = p.waiting >= p.queue; full {
			p.stats.Refused++
		} else {
			p.waiting++
		}
	})
	if full {
		return nil, &fleet.Error{Kind: fleet.KindThrottled, Msg: "Rate exceeded: too many RSA keys are being made. Send a certificate signing request instead, or try again later",
			RetryAfter: time.Duration(p.queue) * keyTime / time.Duration(p.parallel)}
	}
	select {
	case k := <-p.ready:
		p.note(func() { p.waiting--; p.stats.Taken++; p.stats.Missed++ })
		return k, nil
	case <-ctx.Done():
		p.note(func() { p.waiting-- })
		return nil, ctx.Err()
	case <-p.done:
		return nil, ErrPoolClosed
	}
}

// note records that a caller took a key, or began or ended waiting, and sees to it that somebody works for those who wait:
// the key that was made for them may just have gone to somebody else.
func (p *KeyPool) note(what func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what()
	if !p.closed && p.making < min(p.waiting-len(p.ready), p.parallel) {
		p.making++
		p.wg.Go(p.serve)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// serve makes keys while callers wait.
func (p *KeyPool) serve() {
	for {
		p.mu.Lock()
		if p.closed || p.waiting <= len(p.ready) {
			p.making--
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		p.makeOne()
	}
}

// fill keeps the pool full while nobody waits and the service is idle.
func (p *KeyPool) fill() {
	for {
		switch {
		case len(p.ready) >= p.size:
			select {
			case <-p.wake:
			case <-p.done:
				return
			}
		case p.busy != nil && p.busy() || p.someoneWaits():
			select {
			case <-time.After(busyPause):
			case <-p.done:
				return
			}
		default:
			p.makeOne()
		}
		select {
		case <-p.done:
			return
		default:
		}
	}
}

func (p *KeyPool) someoneWaits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting > 0
}

// makeOne adds a key.
func (p *KeyPool) makeOne() {
	k := p.generate()
	p.mu.Lock()
	p.stats.Made++
	p.mu.Unlock()
	select {
	case p.ready <- k:
	default: // full of keys whose callers gave up
	}
}

// Stats returns the gauges and counters of now.
func (p *KeyPool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Size, s.Ready, s.Waiting = p.size, len(p.ready), p.waiting
	return s
}

// Close ends the background work, waiting for a key that is being made, and forgets the keys that are ready. Waiting callers
// get ErrPoolClosed. It may be called more than once.
func (p *KeyPool) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.done)
	}
	p.mu.Unlock()
	p.wg.Wait()
	for {
		select {
		case <-p.ready:
		default:
			return
		}
	}
}
