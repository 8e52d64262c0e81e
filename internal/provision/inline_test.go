package provision

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
)

const inlineCSR = `{"Parameters":{"ThingName":{"Type":"String"},"CSR":{"Type":"String"}},"Resources":{
  "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"}}},
  "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}},
  "own":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":"{ \"Version\": \"2012-10-17\", \"Statement\": [{ \"Effect\": \"Allow\", \"Action\":[\"iot:Publish\"], \"Resource\": [\"arn:aws:iot:us-east-1:000000000000:topic/foo/bar\"] }] }"}},
  "shared":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"shared"}}}}`

func TestRegisterThingWithACSR(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write(func(tx *store.Tx) error {
		_, err := registry.CreatePolicy(tx, here, "shared", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`, nil)
		return err
	})
	out, err := f.RegisterInline(t.Context(), installer, inlineCSR, map[string]string{"ThingName": "lamp", "CSR": newCSR(t)})
	check(t, err)
	cert := parse(t, out.CertificatePEM)
	id := fleet.CertificateID(cert.Raw)
	if f.status(id) != fleet.Active || len(f.principals("lamp")) != 1 {
		t.Error("not active or not attached")
	}
	if len(out.ResourceARNs) != 3 || out.ResourceARNs["thing"] != here.IoT("thing", "lamp") || out.ResourceARNs["certificate"] != here.IoT("cert", id) ||
		!strings.HasPrefix(out.ResourceARNs["own"], here.IoT("policy", "")) {
		t.Errorf("ARNs %v: a policy that existed by its name is not among them", out.ResourceARNs)
	}
}

const inlineID = `{"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"lamp"}},"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}}}`

func TestRegisterThingWithACertificateThatIsThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, second := f.bootstrap(), f.bootstrap()
	for _, r := range []Requester{first, second} { // nobody guards against whoever has the rights
		out, err := f.RegisterInline(t.Context(), installer, inlineID, map[string]string{"AWS::IoT::Certificate::Id": r.PrincipalID})
		check(t, err)
		if fleet.CertificateID(parse(t, out.CertificatePEM).Raw) != r.PrincipalID {
			t.Error("another certificate")
		}
	}
	pem := view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, first.PrincipalID) }).PEM
	text, err := json.Marshal(pem)
	check(t, err)
	_, err = f.RegisterInline(t.Context(), installer, `{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":`+string(text)+`}}}}`, nil)
	check(t, err)
}

func TestRegisterThingRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.RegisterInline(t.Context(), installer, "{", nil)
	wantCode(t, err, fleet.KindInvalid, "")
	_, err = f.RegisterInline(t.Context(), installer, inlineCSR, map[string]string{"CSR": newCSR(t)})
	wantCode(t, err, fleet.KindInvalid, "")
	_, err = f.RegisterInline(t.Context(), installer, inlineCSR, map[string]string{"ThingName": "lamp", "CSR": "x"})
	wantCode(t, err, fleet.KindInvalid, codeRegistration)
	_, err = f.RegisterInline(t.Context(), installer, inlineCSR, map[string]string{"ThingName": "lamp", "CSR": newCSR(t)})
	wantCode(t, err, fleet.KindInvalid, codeRegistration) // the policy "shared" is not there
	_, err = f.RegisterInline(t.Context(), installer, inlineID, map[string]string{"AWS::IoT::Certificate::Id": strings.Repeat("0", 64)})
	wantCode(t, err, fleet.KindInvalid, codeRegistration)
	f.iam.refuse("iot:CreateThing")
	_, err = f.RegisterInline(t.Context(), installer, inlineID, map[string]string{"AWS::IoT::Certificate::Id": f.bootstrap().PrincipalID})
	wantCode(t, err, fleet.KindDenied, "")
	if list := view(f, func(tx *store.Tx) ([]fleet.Thing, error) {
		l, _, err := tx.Things(here, store.ThingFilter{}, fleet.Page{})
		return l, err
	}); len(list) != 0 {
		t.Errorf("half of it was written: %v", list)
	}
}

// RegisterThing is no way around the permission to have certificates signed.
func TestACSRTakesThePermissionToHaveItSigned(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const body = `{"Parameters":{"CSR":{"Type":"String"}},"Resources":{"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}}}}`
	f.iam.refuse("iot:CreateCertificateFromCsr")
	_, err := f.RegisterInline(t.Context(), installer, body, map[string]string{"CSR": newCSR(t)})
	wantCode(t, err, fleet.KindDenied, "")
	f.iam.refuse("iot:RegisterCertificate") // that is for certificates of others
	_, err = f.RegisterInline(t.Context(), installer, body, map[string]string{"CSR": newCSR(t)})
	check(t, err)
}

func wantCode(t *testing.T, err error, kind fleet.Kind, code string) {
	t.Helper()
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Code != code {
		t.Errorf("got %#v, want %v with code %q", err, kind, code)
	}
}
