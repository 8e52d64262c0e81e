package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// open opens an empty store on SQLite.
func open(t testing.TB) *DB {
	t.Helper()
	return openWith(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db")})
}

func openWith(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// direct is a way to the database past the store.
func direct(t *testing.T, db *DB) *sql.DB {
	t.Helper()
	raw := sql.OpenDB(db.reading)
	t.Cleanup(func() { raw.Close() })
	return raw
}

// onEach runs a test on an empty store of each engine.
func onEach(t *testing.T, test func(t *testing.T, db *DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, open(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, openWith(t, Config{URL: storetest.Postgres(t)})) })
}

func TestConcurrentTransactionsShareCommitsAndFailAlone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		boom := errors.New("boom")
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				err := db.Tx(context.Background(), func(tx *Tx) error {
					if err := tx.PutSetting(string(rune('a'+i%26))+time.Duration(i).String(), "x"); err != nil {
						return err
					}
					if i%3 == 0 {
						return boom
					}
					return nil
				})
				if (i%3 == 0) != errors.Is(err, boom) {
					t.Errorf("transaction %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		var n int
		if err := db.View(t.Context(), func(tx *Tx) error { return tx.row(`SELECT COUNT(*) FROM settings`).Scan(&n) }); err != nil {
			t.Fatal(err)
		}
		if n != 133 {
			t.Errorf("%d settings were kept, want 133", n)
		}
	})
}

func TestPanicInABodyHarmsOnlyItsOwnTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		err := db.Tx(t.Context(), func(tx *Tx) error {
			if err := tx.PutSetting("half", "done"); err != nil {
				return err
			}
			panic("oh")
		})
		if err == nil {
			t.Fatal("a panic was swallowed")
		}
		err = db.View(t.Context(), func(tx *Tx) error {
			if v, err := tx.Setting("half"); err != nil || v != "" {
				t.Errorf("setting %q, %v: a panicking body left its writes", v, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestListenersHearAfterCommitAndNeverOfARollback(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		var heard []Change
		db.Listen(func(c []Change) { heard = append(heard, c...) })
		scope := fleet.Scope{Account: "000000000000", Region: "us-east-1"}
		now := time.Now()
		if err := db.Tx(t.Context(), func(tx *Tx) error { return tx.CutOff(scope, "role:installer", now) }); err != nil {
			t.Fatal(err)
		}
		_ = db.Tx(t.Context(), func(tx *Tx) error { tx.CutOff(scope, "role:other", now); return errors.New("no") })
		if len(heard) != 1 || heard[0].Key != "role:installer" {
			t.Errorf("heard %v", heard)
		}
		err := db.View(t.Context(), func(tx *Tx) error {
			for issued, want := range map[time.Time]bool{now: true, now.Add(-time.Hour): true, now.Add(time.Second): false} {
				if got, err := tx.CutoffAfter(scope, issued, "", "role:installer"); got != want || err != nil {
					t.Errorf("issued %v: cut off %v, %v", issued.Sub(now), got, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestAClosedStoreRefusesWorkInAWordThatClientsRetry(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "imprint.db")})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	err = db.Tx(t.Context(), func(*Tx) error { return nil })
	if fleet.KindOf(err) != fleet.KindUnavailable {
		t.Errorf("got %v", err)
	}
}

// Listeners hear of what was committed while the store was closed, too: whoever got in before Close is served.
func TestListenersHearOfTheLastCommits(t *testing.T) {
	t.Parallel()
	for range 50 {
		db := &DB{jobs: make(chan *job), done: make(chan struct{}), closed: make(chan struct{})}
		heard := 0
		db.Listen(func(changes []Change) { heard += len(changes) })
		go func() { // the last words of a writer
			j := <-db.jobs
			j.changes = []Change{{Kind: ChangedThing, Key: "lamp"}}
			j.result <- nil
			close(db.done)
		}()
		must(t, db.Tx(t.Context(), func(*Tx) error { return nil }))
		if heard != 1 {
			t.Fatalf("heard of %d changes", heard)
		}
	}
}
