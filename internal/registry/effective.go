package registry

import (
	"encoding/pem"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// EffectivePolicies returns the documents in force for a principal, which is an identity of pool if that is not "", and for the
// groups of a thing with their ancestors. One of the two may be "".
func EffectivePolicies(tx *store.Tx, s fleet.Scope, principal, pool, thing string) ([]store.EffectivePolicy, error) {
	if principal == "" && thing == "" {
		return nil, fleet.Invalid("request", "", "Name a principal, a thing or both")
	}
	if principal != "" || pool != "" {
		if err := CheckPrincipalOf(tx, s, pool, principal); err != nil {
			return nil, err
		}
	}
	if thing != "" {
		if _, err := tx.Thing(s, thing); err != nil {
			return nil, err
		}
	}
	return tx.EffectivePolicies(s, principal, thing)
}

// A Rehearsal asks what a principal's connection would be allowed to do (iot-core spec 5.10).
type Rehearsal struct {
	Principal string
	Pool      string   // identity pool that the principal is an identity of; "": nothing is said
	ClientID  string   // "": none
	Add, Skip []string // policies to count in addition, and to leave out
	Actions   []RehearsedAction
}

// A RehearsedAction is one action (PUBLISH, SUBSCRIBE, RECEIVE or CONNECT) on some resources.
type RehearsedAction struct {
	Type      string
	Resources []string // ARNs
}

// An Outcome is the answer to one RehearsedAction: allowed if all its resources are, denied explicitly if one of them is.
type Outcome struct {
	Decision policy.Decision
	Allowing []string // names of policies with an Allow for one of the resources
	Denying  []string // names of policies with a Deny for one of them
	Silent   []string // names of policies that say nothing about one of them
	Missing  []string // variables without a value
}

var rehearsedActions = map[string]string{"PUBLISH": "iot:Publish", "SUBSCRIBE": "iot:Subscribe", "RECEIVE": "iot:Receive", "CONNECT": "iot:Connect"}

// Rehearse decides each action of q as the gateway would.
func Rehearse(tx *store.Tx, s fleet.Scope, q Rehearsal) ([]Outcome, error) {
	if q.Principal == "" {
		return nil, fleet.Invalid("request", "", "Name the principal whose connection to try")
	}
	if err := CheckPrincipalOf(tx, s, q.Pool, q.Principal); err != nil {
		return nil, err
	}
	ctx, thing, err := connectionContext(tx, s, q.Principal, q.ClientID)
	if err != nil {
		return nil, err
	}
	if q.Pool != "" {
		ctx.Set(fleet.IdentityPools+":aud", q.Pool)
		ctx.Set(fleet.IdentityPools+":sub", q.Principal)
	}
	docs, err := rehearsedPolicies(tx, s, q, thing)
	if err != nil {
		return nil, err
	}
	out := make([]Outcome, len(q.Actions))
	for i, a := range q.Actions {
		action, ok := rehearsedActions[a.Type]
		if !ok {
			return nil, fleet.Invalid("action type", a.Type, "must be PUBLISH, SUBSCRIBE, RECEIVE or CONNECT")
		}
		out[i] = outcome(docs, action, a.Resources, ctx)
	}
	return out, nil
}

func rehearsedPolicies(tx *store.Tx, s fleet.Scope, q Rehearsal, thing string) ([]policy.Named, error) {
	effective, err := tx.EffectivePolicies(s, q.Principal, thing)
	if err != nil {
		return nil, err
	}
	for _, name := range q.Add {
		p, err := tx.Policy(s, name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(effective, func(e store.EffectivePolicy) bool { return e.Name == name }) {
			effective = append(effective, store.EffectivePolicy{Name: name, Document: p.Document})
		}
	}
	var docs []policy.Named
	for _, e := range effective {
		if slices.Contains(q.Skip, e.Name) {
			continue
		}
		d, err := policy.Parse(e.Document, policy.IoT)
		if err != nil {
			return nil, err
		}
		docs = append(docs, policy.Named{Name: e.Name, Doc: d})
	}
	return docs, nil
}

func outcome(docs []policy.Named, action string, resources []string, ctx policy.Context) Outcome {
	o := Outcome{Decision: policy.Allowed}
	add := func(list *[]string, names ...string) {
		for _, n := range names {
			if !slices.Contains(*list, n) {
				*list = append(*list, n)
			}
		}
	}
	for _, resource := range resources {
		r := policy.Request{Action: action, Resource: resource, Context: ctx}
		all := policy.Evaluate(docs, r)
		add(&o.Missing, all.Missing...)
		if o.Decision != policy.ExplicitDeny && !all.Allowed() {
			o.Decision = all.Decision
		}
		for i := range docs {
			switch policy.Evaluate(docs[i:i+1], r).Decision {
			case policy.Allowed:
				add(&o.Allowing, docs[i].Name)
			case policy.ExplicitDeny:
				add(&o.Denying, docs[i].Name)
			default:
				add(&o.Silent, docs[i].Name)
			}
		}
	}
	return o
}

// connectionContext is what policies could know about a connection of principal, and the thing that it stands for.
func connectionContext(tx *store.Tx, s fleet.Scope, principal, clientID string) (ctx policy.Context, thing string, err error) {
	ctx = policy.Context{}
	if a, ok := fleet.ParseARN(principal); ok {
		c, err := tx.Certificate(s, a.Name())
		if err != nil {
			return nil, "", err
		}
		if block, _ := pem.Decode([]byte(c.PEM)); block != nil {
			facts, err := pki.ParseFacts(block.Bytes)
			if err != nil {
				return nil, "", err
			}
			for k, v := range facts.Context() {
				ctx[k] = v
			}
		}
	}
	if clientID != "" {
		ctx.Set(policy.KeyClientID, clientID)
	}
	t, attached, err := tx.AssociatedThing(s, principal, clientID)
	if err != nil {
		return nil, "", err
	}
	ctx.Set(policy.KeyThingIsAttached, "false")
	if attached {
		ctx.Set(policy.KeyThingIsAttached, "true")
		ctx.Set(policy.KeyThingName, t.Name)
		if t.Type != "" {
			ctx.Set(policy.KeyThingTypeName, t.Type)
		}
		for k, v := range t.Attributes {
			ctx.Set(policy.ThingAttributeKey(k), v)
		}
	}
	return ctx, t.Name, nil
}
