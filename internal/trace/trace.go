// Package trace is the readable record of one attempt: a connection, a claim, a certificate request, a registration. It says
// what was decided at each step and, when the attempt failed, the cause and the cure in one sentence each.
//
// Begin with New and Trace.Step. A nil *Trace takes steps and forgets them, so code need not ask whether somebody listens.
// Recorder (recorder.go) keeps the records; nothing secret may enter one.
package trace

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Kinds of attempt.
const (
	Connect    = "connect"    // TLS handshake and CONNECT, and what a connection was refused later
	Disconnect = "disconnect" // the end of an accepted connection that somebody should mend
	Claim      = "claim"      // CreateProvisioningClaim
	Create     = "create"     // CreateKeysAndCertificate or CreateCertificateFromCsr over MQTT
	Register   = "register"   // RegisterThing
	Retire     = "retire"     // a certificate goes: its successor has connected
	Request    = "request"    // a signed request or a sign-in that was refused
	Contain    = "contain"    // containment of a stolen claim
	Assume     = "assume"     // credentials for a device by a role alias, which were refused
	Rule       = "rule"       // a topic rule that could not do what it should with a message
)

// Outcomes.
const (
	OK      = "ok"
	Refused = "refused" // the caller can mend it
	Failed  = "failed"  // our fault
)

// A Step is one decision of an attempt.
type Step struct {
	At   time.Duration `json:"at"` // since the start
	Name string        `json:"name"`
	Text string        `json:"text"`
}

// A Record is a finished trace as it is stored and shown.
type Record struct {
	ID      string            `json:"id"`
	Kind    string            `json:"kind"`
	Start   time.Time         `json:"start"`
	Took    time.Duration     `json:"took"`
	Outcome string            `json:"outcome"`
	Code    string            `json:"code,omitempty"`  // error code as sent to the client
	Cause   string            `json:"cause,omitempty"` // what was wrong
	Cure    string            `json:"cure,omitempty"`  // how to mend it
	Facts   map[string]string `json:"facts"`           // thing, certificateId, claimId, clientId, template, sourceIp, installer, reason (of a refusal, in a word) …
	Steps   []Step            `json:"steps"`
}

// maxSteps, maxText and maxParameters keep a record near 2 KiB.
const (
	maxSteps      = 40
	maxText       = 300
	maxParameters = 50 // by whose values a trace is found: a device may send thousands
)

// A Trace is a record in the making. It is safe for concurrent use.
type Trace struct {
	Scope fleet.Scope

	mu       sync.Mutex
	rec      Record
	subjects []string
	params   int // of subjects
	clock    fleet.Clock
}

// New begins the trace of an attempt.
func New(scope fleet.Scope, kind string, clock fleet.Clock) *Trace {
	now := clock.Now()
	return &Trace{Scope: scope, clock: clock, rec: Record{ID: fleet.NewTimeUUID(now), Kind: kind, Start: now, Facts: map[string]string{}}}
}

// ID returns the id that clients are told as traceId, "" for a nil trace.
func (t *Trace) ID() string {
	if t == nil {
		return ""
	}
	return t.rec.ID
}

// Step adds a decision, for example t.Step("hook", "allowed by rule %q in %v", name, took).
func (t *Trace) Step(name, format string, args ...any) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rec.Steps) < maxSteps {
		t.rec.Steps = append(t.rec.Steps, Step{t.clock.Now().Sub(t.rec.Start), name, clip(fmt.Sprintf(format, args...))})
	}
}

// Mark and Rewind are for the body of a transaction, which may run again: it rewinds to the mark that was set before it and so
// tells its part once.
func (t *Trace) Mark() int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rec.Steps)
}

// Rewind forgets the steps since mark.
func (t *Trace) Rewind(mark int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rec.Steps = t.rec.Steps[:min(mark, len(t.rec.Steps))]
}

// Fact notes who or what the attempt is about; the facts named in subjectFacts and refusalFacts can be searched by their value.
func (t *Trace) Fact(name, value string) {
	if t == nil || value == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rec.Facts[name] = clip(value)
	if subjectFacts[name] {
		t.file(value)
	}
}

// file makes the trace searchable by a value.
func (t *Trace) file(subject string) {
	if !slices.Contains(t.subjects, subject) {
		t.subjects = append(t.subjects, subject)
	}
}

var subjectFacts = map[string]bool{"thing": true, "certificateId": true, "claimId": true, "clientId": true}

// refusalFacts can be searched by their value, too, if the attempt failed: nobody who failed is known by more than an address yet, and
// who succeeded needs not be found by it.
var refusalFacts = []string{"sourceIp", "certificateSerial", "requestId", "accessKeyId", "user", "template", "requester", "rule", "caCertificateId"}

// Parameter makes the trace searchable by the value of a device's parameter (a serial number) without storing the value. Of more than
// fifty the first ones count.
func (t *Trace) Parameter(value string) {
	if t == nil || value == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.subjects); t.params < maxParameters {
		t.file(HashedSubject(value))
		t.params += len(t.subjects) - n
	}
}

// HashedSubject is the form under which Parameter files a value.
func HashedSubject(value string) string {
	h := sha256.Sum256([]byte("parameter\x00" + value))
	return "#" + hex.EncodeToString(h[:16])
}

// SetCure says how to mend what failed, where the error itself does not.
func (t *Trace) SetCure(format string, args ...any) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rec.Cure = clip(fmt.Sprintf(format, args...))
}

// DefaultCure says how to mend what failed, unless somebody who knew more has said so.
func (t *Trace) DefaultCure(cure string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rec.Cure == "" {
		t.rec.Cure = clip(cure)
	}
}

// Finish closes the record with the attempt's error, nil for success, and returns it with the values it is found by.
func (t *Trace) Finish(err error) (Record, []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rec.Took = t.clock.Now().Sub(t.rec.Start)
	t.rec.Outcome = OK
	if err != nil {
		t.rec.Outcome, t.rec.Cause = Failed, "internal error"
		var e *fleet.Error
		if errors.As(err, &e) && e.Kind != fleet.KindInternal {
			t.rec.Outcome, t.rec.Code = Refused, e.Code
			bare := *e
			bare.Err = nil
			t.rec.Cause = clip(bare.Error())
			if e.Reason != "" {
				t.rec.Facts["reason"] = e.Reason
			}
		}
		for _, name := range refusalFacts {
			if v := t.rec.Facts[name]; v != "" {
				t.file(v)
			}
		}
	}
	return t.rec, t.subjects
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText-1] + "…"
}
