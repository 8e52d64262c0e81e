package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	create := func(spec GroupSpec) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := CreateGroup(tx, here, spec); return err }
	}
	update := func(name string, c GroupChange) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := UpdateGroup(tx, here, name, c); return err }
	}
	w.do(create(GroupSpec{Name: "g1", Description: "top", Attributes: map[string]string{"k": "v"}}))
	for i := 2; i <= 7; i++ {
		w.do(create(GroupSpec{Name: fmt.Sprint("g", i), Parent: fmt.Sprint("g", i-1)}))
	}
	w.do(create(GroupSpec{Name: "wide"}))
	for i := range 100 {
		w.do(create(GroupSpec{Name: fmt.Sprint("w", i), Parent: "wide"}))
	}
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"the same again", create(GroupSpec{Name: "g1", Description: "top", Attributes: map[string]string{"k": "v"}}), ""},
		{"another description exists", create(GroupSpec{Name: "g1", Attributes: map[string]string{"k": "v"}}), "exists"},
		{"another parent exists", create(GroupSpec{Name: "g2"}), "exists"},
		{"an unknown parent", create(GroupSpec{Name: "x", Parent: "none"}), "not found"},
		{"an eighth level", create(GroupSpec{Name: "x", Parent: "g7"}), "invalid"},
		{"a 101st child", create(GroupSpec{Name: "x", Parent: "wide"}), "invalid"},
		{"too many attributes", create(GroupSpec{Name: "x", Attributes: many}), "invalid"},
		{"a name with a blank", create(GroupSpec{Name: "a b"}), "invalid"},
		{"a reserved tag", create(GroupSpec{Name: "x", Tags: []fleet.Tag{{Key: "aws:x", Value: "y"}}}), "invalid"},
		{"updating", update("g1", GroupChange{Description: sp("x"), Expected: ip(1)}), ""},
		{"updating with a wrong version", update("g1", GroupChange{Expected: ip(2)}), "version mismatch"},
		{"updating nothing", update("none", GroupChange{}), "not found"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
	t.Run("a group knows its ancestors", func(t *testing.T) {
		w.do(func(tx *store.Tx) error {
			g, err := tx.Group(here, "g4")
			if fmt.Sprint(g.Path) != "[g1 g2 g3]" {
				t.Errorf("path %v", g.Path)
			}
			return err
		})
	})
}

func TestDeletingGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const members = 2*chunk + 3
	w.do(func(tx *store.Tx) error {
		for _, spec := range []GroupSpec{{Name: "root", Tags: []fleet.Tag{{Key: "k", Value: "v"}}}, {Name: "child", Parent: "root"}} {
			if _, err := CreateGroup(tx, here, spec); err != nil {
				return err
			}
		}
		if _, err := CreatePolicy(tx, here, "p", document, nil); err != nil {
			return err
		}
		if err := AttachPolicy(tx, here, "p", here.IoT("thinggroup", "root")); err != nil {
			return err
		}
		for i := range members {
			name := fmt.Sprint("t", i)
			if _, err := CreateThing(tx, here, ThingSpec{Name: name}); err != nil {
				return err
			}
			if err := AddToGroup(tx, here, name, "root"); err != nil {
				return err
			}
		}
		return nil
	})
	remove := func(name string, expected *int64) error { return w.DeleteGroup(t.Context(), here, name, expected) }
	err := remove("root", nil)
	refused(t, err, "invalid")
	if want := "Cannot delete thing group : root when there are still child groups attached to it"; !strings.Contains(err.Error(), want) {
		t.Errorf("text %q", err)
	}
	refused(t, remove("child", ip(9)), "version mismatch")
	refused(t, remove("child", ip(1)), "")
	refused(t, remove("child", nil), "")
	refused(t, remove("root", nil), "")
	w.do(func(tx *store.Tx) error {
		groups, _, err := tx.GroupsOf(here, "t7", fleet.Page{})
		if len(groups) != 0 || err != nil {
			t.Errorf("groups of a former member: %v, %v", groups, err)
		}
		if err := DeletePolicy(tx, here, "p"); err != nil {
			t.Errorf("the policy is still attached: %v", err)
		}
		if _, err := CreateGroup(tx, here, GroupSpec{Name: "root"}); err != nil {
			return err
		}
		tags, err := Tags(tx, here, here.IoT("thinggroup", "root"))
		if len(tags) != 0 || err != nil {
			t.Errorf("tags of a former group: %v, %v", tags, err)
		}
		return nil
	})
}

func TestMemberships(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(func(tx *store.Tx) error {
		for _, name := range []string{"a", "b"} {
			if _, err := CreateThing(tx, here, ThingSpec{Name: name}); err != nil {
				return err
			}
		}
		for _, spec := range []GroupSpec{{Name: "root"}, {Name: "left", Parent: "root"}, {Name: "right", Parent: "root"}} {
			if _, err := CreateGroup(tx, here, spec); err != nil {
				return err
			}
		}
		for i := range 11 {
			if _, err := CreateGroup(tx, here, GroupSpec{Name: fmt.Sprint("g", i)}); err != nil {
				return err
			}
		}
		return ChangeGroups(tx, here, "a", []string{"left", "g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"}, nil)
	})
	change := func(thing string, add, remove []string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return ChangeGroups(tx, here, thing, add, remove) }
	}
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"joining again", change("a", []string{"left"}, nil), ""},
		{"joining a tenth", change("a", []string{"g8"}, nil), ""},
		{"joining an eleventh", change("a", []string{"g8", "g9"}, nil), "invalid"},
		{"leaving makes room", change("a", []string{"g8", "g9"}, []string{"g0"}), ""},
		{"two groups of one tree", change("a", []string{"right"}, nil), "invalid"},
		{"a group and its root", change("a", []string{"root"}, nil), "invalid"},
		{"two of one tree in one request", change("b", []string{"left", "right"}, nil), "invalid"},
		{"changing sides", change("a", []string{"right"}, []string{"left"}), ""},
		{"leaving what it is not in", change("b", nil, []string{"left"}), ""},
		{"an unknown thing", change("none", []string{"left"}, nil), "not found"},
		{"an unknown group", change("b", []string{"none"}, nil), "not found"},
		{"leaving an unknown group", change("b", nil, []string{"none"}), "not found"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
	t.Run("members of descendants count once when recursive", func(t *testing.T) {
		w.do(change("b", []string{"right"}, nil))
		w.do(func(tx *store.Tx) error {
			root, err := tx.Group(here, "root")
			if err != nil {
				return err
			}
			for recursive, want := range map[bool][]string{true: {"a", "b"}, false: nil} {
				got, _, err := tx.Members(here, root, recursive, fleet.Page{})
				if !slices.Equal(got, want) || err != nil {
					t.Errorf("recursive %v: %v, %v", recursive, got, err)
				}
			}
			return nil
		})
	})
}

func TestBillingGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(func(tx *store.Tx) error {
		for _, name := range []string{"cash", "card"} {
			if _, err := CreateBillingGroup(tx, here, name, "how", nil); err != nil {
				return err
			}
		}
		_, err := CreateThing(tx, here, ThingSpec{Name: "a", BillingGroup: "cash"})
		return err
	})
	in := func(tx *store.Tx, want string) error {
		thing, err := tx.Thing(here, "a")
		if err == nil && (thing.BillingGroup != want || thing.Version != 1) {
			err = fmt.Errorf("in %q with version %d, want %q, 1", thing.BillingGroup, thing.Version, want)
		}
		return err
	}
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"the same again", func(tx *store.Tx) error { _, err := CreateBillingGroup(tx, here, "cash", "how", nil); return err }, ""},
		{"another description exists", func(tx *store.Tx) error { _, err := CreateBillingGroup(tx, here, "cash", "", nil); return err }, "exists"},
		{"updating", func(tx *store.Tx) error {
			g, err := UpdateBillingGroup(tx, here, "cash", sp("x"), ip(1))
			if err == nil && (g.Version != 2 || g.Description != "x") {
				t.Errorf("updated to %+v", g)
			}
			return err
		}, ""},
		{"updating with a wrong version", func(tx *store.Tx) error { _, err := UpdateBillingGroup(tx, here, "cash", nil, ip(3)); return err }, "version mismatch"},
		{"updating nothing", func(tx *store.Tx) error { _, err := UpdateBillingGroup(tx, here, "none", nil, nil); return err }, "not found"},
		{"moving to another group", func(tx *store.Tx) error {
			if err := AddToBillingGroup(tx, here, "a", "card"); err != nil {
				return err
			}
			return in(tx, "card")
		}, ""},
		{"leaving", func(tx *store.Tx) error {
			if err := RemoveFromBillingGroup(tx, here, "a", "cash"); err != nil {
				return err
			}
			return in(tx, "")
		}, ""},
		{"leaving a group that it is not in", func(tx *store.Tx) error {
			if err := RemoveFromBillingGroup(tx, here, "a", "card"); err != nil {
				return err
			}
			return in(tx, "cash")
		}, ""},
		{"an unknown group", func(tx *store.Tx) error { return AddToBillingGroup(tx, here, "a", "none") }, "not found"},
		{"an unknown thing", func(tx *store.Tx) error { return AddToBillingGroup(tx, here, "none", "cash") }, "not found"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
	t.Run("deleting lets its things go", func(t *testing.T) {
		refused(t, w.DeleteBillingGroup(t.Context(), here, "cash", ip(9)), "version mismatch")
		refused(t, w.DeleteBillingGroup(t.Context(), here, "cash", nil), "")
		refused(t, w.DeleteBillingGroup(t.Context(), here, "cash", nil), "")
		w.do(func(tx *store.Tx) error { return in(tx, "") })
	})
}
