package function

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// output collects what a worker writes. It keeps the last MaxLog bytes of it.
type output struct {
	pipe    *os.File
	drained chan struct{}
	ended   chan struct{}
	ending  atomic.Bool

	mu    sync.Mutex
	kept  []byte // at most twice MaxLog
	whole int    // bytes written, those that were dropped included
}

// collect reads pipe to its end.
func collect(pipe *os.File) *output {
	o := &output{pipe: pipe, drained: make(chan struct{}), ended: make(chan struct{})}
	go o.run()
	return o
}

func (o *output) run() {
	defer close(o.ended)
	buf := make([]byte, 16<<10)
	for {
		n, err := o.pipe.Read(buf)
		o.add(buf[:n])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = o.pipe.SetReadDeadline(time.Time{})
			o.rest(buf)
			if o.ending.Load() {
				return
			}
			o.drained <- struct{}{} // drain waits for it
		case err != nil:
			return
		}
	}
}

// rest reads what is in the pipe by now and does not wait. A pipe has 64 KiB unless somebody enlarged it; more is not read, since the
// function may go on writing.
func (o *output) rest(buf []byte) {
	c, err := o.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Read(func(fd uintptr) bool {
		for read := 0; read < 1<<20; {
			n, err := syscall.Read(int(fd), buf)
			if n <= 0 || err != nil {
				break
			}
			o.add(buf[:n])
			read += n
		}
		return true
	})
}

func (o *output) add(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.whole += len(b)
	o.kept = append(o.kept, b...)
	if len(o.kept) > 2*MaxLog {
		o.kept = append(o.kept[:0], o.kept[len(o.kept)-MaxLog:]...)
	}
}

// drain waits until everything that was written before has been read.
func (o *output) drain() {
	if o.pipe.SetReadDeadline(time.Unix(1, 0)) != nil {
		return
	}
	select {
	case <-o.drained:
	case <-o.ended:
	}
}

// end waits for the end of what is written, but not long: without a sandbox a process that the function left behind may hold the pipe.
func (o *output) end() {
	o.ending.Store(true)
	_ = o.pipe.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	<-o.ended
	_ = o.pipe.Close()
}

// take returns what was written since the last call.
func (o *output) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.kept
	if len(kept) > MaxLog {
		kept = kept[len(kept)-MaxLog:]
	}
	var b []byte
	if lost := o.whole - len(kept); lost > 0 {
		b = fmt.Appendf(nil, "[%d bytes before this are not kept]\n", lost)
	}
	b = append(b, kept...)
	o.kept, o.whole = nil, 0
	return b
}
