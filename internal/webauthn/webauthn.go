// Package webauthn checks what passkeys answer: the registration of a credential and the assertions that are made with it later (W3C Web
// Authentication Level 3, sections 7.1 and 7.2). It is pure: no clock, no store, and what was asked for is told to it.
//
// Begin with ParseRegistration and ParseAssertion, which read the JSON that browsers make; their Check says whether the answer belongs to
// the challenge, the site and the person that it was asked for. authdata.go reads what the authenticator itself has written, key.go its
// public keys.
//
// Attestation, by which makers vouch for authenticators, is neither asked for nor looked at: statements are skipped unread. Of algorithms
// there are the two that user pools know, ES256 and RS256.
package webauthn

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// What may be wrong with an answer, for errors.Is.
var (
	ErrMalformed    = errors.New("the credential cannot be read")
	ErrChallenge    = errors.New("the answer is to another challenge")
	ErrOrigin       = errors.New("the origin is not allowed")
	ErrRelyingParty = errors.New("the credential belongs to another relying party")
	ErrUnsupported  = errors.New("the authenticator is not supported")
	ErrSignature    = errors.New("the signature is wrong")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Expected is what was asked for.
type Expected struct {
	RelyingParty string // a domain
	Challenge    []byte
	Verified     bool // the authenticator must have verified the person
}

const (
	maxText       = 64 << 10 // bytes of an answer: those with statements have some ten thousand
	maxClientData = 8 << 10
	maxID         = 1023 // bytes of a credential's id (section 4)
)

// envelope is what both kinds of answers have in common: RegistrationResponseJSON and AuthenticationResponseJSON (sections 5.1.8 and 5.1.9).
type envelope struct {
	ID         string
	RawID      string
	Type       string
	Attachment string
	Response   map[string]json.RawMessage
}

// members takes a JSON object apart by the exact names of its members, which encoding/json would fold.
func members(text []byte) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(text, &m); err != nil || m == nil {
		return nil, malformed("it is no JSON object")
	}
	return m, nil
}

// read puts a member into v. An absent one, and null, leave it alone.
func read(m map[string]json.RawMessage, name string, v any) error {
	if raw, ok := m[name]; ok && json.Unmarshal(raw, v) != nil {
		return malformed("its member %s has the wrong type", name)
	}
	return nil
}

// readBytes returns a member that is base64url; required ones must have some.
func readBytes(m map[string]json.RawMessage, name string, required bool) ([]byte, error) {
	var text string
	if err := read(m, name, &text); err != nil {
		return nil, err
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || required && len(b) == 0 {
		return nil, malformed("its member %s is not base64url", name)
	}
	return b, nil
}

func parseEnvelope(text []byte) (id []byte, e envelope, err error) {
	if len(text) > maxText {
		return nil, e, malformed("it is longer than 64 KiB")
	}
	m, err := members(text)
	if err != nil {
		return nil, e, err
	}
	for name, v := range map[string]any{"id": &e.ID, "rawId": &e.RawID, "type": &e.Type, "authenticatorAttachment": &e.Attachment, "response": &e.Response} {
		if err := read(m, name, v); err != nil {
			return nil, e, err
		}
	}
	if e.Type != "public-key" {
		return nil, e, malformed("its type is not public-key")
	}
	id, err = readBytes(m, "id", true)
	if err != nil {
		return nil, e, err
	}
	raw, err := readBytes(m, "rawId", false)
	switch {
	case err != nil:
		return nil, e, err
	case len(raw) > 0 && !bytes.Equal(raw, id):
		return nil, e, malformed("id and rawId differ")
	case len(id) > maxID:
		return nil, e, malformed("its id is longer than 1023 bytes")
	}
	return id, e, nil
}

// clientData is what the browser says of the ceremony (section 5.8.1). The authenticator signs its hash.
type clientData struct {
	Type, Origin string
	Challenge    []byte
	CrossOrigin  bool
	hash         [sha256.Size]byte
}

func parseClientData(response map[string]json.RawMessage) (c clientData, err error) {
	text, err := readBytes(response, "clientDataJSON", true)
	if err != nil {
		return c, err
	}
	if len(text) > maxClientData {
		return c, malformed("clientDataJSON is longer than 8 KiB")
	}
	m, err := members(text)
	if err != nil {
		return c, err
	}
	for name, v := range map[string]any{"type": &c.Type, "origin": &c.Origin, "crossOrigin": &c.CrossOrigin} {
		if err := read(m, name, v); err != nil {
			return c, err
		}
	}
	c.hash = sha256.Sum256(text)
	c.Challenge, err = readBytes(m, "challenge", true)
	return c, err
}

// check is steps 7 to 10 of section 7.1, 11 to 14 of section 7.2.
func (c *clientData) check(kind string, e Expected) error {
	switch {
	case c.Type != kind:
		return malformed("it is of the type %.40q, not %s", c.Type, kind)
	case subtle.ConstantTimeCompare(c.Challenge, e.Challenge) != 1:
		return ErrChallenge
	case !Covers(e.RelyingParty, c.Origin):
		return fmt.Errorf("%w: %.200q is not below the relying party %s", ErrOrigin, c.Origin, e.RelyingParty)
	case c.CrossOrigin:
		return fmt.Errorf("%w: the page was shown inside one of another site", ErrOrigin)
	}
	return nil
}

// Covers reports whether a page of an origin may use the credentials of a relying party: its host is the party's domain or below it, and it
// came over TLS or from this machine (section 5.1.3, "is a registrable domain suffix of or is equal to").
func Covers(party, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if host != party && !strings.HasSuffix(host, "."+party) {
		return false
	}
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	return party != "" && (u.Scheme == "https" || u.Scheme == "http" && local)
}

// IsRelyingParty reports whether a name can be a relying party: a domain in lower case with at least one dot that is no IP address, or
// localhost. Browsers refuse public suffixes as well.
func IsRelyingParty(name string) bool {
	if name == "localhost" {
		return true
	}
	labels := strings.Split(name, ".")
	if len(labels) < 2 || len(name) > 253 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	return strings.Trim(last, "0123456789") != "" // else it is an address
}

// A Registration is a new credential, as the browser tells of it.
type Registration struct {
	ID         []byte
	Attachment string   // platform, cross-platform or empty
	Transports []string // how the authenticator is reached: internal, hybrid, usb, …
	client     clientData
	data       authenticatorData
}

// A Credential is what is kept of one.
type Credential struct {
	ID             []byte
	Key            []byte // COSE_Key, for Assertion.Check
	Count          uint32 // signatures so far, or 0 of authenticators that do not count
	Model          [16]byte
	BackupEligible bool // it may be copied to other devices of its owner
}

// ParseRegistration reads a RegistrationResponseJSON.
func ParseRegistration(text []byte) (*Registration, error) {
	id, e, err := parseEnvelope(text)
	if err != nil {
		return nil, err
	}
	r := &Registration{ID: id, Attachment: known(attachments, e.Attachment)}
	if r.client, err = parseClientData(e.Response); err != nil {
		return nil, err
	}
	var transports []string
	if err := read(e.Response, "transports", &transports); err != nil {
		return nil, err
	}
	for _, t := range transports {
		if t = known(transportNames, t); t != "" && len(r.Transports) < len(transportNames) {
			r.Transports = append(r.Transports, t)
		}
	}
	object, err := readBytes(e.Response, "attestationObject", true)
	if err != nil {
		return nil, err
	}
	r.data, err = parseAttestation(object)
	return r, err
}

// What authenticators are like and how they are reached (sections 5.4.5 and 5.8.4). Unknown words are to be ignored.
var (
	attachments    = []string{"platform", "cross-platform"}
	transportNames = []string{"usb", "nfc", "ble", "smart-card", "hybrid", "internal"}
)

func known(words []string, word string) string {
	for _, w := range words {
		if w == word {
			return w
		}
	}
	return ""
}

// Challenge is the one that was answered. It comes from a stranger.
func (r *Registration) Challenge() []byte { return r.client.Challenge }

// Check says whether the registration is what was asked for, and returns what to keep.
func (r *Registration) Check(e Expected) (c Credential, err error) {
	if err := r.client.check("webauthn.create", e); err != nil {
		return c, err
	}
	if err := r.data.check(e); err != nil {
		return c, err
	}
	switch {
	case !bytes.Equal(r.ID, r.data.id):
		return c, malformed("the ids of the browser and of the authenticator differ")
	case r.data.keyFault != nil:
		return c, fmt.Errorf("%w: %w", ErrUnsupported, r.data.keyFault)
	}
	return Credential{ID: r.ID, Key: r.data.key, Count: r.data.count, Model: r.data.model, BackupEligible: r.data.flags&backupEligible != 0}, nil
}

// An Assertion is a proof that somebody has a credential.
type Assertion struct {
	ID         []byte
	UserHandle []byte // whose credential the authenticator thinks it is; empty: it does not say
	client     clientData
	data       authenticatorData
	raw        []byte // of data
	signature  []byte
}

// ParseAssertion reads an AuthenticationResponseJSON.
func ParseAssertion(text []byte) (*Assertion, error) {
	id, e, err := parseEnvelope(text)
	if err != nil {
		return nil, err
	}
	a := &Assertion{ID: id}
	if a.client, err = parseClientData(e.Response); err != nil {
		return nil, err
	}
	if a.raw, err = readBytes(e.Response, "authenticatorData", true); err != nil {
		return nil, err
	}
	if a.signature, err = readBytes(e.Response, "signature", true); err != nil {
		return nil, err
	}
	if a.UserHandle, err = readBytes(e.Response, "userHandle", false); err != nil {
		return nil, err
	}
	a.data, err = parseAuthenticatorData(a.raw)
	return a, err
}

// Check says whether the assertion is what was asked for, all but its signature. It needs no credential, so its answer tells nothing of any.
func (a *Assertion) Check(e Expected) error {
	if err := a.client.check("webauthn.get", e); err != nil {
		return err
	}
	return a.data.check(e)
}

// SignedBy reports whether the signature was made with the key of a credential.
func (a *Assertion) SignedBy(key []byte) error {
	k, err := parseKey(key)
	if err != nil {
		return err
	}
	return k.verify(append(bytes.Clone(a.raw), a.client.hash[:]...), a.signature)
}

// Count is how often the authenticator has signed so far; 0: it does not count.
func (a *Assertion) Count() uint32 { return a.data.count }

// BackupEligible reports whether the credential may be copied. It never changes.
func (a *Assertion) BackupEligible() bool { return a.data.flags&backupEligible != 0 }

// Verified reports whether the authenticator has verified the person, by fingerprint, face or code.
func (a *Assertion) Verified() bool { return a.data.flags&userVerified != 0 }
