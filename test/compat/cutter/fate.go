package cutter

import (
	"math/rand/v2"
	"sync"
)

// A Fate is what a device goes through: its first two to five connections are cut anywhere in a flow, and with half of these cuts the
// device goes down. Make one with NewFate; its Next is what New asks.
type Fate struct {
	mu          sync.Mutex
	rnd         *rand.Rand
	left        int
	down        func()
	cuts, downs int
}

// NewFate makes a fate. rnd belongs to it from now on.
func NewFate(rnd *rand.Rand) *Fate { return &Fate{rnd: rnd, left: 2 + rnd.IntN(4), down: func() {}} }

// Attempt says how to take the device down in what it does from now on.
func (f *Fate) Attempt(down func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// Suffered counts the cuts until now, and those that took the device down.
func (f *Fate) Suffered() (cuts, downs int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cuts, f.downs
}

// Next says after how many bytes the next connection is cut, less than 0 for never, and what to call then.
func (f *Fate) Next() (bytes int64, cut func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return -1, nil
	}
	f.left--
	power := f.rnd.IntN(2) == 0
	return f.rnd.Int64N(flowBytes), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.cuts++; power {
			f.downs++
			f.down()
		}
	}
}
