package template

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Bounds of the registry that a plan must keep (provisioning spec 10.3).
const (
	maxAttributesUntyped      = 3
	maxAttributesTyped        = 50
	maxGroupsPerThing         = 10
	maxPoliciesPerCertificate = 10
)

// Resolve compares what a template desires with what exists and plans what to write. The first thing that stands in the way is
// the error; the plan, never nil, then has the decisions up to it and must not be applied. Kinds of error: KindNotFound for
// a name that doesn't exist, KindConflict for OverrideSettings FAIL and for a thing that somebody else has, KindState for a
// certificate that can't be used, KindLimit, KindInvalid.
func Resolve(snap Snapshot, d *Desired) (*Plan, error) {
	r := &resolver{snap: snap, d: d, plan: &Plan{}}
	for _, step := range []func() error{r.serials, r.guard, r.renewal, r.thing, r.groups, r.billing, r.certificate, r.policies, r.attachment, r.status} {
		if err := step(); err != nil {
			return r.plan, err
		}
	}
	return r.plan, nil
}

type resolver struct {
	snap Snapshot
	d    *Desired
	plan *Plan
}

func (r *resolver) decide(v Verb, resource, name, part, format string, args ...any) {
	r.plan.Decisions = append(r.plan.Decisions, Decision{v, resource, name, part, fmt.Sprintf(format, args...)})
}

// refuse records why a plan ends here and makes its error.
func (r *resolver) refuse(part string, err *fleet.Error) error {
	r.decide(Refuse, err.Resource, err.Name, part, "%s", err.Msg)
	return err
}

func conflict(resource, name, format string, args ...any) *fleet.Error {
	return &fleet.Error{Kind: fleet.KindConflict, Resource: resource, Name: name, Msg: fmt.Sprintf(format, args...)}
}

func (r *resolver) certificateID() string { return r.d.certificateID() }

func (r *resolver) thing() error {
	t := r.d.Thing
	if t == nil {
		return nil
	}
	if t.Type != "" {
		if err := r.thingType(t.Type); err != nil {
			return err
		}
	}
	if r.snap.Thing == nil {
		return r.createThing(t)
	}
	u := &ThingUpdate{Version: r.snap.Thing.Version}
	if err := r.updateType(t, u); err != nil {
		return err
	}
	if err := r.updateAttributes(t, u); err != nil {
		return err
	}
	if u.Type == nil && u.Attributes == nil {
		return nil
	}
	typ, attributes := r.snap.Thing.Type, r.snap.Thing.Attributes
	if u.Type != nil {
		typ = *u.Type
	}
	if u.Attributes != nil {
		attributes = u.Attributes
	}
	r.plan.UpdateThing = u
	return r.countAttributes(t.Name, typ, attributes)
}

func (r *resolver) thingType(name string) error {
	tt := r.snap.ThingType
	switch {
	case tt == nil:
		return r.refuse("", fleet.NotFound("thing type", name))
	case !tt.Deprecated.IsZero() && (r.snap.Thing == nil || r.snap.Thing.Type != name):
		return r.refuse("", fleet.Invalid("thing type", name, "is deprecated: no more things can get it"))
	}
	return nil
}

func (r *resolver) createThing(t *Thing) error {
	attributes := withoutEmpty(t.Attributes)
	if err := r.countAttributes(t.Name, t.Type, attributes); err != nil {
		return err
	}
	r.plan.CreateThing = &fleet.Thing{Name: t.Name, Type: t.Type, Attributes: attributes, BillingGroup: t.BillingGroup}
	r.decide(Create, "thing", t.Name, "", "does not exist yet; %s", count(len(attributes), "attribute"))
	return nil
}

func (r *resolver) countAttributes(name, typ string, attributes map[string]string) error {
	most := maxAttributesUntyped
	if typ != "" {
		most = maxAttributesTyped
	}
	if len(attributes) > most {
		return r.refuse("attributes", fleet.Invalid("thing", name, "would have %d attributes; at most %d with a thing type, %d without",
			len(attributes), maxAttributesTyped, maxAttributesUntyped))
	}
	return nil
}

func (r *resolver) updateType(t *Thing, u *ThingUpdate) error {
	old := r.snap.Thing.Type
	switch {
	case t.Type == "" || t.Type == old:
		return nil
	case t.Override.Type == Replace:
		u.Type = &t.Type
		r.decide(Change, "thing", t.Name, "type", "from %q to %q: OverrideSettings say REPLACE", old, t.Type)
		return nil
	case t.Override.Type == Fail:
		return r.refuse("type", conflict("thing", t.Name, "has the type %q, not %q, and OverrideSettings say FAIL", old, t.Type))
	}
	r.decide(Leave, "thing", t.Name, "type", "stays %q: OverrideSettings say DO_NOTHING", old)
	return nil
}

func (r *resolver) updateAttributes(t *Thing, u *ThingUpdate) error {
	old, want := r.snap.Thing.Attributes, withoutEmpty(t.Attributes)
	if t.Attributes == nil {
		return nil
	}
	if t.Override.Attributes == Merge {
		want = maps.Clone(old)
		if want == nil {
			want = map[string]string{}
		}
		maps.Copy(want, t.Attributes)
		want = withoutEmpty(want) // an empty value takes the attribute away, as in UpdateThing
	}
	switch same := maps.Equal(old, want); {
	case same:
		r.decide(Leave, "thing", t.Name, "attributes", "are as the template wants them")
	case t.Override.Attributes == Replace || t.Override.Attributes == Merge:
		u.Attributes = want
		r.decide(Change, "thing", t.Name, "attributes", "OverrideSettings say %s; %s", t.Override.Attributes, count(len(want), "attribute"))
	case t.Override.Attributes == Fail:
		return r.refuse("attributes", conflict("thing", t.Name, "has other attributes, and OverrideSettings say FAIL"))
	default:
		r.decide(Leave, "thing", t.Name, "attributes", "differ, and OverrideSettings say DO_NOTHING")
	}
	return nil
}

func withoutEmpty(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

func (r *resolver) groups() error {
	t := r.d.Thing
	if t == nil || t.Groups == nil {
		return nil
	}
	for _, name := range t.Groups {
		if _, ok := r.snap.ThingGroups[name]; !ok {
			return r.refuse("", fleet.NotFound("thing group", name))
		}
	}
	after, err := r.membership(t)
	if err != nil {
		return err
	}
	return r.checkGroups(t.Name, after)
}

// membership plans the changes of groups and returns the groups that the thing is in afterwards.
func (r *resolver) membership(t *Thing) (after map[string]fleet.ThingGroup, err error) {
	after = map[string]fleet.ThingGroup{}
	if r.snap.Thing != nil {
		for _, g := range r.snap.Thing.Groups {
			after[g.Name] = g
		}
	}
	var add, leave []string
	for _, name := range t.Groups {
		if _, in := after[name]; !in {
			add = append(add, name)
		}
	}
	for name := range after {
		if !slices.Contains(t.Groups, name) {
			leave = append(leave, name)
		}
	}
	slices.Sort(leave)
	mode := t.Override.Groups
	switch {
	case r.snap.Thing == nil:
		mode = Merge
	case len(add) == 0 && (len(leave) == 0 || mode == Merge):
		r.decide(Leave, "thing", t.Name, "groups", "are as the template wants them")
	case mode == Fail:
		return nil, r.refuse("groups", conflict("thing", t.Name, "is in other thing groups, and OverrideSettings say FAIL"))
	case mode == DoNothing:
		r.decide(Leave, "thing", t.Name, "groups", "differ, and OverrideSettings say DO_NOTHING")
	}
	if mode == Replace {
		r.plan.LeaveGroups = leave
		for _, name := range leave {
			delete(after, name)
			r.decide(Change, "thing group", name, "members", "loses %s: OverrideSettings say REPLACE", t.Name)
		}
	}
	if mode == Replace || mode == Merge {
		r.plan.AddGroups = add
		for _, name := range add {
			after[name] = r.snap.ThingGroups[name]
			r.decide(Change, "thing group", name, "members", "gets %s", t.Name)
		}
	}
	return after, nil
}

// checkGroups keeps two rules of AddThingToThingGroup (iot-core spec 3.3): ten groups, and no two under one root.
func (r *resolver) checkGroups(thing string, after map[string]fleet.ThingGroup) error {
	if len(r.plan.AddGroups) == 0 {
		return nil
	}
	if len(after) > maxGroupsPerThing {
		return r.refuse("groups", fleet.OverLimit("thing", thing, "would be in %d thing groups; %d are allowed", len(after), maxGroupsPerThing))
	}
	roots := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		root := name
		if path := after[name].Path; len(path) > 0 {
			root = path[0]
		}
		if other, taken := roots[root]; taken {
			return r.refuse("groups", fleet.Invalid("thing", thing, "may not be in both %q and %q: the groups have the same root", other, name))
		}
		roots[root] = name
	}
	return nil
}

func (r *resolver) billing() error {
	t := r.d.Thing
	if t == nil || t.BillingGroup == "" {
		return nil
	}
	if !r.snap.BillingGroup {
		return r.refuse("", fleet.NotFound("billing group", t.BillingGroup))
	}
	switch {
	case r.snap.Thing == nil:
		r.decide(Change, "billing group", t.BillingGroup, "members", "gets %s", t.Name)
	case r.snap.Thing.BillingGroup == "":
		r.plan.JoinBilling = t.BillingGroup
		r.decide(Change, "billing group", t.BillingGroup, "members", "gets %s, which has no billing group", t.Name)
	case r.snap.Thing.BillingGroup != t.BillingGroup:
		r.decide(Leave, "thing", t.Name, "billing group", "stays %q", r.snap.Thing.BillingGroup)
	}
	return nil
}

func (r *resolver) certificate() error {
	c := r.d.Certificate
	if c == nil {
		return nil
	}
	id := r.certificateID()
	r.plan.Certificate = id
	if r.snap.Certificate != nil {
		switch s := r.snap.Certificate.Status; s {
		case fleet.PendingTransfer, fleet.RegisterInactive:
			return r.refuse("status", fleet.BadState("certificate", id, "has the status %s", s))
		case fleet.Revoked:
			if c.Override == Replace {
				return r.refuse("status", fleet.BadState("certificate", id, "is revoked and can't be used again"))
			}
		}
		return nil
	}
	if c.Issued == nil {
		return r.refuse("", fleet.NotFound("certificate", id))
	}
	r.plan.CreateCertificate = c.Issued
	r.decide(Create, "certificate", id, "", "is registered")
	return nil
}

func (r *resolver) policies() error {
	var attached []string
	if r.snap.Certificate != nil {
		attached = slices.Clone(r.snap.Certificate.Policies)
	}
	for _, p := range r.d.Policies {
		if err := r.policy(p); err != nil {
			return err
		}
		switch {
		case r.d.Certificate == nil:
			r.decide(Leave, "policy", p.Name, "attachment", "the template has no certificate to attach it to")
		case slices.Contains(attached, p.Name):
			if !slices.Contains(r.plan.AttachPolicies, p.Name) {
				r.decide(Leave, "policy", p.Name, "attachment", "is attached already")
			}
		default:
			attached = append(attached, p.Name)
			r.plan.AttachPolicies = append(r.plan.AttachPolicies, p.Name)
			r.decide(Attach, "policy", p.Name, "", "to the certificate")
		}
	}
	if len(r.plan.AttachPolicies) > 0 && len(attached) > maxPoliciesPerCertificate {
		return r.refuse("policies", fleet.OverLimit("certificate", r.certificateID(), "would have %d policies; %d are allowed", len(attached), maxPoliciesPerCertificate))
	}
	return nil
}

// policy plans one policy: existing ones are used as they are (provisioning spec 4.4).
func (r *resolver) policy(p Policy) error {
	planned := slices.ContainsFunc(r.plan.CreatePolicies, func(n NewPolicy) bool { return n.Name == p.Name })
	switch {
	case r.snap.Policies[p.Name] || planned:
		r.decide(Leave, "policy", p.Name, "", "exists and is used as it is")
	case p.Document == "":
		return r.refuse("", fleet.NotFound("policy", p.Name))
	default:
		r.plan.CreatePolicies = append(r.plan.CreatePolicies, NewPolicy{p.Name, p.Document})
		r.decide(Create, "policy", p.Name, "", "from the template's document, and named after it")
	}
	return nil
}

func (r *resolver) attachment() error {
	t, c := r.d.Thing, r.d.Certificate
	if t == nil || c == nil {
		return nil
	}
	var have []fleet.Attachment
	if r.snap.Certificate != nil {
		have = r.snap.Certificate.Things
	}
	for _, a := range have {
		switch {
		case a.Thing == t.Name && cmp.Or(a.Type, fleet.NonExclusive) == c.PrincipalType:
			r.decide(Leave, "certificate", r.plan.Certificate, "thing", "is attached to %s already", t.Name)
			return nil
		case a.Thing == t.Name:
		case c.PrincipalType == fleet.Exclusive:
			return r.refuse("thing", conflict("certificate", r.plan.Certificate, "is attached to the thing %q and can't be attached to %q exclusively", a.Thing, t.Name))
		case a.Type == fleet.Exclusive:
			return r.refuse("thing", conflict("certificate", r.plan.Certificate, "belongs to the thing %q exclusively", a.Thing))
		}
	}
	r.plan.AttachThing = c.PrincipalType
	r.decide(Attach, "certificate", r.plan.Certificate, "", "to the thing %s as %s", t.Name, c.PrincipalType)
	return nil
}

// status comes last. PENDING_ACTIVATION never counts as an existing status: the way out of it is always the template's
// (provisioning spec 4.4).
func (r *resolver) status() error {
	c := r.d.Certificate
	if c == nil {
		return nil
	}
	id, now := r.plan.Certificate, fleet.PendingActivation
	if r.snap.Certificate != nil {
		now = r.snap.Certificate.Status
	} else if c.Issued != nil && c.Issued.Status != "" {
		now = c.Issued.Status
	}
	fresh := r.snap.Certificate == nil || now == fleet.PendingActivation
	switch {
	case now == c.Status:
		r.decide(Leave, "certificate", id, "status", "is %s already", now)
	case fresh || c.Override == Replace:
		r.plan.Status = c.Status
		r.decide(Change, "certificate", id, "status", "from %s to %s", now, c.Status)
	case c.Override == Fail:
		return r.refuse("status", conflict("certificate", id, "is %s, not %s, and OverrideSettings say FAIL", now, c.Status))
	default:
		r.decide(Leave, "certificate", id, "status", "stays %s: OverrideSettings say DO_NOTHING", now)
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
