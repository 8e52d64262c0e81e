package store

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// heard are the statements that a store was asked.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) add(query string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, query)
}

func (h *heard) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	return slices.DeleteFunc(list, func(q string) bool {
		return !strings.HasPrefix(strings.TrimSpace(q), "SELECT") && !strings.HasPrefix(q, "WITH")
	})
}

// TestTheRegistryIsAskedTheSameHoweverManyThingsThereAre: as many statements, of which none goes through a table or sorts it.
func TestTheRegistryIsAskedTheSameHoweverManyThingsThereAre(t *testing.T) {
	t.Parallel()
	amongThings(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db")}, 20_000, 0)
}

// TestSoakARegistryOfAMillionThings measures that each question takes at most twice as long as among a thousand, for as many
// results. IMPRINT_THINGS names another number than a million.
func TestSoakARegistryOfAMillionThings(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	many, err := strconv.Atoi(cmp.Or(os.Getenv("IMPRINT_THINGS"), "1000000"))
	must(t, err)
	t.Run("sqlite", func(t *testing.T) { amongThings(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db")}, many, 2) })
	t.Run("postgres", func(t *testing.T) { amongThings(t, Config{URL: storetest.Fresh(t)}, many, 2) })
}

// fill makes a registry in a store.
func fill(t *testing.T, db *DB, c storetest.Crowd) {
	t.Helper()
	raw := direct(t, db)
	raw.SetMaxOpenConns(1)
	c.Fill(t, func(statement string) error { _, err := raw.ExecContext(t.Context(), statement); return err })
}

// amongThings compares what questions take in a registry of a thousand things and in one of many, in the same store; limit is of the
// ratio of their times, 0 if these are not measured.
func amongThings(t *testing.T, cfg Config, many int, limit float64) {
	var h heard
	cfg.OnStatement = h.add
	db := openWith(t, cfg)
	crowds := [2]storetest.Crowd{{N: 1000}, {N: many}}
	for i, account := range []string{"111111111111", "222222222222"} {
		crowds[i].Scope, crowds[i].Postgres = fleet.Scope{Account: account, Region: "us-east-1"}, cfg.URL != ""
	}
	for _, c := range crowds {
		begin := time.Now()
		fill(t, db, c)
		t.Logf("%d things made in %v", c.N, time.Since(begin).Round(time.Second))
	}
	if cfg.URL != "" {
		if err := db.Tx(t.Context(), func(tx *Tx) error { _, err := tx.exec(`ANALYZE`); return err }); err != nil {
			t.Fatal(err)
		}
	}
	worst := 0.0
	for _, q := range questions() {
		steps, found := sameWork(t, db, &h, crowds, q)
		if limit == 0 {
			continue
		}
		few, lots := middles(t, db, crowds, q)
		fuller := float64(found[1]+2) / float64(found[0]+2)
		ratio := float64(lots) / float64(few) / max(1, fuller)
		worst = max(worst, ratio)
		t.Logf("%-54s %8v among 1000 (%d found, %d steps), %8v among %d (%d found, %d steps); ratio %.2f", q.name, few, found[0], steps[0], lots, many, found[1], steps[1], ratio)
		if ratio > limit {
			t.Errorf("%s takes %.2f times as long as among a thousand, for as many results", q.name, ratio)
		}
	}
	if limit > 0 {
		t.Logf("the worst ratio is %.2f", worst)
	}
}

// sameWork holds a question to the statements that it takes in a small registry and, on SQLite, to the steps of its machine.
func sameWork(t *testing.T, db *DB, h *heard, crowds [2]storetest.Crowd, q question) (steps, found [2]int) {
	t.Helper()
	var asked [2][]string
	for i := range crowds {
		h.take()
		found[i], steps[i] = counted(t, db, crowds[i], q)
		asked[i] = h.take()
	}
	many := crowds[1].N
	if more := len(asked[1]) - len(asked[0]); more > q.more {
		t.Errorf("%s: %d statements among a thousand, %d among %d", q.name, len(asked[0]), len(asked[1]), many)
	}
	if crowds[0].Postgres {
		return steps, found
	}
	wantSearches(t, db, q.name, asked[1])
	times := 2
	if q.passing {
		times = 3
	}
	if few, lots := steps[0]/(found[0]+2), steps[1]/(found[1]+2); lots > times*few {
		t.Errorf("%s: %d steps of SQLite's machine for %d results among a thousand, %d for %d among %d", q.name, steps[0], found[0], steps[1], found[1], many)
	}
	return steps, found
}

// middles are how long a question takes in each registry. They are asked in turns: whatever else the machine does meets both.
func middles(t *testing.T, db *DB, crowds [2]storetest.Crowd, q question) (few, lots time.Duration) {
	t.Helper()
	var took [2][]time.Duration
	for range 101 {
		for i := range crowds {
			begin := time.Now()
			must(t, db.View(t.Context(), func(tx *Tx) error { _, err := q.ask(tx, crowds[i]); return err }))
			took[i] = append(took[i], time.Since(begin))
		}
	}
	return middleOf(took[0]), middleOf(took[1])
}

// TestEveryQuestionIsThatOfAnOperation holds testdata/reads.txt to the questions; a test of all services holds it to the operations.
func TestEveryQuestionIsThatOfAnOperation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/reads.txt")
	must(t, err)
	known := map[string]bool{}
	for _, q := range questions() {
		known[q.name] = false
	}
	for line := range strings.Lines(string(text)) {
		operation, asked, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if strings.HasPrefix(operation, "#") || asked == "" {
			continue
		}
		for name := range strings.SplitSeq(asked, "; ") {
			if _, there := known[name]; !there {
				t.Errorf("%s: there is no question %q", operation, name)
			}
			known[name] = true
		}
	}
	for name, used := range known {
		if !used {
			t.Errorf("the question %q is in no line", name)
		}
	}
}

// counted asks a question once, and counts what it finds and, on SQLite, how many steps of its machine that takes: what it does, where
// time is also what others do.
func counted(t *testing.T, db *DB, c storetest.Crowd, q question) (found, steps int) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx *Tx) (err error) {
		must(t, tx.start())
		count := func() (n int) {
			if !c.Postgres {
				for _, s := range compiled(t, tx.on.conn) {
					n += s.steps
				}
			}
			return n
		}
		before := count()
		if found, err = q.ask(tx, c); err != nil {
			t.Fatalf("%s: %v", q.name, err)
		}
		steps = count() - before
		return nil
	}))
	return found, steps
}

func middleOf(all []time.Duration) time.Duration {
	slices.SortFunc(all, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	return all[len(all)/2]
}

// small are the names of what has some rows however large the registry is, as those that a LIMIT leaves, and the questions that
// sort such: of one thing, principal or certificate.
var small = []string{"seen", "few", "up", "targets", "t", "CONSTANT ROW", "find certificate", "associated thing", "effective policies", "policies above a group"}

// wantSearches looks at the plans of statements: nothing goes through a table, or through all of an account and then sorts.
func wantSearches(t *testing.T, db *DB, name string, statements []string) {
	t.Helper()
	raw := direct(t, db)
	for _, query := range statements {
		rows, err := raw.Query(`EXPLAIN QUERY PLAN `+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, query)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		for _, step := range plan {
			table, scans := strings.CutPrefix(step, "SCAN ")
			sorts := strings.HasPrefix(step, "USE TEMP B-TREE FOR ORDER BY") && !slices.Contains(small, name)
			everything := strings.HasSuffix(step, "(account=? AND region=?)") && slices.Contains(small, name)
			if scans && !slices.Contains(small, table) || sorts || everything {
				t.Errorf("%s: %q in %q of %s", name, step, plan, query)
			}
		}
	}
}

// TestPagesOfALargeRegistryAddUp: also those that may have fewer entries than they have room for.
func TestPagesOfALargeRegistryAddUp(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(*testing.T) Config{
		"sqlite":   func(t *testing.T) Config { return Config{Path: filepath.Join(t.TempDir(), "imprint.db")} },
		"postgres": func(t *testing.T) Config { return Config{URL: storetest.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg(t)
			db := openWith(t, cfg)
			c := storetest.Crowd{Scope: fleet.Scope{Account: "111111111111", Region: "us-east-1"}, N: 4000, Postgres: cfg.URL != ""}
			fill(t, db, c)
			root := fleet.ThingGroup{Name: "fleet"}
			for what, l := range map[string]struct {
				want int
				list func(tx *Tx, p fleet.Page) ([]string, string, error)
			}{
				"members of all groups below": {4000, func(tx *Tx, p fleet.Page) ([]string, string, error) { return tx.Members(c.Scope, root, true, p) }},
				"all groups below": {41, func(tx *Tx, p fleet.Page) ([]string, string, error) {
					groups, next, err := tx.Groups(c.Scope, GroupFilter{Under: &root}, p)
					return names(groups, func(g fleet.ThingGroup) string { return g.Name }), next, err
				}},
				"groups below by their beginning": {40, func(tx *Tx, p fleet.Page) ([]string, string, error) {
					groups, next, err := tx.Groups(c.Scope, GroupFilter{Under: &root, Prefix: "site-"}, p)
					return names(groups, func(g fleet.ThingGroup) string { return g.Name }), next, err
				}},
				"a rare type and a common value":    {80, filtered(c, ThingFilter{Type: "rare", Attribute: "colour", Value: "red"})},
				"a rare type and a rare value":      {80, filtered(c, ThingFilter{Type: "rare", Attribute: "colour", Value: "green"})},
				"a rare type and a beginning":       {160, filtered(c, ThingFilter{Type: "rare", Attribute: "site", Value: "site", Prefix: true})},
				"a rare type and a value's few":     {80, filtered(c, ThingFilter{Type: "rare", Attribute: "colour", Value: "g", Prefix: true})},
				"a rare type and any value":         {160, filtered(c, ThingFilter{Type: "rare", Attribute: "serial"})},
				"a rare type and any of few values": {160, filtered(c, ThingFilter{Type: "rare", Attribute: "colour"})},
				"a common type and a common value":  {1920, filtered(c, ThingFilter{Type: "lamp", Attribute: "colour", Value: "red"})},
				"a common type and a beginning":     {3840, filtered(c, ThingFilter{Type: "lamp", Attribute: "site", Value: "site", Prefix: true})},
				"a common type and any value":       {3840, filtered(c, ThingFilter{Type: "lamp", Attribute: "serial"})},
				"a beginning":                       {4000, filtered(c, ThingFilter{Attribute: "colour", Prefix: true})},
				"a value of all types":              {2000, filtered(c, ThingFilter{Attribute: "colour", Value: "green"})},
			} {
				seen := map[string]bool{}
				for p := (fleet.Page{Limit: 97}); ; {
					var page []string
					var next string
					if err := db.View(t.Context(), func(tx *Tx) (err error) { page, next, err = l.list(tx, p); return err }); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					for _, name := range page {
						if seen[name] {
							t.Fatalf("%s: %s comes twice", what, name)
						}
						seen[name] = true
					}
					if len(page) > p.Limit || next == p.After && next != "" {
						t.Fatalf("%s: a page of %d, and the next begins at %q after %q", what, len(page), next, p.After)
					}
					if p.After = next; next == "" {
						break
					}
				}
				if len(seen) != l.want {
					t.Errorf("%s: %d, want %d", what, len(seen), l.want)
				}
				err := db.View(t.Context(), func(tx *Tx) error {
					all, _, err := l.list(tx, fleet.Page{})
					if err == nil && len(all) != l.want {
						t.Errorf("%s: %d in one page, want %d", what, len(all), l.want)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestGroupsBelowAreFoundByTheirBeginning: where few groups are below, and where many are.
func TestGroupsBelowAreFoundByTheirBeginning(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		for tree, n := range map[string]int{"small": 20, "large": 120} {
			var want []string
			must(t, db.Tx(t.Context(), func(tx *Tx) error {
				want = nil
				top, other := fleet.ThingGroup{Name: tree}, fleet.ThingGroup{Name: tree + "-other"}
				err := errors.Join(tx.CreateGroup(scopeA, top), tx.CreateGroup(scopeA, other))
				for i := range n {
					g := fleet.ThingGroup{Name: fmt.Sprintf("%s-%c-%03d", tree, "xy"[i%2], i), Parent: tree, Path: []string{tree}}
					if i%4 > 1 {
						g.Parent, g.Path = other.Name, []string{other.Name}
					} else if i%2 == 0 {
						want = append(want, g.Name)
					}
					err = errors.Join(err, tx.CreateGroup(scopeA, g))
				}
				for i := range n { // below one of those
					g := fleet.ThingGroup{Name: fmt.Sprintf("%s-x-%03d", tree, n+i), Parent: tree + "-x-000", Path: []string{tree, tree + "-x-000"}}
					want, err = append(want, g.Name), errors.Join(err, tx.CreateGroup(scopeA, g))
				}
				return err
			}))
			for _, limit := range []int{0, 7, 100} {
				var got []string
				for p := (fleet.Page{Limit: limit}); ; {
					var page []fleet.ThingGroup
					must(t, db.View(t.Context(), func(tx *Tx) (err error) {
						page, p.After, err = tx.Groups(scopeA, GroupFilter{Under: &fleet.ThingGroup{Name: tree}, Prefix: tree + "-x"}, p)
						return err
					}))
					if got = append(got, names(page, func(g fleet.ThingGroup) string { return g.Name })...); p.After == "" {
						break
					}
				}
				if slices.Sort(got); !slices.Equal(got, want) { // the small one comes as a tree is walked
					t.Errorf("%s, in pages of %d: %q, want %q", tree, limit, got, want)
				}
			}
		}
	})
}

// TestMembersAreFoundBehindGroupsThatHaveNone: a page passes over some of these, and says that there may be more behind.
func TestMembersAreFoundBehindGroupsThatHaveNone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		const empty = 2 * scanned
		top := fleet.ThingGroup{Name: "top"}
		want := []string{"in top", "in a", "in b", "below b", "in z"}
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			err := tx.CreateGroup(scopeA, top)
			for _, name := range []string{"a", "b", "z"} {
				err = errors.Join(err, tx.CreateGroup(scopeA, fleet.ThingGroup{Name: name, Parent: "top", Path: []string{"top"}}))
			}
			err = errors.Join(err, tx.CreateGroup(scopeA, fleet.ThingGroup{Name: "under", Parent: "b", Path: []string{"top", "b"}}),
				tx.CreateGroup(scopeA, fleet.ThingGroup{Name: "top-other"}), tx.CreateGroup(scopeA, fleet.ThingGroup{Name: "c", Parent: "top-other", Path: []string{"top-other"}}))
			for i := range empty {
				err = errors.Join(err, tx.CreateGroup(scopeA, fleet.ThingGroup{Name: fmt.Sprintf("m-%05d", i), Parent: "top", Path: []string{"top"}}))
			}
			for thing, group := range map[string]string{"in top": "top", "in a": "a", "in b": "b", "below b": "under", "in z": "z", "elsewhere": "c", "on top": "top-other"} {
				_, failed := tx.AddToGroup(scopeA, thing, group)
				err = errors.Join(err, failed)
			}
			return err
		}))
		for _, limit := range []int{0, 1, 3, 100} {
			var got []string
			pages := 0
			for p := (fleet.Page{Limit: limit}); ; pages++ {
				var page []string
				must(t, db.View(t.Context(), func(tx *Tx) (err error) {
					page, p.After, err = tx.Members(scopeA, top, true, p)
					return err
				}))
				if got = append(got, page...); p.After == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("in pages of %d: %q, want %q", limit, got, want)
			}
			if limit > 0 && pages == 0 {
				t.Errorf("a page of %d passed over %d groups", limit, empty)
			}
		}
	})
}

func names[T any](list []T, name func(T) string) (out []string) {
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

func filtered(c storetest.Crowd, f ThingFilter) func(tx *Tx, p fleet.Page) ([]string, string, error) {
	return func(tx *Tx, p fleet.Page) ([]string, string, error) {
		things, next, err := tx.Things(c.Scope, f, p)
		return names(things, func(t fleet.Thing) string { return t.Name }), next, err
	}
}
