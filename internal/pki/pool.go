package pki

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A KeyPool keeps RSA-2048 keys ready, because one costs about 60 ms of CPU where everything else in a provisioning flow
// costs a few. Other keys need no pool.
//
// A source that should take no time from anything else fills the pool, and makes keys for callers that found it empty. When that
// takes long, since all processors are busy, a second source helps, which gets a share of them. Keys live in memory only and are
// handed out once. Whoever would wait longer than devices do is refused.
type KeyPool struct {
	cfg  PoolConfig
	ctx  context.Context // until Close
	end  context.CancelFunc
	wg   sync.WaitGroup
	calm crew
	help crew

	mu      sync.Mutex
	ready   []*rsa.PrivateKey
	waiting []*waiter // callers of Take that found nothing, in turn
	pace    pace
	stats   PoolStats
}

// A waiter gets one key.
type waiter struct {
	key   chan *rsa.PrivateKey // of room for it
	since time.Time
}

// A KeySource makes RSA-2048 keys. The error is that of ctx, or says that the source has been closed.
type KeySource interface {
	Key(ctx context.Context) (*rsa.PrivateKey, error)
}

// PoolConfig is how a KeyPool works. The zero value is a pool of 32 keys that are made in this process, one at a time.
type PoolConfig struct {
	Size     int           // keys kept ready; 0 means 32, a negative number none
	Parallel int           // keys that each source makes at a time while callers wait; 0 means 1
	Queue    int           // callers that may wait at a time; 0 means 128
	Urgency  time.Duration // how long the first has waited when Help begins; 0 means two seconds
	Patience time.Duration // how long callers may have to wait; 0 means eight seconds: devices commonly give up after ten

	Source KeySource // nil: keys are made in this process, at the priority of everything else
	Help   KeySource // nil: there is none
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
	defaultPool     = 32
	maxQueue        = 128
	defaultUrgency  = 2 * time.Second
	defaultPatience = 8 * time.Second
	keyTime         = 65 * time.Millisecond // that a key takes, about
)

// ErrPoolClosed is returned by Take after Close.
var ErrPoolClosed = errors.New("the key pool is closed")

// inProcess makes keys at the priority of everything else.
type inProcess struct{}

func (inProcess) Key(context.Context) (*rsa.PrivateKey, error) {
	return rsa.GenerateKey(rand.Reader, 2048)
}

// NewKeyPool returns an empty pool, which makes keys for those who ask. Fill fills it, Close ends it.
func NewKeyPool(c PoolConfig) *KeyPool {
	c.Size, c.Parallel, c.Queue = max(cmp.Or(c.Size, defaultPool), 0), max(c.Parallel, 1), cmp.Or(c.Queue, maxQueue)
	c.Urgency, c.Patience = cmp.Or(c.Urgency, defaultUrgency), cmp.Or(c.Patience, defaultPatience)
	p := &KeyPool{cfg: c, pace: pace{each: keyTime / time.Duration(c.Parallel)}}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.calm = crew{source: cmp.Or(c.Source, KeySource(inProcess{})), most: c.Parallel, wanted: p.wanted}
	p.help = crew{source: c.Help, wanted: p.urgent}
	if c.Help != nil {
		p.help.most = c.Parallel
	}
	return p
}

// Fill begins to fill the pool; so does every Take.
func (p *KeyPool) Fill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hire(&p.calm)
}

// Key returns a new key of type t: RSA-2048 from the pool, others made on the spot.
func (p *KeyPool) Key(ctx context.Context, t KeyType) (crypto.Signer, error) {
	if t == RSA2048 {
		return p.Take(ctx)
	}
	return GenerateKey(t)
}

// Take returns an RSA-2048 key that nobody else gets, at once if one is ready, else when one has been made or ctx ends. When it takes
// longer than devices wait, it fails with fleet.KindThrottled: at once if that can be foreseen.
func (p *KeyPool) Take(ctx context.Context) (*rsa.PrivateKey, error) {
	if p.ctx.Err() != nil {
		return nil, ErrPoolClosed
	}
	k, w, err := p.line()
	if w == nil {
		return k, err
	}
	urgency, patience := time.NewTimer(p.cfg.Urgency), time.NewTimer(p.cfg.Patience)
	defer urgency.Stop()
	defer patience.Stop()
	for {
		select {
		case k := <-w.key:
			return k, nil
		case <-urgency.C:
			p.mu.Lock()
			p.hire(&p.help)
			p.mu.Unlock()
		case <-patience.C:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.leave(w)
			return nil, p.refuse(time.Now())
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			p.leave(w)
			return nil, ctx.Err()
		case <-p.ctx.Done():
			return nil, ErrPoolClosed
		}
	}
}

// refuse tells a caller when to come again.
func (p *KeyPool) refuse(now time.Time) error {
	p.stats.Refused++
	return &fleet.Error{Kind: fleet.KindThrottled, RetryAfter: min(max(p.pace.wait(now, len(p.waiting)), time.Second), time.Minute),
		Msg: "Rate exceeded: too many RSA keys are being made. Send a certificate signing request instead, or try again later"}
}

// line returns a key that is ready, or the caller's place in the line, or when to come again.
func (p *KeyPool) line() (*rsa.PrivateKey, *waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.hire(&p.calm)
	if n := len(p.ready); n > 0 {
		k := p.ready[n-1]
		p.ready[n-1] = nil
		p.ready = p.ready[:n-1]
		p.stats.Taken++
		return k, nil, nil
	}
	now, n := time.Now(), len(p.waiting)
	if n == 0 {
		p.pace.last = now
	}
	// Who waits tells the pace: there must always be some.
	if n >= p.cfg.Parallel && (n >= p.cfg.Queue || p.pace.wait(now, n) > p.cfg.Patience) {
		return nil, nil, p.refuse(now)
	}
	w := &waiter{make(chan *rsa.PrivateKey, 1), now}
	p.waiting = append(p.waiting, w)
	return nil, w, nil
}

// leave takes a caller out of the line. A key that it was given meanwhile is for the next one.
func (p *KeyPool) leave(w *waiter) {
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return
	}
	p.stats.Taken--
	p.stats.Missed--
	p.give(<-w.key)
}

// give hands a key to the first in the line, or keeps it. Keys beyond the pool's size are those of callers that gave up.
func (p *KeyPool) give(k *rsa.PrivateKey) {
	switch {
	case len(p.waiting) > 0:
		p.waiting[0].key <- k
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		p.stats.Taken++
		p.stats.Missed++
		p.pace.handed(time.Now())
	case len(p.ready) < p.cfg.Size+p.cfg.Parallel+1:
		p.ready = append(p.ready, k)
	}
}

// A pace is how fast callers who wait get their keys.
type pace struct {
	each time.Duration // from one to the next, smoothed
	last time.Time     // that one was handed out, or that somebody began to wait
}

func (p *pace) handed(now time.Time) {
	p.each += (now.Sub(p.last) - p.each) / 4
	p.last = now
}

// wait is how long one more caller has to expect when n wait already. Without a key for a long time the pace has changed.
func (p *pace) wait(now time.Time, n int) time.Duration {
	return time.Duration(n+1) * max(p.each, now.Sub(p.last)/2)
}

// A crew makes keys with a source.
type crew struct {
	source KeySource
	most   int        // keys at a time
	wanted func() int // how many keys are wanted of it now
	making int
}

// wanted is a key for each caller that waits, else one after the other until the pool is full.
func (p *KeyPool) wanted() int {
	if n := len(p.waiting); n > 0 || len(p.ready) >= p.cfg.Size {
		return n
	}
	return 1
}

// urgent is a key for each caller that waits when the first has waited for long.
func (p *KeyPool) urgent() int {
	if len(p.waiting) > 0 && time.Since(p.waiting[0].since) >= p.cfg.Urgency {
		return len(p.waiting)
	}
	return 0
}

// hire lets a crew make the keys that are wanted of it.
func (p *KeyPool) hire(c *crew) {
	for p.ctx.Err() == nil && c.making < min(c.wanted(), c.most) {
		c.making++
		p.wg.Go(func() { p.work(c) })
	}
}

func (p *KeyPool) work(c *crew) {
	for {
		k, err := c.source.Key(p.ctx)
		p.mu.Lock()
		if err == nil {
			p.stats.Made++
			p.give(k)
		}
		if err != nil || p.ctx.Err() != nil || c.making > c.wanted() { // the others of the crew suffice
			c.making--
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
}

// Stats returns the gauges and counters of now.
func (p *KeyPool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Size, s.Ready, s.Waiting = p.cfg.Size, len(p.ready), len(p.waiting)
	return s
}

// Close ends the background work, waiting for a key that is being made in this process, and forgets the keys that are ready. Waiting
// callers get ErrPoolClosed. It may be called more than once.
func (p *KeyPool) Close() {
	p.mu.Lock() // no worker is started afterwards
	p.end()
	p.mu.Unlock()
	p.wg.Wait()
	p.mu.Lock()
	p.ready = nil
	p.mu.Unlock()
}
