package samlsp

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
)

// An Assertion is what a provider has said of somebody. It may be used once: the caller keeps ID until Expires.
type Assertion struct {
	ID         string
	Subject    string // NameID
	Attributes map[string][]string
	Expires    time.Time
}

// assertion is the part of saml-core-2.0-os 2.3.3 that is looked at.
type assertion struct {
	ID      string `xml:"ID,attr"`
	Version string `xml:"Version,attr"`
	Issuer  string `xml:"urn:oasis:names:tc:SAML:2.0:assertion Issuer"`
	Subject struct {
		NameID []struct {
			Format string `xml:"Format,attr"`
			Value  string `xml:",chardata"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:assertion NameID"`
		Confirmations []confirmation `xml:"urn:oasis:names:tc:SAML:2.0:assertion SubjectConfirmation"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion Subject"`
	Conditions []conditions `xml:"urn:oasis:names:tc:SAML:2.0:assertion Conditions"`
	Authn      []struct {
		End instant `xml:"SessionNotOnOrAfter,attr"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion AuthnStatement"`
	Statements []struct {
		Attributes []struct {
			Name   string   `xml:"Name,attr"`
			Values []string `xml:"urn:oasis:names:tc:SAML:2.0:assertion AttributeValue"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:assertion Attribute"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion AttributeStatement"`
}

type confirmation struct {
	Method string `xml:"Method,attr"`
	Data   struct {
		Recipient    string  `xml:"Recipient,attr"`
		InResponseTo string  `xml:"InResponseTo,attr"`
		NotBefore    instant `xml:"NotBefore,attr"`
		NotOnOrAfter instant `xml:"NotOnOrAfter,attr"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion SubjectConfirmationData"`
}

type conditions struct {
	NotBefore    instant `xml:"NotBefore,attr"`
	NotOnOrAfter instant `xml:"NotOnOrAfter,attr"`
	Restrictions []struct {
		Audiences []string `xml:"urn:oasis:names:tc:SAML:2.0:assertion Audience"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion AudienceRestriction"`
}

// instant is a time as SAML writes it (saml-core-2.0-os 1.3.3); zero: none.
type instant struct{ time.Time }

// UnmarshalXMLAttr implements xml.UnmarshalerAttr.
func (i *instant) UnmarshalXMLAttr(a xml.Attr) (err error) {
	if i.Time, err = time.Parse(time.RFC3339Nano, a.Value); err != nil {
		i.Time, err = time.Parse("2006-01-02T15:04:05.999999999", a.Value) // UTC is meant
	}
	return err
}

// assertion returns the assertion within what signatures were found to cover.
func (v *verifier) assertion() (*assertion, error) {
	if len(v.covered) == 0 {
		return nil, refuse("it is not signed")
	}
	// A signed Response comes first and is all that the library asks for then.
	doc := etree.NewDocument()
	doc.SetRoot(v.covered[0].Copy())
	raw, err := doc.WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("writing a verified assertion: %w", err)
	}
	var root struct{ XMLName xml.Name }
	if err := xml.Unmarshal(raw, &root); err != nil {
		return nil, refuse("%v", err)
	}
	if root.XMLName == (xml.Name{Space: assertionNS, Local: "Assertion"}) {
		var a assertion
		if err := xml.Unmarshal(raw, &a); err != nil {
			return nil, refuse("its assertion: %v", err)
		}
		return &a, nil
	}
	var r struct {
		XMLName    xml.Name    `xml:"urn:oasis:names:tc:SAML:2.0:protocol Response"`
		Assertions []assertion `xml:"urn:oasis:names:tc:SAML:2.0:assertion Assertion"`
	}
	if err := xml.Unmarshal(raw, &r); err != nil {
		return nil, refuse("%v", err)
	}
	if len(r.Assertions) != 1 {
		return nil, refuse("what is signed has %d assertions in place of one", len(r.Assertions))
	}
	return &r.Assertions[0], nil
}

// Subjects that are another one at each sign-in, or nobody's name.
var passing = []string{"urn:oasis:names:tc:SAML:2.0:nameid-format:transient", "urn:oasis:names:tc:SAML:2.0:nameid-format:entity",
	"urn:oasis:names:tc:SAML:2.0:nameid-format:encrypted"}

// check holds a verified assertion to the rules of the profile (saml-profiles-2.0-os 4.1.4.2 and 4.1.4.3).
func (a *assertion) check(p *Provider, us ServiceProvider, requestID string, now time.Time) (out Assertion, err error) {
	switch {
	case a.Version != "2.0" || a.ID == "" || len(a.ID) > 256:
		return out, refuse("its assertion is not of version 2.0, or has no ID of at most 256 bytes")
	case a.Issuer != p.EntityID:
		return out, refuse("its assertion is of %.200q, not of %q", a.Issuer, p.EntityID)
	case len(a.Subject.NameID) != 1:
		return out, refuse("its assertion names no subject by a NameID")
	case len(a.Authn) == 0:
		return out, refuse("its assertion says nothing of a sign-in")
	}
	name := a.Subject.NameID[0]
	switch {
	case slices.Contains(passing, name.Format):
		return out, refuse("its NameID has the format %s, by which nobody is known again: let the provider send a persistent one", name.Format)
	case strings.TrimSpace(name.Value) == "" || len(name.Value) > maxName:
		return out, refuse("its NameID is empty or longer than %d bytes", maxName)
	}
	out = Assertion{ID: a.ID, Subject: strings.TrimSpace(name.Value), Attributes: map[string][]string{}}
	if out.Expires, err = a.lifetime(us, requestID, now); err != nil {
		return out, err
	}
	for _, s := range a.Statements {
		for _, at := range s.Attributes {
			out.Attributes[at.Name] = append(out.Attributes[at.Name], at.Values...)
		}
	}
	return out, nil
}

// lifetime looks at for whom, for which request and until when an assertion is.
func (a *assertion) lifetime(us ServiceProvider, requestID string, now time.Time) (end time.Time, err error) {
	if len(a.Conditions) != 1 || len(a.Conditions[0].Restrictions) == 0 {
		return end, refuse("its assertion is not restricted to an audience")
	}
	c := a.Conditions[0]
	for _, r := range c.Restrictions {
		if !slices.ContainsFunc(r.Audiences, func(s string) bool { return strings.TrimSpace(s) == us.EntityID }) {
			return end, refuse("its audience is %.200q, not %q", strings.Join(r.Audiences, " "), us.EntityID)
		}
	}
	if err := within(now, c.NotBefore, c.NotOnOrAfter); err != nil {
		return end, err
	}
	if end, err = a.confirmed(us, requestID, now); err != nil {
		return end, err
	}
	for _, s := range a.Authn {
		if err := within(now, instant{}, s.End); err != nil {
			return end, err
		}
	}
	return end.Add(Skew), nil
}

// confirmed finds the confirmation that makes us believe whoever brought the assertion, and returns its end.
func (a *assertion) confirmed(us ServiceProvider, requestID string, now time.Time) (time.Time, error) {
	reason := errors.New("it has no confirmation of method bearer")
	for _, c := range a.Subject.Confirmations {
		if c.Method != "urn:oasis:names:tc:SAML:2.0:cm:bearer" {
			continue
		}
		switch d := c.Data; {
		case d.Recipient != us.ACS:
			reason = fmt.Errorf("its recipient is %.200q, not %q", d.Recipient, us.ACS)
		case d.InResponseTo != requestID:
			reason = errors.New("it answers another request")
		case d.NotOnOrAfter.IsZero():
			reason = errors.New("it is without end")
		default:
			if reason = within(now, d.NotBefore, d.NotOnOrAfter); reason == nil {
				return d.NotOnOrAfter.Time, nil
			}
		}
	}
	if errors.Is(reason, ErrRefused) {
		return time.Time{}, reason
	}
	return time.Time{}, refuse("its subject is not confirmed: %v", reason)
}

// within looks at a time between two others, either of which may be absent.
func within(now time.Time, from, to instant) error {
	switch {
	case !from.IsZero() && now.Add(Skew).Before(from.Time):
		return refuse("it is not valid before %s; it is %s", from.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !to.IsZero() && !now.Before(to.Add(Skew)):
		return refuse("it was valid until %s; it is %s", to.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// signingCertificates lists the certificates under which a provider signs.
func signingCertificates(e *saml.EntityDescriptor) (certs []*x509.Certificate, err error) {
	for _, d := range e.IDPSSODescriptors {
		for _, k := range d.KeyDescriptors {
			if k.Use != "" && k.Use != "signing" {
				continue
			}
			for _, c := range k.KeyInfo.X509Data.X509Certificates {
				raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c.Data), ""))
				if err != nil {
					return nil, errors.New("a certificate of it is no base64")
				}
				cert, err := x509.ParseCertificate(raw)
				if err != nil {
					return nil, fmt.Errorf("a certificate of it: %w", err)
				}
				certs = append(certs, cert)
			}
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("it has no certificate for signatures")
	}
	return certs, nil
}

// Metadata describes us to identity providers.
func (us ServiceProvider) Metadata() ([]byte, error) {
	type service struct {
		Binding  string `xml:"Binding,attr"`
		Location string `xml:"Location,attr"`
		Index    int    `xml:"index,attr"`
		Default  bool   `xml:"isDefault,attr"`
	}
	type role struct {
		Protocols string   `xml:"protocolSupportEnumeration,attr"`
		Requests  bool     `xml:"AuthnRequestsSigned,attr"`
		Want      bool     `xml:"WantAssertionsSigned,attr"`
		Formats   []string `xml:"NameIDFormat"`
		Consumer  service  `xml:"AssertionConsumerService"`
	}
	out, err := xml.MarshalIndent(struct {
		XMLName  xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:metadata EntityDescriptor"`
		EntityID string   `xml:"entityID,attr"`
		Role     role     `xml:"SPSSODescriptor"`
	}{EntityID: us.EntityID, Role: role{Protocols: protocolNS, Want: true,
		Formats: []string{"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
			"urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"},
		Consumer: service{Binding: saml.HTTPPostBinding, Location: us.ACS, Default: true}}}, "", "  ")
	return append([]byte(xml.Header), append(out, '\n')...), err
}
