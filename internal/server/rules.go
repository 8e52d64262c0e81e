package server

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/hook"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/rule"
)

// newRules makes what runs topic rules, which publishes through the gateway that is made after it.
func (s *Server) newRules() *rule.Service {
	atOnce := s.cfg.FunctionsAtOnce
	if atOnce <= 0 {
		atOnce = max(4, 2*runtime.GOMAXPROCS(0))
	}
	return rule.New(rule.Config{Store: s.db, Permissions: s.iam, Functions: newRuleCalls(s, atOnce), Recorder: s.recorder, Clock: s.clock, Log: s.log,
		Publish: func(ctx context.Context, scope fleet.Scope, m *mqtt.Message) error {
			return s.gateway.Broker().Publish(ctx, scope, m)
		},
		OnMessage: s.metrics.RuleMessage, OnAction: s.metrics.RuleAction, OnMissing: s.metrics.RuleNotFound})
}

// ruleCalls has the functions of hooks handle what rules select. Rules get half of the functions that may run at a time, so that hooks,
// for which devices wait, have the rest; one account gets half of that.
type ruleCalls struct {
	*Server
	all   chan struct{}
	share int

	mu   sync.Mutex
	each map[fleet.Scope]chan struct{}
}

func newRuleCalls(s *Server, atOnce int) *ruleCalls {
	half := max(1, atOnce/2)
	return &ruleCalls{Server: s, all: make(chan struct{}, half), share: max(1, half/2), each: map[fleet.Scope]chan struct{}{}}
}

func (s *ruleCalls) of(scope fleet.Scope) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.each[scope] == nil {
		s.each[scope] = make(chan struct{}, s.share)
	}
	return s.each[scope]
}

// ruleTime is how long a function may take for a rule: as long as a function may take at all.
const ruleTime = 15 * time.Minute

// CallFunction implements rule.Functions.
func (s *ruleCalls) CallFunction(ctx context.Context, scope fleet.Scope, function, ruleARN string, event []byte) error {
	for _, slots := range []chan struct{}{s.of(scope), s.all} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err := s.hooks.Call(ctx, hook.Call{Scope: scope, Function: function, Service: "iot.amazonaws.com", Source: ruleARN, Event: event, Timeout: ruleTime, Alone: true})
	if errors.Is(err, lambda.ErrNotPermitted) {
		return fmt.Errorf("%w: %w", rule.ErrNotPermitted, err)
	}
	return err
}
