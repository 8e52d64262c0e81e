// Package oidc checks tokens that other identity providers issued: OpenID Connect Core 1.0 and Discovery 1.0, by the rules of identity
// spec 2.2. It finds a provider's keys by its discovery document, keeps them, and follows their rotation.
//
// Begin with Verifier.Verify: issuer, audiences and token in, claims or a reasoned *Error out. What the issuer publishes is in
// provider.go, how it is fetched and kept in cache.go. Two algorithms are believed, RS256 and ES256, and the key set says which key is
// good for which; whatever a token says of itself is compared with what was expected, never used to look anything up but the key.
//
// Signatures and keys are read by go-jose. Of its claims and of go-oidc nothing is used: AWS's rules for azp, grace and
// thumbprints, and the bound on how often a stranger's token makes us ask a provider, would have to be built around both.
package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// Reason says which rule a token broke, so that each service can find its own word for it.
type Reason uint8

const (
	Malformed     Reason = iota // no Id token: not three parts, no JSON, a claim that is missing or of a wrong type
	Algorithm                   // signed with none, a shared secret, or anything but RS256 and ES256
	Issuer                      // of another issuer
	Audience                    // for another client
	Signature                   // not signed by a key that the issuer publishes
	Expired                     // over
	NotYet                      // issued in the future, or not to be used yet
	Nonce                       // not for this sign-in
	Rejected                    // the provider, asked about the token, did not take it
	NotID                       // another token of the issuer: an access token, a refresh token, a logout token
	Unreachable                 // the issuer could not be asked; trying again may help
	Misconfigured               // what the issuer publishes is wrong, or does not fit the issuer's name
)

// An Error is why a token is not believed.
type Error struct {
	Reason Reason
	Msg    string // for whoever sent the token; holds nothing of it but claims that it was compared by
	Err    error  // cause, for logs; may name addresses
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

func fail(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Msg: fmt.Sprintf(format, args...)}
}

// ReasonOf returns the reason within err; ok is false if err is about something else.
func ReasonOf(err error) (r Reason, ok bool) {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason, true
	}
	return 0, false
}

// Limits of what is looked at.
const (
	maxToken   = jwt.MaxSize
	maxSubject = 255 // OpenID Connect Core section 2
	maxIssuer  = 255
)

// Grace is how far our clock and the issuer's may differ (identity spec 2.2).
const Grace = 5 * time.Minute

// A Provider is an issuer that somebody trusts.
type Provider struct {
	Issuer string // https://host[:port][/path], as the administrator wrote it: with or without a trailing slash

	// Aliases are further values of iss, compared exactly: Google writes its own with and without scheme.
	Aliases []string

	// Thumbprints are SHA-1s of certificates, in hexadecimal, that the provider's server may stand under if its chain isn't trusted
	// otherwise.
	Thumbprints []string

	KeysURL string // of the key set; "": the discovery document says it
}

// Expect is what a token has to be like beside being the provider's.
type Expect struct {
	Audiences []string // client ids

	// Party takes the rule of OpenID Connect Core 3.1.3.7 for whoever asked for the token itself: aud must name one of Audiences, and azp,
	// if present, the same. Without it AWS's rule counts: azp if present, else aud, must be one of Audiences.
	Party bool

	Nonce string // of the sign-in that the token answers; "": not looked at
}

// A Token is what a token says that was verified.
type Token struct {
	Claims    jwt.Claims
	Subject   string
	Audience  string   // the client it was accepted for: azp if present, else aud
	Audiences []string // aud
	Issued    time.Time
	Expires   time.Time
}

// Config says what a Verifier stands on.
type Config struct {
	HTTP  *egress.Client
	Clock fleet.Clock

	// Hosts say where public providers are reached in place of their own hosts: an https URL for a name such as Facebook. For Google and
	// Apple it is an issuer in place of theirs.
	Hosts map[string]string
}

// A Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	http  *egress.Client
	clock fleet.Clock
	hosts map[string]string
	cache cache
}

// New makes a verifier with an empty cache.
func New(c Config) *Verifier { return &Verifier{http: c.HTTP, clock: c.Clock, hosts: c.Hosts} }

// UnverifiedIssuer returns what a token says of its issuer, to find out which provider it would have to be of. Nothing of it may be
// believed.
func UnverifiedIssuer(token string) (string, error) {
	p, err := parse(token)
	if err != nil {
		return "", err
	}
	return p.claims.String("iss"), nil
}

// Verify checks an Id token of a provider. The error is an *Error, or the context's.
func (v *Verifier) Verify(ctx context.Context, p Provider, token string, e Expect) (*Token, error) {
	t, err := parse(token)
	if err != nil {
		return nil, err
	}
	// What needs no key comes first: nobody makes us ask a provider with a token that would be refused anyway.
	out, err := t.check(p, e, v.clock.Now())
	if err != nil {
		return nil, err
	}
	if err := v.signed(ctx, p, t); err != nil {
		return nil, err
	}
	return out, nil
}

// parsed is a token taken apart, not believed.
type parsed struct {
	signature *jose.JSONWebSignature
	keyID     string
	alg       string
	claims    jwt.Claims
}

// Algorithms of signatures, as the key type asks for them. OpenID Connect Core 15.1 demands RS256 of every provider.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}

// parse takes a compact token apart and looks at its header.
func parse(token string) (*parsed, error) {
	bad := fail(Malformed, "not a valid OpenID Connect identity token")
	if len(token) > maxToken {
		return nil, fail(Malformed, "the token has %d characters, at most %d are allowed", len(token), maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || strings.ContainsAny(token, "\r\n") { // which decoders of base64 pass over
		return nil, bad
	}
	var head map[string]any
	if decode(parts[0], &head) != nil {
		return nil, bad
	}
	for _, name := range []string{"crit", "b64"} { // they change what is signed; RFC 7797 section 7 keeps b64 from such tokens
		if _, ok := head[name]; ok {
			return nil, fail(Malformed, "the token's header has the member %s, which is not supported", name)
		}
	}
	alg, _ := head["alg"].(string)
	s, err := jose.ParseSignedCompact(token, algorithms)
	var unexpected *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &unexpected):
		return nil, fail(Algorithm, "the token is not signed with RS256 or ES256")
	case err != nil:
		return nil, bad
	}
	if typ, ok := head["typ"]; ok { // RFC 9068 names access tokens at+jwt so that nobody takes them for another
		if text, _ := typ.(string); !strings.EqualFold(text, "JWT") && !strings.EqualFold(text, "application/jwt") {
			return nil, fail(NotID, "the token's header says that it is no Id token")
		}
	}
	p := &parsed{signature: s, alg: alg}
	p.keyID, _ = head["kid"].(string)
	if decode(parts[1], &p.claims) != nil || p.claims == nil {
		return nil, bad
	}
	return p, nil
}

// decode reads a JSON object in base64url, none of whose members may come twice.
func decode(part string, v any) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	var once map[string]strict.RawMessage
	if err := strict.Unmarshal(raw, &once); err != nil {
		return err
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	return dec.Decode(v)
}

// check holds the claims to what is expected.
func (t *parsed) check(p Provider, e Expect, now time.Time) (*Token, error) {
	c := t.claims
	if !SameIssuer(c.String("iss"), p.Issuer) && !slices.Contains(p.Aliases, c.String("iss")) {
		return nil, fail(Issuer, "the token's issuer is not %s", p.Issuer)
	}
	if err := onlyID(c); err != nil {
		return nil, err
	}
	out := &Token{Claims: c, Subject: c.String("sub"), Audiences: c.Strings("aud")}
	if out.Subject == "" || len(out.Subject) > maxSubject {
		return nil, fail(Malformed, "missing a required claim: sub, of 1 to %d bytes", maxSubject)
	}
	var err error
	if out.Audience, err = audience(c, out.Audiences, e); err != nil {
		return nil, err
	}
	if err := out.times(c, now); err != nil {
		return nil, err
	}
	if e.Nonce != "" && c.String("nonce") != e.Nonce {
		return nil, fail(Nonce, "the token's nonce is not that of this sign-in")
	}
	return out, nil
}

// onlyID refuses other tokens that providers sign with the same keys for the same clients: Cognito says token_use, Keycloak typ, and
// a logout token has events (OpenID Connect Back-Channel Logout section 2.4).
func onlyID(c jwt.Claims) error {
	use, said := c["token_use"]
	_, event := c["events"]
	switch typ := c.String("typ"); {
	case said && use != "id", event, slices.Contains([]string{"Bearer", "Refresh", "Offline", "Logout"}, typ):
		return fail(NotID, "the token is no Id token but another of the same issuer")
	}
	return nil
}

func audience(c jwt.Claims, aud []string, e Expect) (string, error) {
	if len(aud) == 0 {
		return "", fail(Malformed, "missing a required claim: aud")
	}
	accepted := ""
	for _, a := range aud {
		if slices.Contains(e.Audiences, a) {
			accepted = a
			break
		}
	}
	azp, present := c["azp"]
	party, _ := azp.(string)
	switch {
	case present && !slices.Contains(e.Audiences, party):
		return "", fail(Audience, "the token is for another client: its azp is not listed")
	case (!present || e.Party) && accepted == "":
		return "", fail(Audience, "the token is for another client: its aud is not listed")
	case e.Party && present && !slices.Contains(aud, party):
		return "", fail(Audience, "the token is for another client: its aud does not name its azp")
	case present:
		return party, nil
	}
	return accepted, nil
}

func (t *Token) times(c jwt.Claims, now time.Time) error {
	for name, at := range map[string]*time.Time{"exp": &t.Expires, "iat": &t.Issued} {
		var ok bool
		if *at, ok = numericDate(c[name]); !ok {
			return fail(Malformed, "missing a required claim: %s, a number of seconds", name)
		}
	}
	if !now.Before(t.Expires.Add(Grace)) {
		return fail(Expired, "Token expired: %d >= %d", now.Unix(), t.Expires.Unix())
	}
	if t.Issued.After(now.Add(Grace)) {
		return fail(NotYet, "the token was issued in the future: %d > %d", t.Issued.Unix(), now.Unix())
	}
	if nbf, present := c["nbf"]; present {
		from, ok := numericDate(nbf)
		if !ok {
			return fail(Malformed, "the claim nbf is no number of seconds")
		}
		if from.After(now.Add(Grace)) {
			return fail(NotYet, "the token is not to be used before %d; it is %d", from.Unix(), now.Unix())
		}
	}
	return nil
}

// numericDate reads a number of seconds, which may have a fraction (RFC 7519 section 2).
func numericDate(v any) (time.Time, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(math.Floor(f)), 0).UTC(), true
}

// SameIssuer compares two issuers exactly, save for one trailing slash (identity spec 2.2: Auth0 has it in its tokens).
func SameIssuer(a, b string) bool {
	return a != "" && strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/")
}
