// Package batch takes what can wait off the caller's path: values come one by one, through a bounded queue, and are saved many at a time. A
// commit costs far more than what is in it.
//
// Begin with Queue.
package batch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Config says how values are saved.
type Config[T any] struct {
	Save func(context.Context, []T) error // saves a batch; it is called by one goroutine
	What string                           // they are, for the log
	Log  *slog.Logger                     // nil: discard
}

// Size bounds the values that wait, most those that are saved together; gatherTime is how long the first of them waits for others.
const (
	Size       = 1024
	most       = 64
	gatherTime = 50 * time.Millisecond
)

// A Queue saves values in their order. It is safe for concurrent use.
type Queue[T any] struct {
	c      Config[T]
	values chan T
	hurry  chan chan struct{} // of those who wait for what is in the queue
	ended  chan struct{}
	wg     sync.WaitGroup
	mu     sync.RWMutex
	closed bool
}

// New starts a queue. Close ends it.
func New[T any](c Config[T]) *Queue[T] {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue[T]{c: c, values: make(chan T, Size), hurry: make(chan chan struct{}), ended: make(chan struct{})}
	q.wg.Go(q.run)
	return q
}

// Put queues a value, and reports whether there was room. After Close there is room, and nobody who saves.
func (q *Queue[T]) Put(v T) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return true
	}
	select {
	case q.values <- v:
		return true
	default:
		return false
	}
}

// Close saves what is queued and stops.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.values)
	}
	q.mu.Unlock()
	q.wg.Wait()
}

// Flush returns when every value that was put before has been saved, so that whoever reads afterwards finds it. It ends early with ctx.
func (q *Queue[T]) Flush(ctx context.Context) {
	saved := make(chan struct{})
	select {
	case q.hurry <- saved:
		select {
		case <-saved:
		case <-ctx.Done():
		}
	case <-q.ended:
	case <-ctx.Done():
	}
}

func (q *Queue[T]) run() {
	defer close(q.ended)
	for {
		values, saved, more := q.gather()
		for part := range slices.Chunk(values, most) {
			if err := q.c.Save(context.Background(), part); err != nil {
				q.c.Log.Error("keeping "+q.c.What, "error", err, "lost", len(part))
			}
		}
		if saved != nil {
			close(saved)
		}
		if !more {
			return
		}
	}
}

// gather collects values for one commit. saved is closed by the caller after that, if somebody waits for it; more is false after the last
// batch.
func (q *Queue[T]) gather() (values []T, saved chan struct{}, more bool) {
	select {
	case v, ok := <-q.values:
		if !ok {
			return nil, nil, false
		}
		values = append(values, v)
	case saved = <-q.hurry:
	}
	late := time.NewTimer(gatherTime)
	defer late.Stop()
	for saved == nil && len(values) < most {
		select {
		case v, ok := <-q.values:
			if !ok {
				return values, nil, false
			}
			values = append(values, v)
		case saved = <-q.hurry:
		case <-late.C:
			return values, nil, true
		}
	}
	if saved != nil {
		for range len(q.values) { // nobody else takes from it
			v, ok := <-q.values
			if !ok {
				return values, saved, false
			}
			values = append(values, v)
		}
	}
	return values, saved, true
}
