package function

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// sandbox is what a Runner knows about the sandbox of this machine.
type sandbox struct {
	probe   sync.Once
	layers  layers // in use
	missing error

	mu   sync.Mutex
	uids map[int]bool // taken
}

// User ids. As root, each worker has one from firstUID on: a range that systemd and others leave free
// (https://systemd.io/UIDS-GIDS). As an ordinary user, workers have that user's id outside and sandboxUID inside.
const (
	firstUID   = 1_900_000_000
	sandboxUID = 993
)

// Available tells which layer of the sandbox is missing on this machine; nil: functions may run. The first call finds out, by
// building one. Errors are ErrUnavailable.
func (r *Runner) Available() error {
	r.sandbox.probe.Do(func() { r.sandbox.layers, r.sandbox.missing = r.probe() })
	return r.sandbox.missing
}

func (r *Runner) probe() (layers, error) {
	if !prepared {
		return 0, fmt.Errorf("%w: this program does not begin with function.Main, which builds the sandbox", ErrUnavailable)
	}
	use := allLayers &^ r.without
	if os.Geteuid() != 0 {
		use &^= ownUser
	}
	for {
		err := r.try(use)
		var f *layerError
		switch {
		case err == nil:
			return use, nil
		case errors.As(err, &f) && r.Unsafe && use&f.layer != 0:
			r.Log.Warn("functions run without a layer of their sandbox", "layer", f.layer.String(), "error", err)
			use &^= f.layer
		case r.Unsafe:
			return 0, nil
		default:
			return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

// A layerError says which layer of the sandbox could not be had.
type layerError struct {
	layer layers
	cause string
}

func (e *layerError) Error() string {
	return fmt.Sprintf("the sandbox lacks its layer %q: %s: %s", e.layer, e.cause, cures[e.layer])
}

// try builds a sandbox with nothing in it.
func (r *Runner) try(use layers) error {
	dir, err := os.MkdirTemp("", "imprint-function-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := spec{Layers: use, Task: dir, Scratch: dir, Size: 1 << 20, Memory: 1 << 30, Tasks: 64, Probe: true}
	if r.API != nil && s.ownNetwork() && !r.Network {
		s.Doors = []int{awsPort}
	}
	if use&ownUser != 0 {
		s.UID = firstUID
	}
	cmd, status, err := r.helper(&s, nil, nil, nil)
	if err != nil {
		return err
	}
	defer status.Close()
	err = endOf(cmd, probeTime)
	if said := said(status); said != nil {
		return said
	}
	if err != nil {
		return fmt.Errorf("trying the sandbox: %w", err)
	}
	return nil
}

// probeTime is how long it may take to build a sandbox with nothing in it: some hundred times what it takes.
const probeTime = 10 * time.Second

// endOf waits for the end of a process, and ends it when it has not come in time. A process that not even that ends is left to itself.
func endOf(cmd *exec.Cmd, limit time.Duration) error {
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err := <-end:
		return err
	case <-late.C:
	}
	killTree(cmd.Process)
	late.Reset(endTime)
	select {
	case <-end:
	case <-late.C:
	}
	return fmt.Errorf("no end within %v", limit)
}

// said is what the process that builds a sandbox has said, if that failed. The process has ended, so nothing more comes.
func said(status *os.File) error {
	_ = status.SetReadDeadline(time.Now().Add(time.Second)) // should anybody else hold the other end
	b, _ := io.ReadAll(io.LimitReader(status, 4<<10))
	if len(b) == 0 {
		return nil
	}
	var f failure
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("building the sandbox: %s", b)
	}
	if f.Layer == 0 {
		return entryError(f.Error)
	}
	return &layerError{f.Layer, f.Error}
}

// helper starts this program again, as the process that builds the sandbox of s and then becomes the function. status is what it says
// when that fails, to be read after its end.
func (r *Runner) helper(s *spec, api, doors, out *os.File) (cmd *exec.Cmd, status *os.File, err error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	// Not a pipe: nobody must wait until it is read.
	fd, err := unix.MemfdCreate("spec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	input := os.NewFile(uintptr(fd), "spec")
	defer input.Close()
	if _, err := io.Copy(input, bytes.NewReader(b)); err != nil {
		return nil, nil, err
	}
	if _, err := input.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	status, say, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer say.Close()
	cmd = &exec.Cmd{Path: "/proc/self/exe", Args: []string{"imprint", Verb}, Env: []string{"GOMAXPROCS=1"}, ExtraFiles: []*os.File{api, input, say, doors}}
	if out != nil {
		cmd.Stdout, cmd.Stderr = out, out
	}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if s.Layers&namespaces != 0 {
		attr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		if !s.Network {
			attr.Cloneflags |= unix.CLONE_NEWNET
		}
		if os.Geteuid() != 0 {
			attr.Cloneflags |= unix.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: sandboxUID, HostID: os.Geteuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: sandboxUID, HostID: os.Getegid(), Size: 1}}
			attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}
		}
	}
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		status.Close()
		return nil, nil, &layerError{namespaces, err.Error()}
	}
	return cmd, status, nil
}

// spawn starts a process that loads code and has credentials.
func (r *Runner) spawn(code Code, c Credentials) (p process, err error) {
	lang, program, err := r.interpreter(code.Runtime)
	if err != nil {
		return p, err
	}
	var undo []func()
	p.clean = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	defer func() {
		if err != nil {
			p.clean()
		}
	}()
	s := r.specOf(code, lang, program)
	var api Address
	if r.API != nil {
		if api, err = r.API.Address(code); err != nil {
			return p, err
		}
		s.lead(api)
	}
	dir := "" // of what cannot be inside of the sandbox
	if s.Layers&namespaces == 0 {
		if dir, err = os.MkdirTemp("", "imprint-function-"); err != nil {
			return p, err
		}
		undo = append(undo, func() { _ = os.RemoveAll(dir) })
	}
	if s.Layers&ownUser != 0 {
		s.UID = r.sandbox.takeUID()
		undo = append(undo, func() { r.sandbox.giveUID(s.UID) })
	}
	if err := s.place(dir); err != nil {
		return p, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return p, err
	}
	defer theirs.Close()
	switch {
	case lang != provided:
		p.listener = listenOne(ours)
	case s.Layers&namespaces != 0 && !s.Network:
		p.listener = handedOver(ours)
		s.Listen = true
	default: // whoever may connect here must know the path
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return p, err
		}
		p.listener, s.Port = l, l.Addr().(*net.TCPAddr).Port
		s.Token = "/" + fleet.RandomString(32, fleet.AlphaAlnum)
		p.prefix = s.Token
		s.Connect = append(s.Connect, s.Port)
	}
	var doors *os.File
	if len(s.Doors) > 0 {
		var end *net.UnixConn
		if end, doors, err = socketPair(); err != nil {
			return p, err
		}
		defer doors.Close()
		p.doors = &handed{from: end}
		undo = append(undo, func() { _ = p.doors.Close() })
	}
	var way map[string]string
	if r.API != nil {
		way = s.variables(api)
	}
	s.Args, s.Env = arguments(code, lang, program, s), environment(code, lang, s, way, c.secrets())
	out, in, err := os.Pipe()
	if err != nil {
		return p, err
	}
	defer in.Close()
	p.output = out
	p.cmd, p.status, err = r.helper(s, theirs, doors, in)
	return p, err
}

// specOf says what a function may use.
func (r *Runner) specOf(code Code, lang language, program string) *spec {
	s := &spec{
		Layers: r.sandbox.layers, Task: code.Dir, Hide: r.Hide, Size: scratchSize, Tasks: maxTasks,
		Memory: int64(code.Memory)<<20 + slack[lang], Inet: lang == provided || r.Network || r.API != nil, Network: r.Network, NoJIT: lang == node && !mayMakeCode(),
		Files: map[string][]byte{},
	}
	s.AnyPort = r.Network || lang == provided && s.ownNetwork() // of its own network: a handler may listen for itself
	if !code.Reuse {
		s.Time = int64((code.Timeout+initTimeout).Seconds()+1) * 4 // several threads may be busy
	}
	if lang == python && !code.Reuse {
		s.Time = 0 // the process that forks lives long
	}
	if program != "" && !slices.ContainsFunc(systemFolders, func(dir string) bool { return below(program, dir) }) {
		s.Runtime = []string{filepath.Dir(filepath.Dir(program))}
	}
	switch lang {
	case python:
		s.Files["bootstrap.py"] = bootstrapPython
	case node:
		s.Files["bootstrap.mjs"] = bootstrapNode
	}
	return s
}

// mayMakeCode tells whether processes of this server may make memory executable. Under systemd's MemoryDenyWriteExecute they may not, and
// Node needs to know.
var mayMakeCode = sync.OnceValue(func() bool {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	_ = unix.Munmap(b)
	return true
})

// place puts the files of a function without namespaces below dir.
func (s *spec) place(dir string) error {
	if dir == "" {
		return nil
	}
	s.Scratch = filepath.Join(dir, "tmp")
	s.Runtime = append(s.Runtime, filepath.Join(dir, "runtime"))
	for _, sub := range []string{"tmp", "runtime"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	for name, content := range s.Files {
		if err := os.WriteFile(filepath.Join(dir, "runtime", name), content, 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if s.UID != 0 {
		return os.Chown(s.Scratch, s.UID, s.UID)
	}
	return nil
}

func (b *sandbox) takeUID() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.uids == nil {
		b.uids = map[int]bool{}
	}
	id := firstUID + os.Getpid()%10000*1000 // two servers on one machine should not share any
	for b.uids[id] {
		id++
	}
	b.uids[id] = true
	return id
}

func (b *sandbox) giveUID(id int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.uids, id)
}

func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "api")
	defer f.Close()
	theirs = os.NewFile(uintptr(fds[1]), "api")
	c, err := net.FileConn(f)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c.(*net.UnixConn), theirs, nil
}

// handed are listeners that the function's process makes in its own network and hands over. As a listener it is the first of them.
type handed struct {
	from *net.UnixConn
	once sync.Once
	list []net.Listener
	err  error
}

func handedOver(from *net.UnixConn) net.Listener { return &handed{from: from} }

// open waits for the listeners; there are none if the sandbox could not be built.
func (h *handed) open() []net.Listener {
	h.receive()
	return h.list
}

func (h *handed) receive() { h.once.Do(func() { h.list, h.err = receiveListeners(h.from) }) }

func (h *handed) Accept() (net.Conn, error) {
	h.receive()
	if h.err != nil {
		return nil, h.err
	}
	return h.list[0].Accept()
}

// maxDoors is the most listeners that are handed over at once.
const maxDoors = 4

func receiveListeners(from *net.UnixConn) (list []net.Listener, err error) {
	defer from.Close()
	oob := make([]byte, unix.CmsgSpace(4*maxDoors))
	_, n, _, _, err := from.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "function")
		l, failed := net.FileListener(f)
		err = errors.Join(err, failed, f.Close())
		if failed == nil {
			list = append(list, l)
		}
	}
	return list, err
}

func (h *handed) Close() error {
	_ = h.from.Close() // ends receiveListeners
	h.once.Do(func() { h.err = net.ErrClosed })
	var err error
	for _, l := range h.list {
		err = errors.Join(err, l.Close())
	}
	return err
}

func (h *handed) Addr() net.Addr { return h.from.LocalAddr() }

// killTree ends a process and what it started. With namespaces it is the first process of its own, and all others end with it; without,
// those that have left its group stay.
func killTree(p *os.Process) {
	if p.Kill() == nil {
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	}
}
