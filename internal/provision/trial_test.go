package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

func (f *fixture) policyFor(name, document string, targets ...string) {
	f.t.Helper()
	f.write(func(tx *store.Tx) error {
		if _, err := registry.CreatePolicy(tx, here, name, document, nil); err != nil {
			return err
		}
		for _, target := range targets {
			if err := registry.AttachPolicy(tx, here, name, target); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestATrialSaysWhatARegistrationWouldComeTo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	f.policyFor("everyone", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:us-east-1:000000000000:client/${iot:Connection.Thing.ThingName}"},
		{"Effect":"Deny","Action":"iot:Subscribe","Resource":"arn:aws:iot:us-east-1:000000000000:topicfilter/secret/*"}]}`)
	f.write(func(tx *store.Tx) error {
		if _, err := registry.CreateGroup(tx, here, registry.GroupSpec{Name: "garden"}); err != nil {
			return err
		}
		return registry.AttachPolicy(tx, here, "everyone", here.IoT("thinggroup", "garden"))
	})
	body := strings.Replace(lamps, `"AttributePayload"`, `"ThingGroups": ["garden"], "AttributePayload"`, 1)
	try := func(tr Trial) *Outcome {
		t.Helper()
		o, err := f.Try(t.Context(), here, tr)
		check(t, err)
		return o
	}
	o := try(Trial{Draft: Draft{Name: "lamps", Body: body}, Parameters: map[string]string{"Serial": "7"}, Subscribe: []string{"secret/x"}, Publish: []string{"lamps/7/state", "lamps/8/state"}})
	var may []string
	for _, d := range o.Connection {
		may = append(may, fmt.Sprint(d.Action, " ", d.Resource, " ", d.Allowed, " ", d.Why))
	}
	want := []string{`iot:Connect client/lamp-7 true allowed by policy "everyone" statement 1`, `iot:Publish topic/lamps/7/state true`, "iot:Publish topic/lamps/8/state false implicit deny",
		`iot:Subscribe topicfilter/secret/x false explicit deny by policy "everyone" statement 2`, "iot:Receive topic/secret/x false"}
	if o.Refusal != nil || o.Thing != "lamp-7" || o.Configuration["serial"] != "7" || !slices.EqualFunc(may, want, strings.HasPrefix) {
		t.Errorf("%+v\n%s", o, strings.Join(may, "\n"))
	}
	if o := try(Trial{Draft: Draft{Name: "lamps"}, Parameters: map[string]string{"Serial": "7"}, ClientID: "another"}); o.Connection[0].Allowed || o.Connection[1].Resource != "topic/lamps/7/example" {
		t.Errorf("%+v", o.Connection)
	}

	// What would be refused is told as the device would be told.
	for name, c := range map[string]struct {
		trial Trial
		code  string
		words string
	}{
		"no parameter":    {Trial{Draft: Draft{Name: "lamps"}}, CodeInvalidParameters, "Cannot resolve reference value: Serial"},
		"a missing group": {Trial{Draft: Draft{Body: strings.Replace(body, "garden", "forest", 1)}, Parameters: map[string]string{"Serial": "7"}}, CodeNotFound, "forest"},
	} {
		if o := try(c.trial); o.Refusal == nil || o.Refusal.Code != c.code || !strings.Contains(o.Refusal.Msg, c.words) {
			t.Errorf("%s: %+v", name, o.Refusal)
		}
	}
	f.iam.refuse("iot:AttachThingPrincipal")
	if o := try(Trial{Draft: Draft{Name: "lamps"}, Parameters: map[string]string{"Serial": "7"}}); o.Refusal == nil || o.Refusal.Code != CodeAccessDenied || !strings.Contains(o.Role, "iot:AttachThingPrincipal") {
		t.Errorf("%+v, %s", o.Refusal, o.Role)
	}
	f.iam.refuse()

	// A trial writes nothing, and the real one then comes to the same.
	if _, found := f.lookUp("lamp-7"); found {
		t.Fatal("a trial made a thing")
	}
	r := f.claim("lamps")
	if got, err := f.register(r, "lamps", f.certificate(r), "7"); err != nil || got.ThingName != "lamp-7" || !maps.Equal(got.DeviceConfiguration, o.Configuration) {
		t.Errorf("%+v, %v", got, err)
	}
	if o := try(Trial{Draft: Draft{Name: "lamps"}, Parameters: map[string]string{"Serial": "7"}}); o.Refusal == nil || o.Refusal.Code != CodeConflict {
		t.Errorf("a thing that is another's: %+v", o.Refusal)
	}
	for _, d := range []Draft{{}, {Name: "nothing"}, {Body: "{"}, {Name: "a b", Body: lamps}} {
		if _, err := f.Try(t.Context(), here, Trial{Draft: d}); err == nil {
			t.Errorf("%+v is tried", d)
		}
	}
}

func TestATrialCountsThePoliciesThatTheConnectionWouldHave(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.policyFor("everyone", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)
	f.write(func(tx *store.Tx) error {
		for _, g := range []string{"garden", "shed"} {
			if _, err := registry.CreateGroup(tx, here, registry.GroupSpec{Name: g}); err != nil {
				return err
			}
		}
		if _, err := registry.CreateThing(tx, here, registry.ThingSpec{Name: "lamp-old"}); err != nil {
			return err
		}
		if err := registry.AddToGroup(tx, here, "lamp-old", "shed"); err != nil {
			return err
		}
		return registry.AttachPolicy(tx, here, "everyone", here.IoT("thinggroup", "garden"))
	})
	body := strings.Replace(lamps, `"AttributePayload"`, `"ThingGroups": ["garden"], "AttributePayload"`, 1)
	override := func(how string) string {
		return strings.Replace(body, `{"serial": {"Ref": "Serial"}}}}`, `{"serial": {"Ref": "Serial"}}}, "OverrideSettings": {"ThingGroups": "`+how+`"}}`, 1)
	}
	for name, c := range map[string]struct {
		body, serial, client string
		connects             bool
	}{
		"a new thing joins its group":                      {body, "new", "", true},
		"a thing that is there stays where it is":          {body, "old", "", false},
		"a thing that is there joins":                      {override("MERGE"), "old", "", true},
		"policies of groups count for the thing's name":    {body, "new", "another", false},
		"and for any name if the certificate has no other": {strings.Replace(body, `"Properties": {"CertificateId"`, `"Properties": {"ThingPrincipalType": "EXCLUSIVE_THING", "CertificateId"`, 1), "new", "another", true},
	} {
		o, err := f.Try(t.Context(), here, Trial{Draft: Draft{Body: c.body}, Parameters: map[string]string{"Serial": c.serial}, ClientID: c.client})
		if err != nil || o.Refusal != nil || o.Connection[0].Allowed != c.connects {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}

	// The group that a thing leaves takes its policies with it.
	f.write(func(tx *store.Tx) error {
		return registry.AttachPolicy(tx, here, "everyone", here.IoT("thinggroup", "shed"))
	})
	if o, err := f.Try(t.Context(), here, Trial{Draft: Draft{Body: strings.Replace(override("REPLACE"), `["garden"]`, `[]`, 1)}, Parameters: map[string]string{"Serial": "old"}}); err != nil || o.Connection[0].Allowed {
		t.Errorf("a thing that leaves its groups: %+v, %v", o, err)
	}

	// A policy that a template has made before is used as it has become.
	f.template("lamps", lamps)
	r := f.claim("lamps")
	_, err := f.register(r, "lamps", f.certificate(r), "1")
	check(t, err)
	again := Trial{Draft: Draft{Name: "lamps"}, Parameters: map[string]string{"Serial": "1"}, Publish: []string{"lamps/1/state"}}
	device := f.principals("lamp-1")[0].Principal
	f.write(func(tx *store.Tx) error {
		names, _, err := tx.PoliciesOf(here, device, fleet.Page{})
		if err != nil {
			return err
		}
		if err := registry.DetachPrincipal(tx, here, "lamp-1", device); err != nil {
			return err
		}
		_, err = registry.AddPolicyVersion(tx, here, names[0], `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:Publish","Resource":"*"}]}`, true)
		return err
	})
	if o, err := f.Try(t.Context(), here, again); err != nil || o.Refusal != nil || o.Connection[1].Allowed {
		t.Errorf("a policy that was changed: %+v, %v", o, err)
	}
}

func (f *fixture) lookUp(name string) (th fleet.Thing, found bool) {
	f.t.Helper()
	check(f.t, f.Store.View(f.t.Context(), func(tx *store.Tx) (err error) {
		th, err = tx.Thing(here, name)
		found = err == nil
		if fleet.KindOf(err) == fleet.KindNotFound {
			err = nil
		}
		return err
	}))
	return th, found
}

func TestATrialAsksTheHookOnlyIfTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var asked []HookEvent
	allow := true
	f.Hook = hookFunc(func(_ context.Context, e HookEvent) (HookAnswer, error) {
		asked = append(asked, e)
		return HookAnswer{Allow: allow, Overrides: map[string]string{"Serial": "9"}, Reason: "because"}, nil
	})
	_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "lamps", Body: lamps, RoleARN: role, Enabled: new(true),
		Hook: &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:check"}})
	check(t, err)
	tr := Trial{Draft: Draft{Name: "lamps"}, Parameters: map[string]string{"Serial": "7"}}
	o, err := f.Try(t.Context(), here, tr)
	check(t, err)
	if len(asked) != 0 || o.Thing != "lamp-7" || !strings.Contains(o.Hook, "would be asked") {
		t.Errorf("%d calls, %+v", len(asked), o)
	}
	tr.CallHook = true
	o, err = f.Try(t.Context(), here, tr)
	check(t, err)
	if len(asked) != 1 || !asked[0].Trial || asked[0].Parameters["Serial"] != "7" && asked[0].Parameters["Serial"] != "9" || o.Thing != "lamp-9" || !strings.Contains(o.Hook, "because") {
		t.Errorf("%+v, %+v", asked, o)
	}
	allow = false
	o, err = f.Try(t.Context(), here, tr)
	check(t, err)
	if o.Refusal == nil || o.Refusal.Code != CodeAccessDenied || !strings.Contains(o.Hook, "denied: because") {
		t.Errorf("%+v", o)
	}
}

func TestATrialThatCannotBeMadeIsNoSuccess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{Allow: true}, nil })
	f.pass(100 * 365 * 24 * time.Hour) // no issuer lives so long
	if o, err := f.Try(t.Context(), here, Trial{Draft: Draft{Name: "lamps"}, Parameters: map[string]string{"Serial": "7"}, CallHook: true}); err == nil {
		t.Errorf("without an issuer: %+v", o)
	}
}

func TestNoAnswerIsLargerThanWasMeasured(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	tm, err := template.Parse(lamps, template.Fleet)
	check(t, err)
	d, err := tm.Evaluate(map[string]string{"Serial": "7"}, map[string]string{template.CertificateID: strings.Repeat("0", 64)})
	check(t, err)
	sizes, err := f.AnswerSizes(here, "lamps", d)
	check(t, err)
	r := f.claim("lamps")
	for range 5 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		check(t, err)
		own, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
		check(t, err)
		made, err := f.CreateKeysAndCertificate(t.Context(), f.again(r))
		check(t, err)
		for _, c := range []struct {
			operation reserved.Operation
			keys      string
			answer    any
		}{
			{reserved.CreateFromCSR, "P-256", &reserved.CreateAccepted{ID: own.ID, PEM: own.PEM, Token: own.Token}},
			{reserved.Create, "RSA-2048", &reserved.CreateAccepted{ID: made.ID, PEM: made.PEM, PrivateKey: &made.PrivateKeyPEM, Token: made.Token}},
			{reserved.Register, "", &reserved.RegisterAccepted{Configuration: d.Configuration, ThingName: new("lamp-7")}},
		} {
			for _, s := range sizes {
				if s.Operation != c.operation.String() || s.Keys != c.keys {
					continue
				}
				for i, version := range []int{4, 5} {
					for _, format := range reserved.Formats {
						if string(format) != s.Format {
							continue
						}
						got, err := reserved.AnswerSize(version, c.operation, "lamps", format, c.answer)
						check(t, err)
						if got > s.Bytes[i] || got < s.Bytes[i]-24 {
							t.Errorf("%s %s %s: %d bytes, at most %d were measured", s.Operation, s.Keys, s.Format, got, s.Bytes[i])
						}
					}
				}
			}
		}
	}
}

func TestLintLooksAtTheRegistry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const body = `{"Parameters": {"Serial": {"Type": "String"}}, "Mappings": {"Imprint": {"Settings": {"ReplyBudget": "512"}}},
 "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}, "ThingTypeName": "lamp", "ThingGroups": ["garden"]}},
 "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
 "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "wide"}}, "absent": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "nothing"}}}}`
	f.template("lamps", body)
	const all = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	f.policyFor("wide", all)
	f.policyFor("bootstrap", all, here.IoT("cert", f.bootstrap().PrincipalID))
	f.policyFor("unused", all)
	r, err := f.Lint(t.Context(), here, Draft{Name: "lamps"})
	check(t, err)
	found := map[string]string{}
	for _, x := range r.Findings {
		found[x.Rule] += x.Cause + "\n"
	}
	for rule, words := range map[string]string{"registry-absent": "thing group garden", "policy-publish-any": "policy wide", "guard-open": "bootstrap", "claim-wildcard": "bootstrap", "reply-budget": "512"} {
		if !strings.Contains(found[rule], words) {
			t.Errorf("%s: %q", rule, found[rule])
		}
	}
	if absent := found["registry-absent"]; strings.Count(absent, "\n") != 3 || strings.Contains(found["guard-open"], "unused") || strings.Contains(found["guard-open"], "wide") {
		t.Errorf("%q %q", absent, found["guard-open"])
	}
}

// Devices renew with the template that made them, so the policy that it gives them lets them use it.
func TestLintTakesTheDevicesOfATemplateForNoSharedClaims(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const body = `{"Parameters": {"Serial": {"Type": "String"}},
 "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}}},
 "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
 "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Publish",
  "Resource": "arn:aws:iot:us-east-1:000000000000:topic/$aws/provisioning-templates/lamps/provision/*"}]}}}}}`
	f.template("lamps", body)
	r := f.claim("lamps")
	_, err := f.register(r, "lamps", f.certificate(r), "7")
	check(t, err)
	open := func() bool {
		t.Helper()
		r, err := f.Lint(t.Context(), here, Draft{Name: "lamps"})
		check(t, err)
		return slices.ContainsFunc(r.Findings, func(x template.Finding) bool { return x.Rule == "guard-open" })
	}
	if open() {
		t.Error("a device's own policy is taken for that of a bootstrap certificate")
	}
	f.policyFor("bootstrap", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`, here.IoT("cert", f.bootstrap().PrincipalID))
	if !open() {
		t.Error("the policy of a bootstrap certificate is not found")
	}
}

func TestARefusedTemplateSaysWhereItIsWrong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const wrong = "{\n \"Resources\": {\n  \"thing\": {\"Type\": \"AWS::IoT::Thing\", \"Properties\": {\"ThingName\": {\"Ref\": \"Serial\"},\n   \"Colour\": \"red\"}}}}"
	create := func(body string) error {
		_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "lamps", Body: body, RoleARN: role})
		return err
	}
	err := create(wrong)
	if err == nil || !strings.Contains(err.Error(), "(line 4). Also: line 3: Serial is no parameter") {
		t.Errorf("refused with %v", err)
	}
	const unsafe = `{"Resources": {"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}}}}}`
	f.TemplateLint = LintErrors
	if err := create(unsafe); fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), "template-lint") || !strings.Contains(err.Error(), "policy-action-any") {
		t.Errorf("refused with %v", err)
	}
	f.TemplateLint = LintAWS
	check(t, create(unsafe)) // AWS takes it
	f.TemplateLint = LintErrors
	if _, err := f.CreateTemplateVersion(t.Context(), here, "lamps", unsafe, true); fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("a version: %v", err)
	}
}
