package store

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// arrival is all that a connection of a certificate asks.
type arrival struct {
	Registered []ScopedCertificate
	Claim      ScopedClaim
	IsClaim    bool
	Own        fleet.Certificate
	Thing      AttachedThing
	Attached   bool
	Policies   []EffectivePolicy
}

func askAll(t *testing.T, tx *Tx, s fleet.Scope, id, clientID string) (a arrival) {
	t.Helper()
	var err error
	a.Registered, err = tx.CertificatesByID(id)
	must(t, err)
	a.Own, _ = tx.Certificate(s, id)
	a.Thing, a.Attached, err = tx.AssociatedThing(s, s.IoT("cert", id), clientID)
	must(t, err)
	a.Policies, err = tx.EffectivePolicies(s, s.IoT("cert", id), a.Thing.Name)
	must(t, err)
	a.Claim, a.IsClaim, err = tx.ClaimByID(id) // last: of a device it asks the database, and so would all that comes after
	must(t, err)
	if len(a.Registered) == 0 {
		a.Registered = nil
	}
	return a
}

// What is expected of a device is what the database says, before and after anything that changes it.
func TestWhatIsExpectedOfADeviceIsWhatTheDatabaseSays(t *testing.T) {
	t.Parallel()
	here, there := fleet.Scope{Account: "000000000000", Region: "us-east-1"}, fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	arn, now := here.IoT("cert", "c1"), time.Now()
	for name, change := range map[string]func(*Tx) error{
		"status": func(tx *Tx) error {
			return tx.UpdateCertificate(here, fleet.Certificate{ID: "c1", Status: fleet.Revoked})
		},
		"gone": func(tx *Tx) error { return tx.DeleteCertificate(here, "c1") },
		"registered elsewhere": func(tx *Tx) error {
			return tx.CreateCertificate(there, fleet.Certificate{ID: "c1", Status: fleet.Active, Mode: fleet.ModeSNIOnly, Created: now})
		},
		"a claim": func(tx *Tx) error {
			return tx.CreateClaim(there, fleet.Claim{ID: "c1", Template: "lamps", Created: now, Expires: now})
		},
		"another policy": func(tx *Tx) error { _, err := tx.AttachPolicy(here, "more", arn); return err },
		"policy taken":   func(tx *Tx) error { _, err := tx.DetachPolicy(here, "own", arn); return err },
		"all policies":   func(tx *Tx) error { _, err := tx.DetachPolicies(here, arn); return err },
		"policy of group": func(tx *Tx) error {
			_, err := tx.AttachPolicy(here, "more", here.IoT("thinggroup", "hall"))
			return err
		},
		"group policy off": func(tx *Tx) error {
			_, err := tx.DetachPolicy(here, "group", here.IoT("thinggroup", "hall"))
			return err
		},
		"group left":   func(tx *Tx) error { _, err := tx.RemoveFromGroup(here, "lamp", "hall"); return err },
		"group joined": func(tx *Tx) error { _, err := tx.AddToGroup(here, "lamp", "attic"); return err },
		"another document": func(tx *Tx) error {
			id, err := tx.AddPolicyVersion(here, "group", "second")
			if err == nil {
				err = tx.SetDefaultPolicyVersion(here, "group", id)
			}
			return err
		},
		"attributes": func(tx *Tx) error {
			old, err := tx.Thing(here, "lamp")
			if err == nil {
				err = tx.UpdateThing(here, old, fleet.Thing{Name: "lamp", Attributes: map[string]string{"colour": "blue"}, Version: 2})
			}
			return err
		},
		"untied": func(tx *Tx) error { _, err := tx.DetachThing(here, "lamp", arn); return err },
		"tied to another, alone": func(tx *Tx) error {
			if _, err := tx.DetachThing(here, "lamp", arn); err != nil {
				return err
			}
			return tx.AttachThing(here, fleet.Attachment{Thing: "pump", Principal: arn, Type: fleet.Exclusive})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			db := openWith(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db"), OnStatement: func(string) { asked.Add(1) }})
			must(t, db.Tx(t.Context(), func(tx *Tx) error {
				for _, policy := range []string{"own", "group", "more"} {
					must(t, tx.CreatePolicy(here, fleet.Policy{Name: policy, Document: "first of " + policy}))
				}
				for _, group := range []string{"hall", "attic"} {
					must(t, tx.CreateGroup(here, fleet.ThingGroup{Name: group}))
				}
				_, err := tx.AttachPolicy(here, "group", here.IoT("thinggroup", "hall"))
				must(t, err)
				_, err = tx.AttachPolicy(here, "more", here.IoT("thinggroup", "attic"))
				must(t, err)
				must(t, tx.CreateThing(here, fleet.Thing{Name: "pump"}))
				must(t, tx.CreateThing(here, fleet.Thing{Name: "lamp", Attributes: map[string]string{"colour": "red"}, Created: now}))
				_, err = tx.AddToGroup(here, "lamp", "hall")
				must(t, err)
				must(t, tx.CreateCertificate(here, fleet.Certificate{ID: "c1", Status: fleet.Active, Created: now}))
				_, err = tx.AttachPolicy(here, "own", arn)
				must(t, err)
				must(t, tx.AttachThing(here, fleet.Attachment{Thing: "lamp", Principal: arn, Type: fleet.NonExclusive}))
				return tx.ExpectDevice(here, "c1", "lamp")
			}))
			compare := func(clientID string) {
				t.Helper()
				var got, want arrival
				must(t, db.View(t.Context(), func(tx *Tx) error { got = askAll(t, tx, here, "c1", clientID); return nil }))
				must(t, db.View(t.Context(), func(tx *Tx) error {
					must(t, tx.start()) // so that it asks the database
					want = askAll(t, tx, here, "c1", clientID)
					return nil
				}))
				if !reflect.DeepEqual(got, want) {
					t.Errorf("expected %+v, the database says %+v", got, want)
				}
			}
			compare("lamp")
			compare("stranger")
			asked.Store(0)
			must(t, db.View(t.Context(), func(tx *Tx) error {
				registered, err := tx.CertificatesByID("c1")
				must(t, err)
				thing, attached, err := tx.AssociatedThing(here, arn, "lamp")
				must(t, err)
				policies, err := tx.EffectivePolicies(here, arn, "lamp")
				must(t, err)
				if len(registered) != 1 || !attached || thing.Attributes["colour"] != "red" || len(policies) != 2 {
					t.Errorf("%v %v %v", registered, thing, policies)
				}
				thing.Attributes["colour"], registered[0].PEM, policies[0].Name = "mine", "mine", "mine" // of this caller alone
				return nil
			}))
			if n := asked.Load(); n != 0 {
				t.Errorf("the database was asked %d times", n)
			}
			compare("lamp")
			must(t, db.Tx(t.Context(), change))
			compare("lamp")
			compare("stranger")
			compare("pump")
		})
	}
}

func TestWhatIsExpectedOfAClaimEndsWithIt(t *testing.T) {
	t.Parallel()
	s, now := fleet.Scope{Account: "000000000000", Region: "us-east-1"}, time.Now()
	db := open(t)
	must(t, db.Tx(t.Context(), func(tx *Tx) error {
		must(t, tx.CreateClaim(s, fleet.Claim{ID: "c1", Template: "lamps", Created: now, Expires: now.Add(time.Hour), Installer: fleet.Installer{CallerARN: "ann"}}))
		return tx.ExpectClaim("c1")
	}))
	look := func() (got, want arrival) {
		must(t, db.View(t.Context(), func(tx *Tx) error { got = askAll(t, tx, s, "c1", "x"); return nil }))
		must(t, db.View(t.Context(), func(tx *Tx) error { must(t, tx.start()); want = askAll(t, tx, s, "c1", "x"); return nil }))
		return got, want
	}
	if got, want := look(); !got.IsClaim || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	must(t, db.Tx(t.Context(), func(tx *Tx) error { return tx.RevokeClaim(s, "c1") }))
	if got, want := look(); got.Claim.Revoked.IsZero() || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Nothing is expected of what was not kept, and what is kept is bounded.
func TestExpectationsComeWithTheCommitAndAreBounded(t *testing.T) {
	t.Parallel()
	s := fleet.Scope{Account: "000000000000", Region: "us-east-1"}
	db := open(t)
	claim := func(id string) func(*Tx) error {
		return func(tx *Tx) error {
			if err := tx.CreateClaim(s, fleet.Claim{ID: id, Template: "lamps"}); err != nil {
				return err
			}
			return tx.ExpectClaim(id)
		}
	}
	_ = db.Tx(t.Context(), func(tx *Tx) error {
		must(t, claim("never")(tx))
		return fleet.Denied("no")
	})
	must(t, db.Tx(t.Context(), func(tx *Tx) error { return tx.CreateClaim(s, fleet.Claim{ID: "other", Template: "lamps"}) }))
	for i := range maxExpected + 10 {
		must(t, db.Tx(t.Context(), claim(strings.Repeat("x", i+1))))
	}
	db.expected.mu.Lock()
	defer db.expected.mu.Unlock()
	if m := db.expected; len(m.byID) != maxExpected || m.used.Len() != maxExpected || len(m.on) != maxExpected || m.byID["never"] != nil || m.byID["x"] != nil {
		t.Errorf("%d are kept, by %d", len(m.byID), len(m.on))
	}
}

// What is known of a certificate that was just issued is what the database says, in the transaction that registers it too, before and after
// anything that changes it, and whether that was committed before or shares the commit.
func TestWhatIsExpectedOfAPendingCertificateIsWhatTheDatabaseSays(t *testing.T) {
	t.Parallel()
	here, there := fleet.Scope{Account: "000000000000", Region: "us-east-1"}, fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	arn, now := here.IoT("cert", "c1"), time.Now()
	type answer struct {
		Own          fleet.Certificate
		Everywhere   []ScopedCertificate
		Registration Registration
		Registered   bool
		Ties         Ties
	}
	ask := func(tx *Tx) (a answer) {
		var err error
		a.Own, _ = tx.Certificate(here, "c1")
		a.Everywhere, err = tx.CertificatesByID("c1")
		must(t, err)
		a.Registration, a.Registered, err = tx.Registration(here, "c1")
		must(t, err)
		a.Ties, _, err = tx.TiesOf(here, arn)
		must(t, err)
		return a
	}
	for name, change := range map[string]func(*Tx) error{
		"nothing": func(tx *Tx) error { return nil },
		"status": func(tx *Tx) error {
			return tx.UpdateCertificate(here, fleet.Certificate{ID: "c1", Status: fleet.Revoked})
		},
		"gone": func(tx *Tx) error { return tx.DeleteCertificate(here, "c1") },
		"registered elsewhere": func(tx *Tx) error {
			return tx.CreateCertificate(there, fleet.Certificate{ID: "c1", Status: fleet.Active, Mode: fleet.ModeSNIOnly, Created: now})
		},
		"its token is spent": func(tx *Tx) error {
			return tx.PutRegistration(here, Registration{Certificate: "c1", Thing: "lamp", Template: "lamps", Created: now})
		},
		"a policy": func(tx *Tx) error { _, err := tx.AttachPolicy(here, "own", arn); return err },
		"a thing": func(tx *Tx) error {
			return tx.AttachThing(here, fleet.Attachment{Thing: "lamp", Principal: arn, Type: fleet.Exclusive})
		},
		"its end": func(tx *Tx) error { _, err := tx.DeleteExpired(now.Add(2*time.Hour), 10); return err },
	} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", shared ", shared), func(t *testing.T) {
				t.Parallel()
				var asked atomic.Int64
				db := openWith(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db"), OnStatement: func(string) { asked.Add(1) }})
				must(t, db.Tx(t.Context(), func(tx *Tx) error {
					must(t, tx.CreatePolicy(here, fleet.Policy{Name: "own", Document: "first"}))
					c := fleet.Certificate{ID: "c1", PEM: "pem", Status: fleet.PendingActivation, Mode: fleet.ModeDefault, NotBefore: now, NotAfter: now.Add(time.Hour),
						Created: now, Modified: now, Version: 1, Generation: "g", Origin: fleet.CertificateOrigin{ClaimID: "claim", CSRHash: "csr", Expires: now.Add(time.Hour)}}
					must(t, tx.CreateCertificate(here, c))
					tx.ExpectPending(here, c)
					return nil
				}))
				asked.Store(0)
				must(t, db.View(t.Context(), func(tx *Tx) error { ask(tx); return nil }))
				if n := asked.Load(); n != 0 {
					t.Errorf("the database was asked %d times", n)
				}
				var got, want answer
				look := func(tx *Tx) error { got = ask(tx); return nil }
				if shared {
					jobs := []*job{{ctx: t.Context(), body: change, result: make(chan error, 1)}, {ctx: t.Context(), body: look, result: make(chan error, 1)}}
					next := func() *job { defer func() { jobs[1] = nil }(); return jobs[1] }
					results := []chan error{jobs[0].result, jobs[1].result}
					db.group(jobs[0], next)
					if j := next(); j != nil { // the machine is busy
						db.group(j, next)
					}
					for _, r := range results {
						must(t, <-r)
					}
				} else {
					must(t, db.Tx(t.Context(), change))
					must(t, db.Tx(t.Context(), look))
				}
				must(t, db.View(t.Context(), func(tx *Tx) error { must(t, tx.start()); want = ask(tx); return nil }))
				if !reflect.DeepEqual(got, want) {
					t.Errorf("expected %+v, the database says %+v", got, want)
				}
			})
		}
	}
}

// A certificate that was just issued is tied to nothing, also where a connection names no client id (TestAuthorization).
func TestAPendingCertificateStandsForNoThing(t *testing.T) {
	t.Parallel()
	db := open(t)
	c := fleet.Certificate{ID: "c1", Status: fleet.PendingActivation, Created: time.Now()}
	must(t, db.Tx(t.Context(), func(tx *Tx) error {
		must(t, tx.CreateCertificate(scopeA, c))
		tx.ExpectPending(scopeA, c)
		return nil
	}))
	for _, clientID := range []string{"", "lamp"} {
		must(t, db.View(t.Context(), func(tx *Tx) error {
			if thing, attached, err := tx.AssociatedThing(scopeA, scopeA.IoT("cert", c.ID), clientID); attached || err != nil {
				t.Errorf("as %q it stands for %+v, %v", clientID, thing, err)
			}
			return nil
		}))
	}
}

// A registration of a certificate that was just issued asks nothing to prepare for the device, and what it prepares is what the database
// says.
func TestADeviceIsExpectedWithoutAsking(t *testing.T) {
	t.Parallel()
	s, now := fleet.Scope{Account: "000000000000", Region: "us-east-1"}, time.Now()
	for _, joins := range []bool{false, true} {
		var asked atomic.Int64
		db := openWith(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db"), OnStatement: func(string) { asked.Add(1) }})
		c := fleet.Certificate{ID: "c1", PEM: "pem", Status: fleet.PendingActivation, NotAfter: now, Created: now, Modified: now, Version: 1}
		arn := s.IoT("cert", c.ID)
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for _, policy := range []string{"own", "group"} {
				must(t, tx.CreatePolicy(s, fleet.Policy{Name: policy, Document: "first of " + policy}))
			}
			must(t, tx.CreateGroup(s, fleet.ThingGroup{Name: "hall"}))
			_, err := tx.AttachPolicy(s, "group", s.IoT("thinggroup", "hall"))
			must(t, err)
			must(t, tx.CreateCertificate(s, c))
			tx.ExpectPending(s, c)
			return nil
		}))
		must(t, db.View(t.Context(), func(tx *Tx) error { _, err := tx.Policy(s, "own"); return err })) // as the plan does
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			old, err := tx.Certificate(s, c.ID)
			must(t, err)
			_, _, err = tx.TiesOf(s, arn)
			must(t, err)
			must(t, tx.CreateThing(s, fleet.Thing{Name: "lamp", Attributes: map[string]string{"colour": "red"}, Created: now}))
			if joins {
				_, err := tx.AddToGroup(s, "lamp", "hall")
				must(t, err)
			}
			_, err = tx.AttachPolicy(s, "own", arn)
			must(t, err)
			must(t, tx.AttachThing(s, fleet.Attachment{Thing: "lamp", Principal: arn, Type: fleet.NonExclusive}))
			old.Status, old.Modified, old.Version = fleet.Active, now.Add(time.Second), 2
			must(t, tx.UpdateCertificate(s, old))
			asked.Store(0)
			must(t, tx.ExpectDevice(s, c.ID, "lamp"))
			if n := asked.Load(); n > 0 && !joins {
				t.Errorf("the database was asked %d times", n)
			}
			return nil
		}))
		asked.Store(0)
		var got, want arrival
		must(t, db.View(t.Context(), func(tx *Tx) error { got = askAll(t, tx, s, c.ID, "lamp"); return nil }))
		if n := asked.Load(); n > 3 { // a view, for a claim of this id
			t.Errorf("the database was asked %d times", n)
		}
		must(t, db.View(t.Context(), func(tx *Tx) error { must(t, tx.start()); want = askAll(t, tx, s, c.ID, "lamp"); return nil }))
		if !reflect.DeepEqual(got, want) || len(got.Policies) == 0 {
			t.Errorf("expected %+v, the database says %+v", got, want)
		}
	}
}
