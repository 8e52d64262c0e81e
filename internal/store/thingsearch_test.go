package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// filters are all kinds of them, over what the tests here put into things.
func filters() (all []ThingFilter) {
	for _, kind := range []string{"", "lamp", "lamp2", "none"} {
		all = append(all, ThingFilter{Type: kind})
		for _, value := range []string{"", "a", "a1", "b", "none"} {
			for _, prefix := range []bool{false, true} {
				all = append(all, ThingFilter{Type: kind, Attribute: "x", Value: value, Prefix: prefix})
			}
		}
	}
	return all
}

// wantFound compares what filters find, page by page, with the things that there are.
func wantFound(t *testing.T, db *DB, things map[string]fleet.Thing) {
	t.Helper()
	for _, f := range filters() {
		want := map[string]bool{}
		for name, thing := range things {
			if f.has(thing) {
				want[name] = true
			}
		}
		for _, limit := range []int{0, 1, 3, 100} {
			got := map[string]bool{}
			for p := (fleet.Page{Limit: limit}); ; {
				var page []fleet.Thing
				must(t, db.View(t.Context(), func(tx *Tx) (err error) {
					page, p.After, err = tx.Things(scopeA, f, p)
					return err
				}))
				for _, thing := range page {
					if got[thing.Name] {
						t.Fatalf("%+v finds %s twice in pages of %d", f, thing.Name, limit)
					}
					got[thing.Name] = true
				}
				if p.After == "" {
					break
				}
			}
			if !maps.Equal(got, want) {
				t.Fatalf("%+v finds %v in pages of %d, want %v", f, slices.Sorted(maps.Keys(got)), limit, slices.Sorted(maps.Keys(want)))
			}
		}
	}
}

func TestThingsAreFoundByWhatTheyAreAfterEachChange(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		things := map[string]fleet.Thing{}
		for range 12 {
			must(t, db.Tx(t.Context(), func(tx *Tx) error {
				for range 40 {
					name := fmt.Sprintf("thing%d", rand.N(150))
					old, there := things[name]
					thing := fleet.Thing{Name: name, Version: 1, Type: []string{"", "lamp", "lamp2"}[rand.N(3)], Attributes: map[string]string{}}
					for _, attribute := range []string{"w", "x", "y"} {
						if value := []string{"", "a", "a1", "a2", "b"}[rand.N(5)]; value != "" {
							thing.Attributes[attribute] = value
						}
					}
					var err error
					switch {
					case !there:
						err = tx.CreateThing(scopeA, thing)
					case rand.N(3) == 0:
						err = tx.DeleteThing(scopeA, old)
					default:
						err = tx.UpdateThing(scopeA, old, thing)
					}
					if things[name] = thing; there && err == nil {
						if _, err = tx.Thing(scopeA, name); fleet.KindOf(err) == fleet.KindNotFound {
							delete(things, name)
							err = nil
						}
					}
					if err != nil {
						return err
					}
				}
				return nil
			}))
			wantFound(t, db, things)
		}
	})
}

// An older version that was used again for a time, or still runs beside this one, knows of no types in the rows that things are found by.
func TestWhatAnOlderVersionWroteIsFoundByItsTypeSoon(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		things := map[string]fleet.Thing{}
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for i := range 20 {
				thing := fleet.Thing{Name: fmt.Sprintf("thing%d", i), Type: []string{"", "lamp"}[i%2], Attributes: map[string]string{"w": "b", "x": []string{"a", "b"}[i/2%2]}}
				things[thing.Name] = thing
				if err := tx.CreateThing(scopeA, thing); err != nil {
					return err
				}
			}
			for _, statement := range []string{ // what it would have said
				`DELETE FROM thing_attributes WHERE thing LIKE 'thing1%'`,
				`INSERT INTO thing_attributes (account, region, name, value, thing) SELECT account, region, 'w', 'b', name FROM things WHERE name LIKE 'thing1%'`,
				`INSERT INTO thing_attributes (account, region, name, value, thing)
					SELECT account, region, 'x', CASE WHEN attributes LIKE '%"x":"a"%' THEN 'a' ELSE 'b' END, name FROM things WHERE name LIKE 'thing1%'`,
				`INSERT INTO thing_attributes (account, region, name, value, thing) SELECT account, region, 'x', 'gone', name FROM things WHERE name = 'thing3'`,
			} {
				if _, err := tx.exec(statement); err != nil {
					return err
				}
			}
			// One of them changes before upkeep comes.
			old := things["thing11"]
			changed := old
			changed.Type, changed.Attributes = "lamp2", map[string]string{"x": "a1"}
			things["thing11"] = changed
			return tx.UpdateThing(scopeA, old, changed)
		}))
		for n := 7; n == 7; {
			must(t, db.Tx(t.Context(), func(tx *Tx) (err error) { n, err = tx.FileAttributes(7); return err }))
		}
		wantFound(t, db, things)
		rows := lines(t, direct(t, db), `SELECT name, value, thing_type, thing FROM thing_attributes`)
		if len(rows) != 39 {
			t.Errorf("%d rows for 39 attributes: %s", len(rows), strings.Join(rows, ", "))
		}
	})
}
