package function

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// output collects what a worker writes. It keeps the last MaxLog bytes of it.
type output struct {
	pipe    *os.File
	hide    []fleet.Secret // what it may not show
	drained chan struct{}
	ended   chan struct{}
	ending  atomic.Bool

	mu   sync.Mutex
	kept []byte // at most twice MaxLog
	lost int    // bytes that were dropped before them
}

// collect reads pipe to its end, and hides secrets in what it keeps of that.
func collect(pipe *os.File, hide ...fleet.Secret) *output {
	o := &output{pipe: pipe, hide: hide, drained: make(chan struct{}), ended: make(chan struct{})}
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
	o.kept = append(o.kept, b...)
	if len(o.kept) > 2*MaxLog {
		o.trim()
	}
}

// trim drops all but the last MaxLog bytes. Secrets are taken out before, so that none is cut in two.
func (o *output) trim() {
	o.kept = o.without(o.kept)
	if more := len(o.kept) - MaxLog; more > 0 {
		o.kept = append(o.kept[:0], o.kept[more:]...)
		o.lost += more
	}
}

// without takes the secrets of a worker out of what it said.
func (o *output) without(b []byte) []byte {
	for _, secret := range o.hide {
		if secret != "" {
			b = bytes.ReplaceAll(b, []byte(secret.Reveal()), []byte("***"))
		}
	}
	return b
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
	o.trim()
	var b []byte
	if o.lost > 0 {
		b = fmt.Appendf(nil, "[%d bytes before this are not kept]\n", o.lost)
	}
	b = append(b, o.kept...)
	o.kept, o.lost = nil, 0
	return b
}
