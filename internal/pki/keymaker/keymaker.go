// Package keymaker makes RSA-2048 keys in a process of its own, so that they can be made at a low priority: 60 ms of CPU for a key
// are as much as thirty provisioning flows need. A thread of a Go program cannot be given a low priority, since the others wait
// for it when garbage is collected (docs/decisions/0008-keys-in-another-process.md has the figures).
//
// The process is this program again. Its main must call Main first, which makes the keys if that is what the process is for.
// Begin with Maker, the side of the service; child.go is the other side.
//
// Keys travel through a pipe and are never on a disk. The process has no environment, no file and no socket, leaves no core dump,
// and ends when the service does, whatever its end was.
package keymaker

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Priority is how much of a machine a maker gets.
type Priority string

const (
	// Idle gets what nobody else wants, as far as its workers can use it.
	Idle Priority = "idle"
	// Low is for keys that somebody waits for: a twentieth of a processor for each worker, however busy they are.
	Low Priority = "low"
)

// Config is how a Maker works.
type Config struct {
	Priority Priority
	Workers  int // keys made at a time; 0 means 1
	Log      *slog.Logger

	command []string // the program; nil: this one
}

// A Maker makes keys. Its process is started when a key is wanted and ends when none has been for a while. Where it can't be
// started, keys are made in this process, one at a time, and the log says so. Key may be called concurrently.
type Maker struct {
	Config
	here sync.Mutex // one key at a time

	mu      sync.Mutex
	process *process // nil: none
	users   int      // calls of Key that hold it
	rest    *time.Timer
	retry   time.Time // when to try again to start it, after it failed
	closed  bool
}

const (
	restAfter  = time.Minute     // without a key wanted
	retryAfter = time.Minute     // a process that failed is started again
	leave      = 2 * time.Second // for a process to go; on a busy machine one that is Idle takes a while
)

// New returns a Maker. Close ends it.
func New(c Config) *Maker {
	c.Workers = max(c.Workers, 1)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Maker{Config: c}
}

// Key makes a key. The error is that of ctx, or ErrClosed.
func (m *Maker) Key(ctx context.Context) (*rsa.PrivateKey, error) {
	for {
		p, err := m.hold()
		if err != nil {
			return nil, err
		}
		if p == nil {
			break
		}
		key, err := p.key(ctx)
		m.release(p)
		if err == nil || ctx.Err() != nil {
			return key, err
		}
	}
	m.here.Lock()
	defer m.here.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}

// ErrClosed is returned by Key after Close.
var ErrClosed = errors.New("the maker of keys is closed")

// hold returns the process, started if there is none. It is nil if it failed lately: could not be started, or ended before it had
// made a key. The error is ErrClosed.
func (m *Maker) hold() (*process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if p := m.process; p != nil && p.ended() {
		m.process = nil
		if m.Log.Warn("the process that makes RSA keys ended", "error", p.why()); !p.proven.Load() {
			m.failed(p.why())
		}
	}
	if m.process == nil {
		if time.Now().Before(m.retry) {
			return nil, nil
		}
		p, err := start(m.Config)
		if err != nil {
			m.failed(err)
			return nil, nil
		}
		m.process = p
	}
	m.users++
	if m.rest != nil {
		m.rest.Stop()
	}
	return m.process, nil
}

func (m *Maker) failed(err error) {
	m.retry = time.Now().Add(retryAfter)
	m.Log.Warn("RSA keys are made at the priority of everything else: no process can make them", "error", err, "retry", retryAfter)
}

func (m *Maker) release(p *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	if m.users == 0 && !m.closed {
		m.rest = time.AfterFunc(restAfter, m.dismiss)
	}
}

// dismiss ends the process unless somebody uses it.
func (m *Maker) dismiss() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 && m.process != nil {
		m.process.end()
		m.process = nil
	}
}

// Close ends the process and every Key in work. It may be called more than once.
func (m *Maker) Close() {
	m.mu.Lock()
	p := m.process
	m.closed, m.process = true, nil
	if m.rest != nil {
		m.rest.Stop()
	}
	m.mu.Unlock()
	if p == nil {
		return
	}
	p.end()
	select {
	case <-p.gone:
	case <-time.After(leave):
	}
}

// A process is a running maker. It makes as many keys as it has read bytes, and writes each as a frame: two bytes of length and
// PKCS #1 in DER.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	said   tail
	keys   chan *rsa.PrivateKey
	proven atomic.Bool // it has made a key
	ending chan struct{}
	once   sync.Once
	gone   chan struct{} // closed when it has ended
	err    error         // why, once it has
}

func start(c Config) (*process, error) {
	program := c.command
	if program == nil {
		self, err := self()
		if err != nil {
			return nil, err
		}
		program = []string{self}
	}
	p := &process{keys: make(chan *rsa.PrivateKey), ending: make(chan struct{}), gone: make(chan struct{})}
	p.cmd = exec.Command(program[0])
	p.cmd.Args = append([]string{processName, string(c.Priority), strconv.Itoa(c.Workers)}, program[1:]...)
	p.cmd.Env = []string{"GOTRACEBACK=none", // a trace could show parts of a key
		"GODEBUG=" + os.Getenv("GODEBUG") + ",cryptocustomrand=1"} // breathing
	p.cmd.Stderr = &p.said
	p.cmd.Dir = "/"
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in a terminal is for the service, which may need keys until its end
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the process that makes keys: %w", err)
	}
	go p.receive(out)
	return p, nil
}

// self is this program, also when its file has been replaced.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// receive hands out keys until the process ends.
func (p *process) receive(out io.Reader) {
	r := bufio.NewReader(out)
	for {
		key, err := readKey(r)
		if err != nil {
			p.end()
			p.err = errors.Join(err, p.cmd.Wait())
			close(p.gone)
			return
		}
		p.proven.Store(true)
		select {
		case p.keys <- key:
		case <-p.ending:
		}
	}
}

const maxKey = 4096 // bytes; RSA-2048 takes 1.2 kB

func readKey(r io.Reader) (*rsa.PrivateKey, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	der := make([]byte, binary.BigEndian.Uint16(n[:]))
	defer clear(der)
	if len(der) > maxKey {
		return nil, fmt.Errorf("a key of %d bytes", len(der))
	}
	if _, err := io.ReadFull(r, der); err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err == nil && key.N.BitLen() != 2048 {
		err = fmt.Errorf("a key of %d bits", key.N.BitLen())
	}
	return key, err
}

// key asks for a key and waits for one.
func (p *process) key(ctx context.Context) (*rsa.PrivateKey, error) {
	if _, err := p.in.Write([]byte{1}); err != nil {
		p.end() // receive may wait with a key of somebody who gave up
		<-p.gone
		return nil, err
	}
	select {
	case key := <-p.keys:
		return key, nil
	case <-p.gone:
		return nil, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *process) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// end makes the process go: it may be in the middle of a key.
func (p *process) end() {
	p.once.Do(func() {
		close(p.ending)
		_ = p.in.Close()
		_ = p.cmd.Process.Kill()
	})
}

// why tells how a process ended, and its last words.
func (p *process) why() error {
	if text := strings.TrimSpace(p.said.String()); text != "" {
		return fmt.Errorf("%w: %s", p.err, text)
	}
	return p.err
}

// A tail keeps the beginning of what a process says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 1000
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b[:min(len(b), most-len(t.text))]...)
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
