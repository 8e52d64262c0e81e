package function

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Runner runs functions. It is safe for concurrent use.
type Runner struct {
	Config
	slots   chan struct{}
	waiting atomic.Int64
	sandbox sandbox

	mu      sync.Mutex
	closed  bool
	all     map[*worker]struct{}
	idle    []*worker         // the one that has waited longest first
	current map[string]string // key of the code that an ARN has now
	coming  map[string]int    // spares that are being started, by key
	spares  sync.WaitGroup
}

var discard = log.New(io.Discard, "", 0)

// New returns a Runner. It starts nothing before the first invocation.
func New(cfg Config) *Runner {
	if cfg.Concurrent == 0 {
		cfg.Concurrent = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if cfg.Queue == 0 {
		cfg.Queue = 16 * cfg.Concurrent
	}
	if cfg.Workers == 0 {
		cfg.Workers = 2 * cfg.Concurrent
	}
	cfg.Workers = max(cfg.Workers, cfg.Concurrent)
	if cfg.IdleTime == 0 {
		cfg.IdleTime = 5 * time.Minute
	}
	if cfg.patience.load == 0 {
		cfg.patience.load = initTimeout
	}
	if cfg.patience.handOver == 0 {
		cfg.patience.handOver = handOver
	}
	if cfg.Path == nil {
		cfg.Path = systemPath
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnInvoke == nil {
		cfg.OnInvoke = func(string, bool, time.Duration) {}
	}
	if cfg.OnWorkers == nil {
		cfg.OnWorkers = func(int) {}
	}
	return &Runner{Config: cfg, slots: make(chan struct{}, cfg.Concurrent), all: map[*worker]struct{}{}, current: map[string]string{}, coming: map[string]int{}}
}

// Invoke runs a function for one event and waits for its answer. An error is about what could not be done here: ErrBusy,
// ErrUnavailable, ErrRuntime, ErrCode, or that of ctx, within whose deadline everything happens, waiting for a turn and loading
// the code included. What the function did wrong is in the Result.
func (r *Runner) Invoke(ctx context.Context, code Code, payload []byte) (res Result, err error) {
	outcome := Refused
	defer func() { r.OnInvoke(outcome, res.Cold, res.Duration) }()
	if code, err = r.check(code, payload); err != nil {
		return res, err
	}
	if err := r.enter(ctx); err != nil {
		return res, err
	}
	leave := func() { <-r.slots }
	defer func() { leave() }()
	key := keyOf(code)
	inv := &invocation{id: fleet.NewUUID(), payload: payload, arn: code.ARN, done: make(chan answer, 1)}
	res.RequestID = inv.id
	for {
		w, cold, err := r.take(ctx, code, key)
		if err != nil {
			return res, err
		}
		asked := time.Now()
		broken, err := w.loaded(ctx)
		res.Cold = cold
		if cold {
			res.Init = time.Since(asked)
		}
		if err != nil {
			if ctx.Err() != nil {
				outcome = Canceled
			}
			return res, err
		}
		if broken != nil {
			outcome = Errored
			w.kill()
			res.Payload, res.FunctionError = w.out.without(broken.payload), broken.functionError
			res.Log = report(res, code, w.out.take())
			return res, nil
		}
		began := time.Now()
		inv.deadline = began.Add(code.Timeout)
		if d, ok := ctx.Deadline(); ok && d.Before(inv.deadline) {
			inv.deadline = d
		}
		var a answer
		var kept bool
		a, outcome, kept, err = w.run(ctx, inv, code.Timeout)
		if errors.Is(err, errGone) && !cold {
			continue // ended while it waited for work
		}
		res.Duration = time.Since(began)
		if errors.Is(err, errGone) {
			err, a, outcome = nil, w.exited("RequestId: "+inv.id+" "), Errored
		}
		if err != nil {
			return res, err
		}
		res.Payload, res.FunctionError = a.payload, a.functionError
		if a.functionError != "" { // the handler did not mean to say all that an error may show
			res.Payload = w.out.without(res.Payload)
		}
		res.Log = report(res, code, w.out.take())
		switch {
		case kept && r.hold(ctx, w, renewAhead):
			r.put(w)
		default:
			if kept {
				go w.kill()
			}
			leave = func() { go func() { <-w.gone; <-r.slots }() } // it counts until it has ended
			r.spare(code, key)
		}
		return res, nil
	}
}

// report puts the log between the lines that AWS writes.
func report(res Result, code Code, log []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "START RequestId: %s Version: $LATEST\n", res.RequestID)
	b.Write(log)
	if len(log) > 0 && log[len(log)-1] != '\n' {
		b.WriteByte('\n')
	}
	ms := float64(res.Duration) / float64(time.Millisecond)
	fmt.Fprintf(&b, "END RequestId: %s\nREPORT RequestId: %[1]s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB", res.RequestID, ms, int(ms)+1, code.Memory)
	if res.Cold {
		fmt.Fprintf(&b, "\tInit Duration: %.2f ms", float64(res.Init)/float64(time.Millisecond))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// check fills in what code leaves out.
func (r *Runner) check(code Code, payload []byte) (Code, error) {
	if code.Timeout == 0 {
		code.Timeout = 3 * time.Second
	}
	if code.Memory == 0 {
		code.Memory = MinMemory
	}
	switch {
	case code.Timeout < 0 || code.Timeout > MaxTimeout:
		return code, fmt.Errorf("%w: a timeout of %v is not between 1 s and %v", ErrCode, code.Timeout, MaxTimeout)
	case code.Memory < MinMemory || code.Memory > MaxMemory:
		return code, fmt.Errorf("%w: %d MiB of memory are not between %d and %d", ErrCode, code.Memory, MinMemory, MaxMemory)
	case len(payload) > MaxPayload:
		return code, fmt.Errorf("%w: an event of %d bytes is larger than %d", ErrCode, len(payload), MaxPayload)
	}
	if err := r.CheckRuntime(code.Runtime); err != nil {
		return code, err
	}
	return code, r.Available()
}

// enter waits for a turn.
func (r *Runner) enter(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	default:
	}
	if r.waiting.Add(1) > int64(r.Queue) {
		r.waiting.Add(-1)
		return fmt.Errorf("%w: %d run and %d wait", ErrBusy, r.Concurrent, r.Queue)
	}
	defer r.waiting.Add(-1)
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: no turn in time: %w", ErrBusy, ctx.Err())
	}
}

func keyOf(c Code) string {
	b, _ := json.Marshal(c)
	sum := sha256.Sum256(b)
	return string(sum[:])
}

// take returns a worker that waits, or starts one. One whose credentials have ended is ended, too.
func (r *Runner) take(ctx context.Context, code Code, key string) (w *worker, cold bool, err error) {
	r.mu.Lock()
	old := r.supersede(code, key)
	r.mu.Unlock()
	end(old)
	for {
		if w = r.pick(key); w == nil {
			w, err = r.add(ctx, code, key)
			return w, true, err
		}
		if r.hold(ctx, w, reserve) {
			return w, false, nil
		}
		w.kill()
	}
}

// pick takes a worker out of those that wait: the one that came last. The others grow old and end, when fewer are needed.
func (r *Runner) pick(key string) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, w := range slices.Backward(r.idle) {
		if w.key == key {
			w.timer.Stop()
			r.idle = slices.Delete(r.idle, i, i+1)
			return w
		}
	}
	return nil
}

// add starts a worker. If there are too many, the one that has waited longest must make room.
func (r *Runner) add(ctx context.Context, code Code, key string) (*worker, error) {
	c, err := r.credentials(ctx, code)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("%w: the server is stopping", ErrUnavailable)
	}
	if len(r.all) >= r.Workers {
		if len(r.idle) == 0 {
			return nil, fmt.Errorf("%w: there are %d processes", ErrBusy, len(r.all))
		}
		oldest := r.idle[0]
		go end(r.drop(func(w *worker) bool { return w == oldest }))
	}
	w, err := r.start(code, key, c)
	if err != nil {
		return nil, fmt.Errorf("%w: starting a process: %w", ErrUnavailable, err)
	}
	r.all[w] = struct{}{}
	r.OnWorkers(len(r.all))
	return w, nil
}

// drop takes workers out of those that wait. The caller ends them, without the lock.
func (r *Runner) drop(which func(*worker) bool) (out []*worker) {
	r.idle = slices.DeleteFunc(r.idle, func(w *worker) bool {
		if !which(w) {
			return false
		}
		w.timer.Stop()
		out = append(out, w)
		return true
	})
	return out
}

// end ends workers side by side, and waits for that.
func end(ws []*worker) {
	var all sync.WaitGroup
	for _, w := range ws {
		all.Go(w.kill)
	}
	all.Wait()
}

// put lets a worker wait for work.
func (r *Runner) put(w *worker) {
	r.mu.Lock()
	_, alive := r.all[w]
	if alive = alive && !r.closed && r.current[w.code.ARN] == w.key; alive {
		w.timer = time.AfterFunc(r.IdleTime, func() {
			r.mu.Lock()
			old := r.drop(func(o *worker) bool { return o == w })
			r.mu.Unlock()
			end(old)
		})
		r.idle = append(r.idle, w)
	}
	r.mu.Unlock()
	if !alive {
		w.kill()
	}
}

// maxSpares is how many processes wait for the events of a function that needs a new one for each.
const maxSpares = 2

// spare starts a worker for the next event, so that it does not wait for the code to be loaded.
func (r *Runner) spare(code Code, key string) {
	r.mu.Lock()
	n := 0
	for _, w := range r.idle {
		if w.key == key {
			n++
		}
	}
	n += r.coming[key]
	coming := 0
	for _, c := range r.coming {
		coming += c
	}
	// Spares never take the room of those that run.
	if coming >= r.Workers-r.Concurrent || r.closed || n >= maxSpares || r.current[code.ARN] != key {
		r.mu.Unlock()
		return
	}
	r.spares.Add(1)
	r.coming[key]++
	r.mu.Unlock()
	go func() {
		defer r.spares.Done()
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.coming[key]--; r.coming[key] == 0 {
				delete(r.coming, key)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), initTimeout)
		defer cancel()
		w, err := r.add(ctx, code, key)
		if err != nil {
			return
		}
		if broken, err := w.loaded(context.Background()); broken == nil && err == nil {
			w.out.take() // not of the event that comes
			r.put(w)
		}
	}()
}

// Warm loads code, so that its first event does not wait for that. It returns at once; errors are those of Invoke.
func (r *Runner) Warm(code Code) error {
	code, err := r.check(code, nil)
	if err != nil {
		return err
	}
	key := keyOf(code)
	r.mu.Lock()
	old := r.supersede(code, key)
	loaded := slices.ContainsFunc(r.idle, func(w *worker) bool { return w.key == key })
	r.mu.Unlock()
	end(old)
	if !loaded {
		r.spare(code, key)
	}
	return nil
}

// supersede says which code an ARN has now, and takes out the workers that have loaded another.
func (r *Runner) supersede(code Code, key string) (old []*worker) {
	if r.current[code.ARN] != key {
		old = r.drop(func(w *worker) bool { return w.code.ARN == code.ARN })
		r.current[code.ARN] = key
	}
	return old
}

// ended forgets a worker whose process has ended.
func (r *Runner) ended(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(func(o *worker) bool { return o == w })
	delete(r.all, w)
	r.OnWorkers(len(r.all))
}

// Forget ends the workers of a function that wait for work; those that run are ended after their event. Its folder may be removed when
// nothing runs it any more.
func (r *Runner) Forget(arn string) {
	r.mu.Lock()
	delete(r.current, arn)
	old := r.drop(func(w *worker) bool { return w.code.ARN == arn })
	r.mu.Unlock()
	end(old)
}

// Close ends every worker. Invocations that run fail.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	var all []*worker
	for w := range r.all {
		all = append(all, w)
	}
	r.mu.Unlock()
	end(all)
	r.spares.Wait()
}
