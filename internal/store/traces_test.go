package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

func TestTracesAreFoundBySubjectTheNewestFirst(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		here, there := fleet.Scope{Account: "000000000000", Region: "us-east-1"}, fleet.Scope{Account: "111111111111", Region: "us-east-1"}
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		put := func(tx *Tx, s fleet.Scope, at time.Time, subjects ...string) string {
			id := fleet.NewTimeUUID(at)
			if err := tx.PutTrace(s, trace.Record{ID: id, Start: at, Kind: trace.Connect, Outcome: trace.OK}, subjects); err != nil {
				t.Error(err)
			}
			return id
		}
		find := func(tx *Tx, s fleet.Scope, subject string, limit int) (ids []string) {
			list, err := tx.Traces(s, subject, limit)
			if err != nil {
				t.Error(err)
			}
			for _, r := range list {
				ids = append(ids, r.ID)
			}
			return ids
		}
		want := func(what string, got []string, ids ...string) {
			t.Helper()
			if !slices.Equal(got, ids) {
				t.Errorf("%s: found %v, want %v", what, got, ids)
			}
		}
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			old := put(tx, here, begin, "lamp", "client", "lamp") // named twice, as a thing and as a client
			var many []string
			for i := range 20 {
				many = append(many, fmt.Sprint("value-", i))
			}
			middle := put(tx, here, begin.Add(10*24*time.Hour), append(many, trace.HashedSubject("serial"))...)
			other := put(tx, there, begin.Add(10*24*time.Hour), "lamp", "value-1")
			last := put(tx, here, begin.Add(10*24*time.Hour+time.Minute), "lamp")
			newest := put(tx, here, begin.Add(10*24*time.Hour+2*time.Minute), "lamp")

			want("all of a subject", find(tx, here, "lamp", 10), newest, last, old)
			want("the newest", find(tx, here, "lamp", 1), newest)
			want("of another account", find(tx, there, "lamp", 10), other)
			want("one of many subjects", find(tx, here, "value-17", 10), middle)
			want("a parameter", find(tx, here, "serial", 10), middle)
			want("an id", find(tx, here, middle, 10), middle)
			want("an id of another account", find(tx, here, other, 10))
			want("nobody", find(tx, here, "stranger", 10))

			n, more, err := tx.DeleteTracesBefore(begin.Add(24*time.Hour), 1)
			if err != nil || n != 1 || !more {
				t.Errorf("dropped %d, more %v: %v", n, more, err)
			}
			for ; more; _, more, err = tx.DeleteTracesBefore(begin.Add(24*time.Hour), 1) {
				must(t, err)
			}
			for _, q := range []string{ // as earlier versions filed them
				`INSERT INTO trace_keys (account, region, at, id, subject) VALUES (?, ?, ?, ?, 'old-lamp')`,
				`INSERT INTO trace_subjects (hour, subject, id) VALUES (?, ?, ?)`,
			} {
				args := []any{here.Account, here.Region, millis(begin.Add(10 * 24 * time.Hour)), middle}
				if strings.Contains(q, "trace_subjects") {
					args = []any{begin.Add(10*24*time.Hour).Unix() / 3600, subjectHash(here, "older-lamp"), middle}
				}
				if _, err := tx.exec(q, args...); err != nil {
					t.Error(err)
				}
			}
			want("filed by an earlier version", find(tx, here, "old-lamp", 1), middle)
			want("filed by a later one", find(tx, here, "older-lamp", 1), middle)
			want("after the old ones were dropped", find(tx, here, "lamp", 10), newest, last)
			for more := true; more; _, more, err = tx.DeleteTracesBefore(begin.Add(11*24*time.Hour), 10) {
				must(t, err)
			}
			for _, table := range []string{"traces", "trace_subjects", "trace_keys"} {
				var left int
				if err := tx.row(`SELECT COUNT(*) FROM ` + table).Scan(&left); err != nil || left != 0 {
					t.Errorf("%d rows of %s are left: %v", left, table, err)
				}
			}
			return nil
		}))
	})
}
