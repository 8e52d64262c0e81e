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
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/rule"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
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
		Objects: s.objects, Logs: s.logs, HTTP: s.egress, BaseURL: s.site.baseURL(), Credentials: s.ruleCredentials,
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

// ruleCredentials makes credentials of a role for requests that a rule signs. They live as long as AWS's shortest.
func (s *Server) ruleCredentials(ctx context.Context, scope fleet.Scope, role, rule string) (sigv4.Credentials, error) {
	out, err := s.serviceSession(ctx, scope, role, iotService, rule, "iot-rule", 15*time.Minute)
	return sigv4.Credentials{AccessKeyID: out.AccessKeyID, Secret: out.Secret, Token: out.Token}, err
}

const iotService = "iot.amazonaws.com"

// publishEvents publishes the events of the registry, until ctx ends.
func (s *Server) publishEvents(ctx context.Context) {
	registry.PublishEvents(ctx, s.db, func(ctx context.Context, e store.Event) error {
		// QoS 1 for those who ask for it (iot-core spec 7).
		return s.gateway.Broker().Publish(ctx, e.Scope, &mqtt.Message{Topic: e.Topic, Payload: []byte(e.Payload), QoS: 1})
	}, func(err error) { s.log.Error("publishing events of the registry", "error", err) })
}

// ruleTime is how long a function may take for a rule: as long as a function may take at all.
const ruleTime = 15 * time.Minute

// CallFunction implements rule.Functions.
func (s *ruleCalls) CallFunction(ctx context.Context, scope fleet.Scope, function, ruleARN string, event []byte) (wrote string, err error) {
	for _, slots := range []chan struct{}{s.of(scope), s.all} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	_, wrote, err = s.hooks.Call(ctx, hook.Call{Scope: scope, Function: function, Service: iotService, Source: ruleARN, Event: event, Timeout: ruleTime, Alone: true})
	if errors.Is(err, lambda.ErrNotPermitted) {
		err = fmt.Errorf("%w: %w", rule.ErrNotPermitted, err)
	}
	return wrote, err
}
