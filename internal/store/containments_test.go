package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// everyPage follows a list to its end.
func everyPage[T any](t *testing.T, db *DB, limit int, list func(*Tx, fleet.Page) ([]T, string, error)) (got []T) {
	t.Helper()
	for after, n := "", 0; ; n++ {
		var page []T
		var next string
		must(t, db.View(t.Context(), func(tx *Tx) (err error) {
			page, next, err = list(tx, fleet.Page{After: after, Limit: limit})
			return err
		}))
		if len(page) > limit {
			t.Errorf("a page of %d", len(page))
		}
		if got = append(got, page...); next == "" {
			return got
		}
		if after = next; n > 10_000 {
			t.Fatal("the list has no end")
		}
	}
}

func TestTheCertificatesOfAClaimAreFoundSinceATime(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		begin := time.UnixMilli(1_700_000_000_000)
		const many, few = 2 * fewDescendants, 7 // of every 300 one is of the claim with few
		want := map[string][]string{}
		for n := 0; n < many; {
			must(t, db.Tx(t.Context(), func(tx *Tx) error {
				for range 500 {
					claim := "many"
					switch {
					case n%300 == 1:
						claim = "few"
					case n%3 == 0:
						claim = ""
					}
					id := fmt.Sprintf("%06d", many-n) // not in the order of time
					c := fleet.Certificate{ID: id, Status: fleet.Active, Created: begin.Add(time.Duration(n/4) * time.Second), Origin: fleet.CertificateOrigin{ClaimID: claim}}
					if err := tx.CreateCertificate(scopeA, c); err != nil {
						return err
					}
					want[claim] = append(want[claim], id)
					n++
				}
				return nil
			}))
		}
		if len(want["few"]) != few || len(want["many"]) <= fewDescendants {
			t.Fatalf("%d and %d", len(want["few"]), len(want["many"]))
		}
		for _, claim := range []string{"few", "many", "nobody"} {
			list := func(since time.Time) (ids []string) {
				for _, c := range everyPage(t, db, 30, func(tx *Tx, p fleet.Page) ([]fleet.Certificate, string, error) {
					return tx.CertificatesOfClaim(scopeA, claim, since, p)
				}) {
					ids = append(ids, c.ID)
				}
				return ids
			}
			got, wanted := list(time.Time{}), slices.Clone(want[claim])
			slices.Sort(got)
			slices.Sort(wanted)
			if !slices.Equal(got, wanted) {
				t.Errorf("%s: %d certificates, want %d", claim, len(got), len(wanted))
			}
			half := begin.Add(many / 8 * time.Second)
			late := 0
			for _, id := range wanted {
				var n int
				fmt.Sscanf(id, "%d", &n)
				if (many-n)/4 >= many/8 {
					late++
				}
			}
			if got := list(half); len(got) != late {
				t.Errorf("%s: %d certificates since, want %d", claim, len(got), late)
			}
		}
	})
}

func TestOrphansAreFound(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		old := db.clock.Now().Add(-48 * time.Hour)
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for _, c := range []fleet.Certificate{
				{ID: "pending", Status: fleet.PendingActivation, Origin: fleet.CertificateOrigin{ClaimID: "used"}},
				{ID: "unconnected", Status: fleet.Active}, {ID: "connected", Status: fleet.Active}, {ID: "loose", Status: fleet.Active},
				{ID: "off", Status: fleet.Inactive}, {ID: "revoked", Status: fleet.Revoked}, {ID: "bootstrap", Status: fleet.Active},
				{ID: "child", Status: fleet.Active, Origin: fleet.CertificateOrigin{ClaimID: "bootstrap"}},
				{ID: "young", Status: fleet.Active, Created: tx.Now()},
			} {
				if c.Created.IsZero() {
					c.Created = old
				}
				if err := tx.CreateCertificate(scopeA, c); err != nil {
					return err
				}
			}
			for _, name := range []string{"empty", "full"} {
				if err := tx.CreateThing(scopeA, fleet.Thing{Name: name, Version: 1, Created: old}); err != nil {
					return err
				}
				if err := tx.CreatePolicy(scopeA, fleet.Policy{Name: name, Document: "{}", Created: old}); err != nil {
					return err
				}
			}
			for _, id := range []string{"unconnected", "connected", "child"} {
				if err := tx.AttachThing(scopeA, fleet.Attachment{Thing: "full", Principal: scopeA.IoT("cert", id), Type: fleet.NonExclusive}); err != nil {
					return err
				}
			}
			for _, id := range []string{"used", "unused"} {
				if err := tx.CreateClaim(scopeA, fleet.Claim{ID: id, Template: "lamps", Created: old, Expires: old.Add(time.Minute)}); err != nil {
					return err
				}
			}
			if _, err := tx.AttachPolicy(scopeA, "full", scopeA.IoT("cert", "connected")); err != nil {
				return err
			}
			for _, id := range []string{"connected", "child"} {
				if _, err := tx.CertificateUsed(scopeA, id, old); err != nil {
					return err
				}
			}
			return nil
		}))
		for kind, want := range map[OrphanKind][]string{PendingCertificates: {"pending"}, UnconnectedCertificates: {"unconnected"}, CertificatesWithoutThing: {"loose", "off"},
			ThingsWithoutPrincipal: {"empty"}, PoliciesWithoutAttachment: {"empty"}, UnusedClaims: {"unused"}} {
			var got []string
			for _, o := range everyPage(t, db, 1, func(tx *Tx, p fleet.Page) ([]Orphan, string, error) {
				return tx.Orphans(scopeA, kind, db.clock.Now().Add(-time.Hour), p)
			}) {
				got = append(got, o.Name)
				if !o.Created.Equal(old.Truncate(time.Millisecond)) || kind == UnusedClaims && o.Template != "lamps" || kind == PendingCertificates && o.Claim != "used" {
					t.Errorf("%s: %+v", kind, o)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", kind, got, want)
			}
			must(t, db.View(t.Context(), func(tx *Tx) error {
				others, _, err := tx.Orphans(scopeB, kind, db.clock.Now(), fleet.Page{})
				if len(others) > 0 {
					t.Errorf("%s: the other scope sees %v", kind, others)
				}
				return err
			}))
		}
	})
}
