package trace

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// sampled is a recorder with a clock of the test's, and what it has kept by the name of its certificate.
func sampledRecorder(t *testing.T, s Sampling) (attempt func(certificate, address string, err error), pass func(time.Duration), kept func() map[string]int, r *Recorder) {
	now, saved := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), map[string]int{}
	r = NewRecorder(RecorderConfig{Sampling: s, Clock: func() time.Time { return now }, Save: func(_ context.Context, batch []Finished) error {
		for _, f := range batch {
			saved[f.Record.Facts["certificateId"]+" "+f.Record.Outcome]++
		}
		return nil
	}})
	attempt = func(certificate, address string, err error) {
		tr := New(scope, Connect, func() time.Time { return now })
		tr.Fact("certificateId", certificate)
		tr.Fact("sourceIp", address)
		r.Finish(tr, err)
	}
	return attempt, func(d time.Duration) { now = now.Add(d) }, func() map[string]int { r.Close(); return saved }, r
}

func TestOfConnectionsTheFirstIsToldAndAnyAfterARefusal(t *testing.T) {
	t.Parallel()
	attempt, pass, kept, r := sampledRecorder(t, Sampling{Connects: time.Hour})
	for range 6 { // an hour and a half of a lamp that connects each quarter of an hour
		attempt("lamp", "192.0.2.1", nil)
		attempt("other", "192.0.2.1", nil)
		pass(15 * time.Minute)
	}
	attempt("lamp", "192.0.2.1", errors.New("refused"))
	attempt("lamp", "192.0.2.1", nil)
	attempt("lamp", "192.0.2.1", nil)
	got := kept()
	if got["lamp ok"] != 3 || got["other ok"] != 2 || got["lamp failed"] != 1 {
		t.Errorf("kept %v", got)
	}
	if sampled, dropped := r.Lost(); sampled != 15-6 || dropped != 0 {
		t.Errorf("%d left out, %d dropped", sampled, dropped)
	}
}

// Who connects by a WebSocket has no certificate: neither do their connections count as each other's, nor refusals of strangers as
// theirs.
func TestOfConnectionsWithoutACertificateThoseOfOneClientCountTogether(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newSampler(Sampling{Connects: time.Hour})
	for i, c := range []struct {
		principal, client string
		refused, kept     bool
	}{{"a", "one", false, true}, {"a", "one", false, false}, {"a", "two", false, true}, {"b", "one", false, true}, {"", "", true, true}, {"a", "one", false, false},
		{"a", "one", true, true}, {"a", "one", false, true}} {
		r := Record{Kind: Connect, Outcome: OK, Facts: map[string]string{"principal": c.principal, "clientId": c.client}}
		if c.refused {
			r.Outcome = Refused
		}
		if got := s.keep(r, now); got != c.kept {
			t.Errorf("%d: %+v is told: %v", i, c, got)
		}
	}
}

func TestRefusalsAreToldUpToANumberForEachAddress(t *testing.T) {
	t.Parallel()
	attempt, pass, kept, _ := sampledRecorder(t, Sampling{Refusals: 5})
	no := errors.New("no")
	for i := range 100 {
		attempt("flood", "192.0.2.1", no)
		attempt("flood6", fmt.Sprintf("2001:db8::%x", i+1), no) // one network
		attempt("mapped", "::ffff:192.0.2.1", no)               // the first one again
	}
	for range 20 {
		attempt("here", "127.0.0.1", no)
		attempt("here", "::1", no)
	}
	attempt("neighbour", "192.0.2.2", no)
	attempt("neighbour6", "2001:db8:0:1::1", no)
	pass(time.Minute)
	attempt("flood", "192.0.2.1", no)
	got := kept()
	if got["flood failed"]+got["mapped failed"] != 6 || got["flood6 failed"] != 5 || got["here failed"] != 40 || got["neighbour failed"] != 1 || got["neighbour6 failed"] != 1 {
		t.Errorf("kept %v", got)
	}
}

func TestWhatIsRememberedForSamplingIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newSampler(Sampling{Connects: time.Hour, Refusals: 5})
	kept := 0
	for i := range 2 * maxRemembered {
		if s.keep(Record{Kind: Connect, Outcome: Refused, Facts: map[string]string{"sourceIp": fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff)}}, now) {
			kept++
		}
		if !s.keep(Record{Kind: Connect, Outcome: OK, Facts: map[string]string{"certificateId": fmt.Sprint(i)}}, now) {
			t.Fatal("a device's first connection is not told")
		}
	}
	if kept != maxRefusals || len(s.refusals) > maxRefusals || len(s.told) > maxRemembered {
		t.Errorf("%d refusals told, of %d networks; %d connections remembered", kept, len(s.refusals), len(s.told))
	}
	if s.Refusals = 0; !s.keep(Record{Outcome: Refused, Facts: map[string]string{}}, now.Add(time.Minute)) {
		t.Error("a refusal without an address is not told")
	}
}
