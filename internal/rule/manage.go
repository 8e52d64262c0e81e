package rule

import (
	"context"
	"encoding/json"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/rulesql"
	"github.com/imprint-iot/imprint/internal/store"
)

// Bounds of rules (iot-core spec 8.1).
const (
	maxRules   = 1000
	maxActions = 10
	maxRule    = 256 << 10 // bytes
)

// Denied is what is said of a rule that does not exist: AWS does not tell it from one that is somebody else's (iot-core spec 3.10).
func denied(name string) error {
	return fleet.Denied("Access to topic rule '%s' was denied", name).WithCode("UnauthorizedException")
}

// orDenied puts that in place of KindNotFound.
func orDenied(err error, name string) error {
	if err != nil && fleet.KindOf(err) == fleet.KindNotFound {
		return denied(name)
	}
	return err
}

// Create adds a rule, for the caller of ctx, who has to be allowed to pass its roles. Kinds of errors: KindInvalid (statements have the
// code SqlParseException), KindExists, KindDenied.
func (s *Service) Create(ctx context.Context, r fleet.TopicRule, tags []fleet.Tag) error {
	caller := fleet.CallerFrom(ctx)
	r, err := s.check(ctx, caller, r)
	if err != nil {
		return err
	}
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.TopicRule(caller.Scope, r.Name)
		if err == nil {
			return fleet.Exists("", "", "Rule with name %s already exists", r.Name).With("resourceId", r.Name).With("resourceArn", ARN(caller.Scope, r.Name))
		}
		if fleet.KindOf(err) != fleet.KindNotFound {
			return err
		}
		n, err := tx.CountTopicRules(caller.Scope)
		if err != nil {
			return err
		}
		if n >= maxRules {
			return fleet.Invalid("topic rule", r.Name, "would be one too many: %d are allowed", maxRules)
		}
		created := r
		created.Created = tx.Now()
		if err := tx.PutTopicRule(caller.Scope, created); err != nil {
			return err
		}
		return registry.PutNewTags(tx, caller.Scope, "rule/"+r.Name, tags)
	})
}

// Replace gives a rule another content; its tags and time of creation stay. Kinds of errors are those of Create but KindExists.
func (s *Service) Replace(ctx context.Context, r fleet.TopicRule) error {
	caller := fleet.CallerFrom(ctx)
	r, err := s.check(ctx, caller, r)
	if err != nil {
		return err
	}
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		old, err := tx.TopicRule(caller.Scope, r.Name)
		if err != nil {
			return orDenied(err, r.Name)
		}
		replaced := r
		replaced.Created = old.Created
		return tx.PutTopicRule(caller.Scope, replaced)
	})
}

// check completes a rule that somebody wants to have and refuses what cannot be.
func (s *Service) check(ctx context.Context, caller *fleet.Caller, r fleet.TopicRule) (fleet.TopicRule, error) {
	if r.SQLVersion == "" {
		r.SQLVersion = string(rulesql.V2015)
	}
	text, err := json.Marshal(r)
	switch {
	case err != nil:
		return r, err
	case !fleet.ValidTopicRuleName(r.Name):
		return r, fleet.Invalid("topic rule", r.Name, "has no valid name: 1 to 128 letters, digits or '_' are allowed")
	case len(r.Actions) > maxActions:
		return r, fleet.Invalid("topic rule", r.Name, "has %d actions; at most %d are allowed", len(r.Actions), maxActions)
	case len(text) > maxRule:
		return r, fleet.Invalid("topic rule", r.Name, "is larger than %d bytes", maxRule)
	}
	c, err := s.compile(caller.Scope, r)
	if err != nil {
		return r, err
	}
	r.Filter, _ = c.statement.Filter()
	actions := r.Actions
	if r.ErrorAction != nil {
		actions = append(actions[:len(actions):len(actions)], *r.ErrorAction)
	}
	for _, a := range actions {
		for _, role := range a.Roles() {
			if err := s.Permissions.PassRole(ctx, caller, role, iotService); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// Get returns a rule. It fails with KindDenied if there is none.
func (s *Service) Get(ctx context.Context, name string) (r fleet.TopicRule, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		r, err = tx.TopicRule(fleet.CallerFrom(ctx).Scope, name)
		return orDenied(err, name)
	})
	return r, err
}

// Enable turns a rule on or off. It fails with KindDenied if there is none.
func (s *Service) Enable(ctx context.Context, name string, on bool) error {
	scope := fleet.CallerFrom(ctx).Scope
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		r, err := tx.TopicRule(scope, name)
		if err != nil || r.Disabled == !on {
			return orDenied(err, name)
		}
		r.Disabled = !on
		return tx.PutTopicRule(scope, r)
	})
}

// Delete removes a rule; one that does not exist is no error.
func (s *Service) Delete(ctx context.Context, name string) error {
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.DeleteTopicRule(fleet.CallerFrom(ctx).Scope, name)
		return err
	})
}

// List lists rules by name: those that select topic, if it is not "", and those that are disabled or not, if disabled is not nil.
func (s *Service) List(ctx context.Context, topic string, disabled *bool, p fleet.Page) (list []fleet.TopicRule, next string, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	if topic == "" {
		err = s.Store.View(ctx, func(tx *store.Tx) error {
			list, next, err = tx.TopicRules(scope, disabled, p)
			return err
		})
		return list, next, err
	}
	var all []fleet.TopicRule // a thousand at most
	if err = s.Store.View(ctx, func(tx *store.Tx) error {
		all, _, err = tx.TopicRules(scope, disabled, fleet.Page{After: p.After})
		return err
	}); err != nil {
		return nil, "", err
	}
	for _, r := range all {
		if r.Filter == "" || !fleet.TopicMatches(r.Filter, topic) {
			continue
		}
		if p.Limit > 0 && len(list) == p.Limit {
			return list, list[len(list)-1].Name, nil
		}
		list = append(list, r)
	}
	return list, "", nil
}
