package logs

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is AWS IoT's own log of what devices and rules do: who connects, publishes and subscribes, and what rules make of it.

// IoTGroup is the log that events go to unless their options name another, IoTStream who writes there.
const (
	IoTGroup  = "AWSIotLogsV2"
	IoTStream = "imprint"
)

// Levels of events, as they stand in fleet.LogLevels.
const (
	Disabled = iota
	Error
	Warn
	Info
	Debug
)

// EventTypes are those that are logged here.
var EventTypes = []string{"Connect", "Disconnect", "DeleteConnection", "GetRetainedMessage", "ListRetainedMessage", "Publish-In", "Subscribe", "Unsubscribe",
	"RuleMatch", "StartingRuleExecution", "RuleExecution", "RuleNotFound", "RuleMessageThrottled"}

// An Event is an entry of that log, with AWS's names. Members that it lacks are left out.
type Event struct {
	Timestamp        string            `json:"timestamp"` // set by Tell
	Level            string            `json:"logLevel"`  // set by Tell
	TraceID          string            `json:"traceId"`   // set by Tell if there is none
	AccountID        string            `json:"accountId"` // set by Tell
	Status           string            `json:"status"`    // set by Tell
	Type             string            `json:"eventType"`
	Protocol         string            `json:"protocol,omitempty"`
	Topic            string            `json:"topicName,omitempty"`
	Client           string            `json:"clientId,omitempty"`
	Principal        string            `json:"principalId,omitempty"`
	SourceIP         string            `json:"sourceIp,omitempty"`
	SourcePort       int               `json:"sourcePort,omitempty"`
	Rule             string            `json:"ruleName,omitempty"`
	Action           string            `json:"ruleAction,omitempty"`
	Resources        map[string]string `json:"resources,omitempty"`
	Reason           string            `json:"reason,omitempty"`
	Details          string            `json:"details,omitempty"` // why it failed; a Failure has one
	DisconnectReason string            `json:"disconnectReason,omitempty"`
}

// told is an event that waits to be written.
type told struct {
	scope fleet.Scope
	group string
	entry fleet.LogEntry
}

// A choice is what a scope's options come down to: the level of each type, and its group.
type choice struct {
	role   string
	level  int
	events map[string]fleet.LogEventOptions
}

type choices struct {
	changes uint64
	of      map[fleet.Scope]*choice
}

// Wants reports whether a scope has events of a type and level logged. It is asked for each message and answers from memory.
func (s *Service) Wants(scope fleet.Scope, eventType string, level int) bool {
	if s == nil {
		return false
	}
	c := s.choice(scope)
	return c != nil && c.levelOf(eventType) >= level
}

func (c *choice) levelOf(eventType string) int {
	if e := c.events[eventType]; e.Level != "" {
		return slices.Index(fleet.LogLevels, e.Level)
	}
	return c.level
}

// choice returns what a scope wants; nil: nothing.
func (s *Service) choice(scope fleet.Scope) *choice {
	if now := s.choices.Load(); now != nil && now.changes == s.changes.Load() {
		return now.of[scope]
	}
	return s.loadChoices().of[scope]
}

func (s *Service) loadChoices() *choices {
	now := &choices{changes: s.changes.Load(), of: map[fleet.Scope]*choice{}}
	err := s.Store.View(s.ctx, func(tx *store.Tx) error {
		options, err := tx.AllLoggingOptions()
		for scope, o := range options {
			if c := choiceOf(o); c != nil {
				now.of[scope] = c
			}
		}
		return err
	})
	if err != nil {
		s.Log.Error("reading what is to be logged", "error", err)
		return now // and ask again
	}
	s.choices.Store(now)
	return now
}

// choiceOf is nil if nothing is to be logged.
func choiceOf(o fleet.LoggingOptions) *choice {
	if o.Off {
		return nil
	}
	c := &choice{role: o.Role, level: max(Disabled, slices.Index(fleet.LogLevels, o.Level)), events: map[string]fleet.LogEventOptions{}}
	any := c.level > Disabled
	for _, e := range o.Events {
		c.events[e.Type] = e
		any = any || slices.Index(fleet.LogLevels, e.Level) > Disabled
	}
	if !any {
		return nil
	}
	return c
}

// Tell logs an event, if the scope wants it. It waits for nothing: what finds no room is counted. level is Error for what failed.
func (s *Service) Tell(scope fleet.Scope, level int, e Event) {
	if !s.Wants(scope, e.Type, level) {
		return
	}
	c := s.choice(scope)
	if c == nil { // it has changed meanwhile
		return
	}
	now := s.Clock.Now()
	e.Timestamp, e.Level, e.AccountID, e.Status = now.UTC().Format("2006-01-02 15:04:05.000"), fleet.LogLevels[level], scope.Account, "Success"
	if level == Error {
		e.Status = "Failure"
	}
	if e.TraceID == "" {
		e.TraceID = fleet.NewUUID()
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic("logs: an event is JSON: " + err.Error()) // texts only
	}
	group := c.events[e.Type].Group
	if group == "" {
		group = IoTGroup
	}
	if !s.queue.Put(told{scope, group, fleet.LogEntry{Time: now, Message: strings.ToValidUTF8(string(text), "\ufffd")}}) {
		s.dropped.Add(1)
	}
}

// write stores a batch of events, in the roles that their accounts have named. What a role does not allow is dropped, as on AWS.
func (s *Service) write(ctx context.Context, batch []told) error {
	type place struct {
		scope fleet.Scope
		group string
	}
	var places []place
	entries := map[place][]fleet.LogEntry{}
	for _, t := range batch {
		p := place{t.scope, t.group}
		if entries[p] == nil {
			places = append(places, p)
		}
		entries[p] = append(entries[p], t.entry)
	}
	for _, p := range places {
		if err := s.writeTo(ctx, p.scope, p.group, entries[p]); err != nil {
			s.dropped.Add(int64(len(entries[p])))
			s.Log.Warn("what devices do cannot be logged", "account", p.scope.Account, "group", p.group, "error", err, "lost", len(entries[p]))
		}
	}
	return nil
}

func (s *Service) writeTo(ctx context.Context, scope fleet.Scope, group string, entries []fleet.LogEntry) error {
	permit := func(resource string, actions ...string) error {
		return s.Store.View(ctx, func(tx *store.Tx) error {
			o, err := tx.LoggingOptions(scope)
			if err != nil {
				return err
			}
			caller, err := s.Permissions.AssumeForService(tx, scope, o.Role, iotService)
			for _, action := range actions {
				if err == nil {
					err = s.Permissions.AuthorizeTx(tx, caller, action, resource, policy.Context{})
				}
			}
			return err
		})
	}
	return s.Write(ctx, scope, group, IoTStream, entries, permit)
}

const iotService = "iot.amazonaws.com"

// Options returns what a scope has asked to have logged. It fails with KindNotFound, as NotConfiguredException, if it never did.
func (s *Service) Options(ctx context.Context) (o fleet.LoggingOptions, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		o, err = tx.LoggingOptions(fleet.CallerFrom(ctx).Scope)
		return err
	})
	if fleet.KindOf(err) == fleet.KindNotFound {
		err = (&fleet.Error{Kind: fleet.KindNotFound, Msg: "Logging options are not configured"}).WithCode("NotConfiguredException")
	}
	return o, err
}

// An OptionsChange holds what SetV2LoggingOptions gives; nil stays as it is.
type OptionsChange struct {
	Role, Level *string
	Off         *bool
	Events      []fleet.LogEventOptions // nil: stay
}

// SetOptions changes what a scope has logged, for the caller of ctx, who has to be allowed to pass the role. Kinds of errors: KindInvalid,
// KindDenied.
func (s *Service) SetOptions(ctx context.Context, change OptionsChange) error {
	caller := fleet.CallerFrom(ctx)
	for _, e := range change.Events {
		switch {
		case !slices.Contains(EventTypes, e.Type):
			return fleet.Invalid("eventConfigurations", e.Type, "is no type of event that is logged here: those are %s", strings.Join(EventTypes, ", "))
		case e.Group != "" && !fleet.ValidLogGroupName(e.Group):
			return fleet.Invalid("logDestination", e.Group, "is no name of a log group: 1 to 512 letters, digits and . - _ / # are allowed")
		}
	}
	if change.Role != nil {
		if err := s.Permissions.PassRole(ctx, caller, *change.Role, iotService); err != nil {
			return err
		}
	}
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		o, err := tx.LoggingOptions(caller.Scope)
		if err != nil && fleet.KindOf(err) != fleet.KindNotFound {
			return err
		}
		if change.Role != nil {
			o.Role = *change.Role
		}
		if o.Role == "" {
			return fleet.Invalid("roleArn", "", "must be given: the role that logs are written in")
		}
		if change.Level != nil {
			o.Level = *change.Level
		}
		if change.Off != nil {
			o.Off = *change.Off
		}
		if change.Events != nil {
			o.Events = change.Events
		}
		return tx.PutLoggingOptions(caller.Scope, o)
	})
}

// changed has the next question about levels read them anew.
func (s *Service) changed(changes []store.Change) {
	for _, c := range changes {
		if c.Kind == store.ChangedLogging {
			s.changes.Add(1)
		}
	}
}

// Flush returns when every event that was told before has been written. It ends early with ctx.
func (s *Service) Flush(ctx context.Context) { s.queue.Flush(ctx) }

// Dropped returns how many events could not be written: there was no room, or the role does not allow it.
func (s *Service) Dropped() int64 { return s.dropped.Load() }

// Close writes what is queued. Nothing can be told afterwards.
func (s *Service) Close() {
	s.stop()
	s.queue.Close()
}
