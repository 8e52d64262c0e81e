// Package federationtest has identity providers for tests: small, but each speaks its protocol as the real ones do. Nothing of the
// product imports it.
//
// Begin with NewSAML, which signs by itself, and NewCode, an HTTPS server that speaks OpenID Connect or the protocol of a social provider. Each
// lets a test bend what it says.
package federationtest

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// A SAML signs what a SAML identity provider says.
type SAML struct {
	EntityID, SSO string
	key           crypto.Signer
	cert          []byte
}

// NewSAML makes an identity provider with a key of its own.
func NewSAML(t testing.TB, entityID string) *SAML {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &SAML{EntityID: entityID, SSO: entityID + "/sso", key: key, cert: cert}
}

//go:embed fixed.pem
var fixed []byte

// FixedSAML is a provider whose key is the same in each process, for fuzzing.
func FixedSAML(t testing.TB, entityID string) *SAML {
	t.Helper()
	key, rest := pem.Decode(fixed)
	cert, _ := pem.Decode(rest)
	private, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &SAML{EntityID: entityID, SSO: entityID + "/sso", key: private.(crypto.Signer), cert: cert.Bytes}
}

// Metadata is the provider's description.
func (s *SAML) Metadata() string {
	return `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="` + s.EntityID + `">
  <IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>` + base64.StdEncoding.EncodeToString(s.cert) +
		`</X509Certificate></X509Data></KeyInfo></KeyDescriptor>
    <SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="` + s.EntityID + `/slo"/>
    <SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="` + s.EntityID + `/post"/>
    <SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="` + s.SSO + `"/>
  </IDPSSODescriptor>
</EntityDescriptor>`
}

// A SAMLRequest is what a service provider asks.
type SAMLRequest struct {
	ID, ACS, Issuer, Relay string
}

// Read takes the redirect to the provider apart.
func (s *SAML) Read(t testing.TB, redirect string) (r SAMLRequest) {
	t.Helper()
	u, err := url.Parse(redirect)
	if err != nil || !strings.HasPrefix(redirect, s.SSO+"?") {
		t.Fatalf("the redirect %s leads elsewhere (%v)", redirect, err)
	}
	raw, err := base64.StdEncoding.DecodeString(u.Query().Get("SAMLRequest"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := io.ReadAll(flate.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var x struct {
		XMLName xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:protocol AuthnRequest"`
		ID      string   `xml:"ID,attr"`
		ACS     string   `xml:"AssertionConsumerServiceURL,attr"`
		Issuer  string   `xml:"urn:oasis:names:tc:SAML:2.0:assertion Issuer"`
	}
	if err := xml.Unmarshal(doc, &x); err != nil {
		t.Fatal(err)
	}
	return SAMLRequest{x.ID, x.ACS, x.Issuer, u.Query().Get("RelayState")}
}

// A SAMLAnswer is what the provider says; the zero value of a field means what is right.
type SAMLAnswer struct {
	Request    SAMLRequest
	Subject    string // XML
	Format     string
	Attributes map[string][]string // values are XML

	Issuer, Audience, Recipient, InResponseTo, Destination string
	From, To                                               time.Time // zero: now, and five minutes on
	ID                                                     string
	NoConditions, NoAudience, NoConfirmation, NoEnd        bool

	Unsigned     bool
	SignResponse bool   // the whole in place of the assertion
	Method       string // signature algorithm
}

var answerForm = template.Must(template.New("").Parse(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ` +
	`ID="r{{.ID}}" Version="2.0" IssueInstant="{{.Now}}" Destination="{{.Destination}}" InResponseTo="{{.Request.ID}}">` +
	`<saml:Issuer>{{.Issuer}}</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>` +
	`<saml:Assertion ID="{{.ID}}" Version="2.0" IssueInstant="{{.Now}}"><saml:Issuer>{{.Issuer}}</saml:Issuer>` +
	`<saml:Subject><saml:NameID Format="{{.Format}}">{{.Subject}}</saml:NameID>{{if not .NoConfirmation}}<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">` +
	`<saml:SubjectConfirmationData Recipient="{{.Recipient}}" InResponseTo="{{.InResponseTo}}"{{if not .NoEnd}} NotOnOrAfter="{{.End}}"{{end}}/></saml:SubjectConfirmation>{{end}}</saml:Subject>` +
	`{{if not .NoConditions}}<saml:Conditions NotBefore="{{.Start}}" NotOnOrAfter="{{.End}}">{{if not .NoAudience}}<saml:AudienceRestriction><saml:Audience>{{.Audience}}</saml:Audience></saml:AudienceRestriction>{{end}}</saml:Conditions>{{end}}` +
	`<saml:AuthnStatement AuthnInstant="{{.Now}}"><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>` +
	`<saml:AttributeStatement>{{range $name, $values := .Attributes}}<saml:Attribute Name="{{$name}}">{{range $values}}<saml:AttributeValue>{{.}}</saml:AttributeValue>{{end}}</saml:Attribute>{{end}}</saml:AttributeStatement>` +
	`</saml:Assertion></samlp:Response>`))

// XML returns an answer as a document.
func (s *SAML) XML(t testing.TB, a SAMLAnswer) string {
	t.Helper()
	or := func(at *string, otherwise string) {
		if *at == "" {
			*at = otherwise
		}
	}
	or(&a.Format, "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent")
	or(&a.Issuer, s.EntityID)
	or(&a.Audience, a.Request.Issuer)
	or(&a.Recipient, a.Request.ACS)
	or(&a.Destination, a.Request.ACS)
	or(&a.InResponseTo, a.Request.ID)
	or(&a.ID, "a"+rand.Text())
	now := time.Now().UTC()
	if a.From.IsZero() {
		a.From = now
	}
	if a.To.IsZero() {
		a.To = now.Add(5 * time.Minute)
	}
	var out bytes.Buffer
	if err := answerForm.Execute(&out, struct {
		SAMLAnswer
		Now, Start, End string
	}{a, now.Format(time.RFC3339), a.From.UTC().Format(time.RFC3339), a.To.UTC().Format(time.RFC3339)}); err != nil {
		t.Fatal(err)
	}
	if a.Unsigned {
		return out.String()
	}
	return s.Sign(t, out.String(), a.SignResponse, a.Method)
}

// Sign puts a signature into a document: into its assertion, or into the whole.
func (s *SAML) Sign(t testing.TB, text string, whole bool, method string) string {
	t.Helper()
	out, err := s.sign(text, whole, method)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// SignAny is Sign for whatever a fuzzer has written; ok is false for what no signature can be put into.
func (s *SAML) SignAny(text string, whole bool) (out string, ok bool) {
	out, err := s.sign(text, whole, "")
	return out, err == nil
}

var errNoPlace = errors.New("the document has no place for a signature")

func (s *SAML) sign(text string, whole bool, method string) (string, error) {
	doc := etree.NewDocument()
	if err := doc.ReadFromString(text); err != nil {
		return "", err
	}
	c, err := dsig.NewSigningContext(s.key, [][]byte{s.cert})
	if err != nil {
		return "", err
	}
	c.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if method == "" {
		method = dsig.ECDSASHA256SignatureMethod
	}
	if err := c.SetSignatureMethod(method); err != nil {
		return "", err
	}
	el := doc.Root()
	if el != nil && !whole {
		// Exclusive canonicalization sees the namespaces that the element declares or inherits.
		if el = el.SelectElement("Assertion"); el != nil {
			el.CreateAttr("xmlns:saml", "urn:oasis:names:tc:SAML:2.0:assertion")
		}
	}
	if el == nil || el.SelectElement("Issuer") == nil {
		return "", errNoPlace
	}
	signed, err := c.SignEnveloped(el)
	if err != nil {
		return "", err
	}
	// The signature stands behind the issuer (saml-core-2.0-os 5.4 and the schema).
	signed = signed.Copy()
	signature := signed.RemoveChildAt(len(signed.Child) - 1)
	signed.InsertChildAt(signed.SelectElement("Issuer").Index()+1, signature)
	if whole {
		doc.SetRoot(signed)
	} else {
		at := el.Index()
		doc.Root().RemoveChild(el)
		doc.Root().InsertChildAt(at, signed)
	}
	return doc.WriteToString()
}

// Answer returns an answer as the browser posts it.
func (s *SAML) Answer(t testing.TB, a SAMLAnswer) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString([]byte(s.XML(t, a)))
}

// String is for messages of tests.
func (s *SAML) String() string { return fmt.Sprintf("the provider %s", s.EntityID) }
