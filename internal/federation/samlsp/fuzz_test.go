package samlsp_test

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
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

// FuzzSigned looks for what we believe wrongly of documents that the provider has signed: attackers write parts of those, such as their own
// name. The fuzzer writes the assertion, the provider's key signs it, and what is accepted is compared with what another reader finds.
func FuzzSigned(f *testing.F) {
	w := world{idp: federationtest.FixedSAML(f, idpName), request: federationtest.SAMLRequest{ID: "id-4711", ACS: us.ACS, Issuer: us.EntityID}}
	var err error
	if w.provider, err = samlsp.ParseMetadata([]byte(w.idp.Metadata()), time.Now()); err != nil {
		f.Fatal(err)
	}
	// Seeds in a corpus outlive any time that they name: NOW and END stand for theirs.
	plain := w.idp.XML(f, federationtest.SAMLAnswer{Request: w.request, Subject: "ada", ID: "good", Unsigned: true, Attributes: map[string][]string{"mail": {"ada@example.com"}}})
	plain = regexp.MustCompile(`NotOnOrAfter="[^"]*"`).ReplaceAllString(plain, `NotOnOrAfter="END"`)
	plain = regexp.MustCompile(`(NotBefore|IssueInstant|AuthnInstant)="[^"]*"`).ReplaceAllString(plain, `$1="NOW"`)
	swap := func(old, new string) string {
		if !strings.Contains(plain, old) {
			f.Fatalf("the answer has no %s", old)
		}
		return strings.Replace(plain, old, new, 1)
	}
	for _, doc := range []string{plain, swap(">ada<", ">a<!-- -->da<"), swap(">ada<", "><![CDATA[ada]]><"), swap(">ada<", ">a<?x?>da<"), swap(">ada<", ">&#97;da\r\n<"),
		swap(">ada<", ">ada<x>eve</x><"), swap("</saml:NameID>", "</saml:NameID><saml:NameID>eve</saml:NameID>"), swap("<saml:Subject>", "<saml:Subject/><saml:Subject>"),
		swap("</saml:AttributeStatement>", `<saml:Attribute Name="mail"><saml:AttributeValue>eve<!-- -->@example.com</saml:AttributeValue></saml:Attribute></saml:AttributeStatement>`),
		swap("</saml:Audience>", "</saml:Audience><saml:Audience>other</saml:Audience>"), swap("<saml:Conditions", "<saml:Conditions/><saml:Conditions"),
		swap(`NotOnOrAfter="END"`, `NotOnOrAfter="2020-01-01T00:00:00Z"`), swap("cm:bearer", "cm:holder-of-key"), swap(`ID="good" Version="2.0"`, `ID="good" Version="1.1"`),
		swap("</saml:Subject>", "</saml:Subject><saml:Advice><saml:Assertion ID=\"x\"/></saml:Advice>"), swap("<saml:AuthnStatement", `<saml:AuthnStatement SessionNotOnOrAfter="2020-01-01T00:00:00"`),
		swap("persistent", "transient"), swap(">ada<", "> <"), swap(`Recipient="`+us.ACS+`"`, `Recipient="https://evil.example"`), swap(`InResponseTo="id-4711" NotOnOrAfter`, `InResponseTo="id-1" NotOnOrAfter`),
		swap(`NotBefore="NOW"`, `NotBefore="2099-01-01T00:00:00Z"`), swap(`NotBefore="NOW"`, `NotBefore="soon"`), swap("<saml:AudienceRestriction>", "<saml:Other>"), swap(`NotOnOrAfter="END"/>`, "/>"),
		swap(`<saml:AudienceRestriction><saml:Audience>`+us.EntityID+`</saml:Audience></saml:AudienceRestriction>`, ""), swap(idpName+"</saml:Issuer><saml:Subject>", "https://evil.example</saml:Issuer><saml:Subject>"),
		swap(us.EntityID+"</saml:Audience>", "other</saml:Audience>"), swap("<saml:AudienceRestriction>", "<saml:OneTimeUse/><saml:AudienceRestriction>")} {
		for _, whole := range []bool{false, true} {
			f.Add(doc, whole)
		}
	}
	f.Fuzz(func(t *testing.T, doc string, whole bool) {
		now := time.Now().UTC()
		doc = strings.NewReplacer(`"END"`, `"`+now.Add(time.Minute).Format(time.RFC3339)+`"`, `"NOW"`, `"`+now.Format(time.RFC3339)+`"`).Replace(doc)
		signed, ok := w.idp.SignAny(doc, whole)
		if !ok {
			return
		}
		a, err := w.accept(signed)
		if err != nil {
			if !errors.Is(err, samlsp.ErrRefused) {
				t.Errorf("refused as %v", err)
			}
			return
		}
		said := read(t, signed)
		switch {
		case said.assertions != 1 || len(said.subjects) != 1 || said.id != a.ID:
			t.Errorf("believed %+v of %d assertions with the subjects %q", a, said.assertions, said.subjects)
		case strings.TrimSpace(said.subjects[0]) != a.Subject:
			t.Errorf("the subject is %q, not %q", said.subjects[0], a.Subject)
		case !slices.Contains(said.audiences, us.EntityID) || !slices.Contains(said.recipients, us.ACS) || !slices.Contains(said.requests, "id-4711"):
			t.Errorf("believed what is for %q at %q, in response to %q", said.audiences, said.recipients, said.requests)
		}
		for name, values := range a.Attributes {
			if got := said.attributes[name]; !slices.Equal(got, values) {
				t.Errorf("the attribute %q is %q, not %q", name, got, values)
			}
		}
	})
}

// said is what the one assertion of a document says, by another way of reading: token by token, by the place of each element.
type said struct {
	assertions                                int
	id                                        string
	subjects, audiences, recipients, requests []string
	attributes                                map[string][]string
}

func read(t *testing.T, doc string) (s said) {
	t.Helper()
	type element struct {
		place, name string // name: of an Attribute
		text        strings.Builder
	}
	s.attributes = map[string][]string{}
	open := []*element{{}}
	for d := xml.NewDecoder(strings.NewReader(doc)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return s
		}
		if err != nil {
			t.Fatalf("believed a document that cannot be read: %v", err)
		}
		in := open[len(open)-1]
		switch e := token.(type) {
		case xml.StartElement:
			at := &element{place: in.place + "/" + strings.TrimPrefix(e.Name.Space, "urn:oasis:names:tc:SAML:2.0:") + " " + e.Name.Local}
			attribute := map[string]string{}
			for _, a := range e.Attr {
				attribute[a.Name.Local] = a.Value
			}
			switch at.name = attribute["Name"]; at.place {
			case assertionPlace:
				s.assertions, s.id = s.assertions+1, attribute["ID"]
			case assertionPlace + "/assertion Subject/assertion SubjectConfirmation/assertion SubjectConfirmationData":
				s.recipients, s.requests = append(s.recipients, attribute["Recipient"]), append(s.requests, attribute["InResponseTo"])
			}
			open = append(open, at)
		case xml.CharData:
			in.text.Write(e)
		case xml.EndElement:
			open = open[:len(open)-1]
			switch text := in.text.String(); in.place {
			case assertionPlace + "/assertion Subject/assertion NameID":
				s.subjects = append(s.subjects, text)
			case assertionPlace + "/assertion Conditions/assertion AudienceRestriction/assertion Audience":
				s.audiences = append(s.audiences, strings.TrimSpace(text))
			case assertionPlace + "/assertion AttributeStatement/assertion Attribute/assertion AttributeValue":
				name := open[len(open)-1].name
				s.attributes[name] = append(s.attributes[name], text)
			}
		}
	}
}

const assertionPlace = "/protocol Response/assertion Assertion"

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
