package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

// events returns what a change had written to be published, and forgets it: the topics behind $aws/events/, in their order, and payloads
// by topic.
func (w *world) events() (topics []string, payloads map[string]string) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error {
		topics, payloads = nil, map[string]string{}
		list, err := tx.Events(1000)
		for _, e := range list {
			topic := strings.TrimPrefix(e.Topic, "$aws/events/")
			topics, payloads[topic] = append(topics, topic), e.Payload
		}
		if err == nil {
			err = tx.DeleteEvents(list)
		}
		return err
	})
	slices.Sort(topics)
	return topics, payloads
}

func (w *world) want(eventTypes ...string) {
	w.t.Helper()
	on := map[string]bool{}
	for _, name := range EventTypes {
		on[name] = slices.Contains(eventTypes, name)
	}
	w.do(func(tx *store.Tx) error { return UpdateEvents(tx, here, on) })
}

func TestChangesOfTheRegistryAreEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want("THING", "THING_TYPE", "THING_TYPE_ASSOCIATION", "THING_GROUP", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY")
	step := func(f func(tx *store.Tx) error, want ...string) map[string]string {
		t.Helper()
		w.do(f)
		topics, payloads := w.events()
		if !slices.Equal(topics, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(topics, "\n"), strings.Join(want, "\n"))
		}
		return payloads
	}
	step(func(tx *store.Tx) error {
		_, err := CreateThingType(tx, here, "lamps", ThingTypeSpec{Description: sp("d"), Searchable: []string{"color"}})
		return err
	}, "thingType/lamps/created")
	thing := func(tx *store.Tx) error {
		_, err := CreateThing(tx, here, ThingSpec{Name: "a", Type: "lamps", Attributes: map[string]string{"color": "red"}})
		return err
	}
	got := step(thing, "thing/a/created", "thingTypeAssociation/thing/a/thingType/lamps/added")
	wantPayload(t, got["thing/a/created"], `{"accountId":"111111111111","attributes":{"color":"red"},"eventId":"UUID","eventType":"THING_EVENT","operation":"CREATED",`+
		`"thingId":"UUID","thingName":"a","thingTypeName":"lamps","timestamp":1795262400000,"versionNumber":1}`)
	wantPayload(t, got["thingTypeAssociation/thing/a/thingType/lamps/added"], `{"accountId":"111111111111","eventId":"UUID","eventType":"THING_TYPE_ASSOCIATION_EVENT","operation":"ADDED",`+
		`"thingId":"UUID","thingName":"a","thingTypeName":"lamps","timestamp":1795262400000}`)
	step(thing) // is there already
	got = step(func(tx *store.Tx) error {
		_, err := UpdateThing(tx, here, "a", ThingChange{RemoveType: true})
		return err
	}, "thing/a/updated", "thingTypeAssociation/thing/a/thingType/lamps/removed")
	if !strings.Contains(got["thing/a/updated"], `"thingTypeName":null`) {
		t.Errorf("a thing without type: %s", got["thing/a/updated"])
	}
	got = step(func(tx *store.Tx) error { return DeprecateThingType(tx, here, "lamps", false) }, "thingType/lamps/updated")
	wantPayload(t, got["thingType/lamps/updated"], `{"accountId":"111111111111","deprecationDate":1795262400000,"description":"d","eventId":"UUID","eventType":"THING_TYPE_EVENT","isDeprecated":true,`+
		`"operation":"UPDATED","searchableAttributes":["color"],"thingTypeId":"UUID","thingTypeName":"lamps","timestamp":1795262400000}`)
	step(func(tx *store.Tx) error { _, err := CreateGroup(tx, here, GroupSpec{Name: "root"}); return err }, "thingGroup/root/created")
	got = step(func(tx *store.Tx) error {
		_, err := CreateGroup(tx, here, GroupSpec{Name: "leaf", Parent: "root"})
		return err
	}, "thingGroup/leaf/created", "thingGroupHierarchy/thingGroup/root/childThingGroup/leaf/added")
	wantPayload(t, got["thingGroup/leaf/created"], `{"accountId":"111111111111","attributes":{},"description":null,"dynamicGroupMappingId":null,"eventId":"UUID","eventType":"THING_GROUP_EVENT",`+
		`"operation":"CREATED","parentGroupId":"UUID","parentGroupName":"root","rootToParentThingGroups":[{"groupArn":"arn:aws:iot:us-east-1:111111111111:thinggroup/root","groupId":"UUID"}],`+
		`"thingGroupId":"UUID","thingGroupName":"leaf","timestamp":1795262400000,"versionNumber":1}`)
	wantPayload(t, got["thingGroupHierarchy/thingGroup/root/childThingGroup/leaf/added"], `{"accountId":"111111111111","childGroupId":"UUID","childGroupName":"leaf","eventId":"UUID",`+
		`"eventType":"THING_GROUP_HIERARCHY_EVENT","operation":"ADDED","thingGroupId":"UUID","thingGroupName":"root","timestamp":1795262400000}`)
	step(func(tx *store.Tx) error {
		_, err := UpdateGroup(tx, here, "leaf", GroupChange{Description: sp("x")})
		return err
	}, "thingGroup/leaf/updated")
	const membership = "thingGroupMembership/thingGroup/leaf/thing/a/"
	got = step(func(tx *store.Tx) error { return AddToGroup(tx, here, "a", "leaf") }, membership+"added")
	id := got[membership+"added"][strings.Index(got[membership+"added"], `"membershipId"`):]
	step(func(tx *store.Tx) error { return AddToGroup(tx, here, "a", "leaf") })
	got = step(func(tx *store.Tx) error { return RemoveFromGroup(tx, here, "a", "leaf") }, membership+"removed")
	if again := got[membership+"removed"]; again[strings.Index(again, `"membershipId"`):][:40] != id[:40] {
		t.Errorf("a membership has two ids: %s and %s", id, again)
	}
	step(func(tx *store.Tx) error { return AddToGroup(tx, here, "a", "leaf") }, membership+"added")
	step(func(tx *store.Tx) error { return DeleteThing(tx, here, "a", nil) }, "thing/a/deleted", membership+"removed")
	step(func(tx *store.Tx) error { return DeleteThing(tx, here, "a", nil) })
	if err := w.DeleteGroup(t.Context(), here, "leaf", nil); err != nil {
		t.Fatal(err)
	}
	step(func(*store.Tx) error { return nil }, "thingGroup/leaf/deleted", "thingGroupHierarchy/thingGroup/root/childThingGroup/leaf/removed")
	w.sleep(6 * time.Minute)
	if err := w.DeleteThingType(t.Context(), here, "lamps"); err != nil {
		t.Fatal(err)
	}
	step(func(*store.Tx) error { return nil }, "thingType/lamps/deleted")
	// A transaction that fails leaves none, and so does an account that does not want them.
	_ = w.try(func(tx *store.Tx) error {
		if _, err := CreateThing(tx, here, ThingSpec{Name: "b"}); err != nil {
			return err
		}
		return errors.New("no")
	})
	step(func(tx *store.Tx) error { _, err := CreateThing(tx, there, ThingSpec{Name: "b"}); return err })
	w.want("THING_GROUP")
	step(func(tx *store.Tx) error { _, err := CreateThing(tx, here, ThingSpec{Name: "b"}); return err })
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

func wantPayload(t *testing.T, got, want string) {
	t.Helper()
	if got = uuid.ReplaceAllString(got, "UUID"); got != want {
		t.Errorf("payload\n%s\nwant\n%s", got, want)
	}
}

// TestEventsArePublishedAfterTheCommit: each once it is safe, again if it could not be, and what was left at the next start.
func TestEventsArePublishedAfterTheCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want("THING")
	create := func(name string) {
		w.do(func(tx *store.Tx) error { _, err := CreateThing(tx, here, ThingSpec{Name: name}); return err })
	}
	create("left")
	got := make(chan string, 10)
	failures := make(chan error, 10)
	tries := 0
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		PublishEvents(ctx, w.Store, func(_ context.Context, e store.Event) error {
			if tries++; tries == 2 {
				return errors.New("not now")
			}
			var m struct{ ThingName string }
			if err := json.Unmarshal([]byte(e.Payload), &m); err != nil {
				return err
			}
			got <- fmt.Sprint(e.Scope, " ", e.Topic, " ", m.ThingName)
			return nil
		}, func(err error) { failures <- err })
	}()
	want := func(name string) {
		t.Helper()
		if text := <-got; text != fmt.Sprint(here, " $aws/events/thing/", name, "/created ", name) {
			t.Errorf("published %s", text)
		}
	}
	want("left")
	create("again")
	if err := <-failures; err.Error() != "not now" {
		t.Error(err)
	}
	want("again")
	create("last")
	want("last")
	stop()
	<-done
}
