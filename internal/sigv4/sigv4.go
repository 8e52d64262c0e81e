// Package sigv4 verifies and makes AWS signatures, version 4. It is pure: keys come from a Lookup, the request as net/http
// received it, and nothing is kept but a bounded cache of derived keys.
//
// Begin with Verifier.Verify; canonical.go holds the canonical forms and their tolerated variants, sign.go the signer of our
// own clients. What is different for S3 is in s3.go, and its bodies in signed chunks are in chunks.go. The rules are those of identity spec section 5.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Codes of refusals, to be named by each protocol (identity spec 5.7).
const (
	MissingAuthenticationToken = "MissingAuthenticationToken"
	IncompleteSignature        = "IncompleteSignature"
	UnrecognizedClient         = "UnrecognizedClient"
	InvalidSignature           = "InvalidSignature"
	ExpiredToken               = "ExpiredToken"
)

// DefaultSkew is how far a client's clock may be off (identity spec 5.2).
const DefaultSkew = 15 * time.Minute

// A Lookup finds the secret of the access key that a signature names, with its session token if it has one. An unknown, inactive or
// expired key is a *fleet.Error of kind Unauthenticated with the code UnrecognizedClient or ExpiredToken.
type Lookup func(s *Signature) (fleet.Secret, error)

// A Verifier checks signatures. Its fields are set before use; it is safe for concurrent use.
type Verifier struct {
	Region  string        // that scopes must name; iam and sts may be signed for us-east-1 too
	Regions []string      // further regions that scopes may name
	Skew    time.Duration // 0: DefaultSkew
	Clock   fleet.Clock
	Origins []string // further host[:port] values to try where a proxy rewrote Host

	keys keyCache
}

// A Signature is what a request says about itself.
type Signature struct {
	AccessKeyID   string
	Date          time.Time
	Region        string
	Service       string
	Token         string
	SignedHeaders []string
	Presigned     bool

	scopeDate string // yyyymmdd
	amzDate   string // yyyymmddThhmmssZ
	signature []byte
	expires   time.Duration // presigned only; 0: not given
}

func refuse(code, format string, args ...any) error {
	e := fleet.Denied(format, args...).WithCode(code)
	e.Kind = fleet.KindUnauthenticated
	return e
}

// Texts that clients show or key on.
const (
	invalidToken = "The security token included in the request is invalid."
	mismatch     = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)

// Verify checks the signature of r, whose body has been read into body, for a service that goes by any of the given names.
// r must be as net/http received it: the path is taken from RequestURI. On success it tells who signed.
func (v *Verifier) Verify(r *http.Request, body []byte, services []string, lookup Lookup) (*Signature, error) {
	s, err := Parse(r)
	if err != nil {
		return nil, err
	}
	if err := v.checkScope(s, services); err != nil {
		return nil, err
	}
	if err := v.checkTime(s); err != nil {
		return nil, err
	}
	if err := checkHeaders(r, s); err != nil {
		return nil, err
	}
	payload, err := payloadHash(r, body)
	if err != nil {
		return nil, err
	}
	secret, err := lookup(s)
	if err != nil {
		return nil, err
	}
	key := v.keys.derive(secret.Reveal(), s)
	for canonical := range v.candidates(r, s, payload) {
		if hmac.Equal(s.signature, mac(key, stringToSign(s, canonical))) {
			return s, nil
		}
	}
	return nil, mismatched(r, s)
}

// mismatched says what helps most, what the server saw: a proxy that rewrites host or path is the usual culprit. Neither the query nor
// header values are told, they may hold the session token.
func mismatched(r *http.Request, s *Signature) error {
	return refuse(InvalidSignature, "%s (This server received %s %s on host %s; signed headers: %s.)", mismatch,
		r.Method, clip(rawPath(r)), clip(r.Host), clip(strings.Join(s.SignedHeaders, ";")))
}

func (v *Verifier) checkScope(s *Signature, services []string) error {
	global := s.Region == "us-east-1" && (s.Service == "iam" || s.Service == "sts")
	if s.Region != v.Region && !slices.Contains(v.Regions, s.Region) && !global {
		return refuse(InvalidSignature, "Credential should be scoped to a valid Region, not %s", s.Region)
	}
	if !slices.Contains(services, s.Service) {
		return refuse(InvalidSignature, "Credential should be scoped to correct service: '%s'", services[0])
	}
	if s.amzDate[:8] != s.scopeDate {
		return refuse(InvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
	}
	return nil
}

func (v *Verifier) checkTime(s *Signature) error {
	skew := v.Skew
	if skew == 0 {
		skew = DefaultSkew
	}
	const form = "20060102T150405Z"
	now, minutes := v.Clock.Now(), strconv.Itoa(int(skew/time.Minute))
	until := s.Date.Add(skew)
	if s.Presigned && s.expires > 0 {
		until = s.Date.Add(s.expires)
	}
	switch {
	case now.After(until):
		return refuse(InvalidSignature, "Signature expired: %s is now earlier than %s (%s - %s min.)", s.amzDate, now.Add(-skew).Format(form), now.Format(form), minutes)
	case now.Add(skew).Before(s.Date):
		return refuse(InvalidSignature, "Signature not yet current: %s is still later than %s (%s + %s min.)", s.amzDate, now.Add(skew).Format(form), now.Format(form), minutes)
	}
	return nil
}

// unsignedAllowed are x-amz headers that SDKs and proxies add without signing them.
var unsignedAllowed = []string{"x-amz-user-agent", "x-amz-content-sha256", "x-amzn-trace-id"}

func checkHeaders(r *http.Request, s *Signature) error {
	if !slices.IsSorted(s.SignedHeaders) || !slices.Contains(s.SignedHeaders, "host") && !slices.Contains(s.SignedHeaders, ":authority") {
		return refuse(IncompleteSignature, "SignedHeaders must be sorted, in lower case, and hold 'host'")
	}
	for _, name := range s.SignedHeaders {
		if name != strings.ToLower(name) {
			return refuse(IncompleteSignature, "SignedHeaders must be in lower case: '%s'", clip(name))
		}
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(s.SignedHeaders, lower) && !slices.Contains(unsignedAllowed, lower) {
			if s.Presigned && lower == "x-amz-security-token" {
				continue
			}
			return refuse(InvalidSignature, "There were headers present in the request which were not signed: %s", lower)
		}
	}
	return nil
}

// payloadHash returns the payload's part of the canonical request, after checking it against the body.
func payloadHash(r *http.Request, body []byte) (string, error) {
	claimed := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case claimed == "":
		sum := sha256.Sum256(body)
		return hex.EncodeToString(sum[:]), nil
	case claimed == "UNSIGNED-PAYLOAD" && r.TLS != nil: // the channel protects it
		return claimed, nil
	case len(claimed) == 64:
		sum := sha256.Sum256(body)
		if subtle.ConstantTimeCompare([]byte(claimed), []byte(hex.EncodeToString(sum[:]))) != 1 {
			return "", refuse(InvalidSignature, "The value of x-amz-content-sha256 is not the SHA-256 of the body")
		}
		return claimed, nil
	}
	return "", refuse(IncompleteSignature, "x-amz-content-sha256 %q is not supported: send the hexadecimal SHA-256 of the body", clip(claimed))
}

func stringToSign(s *Signature, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return algorithm + "\n" + s.amzDate + "\n" + s.scope() + "\n" + hex.EncodeToString(sum[:])
}

func (s *Signature) scope() string {
	return s.scopeDate + "/" + s.Region + "/" + s.Service + "/" + terminator
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func deriveKey(secret string, date, region, service string) []byte {
	return mac(mac(mac(mac([]byte("AWS4"+secret), date), region), service), terminator)
}

// keyCache remembers derived keys: four HMACs less for each request of a busy client. It is bounded by starting anew when full,
// and indexed by a hash of the secret, so that a changed secret never meets an old key.
type keyCache struct {
	mu   sync.Mutex
	keys map[[32]byte][]byte
}

const maxKeys = 4096

func (c *keyCache) derive(secret string, s *Signature) []byte {
	index := sha256.Sum256([]byte(secret + "\x00" + s.scope()))
	c.mu.Lock()
	defer c.mu.Unlock()
	if key := c.keys[index]; key != nil {
		return key
	}
	if c.keys == nil || len(c.keys) >= maxKeys {
		c.keys = map[[32]byte][]byte{}
	}
	key := deriveKey(secret, s.scopeDate, s.Region, s.Service)
	c.keys[index] = key
	return key
}

// clip bounds a piece of the request in a message.
func clip(s string) string {
	if len(s) > 128 {
		return strings.ToValidUTF8(s[:128], "") + "…"
	}
	return s
}
