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

// FuzzAccept looks for documents that stop us, and for such that are believed although the provider has not said them.
func FuzzAccept(f *testing.F) {
	w := world{idp: federationtest.FixedSAML(f, idpName), request: federationtest.SAMLRequest{ID: "id-4711", ACS: us.ACS, Issuer: us.EntityID}}
	var err error
	if w.provider, err = samlsp.ParseMetadata([]byte(w.idp.Metadata()), time.Now()); err != nil {
		f.Fatal(err)
	}
	good := w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", ID: "good", Attributes: map[string][]string{"mail": {"ada@example.com"}}})
	whole := w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", ID: "good", SignResponse: true})
	unsigned := w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", Unsigned: true})
	for _, doc := range []string{good, whole, "", "<a>", unsigned,
		strings.Replace(good, "<samlp:Status>", "<samlp:Extensions/><samlp:Status>", 1), strings.Replace(good, ">ada<", ">a<!-- -->da<", 1),
		`<!DOCTYPE a>` + good, good + good, strings.ReplaceAll(good, "saml:Conditions", "saml:Condition"), strings.Replace(good, "sha256", "sha1", 1),
		strings.Replace(good, "</ds:SignedInfo>", "<ds:Reference URI=\"\"/></ds:SignedInfo>", 1), strings.Replace(good, "xmlns:saml=\"urn", "id=\"x\" xmlns:saml=\"urn", 1),
		strings.Replace(good, "<saml:Assertion", "<saml:EncryptedAssertion/><saml:Assertion", 1), `<?xml version="1.0"?><?a b?>` + good, "x" + good,
		strings.Replace(good, "</ds:Signature>", "<ds:Object/></ds:Signature>", 1), strings.Replace(good, "<saml:Subject>", "<Signature/><saml:Subject>", 1),
		strings.Replace(good, "<saml:Subject>", "<Response/><saml:Subject>", 1), strings.Replace(good, "<saml:Subject>", "<saml:Assertion/><saml:Subject>", 1),
		strings.Replace(good, "<saml:Subject>", "<x ID=\"good\"/><saml:Subject>", 1), strings.Replace(good, "#good", "", 1), good + "<a/>", "<a/>",
		strings.Replace(good, "<ds:SignedInfo>", "<ds:SignedInfo/><ds:SignedInfo>", 1), strings.Replace(good, "<saml:SubjectConfirmationData", "<saml:SubjectConfirmationData/><saml:SubjectConfirmationData", 1),
		w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", Audience: "other"}), w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", NoAudience: true}),
		w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", Format: "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"}),
		w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: " "}), w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", Recipient: "https://other.example"}),
		w.idp.Sign(f, strings.ReplaceAll(unsigned, "cm:bearer", "cm:sender-vouches"), false, ""),
		w.idp.Sign(f, strings.ReplaceAll(unsigned, "saml:AuthnStatement", "saml:Statement"), false, ""),
		strings.Repeat("<a>", 40), w.idp.Sign(f, strings.ReplaceAll(unsigned, "saml:NameID", "saml:Name"), false, ""), w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", To: time.Now().Add(-time.Hour)})} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		a, err := w.accept(doc)
		if err != nil {
			if !errors.Is(err, samlsp.ErrRefused) {
				t.Errorf("refused as %v", err)
			}
			return
		}
		if a.Subject != "ada" || a.ID != "good" {
			t.Errorf("believed %+v", a)
		}
		for name, values := range a.Attributes {
			if name != "mail" || len(values) != 1 || values[0] != "ada@example.com" {
				t.Errorf("believed the attribute %q: %q", name, values)
			}
		}
	})
}

// FuzzMetadata looks for documents that stop us, and for addresses that a browser must not be sent to.
func FuzzMetadata(f *testing.F) {
	good := federationtest.FixedSAML(f, idpName).Metadata()
	for _, doc := range []string{good, "", "<a/>", `<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata">` + good + `</EntitiesDescriptor>`,
		strings.ReplaceAll(good, "https://idp.example/saml/sso", "javascript:alert(1)"),
		strings.ReplaceAll(good, "https://idp.example/saml/sso", "http://idp.example/saml/sso"), "<!-- a -->" + good, strings.Replace(good, "use=\"signing\"", "", 1),
		strings.Replace(good, `entityID=`, `validUntil="2020-01-01T00:00:00Z" entityID=`, 1), strings.Replace(good, "X509Certificate>M", "X509Certificate>!", 1)} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		p, err := samlsp.ParseMetadata([]byte(doc), time.Now())
		if err != nil {
			return
		}
		to, id, err := p.Request(us, "relay")
		if err != nil || id == "" || !strings.HasPrefix(strings.ToLower(to), "https://") {
			t.Errorf("sends the browser to %q: %v", to, err)
		}
		if _, err := p.Accept(us, base64.StdEncoding.EncodeToString([]byte("<a/>")), id, time.Now()); !errors.Is(err, samlsp.ErrRefused) {
			t.Errorf("accepts nothing: %v", err)
		}
	})
}
