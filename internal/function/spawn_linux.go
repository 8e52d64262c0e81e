package function

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

type sandbox struct{}

// Available tells which layer of the sandbox is missing on this machine; nil: functions may run. Errors are ErrUnavailable.
func (r *Runner) Available() error {
	if r.Unsafe {
		return nil
	}
	return fmt.Errorf("%w: this version has no sandbox yet; unsafe-functions runs them without", ErrUnavailable)
}

func (r *Runner) spawn(code Code) (p process, err error) {
	lang, program, err := r.interpreter(code.Runtime)
	if err != nil {
		return p, err
	}
	if lang != python {
		return p, fmt.Errorf("%w: this version runs Python only", ErrRuntime)
	}
	dir, err := os.MkdirTemp("", "function-")
	if err != nil {
		return p, err
	}
	scratch := filepath.Join(dir, "tmp")
	boot := filepath.Join(dir, "bootstrap.py")
	p.clean = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			p.clean()
		}
	}()
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return p, err
	}
	if err := os.WriteFile(boot, bootstrapPython, 0o600); err != nil {
		return p, err
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return p, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "api"), os.NewFile(uintptr(fds[1]), "api")
	defer theirs.Close()
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return p, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return p, err
	}
	defer in.Close()
	args := []string{"-B", boot}
	if code.Reuse {
		args = append(args, "reuse")
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = environment(code, code.Dir, scratch)
	p.cmd.Dir = code.Dir
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = in, in, []*os.File{theirs}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.output, p.listener = out, listenOne(conn)
	return p, p.cmd.Start()
}

// killTree ends a process and what it started.
func killTree(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
