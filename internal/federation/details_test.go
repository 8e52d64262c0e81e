package federation_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/jwt"
)

var openID = map[string]string{"client_id": "c", "client_secret": "s", "authorize_scopes": "openid email", "oidc_issuer": "https://id.example", "attributes_request_method": "GET"}

// with changes details; an empty value takes one out.
func with(d map[string]string, change ...string) map[string]string {
	d = maps.Clone(d)
	for i := 0; i < len(change); i += 2 {
		if d[change[i]] = change[i+1]; change[i+1] == "" {
			delete(d, change[i])
		}
	}
	return d
}

func TestDetailsAreCompleted(t *testing.T) {
	t.Parallel()
	google := map[string]string{"client_id": "c", "client_secret": "s", "authorize_scopes": "email"}
	for name, c := range map[string]struct {
		p    federation.Provider
		want map[string]string
	}{
		"OIDC":   {federation.Provider{Type: "OIDC", Details: openID}, map[string]string{"attributes_url_add_attributes": "false"}},
		"Google": {federation.Provider{Type: "Google", Details: google}, map[string]string{"oidc_issuer": "https://accounts.google.com", "authorize_url": "https://accounts.google.com/o/oauth2/v2/auth"}},
		"Google with the address that AWS shows": {federation.Provider{Type: "Google", Details: with(google, "attributes_url", "https://people.googleapis.com/v1/people/me?personFields=")},
			map[string]string{"attributes_url": "https://openidconnect.googleapis.com/v1/userinfo"}},
		"Facebook": {federation.Provider{Type: "Facebook", Details: with(google, "api_version", "v20.0")}, map[string]string{"token_url": "https://graph.facebook.com/v20.0/oauth/access_token"}},
		"Amazon":   {federation.Provider{Type: "LoginWithAmazon", Details: google}, map[string]string{"token_url": "https://api.amazon.com/auth/o2/token"}},
	} {
		p := c.p
		if err := federation.Check(&p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for key, want := range c.want {
			if p.Details[key] != want {
				t.Errorf("%s: %s is %q, not %q", name, key, p.Details[key], want)
			}
		}
		if p.Mapping["username"] == "" {
			t.Errorf("%s: the mapping is %v", name, p.Mapping)
		}
	}
	if openID["attributes_url_add_attributes"] != "" {
		t.Error("Check has changed the caller's map")
	}
}

func TestDetailsThatAreRefused(t *testing.T) {
	t.Parallel()
	saml := map[string]string{"MetadataURL": "https://idp.example/metadata"}
	for name, c := range map[string]struct {
		p   federation.Provider
		why string
	}{
		"no such type":        {federation.Provider{Type: "Kerberos"}, "not known"},
		"no client":           {federation.Provider{Type: "OIDC", Details: with(openID, "client_id", "")}, "client_id"},
		"no issuer":           {federation.Provider{Type: "OIDC", Details: with(openID, "oidc_issuer", "")}, "oidc_issuer"},
		"no openid":           {federation.Provider{Type: "OIDC", Details: with(openID, "authorize_scopes", "email")}, "openid"},
		"a method":            {federation.Provider{Type: "OIDC", Details: with(openID, "attributes_request_method", "PUT")}, "GET or POST"},
		"plain HTTP":          {federation.Provider{Type: "OIDC", Details: with(openID, "token_url", "http://id.example/token")}, "https"},
		"a script":            {federation.Provider{Type: "OIDC", Details: with(openID, "authorize_url", "javascript:alert(1)")}, "https"},
		"a user in a URL":     {federation.Provider{Type: "OIDC", Details: with(openID, "oidc_issuer", "https://a:b@id.example")}, "https"},
		"an unknown detail":   {federation.Provider{Type: "OIDC", Details: with(openID, "team_id", "x")}, "team_id"},
		"a long detail":       {federation.Provider{Type: "OIDC", Details: with(openID, "client_id", strings.Repeat("x", 3000))}, "longer"},
		"username by address": {federation.Provider{Type: "OIDC", Details: openID, Mapping: map[string]string{"username": "email"}}, "must be sub"},
		"an empty mapping":    {federation.Provider{Type: "OIDC", Details: openID, Mapping: map[string]string{"email": ""}}, "empty"},
		"groups, no claim":    {federation.Provider{Type: "OIDC", Details: with(openID, "imprint_groups", `{"a":"b"}`)}, "imprint_groups_claim"},
		"a claim, no groups":  {federation.Provider{Type: "OIDC", Details: with(openID, "imprint_groups_claim", "groups")}, "imprint_groups_claim"},
		"groups as a list":    {federation.Provider{Type: "OIDC", Details: with(openID, "imprint_groups_claim", "groups", "imprint_groups", `["a"]`)}, "imprint_groups"},
		"Google, no secret":   {federation.Provider{Type: "Google", Details: with(openID, "client_secret", "")}, "client_secret"},
		"Apple, no key":       {federation.Provider{Type: "SignInWithApple", Details: map[string]string{"client_id": "c", "team_id": "t", "key_id": "k", "authorize_scopes": "email", "private_key": "hello"}}, "private_key"},
		"SAML, nothing":       {federation.Provider{Type: "SAML"}, "either"},
		"SAML, both":          {federation.Provider{Type: "SAML", Details: with(saml, "MetadataFile", "<a/>")}, "either"},
		"SAML begun there":    {federation.Provider{Type: "SAML", Details: with(saml, "IDPInit", "true")}, "IDPInit"},
		"SAML, encrypted":     {federation.Provider{Type: "SAML", Details: with(saml, "EncryptedResponses", "true")}, "EncryptedResponses"},
		"SAML, username":      {federation.Provider{Type: "SAML", Details: saml, Mapping: map[string]string{"username": "mail"}}, "NameID"},
	} {
		if err := federation.Check(&c.p); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s gave %v", name, err)
		}
	}
}

func TestOnlyListedGroupsCount(t *testing.T) {
	t.Parallel()
	p := federation.Provider{Type: "OIDC", Details: with(openID, "imprint_groups_claim", "groups", "imprint_groups", `{"Factory Installers":"installers","cn=leads, ou=x":"leads"}`)}
	if err := federation.Check(&p); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim any
		want  []string
	}{
		{[]any{"Factory Installers", "admins", "installers", 4}, []string{"installers"}},
		{"cn=leads, ou=x", []string{"leads"}},
		{[]string{"cn=leads, ou=x", "Factory Installers", "Factory Installers"}, []string{"leads", "installers"}},
		{nil, nil},
		{map[string]any{"Factory Installers": true}, nil},
	} {
		if got := p.GroupsOf(federation.Identity{Claims: jwt.Claims{"groups": c.claim}}); !slices.Equal(got, c.want) {
			t.Errorf("%v gives %v, not %v", c.claim, got, c.want)
		}
	}
}

func TestTextOfClaims(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim any
		want  string
	}{{"a", "a"}, {true, "true"}, {[]any{"a", "b"}, `["a","b"]`}, {map[string]any{"formatted": "x"}, `{"formatted":"x"}`}, {[]string{"a"}, "a"}} {
		if got, ok := federation.Text(c.claim); got != c.want || !ok {
			t.Errorf("%v is %q", c.claim, got)
		}
	}
}
