package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

func TestTheOldestTracesAreThoseBeyondTheSize(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var none, all, half int64
		var cut, uncut time.Time
		must(t, db.Tx(t.Context(), func(tx *Tx) (err error) {
			if none, err = tx.BytesIn(BoundedTraces); err != nil {
				return err
			}
			for i := range 100 { // not in the order of their age, and two at a time
				at := begin.Add(time.Duration(i*37%100/2) * time.Minute)
				r := trace.Record{ID: fleet.NewUUID(), Kind: trace.Register, Start: at, Outcome: trace.OK, Cause: strings.Repeat("x", 1000)}
				if err := tx.PutTrace(fleet.Scope{Account: fmt.Sprintf("%012d", i%3), Region: "us-east-1"}, r, []string{"lamp"}); err != nil {
					return err
				}
			}
			if all, err = tx.BytesIn(BoundedTraces); err != nil {
				return err
			}
			if uncut, err = tx.CutoffIn(BoundedTraces, all); err != nil {
				return err
			}
			cut, err = tx.CutoffIn(BoundedTraces, all/2)
			return err
		}))
		if none != 0 || all < 100*1000 || all > 100*2000 {
			t.Errorf("%d bytes of none, %d of a hundred", none, all)
		}
		if !uncut.IsZero() {
			t.Errorf("all fit, and those before %v would go", uncut)
		}
		must(t, db.Tx(t.Context(), func(tx *Tx) (err error) {
			for more := true; more; {
				if _, more, err = tx.DeleteTracesBefore(cut, 7); err != nil {
					return err
				}
			}
			half, err = tx.BytesIn(BoundedTraces)
			return err
		}))
		if half > all/2 || half < all/2-all/25 {
			t.Errorf("%d of %d bytes are left, want half", half, all)
		}
		must(t, db.View(t.Context(), func(tx *Tx) error {
			for i := range 3 {
				left, err := tx.Traces(fleet.Scope{Account: fmt.Sprintf("%012d", i), Region: "us-east-1"}, "", 100)
				if err != nil {
					return err
				}
				for _, r := range left {
					if r.Start.Before(begin.Add(25 * time.Minute)) {
						t.Errorf("one of %v is left, and younger ones are gone", r.Start)
					}
				}
			}
			return nil
		}))
	})
}

func BenchmarkTraceBytes(b *testing.B) {
	db := open(b)
	body := strings.Repeat("x", 1200)
	const chunk = 10_000
	for i := range 600_000 / chunk {
		must(b, db.Tx(b.Context(), func(tx *Tx) error {
			for j := range chunk {
				_, err := tx.exec(`INSERT INTO traces (account, region, id, at, kind, outcome, body, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
					"000000000000", "us-east-1", fleet.NewUUID(), i*chunk+j, "connect", "ok", body, 1700)
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for name, f := range map[string]func(*Tx) error{
		"sum":    func(tx *Tx) error { _, err := tx.BytesIn(BoundedTraces); return err },
		"cutoff": func(tx *Tx) error { _, err := tx.CutoffIn(BoundedTraces, 500<<20); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				must(b, db.View(b.Context(), f))
			}
		})
	}
}
