package admission

import (
	"io"
	"sync/atomic"
	"time"
)

// Bytes bounds the memory that unfinished requests take together. The first few kilobytes of each are free.
type Bytes struct {
	Max      int64
	OnRefuse func() // if set, hears of each refusal

	used atomic.Int64
}

// freeBytes of each request are not counted: nearly all requests are shorter.
const freeBytes = 8 << 10

// A Body is a request's body within a budget.
type Body struct {
	io.ReadCloser
	budget *Bytes
	read   int64
	taken  int64
}

// Body returns r within the budget. Whoever reads it may get a *fleet.Error of fleet.KindThrottled.
func (b *Bytes) Body(r io.ReadCloser) *Body { return &Body{ReadCloser: r, budget: b} }

// Read implements io.Reader.
func (r *Body) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.read += int64(n)
	more := r.read - freeBytes - r.taken
	if more <= 0 {
		return n, err
	}
	r.taken += more
	if r.budget.used.Add(more) <= r.budget.Max {
		return n, err
	}
	r.Release()
	if r.budget.OnRefuse != nil {
		r.budget.OnRefuse()
	}
	return 0, Refused("too many large requests are being received. Try again in a moment", 2*time.Second)
}

// Taken is how much of the budget the request has now, in bytes.
func (r *Body) Taken() int64 { return r.taken }

// Release gives the bytes back, when the request is done.
func (r *Body) Release() {
	r.budget.used.Add(-r.taken)
	r.taken, r.read = 0, -1<<62 // whatever is still read is thrown away
}
