package store

import (
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestWhatIsInARegionIsNamed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		s := fleet.Scope{Account: "123456789012", Region: "ap-south-1"}
		named := func(want string) {
			t.Helper()
			must(t, db.View(t.Context(), func(tx *Tx) error {
				got, err := tx.InRegion(s.Region)
				if got != want {
					t.Errorf("%q, want %q", got, want)
				}
				return err
			}))
		}
		must(t, db.Tx(t.Context(), func(tx *Tx) error { return tx.CreateAccount(s.Account, "tenant") }))
		named("")
		must(t, db.Tx(t.Context(), func(tx *Tx) error { return tx.CreateGroup(s, fleet.ThingGroup{Name: "garden"}) }))
		named("thing groups of account " + s.Account)
	})
}
