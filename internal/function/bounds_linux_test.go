package function

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process that may answer many events, and asks for no other after the first, keeps nobody waiting.
func TestAProcessThatAsksForNothingMoreIsReplaced(t *testing.T) {
	t.Parallel()
	r := world(t, Config{patience: patience{handOver: 2 * time.Second}})
	c := subject(t, "go")
	c.Reuse = true
	for range 2 {
		if res := ask(t, r, c, `{"case":"lazy"}`); string(res.Payload) != "1" {
			t.Errorf("%s: a new process counts from 1", res.Payload)
		}
	}
	until(t, func() bool { return r.count() <= 1 })
}

// Nor does one that was to build a sandbox and does not end.
func TestAProcessThatDoesNotEndIsEnded(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := endOf(cmd, 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "no end within 10ms") {
		t.Errorf("it says %v", err)
	}
	if s := cmd.ProcessState; s == nil || s.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it is %v", s)
	}
}

// Nor does one that is killed and does not end, as happens while a disk does not answer.
func TestAProcessThatCannotBeEndedIsLeftToItself(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	w := &worker{cmd: cmd, patience: patience{load: time.Minute}, work: make(chan *invocation), ready: make(chan struct{}), gone: make(chan struct{})} // nobody sees its end
	if a := w.exited(""); a.functionError != "Unhandled" {
		t.Errorf("%+v", a)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	if _, err := w.loaded(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it says %v", err)
	}
	if took := time.Since(began); took < endTime || took > 10*endTime {
		t.Errorf("it took %v", took)
	}
}
