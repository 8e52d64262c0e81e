package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Keys that the server makes cost thirty times what the rest of a flow does. What is promised: devices that need them get what
// processors have left over, and those that don't need them keep their speed.

// withServersKey runs flows of devices that ask the server for a key, until the time is over. Refusals are counted.
func (w *world) withServersKey(d time.Duration, workers int, refused *atomic.Int64) ([]time.Duration, error) {
	return repeat(d, workers, func(worker int) error {
		err := w.flow(w.claims[worker], candidate{})
		if err != nil && strings.Contains(err.Error(), "Throttled") {
			refused.Add(1)
			time.Sleep(time.Second)
			return nil
		}
		return err
	})
}

// withOwnKey runs flows of devices that have made their key, until the time is over.
func (w *world) withOwnKey(d time.Duration, workers int) ([]time.Duration, error) {
	return repeat(d, workers, func(worker int) error {
		c, err := newCandidate()
		if err != nil {
			return err
		}
		return w.flow(w.claims[worker], c)
	})
}

// keyUse is what was made of the processors' time.
type keyUse struct{ keys, idle time.Duration }

func (p *process) keyUse() keyUse { return keyUse{p.keyCPU(), idleCPU()} }

// share is which part of the time that others left went into keys since before.
func (u keyUse) share(before keyUse) float64 {
	keys, idle := u.keys-before.keys, u.idle-before.idle
	return float64(keys) / float64(max(keys+idle, 1))
}

// measureRSA lets devices ask for keys as fast as the server can make them, with an empty pool. Left is the rate's part of the limit: the time
// that all else leaves, by the time that a key takes in the process that makes it.
func measureRSA(ctx context.Context, o options, w *world) (*figures, error) {
	f := &figures{}
	var took []time.Duration
	var refused atomic.Int64
	var rate, server, left []float64
	for range o.rounds {
		if err := w.renewClaims(ctx, o.workers); err != nil {
			return nil, err
		}
		if err := w.drain(ctx); err != nil {
			return nil, err
		}
		use, cpu, begin := w.server.keyUse(), w.server.cpu(), time.Now()
		each, err := w.withServersKey(o.round(), o.workers, &refused)
		if err != nil || len(each) == 0 {
			return nil, fmt.Errorf("%d flows: %w", len(each), err)
		}
		took = append(took, each...)
		rate = append(rate, float64(len(each))/time.Since(begin).Seconds())
		server = append(server, micros(w.server.cpu()-cpu)/float64(len(each)))
		left = append(left, w.server.keyUse().share(use))
	}
	f.PerSecond, f.ServerMicros, f.Left = median(rate), median(server), median(left)
	f.Refused = int(refused.Load())
	f.tell(took, w)
	return f, nil
}

// measureRSABeside has devices with keys of their own use the machine up, in turns alone and beside devices that ask for keys with an
// empty pool. Share is the rate of the former beside the latter by that alone; the other figures are of the latter.
func measureRSABeside(ctx context.Context, o options, w *world) (*figures, error) {
	f := &figures{}
	var took []time.Duration
	var refused atomic.Int64
	var rate, share, left []float64
	for range o.rounds {
		if err := w.renewClaims(ctx, o.workers); err != nil {
			return nil, err
		}
		w.server.settle() // the pool is full: alone is without keys in the making
		alone, err := w.withOwnKey(o.round(), o.workers)
		if err != nil {
			return nil, err
		}
		if err := w.drain(ctx); err != nil {
			return nil, err
		}
		type outcome struct {
			took []time.Duration
			err  error
		}
		done := make(chan outcome, 1)
		use, begin := w.server.keyUse(), time.Now()
		go func() {
			each, err := w.withServersKey(o.round(), o.workers/2, &refused)
			done <- outcome{each, err}
		}()
		beside, err := w.withOwnKey(o.round(), o.workers)
		left = append(left, w.server.keyUse().share(use))
		keys := <-done
		if err == nil {
			err = keys.err
		}
		if err != nil {
			return nil, err
		}
		rate = append(rate, float64(len(keys.took))/time.Since(begin).Seconds())
		share = append(share, float64(len(beside))/float64(max(len(alone), 1)))
		took = append(took, keys.took...)
	}
	f.PerSecond, f.Share, f.Left, f.Refused = median(rate), median(share), median(left), int(refused.Load())
	f.tell(took, w)
	return f, nil
}

// tell adds how long operations took.
func (f *figures) tell(took []time.Duration, w *world) {
	if f.Count, f.RSSKiB = len(took), w.server.rss(); len(took) == 0 {
		return
	}
	slices.Sort(took)
	f.P50Millis, f.P99Millis = micros(took[len(took)/2])/1000, micros(took[len(took)*99/100])/1000
}
