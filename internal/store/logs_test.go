package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func logEntries(n int, at time.Time) (list []fleet.LogEntry) {
	for i := range n {
		list = append(list, fleet.LogEntry{ID: fmt.Sprintf("%020d-%06d", at.UnixNano(), i), Time: at, Ingested: at, Message: fmt.Sprint("m", i)})
	}
	return list
}

func TestLogsAreReadByTimeInPages(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		now := time.Now().Truncate(time.Millisecond)
		read := func(q LogQuery, limit int) (text string) {
			t.Helper()
			must(t, db.View(t.Context(), func(tx *Tx) error {
				text = ""
				for p := (fleet.Page{Limit: limit}); ; {
					list, next, err := tx.LogEntries(scopeA, "g", q, p)
					for _, e := range list {
						text += e.Message + " "
					}
					if err != nil || next == "" {
						return err
					}
					p.After = next
				}
			}))
			return strings.TrimSpace(text)
		}
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for _, name := range []string{"g", "h", "#first", "zz"} {
				added, err := tx.CreateLogGroup(scopeA, fleet.LogGroup{ID: name, Name: name, Created: now})
				if err != nil || !added {
					return fmt.Errorf("made: %v, %w", added, err)
				}
			}
			must(t, tx.AppendLog(scopeA, "g", "late", logEntries(3, now)))
			must(t, tx.AppendLog(scopeA, "h", "late", logEntries(3, now)))
			must(t, tx.AppendLog(scopeB, "g", "late", logEntries(3, now)))
			return tx.AppendLog(scopeA, "g", "early", logEntries(20, now.Add(-time.Hour))[8:])
		}))
		const early = "m8 m9 m10 m11 m12 m13 m14 m15 m16 m17 m18 m19"
		for _, limit := range []int{0, 1, 4, 100} {
			for _, row := range []struct {
				q    LogQuery
				want string
			}{
				{LogQuery{}, early + " m0 m1 m2"},
				{LogQuery{From: now}, "m0 m1 m2"},
				{LogQuery{Until: now}, early},
				{LogQuery{From: now, Until: now}, ""},
				{LogQuery{Stream: "late"}, "m0 m1 m2"},
				{LogQuery{From: now.Add(-time.Minute), Newest: true}, "m2 m1 m0"},
			} {
				if got := read(row.q, limit); got != row.want {
					t.Errorf("%+v by %d: %s, want %s", row.q, limit, got, row.want)
				}
			}
		}
		must(t, db.View(t.Context(), func(tx *Tx) error {
			for prefix, want := range map[string]string{"": "#first g h zz", "z": "zz", "x": ""} {
				var got []string
				for p := (fleet.Page{Limit: 1}); ; {
					groups, next, err := tx.LogGroups(scopeA, prefix, p)
					must(t, err)
					for _, g := range groups {
						got = append(got, g.Name)
					}
					if p.After = next; next == "" {
						break
					}
				}
				if strings.Join(got, " ") != want {
					t.Errorf("groups of %q: %v", prefix, got)
				}
			}
			return nil
		}))
	})
}

func TestPagesOfLogsAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		list := logEntries(7, time.Now())
		for i := range list {
			list[i].Message = strings.Repeat("x", maxLogPage/3)
		}
		list[3].Message = strings.Repeat("y", 2*maxLogPage)
		must(t, db.Tx(t.Context(), func(tx *Tx) error { return tx.AppendLog(scopeA, "g", "s", list) }))
		for _, limit := range []int{0, 100} {
			var pages []int
			must(t, db.View(t.Context(), func(tx *Tx) error {
				pages = nil
				for p := (fleet.Page{Limit: limit}); ; {
					page, next, err := tx.LogEntries(scopeA, "g", LogQuery{}, p)
					pages = append(pages, len(page))
					if p.After = next; err != nil || next == "" {
						return err
					}
				}
			}))
			if fmt.Sprint(pages) != "[2 1 1 2 1]" {
				t.Errorf("pages of %v entries", pages)
			}
		}
	})
}

func TestEntriesGoWithTheirAgeAndTheirGroup(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		now := time.Now()
		const day = 24 * time.Hour
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for _, name := range []string{"week", "ever", "gone"} {
				_, err := tx.CreateLogGroup(scopeA, fleet.LogGroup{ID: "id of " + name, Name: name, Created: now})
				must(t, err)
				must(t, tx.AppendLog(scopeA, "id of "+name, "s", logEntries(10, now.Add(-8*day))))
				must(t, tx.AppendLog(scopeA, "id of "+name, "s", logEntries(5, now)))
			}
			must(t, tx.KeepLog(scopeA, "week", 7))
			return tx.DropLogGroup(scopeA, "gone")
		}))
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			if _, err := tx.LogGroup(scopeA, "gone"); fleet.KindOf(err) != fleet.KindNotFound {
				t.Errorf("a deleted group: %v", err)
			}
			if n, err := tx.CountLogGroups(scopeA); n != 2 || err != nil {
				t.Errorf("%d groups, %v, of which one was deleted and still has entries", n, err)
			}
			if err := tx.KeepLog(scopeA, "gone", 1); fleet.KindOf(err) != fleet.KindNotFound {
				t.Errorf("keeping one that is gone: %v", err)
			}
			added, err := tx.CreateLogGroup(scopeA, fleet.LogGroup{ID: "another", Name: "gone", Created: now})
			if !added {
				t.Error("its name cannot be used again")
			}
			return err
		}))
		total := 0
		for more := true; more; {
			must(t, db.Tx(t.Context(), func(tx *Tx) (err error) {
				var n int
				n, more, err = tx.SweepLogs(now, 4)
				total += n
				return err
			}))
		}
		if total != 25 {
			t.Errorf("%d entries went, want 10 of week and 15 of gone", total)
		}
		must(t, db.View(t.Context(), func(tx *Tx) error {
			n, err := tx.CountLogGroups(scopeA)
			if n != 3 {
				t.Errorf("%d groups are left", n)
			}
			must(t, err)
			list, _, err := tx.LogEntries(scopeA, "id of ever", LogQuery{}, fleet.Page{})
			if len(list) != 15 {
				t.Errorf("%d entries of a group that keeps them", len(list))
			}
			return err
		}))
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			if n, _, err := tx.DeleteLogsBefore(now.Add(-day), 100); n != 10 || err != nil {
				t.Errorf("%d old ones, %v", n, err)
			}
			bytes, err := tx.BytesIn(BoundedLogs)
			if bytes < 10*200 {
				t.Errorf("%d bytes", bytes)
			}
			cut, err2 := tx.CutoffIn(BoundedLogs, bytes/2)
			if cut.IsZero() || err2 != nil {
				t.Errorf("cut at %v, %v", cut, err2)
			}
			return err
		}))
	})
}
