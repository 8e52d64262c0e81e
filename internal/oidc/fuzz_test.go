package oidc

import (
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/oidc/oidctest"
)

// FuzzToken holds two things for any token: nothing panics, and what is accepted says what was asked for.
func FuzzToken(f *testing.F) {
	now := time.Unix(1_790_000_000, 0)
	r, e := oidctest.RSA(f, "r"), oidctest.EC(f, "e")
	p := Provider{Issuer: "https://id.example/realm", Aliases: []string{"alias"}}
	claims := func(name string, value any) oidctest.Claims {
		return oidctest.Claims{"iss": p.Issuer, "sub": "ann", "aud": []string{"x", client}, "iat": now.Unix(), "exp": now.Unix() + 60, "nonce": "n", name: value}
	}
	for name, values := range map[string][]any{
		"a": {1}, "iss": {"alias", "x", 7, p.Issuer + "/"}, "aud": {client, "x", []any{}, 7}, "azp": {client, "x"}, "nbf": {1, "x", now.Unix() + 600}, "exp": {1, "x", 1e300, -1, 1.5}, "iat": {now.Unix() + 600},
		"sub": {"", strings.Repeat("s", 256)}, "typ": {"Bearer"}, "events": {1}, "nonce": {"m"},
	} {
		for _, v := range values {
			f.Add(r.Sign(f, nil, claims(name, v)))
		}
	}
	f.Add(e.Sign(f, nil, claims("a", 1)))
	f.Add(oidctest.Raw(f, oidctest.Claims{"alg": "none"}, claims("a", 1), nil))
	f.Add(r.Sign(f, oidctest.Claims{"typ": "at+jwt"}, claims("a", 1)))
	f.Add(r.Sign(f, oidctest.Claims{"crit": []string{"x"}}, claims("a", 1)))
	f.Add("a.b.c")
	f.Add("e30.e30.e30")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		parsed, err := parse(token)
		if err != nil {
			return
		}
		for _, party := range []bool{false, true} {
			got, err := parsed.check(p, Expect{Audiences: []string{client}, Party: party, Nonce: "n"}, now)
			if err != nil {
				continue
			}
			if got.Audience != client || got.Subject == "" || !now.Before(got.Expires.Add(Grace)) || parsed.claims.String("nonce") != "n" {
				t.Errorf("accepted: %+v", got)
			}
		}
	})
}

// FuzzPublished holds what a provider publishes to its bounds.
func FuzzPublished(f *testing.F) {
	const issuer = "https://id.example"
	n := strings.Repeat("x", 342)
	for _, doc := range []string{
		`{"issuer":"https://id.example/","jwks_uri":"https://id.example/keys","token_endpoint":"https://id.example/token"}`,
		`{"issuer":"https://id.example","jwks_uri":"http://id.example/keys"}`, `{"issuer":"https://id.example"}`, `{"issuer":1}`, `{"issuer":"https://other.example"}`,
		`{"keys":[{"kty":"RSA","n":"` + n + `","e":"AQAB","kid":"k","alg":"RS256","use":"sig"}]}`, `{"keys":[{"kty":"RSA","n":"` + n + `","e":"AQAB","alg":"PS256"},{"kty":"oct","k":"AA"},7]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`, `{"keys":[]}`, `{"keys":7}`, `{`,
		`{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if m, err := parseMetadata(doc, issuer); err == nil && (!SameIssuer(m.Issuer, issuer) || !strings.HasPrefix(strings.ToLower(m.KeysURL), "https://")) {
			t.Errorf("accepted: %+v", m)
		}
		keys, err := parseKeys(doc, issuer)
		for _, k := range keys {
			if err != nil || algorithmOf(k) == "" || !k.IsPublic() {
				t.Errorf("accepted: %+v", k)
			}
		}
	})
}
