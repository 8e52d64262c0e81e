package store

import (
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A count goes with the last of the certificates that share it, whichever that is: one that is registered again begins anew.
func TestACountGoesWithTheLastWhoShareIt(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]string{"the first first": {"first", "second"}, "the first last": {"second", "first"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, db *DB) {
				devices := func() (n int) {
					must(t, db.View(t.Context(), func(tx *Tx) (err error) { n, err = tx.DevicesOf(scopeA, "first"); return err }))
					return n
				}
				must(t, db.Tx(t.Context(), func(tx *Tx) error {
					must(t, tx.PutBootstrap(scopeA, fleet.Bootstrap{Certificate: "first", Budget: "first", Successor: "second"}))
					must(t, tx.PutBootstrap(scopeA, fleet.Bootstrap{Certificate: "second", Budget: "first"}))
					_, err := tx.CountDevice(scopeA, "first")
					return err
				}))
				for i, certificate := range order {
					must(t, db.Tx(t.Context(), func(tx *Tx) error { return tx.ForgetBootstrap(scopeA, certificate) }))
					if n := devices(); n != 1-i {
						t.Errorf("%d devices are counted after %v are gone", n, order[:i+1])
					}
				}
			})
		})
	}
}
