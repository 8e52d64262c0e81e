package rule

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/trace"
)

var (
	here  = fleet.Scope{Account: "000000000000", Region: "us-east-1"}
	there = fleet.Scope{Account: "111111111111", Region: "us-east-1"}
)

// A world is rules behind a broker, on a store and with an IAM of their own. Functions are those that a test makes.
type world struct {
	*Service
	t      testing.TB
	db     *store.DB
	iam    *iam.Service
	broker *mqtt.Broker

	mu        sync.Mutex
	functions map[string]func(event string) error // by name
	outcomes  map[string]int                      // of messages
	actions   map[string]int                      // by name and outcome
	missing   int
	changed   chan struct{} // closed at each change of the above
	traces    []trace.Record
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, functions: map[string]func(string) error{}, outcomes: map[string]int{}, actions: map[string]int{}, changed: make(chan struct{})}
	var err error
	w.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000})
	w.ok(err)
	w.iam = iam.New(iam.Config{Store: w.db, Sealer: pki.NewSealer([pki.KeySize]byte{1})})
	recorder := trace.NewRecorder(trace.RecorderConfig{Save: func(_ context.Context, list []trace.Finished) error {
		w.note(func() {
			for _, f := range list {
				w.traces = append(w.traces, f.Record)
			}
		})
		return nil
	}})
	log := logs.New(logs.Config{Store: w.db, Permissions: w.iam})
	cfg := Config{Store: w.db, Permissions: w.iam, Functions: w, Logs: log, Recorder: recorder, Again: []time.Duration{time.Nanosecond, time.Nanosecond},
		Publish:   func(ctx context.Context, s fleet.Scope, m *mqtt.Message) error { return w.broker.Publish(ctx, s, m) },
		OnMessage: func(outcome string) { w.note(func() { w.outcomes[outcome]++ }) },
		OnAction:  func(action, outcome string, _ time.Duration) { w.note(func() { w.actions[action+" "+outcome]++ }) },
		OnMissing: func() { w.note(func() { w.missing++ }) }}
	for _, f := range change {
		f(&cfg)
	}
	w.Service = New(cfg)
	w.broker = mqtt.New(mqtt.Config{Rules: w.Service})
	for _, s := range []fleet.Scope{here, there} {
		w.role(s, "publisher", "iot:Publish", "*")
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), mqtttest.Patience())
		defer cancel()
		w.Service.Close(ctx)
		w.ok(w.broker.Close(ctx))
		log.Close()
		recorder.Close()
		w.ok(w.db.Close())
	})
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// note changes what a test may wait for.
func (w *world) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// until waits for what holds.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	late := time.After(mqtttest.Patience())
	for {
		w.mu.Lock()
		done, changed := holds(), w.changed
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("waited in vain for: %s; messages %v, actions %v", what, w.outcomes, w.actions)
		}
	}
}

// role makes a role that rules may be done in.
func (w *world) role(s fleet.Scope, name, action, resource string) {
	w.t.Helper()
	_, err := w.iam.CreateRole(w.t.Context(), s, iam.Entity{Name: name, Path: "/", Body: iam.Body{
		Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`}})
	w.ok(err)
	w.ok(w.iam.PutInline(w.t.Context(), s, store.IAMRole, name, "p",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"`+action+`","Resource":"`+resource+`"}]}`))
}

// CallFunction implements Functions.
func (w *world) CallFunction(_ context.Context, s fleet.Scope, function, _ string, event []byte) (string, error) {
	a, _ := fleet.ParseARN(function)
	w.mu.Lock()
	f := w.functions[s.Account+" "+functionName(a)]
	w.mu.Unlock()
	if f == nil {
		return "", fleet.Invalid("function", function, "there is no such function")
	}
	return "; it wrote \"" + functionName(a) + "\"", f(string(event))
}

// handle makes a function.
func (w *world) handle(s fleet.Scope, name string, f func(event string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.functions[s.Account+" "+name] = f
}

// collect makes a function that keeps the events that it gets.
func (w *world) collect(s fleet.Scope, name string) func() []string {
	var events []string
	w.handle(s, name, func(event string) error {
		w.note(func() { events = append(events, event) })
		return nil
	})
	return func() []string { return slices.Clone(events) }
}

// as is the administrator of an account.
func as(ctx context.Context, s fleet.Scope) context.Context {
	return fleet.WithCaller(ctx, &fleet.Caller{Scope: s, Kind: fleet.Root, ARN: s.IAM("root")})
}

func lambdaTo(s fleet.Scope, name string) fleet.RuleAction {
	return fleet.RuleAction{Lambda: &fleet.LambdaAction{Function: s.ARN("lambda", "function:"+name)}}
}

func republishTo(s fleet.Scope, topic string) fleet.RuleAction {
	return fleet.RuleAction{Republish: &fleet.RepublishAction{Role: s.IAM("role/publisher"), Topic: topic}}
}

// rule makes a rule.
func (w *world) rule(s fleet.Scope, name, sql string, actions ...fleet.RuleAction) {
	w.t.Helper()
	w.ok(w.Create(as(w.t.Context(), s), fleet.TopicRule{Name: name, SQL: sql, SQLVersion: "2016-03-23", Actions: actions}, nil))
}

// publish publishes as a device does.
func (w *world) publish(s fleet.Scope, topic, payload string) {
	w.t.Helper()
	w.ok(w.broker.Publish(w.t.Context(), s, &mqtt.Message{Topic: topic, Payload: []byte(payload),
		Origin: &mqtt.Origin{Client: "lamp", Principal: strings.Repeat("ab", 32), Address: "10.1.2.3"}}))
}

// subscribe returns what comes to a topic of an account; a message is its topic, a blank and its payload.
func (w *world) subscribe(s fleet.Scope, filter string) *mqtttest.Client {
	w.t.Helper()
	near, far := net.Pipe()
	go w.broker.Serve(context.Background(), far, mqtt.Identity{Scope: s, Principal: "p", Access: everything{}})
	c := mqtttest.New(w.t, near, 5).Connected("subscriber")
	c.Subscribe(filter)
	return c
}

type everything struct{}

func (everything) Connect(context.Context, *mqtt.Connect) error { return nil }
func (everything) Publish(string, bool) error                   { return nil }
func (everything) Subscribe(string) error                       { return nil }
func (everything) Receive(string) error                         { return nil }

// trace returns the trace of a rule, once there is one.
func (w *world) trace(rule string) (found trace.Record) {
	w.t.Helper()
	w.until("a trace of rule "+rule, func() bool {
		i := slices.IndexFunc(w.traces, func(r trace.Record) bool { return r.Facts["rule"] == rule })
		if i >= 0 {
			found = w.traces[i]
		}
		return i >= 0
	})
	return found
}

func refused(t testing.TB, err error, kind fleet.Kind, code, text string) {
	t.Helper()
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %v %s with %q", err, kind, code, text)
	}
}

// fields are the members of a JSON object.
func fields(t testing.TB, text string) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}
