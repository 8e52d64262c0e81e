package server

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/telemetry"
	"github.com/imprint-iot/imprint/internal/wire"
)

// openTelemetry opens what sends spans, if there is to be one.
func (s *Server) openTelemetry(ctx context.Context) (err error) {
	if s.cfg.OTLPEndpoint == "" {
		return nil
	}
	if s.spans, err = telemetry.Open(ctx, s.cfg.OTLPEndpoint, s.cfg.Version); err != nil {
		return fmt.Errorf("otlp-endpoint: %w", err)
	}
	return nil
}

// The functions below hear of work that is done and tell both who counts and who traces.

func (s *Server) handshakeDone(cause string, took time.Duration) {
	s.handshakes.Add(1)
	s.metrics.Handshake(cause, took)
	if s.spans != nil {
		s.spans.Send(telemetry.Span{Name: "handshake", Took: took, Failed: ours(cause == "internal", cause), Attributes: map[string]string{"imprint.cause": cause}})
	}
}

// flowDone hears of a step of provisioning over MQTT.
func (s *Server) flowDone(kind, code, traceID string, took time.Duration) {
	fault := code == "InternalFailure"
	s.metrics.Flow(kind, code, fault, took)
	if s.spans != nil {
		s.spans.Send(telemetry.Span{Name: "provisioning " + kind, Took: took, Failed: ours(fault, code),
			Attributes: map[string]string{"imprint.code": code, "imprint.trace_id": traceID}})
	}
}

func (s *Server) commitDone(group int, took time.Duration, err error) {
	s.metrics.Commit(group, took, err)
	if s.spans != nil {
		s.spans.Send(telemetry.Span{Name: "commit", Took: took, Failed: ours(err != nil, "error"), Attributes: map[string]string{"imprint.group": strconv.Itoa(group)}})
	}
}

// requestDone hears of an answered request whose service and operation are words of ours.
func (s *Server) requestDone(e wire.Event) {
	s.metrics.Request(e.Service, e.Operation, e.Status, e.Duration)
	if s.spans == nil {
		return
	}
	s.spans.Send(telemetry.Span{Name: "request " + e.Service + " " + e.Operation, Took: e.Duration, Failed: ours(e.Status >= 500, e.Code), Attributes: map[string]string{
		"rpc.service": e.Service, "rpc.method": e.Operation, "http.response.status_code": strconv.Itoa(e.Status), "imprint.code": e.Code, "imprint.request_id": e.RequestID}})
}

// ours is the word for a fault of ours, and nothing if it is none.
func ours(fault bool, word string) string {
	if fault {
		return word
	}
	return ""
}
