package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/rulesql"
)

// An event is a message that rules run on.
type event struct {
	message *mqtt.Message
	origin  mqtt.Origin
	facts   rulesql.Message
	traceID string // of cloudwatchTraceId, and traceid() of what came by MQTT
	size    int64  // about what the message occupies in a queue

	left atomic.Int32 // rules that have not finished, and one more until all have it
	done func()
}

func newEvent(m *mqtt.Message, done func()) *event {
	e := &event{message: m, done: done, traceID: fleet.NewUUID()}
	if m.Origin != nil {
		e.origin = *m.Origin
	}
	if e.origin.Kin == nil {
		e.origin.Kin = &mqtt.Family{}
	}
	e.facts = rulesql.Message{Payload: m.Payload, Topic: m.Topic, ClientID: e.origin.Client, Principal: e.origin.Principal, SourceIP: e.origin.Address}
	if e.origin.Client != "" {
		e.facts.TraceID = e.traceID
	}
	e.size = m.Size() + 128 // facts share its texts
	if p := m.Props; p != nil {
		e.facts.Properties = &rulesql.Properties{ContentType: p.ContentType, UTF8: p.UTF8, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData,
			User: make([]rulesql.UserProperty, len(p.User))}
		e.size += int64(32 * len(p.User)) // the pairs of facts
		for i, u := range p.User {
			e.facts.Properties.User[i] = rulesql.UserProperty{Name: u.Key, Value: u.Value}
		}
	}
	e.left.Store(1)
	return e
}

// finish says that a rule has finished with the message.
func (e *event) finish() {
	if e.left.Add(-1) == 0 {
		e.done()
	}
}

// topic is the message's topic as rules see it: without the prefix of Basic Ingest.
func (e *event) topic() string {
	if rest, ok := strings.CutPrefix(e.message.Topic, ingestPrefix); ok {
		_, rest, _ = strings.Cut(rest, "/")
		return rest
	}
	return e.message.Topic
}

// run has a rule work on a message. If the service ends meanwhile the message is not finished with.
func (s *Service) run(c *compiled, e *event) {
	outcome := s.work(c, e)
	if s.ctx.Err() != nil && outcome == Failed {
		return
	}
	s.OnMessage(outcome)
	e.finish()
}

func (s *Service) work(c *compiled, e *event) (outcome string) {
	result, err := s.evaluate(c, e)
	var failures []failure
	j := &job{compiled: c, event: e, result: result}
	switch {
	case err != nil:
		s.log(c, e, logs.Error, logs.Event{Type: "RuleExecution", Action: "Statement", Details: err.Error()})
		failures = []failure{{action: "Statement", resource: c.rule.Name, err: err}}
	case !result.Matched:
		return Filtered
	default:
		s.log(c, e, logs.Info, logs.Event{Type: "RuleMatch"})
		failures = s.act(j)
	}
	if len(failures) == 0 {
		s.tell(j)
		return Done
	}
	if s.ctx.Err() == nil {
		s.fail(c, e, failures)
	}
	return Failed
}

// evaluate works the statement out. Few do so at a time, since nothing but the processor bounds it.
func (s *Service) evaluate(c *compiled, e *event) (result rulesql.Result, err error) {
	select {
	case s.compute <- struct{}{}:
	case <-s.ctx.Done():
		return result, s.ctx.Err()
	}
	defer func() { <-s.compute }()
	defer s.recovered(c, &err)
	return c.statement.Run(&e.facts, c.env)
}

// recovered turns a panic into an error: one message must not end the service.
func (s *Service) recovered(c *compiled, err *error) {
	if p := recover(); p != nil {
		s.Log.Error("a rule panics", "account", c.scope.Account, "rule", c.rule.Name, "panic", p, "stack", string(debug.Stack()))
		*err = errors.New("it failed for a reason that is not its own; the service's log tells more")
	}
}

// A job is a message that the statement has selected.
type job struct {
	*compiled
	event  *event
	result rulesql.Result

	mu   sync.Mutex
	said []string // what actions have to tell
}

// say notes what an action has to tell of itself.
func (j *job) say(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.said = append(j.said, fmt.Sprintf(format, args...))
}

// fill puts values into a text. Something that has no value, an Undefined one above all, is an error only where text must be complete.
func (j *job) fill(t *rulesql.Text) (text string, complete bool, err error) {
	return t.Fill(&j.event.facts, j.env)
}

// must fills in a field that means nothing without one of its values.
func (j *job) must(field string, t *rulesql.Text) (text string, err error) {
	text, complete, err := j.fill(t)
	if err == nil && !complete {
		err = fmt.Errorf("a value of the %s %s is undefined", field, t)
	}
	return text, err
}

// A failure is an action that could not be done.
type failure struct {
	action, resource string
	err              error
}

// act does all actions, at the same time: one that fails changes nothing for the others.
func (s *Service) act(j *job) (failures []failure) {
	if len(j.actions) == 1 {
		if f := s.do(j, j.actions[0]); f.err != nil {
			failures = append(failures, f)
		}
		return failures
	}
	outcomes := make([]failure, len(j.actions))
	var wg sync.WaitGroup
	for i, a := range j.actions {
		wg.Go(func() { outcomes[i] = s.do(j, a) })
	}
	wg.Wait()
	for _, f := range outcomes {
		if f.err != nil {
			failures = append(failures, f)
		}
	}
	return failures
}

// do does one action.
func (s *Service) do(j *job, a action) (f failure) {
	start := time.Now() // a duration; the clock may be moved
	f.action = a.name()
	s.log(j.compiled, j.event, logs.Debug, logs.Event{Type: "StartingRuleExecution", Action: f.action})
	f.resource, f.err = s.try(j, a)
	s.logExecution(j, f)
	outcome := OK
	if f.err != nil {
		outcome = Failed
	}
	s.OnAction(f.action, outcome, time.Since(start))
	return f
}

func (s *Service) try(j *job, a action) (resource string, err error) {
	defer s.recovered(j.compiled, &err)
	return a.do(s.ctx, j)
}

// fail tells what went wrong: in a trace, and to the error action.
func (s *Service) fail(c *compiled, e *event, failures []failure) {
	t := s.newTrace(c, e)
	for _, f := range failures {
		t.Step("action", "%s on %s: %v", f.action, f.resource, f.err)
	}
	if c.onError != nil {
		f := s.do(&job{compiled: c, event: e, result: rulesql.Result{Matched: true, Payload: e.report(c, failures), JSON: true}}, c.onError)
		if f.err != nil {
			t.Step("error action", "%s on %s: %v", f.action, f.resource, f.err)
		} else {
			t.Step("error action", "%s on %s was done", f.action, f.resource)
		}
	}
	first := failures[0]
	t.DefaultCure(cureOf(c, first))
	s.Recorder.Finish(t, causeOf(c, first))
}

// causeOf is a failure as traces show it.
func causeOf(c *compiled, f failure) error {
	var e *fleet.Error
	if errors.As(f.err, &e) && e.Kind == fleet.KindInternal {
		return fmt.Errorf("rule %s: %w", c.rule.Name, f.err)
	}
	return &fleet.Error{Kind: fleet.KindUnavailable, Msg: fmt.Sprintf("rule %s: %s on %s: %v", c.rule.Name, f.action, f.resource, f.err)}
}

// A report is what an error action gets (iot-core spec 8.5).
type report struct {
	Rule     string          `json:"ruleName"`
	Topic    string          `json:"topic"`
	Trace    string          `json:"cloudwatchTraceId"`
	Client   string          `json:"clientId"`
	Payload  []byte          `json:"base64OriginalPayload"`
	Failures []failureReport `json:"failures"`
}

type failureReport struct {
	Action   string `json:"failedAction"`
	Resource string `json:"failedResource"`
	Message  string `json:"errorMessage"`
}

func (e *event) report(c *compiled, failures []failure) []byte {
	r := report{Rule: c.rule.Name, Topic: e.topic(), Trace: e.traceID, Client: e.origin.Client, Payload: e.message.Payload}
	if r.Client == "" {
		r.Client = "N/A"
	}
	for _, f := range failures {
		r.Failures = append(r.Failures, failureReport{f.action, f.resource, f.err.Error()})
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic("rule: a report is JSON: " + err.Error()) // texts only
	}
	return b
}
