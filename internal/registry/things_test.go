package registry

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestThings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("k", i)] = "v"
		}
		return m
	}
	w.do(func(tx *store.Tx) error {
		for _, name := range []string{"lamp", "old"} {
			if _, err := CreateThingType(tx, here, name, ThingTypeSpec{}); err != nil {
				return err
			}
		}
		if _, err := CreateBillingGroup(tx, here, "cash", "", nil); err != nil {
			return err
		}
		if _, err := CreateThing(tx, here, ThingSpec{Name: "a", Type: "lamp", Attributes: map[string]string{"k": "v"}, BillingGroup: "cash"}); err != nil {
			return err
		}
		if _, err := CreateThing(tx, here, ThingSpec{Name: "veteran", Type: "old"}); err != nil {
			return err
		}
		return DeprecateThingType(tx, here, "old", false)
	})
	create := func(spec ThingSpec) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := CreateThing(tx, here, spec); return err }
	}
	update := func(name string, c ThingChange) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := UpdateThing(tx, here, name, c); return err }
	}
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"the same thing again is no error", create(ThingSpec{Name: "a", Type: "lamp", Attributes: map[string]string{"k": "v"}, BillingGroup: "cash"}), ""},
		{"the same again under a type deprecated since", create(ThingSpec{Name: "veteran", Type: "old"}), ""},
		{"other attributes exist", create(ThingSpec{Name: "a", Type: "lamp", BillingGroup: "cash"}), "exists"},
		{"another type exists", create(ThingSpec{Name: "a", Attributes: map[string]string{"k": "v"}, BillingGroup: "cash"}), "exists"},
		{"another billing group exists", create(ThingSpec{Name: "a", Type: "lamp", Attributes: map[string]string{"k": "v"}}), "exists"},
		{"an unknown type", create(ThingSpec{Name: "b", Type: "none"}), "not found"},
		{"an unknown billing group", create(ThingSpec{Name: "b", BillingGroup: "none"}), "not found"},
		{"a deprecated type", create(ThingSpec{Name: "b", Type: "old"}), "invalid"},
		{"a name with a blank", create(ThingSpec{Name: "b c"}), "invalid"},
		{"a name too long", create(ThingSpec{Name: strings.Repeat("x", 129)}), "invalid"},
		{"an empty attribute", create(ThingSpec{Name: "b", Attributes: map[string]string{"k": ""}}), "invalid"},
		{"an attribute with a blank", create(ThingSpec{Name: "b", Attributes: map[string]string{"k": "a b"}}), "invalid"},
		{"three attributes without type", create(ThingSpec{Name: "b", Attributes: many(3)}), ""},
		{"four attributes without type", create(ThingSpec{Name: "b", Attributes: many(4)}), "invalid"},
		{"fifty attributes with type", create(ThingSpec{Name: "b", Type: "lamp", Attributes: many(50)}), ""},
		{"fifty-one attributes with type", create(ThingSpec{Name: "b", Type: "lamp", Attributes: many(51)}), "invalid"},

		{"updating nothing", update("none", ThingChange{}), "not found"},
		{"updating with the right version", update("a", ThingChange{Expected: ip(1)}), ""},
		{"updating with a wrong version", update("a", ThingChange{Expected: ip(2)}), "version mismatch"},
		{"updating with version 0", update("a", ThingChange{Expected: ip(0)}), "version mismatch"},
		{"setting and removing the type", update("a", ThingChange{Type: sp("lamp"), RemoveType: true}), "invalid"},
		{"an unknown new type", update("a", ThingChange{Type: sp("none")}), "not found"},
		{"a deprecated new type", update("a", ThingChange{Type: sp("old")}), "invalid"},
		{"keeping a deprecated type", update("veteran", ThingChange{Type: sp("old")}), ""},
		{"losing the type with few attributes", update("a", ThingChange{RemoveType: true}), ""},
		{"losing the type with many attributes", update("a", ThingChange{RemoveType: true, Attributes: many(4)}), "invalid"},

		{"deleting nothing", func(tx *store.Tx) error { return DeleteThing(tx, here, "none", ip(7)) }, ""},
		{"deleting with a wrong version", func(tx *store.Tx) error { return DeleteThing(tx, here, "a", ip(7)) }, "version mismatch"},
		{"deleting", func(tx *store.Tx) error { return DeleteThing(tx, here, "a", ip(1)) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, undone(w, c.act), c.want)
		})
	}
}

// undone tries a write and takes it back.
func undone(w *world, act func(*store.Tx) error) (result error) {
	w.try(func(tx *store.Tx) error {
		result = act(tx)
		return fmt.Errorf("undo")
	})
	return result
}

func TestAThingThatExistsIsNamedInTheRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var first, again fleet.Thing
	w.do(func(tx *store.Tx) (err error) { first, err = CreateThing(tx, here, ThingSpec{Name: "a"}); return err })
	w.do(func(tx *store.Tx) (err error) { again, err = CreateThing(tx, here, ThingSpec{Name: "a"}); return err })
	if first.ID == "" || first.ID != again.ID || first.Version != 1 {
		t.Errorf("first %+v, then %+v", first, again)
	}
	err := w.try(func(tx *store.Tx) error {
		_, err := CreateThing(tx, here, ThingSpec{Name: "a", Attributes: map[string]string{"k": "v"}})
		return err
	})
	e, ok := err.(*fleet.Error)
	if !ok || e.Details["resourceId"] != first.ID || e.Details["resourceArn"] != here.IoT("thing", "a") {
		t.Errorf("refusal %+v", e)
	}
}

func TestAttributesOfAThingAreReplacedOrMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(func(tx *store.Tx) error {
		_, err := CreateThing(tx, here, ThingSpec{Name: "a", Attributes: map[string]string{"x": "1", "y": "2"}})
		return err
	})
	for _, c := range []struct {
		name   string
		change ThingChange
		want   string
	}{
		{"absent attributes stay", ThingChange{}, "map[x:1 y:2]"},
		{"a map replaces", ThingChange{Attributes: map[string]string{"z": "3"}}, "map[z:3]"},
		{"an empty map clears", ThingChange{Attributes: map[string]string{}}, "map[]"},
		{"an empty value is no attribute", ThingChange{Attributes: map[string]string{"x": "", "y": "5"}}, "map[y:5]"},
		{"merging adds and changes", ThingChange{Attributes: map[string]string{"y": "9", "z": "3"}, Merge: true}, "map[x:1 y:9 z:3]"},
		{"merging removes what is empty", ThingChange{Attributes: map[string]string{"x": ""}, Merge: true}, "map[y:2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := undone(w, func(tx *store.Tx) error {
				if _, err := UpdateThing(tx, here, "a", c.change); err != nil {
					return err
				}
				got, err := tx.Thing(here, "a")
				if err != nil {
					return err
				}
				if fmt.Sprint(got.Attributes) != c.want || got.Version != 2 {
					t.Errorf("attributes %v, version %d; want %s, 2", got.Attributes, got.Version, c.want)
				}
				for k, v := range map[string]string{"x": "1", "y": "9", "z": "3"} { // the search finds what is there, and nothing else
					found, _, err := tx.Things(here, store.ThingFilter{Attribute: k, Value: v}, fleet.Page{})
					if err != nil {
						return err
					}
					if (len(found) == 1) != (got.Attributes[k] == v) {
						t.Errorf("search for %s=%s finds %v", k, v, found)
					}
				}
				return nil
			})
			refused(t, err, "")
		})
	}
}

func TestAThingTypeIsDeletedFiveMinutesAfterDeprecation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	remove := func() error { return w.DeleteThingType(t.Context(), here, "lamp") }
	refused(t, remove(), "not found")
	w.do(func(tx *store.Tx) error {
		if _, err := CreateThingType(tx, here, "lamp", ThingTypeSpec{}); err != nil {
			return err
		}
		_, err := CreateThing(tx, here, ThingSpec{Name: "a", Type: "lamp"})
		return err
	})
	refused(t, remove(), "invalid")
	deprecate := func(undo bool) {
		w.do(func(tx *store.Tx) error { return DeprecateThingType(tx, here, "lamp", undo) })
	}
	deprecate(false)
	w.sleep(4 * time.Minute)
	deprecate(false) // again: the first time counts
	err := remove()
	refused(t, err, "invalid")
	if !strings.Contains(err.Error(), "Please wait for 5 minutes after deprecation and then retry") {
		t.Errorf("Terraform does not retry on %q", err)
	}
	w.sleep(time.Minute)
	refused(t, remove(), "invalid") // a thing has it
	w.do(func(tx *store.Tx) error { return DeleteThing(tx, here, "a", nil) })
	deprecate(true)
	refused(t, remove(), "invalid")
	deprecate(false)
	w.sleep(5 * time.Minute)
	refused(t, remove(), "")
	refused(t, remove(), "not found")
}

func TestThingTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := ThingTypeSpec{Description: sp("a lamp"), Searchable: []string{"a", "b"}, Propagating: []fleet.PropagatingAttribute{{UserPropertyKey: "k", ThingAttribute: "a"}}}
	w.do(func(tx *store.Tx) error { _, err := CreateThingType(tx, here, "lamp", spec); return err })
	create := func(change func(*ThingTypeSpec)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			s := spec
			change(&s)
			_, err := CreateThingType(tx, here, "lamp", s)
			return err
		}
	}
	update := func(s ThingTypeSpec) func(*store.Tx) error {
		return func(tx *store.Tx) error { return UpdateThingType(tx, here, "lamp", s) }
	}
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"the same again", create(func(*ThingTypeSpec) {}), ""},
		{"the same in another order", create(func(s *ThingTypeSpec) { s.Searchable = []string{"b", "a"} }), ""},
		{"another description exists", create(func(s *ThingTypeSpec) { s.Description = nil }), "exists"},
		{"other searchable attributes exist", create(func(s *ThingTypeSpec) { s.Searchable = nil }), "exists"},
		{"four searchable attributes", create(func(s *ThingTypeSpec) { s.Searchable = []string{"a", "b", "c", "d"} }), "invalid"},
		{"a searchable attribute with a blank", create(func(s *ThingTypeSpec) { s.Searchable = []string{"a b"} }), "invalid"},
		{"a propagating attribute with two sources", create(func(s *ThingTypeSpec) {
			s.Propagating = []fleet.PropagatingAttribute{{UserPropertyKey: "k", ThingAttribute: "a", ConnectionAttribute: "iot:ClientId"}}
		}), "invalid"},
		{"a description with a line break", create(func(s *ThingTypeSpec) { s.Description = sp("a\nb") }), "invalid"},
		{"updating the description", update(ThingTypeSpec{Description: sp("x")}), ""},
		{"updating with the same searchable attributes", update(ThingTypeSpec{Searchable: []string{"b", "a"}}), ""},
		{"updating searchable attributes", update(ThingTypeSpec{Searchable: []string{"a"}}), "invalid"},
		{"updating nothing", func(tx *store.Tx) error { return UpdateThingType(tx, here, "none", ThingTypeSpec{}) }, "not found"},
		{"deprecating nothing", func(tx *store.Tx) error { return DeprecateThingType(tx, here, "none", false) }, "not found"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
}

func TestPrincipals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.certificate(here, "one", fleet.Active), w.certificate(here, "two", fleet.Active)
	foreign := w.certificate(there, "foreign", fleet.Active)
	const identity = "us-east-1:01234567-89ab-cdef-0123-456789abcdef"
	w.do(func(tx *store.Tx) error {
		for _, name := range []string{"a", "b"} {
			if _, err := CreateThing(tx, here, ThingSpec{Name: name}); err != nil {
				return err
			}
		}
		if err := AttachPrincipal(tx, here, "a", one, ""); err != nil {
			return err
		}
		return AttachPrincipal(tx, here, "a", two, fleet.Exclusive)
	})
	attach := func(thing, principal string, kind fleet.PrincipalType) func(*store.Tx) error {
		return func(tx *store.Tx) error { return AttachPrincipal(tx, here, thing, principal, kind) }
	}
	detach := func(thing, principal string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return DetachPrincipal(tx, here, thing, principal) }
	}
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"attaching again", attach("a", one, ""), ""},
		{"attaching to a second thing", attach("b", one, ""), ""},
		{"attaching to a second thing exclusively", attach("b", one, fleet.Exclusive), "invalid"},
		{"a certificate that is exclusive elsewhere", attach("b", two, ""), "invalid"},
		{"an identity", attach("a", identity, ""), ""},
		{"an identity exclusively", attach("a", identity, fleet.Exclusive), "invalid"},
		{"an unknown thing", attach("none", one, ""), "not found"},
		{"an unknown certificate", attach("a", here.IoT("cert", "none"), ""), "not found"},
		{"a certificate of another account", attach("a", foreign, ""), "not found"},
		{"another account's certificate under our name", attach("a", here.IoT("cert", "foreign"), ""), "not found"},
		{"something else", attach("a", here.IoT("policy", "p"), ""), "invalid"},
		{"plain text", attach("a", "one", ""), "invalid"},
		{"detaching", detach("a", one), ""},
		{"detaching what is not attached", detach("b", one), ""},
		{"detaching from an unknown thing", detach("none", one), "not found"},
		{"detaching an unknown certificate", detach("a", here.IoT("cert", "none")), "not found"},
		{"deleting a thing with a principal", func(tx *store.Tx) error { return DeleteThing(tx, here, "a", nil) }, "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
	t.Run("a type that is named changes the tie, none leaves it", func(t *testing.T) {
		for _, step := range []struct{ kind, want fleet.PrincipalType }{{"", fleet.NonExclusive}, {fleet.Exclusive, fleet.Exclusive}, {"", fleet.Exclusive}, {fleet.NonExclusive, fleet.NonExclusive}} {
			w.do(attach("a", one, step.kind))
			w.do(func(tx *store.Tx) error {
				got, _, err := tx.ThingsOf(here, one, "", fleet.Page{})
				if err == nil && (len(got) != 1 || got[0].Type != step.want) {
					t.Errorf("after %q: %v", step.kind, got)
				}
				return err
			})
		}
	})
}

func TestOfManyWhoCreateAThingAtOnceAllGetTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			var thing fleet.Thing
			err := w.try(func(tx *store.Tx) (err error) {
				thing, err = CreateThing(tx, here, ThingSpec{Name: "a", Attributes: map[string]string{"k": fmt.Sprint(i % 2)}})
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ids[thing.ID]++
			} else if fleet.KindOf(err) != fleet.KindExists {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 {
		t.Errorf("things %v", ids)
	}
	for _, n := range ids {
		if n != 16 {
			t.Errorf("%d of 16 got the thing", n)
		}
	}
}
