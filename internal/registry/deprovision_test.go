package registry

import (
	"fmt"
	"slices"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

func (w *world) deprovision(thing string, keep bool) (out Deprovisioned) {
	w.t.Helper()
	w.do(func(tx *store.Tx) (err error) {
		out, err = Deprovision(tx, here, thing, keep)
		return err
	})
	return out
}

// status is "" for a certificate that does not exist.
func (w *world) status(id string) (status fleet.CertificateStatus) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error {
		c, err := tx.Certificate(here, id)
		if missing(err) {
			err = nil
		}
		status = c.Status
		return err
	})
	return status
}

func TestADeviceIsRetiredAtOnceWithAllThatIsItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, shared := w.certificate(here, "own", fleet.Active), w.certificate(here, "shared", fleet.Active)
	w.do(func(tx *store.Tx) error {
		c := newCertificate(tx.Now(), "by-a-ca", "", fleet.Active, tx.Now(), tx.Now())
		c.CAID = "ca"
		return tx.CreateCertificate(here, c)
	})
	byCA := here.IoT("cert", "by-a-ca")
	const identity = "us-east-1:11111111-2222-3333-4444-555555555555"
	w.do(func(tx *store.Tx) error {
		for _, p := range []string{"made", "elsewhere", "general"} {
			if _, err := CreatePolicy(tx, here, p, document, nil); err != nil {
				return err
			}
		}
		if _, err := CreateGroup(tx, here, GroupSpec{Name: "garden"}); err != nil {
			return err
		}
		for _, name := range []string{"lamp", "other"} {
			if _, err := CreateThing(tx, here, ThingSpec{Name: name, Attributes: map[string]string{"a": "b"}}); err != nil {
				return err
			}
			if err := AddToGroup(tx, here, name, "garden"); err != nil {
				return err
			}
			if err := AttachPrincipal(tx, here, name, shared, ""); err != nil {
				return err
			}
		}
		for _, principal := range []string{own, byCA, identity} {
			if err := AttachPrincipal(tx, here, "lamp", principal, ""); err != nil {
				return err
			}
		}
		for policy, target := range map[string]string{"made": own, "elsewhere": own, "general": byCA} {
			if err := AttachPolicy(tx, here, policy, target); err != nil {
				return err
			}
		}
		if err := AttachPolicy(tx, here, "elsewhere", here.IoT("thinggroup", "garden")); err != nil {
			return err
		}
		return tx.PutRegistration(here, store.Registration{Certificate: "own", Thing: "lamp", Trail: fleet.Trail{Policies: []string{"elsewhere", "made"}}})
	})
	got := w.deprovision("lamp", false)
	if !got.Removed || !slices.Equal(got.Certificates, []string{"own"}) || !slices.Equal(got.Revoked, []string{"by-a-ca"}) ||
		!slices.Equal(got.Kept, []string{"shared"}) || !slices.Equal(got.Policies, []string{"made"}) {
		t.Errorf("retired %+v", got)
	}
	if w.status("own") != "" || w.status("by-a-ca") != fleet.Revoked || w.status("shared") != fleet.Active {
		t.Errorf("the certificates are %q, %q, %q", w.status("own"), w.status("by-a-ca"), w.status("shared"))
	}
	w.do(func(tx *store.Tx) error {
		if _, err := tx.Thing(here, "lamp"); !missing(err) {
			t.Errorf("the thing: %v", err)
		}
		for _, p := range []string{own, byCA, identity} {
			if things, _, err := tx.ThingsOf(here, p, "", fleet.Page{}); err != nil || len(things) > 0 {
				t.Errorf("%s: %v, %v", p, things, err)
			}
			if n, err := tx.CountPolicies(here, p); err != nil || n > 0 {
				t.Errorf("%s: %d policies, %v", p, n, err)
			}
		}
		members, _, err := tx.Members(here, fleet.ThingGroup{Name: "garden"}, false, fleet.Page{})
		if !slices.Equal(members, []string{"other"}) {
			t.Errorf("members %v", members)
		}
		return err
	})
	if again := w.deprovision("lamp", false); again.Removed || len(again.Certificates) > 0 {
		t.Errorf("the second time: %+v", again)
	}
	if got := w.deprovision("other", true); !got.Removed || !slices.Equal(got.Kept, []string{"shared"}) || w.status("shared") != fleet.Active {
		t.Errorf("keeping certificates: %+v", got)
	}
}

func TestOfASharedClaimThatIsRetiredWithItsThingNothingStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.certificate(here, "claim", fleet.Active)
	w.do(func(tx *store.Tx) error {
		if _, err := CreateThing(tx, here, ThingSpec{Name: "gateway"}); err != nil {
			return err
		}
		if err := tx.PutBootstrap(here, fleet.Bootstrap{Certificate: "claim", Budget: "claim"}); err != nil {
			return err
		}
		return AttachPrincipal(tx, here, "gateway", claim, "")
	})
	w.deprovision("gateway", false)
	w.do(func(tx *store.Tx) error {
		if b, found, err := tx.Bootstrap(here, "claim"); err != nil || found {
			t.Errorf("there is still %+v, %v", b, err)
		}
		return nil
	})
}

func TestAThingOfVeryManyPrincipalsIsNotRetiredInOneGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(func(tx *store.Tx) error {
		if _, err := CreateThing(tx, here, ThingSpec{Name: "hub"}); err != nil {
			return err
		}
		for i := range maxDeprovision + 1 {
			if err := tx.AttachThing(here, fleet.Attachment{Thing: "hub", Principal: here.IoT("cert", fmt.Sprint(i)), Type: fleet.NonExclusive}); err != nil {
				return err
			}
		}
		return nil
	})
	refused(t, w.try(func(tx *store.Tx) error { _, err := Deprovision(tx, here, "hub", false); return err }), "limit")
	w.do(func(tx *store.Tx) error { _, err := tx.Thing(here, "hub"); return err })
}
