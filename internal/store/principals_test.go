package store

import (
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// TestTiesAreFoundFromEitherEnd, however many there are: no query goes through all of an account's.
func TestTiesAreFoundFromEitherEnd(t *testing.T) {
	t.Parallel()
	db := open(t)
	principal := scopeA.IoT("cert", "x")
	must(t, db.Tx(t.Context(), func(tx *Tx) error {
		for _, ask := range []func() error{
			func() error { _, _, err := tx.ThingsOf(scopeA, principal, "", fleet.Page{}); return err },
			func() error { _, _, err := tx.ThingsOf(scopeA, principal, "", fleet.Page{Limit: 1}); return err },
			func() error { _, _, err := tx.PrincipalsOf(scopeA, "x", "", fleet.Page{}); return err },
			func() error { _, _, err := tx.OtherTie(scopeA, "x", principal); return err },
			func() error { _, _, err := tx.Tie(scopeA, "x", principal); return err },
			func() error { _, _, err := tx.AssociatedThing(scopeA, principal, "x"); return err },
			func() error { _, _, err := tx.TiesOf(scopeA, principal); return err },
		} {
			if err := ask(); err != nil {
				return err
			}
		}
		asked := 0
		for _, s := range compiled(t, db.writes.conn) {
			if !strings.HasPrefix(s.sql, "SELECT") || !strings.Contains(s.sql, "thing_principals") {
				continue
			}
			asked++
			args := make([]any, strings.Count(s.sql, "?"))
			for i := range args {
				args[i] = ""
			}
			plan, err := all(tx, func(r scanner) (string, error) {
				var id, parent, unused int64
				var detail string
				return detail, r.Scan(&id, &parent, &unused, &detail)
			}, `EXPLAIN QUERY PLAN `+s.sql, args...)
			if err != nil {
				return err
			}
			for _, step := range plan {
				if (strings.Contains(step, " p USING") || strings.Contains(step, "thing_principals USING")) && !strings.Contains(step, "principal=?") && !strings.Contains(step, "thing=?") {
					t.Errorf("%s\n%s", step, s.sql)
				}
			}
		}
		if asked < 5 {
			t.Errorf("only %d queries were looked at", asked)
		}
		return nil
	}))
}
