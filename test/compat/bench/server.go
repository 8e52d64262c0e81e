package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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
func startServer(ctx context.Context, bin, dir string, args ...string) (*process, error) {
	p := &process{log: filepath.Join(dir, "server.log"), data: filepath.Join(dir, "imprint-data"), exited: make(chan error, 1)}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = serveCommand(bin, p.data, args...)
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

func serveCommand(bin, data string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(bin, "imprint"), append([]string{"serve", "--data", data, "--https-port", "0", "--mqtt-port", "0"}, args...)...)
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

// cpu is the CPU time that the server and its processes have used.
func (p *process) cpu() time.Duration {
	all := cpuOf(p.cmd.Process.Pid)
	for _, child := range p.children("") {
		all += cpuOf(child)
	}
	return all
}

// keyCPU is the CPU time of the processes that make keys, and of those that have ended.
func (p *process) keyCPU() (all time.Duration) {
	for _, child := range p.children("imprint-keymaker") {
		all += cpuOf(child)
	}
	return all
}

// children are the processes of the server that go by a name.
func (p *process) children(name string) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(f)
			if command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(command), name) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// cpuOf is the CPU time of a process and of its children that have ended.
func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command's name, in brackets, may hold spaces; utime, stime, cutime and cstime are the 12th to 15th fields after it.
	var ticks int
	for _, f := range strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[11:15] {
		n, _ := strconv.Atoi(f)
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}

// idleCPU is the CPU time that nobody on this machine has used.
func idleCPU() time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	f := strings.Fields(string(b)) // cpu user nice system idle iowait …
	if len(f) < 6 {
		return 0
	}
	idle, _ := strconv.Atoi(f[4])
	waiting, _ := strconv.Atoi(f[5])
	return time.Duration(idle+waiting) * clockTick
}

// metrics is what the server tells Prometheus.
func (p *process) metrics(ctx context.Context) (string, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(p.data, "admin.sock"))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://imprint/metrics", nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
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
