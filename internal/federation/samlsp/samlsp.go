// Package samlsp is a service provider of SAML 2.0 (Web Browser SSO profile, HTTP-Redirect out, HTTP-POST back): it asks an identity
// provider who somebody is and reads the answer. It is all that touches XML of strangers, and github.com/crewjam/saml, in this module.
//
// Begin with ParseMetadata, then Provider.Request and Provider.Accept. An answer passes three gates, each of which would do alone
// against most attacks: form.go takes only documents of the one shape that an answer has, before anything interprets them; the
// library checks signature and times; and what is read, in assertion.go, is the bytes that the signature was found to cover, never
// the document that came. Single use of an assertion is the caller's: see Assertion.
package samlsp

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"
)

// Limits of what is looked at, in bytes.
const (
	maxResponse = 256 << 10 // decoded
	maxMetadata = 1 << 20
	maxName     = 1024 // of an identity
)

// Skew is how far our clock and the provider's may differ.
const Skew = 3 * time.Minute

// ErrRefused is in every error about an answer that is not believed. Texts never hold what the answer said beyond names of issuers,
// audiences and addresses.
var ErrRefused = errors.New("the SAML response is not accepted")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// A ServiceProvider is us, as one identity provider knows us.
type ServiceProvider struct {
	EntityID string // urn:amazon:cognito:sp:POOL
	ACS      string // URL that answers are posted to
}

// A Provider is an identity provider, read from its metadata.
type Provider struct {
	EntityID string
	SSO      string // URL of its single sign-on service, binding HTTP-Redirect
	SLO      string // of its single log-out service; "" for none

	metadata *saml.EntityDescriptor
}

// ParseMetadata reads a metadata document (saml-metadata-2.0-os), which must describe one identity provider with a certificate for
// signatures and a sign-on service of binding HTTP-Redirect.
func ParseMetadata(doc []byte, now time.Time) (*Provider, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("the SAML metadata %s", fmt.Sprintf(format, args...))
	}
	if len(doc) > maxMetadata {
		return nil, bad("has %d bytes, at most %d are allowed", len(doc), maxMetadata)
	}
	if err := plainXML(doc, comments); err != nil {
		return nil, bad("cannot be read: %v", err)
	}
	entities, err := entitiesOf(doc)
	if err != nil {
		return nil, bad("cannot be read: %v", err)
	}
	var found *saml.EntityDescriptor
	for i, e := range entities {
		if len(e.IDPSSODescriptors) == 0 {
			continue
		}
		if found != nil || len(e.IDPSSODescriptors) > 1 {
			return nil, bad("describes more than one identity provider: cut it down to the one that is meant")
		}
		found = &entities[i]
	}
	if found == nil {
		return nil, bad("describes no identity provider: it has no IDPSSODescriptor")
	}
	p := &Provider{EntityID: found.EntityID, metadata: found}
	if p.EntityID == "" || len(p.EntityID) > maxName {
		return nil, bad("has no entityID of 1 to %d bytes", maxName)
	}
	if !found.ValidUntil.IsZero() && !now.Before(found.ValidUntil) {
		return nil, bad("of %s was valid until %s only: get the present one", p.EntityID, found.ValidUntil.UTC().Format(time.RFC3339))
	}
	sp := saml.ServiceProvider{IDPMetadata: found}
	p.SSO, p.SLO = sp.GetSSOBindingLocation(saml.HTTPRedirectBinding), sp.GetSLOBindingLocation(saml.HTTPRedirectBinding)
	if !isWebURL(p.SSO) {
		return nil, bad("of %s names no https address of a SingleSignOnService with binding HTTP-Redirect", p.EntityID)
	}
	if _, err := signingCertificates(found); err != nil {
		return nil, bad("of %s: %v", p.EntityID, err)
	}
	return p, nil
}

// entitiesOf lists the entities of a document: one, or those of a federation.
func entitiesOf(doc []byte) ([]saml.EntityDescriptor, error) {
	var root struct{ XMLName xml.Name }
	if err := xml.Unmarshal(doc, &root); err != nil {
		return nil, err
	}
	if root.XMLName.Local != "EntitiesDescriptor" {
		var e saml.EntityDescriptor
		err := xml.Unmarshal(doc, &e)
		return []saml.EntityDescriptor{e}, err
	}
	var all saml.EntitiesDescriptor
	err := xml.Unmarshal(doc, &all)
	return all.EntityDescriptors, err
}

func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

// Request returns where to send the browser, and the id that the answer must refer to. relay comes back beside the answer; it is of
// unreserved characters, at most 80 (saml-bindings-2.0-os 3.4.3).
func (p *Provider) Request(us ServiceProvider, relay string) (redirect, id string, err error) {
	if len(relay) > 80 || url.QueryEscape(relay) != relay {
		return "", "", fmt.Errorf("the relay state of a SAML request is not plain text of at most 80 characters")
	}
	sp, err := p.library(us)
	if err != nil {
		return "", "", err
	}
	request, err := sp.MakeAuthenticationRequest(p.SSO, saml.HTTPRedirectBinding, saml.HTTPPostBinding)
	if err != nil {
		return "", "", fmt.Errorf("making a SAML request: %w", err)
	}
	request.NameIDPolicy = nil // what a provider is set up to send is right more often than what we could ask of it
	to, err := request.Redirect(relay, sp)
	if err != nil {
		return "", "", fmt.Errorf("making a SAML request: %w", err)
	}
	return to.String(), request.ID, nil
}

// library is us as the library wants it.
func (p *Provider) library(us ServiceProvider) (*saml.ServiceProvider, error) {
	acs, err := url.Parse(us.ACS)
	if err != nil {
		return nil, fmt.Errorf("the address for SAML answers: %w", err)
	}
	return &saml.ServiceProvider{EntityID: us.EntityID, AcsURL: *acs, IDPMetadata: p.metadata,
		// Audiences are looked at in the verified assertion; the library knows one only.
		ValidateAudienceRestriction: func(*saml.Assertion) error { return nil }}, nil
}

// Accept reads an answer, in base64 as browsers post it, to the request with the id requestID. It fails with ErrRefused.
func (p *Provider) Accept(us ServiceProvider, response, requestID string, now time.Time) (a Assertion, err error) {
	if base64.StdEncoding.DecodedLen(len(response)) > maxResponse {
		return a, refuse("it is larger than %d bytes", maxResponse)
	}
	doc, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "", " ", "").Replace(response))
	if err != nil {
		return a, refuse("it is no base64")
	}
	if requestID == "" {
		return a, refuse("nobody asked for it")
	}
	if err := checkForm(doc); err != nil {
		return a, err
	}
	sp, err := p.library(us)
	if err != nil {
		return a, err
	}
	seen := &verifier{}
	sp.SignatureVerifier = seen
	if _, err := sp.ParseXMLResponse(doc, []string{requestID}, sp.AcsURL); err != nil {
		return a, refuse("%s", why(err))
	}
	verified, err := seen.assertion()
	if err != nil {
		return a, err
	}
	return verified.check(p, us, requestID, now)
}

// why is what the library has against a response. Its errors keep that from whoever prints them, since some applications print them to
// strangers.
func why(err error) string {
	if e := (*saml.InvalidResponseError)(nil); errors.As(err, &e) {
		err = e.PrivateErr
	}
	if e := (saml.ErrBadStatus{}); errors.As(err, &e) {
		return "the provider reports " + e.Status
	}
	return err.Error()
}

// verifier checks signatures for the library and keeps what they cover.
type verifier struct{ covered []*etree.Element }

// VerifySignature implements saml.SignatureVerifier.
func (v *verifier) VerifySignature(c *dsig.ValidationContext, el *etree.Element) error {
	covered, err := c.Validate(el)
	if err != nil {
		return fmt.Errorf("the signature of its %s: %w", el.Tag, err)
	}
	v.covered = append(v.covered, covered)
	return nil
}
