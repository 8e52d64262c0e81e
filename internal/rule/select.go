package rule

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/rulesql"
	"github.com/imprint-iot/imprint/internal/store"
)

// A compiled rule, ready to run. Its rule never changes.
type compiled struct {
	scope     fleet.Scope
	rule      fleet.TopicRule
	arn       string
	statement *rulesql.Statement
	actions   []action
	onError   action // nil without
	env       *rulesql.Environment
	lane      *lane
	queue     queue
}

// A ruleset is the enabled rules of a scope.
type ruleset struct {
	named map[string]*compiled
	first map[string][]*compiled // by the first level of their filter
	wild  []*compiled            // whose filter begins with a wildcard

	destinations map[string]string // status by confirmation URL
}

// catalog keeps the rules of each scope, compiled, until one of them changes.
type catalog struct {
	mu      sync.RWMutex
	sets    map[fleet.Scope]*ruleset
	changes uint64 // of rules, counted

	loading sync.Mutex
	last    map[fleet.Scope]*ruleset // what sets had before a change: rules that are the same go on
}

func (c *catalog) get(s fleet.Scope) (set *ruleset, changes uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.sets[s], c.changes
}

// changed forgets the rules of scopes whose rules have changed, before whoever changed them has the answer.
func (s *Service) changed(changes []store.Change) {
	for _, ch := range changes {
		if ch.Kind != store.ChangedTopicRule {
			continue
		}
		c := &s.catalog
		c.mu.Lock()
		c.changes++
		delete(c.sets, ch.Scope)
		c.mu.Unlock()
	}
}

// rules returns the rules of a scope as they are now.
func (s *Service) rules(ctx context.Context, scope fleet.Scope) (*ruleset, error) {
	c := &s.catalog
	if set, _ := c.get(scope); set != nil {
		return set, nil
	}
	c.loading.Lock()
	defer c.loading.Unlock()
	for {
		set, before := c.get(scope)
		if set != nil {
			return set, nil
		}
		var list []fleet.TopicRule
		var to []fleet.RuleDestination
		if err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
			if list, _, err = tx.TopicRules(scope, new(false), fleet.Page{}); err == nil {
				to, _, err = tx.RuleDestinations(scope, fleet.Page{})
			}
			return err
		}); err != nil {
			return nil, err
		}
		set = s.compileAll(scope, list, c.last[scope])
		for _, d := range to {
			set.destinations[d.URL] = d.Status
		}
		c.mu.Lock()
		current := c.changes == before
		if current {
			if c.sets == nil {
				c.sets, c.last = map[fleet.Scope]*ruleset{}, map[fleet.Scope]*ruleset{}
			}
			c.sets[scope], c.last[scope] = set, set
		}
		c.mu.Unlock()
		if current {
			return set, nil
		}
	}
}

// compileAll makes a ruleset. Rules that old has as they are keep their queues.
func (s *Service) compileAll(scope fleet.Scope, list []fleet.TopicRule, old *ruleset) *ruleset {
	set := &ruleset{named: map[string]*compiled{}, first: map[string][]*compiled{}, destinations: map[string]string{}}
	for _, r := range list {
		var c *compiled
		if old != nil {
			c = old.named[r.Name]
		}
		if c == nil || !reflect.DeepEqual(c.rule, r) {
			var err error
			if c, err = s.compile(scope, r); err != nil { // of another version of ours
				s.Log.Error("a stored rule cannot be used", "account", scope.Account, "rule", r.Name, "error", err)
				continue
			}
		}
		set.named[r.Name] = c
		switch first, _, _ := strings.Cut(r.Filter, "/"); first {
		case "": // none, or one that begins with a slash
			if r.Filter != "" {
				set.first[first] = append(set.first[first], c)
			}
		case "+", "#":
			set.wild = append(set.wild, c)
		default:
			set.first[first] = append(set.first[first], c)
		}
	}
	return set
}

// compile makes a rule ready. Errors are of KindInvalid and say how to mend it.
func (s *Service) compile(scope fleet.Scope, r fleet.TopicRule) (*compiled, error) {
	version := rulesql.Version(r.SQLVersion)
	st, err := rulesql.Parse(r.SQL, version)
	if err != nil {
		return nil, err
	}
	c := &compiled{scope: scope, rule: r, arn: ARN(scope, r.Name), statement: st, lane: s.lanes.of(scope),
		env: &rulesql.Environment{Account: scope.Account, Now: s.Clock.Now}}
	for _, a := range r.Actions {
		p, err := s.prepare(scope, a, version)
		if err != nil {
			return nil, err
		}
		c.actions = append(c.actions, p)
	}
	if r.ErrorAction != nil {
		c.onError, err = s.prepare(scope, *r.ErrorAction, version)
	}
	return c, err
}

// selects returns the rules whose filter selects a topic.
func (set *ruleset) selects(topic string) (list []*compiled) {
	first, _, _ := strings.Cut(topic, "/")
	for _, group := range [][]*compiled{set.first[first], set.wild} {
		for _, c := range group {
			if fleet.TopicMatches(c.rule.Filter, topic) {
				list = append(list, c)
			}
		}
	}
	return list
}

// Select implements mqtt.Rules.
func (s *Service) Select(ctx context.Context, scope fleet.Scope, m *mqtt.Message) (mqtt.Work, error) {
	set, err := s.rules(ctx, scope)
	if err != nil {
		return nil, err
	}
	var list []*compiled
	if rest, ok := strings.CutPrefix(m.Topic, ingestPrefix); ok {
		name, _, _ := strings.Cut(rest, "/")
		c := set.named[name]
		if c == nil {
			s.Log.Debug("no rule of this name", "account", scope.Account, "rule", name)
			s.OnMissing()
			s.logMissing(scope, m, name)
			return nil, nil
		}
		list = []*compiled{c}
	} else if len(set.named) > 0 {
		list = set.selects(m.Topic)
	}
	if len(list) == 0 {
		return nil, nil
	}
	return &work{s, m, list}, nil
}

// ingestPrefix begins topics that name the one rule that a message is for (iot-core spec 6.11).
const ingestPrefix = "$aws/rules/"

// work is a message with its rules.
type work struct {
	s       *Service
	message *mqtt.Message
	rules   []*compiled
}

// Begin implements mqtt.Work. If one rule at least has room, those without miss the message.
func (w *work) Begin(accepted bool, done func()) error {
	e := newEvent(w.message, done)
	none := true
	for _, c := range w.rules {
		e.left.Add(1)
		if w.s.enqueue(c, e, accepted) {
			none = false
			continue
		}
		e.left.Add(-1)
		w.s.OnMessage(Dropped)
		w.s.log(c, e, logs.Error, logs.Event{Type: "RuleMessageThrottled", Reason: "RuleExecutionThrottled", Details: "Message for Rule " + c.rule.Name + " throttled"})
	}
	if none {
		names := slices.Collect(func(yield func(string) bool) {
			for _, c := range w.rules {
				if !yield(c.rule.Name) {
					return
				}
			}
		})
		return fleet.OverLimit("topic rule", strings.Join(names, ", "), "has more messages waiting than it may")
	}
	e.finish()
	return nil
}
