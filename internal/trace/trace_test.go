package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/batch"
	"github.com/imprint-iot/imprint/internal/fleet"
)

var scope = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

func TestARefusalTellsCauseAndCureFirst(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tr := New(scope, Register, func() time.Time { return now })
	tr.Fact("thing", "lamp")
	now = now.Add(1500 * time.Microsecond)
	tr.Step("hook", "denied by %s", "the allow-list")
	tr.SetCure("add the serial to the list")
	rec, subjects := tr.Finish(fleet.Denied("the hook said no").WithCode("AccessDenied"))
	want := []string{"register was refused: the hook said no", "answered: AccessDenied", "what to do: add the serial to the list", "thing          lamp", "1.5 ms  hook         denied by the allow-list", "trace " + tr.ID()}
	at := 0
	for _, w := range want {
		i := strings.Index(rec.Text()[at:], w)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in\n%s", w, rec.Text())
		}
		at += i
	}
	if !slices.Contains(subjects, "lamp") {
		t.Errorf("filed under %v", subjects)
	}
}

func TestAnInternalErrorIsNotShown(t *testing.T) {
	t.Parallel()
	tr := New(scope, Create, nil)
	rec, _ := tr.Finish(errors.New("password of the database is hunter2"))
	if rec.Outcome != Failed || strings.Contains(rec.Text(), "hunter2") {
		t.Errorf("%s", rec.Text())
	}
}

func TestParametersAreFoundByTheirHashOnly(t *testing.T) {
	t.Parallel()
	tr := New(scope, Register, nil)
	tr.Parameter("serial-4711")
	rec, subjects := tr.Finish(nil)
	if strings.Contains(rec.Text()+strings.Join(subjects, " "), "serial-4711") || !slices.Contains(subjects, HashedSubject("serial-4711")) {
		t.Errorf("%v\n%s", subjects, rec.Text())
	}
}

func TestATraceStaysSmallWhateverIsPutIn(t *testing.T) {
	t.Parallel()
	tr := New(scope, Connect, nil)
	for range 1000 {
		tr.Step("policy", "%s", strings.Repeat("x", 5000))
		tr.Fact("clientId", strings.Repeat("y", 5000))
	}
	rec, _ := tr.Finish(nil)
	if len(rec.Steps) > maxSteps || len(rec.Text()) > (maxSteps+5)*(maxText+60) {
		t.Errorf("%d steps, %d bytes", len(rec.Steps), len(rec.Text()))
	}
}

// What it is found by is stored with it, and a device may send as many parameters as a message has room for.
func TestATraceIsFoundByFewParameters(t *testing.T) {
	t.Parallel()
	tr := New(scope, Register, nil)
	tr.Fact("claimId", "claim")
	for i := range 10_000 {
		tr.Parameter(fmt.Sprint(i))
	}
	tr.Fact("certificateId", "certificate")
	_, subjects := tr.Finish(nil)
	if len(subjects) != maxParameters+2 {
		t.Errorf("it is found by %d values", len(subjects))
	}
	for _, want := range []string{"claim", HashedSubject("0"), "certificate"} {
		if !slices.Contains(subjects, want) {
			t.Errorf("not by %s", want)
		}
	}
}

func TestANilTraceForgets(t *testing.T) {
	t.Parallel()
	var tr *Trace
	tr.Step("a", "b")
	tr.Fact("a", "b")
	tr.Parameter("a")
	tr.SetCure("a")
	if tr.ID() != "" {
		t.Error("a nil trace has an id")
	}
	var r *Recorder
	r.Finish(tr, nil)
}

func TestAFloodIsCountedNotWaitedFor(t *testing.T) {
	t.Parallel()
	release, saved := make(chan struct{}), 0
	var mu sync.Mutex
	r := NewRecorder(RecorderConfig{Save: func(_ context.Context, batch []Finished) error {
		<-release
		mu.Lock()
		defer mu.Unlock()
		saved += len(batch)
		return nil
	}})
	const flood = 5 * batch.Size
	for range flood {
		r.Finish(New(scope, Create, nil), nil)
	}
	close(release)
	r.Close()
	if sampled, dropped := r.Lost(); saved < batch.Size || int64(saved)+dropped != flood || sampled != 0 {
		t.Errorf("%d saved, %d dropped of %d, %d left out", saved, dropped, flood, sampled)
	}
	r.Finish(New(scope, Connect, nil), nil) // after Close: nothing to do, no panic
}

func TestFlushWaitsForWhatWasFinishedBefore(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var saved int
	r := NewRecorder(RecorderConfig{Save: func(_ context.Context, batch []Finished) error {
		mu.Lock()
		defer mu.Unlock()
		saved += len(batch)
		return nil
	}, Clock: time.Now})
	r.Flush(t.Context()) // nothing is there
	for n := range 100 {
		r.Finish(New(fleet.Scope{}, Connect, time.Now), nil)
		if r.Flush(t.Context()); saved != n+1 {
			t.Fatalf("%d are kept after %d", saved, n+1)
		}
	}
	r.Close()
	r.Flush(t.Context())
	(*Recorder)(nil).Flush(t.Context())
}
