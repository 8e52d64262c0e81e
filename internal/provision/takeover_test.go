package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// settings is a body with Mappings.Imprint.Settings.
func settings(body string, s map[string]string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return strings.Replace(body, `"Resources"`, `"Mappings":{"Imprint":{"Settings":`+string(text)+`}},"Resources"`, 1)
}

// reason is the rule by which something was refused.
func reason(t testing.TB, err error) string {
	t.Helper()
	var e *fleet.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e == nil {
		return ""
	}
	return e.Reason
}

// csrOf is a request for the certificate of a key.
func csrOf(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lamp"}}, key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

// with asks for a certificate of a key.
func (f *fixture) with(r Requester, key *ecdsa.PrivateKey) *IssuedCertificate {
	f.t.Helper()
	c, err := f.CreateCertificateFromCSR(f.t.Context(), f.again(r), csrOf(f.t, key))
	check(f.t, err)
	return c
}

func (f *fixture) revoke(id string) {
	f.write(func(tx *store.Tx) error { return registry.SetCertificateStatus(tx, here, id, fleet.Revoked) })
}

func (f *fixture) detach(thing, id string) {
	f.write(func(tx *store.Tx) error { return registry.DetachPrincipal(tx, here, thing, here.IoT("cert", id)) })
}

func TestWhoGetsAThingThatIsTakenIsTheTemplatesRule(t *testing.T) {
	t.Parallel()
	allow := hookFunc(func(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{Allow: true}, nil })
	// what a stranger hears, and whoever has the key of the thing's certificate
	for _, c := range []struct {
		rule, stranger, sameKey string
		hook                    bool
	}{
		{rule: "", stranger: template.ReasonTaken, sameKey: template.ReasonTaken},
		{rule: "", hook: true},
		{rule: "deny", stranger: template.ReasonTaken, sameKey: template.ReasonTaken},
		{rule: "deny", hook: true, stranger: template.ReasonTaken, sameKey: template.ReasonTaken},
		{rule: "require-same-key", stranger: template.ReasonOtherKey},
		{rule: "replace"},
		{rule: "approve", stranger: template.ReasonWaits, sameKey: template.ReasonWaits},
		{rule: "approve", hook: true, stranger: template.ReasonWaits, sameKey: template.ReasonWaits},
		{rule: "aws"},
	} {
		name := c.rule
		if c.hook {
			name += " behind a hook"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := lamps
			if c.rule != "" {
				body = settings(lamps, map[string]string{"Reprovision": c.rule})
			}
			f := newFixture(t)
			f.template("lamps", body)
			if c.hook {
				f.hook("lamps", allow)
			}
			key := newKey(t)
			first := f.with(f.claim("lamps"), key)
			_, err := f.register(f.claimed(first), "lamps", first, "7") // a thing that there is not
			check(t, err)
			f.pass(time.Second)

			r := f.claim("lamps")
			_, err = f.register(r, "lamps", f.with(r, newKey(t)), "7")
			if got := reason(t, err); got != c.stranger || (err == nil) != (c.stranger == "") {
				t.Errorf("a stranger: %v (%s), want %q", err, got, c.stranger)
			}
			f.pass(time.Second) // a hook has not decided about what comes at the same time
			_, err = f.register(r, "lamps", f.with(r, key), "7")
			if got := reason(t, err); got != c.sameKey || (err == nil) != (c.sameKey == "") {
				t.Errorf("with the same key: %v (%s), want %q", err, got, c.sameKey)
			}
			own := Requester{Scope: here, PrincipalID: first.ID, ClientID: "lamp-7"}
			if _, err = f.register(own, "lamps", f.with(own, newKey(t)), "7"); err != nil {
				t.Errorf("a principal of the thing may not renew its certificate: %v", err)
			}
			if _, err = f.register(r, "lamps", f.with(r, newKey(t)), "8"); err != nil {
				t.Errorf("a new thing: %v", err)
			}
			f.detach("lamp-8", f.principals("lamp-8")[0].Principal[strings.LastIndexByte(f.principals("lamp-8")[0].Principal, '/')+1:])
			if _, err = f.register(r, "lamps", f.with(r, newKey(t)), "8"); err != nil {
				t.Errorf("a thing without principals: %v", err)
			}
		})
	}
}

// claimed is the claim that asked for a certificate.
func (f *fixture) claimed(c *IssuedCertificate) Requester {
	f.t.Helper()
	id := view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, c.ID) }).Origin.ClaimID
	return f.requester(view(f, func(tx *store.Tx) (fleet.Claim, error) { return tx.Claim(here, id) }))
}

func TestAnotherTemplateHasItsOwnRule(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("open", settings(lamps, map[string]string{"Reprovision": "aws"}))
	f.template("closed", lamps)
	r := f.claim("open")
	_, err := f.register(r, "open", f.certificate(r), "7")
	check(t, err)
	closed := f.claim("closed")
	_, err = f.register(closed, "closed", f.certificate(closed), "7")
	if got := reason(t, err); got != template.ReasonTaken {
		t.Errorf("%v (%s)", err, got)
	}
	_, err = f.register(r, "closed", f.certificate(r), "8")
	refused(t, err, CodeAccessDenied) // the claim is for the other one
}

func TestAKeyCountsAsLongAsNoneOfItsCertificatesIsRevoked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", settings(lamps, map[string]string{"Reprovision": "require-same-key"}))
	r, key := f.claim("lamps"), newKey(t)
	first := f.with(r, key)
	_, err := f.register(r, "lamps", first, "7")
	check(t, err)
	// The thing had the key: its certificate is gone, and another one is there.
	f.detach("lamp-7", first.ID)
	f.write(func(tx *store.Tx) error {
		check(t, registry.SetCertificateStatus(tx, here, first.ID, fleet.Inactive))
		return registry.DeleteCertificate(tx, here, first.ID, true)
	})
	_, err = f.register(r, "lamps", f.with(r, newKey(t)), "7")
	check(t, err)
	r = f.claim("lamps")
	again := f.with(r, key)
	_, err = f.register(r, "lamps", again, "7")
	check(t, err)
	// A certificate that the API has attached counts as well.
	made := newKey(t)
	svc := registry.New(registry.Config{Store: f.Store, Authority: f.Authority, Keys: f.Keys})
	c, err := svc.CreateCertificateFromCSR(t.Context(), here, csrOf(t, made), true)
	check(t, err)
	f.write(func(tx *store.Tx) error {
		return registry.AttachPrincipal(tx, here, "lamp-7", here.IoT("cert", c.ID), fleet.NonExclusive)
	})
	_, err = f.register(r, "lamps", f.with(r, made), "7")
	check(t, err)
	f.revoke(again.ID)
	r = f.claim("lamps")
	_, err = f.register(r, "lamps", f.with(r, key), "7")
	if got := reason(t, err); got != template.ReasonOtherKey {
		t.Errorf("the key of a revoked certificate: %v (%s)", err, got)
	}
}

func TestAReplacedCertificateEndsWhenItsSuccessorConnects(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", settings(lamps, map[string]string{"Reprovision": "replace"}))
	r := f.claim("lamps")
	register := func() string {
		c := f.certificate(r)
		_, err := f.register(r, "lamps", c, "7")
		check(t, err)
		return c.ID
	}
	connected := func(id string, want ...string) {
		t.Helper()
		check(t, f.Connected(t.Context(), []Connection{{here, id, f.Clock.Now()}}))
		var left []string
		for _, p := range f.principals("lamp-7") {
			a, _ := fleet.ParseARN(p.Principal)
			left = append(left, a.Name())
		}
		slices.Sort(left)
		slices.Sort(want)
		if !slices.Equal(left, want) {
			t.Errorf("when %s has connected, the thing has %v, want %v", id[:6], left, want)
		}
		f.pass(time.Second)
	}
	first := register()
	connected(first, first)
	second := register()
	if f.status(first) != fleet.Active || len(f.principals("lamp-7")) != 2 {
		t.Error("the old certificate has ended before the new one has connected")
	}
	connected(second, second)
	if f.status(first) != fleet.Inactive || f.status(second) != fleet.Active {
		t.Errorf("%s, %s", f.status(first), f.status(second))
	}
	lost, third := register(), register() // the device got no answer, or lost it
	if f.status(lost) != fleet.Inactive || f.status(second) != fleet.Active {
		t.Errorf("%s, %s", f.status(lost), f.status(second))
	}
	connected(third, third) // whoever came last has the thing
	if f.status(second) != fleet.Inactive {
		t.Error(f.status(second))
	}
	// One that somebody has taken the thing from takes nothing from others.
	fourth := register()
	f.detach("lamp-7", fourth)
	connected(fourth, third)
	if f.status(third) != fleet.Active || len(f.principals("lamp-7")) != 1 {
		t.Error("a certificate without the thing ended the thing's")
	}
	// A certificate that has another thing stays active.
	f.write(func(tx *store.Tx) error {
		check(t, tx.CreateThing(here, fleet.Thing{Name: "other", ID: fleet.NewUUID(), Version: 1, Created: tx.Now()}))
		return registry.AttachPrincipal(tx, here, "other", here.IoT("cert", third), fleet.NonExclusive)
	})
	fifth := register()
	connected(fifth, fifth)
	if f.status(third) != fleet.Active || len(f.principals("other")) != 1 {
		t.Error("the certificate of another thing has ended")
	}
}

func TestReplacingTakesPermissionOfTheRole(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", settings(lamps, map[string]string{"Reprovision": "replace"}))
	r := f.claim("lamps")
	_, err := f.register(r, "lamps", f.certificate(r), "7")
	check(t, err)
	f.iam.refuse("iot:DetachThingPrincipal")
	_, err = f.register(r, "lamps", f.certificate(r), "7")
	if m := refused(t, err, CodeAccessDenied); !strings.Contains(m, "iot:DetachThingPrincipal") {
		t.Error(m)
	}
}

func TestAnOperatorApprovesOneKeyForOneThingOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", settings(lamps, map[string]string{"Reprovision": "approve"}))
	boss := &fleet.Caller{Scope: here, ARN: here.IAM("user/boss")}
	r := f.claim("lamps")
	first := f.certificate(r)
	_, err := f.register(r, "lamps", first, "7")
	check(t, err)

	key := newKey(t)
	second, stranger := f.with(r, key), f.certificate(r)
	ask := func(c *IssuedCertificate, want string) *fleet.Error {
		t.Helper()
		_, err := f.register(r, "lamps", c, "7")
		var e *fleet.Error
		if errors.As(err, &e); reason(t, err) != want || (err == nil) != (want == "") {
			t.Fatalf("%v (%s), want %q", err, reason(t, err), want)
		}
		return e
	}
	if e := ask(second, template.ReasonWaits); e.Code != CodeApprovalPending || e.RetryAfter != time.Minute {
		t.Errorf("%+v", e)
	}
	ask(second, template.ReasonWaits)
	waiting := f.approvals("")
	if len(waiting) != 1 || waiting[0].Thing != "lamp-7" || waiting[0].Attempts != 2 || waiting[0].Certificate != second.ID || waiting[0].State != fleet.ApprovalPending ||
		waiting[0].SourceIP != "192.0.2.1" || waiting[0].TraceID == "" {
		t.Fatalf("%+v", waiting)
	}
	a, err := f.Decide(t.Context(), boss, waiting[0].ID, Decision{Approve: true, Replace: true})
	check(t, err)
	if a.State != fleet.ApprovalApproved || a.DecidedBy != boss.ARN {
		t.Errorf("%+v", a)
	}
	ask(stranger, template.ReasonWaits) // another key
	ask(second, "")
	ask(second, "") // a lost answer, again
	check(t, f.Connected(t.Context(), []Connection{{here, second.ID, f.Clock.Now()}}))
	if f.status(first.ID) != fleet.Inactive || f.status(second.ID) != fleet.Active {
		t.Errorf("%s, %s", f.status(first.ID), f.status(second.ID))
	}
	if _, err := f.Decide(t.Context(), boss, a.ID, Decision{}); fleet.KindOf(err) != fleet.KindState {
		t.Errorf("deciding what is used up: %v", err)
	}

	// The device that was replaced asks in its turn, and is denied; then the same key asks for a second certificate.
	other := f.approvals(fleet.ApprovalPending)
	_, err = f.Decide(t.Context(), boss, other[0].ID, Decision{Holds: time.Minute})
	check(t, err)
	ask(stranger, template.ReasonRejected)
	f.pass(2 * time.Minute)
	ask(stranger, template.ReasonWaits) // the denial is over
	r = f.claim("lamps")
	once := f.with(r, newKey(t))
	ask(once, template.ReasonWaits)
	i := slices.IndexFunc(f.approvals(fleet.ApprovalPending), func(a fleet.ApprovalRequest) bool { return a.Certificate == once.ID })
	if i < 0 {
		t.Fatal("it does not wait")
	}
	id := f.approvals(fleet.ApprovalPending)[i].ID
	_, err = f.Decide(t.Context(), boss, id, Decision{Approve: true, Holds: time.Minute})
	check(t, err)
	f.pass(time.Minute)
	ask(once, template.ReasonWaits) // the approval is over
	if _, err = f.Decide(t.Context(), boss, "no such", Decision{}); fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("%v", err)
	}
	if _, err = f.Decide(t.Context(), boss, id, Decision{Holds: MaxApprovalHolds + 1}); fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("%v", err)
	}
	if _, err = f.Decide(t.Context(), &fleet.Caller{Scope: fleet.Scope{Account: "111111111111", Region: here.Region}}, id, Decision{Approve: true}); fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("another account decides: %v", err)
	}
	f.pass(approvalKept + time.Hour)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	if left := f.approvals(""); len(left) != 0 {
		t.Errorf("%d are kept for ever", len(left))
	}
}

func (f *fixture) approvals(state fleet.ApprovalState) []fleet.ApprovalRequest {
	f.t.Helper()
	return view(f, func(tx *store.Tx) ([]fleet.ApprovalRequest, error) {
		list, _, err := tx.Approvals(here, state, fleet.Page{})
		return list, err
	})
}

func TestTheQueueOfAThingIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", settings(lamps, map[string]string{"Reprovision": "approve"}))
	r := f.claim("lamps")
	_, err := f.register(r, "lamps", f.certificate(r), "7")
	check(t, err)
	for i := range maxPendingOfThing + 1 {
		_, err := f.register(r, "lamps", f.certificate(r), "7")
		want := template.ReasonWaits
		if i == maxPendingOfThing {
			want = ReasonQueueFull
			refused(t, err, CodeThrottled)
		}
		if got := reason(t, err); got != want {
			t.Errorf("request %d: %v (%s)", i, err, got)
		}
	}
	if n := len(f.approvals("")); n != maxPendingOfThing {
		t.Errorf("%d wait", n)
	}
}

func TestAClaimOfATemplateThatWasMadeAnewStaysDead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	c := f.certificate(r)
	check(t, f.DeleteTemplate(t.Context(), here, "lamps"))
	f.template("lamps", lamps) // in the same millisecond: the clock stands still
	_, err := f.register(r, "lamps", c, "7")
	refused(t, err, CodeAccessDenied)
	if err := f.CheckClaim(t.Context(), here, r.PrincipalID); fleet.KindOf(err) != fleet.KindDenied {
		t.Errorf("the claim lives: %v", err)
	}
	r = f.claim("lamps")
	_, err = f.register(r, "lamps", f.certificate(r), "7")
	check(t, err)
}
