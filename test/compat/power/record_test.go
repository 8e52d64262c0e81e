// Package power proves what the server promises about power cuts: whatever it answered is on disk. A kill proves less, for the
// kernel still has what a killed process wrote.
//
// A real server is run under strace while devices are provisioned. The recording holds each write, each new, renamed and removed
// name and each fsync of the data folder, in order, and between them the moments at which clients had seen answers. From it
// the folder is made again as a disk would have it whose power went at any such moment, without what was not synced, and the
// server is started on that.
//
// Begin with power_test.go; record_test.go makes a recording, strace_test.go and replay_test.go read it, disk_test.go says what
// survives, fleet_test.go has the devices and what must hold. renewal_test.go is the same for devices that renew themselves. In
// chaos_test.go the server loses its power while devices are at work whose connections are cut.
package power

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/server"
)

var bin string // the server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "imprint-power-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = filepath.Join(dir, "imprint")
		if out, err := build(bin).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// slowSync is by how much each sync is held up before it begins. On a fast disk an answer that does not wait for its sync would
// almost look like one that does.
const slowSync = "3ms"

// A recorder is a server under strace, with a helper process under the same strace that writes down what it is told: so the
// trace has the moments of the clients in the order of the server's calls.
type recorder struct {
	dir    string // "disk" in it has the data folder
	ports  ports
	cmd    *exec.Cmd
	server int        // process
	rec    *recording // until read has said how reading it ended
	read   chan error

	mu    sync.Mutex
	tell  *os.File
	heard *bufio.Reader
	told  *os.File
}

func (r *recorder) root() string { return filepath.Join(r.dir, "disk") }
func (r *recorder) data() string { return filepath.Join(r.root(), "data") }

// A memory is how much a recording keeps.
type memory bool

const (
	allMoments memory = false
	theLast    memory = true // for more than there is room for: see disk.forgets
)

// record starts a server, bin or another one, on a folder that is not there yet.
func record(binary, dir string, m memory) (*recorder, error) {
	p, err := freePorts()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "disk"), 0o700); err != nil {
		return nil, err
	}
	return recordAgain(binary, dir, p, m)
}

// recordAgain is record on what "disk" in dir has.
func recordAgain(binary, dir string, p ports, m memory) (_ *recorder, err error) {
	r := &recorder{dir: dir, ports: p, read: make(chan error, 1)}
	if err := os.Remove(filepath.Join(r.data(), server.EnvFile)); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	before, err := load(r.root())
	if err != nil {
		return nil, err
	}
	r.rec = &recording{marks: map[string]int{}, ports: p, disk: newDisk(r.root(), before)}
	r.rec.disk.forgets = m == theLast
	in, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	said, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	trace, traceOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "recorded.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r.tell, r.told, r.heard = tell, said, bufio.NewReader(said)
	const script = `exec 5>&-; umask 022; echo $$ >&4; cat <&3 >&4 & exec "$@" 3<&- 4>&-`
	r.cmd = exec.Command("strace", "-f", "-y", "-xx", "-s", "10000000", "--seccomp-bpf", "-e", "trace="+traced,
		"-e", "inject=fsync,fdatasync:delay_enter="+slowSync, "-o", "/dev/fd/5",
		"sh", "-c", script, "sh")
	r.cmd.Args = append(r.cmd.Args, r.ports.serve(binary, r.data())...)
	r.cmd.Stderr, r.cmd.ExtraFiles = log, []*os.File{in, out, traceOut}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("strace, Debian package strace, is needed: %w", err)
	}
	in.Close()
	out.Close()
	traceOut.Close()
	go func() {
		defer trace.Close()
		r.read <- r.rec.hear(trace)
	}()
	line, err := r.heard.ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, r.cmd.Process.Kill())
	}
	r.server, err = strconv.Atoi(strings.TrimSpace(line))
	return r, err
}

// mark writes down that something has been seen. It returns when that is in the recording, so that whatever its caller does
// next comes behind it.
func (r *recorder) mark(what string) error {
	what = markPrefix + what
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.tell.WriteString(what + "\n"); err != nil {
		return err
	}
	got, err := r.heard.ReadString('\n')
	if err == nil && got != what+"\n" {
		err = fmt.Errorf("the recorder said %q, not %q", got, what)
	}
	return err
}

// gone reports whether the server has ended.
func (r *recorder) gone() bool { return syscall.Kill(r.server, 0) != nil }

// said is the server's log.
func (r *recorder) said() []byte {
	b, _ := os.ReadFile(filepath.Join(r.dir, "recorded.log"))
	return b
}

// end stops the server in good order, which is part of the recording.
func (r *recorder) end() (*recording, error) {
	late := time.AfterFunc(startTimeout, func() { _ = syscall.Kill(r.server, syscall.SIGKILL) })
	defer late.Stop()
	return r.stop(syscall.SIGTERM)
}

// cut kills the server. The recording is what it did until then.
func (r *recorder) cut() (*recording, error) { return r.stop(syscall.SIGKILL) }

func (r *recorder) stop(with syscall.Signal) (*recording, error) {
	stop := syscall.Kill(r.server, with)
	r.tell.Close()
	r.told.Close()
	ended := r.cmd.Wait()
	if s, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && with == syscall.SIGKILL && s.Signaled() && s.Signal() == with {
		ended = nil // strace ends as its program did
	}
	return r.rec, errors.Join(stop, ended, <-r.read)
}

// Lives are those of one server, each of which begins on what the loss of its power left of the one before.
type lives struct {
	binary, dir string
	lost        int       // losses of power
	on          *recorder // nil: the power is off
	ports       ports
}

func (l *lives) life() string { return filepath.Join(l.dir, "life"+strconv.Itoa(l.lost)) }

// disk is what the folder that holds the data folder is called.
func (l *lives) disk() string { return filepath.Join(l.life(), "disk") }

// begin starts the server for the first time.
func (l *lives) begin() (env server.Env, err error) {
	if err := os.Mkdir(l.life(), 0o700); err != nil {
		return env, err
	}
	if l.on, err = record(l.binary, l.life(), theLast); err != nil {
		return env, err
	}
	l.ports = l.on.ports
	return ready(l.on.data(), l.on.gone)
}

// lose kills the server, and takes away what it had not synced.
func (l *lives) lose(w loss) error {
	r := l.on
	l.on = nil
	rec, err := r.cut()
	if err != nil {
		return err
	}
	l.lost++
	if err := os.Mkdir(l.life(), 0o700); err != nil {
		return err
	}
	return rec.disk.restore(l.disk(), math.MaxInt, w, lie{})
}

// again starts the server on what is left.
func (l *lives) again() (env server.Env, err error) {
	if l.on, err = recordAgain(l.binary, l.life(), l.ports, theLast); err != nil {
		return env, err
	}
	return ready(l.on.data(), l.on.gone)
}

// over ends the last life if there was an error, of which the server may know more.
func (l *lives) over(err error) error {
	if l.on == nil {
		return err
	}
	said := l.on.said()
	_, _ = l.on.cut()
	if err != nil {
		err = fmt.Errorf("%w\n%.2000s", err, said)
	}
	return err
}

// A recording is what happened to a data folder, and when clients had seen what.
type recording struct {
	disk  *disk
	marks map[string]int // when; see recorder.mark
	order []int
	ports ports
}

const markPrefix = "seen "

// hear listens to strace, which waits for it, until its end.
func (r *recording) hear(trace io.Reader) error {
	err := readTrace(trace, func(e event) error {
		r.note(e)
		return r.disk.next(e)
	})
	_, rest := io.Copy(io.Discard, trace)
	return errors.Join(err, rest)
}

func (r *recording) note(e event) {
	if e.name != "write" {
		return
	}
	if text, err := e.text(1); err == nil && strings.HasPrefix(text, markPrefix) {
		r.marks[strings.TrimSuffix(text[len(markPrefix):], "\n")] = e.begin
		r.order = append(r.order, e.begin)
	}
}

// seen reports whether a client had seen something before the power went.
func (r *recording) seen(what string, cut int) bool {
	m, ok := r.marks[what]
	return ok && m < cut
}

// ports are kept by a data folder, and so belong to all servers that are started on what is left of it. They are below those
// that the kernel hands out to others meanwhile.
type ports struct{ https, mqtt int }

// given are the ports of all recordings: between two lives of its server nobody listens on one.
var given sync.Map

func freePorts() (ports, error) {
	var free []int
	for range 1000 {
		p := 10000 + rand.IntN(20000)
		if _, had := given.LoadOrStore(p, true); had {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			continue
		}
		l.Close()
		if free = append(free, p); len(free) == 2 {
			return ports{free[0], free[1]}, nil
		}
	}
	return ports{}, errors.New("no free ports")
}

func (p ports) serve(binary, data string) []string {
	return []string{binary, "serve", "--log-level", "warn", "--data", data, "--https-port", strconv.Itoa(p.https), "--mqtt-port", strconv.Itoa(p.mqtt)}
}

// A site is a server that runs on what was left.
type site struct {
	cmd    *exec.Cmd
	data   string
	env    server.Env
	log    string
	exited chan struct{} // closed at its end
}

const startTimeout = 5 * time.Minute

// start runs a server and returns when it answers.
func start(dir string, p ports) (*site, error) {
	s := &site{data: filepath.Join(dir, "data"), log: dir + ".log", exited: make(chan struct{})}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := os.Remove(filepath.Join(s.data, server.EnvFile)); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	args := p.serve(bin, s.data)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // its log says why
		close(s.exited)
	}()
	if s.env, err = ready(s.data, s.gone); err != nil {
		s.kill()
		said, _ := os.ReadFile(s.log)
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	return s, nil
}

// gone reports whether the server has ended.
func (s *site) gone() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// ready waits for the environment file, which a server writes when it answers.
func ready(data string, gone func() bool) (server.Env, error) {
	tick, late := time.NewTicker(5*time.Millisecond), time.After(startTimeout)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if env, err := server.ReadEnv(filepath.Join(data, server.EnvFile)); err == nil {
				return env, nil
			}
			if gone() {
				return nil, errors.New("the server stopped")
			}
		case <-late:
			return nil, fmt.Errorf("the server was not ready within %v", startTimeout)
		}
	}
}

func (s *site) kill() {
	_ = s.cmd.Process.Kill() // unless it has ended already
	<-s.exited
}
