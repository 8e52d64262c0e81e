package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// onNodes runs a test on one SQLite store, and on a PostgreSQL database that three nodes have open.
func onNodes(t *testing.T, test func(t *testing.T, nodes []*DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, []*DB{open(t)}) })
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := storetest.Postgres(t)
		test(t, []*DB{openWith(t, Config{URL: url}), openWith(t, Config{URL: url}), openWith(t, Config{URL: url})})
	})
}

// together runs f(0) … f(n-1) at the same time, each with one of the nodes, and returns their errors.
func together(n int, nodes []*DB, f func(i int, db *DB) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i, nodes[i%len(nodes)])
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func TestOf64WhoWantOneNameOneGetsIt(t *testing.T) {
	t.Parallel()
	onNodes(t, func(t *testing.T, nodes []*DB) {
		won := 0
		for i, err := range together(64, nodes, func(i int, db *DB) error {
			return db.Tx(t.Context(), func(tx *Tx) error {
				if _, err := tx.Thing(scopeA, "wanted"); fleet.KindOf(errOr(err)) != fleet.KindNotFound {
					return errors.Join(err, fleet.Exists("thing", "wanted", "somebody was first"))
				}
				return tx.CreateThing(scopeA, fleet.Thing{Name: "wanted", ID: strconv.Itoa(i), Version: 1})
			})
		}) {
			if err == nil {
				won++
			} else if fleet.KindOf(err) != fleet.KindExists {
				t.Errorf("racer %d: %v", i, err)
			}
		}
		if won != 1 {
			t.Errorf("%d won", won)
		}
	})
}

// errOr makes fleet.KindOf take no error.
func errOr(err error) error {
	if err == nil {
		return errors.New("found")
	}
	return err
}

// Each of two wants to leave and may if the other stays: a snapshot alone lets both go (write skew).
func TestACheckOfOneRowHoldsWhileAnotherIsWritten(t *testing.T) {
	t.Parallel()
	onNodes(t, func(t *testing.T, nodes []*DB) {
		const rounds = 40
		pair := func(round, who int) string { return fmt.Sprintf("on-call/%d/%d", round, who) }
		must(t, nodes[0].Tx(t.Context(), func(tx *Tx) error {
			for round := range rounds {
				must(t, tx.PutSetting(pair(round, 0), "here"))
				must(t, tx.PutSetting(pair(round, 1), "here"))
			}
			return nil
		}))
		refused := errors.New("the other one has left")
		for _, err := range together(2*rounds, nodes, func(i int, db *DB) error {
			round, me := i/2, i%2
			return db.Tx(t.Context(), func(tx *Tx) error {
				if other, err := tx.Setting(pair(round, 1-me)); err != nil || other != "here" {
					return errors.Join(err, refused)
				}
				return tx.PutSetting(pair(round, me), "left")
			})
		}) {
			if err != nil && !errors.Is(err, refused) {
				t.Error(err)
			}
		}
		must(t, nodes[0].View(t.Context(), func(tx *Tx) error {
			for round := range rounds {
				a, err := tx.Setting(pair(round, 0))
				must(t, err)
				b, err := tx.Setting(pair(round, 1))
				must(t, err)
				if (a == "here") == (b == "here") {
					t.Errorf("round %d: %q and %q", round, a, b)
				}
			}
			return nil
		}))
	})
}

func TestNoIncrementIsLost(t *testing.T) {
	t.Parallel()
	onNodes(t, func(t *testing.T, nodes []*DB) {
		for _, err := range together(100, nodes, func(_ int, db *DB) error { return db.Tx(t.Context(), increment) }) {
			must(t, err)
		}
		wantSetting(t, nodes[0], "count", "100")
	})
}

func increment(tx *Tx) error {
	text, err := tx.Setting("count")
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(text) // "" is 0
	return tx.PutSetting("count", strconv.Itoa(n+1))
}

func wantSetting(t *testing.T, db *DB, name, want string) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx *Tx) error {
		if v, err := tx.Setting(name); err != nil || v != want {
			t.Errorf("%s is %q, %v; want %q", name, v, err, want)
		}
		return nil
	}))
}

// A body that finds something taken may decide otherwise and go on.
func TestABodyGoesOnAfterARowThatWasThere(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		s := scopeA
		for _, want := range []string{"first", "second"} {
			must(t, db.Tx(t.Context(), func(tx *Tx) error {
				err := tx.CreateThing(s, fleet.Thing{Name: "lamp", Version: 1})
				if err != nil && fleet.KindOf(err) != fleet.KindExists {
					return err
				}
				text := map[bool]string{true: "first", false: "second"}[err == nil]
				if text != want {
					t.Errorf("this is the %s, want the %s", text, want)
				}
				return tx.PutSetting("seen", text)
			}))
			wantSetting(t, db, "seen", want)
		}
	})
}

func TestTextIsOrderedByItsBytes(t *testing.T) {
	t.Parallel()
	names := []string{"b", "B", "a", "A", "_", "-", "10", "9", "a-b", "ab", "aB", "a_b", "a:b", "ä", "z", "Z", "é", "ß"}
	sorted := slices.Sorted(slices.Values(names))
	onEach(t, func(t *testing.T, db *DB) {
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for _, name := range names {
				must(t, tx.CreateThing(scopeA, fleet.Thing{Name: name, Version: 1}))
			}
			return nil
		}))
		must(t, db.View(t.Context(), func(tx *Tx) error {
			var got []string
			for page := (fleet.Page{Limit: 4}); ; {
				things, next, err := tx.Things(scopeA, ThingFilter{}, page)
				must(t, err)
				for _, thing := range things {
					got = append(got, thing.Name)
				}
				if page.After = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, sorted) {
				t.Errorf("got %q, want %q", got, sorted)
			}
			return nil
		}))
	})
}

func TestTextThatPostgreSQLCannotHoldIsInvalidInput(t *testing.T) {
	t.Parallel()
	db := openWith(t, Config{URL: storetest.Postgres(t)})
	for _, text := range []string{"a\x00b", "a\xffb"} {
		err := db.Tx(t.Context(), func(tx *Tx) error { return tx.PutSetting("name", text) })
		if fleet.KindOf(errOr(err)) != fleet.KindInvalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// stranger is a connection that doesn't take turns.
func stranger(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestABodyThatLosesToAStrangerRunsAgain(t *testing.T) {
	t.Parallel()
	for name, outcome := range map[string]func(error) error{
		"and says so":              func(err error) error { return err },
		"and swallows it":          func(error) error { return nil },
		"and says something else":  func(error) error { return errors.New("mine") },
		"and takes it for invalid": func(err error) error { return fleet.Invalid("setting", "x", "%v", err) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := storetest.Postgres(t)
			db, other := openWith(t, Config{URL: url}), stranger(t, url)
			must(t, db.Tx(t.Context(), increment))
			runs := 0
			must(t, db.Tx(t.Context(), func(tx *Tx) error {
				runs++
				tx.Changed(scopeA, "run", strconv.Itoa(runs))
				if _, err := tx.Setting("count"); err != nil {
					return err
				}
				if runs <= 2 {
					_, err := other.Exec(`UPDATE settings SET value = '10' WHERE name = 'count'`)
					must(t, err)
				}
				if err := increment(tx); err != nil {
					return outcome(err)
				}
				return nil
			}))
			if runs != 3 {
				t.Errorf("the body ran %d times", runs)
			}
			wantSetting(t, db, "count", "11")
		})
	}
}

func TestABodyThatAlwaysLosesIsGivenUpWithAWordThatClientsRetry(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	db, other := openWith(t, Config{URL: url}), stranger(t, url)
	must(t, db.Tx(t.Context(), increment))
	runs := 0
	err := db.Tx(t.Context(), func(tx *Tx) error {
		runs++
		if _, err := tx.Setting("count"); err != nil {
			return err
		}
		_, err := other.Exec(`UPDATE settings SET value = '10' WHERE name = 'count'`)
		must(t, err)
		return increment(tx)
	})
	if fleet.KindOf(errOr(err)) != fleet.KindUnavailable || runs != maxTries {
		t.Errorf("after %d runs: %v", runs, err)
	}
}

func TestOthersAreKeptWhenOneLosesItsConnection(t *testing.T) {
	t.Parallel()
	db := openWith(t, Config{URL: storetest.Postgres(t)})
	var mu sync.Mutex
	runs := 0
	for _, err := range together(20, []*DB{db}, func(i int, db *DB) error {
		return db.Tx(t.Context(), func(tx *Tx) error {
			if err := tx.PutSetting("of "+strconv.Itoa(i), "kept"); err != nil || i != 7 {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if runs++; runs > 1 {
				return nil
			}
			_, err := tx.exec(`SELECT pg_terminate_backend(pg_backend_pid())`)
			return err
		})
	}) {
		must(t, err)
	}
	if runs != 2 {
		t.Errorf("the body ran %d times", runs)
	}
	for i := range 20 {
		wantSetting(t, db, "of "+strconv.Itoa(i), "kept")
	}
}

func TestACommitThatMayHaveSucceededIsNotRepeated(t *testing.T) {
	t.Parallel()
	db := openWith(t, Config{URL: storetest.Postgres(t)})
	err := db.again(&job{ctx: t.Context(), body: func(*Tx) error { t.Error("the body ran again"); return nil }},
		unsure{fmt.Errorf("committing: %w", context.DeadlineExceeded)})
	if fleet.KindOf(errOr(err)) != fleet.KindUnavailable {
		t.Error(err)
	}
}

// lostCommit is a transaction whose commit is done, and whose answer does not arrive.
type lostCommit struct{ driver.Tx }

func (t lostCommit) Commit() error { return errors.Join(t.Tx.Commit(), driver.ErrBadConn) }

func TestListenersHearOfACommitThatMayHaveSucceeded(t *testing.T) {
	t.Parallel()
	db := openWith(t, Config{URL: storetest.Postgres(t)})
	var heard atomic.Int64
	db.Listen(func(changes []Change) { heard.Add(int64(len(changes))) })
	begin, lost := db.engine.begin, false
	db.engine.begin = func(ctx context.Context, s *session, write bool) (driver.Tx, error) {
		tx, err := begin(ctx, s, write)
		if err == nil && !lost {
			tx, lost = lostCommit{tx}, true
		}
		return tx, err
	}
	err := db.Tx(t.Context(), func(tx *Tx) error {
		tx.Changed(scopeA, ChangedPolicy, "lost")
		return increment(tx)
	})
	if n := heard.Load(); fleet.KindOf(errOr(err)) != fleet.KindUnavailable || n != 1 {
		t.Errorf("listeners heard of %d changes: %v", n, err)
	}
	for range 2 { // another may have changed nothing, since it was done
		must(t, db.Tx(t.Context(), increment))
		if n := heard.Load(); n != 2 {
			t.Errorf("after the next commit listeners heard of %d changes", n)
		}
	}
	wantSetting(t, db, "count", "3")
}

func TestAStoreRecoversWhenItsDatabaseIsBack(t *testing.T) {
	t.Parallel()
	server := storetest.Start(t)
	db := openWith(t, Config{URL: server.Database(t)})
	read := func() error {
		return db.View(t.Context(), func(tx *Tx) error { _, err := tx.Setting("count"); return err })
	}
	must(t, db.Tx(t.Context(), increment))
	must(t, read())
	must(t, server.Stop())
	for range 3 {
		for _, err := range []error{db.Tx(t.Context(), increment), read()} {
			if fleet.KindOf(errOr(err)) != fleet.KindUnavailable {
				t.Fatalf("without a database: %v", err)
			}
		}
	}
	must(t, server.Restart())
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for err := db.Tx(t.Context(), increment); err != nil; err = db.Tx(t.Context(), increment) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
	must(t, read())
	wantSetting(t, db, "count", "2")
}

// TestARestartBetweenTransactionsIsNotNoticed: connections that a restart has broken are replaced before anything is lost.
func TestARestartBetweenTransactionsIsNotNoticed(t *testing.T) {
	t.Parallel()
	server := storetest.Start(t)
	db := openWith(t, Config{URL: server.Database(t)})
	for range 3 {
		must(t, db.Tx(t.Context(), increment))
		for range db.engine.readers + 1 {
			must(t, db.View(t.Context(), func(tx *Tx) error { _, err := tx.Setting("count"); return err }))
		}
		must(t, server.Stop())
		must(t, server.Restart())
	}
	wantSetting(t, db, "count", "3")
}

func TestARehearsedBodyRunsTwiceAndKeepsOnce(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Path: filepath.Join(t.TempDir(), "imprint.db")}, {URL: storetest.Postgres(t)}} {
		cfg.Rehearse = true
		db := openWith(t, cfg)
		var heard []Change
		db.Listen(func(c []Change) { heard = append(heard, c...) })
		runs := 0
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			runs++
			tx.Changed(scopeA, "x", "y")
			return increment(tx)
		}))
		if runs != 2 || len(heard) != 1 {
			t.Errorf("%d runs, heard %v", runs, heard)
		}
		wantSetting(t, db, "count", "1")
	}
}
