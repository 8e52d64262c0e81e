package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestExpiriesAreListedAndCounted(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		s := scopeA
		noon := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for i := range 10 { // two a day, the fifth day's inactive
				c := fleet.Certificate{ID: fmt.Sprintf("c%d", i), Status: fleet.Active, CAID: []string{"", "ca"}[i%2], NotAfter: noon.Add(time.Duration(i/2) * 24 * time.Hour), Created: noon}
				if i >= 8 {
					c.Status = fleet.Inactive
				}
				must(t, tx.CreateCertificate(s, c))
				must(t, tx.PutRegistration(s, Registration{Certificate: c.ID, Template: "lamps", Thing: "t" + c.ID}))
				must(t, tx.AttachThing(s, fleet.Attachment{Thing: "t" + c.ID, Principal: s.IoT("cert", c.ID), Type: fleet.NonExclusive}))
			}
			must(t, tx.CreateCertificate(s, fleet.Certificate{ID: "aws", Status: fleet.Active, NotAfter: time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)}))
			must(t, tx.CreateCertificate(scopeB, fleet.Certificate{ID: "b", Status: fleet.Active, NotAfter: noon}))
			must(t, tx.CreateCertificate(s, fleet.Certificate{ID: "next", Status: fleet.PendingActivation, NotAfter: noon, Origin: fleet.CertificateOrigin{ClaimID: "c1", Expires: noon}}))
			must(t, tx.AddSuccession(s, Succession{Certificate: "c2", Successor: "n2", Thing: "tc2"}))
			must(t, tx.AddSuccession(s, Succession{Certificate: "c3", Successor: "n3", Thing: "tc3"}))
			_, err := tx.CertificateUsed(s, "n3", noon)
			must(t, err)
			_, err = tx.CertificateUsed(s, "c0", noon.Add(-time.Hour))
			return err
		}))
		must(t, db.View(t.Context(), func(tx *Tx) error {
			from, to := noon.Add(-time.Hour), noon.Add(10*24*time.Hour)
			var got []string
			for p := (fleet.Page{Limit: 3}); ; {
				list, next, err := tx.Expiries(s, from, to, p)
				must(t, err)
				for _, e := range list {
					got = append(got, fmt.Sprint(e.ID, " ", e.NotAfter.Day(), " ", e.CA, " ", e.Template, " ", e.Thing, " ", e.Asked, " ", e.Replaced, " ", !e.LastSeen.IsZero()))
				}
				if p.After = next; next == "" {
					break
				}
			}
			want := "c0 1  lamps tc0 false false true\nc1 1 ca lamps tc1 true false false\nc2 2  lamps tc2 true false false\nc3 2 ca lamps tc3 true true false\n" +
				"c4 3  lamps tc4 false false false\nc5 3 ca lamps tc5 false false false\nc6 4  lamps tc6 false false false\nc7 4 ca lamps tc7 false false false"
			if strings.Join(got, "\n") != want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
			}
			counts, err := tx.ExpiryCounts(s, from, to)
			must(t, err)
			day := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
			if len(counts) != 8 || counts[0] != (ExpiryCount{day, "lamps", "", 1}) || counts[1] != (ExpiryCount{day, "lamps", "ca", 1}) {
				t.Errorf("counts %v", counts)
			}
			if n, next, err := tx.EndingCertificates(from, to); n != 9 || !next.Equal(noon) || err != nil {
				t.Errorf("%d end, the first at %v: %v", n, next, err)
			}
			if n, next, err := tx.EndingCertificates(to, to.Add(time.Hour)); n != 0 || !next.IsZero() || err != nil {
				t.Errorf("%d end, the first at %v: %v", n, next, err)
			}
			return nil
		}))
	})
}

// What ends is found by an index: a fleet of a million must not be read for it.
func TestExpiriesAreFoundByTheirIndex(t *testing.T) {
	t.Parallel()
	db := open(t)
	raw := direct(t, db)
	for query, index := range map[string]string{
		`SELECT c.id FROM certificates c WHERE ` + within + since + ` ORDER BY c.not_after, c.id LIMIT 10`:                               "certificates_by_end",
		fmt.Sprintf(`SELECT COUNT(*) FROM certificates WHERE not_after < %d AND not_after >= CAST(1 AS BIGINT) AND status = ''`, farEnd): "COVERING INDEX certificates_ending",
	} {
		args := []any{"a", "r", 2, "ACTIVE", 1}
		if plan := lines(t, raw, "EXPLAIN QUERY PLAN "+bound(query, args)); !slices.ContainsFunc(plan, func(l string) bool { return strings.Contains(l, "SEARCH") && strings.Contains(l, index) }) {
			t.Errorf("%s: %q", query, plan)
		}
	}
}

// bound writes values in place of a query's question marks.
func bound(query string, args []any) string {
	for _, a := range args {
		query = strings.Replace(query, "?", fmt.Sprintf("'%v'", a), 1)
	}
	return query
}
