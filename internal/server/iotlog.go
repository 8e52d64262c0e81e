package server

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/api/iotdata"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/wire"
)

// dataTypes are the types of entries in AWS IoT's log of what is done over HTTPS.
var dataTypes = map[string]string{"Publish": "Publish-In", "GetRetainedMessage": "GetRetainedMessage", "ListRetainedMessages": "ListRetainedMessage", "DeleteConnection": "DeleteConnection"}

// logData tells of a request to the data plane, where its account wants to know.
func (s *Server) logData(next func(wire.Event)) func(wire.Event) {
	return func(e wire.Event) {
		next(e)
		kind, level := dataTypes[e.Operation], logs.Info
		if e.Err != nil {
			level = logs.Error
		}
		if e.Service != iotdata.Model.Name() || kind == "" || e.Caller == nil || !s.logs.Wants(e.Caller.Scope, kind, level) {
			return
		}
		entry := logs.Event{Type: kind, TraceID: e.RequestID, Protocol: "HTTP", Principal: e.Caller.UserID, SourceIP: e.Caller.SourceIP}
		for _, arn := range e.Resources {
			entry.Topic, _ = strings.CutPrefix(arn, e.Caller.Scope.IoT("topic", ""))
			if client, ok := strings.CutPrefix(arn, e.Caller.Scope.IoT("client", "")); ok {
				entry.Topic, entry.Client = "", client
			}
		}
		if e.Err != nil {
			entry.Reason, entry.Details = e.Code, e.Err.Error()
		}
		s.logs.Tell(e.Caller.Scope, level, entry)
	}
}
