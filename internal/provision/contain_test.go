package provision

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// rich is lamps with all that a registration can change of a thing that is there.
var rich = strings.Replace(lamps, `"AttributePayload": {"serial": {"Ref": "Serial"}}}}`,
	`"AttributePayload": {"serial": {"Ref": "Serial"}, "owner": "template"}, "ThingGroups": ["shipped"], "BillingGroup": "sales"},
	"OverrideSettings": {"AttributePayload": "REPLACE", "ThingGroups": "REPLACE"}}`, 1)

func (f *fixture) made(r Requester, template, serial string) *IssuedCertificate {
	f.t.Helper()
	c := f.certificate(r)
	_, err := f.register(r, template, c, serial)
	check(f.t, err)
	return c
}

func (f *fixture) contain(r Requester, since time.Time) ContainmentResult {
	f.t.Helper()
	out, err := f.Contain(f.t.Context(), installer, r.PrincipalID, since)
	check(f.t, err)
	if !out.Complete {
		f.t.Errorf("not complete: %+v", out)
	}
	return out
}

func (f *fixture) thing(name string) (t fleet.Thing, found bool) {
	f.t.Helper()
	t = view(f, func(tx *store.Tx) (fleet.Thing, error) {
		t, err := tx.Thing(here, name)
		found = err == nil
		if err != nil && fleet.KindOf(err) == fleet.KindNotFound {
			err = nil
		}
		return t, err
	})
	return t, found
}

func (f *fixture) groups(thing string) (names []string) {
	f.t.Helper()
	for _, g := range view(f, func(tx *store.Tx) ([]fleet.ThingGroup, error) {
		list, _, err := tx.GroupsOf(here, thing, fleet.Page{})
		return list, err
	}) {
		names = append(names, g.Name)
	}
	return names
}

func (f *fixture) policies() (names []string) {
	f.t.Helper()
	for _, p := range view(f, func(tx *store.Tx) ([]fleet.Policy, error) {
		list, _, err := tx.Policies(here, fleet.Page{})
		return list, err
	}) {
		names = append(names, p.Name)
	}
	return names
}

func TestContainmentUndoesWhatAClaimDidSinceItWasStolen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	shared, other := f.bootstrap(), f.bootstrap()
	genuine := f.made(shared, "lamps", "genuine")
	pending := f.certificate(shared) // before the theft, and registered after it
	f.pass(2 * time.Minute)
	theft := f.now
	f.pass(time.Second)
	var stolen []*IssuedCertificate
	for i := range 45 {
		stolen = append(stolen, f.made(shared, "lamps", fmt.Sprint("stolen-", i)))
	}
	_, err := f.register(shared, "lamps", pending, "late")
	check(t, err)
	stolen = append(stolen, pending)
	waiting := f.certificate(shared)
	elsewhere := f.made(other, "lamps", "elsewhere")
	rotated := f.made(Requester{Scope: here, PrincipalID: genuine.ID}, "lamps", "genuine")

	rehearsed, err := f.RehearseContainment(t.Context(), here, shared.PrincipalID, theft)
	check(t, err)
	if got := f.status(stolen[0].ID); got != fleet.Active {
		t.Fatalf("a rehearsal has made the certificate %s", got)
	}
	counted := 0
	f.OnContained = func(n int) { counted += n }
	got := f.contain(shared, theft)
	if got.Certificates != 47 || got.Things != 46 || got.Released != 0 || counted != 47 {
		t.Errorf("contained %+v, counted %d", got, counted)
	}
	if rehearsed.Certificates != got.Certificates || rehearsed.Things != got.Things || rehearsed.Released != got.Released {
		t.Errorf("rehearsed %+v, then did %+v", rehearsed, got)
	}
	for _, c := range stolen {
		if s := f.status(c.ID); s != fleet.Revoked {
			t.Errorf("a stolen certificate is %s", s)
		}
	}
	for _, name := range []string{"lamp-stolen-0", "lamp-stolen-44", "lamp-late"} {
		if _, found := f.thing(name); found {
			t.Errorf("%s is there", name)
		}
	}
	for what, c := range map[string]*IssuedCertificate{"of before the theft": genuine, "of another claim": elsewhere, "rotated": rotated} {
		if s := f.status(c.ID); s != fleet.Active {
			t.Errorf("a certificate %s is %s", what, s)
		}
	}
	if n := len(f.policies()); n != 2 {
		t.Errorf("%d policies are left: %v", n, f.policies())
	}
	if s := f.status(shared.PrincipalID); s != fleet.Inactive {
		t.Errorf("the claim is %s", s)
	}
	_, err = f.register(shared, "lamps", waiting, "x")
	if m := refused(t, err, CodeAccessDenied); !strings.Contains(m, "was contained at") {
		t.Errorf("refused with %q", m)
	}
	f.made(other, "lamps", "stolen-3") // the name is free

	again := f.contain(shared, theft)
	if again.Certificates != got.Certificates || again.Things != got.Things {
		t.Errorf("the second time %+v", again)
	}
	if _, found := f.thing("lamp-stolen-3"); !found {
		t.Error("the second containment took the genuine device's thing")
	}
	// Somebody gives the claim its power back: spent tokens are no way in.
	f.write(func(tx *store.Tx) error {
		return registry.SetCertificateStatus(tx, here, shared.PrincipalID, fleet.Active)
	})
	_, err = f.register(shared, "lamps", stolen[5], "stolen-5")
	refused(t, err, CodeInvalidToken)
	found := view(f, func(tx *store.Tx) ([]trace.Record, error) { return tx.Traces(here, shared.PrincipalID, 1000) })
	if n := len(found); n == 0 || found[0].Kind == "" {
		t.Errorf("%d traces", n)
	}
	if _, err := f.Contain(t.Context(), installer, strings.Repeat("0", 64), theft); fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("an unknown claim: %v", err)
	}
}

func TestContainmentFollowsThievesWhoseDevicesProvisionOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", strings.Replace(lamps, `"Resources"`, `"Mappings":{"Imprint":{"Settings":{"Reprovision":"aws"}}},"Resources"`, 1))
	r := f.claim("lamps")
	first := f.made(r, "lamps", "1")
	var chain []*IssuedCertificate
	for i, device := 2, first; i < 6; i++ {
		device = f.made(Requester{Scope: here, PrincipalID: device.ID}, "lamps", fmt.Sprint(i))
		chain = append(chain, device)
	}
	pending := f.certificate(Requester{Scope: here, PrincipalID: chain[2].ID})
	rehearsed, err := f.RehearseContainment(t.Context(), here, r.PrincipalID, time.Time{})
	check(t, err)
	got := f.contain(r, time.Time{})
	if got.Certificates != 6 || got.Things != 5 || rehearsed.Certificates != 6 || rehearsed.Things != 5 {
		t.Errorf("contained %+v, rehearsed %+v", got, rehearsed)
	}
	for _, c := range append(chain, first) {
		if s := f.status(c.ID); s != fleet.Revoked {
			t.Errorf("a certificate is %s", s)
		}
	}
	_, err = f.register(Requester{Scope: here, PrincipalID: chain[2].ID}, "lamps", pending, "9")
	refused(t, err, CodeAccessDenied)
}

func TestContainmentTakesInWhatWasRolledFromTheClaim(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	roll := func(r Requester) Requester {
		t.Helper()
		f.pass(time.Minute)
		c, err := f.Roll(t.Context(), installer, r.PrincipalID, time.Hour, newCSR(t))
		check(t, err)
		return Requester{Scope: here, PrincipalID: c.ID, ClientID: "client"}
	}
	earlier := f.bootstrap()
	before := f.made(earlier, "lamps", "before")
	stolen := roll(earlier)
	genuine := f.made(stolen, "lamps", "genuine")
	next := roll(stolen)
	last := roll(next)
	f.made(next, "lamps", "shipped")
	f.pass(time.Minute)
	theft := f.Clock.Now()
	var thieves []*IssuedCertificate
	for i, r := range []Requester{stolen, next, last} {
		thieves = append(thieves, f.made(r, "lamps", fmt.Sprint(i)))
	}
	f.pass(time.Second)
	// Somebody has deleted one of them: what was rolled from that is found all the same.
	f.write(func(tx *store.Tx) error {
		check(t, registry.SetCertificateStatus(tx, here, next.PrincipalID, fleet.Inactive))
		return registry.DeleteCertificate(tx, here, next.PrincipalID, true)
	})
	report, err := f.ReportClaim(t.Context(), here, stolen.PrincipalID, time.Time{}, fleet.Page{})
	check(t, err)
	if report.Kind != CertificateClaim || report.Status != "ACTIVE" || !slices.Equal(report.Rolled, []string{last.PrincipalID}) {
		t.Errorf("%s, %s, rolled from it: %v", report.Kind, report.Status, report.Rolled)
	}
	rehearsed, err := f.RehearseContainment(t.Context(), here, stolen.PrincipalID, theft)
	check(t, err)
	got := f.contain(stolen, theft)
	if got.Certificates != 2 || got.Things != 2 || rehearsed.Certificates != 2 || rehearsed.Things != 2 {
		t.Errorf("contained %+v, rehearsed %+v", got, rehearsed)
	}
	for want, ids := range map[fleet.CertificateStatus][]string{
		fleet.Active:   {earlier.PrincipalID, before.ID, genuine.ID},
		fleet.Inactive: {stolen.PrincipalID, last.PrincipalID},
		fleet.Revoked:  {thieves[0].ID, thieves[2].ID},
	} {
		for _, id := range ids {
			if s := f.status(id); s != want {
				t.Errorf("%s is %s, not %s", id, s, want)
			}
		}
	}
	for _, r := range []Requester{stolen, last} {
		_, err := f.CreateCertificateFromCSR(t.Context(), r, newCSR(t))
		refused(t, err, CodeAccessDenied)
	}
}

func TestContainmentFindsThingsWhoseCertificateWasRenewed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	for i := range 8 { // ids decide in which order they are gone through
		serial := fmt.Sprint(i)
		old := f.made(r, "lamps", serial)
		fresh := f.made(Requester{Scope: here, PrincipalID: old.ID}, "lamps", serial)
		f.write(func(tx *store.Tx) error { return registry.Retire(tx, here, "lamp-"+serial, old.ID) })
		if p := f.principals("lamp-" + serial); len(p) != 1 || p[0].Principal != here.IoT("cert", fresh.ID) {
			t.Fatalf("after its renewal it has %v", p)
		}
	}
	rehearsed, err := f.RehearseContainment(t.Context(), here, r.PrincipalID, time.Time{})
	check(t, err)
	if got := f.contain(r, time.Time{}); got.Certificates != 16 || got.Things != 8 || rehearsed.Things != 8 || rehearsed.Released != got.Released {
		t.Errorf("contained %+v, rehearsed %+v", got, rehearsed)
	}
	if _, found := f.thing("lamp-3"); found {
		t.Error("a thing is left")
	}
}

func TestContainmentLeavesThingsThatWereThereAsTheyWere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", rich)
	f.write(func(tx *store.Tx) error {
		for _, g := range []string{"shipped", "stock"} {
			if _, err := registry.CreateGroup(tx, here, registry.GroupSpec{Name: g}); err != nil {
				return err
			}
		}
		if _, err := registry.CreateBillingGroup(tx, here, "sales", "", nil); err != nil {
			return err
		}
		for _, n := range []string{"lamp-kept", "lamp-changed"} {
			if _, err := registry.CreateThing(tx, here, registry.ThingSpec{Name: n, Attributes: map[string]string{"owner": "erp", "box": "7"}}); err != nil {
				return err
			}
			if err := registry.AddToGroup(tx, here, n, "stock"); err != nil {
				return err
			}
		}
		return nil
	})
	r := f.claim("lamps")
	f.made(r, "lamps", "kept")
	f.made(r, "lamps", "changed")
	shared := f.made(r, "lamps", "shared")
	if thing, _ := f.thing("lamp-kept"); thing.Attributes["owner"] != "template" || thing.BillingGroup != "sales" || !reflect.DeepEqual(f.groups("lamp-kept"), []string{"shipped"}) {
		t.Fatalf("the registration left %+v in %v", thing, f.groups("lamp-kept"))
	}
	own := f.bootstrap()
	f.write(func(tx *store.Tx) error {
		_, err := registry.UpdateThing(tx, here, "lamp-changed", registry.ThingChange{Attributes: map[string]string{"owner": "operator"}})
		if err != nil {
			return err
		}
		return registry.AttachPrincipal(tx, here, "lamp-shared", here.IoT("cert", own.PrincipalID), "")
	})
	rehearsed, err := f.RehearseContainment(t.Context(), here, r.PrincipalID, time.Time{})
	check(t, err)
	got := f.contain(r, time.Time{})
	if got.Certificates != 3 || got.Things != 0 || got.Released != 3 || rehearsed.Things != 0 || rehearsed.Released != 3 {
		t.Errorf("contained %+v, rehearsed %+v", got, rehearsed)
	}
	thing, _ := f.thing("lamp-kept")
	if !reflect.DeepEqual(thing.Attributes, map[string]string{"owner": "erp", "box": "7"}) || thing.BillingGroup != "" || !reflect.DeepEqual(f.groups("lamp-kept"), []string{"stock"}) {
		t.Errorf("left as %+v in %v", thing, f.groups("lamp-kept"))
	}
	if thing, _ = f.thing("lamp-changed"); thing.Attributes["owner"] != "operator" {
		t.Errorf("an operator's change is gone: %+v", thing)
	}
	if p := f.principals("lamp-shared"); len(p) != 1 || p[0].Principal != here.IoT("cert", own.PrincipalID) {
		t.Errorf("the thing that got another certificate has %v", p)
	}
	if s := f.status(shared.ID); s != fleet.Revoked {
		t.Errorf("its first certificate is %s", s)
	}
}

// While a containment goes on devices of the same claim go on, too: each is refused or contained.
func TestNothingOfAClaimGetsPastItsContainment(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.bootstrap()
	f.made(r, "lamps", "first")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var made []string
	begun := make(chan struct{}, 1000)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				c, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), newCSR(t))
				if err == nil {
					_, err = f.register(r, "lamps", c, fmt.Sprint(w, "-", i))
				}
				if err != nil {
					return // from now on everything is
				}
				mu.Lock()
				made = append(made, c.ID)
				mu.Unlock()
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 8 {
		<-begun
	}
	f.contain(r, time.Time{})
	wg.Wait()
	for _, id := range made {
		if s := f.status(id); s != fleet.Revoked {
			t.Errorf("a device of %d got past: %s", len(made), s)
		}
	}
	things := view(f, func(tx *store.Tx) ([]fleet.Thing, error) {
		list, _, err := tx.Things(here, store.ThingFilter{}, fleet.Page{})
		return list, err
	})
	if len(things) != 0 {
		t.Errorf("things are left: %v", things)
	}
}

// A power cut is the end of a process between two transactions.
func TestAContainmentGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.bootstrap()
	for i := range 30 {
		f.made(r, "lamps", fmt.Sprint(i))
	}
	for cut := range 5 {
		f.write(func(tx *store.Tx) error {
			_, err := beginContainment(tx, here, installer.ARN, r.PrincipalID, time.Time{})
			return err
		})
		for range cut {
			_, err := f.containStep(t.Context())
			check(t, err)
		}
	}
	check(t, f.Resume(t.Context()))
	out := view(f, func(tx *store.Tx) (store.Containment, error) {
		c, open, found, err := tx.ContainmentOf(here, r.PrincipalID)
		if open || !found {
			t.Errorf("open %v, found %v", open, found)
		}
		return c, err
	})
	if out.Certificates != 30 || out.Things != 30 || out.Finished.IsZero() {
		t.Errorf("contained %+v", out)
	}
}

func TestAHookThatThinksWhileItsClaimIsContainedEndsInRefusal(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]func(*fixture) Requester{"a claim": func(f *fixture) Requester { return f.claim("lamps") }, "a shared certificate": (*fixture).bootstrap} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.template("lamps", lamps)
			r := kind(f)
			c := f.certificate(r)
			f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) {
				f.contain(r, time.Time{})
				return HookAnswer{Allow: true}, nil
			})
			_, err := f.register(r, "lamps", c, "7")
			var e *fleet.Error
			if m := refused(t, err, CodeAccessDenied); !strings.Contains(m, "was contained at") || !errors.As(err, &e) || e.Reason != ReasonContained {
				t.Errorf("refused with %q", m)
			}
			if _, found := f.thing("lamp-7"); found {
				t.Error("the thing is there")
			}
		})
	}
}
