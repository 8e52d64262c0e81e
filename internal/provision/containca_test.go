package provision

import (
	"crypto/x509/pkix"
	"fmt"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// comes is the first connection of a device of a plant.
func (p *plant) comes(name string) fleet.Certificate {
	p.t.Helper()
	c, _, err := p.connect(p.device(pkix.Name{CommonName: name, SerialNumber: name, Country: []string{"DE"}}))
	check(p.t, err)
	return c
}

func (f *fixture) wantStatus(want fleet.CertificateStatus, certificates ...fleet.Certificate) {
	f.t.Helper()
	for _, c := range certificates {
		if got := f.status(c.ID); got != want {
			f.t.Errorf("certificate %s is %s, not %s", c.ID, got, want)
		}
	}
}

func TestContainmentOfACAUndoesWhatItHasVouchedForSinceItsKeyWasStolen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, other := f.plant("Plant CA"), f.plant("Other CA")
	ca := p.registered(withBody)
	other.registered(withBody)
	genuine := p.comes("genuine")
	f.pass(2 * time.Minute)
	theft := f.Clock.Now()
	var thieves []fleet.Certificate
	for i := range 3 {
		thieves = append(thieves, p.comes(fmt.Sprint("new-", i)))
	}
	thieves = append(thieves, p.comes("genuine")) // a second certificate for a thing that is there
	elsewhere := other.comes("elsewhere")

	claim := Requester{Scope: here, PrincipalID: ca.ID}
	rehearsed, err := f.RehearseContainment(t.Context(), here, ca.ID, theft)
	check(t, err)
	f.wantStatus(fleet.Active, thieves...)
	got := f.contain(claim, theft)
	if got.Certificates != 4 || got.Things != 3 || got.Released != 1 {
		t.Errorf("contained %+v", got)
	}
	if rehearsed.Certificates != got.Certificates || rehearsed.Things != got.Things || rehearsed.Released != got.Released || !rehearsed.Complete {
		t.Errorf("rehearsed %+v, then did %+v", rehearsed, got)
	}
	f.wantStatus(fleet.Revoked, thieves...)
	f.wantStatus(fleet.Active, genuine, elsewhere)
	for name, want := range map[string]bool{"genuine": true, "elsewhere": true, "new-0": false, "new-2": false} {
		if _, found := f.thing(name); found != want {
			t.Errorf("thing %s: %v", name, found)
		}
	}
	if list := f.principals("genuine"); len(list) != 1 || list[0].Principal != here.IoT("cert", genuine.ID) {
		t.Errorf("principals %v", list)
	}
	if c := view(f, func(tx *store.Tx) (fleet.CA, error) { return tx.CA(here, ca.ID) }); c.Status != fleet.Inactive || c.Version != ca.Version+1 {
		t.Errorf("the CA is %s in version %d", c.Status, c.Version)
	}
	if _, _, err := p.connect(p.device(lamp1)); fleet.KindOf(err) != fleet.KindDenied {
		t.Errorf("another device came in: %v", err)
	}
	if again := f.contain(claim, theft); again.Certificates != 4 || again.Things != 3 {
		t.Errorf("the second time %+v", again)
	}
	// Who takes the CA back into service gets its devices, and those that were contained stay out.
	check(t, f.UpdateCA(t.Context(), installer, ca.ID, CAChange{Status: fleet.Active}))
	f.wantStatus(fleet.Active, p.comes("new-0"))
	f.wantStatus(fleet.Revoked, thieves...)
}

// Without a template nobody knows what was made for a device, but its certificate loses its power, and stays on file.
func TestContainmentOfACAWithoutTemplate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	ca := p.registered(nil)
	early := p.comes("early") // and let in after the theft
	f.pass(time.Minute)
	theft := f.Clock.Now()
	waits, in := p.comes("waits"), p.comes("in")
	for _, c := range []fleet.Certificate{early, in} {
		f.write(func(tx *store.Tx) error { return registry.SetCertificateStatus(tx, here, c.ID, fleet.Active) })
	}
	if got := f.contain(Requester{Scope: here, PrincipalID: ca.ID}, theft); got.Certificates != 2 {
		t.Errorf("contained %+v", got)
	}
	f.wantStatus(fleet.Revoked, waits, in)
	f.wantStatus(fleet.Active, early)
}

func TestTheReportOfACAHasWhatItVouchedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Recorder = trace.NewRecorder(trace.RecorderConfig{Save: f.Store.SaveTraces})
	p := f.plant("Plant CA")
	ca := p.registered(withBody)
	p.comes("early")
	f.pass(time.Minute)
	since := f.Clock.Now()
	want := map[string]string{p.comes("late").ID: "late", p.comes("later").ID: "later"}
	_, _, err := p.connect(p.device(pkix.Name{CommonName: "no-serial"}))
	if err == nil {
		t.Fatal("a device without a serial number was provisioned")
	}
	f.Recorder.Close()
	report := func(page fleet.Page) ClaimReport {
		t.Helper()
		r, err := f.ReportClaim(t.Context(), here, ca.ID, since, page)
		check(t, err)
		for _, d := range r.Descendants {
			name, listed := want[d.ID]
			if listed && (len(d.Things) != 1 || d.Things[0].Name != name || !d.Things[0].Made || d.Registration.Principal != ca.ID) {
				t.Errorf("%s: %+v", name, d)
			}
			delete(want, d.ID)
		}
		return r
	}
	r := report(fleet.Page{Limit: 2})
	if r.Kind != CAClaim || r.Status != "ACTIVE" || r.CA == nil || r.Next == "" || len(r.Refused) != 1 || len(r.Descendants) != 2 {
		t.Errorf("%s %s, next %q, refused %v", r.Kind, r.Status, r.Next, r.Refused)
	}
	if r = report(fleet.Page{Limit: 2, After: r.Next}); len(r.Descendants) != 1 || r.Next != "" || len(want) != 0 {
		t.Errorf("the second page has %d, and %v are missing", len(r.Descendants), want)
	}
	check(t, f.UpdateCA(t.Context(), installer, ca.ID, CAChange{Status: fleet.Inactive}))
	f.write(func(tx *store.Tx) error { return registry.DeleteCA(tx, here, ca.ID) })
	if r := report(fleet.Page{}); r.Kind != ForgottenClaim || len(r.Descendants) != 3 {
		t.Errorf("of a CA that is gone: %s with %d", r.Kind, len(r.Descendants))
	}
}
