package registry

import (
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// TrailOf says what a plan that was applied has done beside tying its certificate to its thing. snap is what it came from.
func TrailOf(snap template.Snapshot, p *template.Plan) fleet.Trail {
	var t fleet.Trail
	if p.CreateThing != nil {
		t.ThingID = p.CreateThing.ID
	}
	for _, n := range p.CreatePolicies {
		t.Policies = append(t.Policies, n.Name)
	}
	if snap.Thing == nil || p.UpdateThing == nil && len(p.AddGroups)+len(p.LeaveGroups) == 0 && p.JoinBilling == "" {
		return t
	}
	t.Before = &fleet.ThingBefore{Joined: p.AddGroups, Left: p.LeaveGroups, Billing: p.JoinBilling}
	if p.UpdateThing != nil {
		t.Before.Version, t.Before.Type, t.Before.Attributes = p.UpdateThing.Version+1, snap.Thing.Type, snap.Thing.Attributes
	}
	return t
}

// Undone says what Undo did.
type Undone struct {
	ThingRemoved  bool // the registration, or another one that was undone, had made it
	ThingReleased bool // it was there before, or has other principals, and stays
}

// Undo takes back what the registration of a certificate did, which is marked as contained: the certificate loses its things and
// policies. A thing that a contained registration made goes when it has no principal left; one that was there before gets back
// what the registration changed of it, unless somebody else has changed it since. Policies that it made go when nothing uses them.
// The certificate itself is left to the caller. Undoing twice does no harm.
func Undo(tx *store.Tx, s fleet.Scope, certificate string, reg *store.Registration) (out Undone, err error) {
	arn := s.IoT("cert", certificate)
	if _, err := tx.DetachPolicies(s, arn); err != nil {
		return out, err
	}
	things, _, err := tx.ThingsOf(s, arn, "", fleet.Page{})
	if err != nil {
		return out, err
	}
	for _, a := range things {
		if _, err := tx.DetachThing(s, a.Thing, arn); err != nil {
			return out, err
		}
	}
	if reg == nil {
		out.ThingReleased = len(things) > 0
		return out, nil
	}
	for _, a := range things {
		removed, err := release(tx, s, a.Thing)
		if err != nil {
			return out, err
		}
		out.ThingRemoved, out.ThingReleased = out.ThingRemoved || removed, out.ThingReleased || !removed
	}
	if reg.Trail.Before != nil {
		if err := restore(tx, s, reg.Thing, reg.Trail.Before); err != nil {
			return out, err
		}
		reg.Trail.Before = nil // once is enough: what others change later stays
		if err := tx.PutTrail(s, certificate, reg.Trail); err != nil {
			return out, err
		}
	}
	_, err = removeUnused(tx, s, reg.Trail.Policies)
	return out, err
}

// release removes a thing that has no principal any more if a registration that was undone had made it.
func release(tx *store.Tx, s fleet.Scope, name string) (removed bool, err error) {
	t, err := tx.Thing(s, name)
	if missing(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	left, _, err := tx.PrincipalsOf(s, name, "", fleet.Page{Limit: 1})
	if err != nil || len(left) > 0 {
		return false, err
	}
	history, err := tx.RegistrationsOf(s, name)
	if err != nil || !slices.ContainsFunc(history, func(r store.Registration) bool { return r.Trail.ThingID == t.ID && !r.Contained.IsZero() }) {
		return false, err
	}
	return true, removeThing(tx, s, t)
}

// restore gives a thing back what a registration changed of it.
func restore(tx *store.Tx, s fleet.Scope, name string, b *fleet.ThingBefore) error {
	t, err := tx.Thing(s, name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if b.Version != 0 && t.Version == b.Version {
		old := t
		t.Type, t.Attributes, t.Version = b.Type, b.Attributes, t.Version+1
		if err := replaceThing(tx, s, old, t); err != nil {
			return err
		}
	}
	if b.Billing != "" && t.BillingGroup == b.Billing {
		if err := tx.SetBillingGroup(s, name, ""); err != nil {
			return err
		}
	}
	for _, group := range b.Joined {
		if err := leave(tx, s, name, group); err != nil {
			return err
		}
	}
	for _, group := range b.Left {
		err := AddToGroup(tx, s, name, group)
		if k := kindOf(err); err != nil && k != fleet.KindNotFound && k != fleet.KindInvalid { // the group is gone, or the thing is elsewhere by now
			return err
		}
	}
	return nil
}

func kindOf(err error) fleet.Kind {
	if err == nil {
		return fleet.KindInternal
	}
	return fleet.KindOf(err)
}

// removeUnused deletes those policies that are attached to nothing and have one version, and returns their names.
func removeUnused(tx *store.Tx, s fleet.Scope, names []string) (gone []string, err error) {
	for _, name := range names {
		err := DeletePolicy(tx, s, name)
		if k := kindOf(err); err != nil && k != fleet.KindNotFound && k != fleet.KindInUse {
			return gone, err
		}
		if err == nil {
			gone = append(gone, name)
		}
	}
	return gone, nil
}
