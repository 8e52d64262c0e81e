package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestFunctionsAreKeptByScope(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		f := fleet.Function{Name: "check", Kind: fleet.Lambda, URL: "https://lambda.lan", Remote: "c", Region: "eu-west-1", AccessKeyID: "AKIA", Sealed: []byte{1, 2},
			Timeout: 1500 * time.Millisecond}
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			if err := tx.PutFunction(scopeA, fleet.Function{Name: "check", Kind: fleet.Rule, Rule: "true", Timeout: time.Second}); err != nil {
				return err
			}
			if err := tx.PutFunction(scopeA, fleet.Function{Name: "b", Kind: fleet.Rule}); err != nil {
				return err
			}
			return tx.PutFunction(scopeA, f)
		}))
		must(t, db.View(t.Context(), func(tx *Tx) error {
			got, err := tx.Function(scopeA, "check")
			f.Modified = got.Modified
			if err != nil || fmt.Sprint(got) != fmt.Sprint(f) || got.Modified.IsZero() {
				t.Errorf("got %+v, %v; want %+v", got, err, f)
			}
			if _, err := tx.Function(scopeB, "check"); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
				t.Errorf("another account's function: %v", err)
			}
			list, next, err := tx.Functions(scopeA, fleet.Page{Limit: 1})
			if err != nil || len(list) != 1 || list[0].Name != "b" || next != "b" {
				t.Errorf("listed %v, %q, %v", list, next, err)
			}
			n, err := tx.CountFunctions(scopeA)
			if n != 2 {
				t.Errorf("counted %d", n)
			}
			return err
		}))
		for i, want := range []error{nil, &fleet.Error{Kind: fleet.KindNotFound}} {
			if err := db.Tx(t.Context(), func(tx *Tx) error { return tx.DeleteFunction(scopeA, "check") }); !errors.Is(err, want) {
				t.Errorf("deletion %d: %v", i+1, err)
			}
		}
	})
}

func TestTablesAnswerAndAreSweptInChunks(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		tx := func(body func(*Tx) error) {
			t.Helper()
			must(t, db.Tx(t.Context(), body))
		}
		has := func(s fleet.Scope, table, key string) (found bool, err error) {
			err = db.View(t.Context(), func(tx *Tx) error {
				found, err = tx.TableHas(s, table, key)
				return err
			})
			return found, err
		}
		var keys []string
		for i := range 25 {
			keys = append(keys, fmt.Sprintf("L-%02d", i))
		}
		tx(func(tx *Tx) error {
			for i, want := range []bool{true, false} {
				if created, err := tx.CreateTable(scopeA, "serials"); created != want || err != nil {
					t.Errorf("creation %d: %v, %v", i+1, created, err)
				}
			}
			if _, err := tx.CreateTable(scopeB, "serials"); err != nil {
				return err
			}
			n, err := tx.AddKeys(scopeA, "serials", append(keys, keys[3]))
			if n != 25 {
				t.Errorf("added %d", n)
			}
			return err
		})
		tx(func(tx *Tx) error {
			n, err := tx.RemoveKeys(scopeA, "serials", []string{"L-07", "none"})
			if n != 1 {
				t.Errorf("removed %d", n)
			}
			return err
		})
		for key, want := range map[string]bool{"L-03": true, "L-07": false, "l-03": false, "": false} {
			if got, err := has(scopeA, "serials", key); got != want || err != nil {
				t.Errorf("has %q: %v, %v", key, got, err)
			}
		}
		if got, err := has(scopeB, "serials", "L-03"); got || err != nil {
			t.Errorf("another account's table has the key: %v, %v", got, err)
		}
		must(t, db.View(t.Context(), func(tx *Tx) error {
			list, _, err := tx.Tables(scopeA, fleet.Page{})
			if len(list) != 1 || list[0].Name != "serials" || list[0].Size != 24 || list[0].Created.IsZero() {
				t.Errorf("tables %+v", list)
			}
			page, next, err2 := tx.TableKeys(scopeA, "serials", fleet.Page{After: "L-05", Limit: 2})
			if !slices.Equal(page, []string{"L-06", "L-08"}) || next != "L-08" {
				t.Errorf("keys %v, %q", page, next)
			}
			return errors.Join(err, err2)
		}))

		// A deleted table is gone at once; one of the same name begins empty, whatever is left of the old one.
		tx(func(tx *Tx) error { return tx.DeleteTable(scopeA, "serials") })
		if _, err := has(scopeA, "serials", "L-03"); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
			t.Errorf("a deleted table: %v", err)
		}
		tx(func(tx *Tx) error { _, err := tx.CreateTable(scopeA, "serials"); return err })
		if got, err := has(scopeA, "serials", "L-03"); got || err != nil {
			t.Errorf("the new table has the old one's key: %v, %v", got, err)
		}
		var sweeps int
		for more := true; more; sweeps++ {
			tx(func(tx *Tx) (err error) { more, err = tx.SweepTables(10); return err })
		}
		var left int
		must(t, db.View(t.Context(), func(tx *Tx) error { return tx.row(`SELECT COUNT(*) FROM lookup_keys`).Scan(&left) }))
		if sweeps != 5 || left != 0 {
			t.Errorf("%d sweeps, %d keys left", sweeps, left)
		}
	})
}
