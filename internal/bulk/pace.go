package bulk

import (
	"context"
	"runtime"
	"time"
)

// A pace says how fast a task may go. Alone it takes all processors, and prepares a chunk while the one before is written. When
// others write, most of them devices, it takes half of the processors at most, does one thing after the other, in small pieces,
// and leaves the store to them half of the time: where all processors are at work for long, whoever waits for the network waits
// until one of them looks there, up to 10 ms each time, which a device does twenty times.
type pace struct {
	lines int // of the next chunk beside others

	busy   time.Duration // how long the store was at work for the last chunk, its sync included
	free   time.Time     // since when it is not
	own    uint64        // write transactions of the task
	others uint64        // and of others that are known of
	since  time.Time     // when the last of these was seen
}

// chunkTime is how long a chunk may take beside others, who wait behind it.
const chunkTime = 12 * time.Millisecond

// company is for how long others count that have written.
const company = time.Second

// alone reports whether nobody else writes, when there have been so many writes in all.
func (p *pace) alone(writes uint64, now time.Time) bool {
	if n := writes - p.own; n != p.others {
		p.others, p.since = n, now
	}
	return now.Sub(p.since) >= company
}

// An order is what to prepare.
type order struct {
	lines   int
	workers int // at the same time
}

// order is for the next chunk.
func (p *pace) order(alone bool) order {
	if alone {
		return order{mostLines, runtime.GOMAXPROCS(0)}
	}
	return order{p.lines, max(runtime.GOMAXPROCS(0)/2, 1)}
}

// took says how long the store was at work for a chunk until now, and how long of that others had to wait behind the lines.
func (p *pace) took(lines int, behind, busy time.Duration, now time.Time) {
	n := int(float64(lines) * float64(chunkTime) / float64(max(behind, time.Millisecond/8)))
	p.lines = min(max(n, 1), mostLines, 2*lines)
	p.busy, p.free = min(busy, longestRest), now
}

// longestRest bounds how long the store is left to others after a chunk.
const longestRest = time.Second

// rest waits, beside others, until the store has had as long for them as it was at work for the last chunk.
func (p *pace) rest(ctx context.Context) error {
	wait := time.NewTimer(time.Until(p.free.Add(p.busy)))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
