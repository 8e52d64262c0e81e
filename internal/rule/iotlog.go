package rule

import (
	"cmp"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
)

// This file tells AWS IoT's log (package logs) what rules do, where their account wants to know.

// about adds what is known of the message.
func about(e *event, entry logs.Event) logs.Event {
	entry.TraceID, entry.Client, entry.Topic = e.traceID, cmp.Or(e.origin.Client, "N/A"), e.message.Topic
	entry.Principal, entry.SourceIP = e.origin.Principal, e.origin.Address
	return entry
}

func (s *Service) log(c *compiled, e *event, level int, entry logs.Event) {
	if s.Logs.Wants(c.scope, entry.Type, level) {
		entry.Rule = c.rule.Name
		s.Logs.Tell(c.scope, level, about(e, entry))
	}
}

// resourceNames are what AWS calls the resource of an action.
var resourceNames = map[string]string{"RepublishAction": "RepublishTopic", "LambdaAction": "FunctionArn", "S3Action": "Bucket", "HttpAction": "Url",
	"CloudwatchLogsAction": "LogGroupName"}

// logExecution tells how an action ended.
func (s *Service) logExecution(j *job, f failure) {
	level := logs.Info
	if f.err != nil {
		level = logs.Error
	}
	if !s.Logs.Wants(j.scope, "RuleExecution", level) {
		return
	}
	entry := logs.Event{Type: "RuleExecution", Action: f.action}
	if f.resource != "" {
		entry.Resources = map[string]string{cmp.Or(resourceNames[f.action], "Resource"): f.resource}
	}
	if f.err != nil {
		entry.Details = f.err.Error()
	}
	s.log(j.compiled, j.event, level, entry)
}

// logMissing tells of a message of Basic Ingest that names no rule.
func (s *Service) logMissing(scope fleet.Scope, m *mqtt.Message, name string) {
	if s.Logs.Wants(scope, "RuleNotFound", logs.Error) {
		s.Logs.Tell(scope, logs.Error, about(newEvent(m, nil), logs.Event{Type: "RuleNotFound", Rule: name, Reason: "RuleNotFound", Details: "Rule " + name + " not found"}))
	}
}
