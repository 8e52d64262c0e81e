// Package jwt signs and reads the RS256 JSON Web Tokens that user pools and identity pools issue, and publishes their keys
// (RFC 7515, 7517, 7519). It knows one algorithm on purpose: a token that names any other is refused before a key is looked up.
//
// Begin with Sign and Parse. Which issuer, audience and lifetime are right is the caller's rule.
package jwt

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
)

// MaxSize bounds a token that Parse looks at, in bytes: the longest value of a Logins map (identity spec appendix B).
const MaxSize = 50_000

// Errors of Parse and Verify.
var (
	ErrMalformed = errors.New("not a signed JSON Web Token")
	ErrAlgorithm = errors.New("the token is not signed with RS256")
	ErrSignature = errors.New("token signature invalid")
)

// Claims is the payload of a token. Numbers are json.Number.
type Claims map[string]any

type header struct {
	Kid string `json:"kid"`
	Alg string `json:"alg"`
}

// Sign returns claims as a compact token whose header holds kid and alg only (identity spec 1.8).
func Sign(key *rsa.PrivateKey, kid string, claims Claims) (string, error) {
	h, err := json.Marshal(header{Kid: kid, Alg: "RS256"})
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(claims); err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString(h) + "." + b64.EncodeToString(bytes.TrimRight(body.Bytes(), "\n"))
	digest := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return signed + "." + b64.EncodeToString(sig), nil
}

// A Token is a parsed token. Nothing in it may be believed before Verify has returned nil.
type Token struct {
	KeyID  string
	Claims Claims

	signed    string
	signature []byte
}

// Parse takes a compact token apart. It fails with ErrMalformed or ErrAlgorithm.
func Parse(token string) (*Token, error) {
	if len(token) > MaxSize {
		return nil, ErrMalformed
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, ErrMalformed
	}
	var h struct {
		header
		Crit json.RawMessage `json:"crit"`
	}
	if decodePart(parts[0], &h) != nil || h.Crit != nil {
		return nil, ErrMalformed
	}
	if h.Alg != "RS256" {
		return nil, ErrAlgorithm
	}
	t := &Token{KeyID: h.Kid, signed: parts[0] + "." + parts[1]}
	if decodePart(parts[1], &t.Claims) != nil || t.Claims == nil {
		return nil, ErrMalformed
	}
	var err error
	if t.signature, err = base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		return nil, ErrMalformed
	}
	return t, nil
}

func decodePart(part string, v any) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return ErrMalformed
	}
	return nil
}

// Verify reports whether the token was signed with the private half of key; it fails with ErrSignature.
func (t *Token) Verify(key *rsa.PublicKey) error {
	digest := sha256.Sum256([]byte(t.signed))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], t.signature) != nil {
		return ErrSignature
	}
	return nil
}

// String returns a claim that is text, "" if it is absent or something else.
func (c Claims) String(name string) string {
	s, _ := c[name].(string)
	return s
}

// Strings returns a claim that is a list of texts; a single text counts as a list of one. Other elements are left out.
func (c Claims) Strings(name string) []string {
	switch v := c[name].(type) {
	case string:
		return []string{v}
	case []string:
		return v
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// Time returns a claim that is a number of seconds since the epoch (RFC 7519 section 2, NumericDate); ok is false if it is
// absent or no whole number.
func (c Claims) Time(name string) (t time.Time, ok bool) {
	n, isNumber := c[name].(json.Number)
	if !isNumber {
		return time.Time{}, false
	}
	sec, err := n.Int64()
	if err != nil || sec < 0 || sec > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(sec, 0).UTC(), true
}

// A Key is a public key with its id, as a key set shows it.
type Key struct {
	ID     string
	Public *rsa.PublicKey
}

type jwk struct {
	Alg string `json:"alg"`
	E   string `json:"e"`
	Kid string `json:"kid"`
	Kty string `json:"kty"`
	N   string `json:"n"`
	Use string `json:"use"`
}

// KeySet returns the JSON Web Key Set of keys (RFC 7517 section 5).
func KeySet(keys []Key) []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range keys {
		n, e := numbers(k.Public)
		set.Keys = append(set.Keys, jwk{Alg: "RS256", E: e, Kid: k.ID, Kty: "RSA", N: n, Use: "sig"})
	}
	b, err := json.Marshal(set)
	if err != nil {
		panic("jwt: a key set of strings cannot fail to marshal: " + err.Error())
	}
	return b
}

// Thumbprint returns a key id that depends on the key alone (RFC 7638 section 3).
func Thumbprint(key *rsa.PublicKey) string {
	n, e := numbers(key)
	sum := sha256.Sum256([]byte(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func numbers(key *rsa.PublicKey) (n, e string) {
	b64 := base64.RawURLEncoding
	return b64.EncodeToString(key.N.Bytes()), b64.EncodeToString(big.NewInt(int64(key.E)).Bytes())
}
