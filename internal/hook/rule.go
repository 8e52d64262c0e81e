package hook

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/rulesql"
	"github.com/imprint-iot/imprint/internal/store"
)

// askRule works a rule out over the device's parameters. It allows if the rule is true and changes no parameter.
func (s *Service) askRule(ctx context.Context, f fleet.Function, e provision.HookEvent) (provision.HookAnswer, error) {
	x, err := s.rules.compile(f.Rule)
	if err != nil {
		return provision.HookAnswer{}, err
	}
	var v rulesql.Verdict
	var failed error
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		v, failed = x.Evaluate(rulesql.Strings(e.Parameters), &rulesql.Environment{Account: e.Scope.Account, Now: s.Clock.Now,
			Table: func(table, key string) (bool, error) { return tx.TableHas(e.Scope, table, key) }})
		return nil
	})
	switch {
	case err != nil:
		return provision.HookAnswer{}, err
	case failed != nil:
		return provision.HookAnswer{}, wrong("the rule cannot be worked out: %w", failed)
	}
	reason, cure := explain(v, e)
	return provision.HookAnswer{Allow: v.Holds, Reason: reason, Cure: cure}, nil
}

// explain tells a verdict by the names of parameters, never by their values.
func explain(v rulesql.Verdict, e provision.HookEvent) (reason, cure string) {
	parts := []string{"the rule is true"}
	if !v.Holds {
		parts[0] = "the rule is not true"
	}
	for _, l := range v.Lookups {
		what := "a value made of the parameters"
		for _, name := range slices.Sorted(maps.Keys(e.Parameters)) {
			if e.Parameters[name] == l.Key {
				what = "the value of " + clip(name)
				break
			}
		}
		if l.Found {
			parts = append(parts, "the table "+l.Table+" has "+what)
			continue
		}
		parts = append(parts, "the table "+l.Table+" lacks "+what)
		if !v.Holds && cure == "" {
			cure = "if the device is yours: imprint table put " + l.Table + " VALUE, with " + what
		}
	}
	for _, name := range v.Missing {
		parts = append(parts, "the device sent no "+clip(name))
	}
	return strings.Join(parts, "; "), cure
}

// compiled keeps rules that were compiled.
type compiled struct {
	mu sync.Mutex
	m  map[string]*rulesql.Expression
}

// maxCompiled bounds them; beyond it, the cache begins anew.
const maxCompiled = 512

func (c *compiled) compile(rule string) (*rulesql.Expression, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.m[rule]; x != nil {
		return x, nil
	}
	x, err := rulesql.ParseExpression(rule)
	if err != nil {
		return nil, err
	}
	if c.m == nil || len(c.m) >= maxCompiled {
		c.m = map[string]*rulesql.Expression{}
	}
	c.m[rule] = x
	return x, nil
}
