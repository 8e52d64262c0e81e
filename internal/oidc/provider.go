package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Metadata is what a provider says of itself (OpenID Connect Discovery 1.0 section 3). Every endpoint is an https URL or "".
type Metadata struct {
	Issuer                string `json:"issuer"`
	KeysURL               string `json:"jwks_uri"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	UserInfoEndpoint      string `json:"userinfo_endpoint"`
	EndSessionEndpoint    string `json:"end_session_endpoint"`

	TokenAuthMethods []string `json:"token_endpoint_auth_methods_supported"` // nil: client_secret_basic (section 3)

	TellsIssuer bool `json:"authorization_response_iss_parameter_supported"` // answers to requests for a code have iss (RFC 9207)
}

// CheckIssuer refuses what cannot be an issuer: it must be an https URL without user, query and fragment.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || len(issuer) > maxIssuer {
		return fail(Misconfigured, "the issuer %.300q is not an https URL without query of at most %d characters, like https://id.example/realm", issuer, maxIssuer)
	}
	return nil
}

// discoveryURL is where a provider describes itself (Discovery section 4.1).
func discoveryURL(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// parseMetadata reads a discovery document and holds it to its issuer: else one provider could speak for another.
func parseMetadata(body []byte, issuer string) (*Metadata, error) {
	m := &Metadata{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, &Error{Misconfigured, "the discovery document of " + issuer + " cannot be read", err}
	}
	if !SameIssuer(m.Issuer, issuer) {
		return nil, fail(Misconfigured, "the discovery document below %s names another issuer, %.255q", issuer, m.Issuer)
	}
	for name, at := range map[string]*string{"jwks_uri": &m.KeysURL, "authorization_endpoint": &m.AuthorizationEndpoint, "token_endpoint": &m.TokenEndpoint,
		"userinfo_endpoint": &m.UserInfoEndpoint, "end_session_endpoint": &m.EndSessionEndpoint} {
		if *at == "" {
			continue
		}
		if u, err := url.Parse(*at); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			return nil, fail(Misconfigured, "the discovery document of %s has a %s that is not an https URL", issuer, name)
		}
	}
	if m.KeysURL == "" {
		return nil, fail(Misconfigured, "the discovery document of %s has no jwks_uri", issuer)
	}
	return m, nil
}

const (
	maxKeys            = 100 // of a key set
	minRSA, maxRSABits = 2048, 8192
)

// parseKeys reads a key set (RFC 7517 section 5). Keys for other purposes, of other sorts or sizes are left out, as section 5 says.
func parseKeys(body []byte, issuer string) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, &Error{Misconfigured, "the key set of " + issuer + " cannot be read", err}
	}
	if len(set.Keys) > maxKeys {
		return nil, fail(Misconfigured, "the key set of %s has %d keys, at most %d are allowed", issuer, len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && algorithmOf(k) != "" {
			k.Certificates = nil
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fail(Misconfigured, "the key set of %s has no key for RS256 or ES256", issuer)
	}
	return keys, nil
}

// algorithmOf is the one algorithm that a public key is good for here, "" for none.
func algorithmOf(k jose.JSONWebKey) (alg string) {
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n >= minRSA && n <= maxRSABits {
			alg = "RS256"
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			alg = "ES256"
		}
	}
	if k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != alg {
		return ""
	}
	return alg
}

// signed checks that a key of the provider signed the token. One that does not fit what is kept makes us ask the provider again, as
// often as the cache allows: that is how rotation is noticed.
func (v *Verifier) signed(ctx context.Context, p Provider, t *parsed) error {
	var seen time.Time
	for {
		keys, at, err := v.keys(ctx, p, seen)
		if err != nil {
			return err
		}
		k, found := t.keyOf(keys)
		if found {
			if _, err := t.signature.Verify(k.Key); err == nil {
				return nil
			}
		}
		switch {
		case at.After(seen) && seen.IsZero():
			seen = at
		case found:
			return fail(Signature, "Token signature invalid.")
		default:
			return fail(Signature, "the token is not signed by a key that %s publishes", p.Issuer)
		}
	}
}

// keyOf finds the key that a token names. Without a name there must be one that fits (OpenID Connect Core section 10.1).
func (t *parsed) keyOf(keys []jose.JSONWebKey) (k jose.JSONWebKey, found bool) {
	for _, c := range keys {
		if algorithmOf(c) != t.alg || t.keyID != "" && c.KeyID != t.keyID {
			continue
		}
		if found {
			return k, false
		}
		k, found = c, true
	}
	return k, found
}
