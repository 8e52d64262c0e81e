package trace

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Recorder keeps finished traces of attempts that write nothing else (refusals, connections): it takes them off the caller's
// path through a bounded queue. What is not told for its number (Sampling) or doesn't fit is counted and dropped, so that a flood of
// refusals can't fill the disk or slow provisioning. A success that writes is recorded in its own transaction instead
// (store.Tx.PutTrace).
type Recorder struct {
	c       RecorderConfig
	sample  *sampler
	queue   chan Finished
	hurry   chan chan struct{} // of those who wait for what is in the queue
	ended   chan struct{}
	wg      sync.WaitGroup
	sampled atomic.Int64
	dropped atomic.Int64
	mu      sync.RWMutex
	closed  bool
}

// RecorderConfig says how traces are kept.
type RecorderConfig struct {
	Save  func(context.Context, []Finished) error // stores a batch
	Log   *slog.Logger                            // nil: discard
	Clock fleet.Clock
	Sampling
}

// Finished is a record ready to be stored.
type Finished struct {
	Scope    fleet.Scope
	Record   Record
	Subjects []string
}

// queueSize bounds the traces that wait to be written, batchSize those that share one transaction, gatherTime how long the first of
// them waits for others: a commit costs far more than a trace.
const (
	queueSize  = 1024
	batchSize  = 64
	gatherTime = 50 * time.Millisecond
)

// NewRecorder starts a recorder. Close ends it.
func NewRecorder(c RecorderConfig) *Recorder {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{c: c, sample: newSampler(c.Sampling), queue: make(chan Finished, queueSize), hurry: make(chan chan struct{}), ended: make(chan struct{})}
	r.wg.Go(r.run)
	return r
}

// Finish closes t with the attempt's error and queues it. A nil trace or recorder does nothing.
func (r *Recorder) Finish(t *Trace, err error) {
	if t == nil || r == nil {
		return
	}
	rec, subjects := t.Finish(err)
	if !r.sample.keep(rec, r.c.Clock.Now()) {
		r.sampled.Add(1)
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return
	}
	select {
	case r.queue <- Finished{t.Scope, rec, subjects}:
	default:
		r.dropped.Add(1)
	}
}

// Lost returns how many traces were left out for their number, and how many found the queue full.
func (r *Recorder) Lost() (sampled, dropped int64) { return r.sampled.Load(), r.dropped.Load() }

// Close writes what is queued and stops.
func (r *Recorder) Close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// Flush returns when every trace that was finished before has been written, so that whoever reads afterwards finds it. It ends early
// with ctx. A nil recorder has none.
func (r *Recorder) Flush(ctx context.Context) {
	if r == nil {
		return
	}
	written := make(chan struct{})
	select {
	case r.hurry <- written:
		select {
		case <-written:
		case <-ctx.Done():
		}
	case <-r.ended:
	case <-ctx.Done():
	}
}

func (r *Recorder) run() {
	defer close(r.ended)
	for {
		batch, written, more := r.gather()
		for part := range slices.Chunk(batch, batchSize) {
			if err := r.c.Save(context.Background(), part); err != nil {
				r.c.Log.Error("keeping traces", "error", err, "lost", len(part))
			}
		}
		if written != nil {
			close(written)
		}
		if !more {
			return
		}
	}
}

// gather collects traces for one commit. written is closed by the caller after that, if somebody waits for it; more is false after the
// last batch.
func (r *Recorder) gather() (batch []Finished, written chan struct{}, more bool) {
	select {
	case f, ok := <-r.queue:
		if !ok {
			return nil, nil, false
		}
		batch = append(batch, f)
	case written = <-r.hurry:
	}
	late := time.NewTimer(gatherTime)
	defer late.Stop()
	for written == nil && len(batch) < batchSize {
		select {
		case f, ok := <-r.queue:
			if !ok {
				return batch, nil, false
			}
			batch = append(batch, f)
		case written = <-r.hurry:
		case <-late.C:
			return batch, nil, true
		}
	}
	if written != nil {
		for range len(r.queue) { // nobody else takes from it
			f, ok := <-r.queue
			if !ok {
				return batch, written, false
			}
			batch = append(batch, f)
		}
	}
	return batch, written, true
}
