package provision

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

func TestADeviceIsRegisteredAsItsTemplateSays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	c := f.certificate(r)
	if got := f.status(c.ID); got != fleet.PendingActivation {
		t.Errorf("a new certificate is %s", got)
	}
	got, err := f.Register(t.Context(), r, "lamps", c.Token.Reveal(), map[string]string{"Serial": "7", "Extra": "x", "AWS::IoT::Certificate::Id": "nonsense"})
	check(t, err)
	want := &Registered{"lamp-7", map[string]string{"url": "https://example.com", "serial": "7"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("answered %+v, want %+v", got, want)
	}
	if s := f.status(c.ID); s != fleet.Active {
		t.Errorf("the certificate is %s", s)
	}
	thing := view(f, func(tx *store.Tx) (fleet.Thing, error) { return tx.Thing(here, "lamp-7") })
	if !reflect.DeepEqual(thing.Attributes, map[string]string{"serial": "7"}) {
		t.Errorf("attributes %v", thing.Attributes)
	}
	if p := f.principals("lamp-7"); len(p) != 1 || p[0].Principal != here.IoT("cert", c.ID) {
		t.Errorf("principals %v", p)
	}
	policies := view(f, func(tx *store.Tx) ([]store.EffectivePolicy, error) {
		return tx.EffectivePolicies(here, here.IoT("cert", c.ID), "")
	})
	if len(policies) != 1 || !strings.Contains(policies[0].Document, "topic/lamps/7/*") {
		t.Errorf("policies %v", policies)
	}
	reg, _ := registration2(f, c.ID)
	if reg.Installer.Username != "ann" || reg.Thing != "lamp-7" || reg.Version != 1 {
		t.Errorf("recorded %+v", reg)
	}
}

func registration2(f *fixture, id string) (reg store.Registration, found bool) {
	f.t.Helper()
	reg = view(f, func(tx *store.Tx) (r store.Registration, err error) {
		r, found, err = tx.Registration(here, id)
		return r, err
	})
	return reg, found
}

func TestASuccessLeavesASmallReadableTraceWithoutSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	c := f.certificate(r)
	_, err := f.Register(t.Context(), r, "lamps", c.Token.Reveal(), map[string]string{"Serial": "SN-4711"})
	check(t, err)
	for _, subject := range []string{"SN-4711", c.ID, r.PrincipalID, "lamp-SN-4711", r.Trace.ID()} {
		found := view(f, func(tx *store.Tx) ([]trace.Record, error) { return tx.Traces(here, subject, 10) })
		if len(found) == 0 {
			t.Errorf("nothing is filed under %s", subject)
			continue
		}
		b, err := json.Marshal(found[0])
		check(t, err)
		if len(b) > 3000 {
			t.Errorf("a record of %d bytes", len(b))
		}
		if strings.Contains(string(b), c.Token.Reveal()) || strings.Contains(string(b), "PRIVATE") {
			t.Error("a secret is in the trace")
		}
	}
	found := view(f, func(tx *store.Tx) ([]trace.Record, error) { return tx.Traces(here, r.Trace.ID(), 1) })[0]
	text := found.Text()
	for _, want := range []string{"thing lamp-SN-4711", "create thing", "PENDING_ACTIVATION to ACTIVE", "role/provisioner may do all of it", "succeeded"} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace does not say %q:\n%s", want, text)
		}
	}
}

func TestATokenIsGoodForOneRegistrationByItsOwner(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	f.template("torches", strings.ReplaceAll(lamps, "lamp", "torch"))
	shared := f.bootstrap()
	c := f.certificate(shared)
	first, err := f.register(shared, "lamps", c, "1")
	check(t, err)

	again, err := f.register(shared, "lamps", c, "1")
	if err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("the same request again: %v, %v", again, err)
	}
	other := f.bootstrap()
	for name, try := range map[string]func() error{
		"for a second thing":          func() error { _, err := f.register(shared, "lamps", c, "2"); return err },
		"for another template":        func() error { _, err := f.register(shared, "torches", c, "1"); return err },
		"by another claim":            func() error { _, err := f.register(other, "lamps", c, "1"); return err },
		"by a claim of the same name": func() error { r := shared; r.IsClaim = true; _, err := f.register(r, "lamps", c, "1"); return err },
		"in another account": func() error {
			r := f.again(shared)
			r.Scope.Account = "111111111111"
			_, err := f.Register(t.Context(), r, "lamps", c.Token.Reveal(), nil)
			return err
		},
		"changed": func() error {
			b := []byte(c.Token.Reveal())
			b[40] ^= 1
			_, err := f.Register(t.Context(), shared, "lamps", string(b), map[string]string{"Serial": "1"})
			return err
		},
		"cut": func() error {
			_, err := f.Register(t.Context(), shared, "lamps", c.Token.Reveal()[:20], nil)
			return err
		},
		"long": func() error {
			_, err := f.Register(t.Context(), shared, "lamps", strings.Repeat("A", 5000), nil)
			return err
		},
	} {
		refused(t, try(), CodeInvalidToken)
		_ = name
	}
	_, err = f.Register(t.Context(), shared, "lamps", "", nil)
	if m := refused(t, err, CodeInvalidToken); m != "Certificate ownership token cannot be empty." {
		t.Errorf("AWS says something else than %q", m)
	}
	f.pass(time.Hour)
	_, err = f.register(shared, "lamps", c, "1")
	refused(t, err, CodeInvalidToken)
}

func TestATokenFitsIntoTheBuffersOfSmallClients(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	name := strings.Repeat("t", 36)
	f.template(name, lamps)
	if n := len(f.certificate(f.claim(name)).Token.Reveal()); n > 512 || n < 100 {
		t.Errorf("a token has %d characters", n)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	const missingPolicy = `{"Resources":{"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"nope"}},"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}}}`
	for _, c := range []struct {
		name, body string
		prepare    func(f *fixture, r *Requester)
		params     map[string]string
		code, text string
	}{
		{"a missing parameter has AWS's text", lamps, nil, nil, CodeInvalidParameters, "Cannot resolve reference value: Serial"},
		{"a bad thing name", lamps, nil, map[string]string{"Serial": "a b"}, CodeInvalidParameters, "thing name"},
		{"a missing policy", missingPolicy, nil, nil, CodeNotFound, `policy "nope"`},
		{"a role that lacks an action", lamps, func(f *fixture, _ *Requester) { f.iam.refuse("iot:AttachThingPrincipal") }, map[string]string{"Serial": "1"}, CodeAccessDenied, "lacks iot:AttachThingPrincipal on arn:aws:iot:us-east-1:000000000000:cert/"},
		{"a role that does not trust the service", lamps, func(f *fixture, _ *Requester) { f.iam.refuse("trust") }, map[string]string{"Serial": "1"}, CodeAccessDenied, "cannot be assumed by iot.amazonaws.com"},
		{"a fired installer", lamps, func(f *fixture, _ *Requester) { f.iam.refuse("fired") }, map[string]string{"Serial": "1"}, CodeAccessDenied, "may not provision"},
		{"a disabled template", lamps, func(f *fixture, _ *Requester) {
			check(f.t, f.UpdateTemplate(f.t.Context(), installer, "lamps", TemplateChange{Enabled: new(false)}))
		}, map[string]string{"Serial": "1"}, CodeAccessDenied, "disabled"},
		{"a deleted template", lamps, func(f *fixture, _ *Requester) { check(f.t, f.DeleteTemplate(f.t.Context(), here, "lamps")) }, map[string]string{"Serial": "1"}, CodeAccessDenied, "does not exist any more"},
		{"a revoked claim", lamps, func(f *fixture, r *Requester) { check(f.t, f.RevokeClaim(f.t.Context(), here, r.PrincipalID)) }, map[string]string{"Serial": "1"}, CodeAccessDenied, "revoked"},
		{"a hook that nobody runs", lamps, func(f *fixture, _ *Requester) { f.hook("lamps", nil) }, map[string]string{"Serial": "1"}, CodeAccessDenied, "cannot be run"},
		{"a hook that denies", lamps, func(f *fixture, _ *Requester) {
			f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{}, nil })
		}, map[string]string{"Serial": "1"}, CodeAccessDenied, "did not allow"},
		{"a hook that fails", lamps, func(f *fixture, _ *Requester) {
			f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) {
				return HookAnswer{Allow: true}, errors.New("secret")
			})
		}, map[string]string{"Serial": "1"}, CodeAccessDenied, "hook failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.template("lamps", c.body)
			r := f.claim("lamps")
			cert := f.certificate(r)
			if c.prepare != nil {
				c.prepare(f, &r)
			}
			_, err := f.Register(t.Context(), r, "lamps", cert.Token.Reveal(), c.params)
			if m := refused(t, err, c.code); !strings.Contains(m, c.text) || strings.Contains(m, "secret") {
				t.Errorf("says %q, want %q in it", m, c.text)
			}
			if s := f.status(cert.ID); s != fleet.PendingActivation {
				t.Errorf("the certificate became %s", s)
			}
			things := view(f, func(tx *store.Tx) ([]fleet.Thing, error) {
				list, _, err := tx.Things(here, store.ThingFilter{}, fleet.Page{})
				return list, err
			})
			if len(things) != 0 {
				t.Errorf("half of it was written: %v", things)
			}
		})
	}
}

// hook puts a hook on a template; nil is one that the service has no runner for.
func (f *fixture) hook(template string, h hookFunc) {
	f.t.Helper()
	check(f.t, f.UpdateTemplate(f.t.Context(), installer, template, TemplateChange{Hook: &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:check"}}))
	if h != nil {
		f.Hook = h
	}
}

func TestABootstrapCertificateMustBeActive(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.bootstrap()
	c := f.certificate(r)
	f.write(func(tx *store.Tx) error {
		return registry.SetCertificateStatus(tx, here, r.PrincipalID, fleet.Inactive)
	})
	_, err := f.register(r, "lamps", c, "1")
	refused(t, err, CodeAccessDenied)
	_, err = f.CreateCertificateFromCSR(t.Context(), r, newCSR(t))
	refused(t, err, CodeAccessDenied)
	_, err = f.CreateKeysAndCertificate(t.Context(), r)
	refused(t, err, CodeAccessDenied)
}

func TestATemplateOfTheWrongKindOrNameIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	f.template("other", lamps)
	shared, claim := f.bootstrap(), f.claim("lamps")
	_, err := f.register(shared, "nope", f.certificate(shared), "1")
	refused(t, err, CodeNotFound)
	_, err = f.register(claim, "other", f.certificate(claim), "1")
	refused(t, err, CodeAccessDenied)
	_, err = f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "jitp", Body: `{"Resources":{}}`, RoleARN: role, Type: fleet.JITP, Enabled: new(true)})
	check(t, err)
	_, err = f.register(shared, "jitp", f.certificate(shared), "1")
	refused(t, err, CodeAccessDenied)
}

func TestAHookIsToldAllAndMayOverrideButNotEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	c := f.certificate(r)
	var told HookEvent
	f.hook("lamps", func(ctx context.Context, e HookEvent) (HookAnswer, error) {
		told = e
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > MaxHookTime {
			t.Error("no deadline")
		}
		return HookAnswer{Allow: true, Overrides: map[string]string{"Serial": "99", "AWS::IoT::Certificate::Id": strings.Repeat("0", 64)}}, nil
	})
	got, err := f.register(r, "lamps", c, "7")
	check(t, err)
	if got.ThingName != "lamp-99" || f.status(c.ID) != fleet.Active {
		t.Errorf("answered %+v", got)
	}
	want := HookEvent{here, "lamps", "arn:aws:lambda:us-east-1:000000000000:function:check", "2020-04-01", r.PrincipalID, c.ID, c.PEM, "client", map[string]string{"Serial": "7"}, false}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("the hook was told %+v", told)
	}
}

// A hook may take seconds. What changes meanwhile counts.
func TestWhatChangesWhileAHookThinksCounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(f *fixture, r Requester, cert string)
		code      string // "": allowed
		thing     string
	}{
		"nothing":                {func(*fixture, Requester, string) {}, "", "lamp-7"},
		"the claim is revoked":   {func(f *fixture, r Requester, _ string) { check(f.t, f.RevokeClaim(f.t.Context(), here, r.PrincipalID)) }, CodeAccessDenied, ""},
		"the installer is fired": {func(f *fixture, _ Requester, _ string) { f.iam.refuse("fired") }, CodeAccessDenied, ""},
		"the template is disabled": {func(f *fixture, _ Requester, _ string) {
			check(f.t, f.UpdateTemplate(f.t.Context(), installer, "lamps", TemplateChange{Enabled: new(false)}))
		}, CodeAccessDenied, ""},
		"the template gets another version": {func(f *fixture, _ Requester, _ string) {
			_, err := f.CreateTemplateVersion(f.t.Context(), here, "lamps", strings.ReplaceAll(lamps, `"lamp"`, `"bulb"`), true)
			check(f.t, err)
		}, "", "bulb-7"},
		"the template gets another hook": {func(f *fixture, _ Requester, _ string) {
			check(f.t, f.UpdateTemplate(f.t.Context(), installer, "lamps", TemplateChange{Hook: &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:other"}}))
		}, CodeConflict, ""},
		"the certificate is revoked": {func(f *fixture, _ Requester, id string) {
			f.write(func(tx *store.Tx) error { return registry.SetCertificateStatus(tx, here, id, fleet.Revoked) })
		}, CodeInvalidToken, ""},
		"the certificate is deleted": {func(f *fixture, _ Requester, id string) {
			f.write(func(tx *store.Tx) error { return registry.DeleteCertificate(tx, here, id, true) })
		}, CodeInvalidToken, ""},
		"somebody takes the name": {func(f *fixture, r Requester, _ string) {
			f.Hook = hookFunc(func(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{Allow: true}, nil })
			_, err := f.register(r, "lamps", f.certificate(r), "7")
			check(f.t, err)
		}, CodeConflict, ""},
		"the claim expires": {func(f *fixture, _ Requester, _ string) { f.pass(10 * time.Minute) }, "", "lamp-7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.template("lamps", lamps)
			r := f.claim("lamps")
			cert := f.certificate(r)
			f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) {
				c.meanwhile(f, r, cert.ID)
				return HookAnswer{Allow: true}, nil
			})
			got, err := f.register(r, "lamps", cert, "7")
			if c.code != "" {
				refused(t, err, c.code)
				return
			}
			check(t, err)
			if got.ThingName != c.thing {
				t.Errorf("registered as %s, want %s", got.ThingName, c.thing)
			}
		})
	}
}

func TestOfManyCertificatesThatRaceForANameOneWins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.bootstrap()
	const n = 64
	var certs [n]*IssuedCertificate
	for i := range certs {
		certs[i] = f.certificate(r)
	}
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range certs {
		wg.Go(func() {
			_, err := f.register(r, "lamps", certs[i], "7")
			if err == nil {
				won.Add(1)
				return
			}
			if _, code, _ := Refusal(err); code != CodeConflict {
				t.Errorf("refused with %v", err)
			}
			lost.Add(1)
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != n-1 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
	active := 0
	for _, c := range certs {
		if f.status(c.ID) == fleet.Active {
			active++
		}
	}
	if p := f.principals("lamp-7"); len(p) != 1 || active != 1 {
		t.Errorf("%d principals, %d active certificates", len(p), active)
	}
}

func TestTheSameRequestManyTimesAtOnceIsOneRegistration(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	c := f.certificate(r)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if got, err := f.register(r, "lamps", c, "7"); err != nil || got.ThingName != "lamp-7" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if p := f.principals("lamp-7"); len(p) != 1 {
		t.Errorf("principals %v", p)
	}
}

func TestOneTokenRacingForTwoThingsGetsOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	c := f.certificate(r)
	var won atomic.Int32
	var wg sync.WaitGroup
	for _, serial := range strings.Split("abcdefgh", "") {
		wg.Go(func() {
			_, err := f.register(r, "lamps", c, serial)
			if err == nil {
				won.Add(1)
			} else if _, code, _ := Refusal(err); code != CodeInvalidToken {
				t.Errorf("refused with %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d won", won.Load())
	}
}

func TestADeviceRotatesItsOwnCertificateAndNobodyElses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	claim := f.claim("lamps")
	old := f.certificate(claim)
	_, err := f.register(claim, "lamps", old, "7")
	check(t, err)

	device := Requester{Scope: here, PrincipalID: old.ID, ClientID: "lamp-7"}
	fresh := f.certificate(device)
	_, err = f.register(device, "lamps", fresh, "7")
	check(t, err)
	if p := f.principals("lamp-7"); len(p) != 2 {
		t.Errorf("principals %v", p)
	}
	_, err = f.register(claim, "lamps", f.certificate(claim), "7")
	if m := refused(t, err, CodeConflict); !strings.Contains(m, "Reprovision") {
		t.Errorf("does not say how to allow it: %s", m)
	}
	_, err = f.CreateTemplateVersion(t.Context(), here, "lamps", strings.Replace(lamps, `"Resources"`, `"Mappings":{"Imprint":{"Settings":{"Reprovision":"aws"}}},"Resources"`, 1), true)
	check(t, err)
	_, err = f.register(claim, "lamps", f.certificate(claim), "7")
	check(t, err)
}

func TestTheRoleIsAskedForEveryActionOfThePlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	_, err := f.register(r, "lamps", f.certificate(r), "7")
	check(t, err)
	var actions []string
	for _, a := range f.iam.asked {
		if action, _, _ := strings.Cut(a, " "); !slices.Contains(actions, action) { // a body may run again
			actions = append(actions, action)
		}
	}
	want := "iot:CreateThing iot:CreatePolicy iot:AttachPolicy iot:AttachThingPrincipal iot:UpdateCertificate"
	if got := strings.Join(actions, " "); got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
}

func TestErrorsOfOursAreNotShown(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New("disk on fire"), &fleet.Error{Kind: fleet.KindInternal, Msg: "disk on fire"}, &fleet.Error{Kind: fleet.KindUnavailable, Msg: "disk on fire"}} {
		if status, code, m := Refusal(err); status != 500 || code != CodeInternal || strings.Contains(m, "fire") {
			t.Errorf("%d %s %s", status, code, m)
		}
	}
	e := fleet.Denied("no")
	e.Err = errors.New("disk on fire")
	if status, code, m := Refusal(e); status != 403 || code != CodeAccessDenied || m != "no" {
		t.Errorf("%d %s %s", status, code, m)
	}
}
