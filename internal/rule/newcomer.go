package rule

import (
	"encoding/json"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

// newcomer is the certificate of a device that waits for its activation, if the message is the service's event of that (iot-core spec 7.3), else
// "". What a rule made of it is told in a trace whatever the outcome: a function that decides on devices says no by doing nothing, and
// whoever asks why a device may not come in should hear what it wrote.
func (e *event) newcomer() string {
	if !strings.HasPrefix(e.message.Topic, fleet.RegisteredTopic) || e.origin.Client != "" {
		return ""
	}
	var about struct {
		ID string `json:"certificateId"`
	}
	if json.Unmarshal(e.message.Payload, &about) != nil || len(about.ID) != 64 {
		return ""
	}
	return about.ID
}

// tell tells what a rule did about a newcomer.
func (s *Service) tell(j *job) {
	id := j.event.newcomer()
	if id == "" || len(j.said) == 0 {
		return
	}
	t := s.newTrace(j.compiled, j.event)
	for _, text := range j.said {
		t.Step("action", "rule %s: %s", j.rule.Name, text)
	}
	s.Recorder.Finish(t, nil)
}

// newTrace begins a trace of a rule that has worked on a message.
func (s *Service) newTrace(c *compiled, e *event) *trace.Trace {
	t := trace.New(c.scope, trace.Rule, s.Clock)
	t.Fact("rule", c.rule.Name)
	t.Fact("topic", e.message.Topic)
	t.Fact("clientId", e.origin.Client)
	t.Fact("sourceIp", e.origin.Address)
	t.Fact("certificateId", e.newcomer())
	if len(e.origin.Principal) == 64 { // a certificate
		t.Fact("certificateId", e.origin.Principal)
	}
	return t
}
