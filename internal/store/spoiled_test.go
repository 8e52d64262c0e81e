package store

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// Bodies that share a commit have savepoints only when one of them has failed with something written; the others stay all the same.
func TestASpoiledGroupRunsAgainWithSavepoints(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); spoil(t, "") })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); spoil(t, storetest.Postgres(t)) })
}

func spoil(t *testing.T, url string) {
	savepoints, boom := 0, errors.New("boom")
	db := openWith(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: url, OnStatement: func(query string) {
		if strings.HasPrefix(query, "SAVEPOINT") {
			savepoints++
		}
	}})
	// run gives the store bodies that share a commit if they can, and returns what became of them.
	run := func(bodies ...func(*Tx) error) (got []error) {
		var jobs []*job
		for _, body := range bodies {
			jobs = append(jobs, &job{ctx: t.Context(), body: body, result: make(chan error, 1)})
		}
		left := jobs[1:]
		next := func() (j *job) {
			if len(left) > 0 {
				j, left = left[0], left[1:]
			}
			return j
		}
		for first := jobs[0]; first != nil; first = next() {
			db.group(first, next)
		}
		for _, j := range jobs {
			got = append(got, <-j.result)
		}
		return got
	}
	put := func(name string, then error) func(*Tx) error {
		return func(tx *Tx) error { return errors.Join(tx.PutSetting(name, "x"), then) }
	}
	refused := func(tx *Tx) error {
		_, err := tx.Setting("nothing")
		return errors.Join(err, boom)
	}
	for _, c := range []struct {
		name       string
		second     func(*Tx) error
		savepoints bool
	}{
		{"nothing written", refused, false},
		{"something written", put("half", boom), true},
		{"something returned", func(tx *Tx) error {
			var name string
			return errors.Join(tx.row(`INSERT INTO settings (name, value) VALUES ('half', 'x') RETURNING name`).Scan(&name), boom)
		}, true},
		{"a statement that fails", func(tx *Tx) error {
			_, err := tx.exec(`INSERT INTO settings (name, value) VALUES (?, NULL)`, "half")
			return errors.Join(err, boom)
		}, true},
	} {
		savepoints = 0
		for range 100 { // a machine that is busy may give each a group of its own
			got := run(put("first "+c.name, nil), c.second, put("third "+c.name, nil))
			if got[0] != nil || !errors.Is(got[1], boom) || got[2] != nil {
				t.Errorf("%s: got %q", c.name, got)
			}
			if savepoints > 0 || !c.savepoints {
				break
			}
		}
		if c.savepoints != (savepoints > 0) {
			t.Errorf("%s: %d savepoints", c.name, savepoints)
		}
		wantSetting(t, db, "first "+c.name, "x")
		wantSetting(t, db, "third "+c.name, "x")
		wantSetting(t, db, "half", "")
	}
}
