package store

import (
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
	a.Claim, a.IsClaim, err = tx.ClaimByID(id)
	must(t, err)
	a.Own, _ = tx.Certificate(s, id)
	a.Thing, a.Attached, err = tx.AssociatedThing(s, s.IoT("cert", id), clientID)
	must(t, err)
	a.Policies, err = tx.EffectivePolicies(s, s.IoT("cert", id), a.Thing.Name)
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
