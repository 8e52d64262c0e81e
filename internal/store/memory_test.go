package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

var memoryScope = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

// everything reads all that a memory keeps, of four names each. Errors count as values.
func everything(tx *Tx) (out []any) {
	add := func(v any, err error) { out = append(out, v, fleet.KindOf(err)) }
	for i := range 4 {
		name := fmt.Sprint("n", i)
		t, err := tx.Template(memoryScope, name)
		add(t, err)
		c, err := tx.Claim(memoryScope, name)
		add(c, err)
		p, err := tx.Policy(memoryScope, name)
		add(p, err)
		e, err := tx.IAMEntity(memoryScope, IAMRole, name)
		add(e, err)
		e, err = tx.IAMEntity(memoryScope, IAMUser, name)
		add(e, err)
		dead, err := tx.CutoffAfter(memoryScope, time.UnixMilli(500), name)
		add(dead, err)
	}
	return out
}

// agree compares what a transaction remembers with what its database says.
func agree(t *testing.T, tx *Tx, when string) {
	t.Helper()
	kept := everything(tx)
	must(t, tx.start())
	was := tx.on.changed
	tx.on.changed = true // past the memory
	read := everything(tx)
	tx.on.changed = was
	if !reflect.DeepEqual(kept, read) {
		t.Errorf("%s the memory says\n%v\nthe database\n%v", when, kept, read)
	}
}

// memoryWrites are all functions that write what is kept.
var memoryWrites = []func(tx *Tx, name string, n int) error{
	func(tx *Tx, name string, n int) error {
		return tx.CreateTemplate(memoryScope, fleet.Template{Name: name, Type: fleet.FleetProvisioning, Body: fmt.Sprint(n)})
	},
	func(tx *Tx, name string, n int) error {
		t, err := tx.Template(memoryScope, name)
		if err != nil {
			return err
		}
		t.Enabled = new(n%2 == 0)
		return tx.UpdateTemplate(memoryScope, t)
	},
	func(tx *Tx, name string, n int) error {
		_, err := tx.AddTemplateVersion(memoryScope, name, fmt.Sprint(n), n%2 == 0)
		return err
	},
	func(tx *Tx, name string, _ int) error { return tx.DeleteTemplate(memoryScope, name) },
	func(tx *Tx, name string, n int) error {
		return tx.CreateClaim(memoryScope, fleet.Claim{ID: name, Template: fmt.Sprint("n", n%4), Created: tx.Now(), Expires: time.UnixMilli(int64(n))})
	},
	func(tx *Tx, name string, _ int) error { return tx.RevokeClaim(memoryScope, name) },
	func(tx *Tx, _ string, n int) error {
		_, err := tx.DeleteClaims(time.UnixMilli(int64(n)), 1)
		return err
	},
	func(tx *Tx, name string, n int) error {
		return tx.CreatePolicy(memoryScope, fleet.Policy{Name: name, Default: 1, Document: fmt.Sprint(n)})
	},
	func(tx *Tx, name string, n int) error {
		v, err := tx.AddPolicyVersion(memoryScope, name, fmt.Sprint(n))
		if err != nil {
			return err
		}
		return tx.SetDefaultPolicyVersion(memoryScope, name, v)
	},
	func(tx *Tx, name string, _ int) error { return tx.DeletePolicy(memoryScope, name) },
	func(tx *Tx, name string, n int) error {
		return tx.CreateIAMEntity(memoryScope, IAMEntity{Kind: IAMRole, Name: name, Body: fmt.Sprint(n)})
	},
	func(tx *Tx, name string, n int) error {
		return tx.UpdateIAMEntity(memoryScope, IAMEntity{Kind: IAMRole, Name: name, Body: fmt.Sprint(n)})
	},
	func(tx *Tx, name string, _ int) error { return tx.DeleteIAMEntity(memoryScope, IAMRole, name) },
	func(tx *Tx, name string, _ int) error {
		return tx.CreateIAMEntity(memoryScope, IAMEntity{Kind: IAMUser, Name: name})
	},
	func(tx *Tx, name string, n int) error {
		return tx.RenameIAMEntity(memoryScope, IAMUser, name, fmt.Sprint("n", n%4))
	},
	func(tx *Tx, name string, n int) error {
		return tx.CutOff(memoryScope, name, time.UnixMilli(int64(n)))
	},
}

func TestAMemorySaysWhatTheDatabaseSays(t *testing.T) {
	t.Parallel()
	db := open(t)
	random := rand.New(rand.NewPCG(1, 2))
	giveUp := errors.New("undo this")
	for n := range 400 {
		write, name, fails := memoryWrites[random.IntN(len(memoryWrites))], fmt.Sprint("n", random.IntN(4)), random.IntN(5) == 0
		err := db.Tx(t.Context(), func(tx *Tx) error {
			agree(t, tx, "before a write")
			err := write(tx, name, n) // many fail: there is no such name, or it is taken
			if err == nil && fails {
				return giveUp
			}
			agree(t, tx, "after a write")
			return err
		})
		if fails && err == nil {
			t.Fatal("a body that failed was kept")
		}
		if err := db.View(t.Context(), func(tx *Tx) error { agree(t, tx, "in a view"); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestABodySeesWhatItsGroupHasChanged(t *testing.T) {
	t.Parallel()
	db := open(t)
	set := func(enabled bool) func(*Tx) error {
		return func(tx *Tx) error {
			return tx.UpdateTemplate(memoryScope, fleet.Template{Name: "lamps", Type: fleet.FleetProvisioning, Enabled: new(enabled), Default: 1})
		}
	}
	enabled := func(tx *Tx) (is bool) {
		l, err := tx.Template(memoryScope, "lamps")
		if err != nil {
			t.Error(err)
		}
		return err == nil && *l.Enabled
	}
	if err := db.Tx(t.Context(), func(tx *Tx) error {
		return tx.CreateTemplate(memoryScope, fleet.Template{Name: "lamps", Type: fleet.FleetProvisioning, Enabled: new(true)})
	}); err != nil {
		t.Fatal(err)
	}
	for range 100 { // a machine that is busy may give each a group of its own
		if err := db.Tx(t.Context(), set(true)); err != nil {
			t.Fatal(err)
		}
		if err := db.View(t.Context(), func(tx *Tx) error { enabled(tx); return nil }); err != nil { // now it is kept
			t.Fatal(err)
		}
		seen := true
		second := &job{ctx: t.Context(), body: func(tx *Tx) error { seen = enabled(tx); return nil }}
		next := func() *job { j := second; second = nil; return j }
		jobs, results, err := db.attempt(&job{ctx: t.Context(), body: set(false)}, next, false)
		if err != nil || errors.Join(results...) != nil {
			t.Fatal(jobs, results, err)
		}
		if len(jobs) == 2 {
			if seen {
				t.Error("a body saw what another one of its group had changed before")
			}
			return
		}
	}
	t.Error("two bodies never share a group")
}

func TestAViewSeesOneStateWhateverIsKeptMeanwhile(t *testing.T) {
	t.Parallel()
	db := open(t)
	write := func(body func(*Tx) error) {
		if err := db.Tx(t.Context(), body); err != nil {
			t.Fatal(err)
		}
	}
	document := func(tx *Tx) string {
		p, err := tx.Policy(memoryScope, "lamps")
		if err != nil {
			t.Error(err)
		}
		return p.Document
	}
	write(func(tx *Tx) error {
		return tx.CreatePolicy(memoryScope, fleet.Policy{Name: "lamps", Default: 1, Document: "old"})
	})
	if err := db.View(t.Context(), func(tx *Tx) error {
		if _, err := tx.Setting("anything"); err != nil { // from here on its state is fixed
			return err
		}
		write(func(tx *Tx) error {
			v, err := tx.AddPolicyVersion(memoryScope, "lamps", "new")
			if err != nil {
				return err
			}
			return tx.SetDefaultPolicyVersion(memoryScope, "lamps", v)
		})
		if err := db.View(t.Context(), func(tx *Tx) error {
			if d := document(tx); d != "new" {
				t.Errorf("after the change the document is %q", d)
			}
			return nil
		}); err != nil {
			return err
		}
		if d := document(tx); d != "old" {
			t.Errorf("a view that began before the change sees %q", d)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.View(t.Context(), func(tx *Tx) error {
		if d := document(tx); d != "new" {
			t.Errorf("the old view left %q behind", d)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Readers fill the memory as fast as they can while writers change what is in it. Whoever has an answer must never see what was
// before it, and a view that has seen a change must not lose it.
func TestAMemoryNeverServesWhatWasChanged(t *testing.T) {
	t.Parallel()
	db := open(t)
	const writers, rounds = 3, 40
	for i := range writers {
		if err := db.Tx(t.Context(), func(tx *Tx) error {
			return tx.CreatePolicy(memoryScope, fleet.Policy{Name: fmt.Sprint("n", i), Default: 1, Document: "1"})
		}); err != nil {
			t.Fatal(err)
		}
	}
	version := func(i int) (v int) {
		if err := db.View(t.Context(), func(tx *Tx) error {
			p, err := tx.Policy(memoryScope, fmt.Sprint("n", i))
			v = p.Default
			return err
		}); err != nil {
			t.Error(err)
		}
		return v
	}
	done := make(chan struct{})
	var readers, wg sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			last := [writers]int{}
			for {
				select {
				case <-done:
					return
				default:
				}
				for i := range writers {
					v := version(i)
					if v < last[i] {
						t.Errorf("policy %d had version %d and then %d", i, last[i], v)
					}
					last[i] = v
				}
			}
		})
	}
	for i := range writers {
		wg.Go(func() {
			for n := range rounds {
				if err := db.Tx(t.Context(), func(tx *Tx) error {
					v, err := tx.AddPolicyVersion(memoryScope, fmt.Sprint("n", i), "x")
					if err != nil {
						return err
					}
					return tx.SetDefaultPolicyVersion(memoryScope, fmt.Sprint("n", i), v)
				}); err != nil {
					t.Error(err)
				}
				if v := version(i); v != n+2 {
					t.Errorf("after its writer has the answer, policy %d has version %d, want %d", i, v, n+2)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	readers.Wait()
}

func TestATransactionLooksAgainAtWhatItHasWritten(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			gone := func(when string) {
				if _, err := tx.Thing(memoryScope, "lamp"); fleet.KindOf(err) != fleet.KindNotFound {
					t.Errorf("%s: %v", when, err)
				}
				if _, err := tx.Certificate(memoryScope, "cert"); fleet.KindOf(err) != fleet.KindNotFound {
					t.Errorf("%s: %v", when, err)
				}
			}
			there := func(when, value string, status fleet.CertificateStatus) fleet.Thing {
				l, err := tx.Thing(memoryScope, "lamp")
				if err != nil || l.Attributes["a"] != value {
					t.Errorf("%s: %v, %v", when, l, err)
				}
				c, err := tx.Certificate(memoryScope, "cert")
				if err != nil || c.Status != status {
					t.Errorf("%s: %v, %v", when, c, err)
				}
				l.Attributes["a"] = "what a caller does with its copy"
				return l
			}
			gone("at first")
			must(t, tx.CreateThing(memoryScope, fleet.Thing{Name: "lamp", Attributes: map[string]string{"a": "1"}}))
			must(t, tx.CreateCertificate(memoryScope, fleet.Certificate{ID: "cert", Status: fleet.PendingActivation}))
			old := there("when added", "1", fleet.PendingActivation)
			there("again", "1", fleet.PendingActivation)
			_ = tx.inSavepoint(func(tx *Tx) error {
				must(t, tx.UpdateThing(memoryScope, old, fleet.Thing{Name: "lamp", Attributes: map[string]string{"a": "2"}}))
				must(t, tx.UpdateCertificate(memoryScope, fleet.Certificate{ID: "cert", Status: fleet.Active}))
				there("when changed", "2", fleet.Active)
				return errors.New("undo")
			})
			there("when that was undone", "1", fleet.PendingActivation)
			must(t, tx.DeleteThing(memoryScope, old))
			must(t, tx.DeleteCertificate(memoryScope, "cert"))
			gone("when deleted")
			return nil
		}))
	})
}
