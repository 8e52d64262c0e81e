package keymaker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// log is what a Maker says. It may be read while the Maker lives.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newMaker(t *testing.T, c Config) (*Maker, *log) {
	said := &log{}
	c.Log = slog.New(slog.NewTextHandler(said, nil))
	m := New(c)
	t.Cleanup(m.Close)
	return m, said
}

// make asks for n keys at once.
func (m *Maker) make(t *testing.T, n int) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range n {
		wg.Go(func() {
			k, err := m.Key(t.Context())
			if err == nil {
				err = k.Validate()
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[k.N.String()] = k.N.BitLen() == 2048
		})
	}
	wg.Wait()
	if len(seen) != n {
		t.Errorf("%d different keys of %d", len(seen), n)
	}
}

func TestAProcessOfLowPriorityMakesKeys(t *testing.T) {
	t.Parallel()
	for _, p := range []Priority{Idle, Low} {
		m, said := newMaker(t, Config{Priority: p, Workers: 2})
		m.make(t, 5)
		if said.String() != "" {
			t.Errorf("%s: %s", p, said)
		}
		if runtime.GOOS == "linux" {
			checkPriority(t, m.process.cmd.Process.Pid, p)
		}
		m.Close()
		m.Close()
		if _, err := m.Key(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// checkPriority looks at every thread: its policy is field 41 of stat (proc_pid_stat(5)).
func checkPriority(t *testing.T, pid int, p Priority) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	want := map[Priority]string{Idle: "5", Low: "0"}[p]
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])); f[38] != want {
			t.Errorf("a thread of the %s maker has policy %s", p, f[38])
		}
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err == nil && strings.Contains(string(environment), "PATH=") {
		t.Error("the process has the environment of this one")
	}
}

func TestAProcessThatDiesIsStartedAgain(t *testing.T) {
	t.Parallel()
	m, said := newMaker(t, Config{Priority: Low, Workers: 1})
	m.make(t, 1)
	first := m.process
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.make(t, 3) // nobody who asks notices
	if m.process == first || !strings.Contains(said.String(), "ended") {
		t.Errorf("it says %q", said)
	}
}

func TestKeysAreMadeWhereNoProcessCanMakeThem(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{"no program": {"/nowhere/imprint"}, "one that fails": {"/bin/false"}, "one that talks nonsense": {"/bin/echo"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, said := newMaker(t, Config{Priority: Idle, command: command})
			m.make(t, 2)
			m.make(t, 1)
			if got := strings.Count(said.String(), "at the priority of everything else"); got != 1 {
				t.Errorf("it says %q", said)
			}
		})
	}
}

func TestTheProcessEndsWithTheService(t *testing.T) {
	t.Parallel()
	p, err := start(Config{Priority: Low, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.key(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.in.Write([]byte{1, 1, 1}) // in the middle of keys
	p.in.Close()                // as the kernel does for a service that was killed
	for ended := false; !ended; {
		select {
		case <-p.gone:
			ended = true
		case <-p.keys: // some may have been finished on a busy machine
		}
	}
}

func TestAKeyThatNobodyTookDoesNotHideTheEndOfTheProcess(t *testing.T) {
	t.Parallel()
	p, err := start(Config{Priority: Low, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !p.proven.Load() { // the key is here
		<-tick.C
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for err == nil { // until it is dead
		_, err = p.in.Write([]byte{1})
	}
	told := make(chan error, 1)
	go func() {
		_, err := p.key(context.Background())
		told <- err
	}()
	select {
	case err := <-told:
		if err == nil {
			t.Error("a dead process made a key")
		}
	case <-time.After(time.Minute):
		p.end()
		t.Error("whoever asks a dead process waits forever")
	}
}

func TestTheProcessIsDismissedWhenNoKeyIsWanted(t *testing.T) {
	t.Parallel()
	m, said := newMaker(t, Config{Priority: Low})
	m.make(t, 1)
	p := m.process
	m.dismiss()
	<-p.gone
	m.make(t, 1)
	if said.String() != "" {
		t.Errorf("it says %q", said)
	}
}

func TestWhoGivesUpDoesNotWaitForAKey(t *testing.T) {
	t.Parallel()
	m, _ := newMaker(t, Config{Priority: Idle})
	m.make(t, 1)
	maker := m.process.cmd.Process
	if err := maker.Signal(syscall.SIGSTOP); err != nil { // a key that is there may be taken even by who has given up
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Key(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := maker.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.make(t, 2) // the key that nobody took is not in the way
}
