package function

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// A worker is a process that runs one function. The Runner hands it an invocation at a time.
type worker struct {
	code     Code
	key      string
	patience patience

	credentials Credentials // that its process has

	cmd  *exec.Cmd
	out  *output
	http *http.Server
	work chan *invocation
	once sync.Once

	ready chan struct{} // closed when the code is loaded
	gone  chan struct{} // closed when the process and all that it started have ended; exit is known then
	exit  *os.ProcessState

	unbuilt error         // the sandbox could not be built; known when gone
	hog     atomic.Bool   // ended because it had too much memory
	wake    chan struct{} // has room for one: look at the memory now and often

	mu      sync.Mutex
	failing bool        // it has said, or is saying, that the code cannot be loaded
	broken  *answer     // the code could not be loaded
	forks   bool        // the process stays clean: it may answer another event
	current *invocation // that waits for its answer
	last    string      // id of the one before

	timer *time.Timer // ends it when it has waited too long; guarded by the Runner
}

// start starts a process for code. It does not wait for the code to be loaded.
func (r *Runner) start(code Code, key string, c Credentials) (*worker, error) {
	w := &worker{code: code, key: key, patience: r.patience, credentials: c, work: make(chan *invocation), ready: make(chan struct{}), gone: make(chan struct{}), wake: make(chan struct{}, 1)}
	p, err := r.spawn(code, c)
	if err != nil {
		return nil, err
	}
	w.cmd, w.out = p.cmd, collect(p.output, c.Secret, c.Token)
	if p.doors != nil {
		go w.usher(p.doors, r.API)
	}
	w.http = &http.Server{Handler: http.StripPrefix(p.prefix, w.api()), MaxHeaderBytes: 16 << 10, ErrorLog: discard}
	go func() { _ = w.http.Serve(limited(p.listener, maxCalls)) }()
	go w.watch()
	go func() {
		_ = w.cmd.Wait()
		w.out.end()
		w.unbuilt = said(p.status)
		_ = p.status.Close()
		_ = w.http.Close()
		if p.doors != nil {
			_ = p.doors.Close()
		}
		p.clean()
		w.exit = w.cmd.ProcessState
		r.ended(w) // before anybody can know it: who ended it may start another
		close(w.gone)
	}()
	return w, nil
}

// endTime is how long a process that is killed is waited for. The kernel may need longer, for example while a disk does not answer.
const endTime = 5 * time.Second

// kill ends the process and all that it started, and waits for that, endTime at most.
func (w *worker) kill() {
	select {
	case <-w.gone: // its number may be somebody else's by now
		return
	default:
	}
	killTree(w.cmd.Process)
	late := time.NewTimer(endTime)
	defer late.Stop()
	select {
	case <-w.gone:
	case <-late.C:
	}
}

// loaded waits for the code to be loaded. The answer is what the function says if it could not be.
func (w *worker) loaded(ctx context.Context) (*answer, error) {
	late := time.NewTimer(w.patience.load)
	defer late.Stop()
	select {
	case <-w.ready:
		return nil, nil
	case <-w.gone:
		if e := entryError(""); errors.As(w.unbuilt, &e) {
			a := failed("Runtime.InvalidEntrypoint", "Error: %s", e)
			return &a, nil
		}
		if w.unbuilt != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, w.unbuilt)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.broken != nil {
			return w.broken, nil
		}
		a := w.exited("")
		return &a, nil
	case <-late.C:
		w.kill()
		a := failed("Sandbox.Timedout", "Error: Init timed out after %v", w.patience.load)
		return &a, nil
	case <-ctx.Done():
		w.kill()
		return nil, ctx.Err()
	}
}

// handOver is how long a worker that has answered may take to ask for the next event.
const handOver = time.Second

// run hands the invocation over and waits for its answer. kept: the worker may be given another one. errGone: it ended before it was
// given this one, or was ended since it did not ask for it.
func (w *worker) run(ctx context.Context, inv *invocation, timeout time.Duration) (a answer, outcome string, kept bool, err error) {
	late := time.NewTimer(w.patience.handOver)
	defer late.Stop()
	select {
	case w.work <- inv:
	case <-w.gone:
		return a, Errored, false, errGone
	case <-late.C:
		w.kill()
		return a, Errored, false, errGone
	case <-ctx.Done():
		w.kill()
		return a, Canceled, false, ctx.Err()
	}
	late.Reset(timeout)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	outcome = Answered
	select {
	case a = <-inv.done:
		kept = w.code.Reuse || w.forks
	case <-w.gone:
		select {
		case a = <-inv.done: // it answered, and ended at once
		default:
			a = w.exited("RequestId: " + inv.id + " ")
		}
	case <-late.C:
		outcome = TimedOut
		a = failed("Sandbox.Timedout", "RequestId: %s Error: Task timed out after %.2f seconds", inv.id, timeout.Seconds())
	case <-ctx.Done():
		w.kill()
		return a, Canceled, false, ctx.Err()
	}
	w.out.drain()
	if !kept { // to wait for its end would take longer than most handlers do
		select {
		case <-w.gone:
		default:
			killTree(w.cmd.Process)
		}
	}
	if a.functionError != "" && outcome == Answered {
		outcome = Errored
	}
	return a, outcome, kept, nil
}

// exited is the answer of a worker that is gone without one, or is about to be.
func (w *worker) exited(prefix string) answer {
	select {
	case <-w.gone:
	default: // it was killed, and has not ended yet
		return failed("Runtime.ExitError", "%sError: Runtime exited without providing a reason", prefix)
	}
	switch {
	case w.hog.Load():
		return failed("Runtime.OutOfMemory", "%sError: Runtime exited with error: signal: killed", prefix)
	case w.exit.Success():
		return failed("Runtime.ExitError", "%sError: Runtime exited without providing a reason", prefix)
	}
	return failed("Runtime.ExitError", "%sError: Runtime exited with error: %s", prefix, w.exit)
}

var errGone = fmt.Errorf("the worker has ended")

// limited is a listener that accepts no more while there are most connections.
func limited(l net.Listener, most int) net.Listener {
	return &limitedListener{l, make(chan struct{}, most)}
}

type limitedListener struct {
	net.Listener
	room chan struct{}
}

// Accept implements net.Listener. Whoever closes the listener closes its connections too: else it waits for room.
func (l *limitedListener) Accept() (net.Conn, error) {
	l.room <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &call{Conn: c, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

// one is a listener with a single connection.
type one struct {
	conn chan net.Conn
	net.Conn
}

func listenOne(c net.Conn) net.Listener {
	l := &one{make(chan net.Conn, 1), c}
	l.conn <- c
	return l
}

func (l *one) Accept() (net.Conn, error) {
	c, ok := <-l.conn
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *one) Close() error {
	defer func() { _ = recover() }()
	close(l.conn)
	return nil
}

func (l *one) Addr() net.Addr { return l.LocalAddr() }
