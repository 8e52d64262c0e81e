package trace

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/batch"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Recorder keeps finished traces of attempts that write nothing else (refusals, connections): it takes them off the caller's
// path through a bounded queue. What is not told for its number (Sampling) or doesn't fit is counted and dropped, so that a flood of
// refusals can't fill the disk or slow provisioning. A success that writes is recorded in its own transaction instead
// (store.Tx.PutTrace).
type Recorder struct {
	c       RecorderConfig
	sample  *sampler
	queue   *batch.Queue[Finished]
	sampled atomic.Int64
	dropped atomic.Int64
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

// NewRecorder starts a recorder. Close ends it.
func NewRecorder(c RecorderConfig) *Recorder {
	return &Recorder{c: c, sample: newSampler(c.Sampling), queue: batch.New(batch.Config[Finished]{Save: c.Save, What: "traces", Log: c.Log})}
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
	if !r.queue.Put(Finished{t.Scope, rec, subjects}) {
		r.dropped.Add(1)
	}
}

// Lost returns how many traces were left out for their number, and how many found the queue full.
func (r *Recorder) Lost() (sampled, dropped int64) { return r.sampled.Load(), r.dropped.Load() }

// Close writes what is queued and stops.
func (r *Recorder) Close() { r.queue.Close() }

// Flush returns when every trace that was finished before has been written, so that whoever reads afterwards finds it. It ends early
// with ctx. A nil recorder has none.
func (r *Recorder) Flush(ctx context.Context) {
	if r != nil {
		r.queue.Flush(ctx)
	}
}
