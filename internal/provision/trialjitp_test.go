package provision

import (
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
)

func TestATrialSaysWhatAFirstConnectionWouldComeTo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	pem := func(name pkix.Name) string { return pki.CertificatePEM(p.device(name).Raw) }
	certificate := pem(lamp1)
	body := strings.Replace(plantBody, `\"Resource\":\"*\"`, `\"Resource\":\"arn:aws:iot:us-east-1:000000000000:client/${iot:Certificate.Subject.CommonName}\"`, 1)
	try := func(tr Trial) *Outcome {
		t.Helper()
		if tr.Body == "" && tr.Name == "" {
			tr.Body, tr.Type = body, fleet.JITP
		}
		tr.Caller = installer
		o, err := f.Try(t.Context(), here, tr)
		check(t, err)
		return o
	}

	// Before the CA is registered.
	o := try(Trial{Certificate: certificate, Role: role})
	if o.Refusal != nil || o.Thing != "lamp-1" || !strings.Contains(o.CA, NotSigned) || len(o.Connection) == 0 || !o.Connection[0].Allowed || len(o.Answers) != 0 {
		t.Errorf("%+v", o)
	}
	if o := try(Trial{Certificate: certificate, ClientID: "another"}); o.Connection[0].Allowed {
		t.Errorf("another client id: %+v", o.Connection)
	}
	ca := p.registered(nil)
	if o := try(Trial{Certificate: certificate}); !strings.Contains(o.CA, ca.ID+" registers the certificate, and provisions nothing") {
		t.Errorf("of a CA without a template: %s", o.CA)
	}
	check(t, f.UpdateCA(t.Context(), installer, ca.ID, CAChange{Config: &fleet.RegistrationConfig{Body: body, RoleARN: role}}))
	if o := try(Trial{Certificate: certificate}); o.CA != ca.ID+" registers the certificate" {
		t.Errorf("of a CA with one: %s", o.CA)
	}
	if o := try(Trial{Certificate: pem(pkix.Name{CommonName: "lamp-2"})}); o.Refusal == nil || !strings.Contains(o.Refusal.Msg, "Cannot resolve reference value: AWS::IoT::Certificate::Country") {
		t.Errorf("a certificate that lacks something: %+v", o.Refusal)
	}

	// A thing that is there is no matter: the CA vouches for the device.
	if _, provisioned, err := p.connect(p.device(lamp1)); err != nil || !provisioned {
		t.Fatal(provisioned, err)
	}
	before := f.principals("lamp-1")
	if o := try(Trial{Certificate: certificate}); o.Refusal != nil || o.Thing != "lamp-1" {
		t.Errorf("a thing that is there: %+v", o)
	}
	if !slices.Equal(before, f.principals("lamp-1")) {
		t.Error("a trial has attached something")
	}

	f.iam.refuse("iot:CreateThing")
	if o := try(Trial{Certificate: pem(pkix.Name{CommonName: "lamp-3", SerialNumber: "3", Country: []string{"DE"}}), Role: role}); !strings.Contains(o.Role, "lacks iot:CreateThing") || o.Refusal == nil {
		t.Errorf("the role: %q, %+v", o.Role, o.Refusal)
	}
}

func TestATrialOfAFirstConnectionTakesWhatACAHas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	jitp := Draft{Body: plantBody, Type: fleet.JITP}
	certificate := pki.CertificatePEM(f.plant("Plant CA").cert.Raw)
	for want, tr := range map[string]Trial{
		"takes its parameters from the device's certificate: send one": {Draft: jitp},
		"devices send none":        {Draft: jitp, Certificate: certificate, Parameters: map[string]string{"a": "b"}},
		"PEM":                      {Draft: jitp, Certificate: "none"},
		"is not the ARN of a role": {Draft: jitp, Certificate: certificate, Role: "provisioning"},
		"certificate and role are for templates of": {Draft: Draft{Name: "lamps"}, Certificate: certificate},
	} {
		tr.Caller = installer
		if _, err := f.Try(t.Context(), here, tr); fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Roles are nobody's to look into who may not hand them on.
func TestATrialTakesNoRoleThatMayNotBePassed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.iam.refuse("pass")
	_, err := f.Try(t.Context(), here, Trial{Draft: Draft{Body: plantBody, Type: fleet.JITP}, Certificate: pki.CertificatePEM(f.plant("Plant CA").cert.Raw), Role: role, Caller: installer})
	if fleet.KindOf(err) != fleet.KindDenied {
		t.Error(err)
	}
}

func TestLintKnowsWhatACertificateHas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lint := func(body string) (rules []string) {
		t.Helper()
		r, err := f.Lint(t.Context(), here, Draft{Body: body, Type: fleet.JITP})
		check(t, err)
		for _, found := range r.Findings {
			rules = append(rules, found.Rule)
		}
		return rules
	}
	good := strings.Replace(plantBody, `\"Resource\":\"*\"`, `\"Resource\":\"arn:aws:iot:us-east-1:000000000000:client/${iot:Connection.Thing.ThingName}\"`, 1)
	if found := lint(good); len(found) != 0 {
		t.Errorf("%v in a good one", found)
	}
	if found := lint(plantBody); !slices.Contains(found, "policy-connect-any") {
		t.Errorf("%v where any client id is allowed", found)
	}
	if found := lint(strings.Replace(good, `"AWS::IoT::Certificate::Country": {"Type": "String"}`, `"AWS::IoT::Certificate::County": {"Type": "String"}, "Box": {"Type": "String"}`, 1)); !slices.Contains(found, "parameter-certificate") {
		t.Errorf("%v where nobody has what is declared", found)
	}
}
