package samlsp_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/federation/federationtest"
	"github.com/imprint-iot/imprint/internal/federation/samlsp"
)

var us = samlsp.ServiceProvider{EntityID: "urn:amazon:cognito:sp:eu-central-1_Abcdefghi", ACS: "https://auth.example/saml2/idpresponse"}

const idpName = "https://idp.example/saml"

// world is a provider, what we know of it, and a request to it.
type world struct {
	idp      *federationtest.SAML
	provider *samlsp.Provider
	request  federationtest.SAMLRequest
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{idp: federationtest.NewSAML(t, idpName)}
	var err error
	if w.provider, err = samlsp.ParseMetadata([]byte(w.idp.Metadata()), time.Now()); err != nil {
		t.Fatal(err)
	}
	to, id, err := w.provider.Request(us, "relay-4711")
	if err != nil {
		t.Fatal(err)
	}
	if w.request = w.idp.Read(t, to); w.request.ID != id || w.request.Relay != "relay-4711" {
		t.Fatalf("the request is %+v, its id %s", w.request, id)
	}
	return w
}

func (w world) accept(doc string) (samlsp.Assertion, error) {
	return w.provider.Accept(us, base64.StdEncoding.EncodeToString([]byte(doc)), w.request.ID, time.Now())
}

func TestAnAnswerIsRead(t *testing.T) {
	t.Parallel()
	for name, whole := range map[string]bool{"with a signed assertion": false, "signed as a whole": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a, err := w.accept(w.idp.XML(t, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", SignResponse: whole,
				Attributes: map[string][]string{"mail": {"ada@example.com"}, "groups": {"leads", "installers"}}}))
			if err != nil {
				t.Fatal(err)
			}
			if a.Subject != "ada" || a.ID == "" || strings.Join(a.Attributes["groups"], ",") != "leads,installers" || a.Attributes["mail"][0] != "ada@example.com" {
				t.Errorf("read %+v", a)
			}
			if left := time.Until(a.Expires); left < 7*time.Minute || left > 9*time.Minute { // five minutes and the clocks' difference
				t.Errorf("the assertion must be remembered for %s", left)
			}
		})
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	for name, c := range map[string]struct {
		answer federationtest.SAMLAnswer
		why    string
	}{
		"unsigned":                    {federationtest.SAMLAnswer{Unsigned: true}, "neither it nor its assertion is signed"},
		"of another issuer":           {federationtest.SAMLAnswer{Issuer: "https://evil.example"}, "Issuer does not match"},
		"for another audience":        {federationtest.SAMLAnswer{Audience: "urn:amazon:cognito:sp:eu-central-1_Other"}, "its audience is"},
		"without an audience":         {federationtest.SAMLAnswer{NoAudience: true}, "not restricted to an audience"},
		"without conditions":          {federationtest.SAMLAnswer{NoConditions: true}, "lacks its subject"},
		"without a confirmation":      {federationtest.SAMLAnswer{NoConfirmation: true}, "lacks its subject"},
		"for another recipient":       {federationtest.SAMLAnswer{Recipient: "https://other.example/saml2/idpresponse"}, "Recipient"},
		"for another destination":     {federationtest.SAMLAnswer{Destination: "https://other.example/saml2/idpresponse"}, "Destination"},
		"to another request":          {federationtest.SAMLAnswer{InResponseTo: "id-other"}, "request IDs"},
		"that is over":                {federationtest.SAMLAnswer{From: time.Now().Add(-2 * hour), To: time.Now().Add(-hour)}, "expired"},
		"that is not yet valid":       {federationtest.SAMLAnswer{From: time.Now().Add(hour), To: time.Now().Add(2 * hour)}, "not yet valid"},
		"without an end":              {federationtest.SAMLAnswer{NoEnd: true}, "expired"},
		"with a passing name":         {federationtest.SAMLAnswer{Format: "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"}, "persistent"},
		"with an instruction in it":   {federationtest.SAMLAnswer{Subject: "ada<?x y?>"}, "processing instruction"},
		"signed with SHA-1":           {federationtest.SAMLAnswer{Method: "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1"}, "algorithm"},
		"without a name":              {federationtest.SAMLAnswer{Subject: " "}, "NameID is empty"},
		"with a name without measure": {federationtest.SAMLAnswer{Subject: strings.Repeat("a", 1025)}, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.answer.Request = w.request
			if c.answer.Subject == "" {
				c.answer.Subject = "ada"
			}
			a, err := w.accept(w.idp.XML(t, c.answer))
			if !errors.Is(err, samlsp.ErrRefused) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("the answer gave %+v, %v", a, err)
			}
		})
	}
}

// Somebody who holds a good answer for ada tries to make one for root of it.
func TestSignatureWrapping(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.idp.XML(t, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", ID: "good"})
	whole := w.idp.XML(t, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", ID: "good", SignResponse: true})
	between := func(doc, from, to string) string {
		_, rest, found := strings.Cut(doc, from)
		inner, _, found2 := strings.Cut(rest, to)
		if !found || !found2 {
			t.Fatalf("no %s in the document", from)
		}
		return from + inner + to
	}
	signed := between(good, "<saml:Assertion", "</saml:Assertion>")
	signature := between(good, "<ds:Signature", "</ds:Signature>")
	forged := strings.Replace(strings.Replace(signed, `ID="good"`, `ID="evil"`, 1), ">ada<", ">root<", 1)
	unsigned := strings.Replace(forged, signature, "", 1)
	header, _, _ := strings.Cut(good, "<saml:Assertion")
	wrapped := strings.Replace(signature, "</ds:Signature>", "<ds:Object>"+strings.Replace(signed, signature, "", 1)+"</ds:Object></ds:Signature>", 1)
	for name, doc := range map[string]string{
		"another name under the old signature":           strings.Replace(good, ">ada<", ">root<", 1),
		"another name under the signature of a whole":    strings.Replace(whole, ">ada<", ">root<", 1),
		"a second assertion in front":                    header + unsigned + signed + "</samlp:Response>",
		"a second assertion behind":                      header + signed + unsigned + "</samlp:Response>",
		"the same id twice":                              header + strings.Replace(unsigned, `ID="evil"`, `ID="good"`, 1) + signed + "</samlp:Response>",
		"the signed one within the forged one":           header + strings.Replace(unsigned, "</saml:Assertion>", signed+"</saml:Assertion>", 1) + "</samlp:Response>",
		"the signed one in extensions":                   strings.Replace(header, "<samlp:Status>", "<samlp:Extensions>"+signed+"</samlp:Extensions><samlp:Status>", 1) + unsigned + "</samlp:Response>",
		"the signed one as object of the signature":      header + strings.Replace(forged, signature, wrapped, 1) + "</samlp:Response>",
		"the old signature on the forged one":            header + forged + "</samlp:Response>",
		"the signature beside the assertion":             header + signature + unsigned + "</samlp:Response>",
		"a second reference":                             strings.Replace(good, "</ds:SignedInfo>", between(good, "<ds:Reference", "</ds:Reference>")+"</ds:SignedInfo>", 1),
		"a reference to everything":                      strings.Replace(good, `URI="#good"`, `URI=""`, 1),
		"an assertion of another namespace":              header + signed + strings.ReplaceAll(unsigned, "saml:Assertion", "samlp:Assertion") + "</samlp:Response>",
		"a response within a response":                   strings.Replace(header, "<samlp:Status>", "<samlp:Extensions>"+whole+"</samlp:Extensions><samlp:Status>", 1) + unsigned + "</samlp:Response>",
		"an id by another case":                          strings.Replace(good, `ID="good"`, `ID="good" id="good"`, 1),
		"a comment in the name, which no signature sees": strings.Replace(good, ">ada<", ">a<!-- -->da<", 1),
		"a document type":                                `<!DOCTYPE r [<!ENTITY n "root">]>` + strings.Replace(good, ">ada<", ">&n;<", 1),
		"text behind the root":                           good + "x",
		"a second root":                                  good + "<a/>",
		"an encrypted assertion":                         header + `<saml:EncryptedAssertion/></samlp:Response>`,
		"nothing":                                        "",
		"a tree without end":                             strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100),
		"elements without end":                           strings.Replace(good, "<samlp:Status>", "<samlp:Extensions>"+strings.Repeat("<a/>", 6000)+"</samlp:Extensions><samlp:Status>", 1),
		"more bytes than are looked at":                  strings.Replace(good, "<samlp:Status>", "<samlp:Extensions>"+strings.Repeat(" ", 300<<10)+"</samlp:Extensions><samlp:Status>", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if a, err := w.accept(doc); !errors.Is(err, samlsp.ErrRefused) {
				t.Errorf("gave %+v, %v", a, err)
			}
		})
	}
	if a, err := w.accept(good); err != nil || a.Subject != "ada" {
		t.Errorf("the good one gave %+v, %v", a, err)
	}
}

func TestAKeyThatTheMetadataDoesNotName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.accept(federationtest.NewSAML(t, idpName).XML(t, federationtest.SAMLAnswer{Request: w.request, Subject: "ada"})); !errors.Is(err, samlsp.ErrRefused) {
		t.Errorf("an answer by another key gave %v", err)
	}
	if _, err := w.provider.Accept(us, w.idp.Answer(t, federationtest.SAMLAnswer{Request: w.request, Subject: "ada"}), "", time.Now()); !errors.Is(err, samlsp.ErrRefused) {
		t.Errorf("an answer that nobody asked for gave %v", err)
	}
}

func TestMetadataThatIsRefused(t *testing.T) {
	t.Parallel()
	good := federationtest.NewSAML(t, idpName).Metadata()
	for name, c := range map[string]struct{ doc, why string }{
		"no XML":                    {"hello", "cannot be read"},
		"a document type":           {`<!DOCTYPE x>` + good, "document type"},
		"a service provider":        {strings.ReplaceAll(good, "IDPSSODescriptor", "SPSSODescriptor"), "no identity provider"},
		"no certificate":            {strings.Replace(good, `use="signing"`, `use="encryption"`, 1), "no certificate"},
		"no redirect":               {strings.ReplaceAll(good, "bindings:HTTP-Redirect", "bindings:HTTP-POST"), "HTTP-Redirect"},
		"a sign-on without TLS":     {strings.ReplaceAll(good, "https://idp.example/saml/sso", "http://idp.example/saml/sso"), "HTTP-Redirect"},
		"a script as sign-on":       {strings.ReplaceAll(good, "https://idp.example/saml/sso", "javascript:alert(1)"), "HTTP-Redirect"},
		"two providers":             {"<EntitiesDescriptor xmlns=\"urn:oasis:names:tc:SAML:2.0:metadata\">" + good + good + "</EntitiesDescriptor>", "more than one"},
		"no name":                   {strings.Replace(good, `entityID="`+idpName+`"`, "", 1), "entityID"},
		"an end that has come":      {strings.Replace(good, `entityID=`, `validUntil="2020-01-01T00:00:00Z" entityID=`, 1), "valid until"},
		"more than is looked at":    {good + strings.Repeat(" ", 1<<20), "at most"},
		"a certificate that is not": {strings.Replace(good, "<X509Certificate>M", "<X509Certificate>N", 1), "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := samlsp.ParseMetadata([]byte(c.doc), time.Now()); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("gave %v", err)
			}
		})
	}
}

func TestOurMetadataNamesUs(t *testing.T) {
	t.Parallel()
	doc, err := us.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`entityID="` + us.EntityID + `"`, `Location="` + us.ACS + `"`, `WantAssertionsSigned="true"`, "bindings:HTTP-POST"} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("no %s in %s", want, doc)
		}
	}
}
