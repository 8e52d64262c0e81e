package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/server"
)

// A process is the server under measurement.
type process struct {
	cmd    *exec.Cmd
	log    string
	data   string
	env    server.Env
	exited chan error
}

const startTimeout = time.Minute

// startServer runs `imprint serve` on free ports of loopback with its data in dir.
func startServer(ctx context.Context, bin, dir string) (*process, error) {
	p := &process{log: filepath.Join(dir, "server.log"), data: filepath.Join(dir, "imprint-data"), exited: make(chan error, 1)}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = serveCommand(bin, p.data)
	_ = os.Remove(filepath.Join(p.data, server.EnvFile)) // of an earlier start: a new one says that it is ready
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the server (make build makes it): %w", err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	tick, late := time.NewTicker(20*time.Millisecond), time.After(startTimeout)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if p.env, err = server.ReadEnv(filepath.Join(p.data, server.EnvFile)); err == nil {
				return p, nil
			}
		case err := <-p.exited:
			return nil, fmt.Errorf("the server stopped (%v): %s", err, p.said())
		case <-late:
			p.stop()
			return nil, fmt.Errorf("the server was not ready within %v", startTimeout)
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		}
	}
}

func serveCommand(bin, data string) *exec.Cmd {
	return exec.Command(filepath.Join(bin, "imprint"), "serve", "--data", data, "--https-port", "0", "--mqtt-port", "0")
}

// stop ends the server that was started here, gently at first.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// said is the end of the server's log.
func (p *process) said() string {
	const keep = 4000
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-keep):])
}

// clockTick is the unit of CPU times in /proc (proc_pid_stat(5)); Linux has 100 a second on every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// cpu is the CPU time that the server has used.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// The command's name, in brackets, may hold spaces; utime and stime are the 12th and 13th fields after it.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * clockTick
}

// rss is the server's resident memory in KiB.
func (p *process) rss() int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n := 0
	fmt.Sscan(rest, &n)
	return n
}

// profile takes a CPU profile into a file until it is over; what it returns waits for that.
func (p *process) profile(path string, seconds float64) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f, err := os.Create(path)
		if err == nil {
			defer f.Close()
			err = server.Profile(context.Background(), p.data, "cpu", max(int(seconds), 1), f)
		}
		if err != nil {
			progress("no profile: %v", err)
		}
	}()
	return func() { <-done }
}

// settle waits until the server has nothing to do, as when its pool of RSA keys is full.
func (p *process) settle() {
	const look, patience = 400 * time.Millisecond, 90 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); {
		before := p.cpu()
		time.Sleep(look)
		if p.cpu()-before <= clockTick {
			return
		}
	}
}

// ownCPU is the CPU time that this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
