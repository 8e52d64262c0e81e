package iam

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Simulation asks what somebody could do.
type Simulation struct {
	Principal string // ARN of a user, role or group; "" for whoever has Policies alone

	Actions   []string
	Resources []string // "*" if none are given
	Policies  []string // documents that come on top of those of the principal
	Boundary  []string // documents in place of the principal's permissions boundary
	Context   policy.Context
}

// A Simulated is the answer for one action on one resource.
type Simulated struct {
	Action, Resource string
	Decision         policy.Decision
	Bounded          bool // there is a permissions boundary; it allows the action if Within
	Within           bool
	Matched          []SimulatedStatement // those that decided
	Missing          []string             // condition keys that were asked for and had no value
}

// A SimulatedStatement is where a statement stands.
type SimulatedStatement struct {
	Policy, Kind string // name; user, group, role, aws-managed, user-managed or none
	Start, End   policy.Position
}

// maxSimulated bounds the work of one request: actions times resources.
const maxSimulated = 1000

// Simulate decides as Authorize would, for a principal that need not have asked anything. What a real request brings along, such as its
// address, is in q.Context or missing.
func (s *Service) Simulate(ctx context.Context, scope fleet.Scope, q Simulation) ([]Simulated, error) {
	if len(q.Resources) == 0 {
		q.Resources = []string{"*"}
	}
	if n := len(q.Actions) * len(q.Resources); n > maxSimulated {
		return nil, invalidInput("%d actions on %d resources are more than %d questions at once", len(q.Actions), len(q.Resources), maxSimulated)
	}
	for _, a := range q.Actions {
		if service, name, ok := strings.Cut(a, ":"); !ok || service == "" || name == "" || strings.ContainsAny(a, "*? ") {
			return nil, invalidInput("%s is not the name of an action, like iot:Connect", a)
		}
	}
	caller := &fleet.Caller{Scope: scope}
	var rules policy.Rules
	if q.Principal != "" {
		err := s.db.View(ctx, func(tx *store.Tx) (err error) {
			caller, rules, err = s.imagine(tx, scope, q.Principal)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	more, err := inputs("PolicyInputList", q.Policies)
	if err != nil {
		return nil, err
	}
	rules.Policies = append(rules.Policies, more...)
	bound, err := inputs("PermissionsBoundaryPolicyInputList", q.Boundary)
	if err != nil {
		return nil, err
	}
	if len(bound) > 0 {
		rules.Boundary = bound
	}
	facts := s.facts(caller, nil)
	for k, v := range q.Context {
		facts.Set(k, v...)
	}
	var out []Simulated
	for _, action := range q.Actions {
		for _, resource := range q.Resources {
			out = append(out, simulate(rules, caller, action, resource, facts))
		}
	}
	return out, nil
}

func simulate(rules policy.Rules, caller *fleet.Caller, action, resource string, facts policy.Context) Simulated {
	r := policy.Request{Action: action, Resource: resource, Context: facts}
	v := evaluate(rules, caller, action, resource, func() policy.Context { return facts })
	out := Simulated{Action: action, Resource: resource, Decision: v.Decision, Bounded: rules.Boundary != nil}
	if out.Bounded {
		out.Within = policy.Evaluate(rules.Boundary, r).Allowed()
	}
	effect := policy.Allow
	if v.Decision == policy.ExplicitDeny {
		effect = policy.Deny
	}
	docs := append(rules.Policies[:len(rules.Policies):len(rules.Policies)], rules.Boundary...)
	list, missing := policy.Matches(docs, r)
	out.Missing = missing
	for _, m := range list {
		if m.Effect != effect || m.Doc >= len(rules.Policies) && effect == policy.Allow {
			continue
		}
		st := SimulatedStatement{Policy: docs[m.Doc].Name, Kind: docs[m.Doc].From}
		st.Start, st.End = policy.Positions(docs[m.Doc].Doc.Text(), m.Statement)
		out.Matched = append(out.Matched, st)
	}
	return out
}

// inputs parses the policies that a request brings, named as AWS does.
func inputs(list string, documents []string) (out []policy.Named, err error) {
	for i, text := range documents {
		name := list + "." + strconv.Itoa(i+1)
		d, err := policy.Parse(text, policy.Identity)
		if err != nil {
			return nil, invalidInput("%s: %v", name, err)
		}
		out = append(out, policy.Named{Name: name, Doc: d, From: "none"})
	}
	return out, nil
}

// imagine makes the caller that a user or role would be, with its rules. A group is nobody in particular, with the group's policies.
func (s *Service) imagine(tx *store.Tx, scope fleet.Scope, arn string) (*fleet.Caller, policy.Rules, error) {
	c := &fleet.Caller{Scope: scope}
	a, ok := fleet.ParseARN(arn)
	kind := a.Kind()
	if !ok || a.Service != "iam" || kind != store.IAMUser && kind != store.IAMRole && kind != store.IAMGroup {
		return nil, policy.Rules{}, invalidInput("%s is no user, role or group", arn)
	}
	if a.Account != scope.Account {
		return nil, policy.Rules{}, noSuch("The %s with ARN %s cannot be found.", kind, arn)
	}
	e, err := get(tx, scope, kind, lastSegment(a.Name()))
	if err == nil && e.ARN(scope) != arn {
		err = noSuch("The %s with ARN %s cannot be found.", kind, arn)
	}
	if err != nil {
		return nil, policy.Rules{}, err
	}
	if kind == store.IAMGroup {
		list, err := s.policiesOf(tx, scope, kind, e.Name)
		return c, policy.Rules{Policies: list}, err
	}
	c.Name, c.Tags, c.UserID, c.ARN, c.Kind = e.Name, e.Tags, e.ID, arn, fleet.IAMUser
	if kind == store.IAMRole {
		c.Kind, c.RoleARN = fleet.RoleSession, arn
	}
	rules, err := s.entityRules(tx, scope, e)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
		err = noSuch("A policy of %s is gone.", arn)
	}
	return c, rules, err
}
