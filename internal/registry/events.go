package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Events of the registry (iot-core spec 7.2). They are written in the transaction of what they tell, if the account wants them, and
// published when it is committed: at least once, also if the power goes in between.

// Operations of events. Their topics end in them, in lower case.
const (
	created = "CREATED"
	updated = "UPDATED"
	deleted = "DELETED"
	added   = "ADDED"
	removed = "REMOVED"
)

var lastLevel = map[string]string{created: "created", updated: "updated", deleted: "deleted", added: "added", removed: "removed"}

// wanted reports whether the account wants events of a type.
func wanted(tx *store.Tx, s fleet.Scope, eventType string) (bool, error) {
	e, err := tx.EventConfigurations(s)
	return slices.Contains(e.Enabled, eventType), err
}

// announce writes an event of a type that is wanted. topic is without $aws/events/ and the operation; members that have no value are nil.
func announce(tx *store.Tx, s fleet.Scope, eventType, operation, topic string, members map[string]any) error {
	now := tx.Now()
	id := fleet.NewTimeUUID(now)
	members["eventType"], members["eventId"], members["timestamp"] = eventType+"_EVENT", id, now.UnixMilli()
	members["operation"], members["accountId"] = operation, s.Account
	payload, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return tx.PutEvent(store.Event{Scope: s, ID: id, Topic: "$aws/events/" + topic + "/" + lastLevel[operation], Payload: string(payload)})
}

// orNull is how events show a text that is absent.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// thingChanged tells of a thing, and of what its thing type was before.
func thingChanged(tx *store.Tx, s fleet.Scope, operation string, t fleet.Thing, before string) error {
	if on, err := wanted(tx, s, "THING"); err != nil {
		return err
	} else if on {
		if err := announce(tx, s, "THING", operation, "thing/"+t.Name, map[string]any{"thingId": t.ID, "thingName": t.Name, "versionNumber": t.Version,
			"thingTypeName": orNull(t.Type), "attributes": mergeAttributes(nil, t.Attributes, false)}); err != nil {
			return err
		}
	}
	after := t.Type
	if operation == deleted {
		after = ""
	}
	if before == after {
		return nil
	}
	on, err := wanted(tx, s, "THING_TYPE_ASSOCIATION")
	if err != nil || !on {
		return err
	}
	for _, change := range []struct{ operation, name string }{{removed, before}, {added, after}} {
		if change.name == "" {
			continue
		}
		if err := announce(tx, s, "THING_TYPE_ASSOCIATION", change.operation, "thingTypeAssociation/thing/"+t.Name+"/thingType/"+change.name,
			map[string]any{"thingId": t.ID, "thingName": t.Name, "thingTypeName": change.name}); err != nil {
			return err
		}
	}
	return nil
}

// insertThing, replaceThing and removeThing write a thing and its events.
func insertThing(tx *store.Tx, s fleet.Scope, t fleet.Thing) error {
	if err := tx.CreateThing(s, t); err != nil {
		return err
	}
	return thingChanged(tx, s, created, t, "")
}

func replaceThing(tx *store.Tx, s fleet.Scope, old, t fleet.Thing) error {
	if err := tx.UpdateThing(s, old, t); err != nil {
		return err
	}
	return thingChanged(tx, s, updated, t, old.Type)
}

func removeThing(tx *store.Tx, s fleet.Scope, t fleet.Thing) error {
	on, err := wanted(tx, s, "THING_GROUP_MEMBERSHIP")
	if err != nil {
		return err
	}
	if on {
		in, _, err := tx.GroupsOf(s, t.Name, fleet.Page{})
		if err != nil {
			return err
		}
		for _, g := range in {
			if err := membershipChanged(tx, s, removed, t, g); err != nil {
				return err
			}
		}
	}
	if err := tx.DeleteThing(s, t); err != nil {
		return err
	}
	return thingChanged(tx, s, deleted, t, t.Type)
}

func membershipChanged(tx *store.Tx, s fleet.Scope, operation string, t fleet.Thing, g fleet.ThingGroup) error {
	sum := sha256.Sum256([]byte(g.ID + "/" + t.ID))
	return announce(tx, s, "THING_GROUP_MEMBERSHIP", operation, "thingGroupMembership/thingGroup/"+g.Name+"/thing/"+t.Name,
		map[string]any{"groupArn": s.IoT("thinggroup", g.Name), "groupId": g.ID, "thingArn": s.IoT("thing", t.Name), "thingId": t.ID,
			"membershipId": hex.EncodeToString(sum[:16])})
}

// join and leave change a membership, with its event. They do nothing where it is so already.
func join(tx *store.Tx, s fleet.Scope, thing, group string) error {
	changed, err := tx.AddToGroup(s, thing, group)
	if err != nil || !changed {
		return err
	}
	return tellMembership(tx, s, added, thing, group)
}

func leave(tx *store.Tx, s fleet.Scope, thing, group string) error {
	changed, err := tx.RemoveFromGroup(s, thing, group)
	if err != nil || !changed {
		return err
	}
	return tellMembership(tx, s, removed, thing, group)
}

func tellMembership(tx *store.Tx, s fleet.Scope, operation, thing, group string) error {
	on, err := wanted(tx, s, "THING_GROUP_MEMBERSHIP")
	if err != nil || !on {
		return err
	}
	t, err := tx.Thing(s, thing)
	if err != nil {
		return err
	}
	g, err := tx.Group(s, group)
	if err != nil {
		return err
	}
	return membershipChanged(tx, s, operation, t, g)
}

// groupChanged tells of a group, and of its place when it comes or goes.
func groupChanged(tx *store.Tx, s fleet.Scope, operation string, g fleet.ThingGroup) error {
	group, err := wanted(tx, s, "THING_GROUP")
	if err != nil {
		return err
	}
	place, err := wanted(tx, s, "THING_GROUP_HIERARCHY")
	if err != nil || !group && !place {
		return err
	}
	ancestors, parent := []map[string]string{}, fleet.ThingGroup{}
	for _, name := range g.Path {
		if parent, err = tx.Group(s, name); err != nil {
			return err
		}
		ancestors = append(ancestors, map[string]string{"groupArn": s.IoT("thinggroup", name), "groupId": parent.ID})
	}
	if group {
		if err := announce(tx, s, "THING_GROUP", operation, "thingGroup/"+g.Name, map[string]any{"thingGroupId": g.ID, "thingGroupName": g.Name, "versionNumber": g.Version,
			"parentGroupName": orNull(parent.Name), "parentGroupId": orNull(parent.ID), "description": orNull(g.Description), "rootToParentThingGroups": ancestors,
			"attributes": mergeAttributes(nil, g.Attributes, false), "dynamicGroupMappingId": nil}); err != nil {
			return err
		}
	}
	move, ok := map[string]string{created: added, deleted: removed}[operation]
	if !place || !ok || parent.Name == "" {
		return nil
	}
	return announce(tx, s, "THING_GROUP_HIERARCHY", move, "thingGroupHierarchy/thingGroup/"+parent.Name+"/childThingGroup/"+g.Name,
		map[string]any{"thingGroupId": parent.ID, "thingGroupName": parent.Name, "childGroupId": g.ID, "childGroupName": g.Name})
}

func typeChanged(tx *store.Tx, s fleet.Scope, operation string, t fleet.ThingType) error {
	on, err := wanted(tx, s, "THING_TYPE")
	if err != nil || !on {
		return err
	}
	m := map[string]any{"thingTypeId": t.ID, "thingTypeName": t.Name, "isDeprecated": !t.Deprecated.IsZero(), "deprecationDate": nil,
		"searchableAttributes": append([]string{}, t.Searchable...), "description": orNull(t.Description)}
	if !t.Deprecated.IsZero() {
		m["deprecationDate"] = t.Deprecated.UnixMilli()
	}
	return announce(tx, s, "THING_TYPE", operation, "thingType/"+t.Name, m)
}

// putType stores a thing type with its event.
func putType(tx *store.Tx, s fleet.Scope, operation string, t fleet.ThingType) error {
	if err := tx.PutThingType(s, t); err != nil {
		return err
	}
	return typeChanged(tx, s, operation, t)
}

const (
	eventsAtOnce = 100
	eventsAgain  = time.Second // after one could not be published
)

// PublishEvents publishes the events of all scopes after their commit, until ctx ends; what is left is published after the next start.
// publish returns when an event is safe.
func PublishEvents(ctx context.Context, db *store.DB, publish func(ctx context.Context, e store.Event) error, failed func(error)) {
	woken := make(chan struct{}, 1)
	wake := func() {
		select {
		case woken <- struct{}{}:
		default: // it will look
		}
	}
	db.Listen(func(changes []store.Change) {
		if slices.ContainsFunc(changes, func(c store.Change) bool { return c.Kind == store.ChangedEventQueue }) {
			wake()
		}
	})
	wake() // what was left
	for {
		select {
		case <-woken:
		case <-ctx.Done():
			return
		}
		n, err := publishSome(ctx, db, publish)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failed(err)
			select {
			case <-time.After(eventsAgain):
			case <-ctx.Done():
				return
			}
			wake()
		case n > 0:
			wake()
		}
	}
}

func publishSome(ctx context.Context, db *store.DB, publish func(context.Context, store.Event) error) (n int, err error) {
	var list []store.Event
	if err := db.View(ctx, func(tx *store.Tx) error {
		list, err = tx.Events(eventsAtOnce)
		return err
	}); err != nil || len(list) == 0 {
		return 0, err
	}
	for i, e := range list {
		if err = publish(ctx, e); err != nil {
			list = list[:i]
			break
		}
	}
	if gone := db.Tx(ctx, func(tx *store.Tx) error { return tx.DeleteEvents(list) }); gone != nil {
		return 0, gone
	}
	return len(list), err
}
