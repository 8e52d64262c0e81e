package hosted

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/federation/federationtest"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// abroad is a world whose pool has providers, which are reached by egress alone. Providers live in the present.
func abroad(t *testing.T, providers ...*federationtest.Code) *world {
	t.Helper()
	roots := x509.NewCertPool()
	var allow []string
	for _, p := range providers {
		roots.AddCert(p.Server.Certificate())
		allow = append(allow, p.Host())
	}
	out := must(egress.New(egress.Config{Allow: allow, Roots: roots}))(t)
	t.Cleanup(out.CloseIdleConnections)
	w := newWorld(t, userpool.Settings{}, func(c *userpool.Config) {
		c.Federation = federation.New(federation.Config{HTTP: out, Tokens: oidc.New(oidc.Config{HTTP: out})})
	})
	w.client = w.app(userpool.NewClient{Name: "app"})
	return w
}

// takes makes a client that takes a provider, which is made too.
func (w *world) takes(name, providerType string, details map[string]string, more ...string) {
	w.t.Helper()
	mapping := map[string]string{"email": "email"}
	if providerType == "SAML" {
		mapping["email"] = "mail"
	}
	must(w.pools.CreateProvider(context.Background(), scope, w.pool.ID, userpool.IdentityProvider{Name: name, Identifiers: []string{strings.ToLower(name) + ".example"},
		Provider: federation.Provider{Type: providerType, Details: details, Mapping: mapping}}))(w.t)
	w.client = w.app(userpool.NewClient{Name: "app", ClientSettings: userpool.ClientSettings{Providers: append([]string{name}, more...)}})
}

// leaves begins a sign-in at a provider and returns where the browser is sent.
func (p *person) leaves(query string) string {
	p.w.t.Helper()
	p.open("/oauth2/authorize" + query)
	if p.left == nil {
		p.w.t.Fatalf("the browser stays at %s: %q, %q", p.at, p.title(), p.told())
	}
	return p.left.String()
}

// comesBack brings an answer from a provider: by a link, or by a form of the provider's page.
func (p *person) comesBack(path string, post bool, answer url.Values) {
	p.w.t.Helper()
	at := p.w.server.URL + "/auth/plant" + path
	if post {
		p.do(http.MethodPost, at, answer.Encode(), "Origin", "https://idp.example", "Sec-Fetch-Site", "cross-site")
		return
	}
	p.do(http.MethodGet, at+"?"+answer.Encode(), "")
}

// tokens trades the code that the browser brought to the app.
func (p *person) tokens() map[string]any {
	p.w.t.Helper()
	q := p.returned()
	if q.Get("code") == "" || q.Get("state") != "a b&c" {
		p.w.t.Fatalf("the app got %v", q)
	}
	p.call("/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {p.w.client.ID}, "code": {q.Get("code")}, "redirect_uri": {callback},
		"code_verifier": {verifier}})
	return answerOf(p.w.t.(*testing.T), p)
}

func TestPeopleSignInAtOtherProviders(t *testing.T) {
	t.Parallel()
	for name, providerType := range map[string]string{"Corp": "OIDC", "Google": "Google", "SignInWithApple": "SignInWithApple", "Facebook": "Facebook", "LoginWithAmazon": "LoginWithAmazon"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := federationtest.NewCode(t, providerType)
			w := abroad(t, idp)
			w.takes(name, providerType, idp.Details())
			p, posts := w.person(), providerType == "SignInWithApple"
			to := p.leaves(w.asks("identity_provider", name))
			for _, c := range p.cookies() {
				if strings.HasPrefix(c.Name, awayPrefix) && (!c.Secure || !c.HttpOnly || (c.SameSite == http.SameSiteNoneMode) != posts || c.MaxAge != 600) {
					t.Errorf("the cookie is %+v", c)
				}
			}
			p.comesBack(callbackPath, posts, idp.Browse(to))
			out := p.tokens()
			u := must(w.pools.User(t.Context(), scope, w.pool.ID, name+"_"+idp.Subject))(t)
			if u.Status != "EXTERNAL_PROVIDER" || u.Attributes["email"] != "ada@example.com" || out["id_token"] == nil {
				t.Errorf("signed in as %+v with %v", u, out)
			}
			// The browser is signed in here as well, and needs the provider no more for an app that names none.
			p.open("/oauth2/authorize" + w.asks())
			if q := p.returned(); q.Get("code") == "" {
				t.Errorf("the app gets %v", q)
			}
			// Who wants a recent sign-in lets the provider ask again, where it can be told to.
			if to := p.leaves(w.asks("identity_provider", name, "max_age", "60")); strings.Contains(to, "prompt=login") != (providerType == "OIDC" || providerType == "Google") {
				t.Errorf("the browser is sent to %s", to)
			}
		})
	}
}

// cookies are those that the last answer set.
func (p *person) cookies() []*http.Cookie { return (&http.Response{Header: p.header}).Cookies() }

// saml makes the pool's SAML provider.
func (w *world) saml() *federationtest.SAML {
	w.t.Helper()
	idp := federationtest.NewSAML(w.t, "https://idp.example/saml")
	w.takes("Plant", "SAML", map[string]string{"MetadataFile": idp.Metadata()})
	return idp
}

func TestPeopleSignInBySAML(t *testing.T) {
	t.Parallel()
	w := abroad(t)
	idp := w.saml()
	p := w.person()
	request := idp.Read(t, p.leaves(w.asks("identity_provider", "Plant")))
	if request.Issuer != "urn:amazon:cognito:sp:"+w.pool.ID || request.ACS != "https://iot.lan:8443/auth/plant/saml2/idpresponse" {
		t.Errorf("the request is %+v", request)
	}
	answer := url.Values{"RelayState": {request.Relay}, "SAMLResponse": {idp.Answer(t, federationtest.SAMLAnswer{Request: request, Subject: "Ada@Plant",
		Attributes: map[string][]string{"mail": {"ada@example.com"}, "padding": {strings.Repeat("x", 100<<10)}}})}}

	another := w.person()
	another.leaves(w.asks("identity_provider", "Plant"))
	another.comesBack("/saml2/idpresponse", true, answer)
	another.sees("This did not work", "begun in another browser")

	p.comesBack("/saml2/idpresponse", true, answer)
	p.tokens()
	if u := must(w.pools.User(t.Context(), scope, w.pool.ID, "plant_ada@plant"))(t); u.Attributes["email"] != "ada@example.com" {
		t.Errorf("signed in as %+v", u)
	}
	p.comesBack("/saml2/idpresponse", true, answer)
	p.sees("This did not work", "begun in another browser")

	// The same answer does not fit another request, even of the same browser.
	again := idp.Read(t, p.leaves(w.asks("identity_provider", "Plant")))
	answer.Set("RelayState", again.Relay)
	p.comesBack("/saml2/idpresponse", true, answer)
	if q := p.returned(); q.Get("error") != "invalid_request" || q.Get("code") != "" {
		t.Errorf("an old answer gives %v", q)
	}
	p.open("/saml2/metadata")
	if p.header.Get("Content-Type") != "application/samlmetadata+xml" || !strings.Contains(p.page, request.ACS) {
		t.Errorf("our metadata is %q", p.page)
	}
}

func TestAnswersThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "OIDC")
	w := abroad(t, idp)
	w.takes("Corp", "OIDC", idp.Details())
	ask := w.asks("identity_provider", "Corp")
	signedIn := func(p *person) bool {
		p.open("/oauth2/authorize" + w.asks("identity_provider", userpool.OwnProvider))
		return p.left != nil && p.left.Query().Get("code") != ""
	}
	for name, bring := range map[string]func(p *person) (answer url.Values, by *person){
		"to a browser that began nothing": func(p *person) (url.Values, *person) { return idp.Browse(p.leaves(ask)), w.person() },
		"to a browser that began another": func(p *person) (url.Values, *person) {
			other := w.person()
			other.leaves(ask)
			return idp.Browse(p.leaves(ask)), other
		},
		"with a state of nobody": func(p *person) (url.Values, *person) {
			answer := idp.Browse(p.leaves(ask))
			answer.Set("state", strings.Repeat("x", 22))
			return answer, p
		},
		"with a state that begins alike": func(p *person) (url.Values, *person) {
			answer := idp.Browse(p.leaves(ask))
			answer.Set("state", answer.Get("state")[:8]+strings.Repeat("x", 14))
			return answer, p
		},
		"with no state": func(p *person) (url.Values, *person) { a := idp.Browse(p.leaves(ask)); a.Del("state"); return a, p },
		"too late": func(p *person) (url.Values, *person) {
			answer := idp.Browse(p.leaves(ask))
			w.pass(11 * time.Minute)
			return answer, p
		},
		"with an address to go to": func(p *person) (url.Values, *person) {
			return url.Values{"redirect_uri": {"https://evil.example"}, "code": {"x"}, "state": {"x"}, "RelayState": {"https://evil.example"}}, p
		},
	} {
		answer, by := bring(w.person())
		by.comesBack(callbackPath, false, answer)
		if by.left != nil || by.status != http.StatusBadRequest {
			t.Errorf("%s: the browser goes to %v, %d", name, by.left, by.status)
		}
		if signedIn(by) {
			t.Errorf("%s: somebody is signed in", name)
		}
	}
}

func TestAnAnswerCountsOnce(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "OIDC")
	w := abroad(t, idp)
	w.takes("Corp", "OIDC", idp.Details())
	p := w.person()
	answer := idp.Browse(p.leaves(w.asks("identity_provider", "Corp")))
	kept := p.cookies() // by somebody who can put a cookie back
	p.comesBack(callbackPath, false, answer)
	p.returned()
	thief := w.person()
	at := must(url.Parse(w.server.URL))(t)
	thief.http.Jar.SetCookies(at, kept)
	thief.comesBack(callbackPath, false, answer)
	if q := thief.returned(); q.Get("error") != "invalid_request" || q.Get("code") != "" {
		t.Errorf("a second use gives %v", q)
	}
}

func TestTheAppHearsWhyNobodySignedIn(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "OIDC")
	w := abroad(t, idp)
	w.takes("Corp", "OIDC", idp.Details())
	ask := w.asks("identity_provider", "Corp")
	hears := func(code, description string) {
		t.Helper()
		p := w.person()
		p.comesBack(callbackPath, false, idp.Browse(p.leaves(ask)))
		if q := p.returned(); q.Get("error") != code || !strings.Contains(q.Get("error_description"), description) || q.Get("state") != "a b&c" {
			t.Errorf("the app hears %v, want %s %q", q, code, description)
		}
	}
	idp.Answer = func(v url.Values) { v.Del("code"); v.Set("error", "access_denied") }
	hears("access_denied", "did not sign you in")
	idp.Answer = func(v url.Values) { v.Set("iss", "https://evil.example") }
	hears("invalid_request", "not of the identity provider that was asked")
	idp.Answer = nil
	p := w.person()
	p.comesBack(callbackPath, false, idp.Browse(p.leaves(ask)))
	p.tokens()
	noError(t, w.pools.EnableUser(t.Context(), scope, w.pool.ID, "corp_"+strings.ToLower(idp.Subject), false))
	hears("invalid_request", "User is disabled.")
	for name, query := range map[string]string{"no such provider": w.asks("identity_provider", "Google"), "no such identifier": w.asks("idp_identifier", "nowhere.example")} {
		p.open("/oauth2/authorize" + query)
		if q := p.returned(); q.Get("error") != "invalid_request" {
			t.Errorf("%s gives %v", name, q)
		}
	}
	noError(t, w.pools.DeleteProvider(t.Context(), scope, w.pool.ID, "Corp"))
	p.open("/oauth2/authorize" + ask)
	if q := p.returned(); q.Get("error") != "invalid_request" {
		t.Errorf("a provider that is gone gives %v", q)
	}
}

func TestWaysToAProvider(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "Google")
	w := abroad(t, idp)
	w.takes("Google", "Google", idp.Details(), userpool.OwnProvider)
	p := w.person()
	p.open("/login" + w.asks())
	p.sees("Sign in", "")
	if !strings.Contains(p.page, "Sign in with Google") || !strings.Contains(p.page, "identity_provider=Google") {
		t.Errorf("the page has no way to Google:\n%s", p.page)
	}
	if to := p.leaves(w.asks("idp_identifier", "google.example", "login_hint", "ada")); !strings.Contains(to, "login_hint=ada") {
		t.Errorf("the browser goes to %s", to)
	}
	p.open("/oauth2/authorize" + w.asks("identity_provider", "Google", "prompt", "none"))
	if q := p.returned(); q.Get("error") != "login_required" {
		t.Errorf("without a question it gives %v", q)
	}
	w.client = w.app(userpool.NewClient{Name: "only", ClientSettings: userpool.ClientSettings{Providers: []string{"Google"}}})
	if to := w.person().leaves(w.asks()); !strings.HasPrefix(to, idp.URL) {
		t.Errorf("the browser goes to %s", to)
	}
	p.open("/oauth2/authorize" + w.asks("identity_provider", "Google", "state", strings.Repeat("x", 4000)))
	if q := p.returned(); q.Get("error") != "invalid_request" || !strings.Contains(q.Get("error_description"), "too long") {
		t.Errorf("a request without measure gives %v", q.Get("error_description"))
	}
	for range 6 { // sign-ins that were given up
		p.leaves(w.asks("identity_provider", "Google"))
	}
	at := must(url.Parse(w.server.URL))(t)
	if n := len(p.http.Jar.Cookies(at)); n > maxAway+1 {
		t.Errorf("the browser has %d cookies", n)
	}
}
