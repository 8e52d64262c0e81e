package federation_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/federation/federationtest"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/oidc/oidctest"
)

var us = federation.Us{Callback: "https://auth.example/oauth2/idpresponse", ACS: "https://auth.example/saml2/idpresponse", EntityID: "urn:amazon:cognito:sp:eu-central-1_Abcdefghi"}

// client reaches the servers and nobody else.
func client(t *testing.T, servers ...*httptest.Server) *federation.Service {
	t.Helper()
	roots := x509.NewCertPool()
	var allow []string
	for _, s := range servers {
		roots.AddCert(s.Certificate())
		allow = append(allow, s.Listener.Addr().String())
	}
	out, err := egress.New(egress.Config{Allow: allow, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.CloseIdleConnections)
	return federation.New(federation.Config{HTTP: out, Tokens: oidc.New(oidc.Config{HTTP: out})})
}

// provider is the stand-in as an administrator describes it, changed by some details.
func provider(t *testing.T, idp *federationtest.Code, change map[string]string) federation.Provider {
	t.Helper()
	p := federation.Provider{Type: idp.Type, Details: idp.Details(), Mapping: map[string]string{"email": "email", "name": "name"}}
	for name, value := range change {
		if p.Details[name] = value; value == "" {
			delete(p.Details, name)
		}
	}
	if err := federation.Check(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// signIn goes to the provider and back.
func signIn(t *testing.T, c *federation.Service, p federation.Provider, idp *federationtest.Code) (federation.Identity, error) {
	t.Helper()
	to, pending, err := c.Begin(t.Context(), p, us, "state-1", federation.Ask{})
	if err != nil {
		return federation.Identity{}, err
	}
	answer := idp.Browse(to)
	if got := answer.Get("state"); got != "state-1" {
		t.Fatalf("the browser brought the state %q", got)
	}
	return c.Finish(t.Context(), p, us, pending, answer)
}

func TestSignInByEachProtocol(t *testing.T) {
	t.Parallel()
	for _, providerType := range []string{"OIDC", "Google", "SignInWithApple", "Facebook", "LoginWithAmazon"} {
		t.Run(providerType, func(t *testing.T) {
			t.Parallel()
			idp := federationtest.NewCode(t, providerType)
			p := provider(t, idp, nil)
			c := client(t, idp.Server)
			if err := c.Resolve(t.Context(), &p); err != nil {
				t.Fatal(err)
			}
			id, err := signIn(t, c, p, idp)
			if err != nil {
				t.Fatal(err)
			}
			if id.Subject != idp.Subject || id.Claims.String("email") != "ada@example.com" || id.Claims.String("name") != "Ada" {
				t.Errorf("signed in as %+v", id)
			}
		})
	}
}

func TestSettingsOfOpenIDConnect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		details map[string]string
		arrange func(*federationtest.Code)
	}{
		"user information by POST": {map[string]string{"attributes_request_method": "POST"}, func(*federationtest.Code) {}},
		"a secret in a header":     {nil, func(i *federationtest.Code) { i.BasicOnly = true }},
		"a secret in the form": {nil, func(i *federationtest.Code) {
			i.Say("token_endpoint_auth_methods_supported", []string{"client_secret_post"})
		}},
		"an answer that names the issuer": {nil, func(i *federationtest.Code) {
			i.Say("authorization_response_iss_parameter_supported", true)
			i.Answer = func(v url.Values) { v.Set("iss", i.URL) }
		}},
		"no user information": {nil, func(i *federationtest.Code) {
			i.Say("userinfo_endpoint", nil)
			i.Bend = func(c oidctest.Claims) { c["email"] = "ada@example.com" }
		}},
		"a party among several audiences": {nil, func(i *federationtest.Code) {
			i.Bend = func(c oidctest.Claims) { c["aud"], c["azp"] = []string{"other", i.Client}, i.Client }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := federationtest.NewCode(t, "OIDC")
			c.arrange(idp)
			id, err := signIn(t, client(t, idp.Server), provider(t, idp, c.details), idp)
			if err != nil || id.Claims.String("email") != "ada@example.com" {
				t.Errorf("signed in as %+v, %v", id, err)
			}
		})
	}
}

func TestEndpointsThatAreGivenNeedNoDiscovery(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "OIDC")
	p := provider(t, idp, map[string]string{"authorize_url": idp.URL + "/authorize", "token_url": idp.URL + "/token", "jwks_uri": idp.URL + "/keys",
		"attributes_url": idp.URL + "/userinfo"})
	if _, err := signIn(t, client(t, idp.Server), p, idp); err != nil {
		t.Fatal(err)
	}
	if n := idp.Discovery.Load(); n != 0 {
		t.Errorf("asked %d times for the discovery document", n)
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	stranger := oidctest.EC(t, "first") // by the id of the provider's key
	bend := func(change func(oidctest.Claims)) func(*federationtest.Code) {
		return func(i *federationtest.Code) { i.Bend = change }
	}
	past := func(name string, by time.Duration) func(oidctest.Claims) {
		return func(c oidctest.Claims) { c[name] = time.Now().Add(by).Unix() }
	}
	for name, arrange := range map[string]func(*federationtest.Code){
		"wrong audience":  bend(func(c oidctest.Claims) { c["aud"] = "other" }),
		"wrong party":     bend(func(c oidctest.Claims) { c["azp"] = "other" }),
		"wrong issuer":    bend(func(c oidctest.Claims) { c["iss"] = "https://evil.example" }),
		"wrong nonce":     bend(func(c oidctest.Claims) { c["nonce"] = "other" }),
		"no nonce":        bend(func(c oidctest.Claims) { delete(c, "nonce") }),
		"no subject":      bend(func(c oidctest.Claims) { delete(c, "sub") }),
		"expired":         bend(past("exp", -time.Hour)),
		"not yet valid":   bend(past("nbf", time.Hour)),
		"issued later":    bend(past("iat", time.Hour)),
		"an access token": bend(func(c oidctest.Claims) { c["token_use"] = "access" }),
		"another key": func(i *federationtest.Code) {
			i.Sign = func(t testing.TB, c oidctest.Claims) string { return stranger.Sign(t, nil, c) }
		},
		"algorithm none": func(i *federationtest.Code) {
			i.Sign = func(t testing.TB, c oidctest.Claims) string {
				return oidctest.Raw(t, oidctest.Claims{"alg": "none"}, c, nil)
			}
		},
		"another person's": func(i *federationtest.Code) { i.UserInfo = func(c oidctest.Claims) { c["sub"] = "somebody else" } },
		"a mix-up":         func(i *federationtest.Code) { i.Answer = func(v url.Values) { v.Set("iss", "https://evil.example") } },
		"a promised iss that is not there": func(i *federationtest.Code) {
			i.Say("authorization_response_iss_parameter_supported", true)
		},
		"two codes":        func(i *federationtest.Code) { i.Answer = func(v url.Values) { v.Add("code", "second") } },
		"no code":          func(i *federationtest.Code) { i.Answer = func(v url.Values) { v.Del("code") } },
		"a code of nobody": func(i *federationtest.Code) { i.Answer = func(v url.Values) { v.Set("code", "guess") } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := federationtest.NewCode(t, "OIDC")
			arrange(idp)
			id, err := signIn(t, client(t, idp.Server), provider(t, idp, nil), idp)
			var e *federation.Error
			if !errors.As(err, &e) || e.Fault != federation.Refused || id.Subject != "" {
				t.Errorf("signed in as %+v, %v", id, err)
			}
		})
	}
}

func TestAProviderThatSaysNo(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{"access_denied": "access_denied", "<script>": "server_error"} {
		idp := federationtest.NewCode(t, "OIDC")
		idp.Answer = func(v url.Values) { v.Del("code"); v.Set("error", said) }
		_, err := signIn(t, client(t, idp.Server), provider(t, idp, nil), idp)
		var e *federation.Error
		if !errors.As(err, &e) || e.Fault != federation.Denied || e.Code != want || strings.Contains(err.Error(), "<") {
			t.Errorf("%s gave %v", said, err)
		}
	}
}

func TestTroubleIsToldApart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		want   federation.Fault
	}{
		"down":               {503, "", federation.Unavailable},
		"a wrong secret":     {401, `{"error":"invalid_client","error_description":"no"}`, federation.Setup},
		"no JSON":            {200, "hello", federation.Setup},
		"no token":           {200, "{}", federation.Refused},
		"another token type": {200, `{"access_token":"a","token_type":"mac"}`, federation.Refused},
		"no Id token":        {200, `{"access_token":"a","token_type":"bearer"}`, federation.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := federationtest.NewCode(t, "OIDC")
			serve := idp.Serve
			idp.Serve = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/realm/token" {
					return serve(w, r)
				}
				w.WriteHeader(c.status)
				w.Write([]byte(c.body))
				return true
			}
			_, err := signIn(t, client(t, idp.Server), provider(t, idp, nil), idp)
			var e *federation.Error
			if !errors.As(err, &e) || e.Fault != c.want || strings.Contains(err.Error(), idp.Secret) {
				t.Errorf("gave %v", err)
			}
		})
	}
}

// A provider cannot make us call into our own network.
func TestCallsStayOutside(t *testing.T) {
	t.Parallel()
	idp, inside := federationtest.NewCode(t, "OIDC"), httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(inside.Close)
	idp.Say("token_endpoint", inside.URL+"/token")
	_, err := signIn(t, client(t, idp.Server), provider(t, idp, nil), idp)
	var e *federation.Error
	if !errors.As(err, &e) || e.Fault != federation.Unavailable || !errors.Is(err, egress.ErrRefused) {
		t.Errorf("gave %v", err)
	}
}

func TestAppleNamesComeOfTheForm(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "SignInWithApple")
	idp.User = `{"name":{"firstName":"Ada","lastName":"Lovelace"},"email":"root@example.com"}`
	id, err := signIn(t, client(t, idp.Server), provider(t, idp, nil), idp)
	if err != nil {
		t.Fatal(err)
	}
	if id.Claims.String("firstName") != "Ada" || id.Claims.String("lastName") != "Lovelace" || id.Claims.String("email") != "ada@example.com" {
		t.Errorf("signed in as %v", id.Claims)
	}
}

func TestTokensAreMappedWhereAsked(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "OIDC")
	p := provider(t, idp, nil)
	c := client(t, idp.Server)
	if id, err := signIn(t, c, p, idp); err != nil || id.Claims["access_token"] != nil {
		t.Errorf("the access token is among the claims %v, %v", id.Claims, err)
	}
	p.Mapping["custom:token"] = "access_token"
	if id, err := signIn(t, c, p, idp); err != nil || id.Claims.String("access_token") == "" {
		t.Errorf("the access token is not among the claims %v, %v", id.Claims, err)
	}
}

func TestSAML(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewSAML(t, "https://idp.example/saml")
	asked := 0
	down := false
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte(idp.Metadata()))
	}))
	t.Cleanup(server.Close)
	c := client(t, server)
	for name, details := range map[string]map[string]string{"by file": {"MetadataFile": idp.Metadata()}, "by URL": {"MetadataURL": server.URL + "/metadata"}} {
		p := federation.Provider{Type: "SAML", Details: details, Mapping: map[string]string{"email": "mail"}}
		if err := federation.Check(&p); err != nil {
			t.Fatal(name, err)
		}
		if err := c.Resolve(t.Context(), &p); err != nil {
			t.Fatal(name, err)
		}
		if p.Details["SSORedirectBindingURI"] != idp.SSO || p.Details["SLORedirectBindingURI"] != idp.EntityID+"/slo" {
			t.Errorf("%s: the details are %v", name, p.Details)
		}
		down = name == "by URL" // what is known does
		to, pending, err := c.Begin(t.Context(), p, us, "state-1", federation.Ask{})
		if err != nil {
			t.Fatal(name, err)
		}
		request := idp.Read(t, to)
		if request.Relay != "state-1" || request.Issuer != us.EntityID || request.ACS != us.ACS {
			t.Errorf("%s: the request is %+v", name, request)
		}
		answer := url.Values{"SAMLResponse": {idp.Answer(t, federationtest.SAMLAnswer{Request: request, Subject: "ada", Attributes: map[string][]string{"mail": {"ada@example.com"}, "groups": {"a", "b"}}})}}
		id, err := c.Finish(t.Context(), p, us, pending, answer)
		if err != nil || id.Subject != "ada" || id.Once == "" || id.Issuer != idp.EntityID {
			t.Errorf("%s: signed in as %+v, %v", name, id, err)
		}
		if text, _ := federation.Text(id.Claims["mail"]); text != "ada@example.com" {
			t.Errorf("the address is %q", text)
		}
		if text, _ := federation.Text(id.Claims["groups"]); text != "[a, b]" {
			t.Errorf("the groups are %q", text)
		}
		_, err = c.Finish(t.Context(), p, us, federation.Pending{Request: "other"}, answer)
		var e *federation.Error
		if !errors.As(err, &e) || e.Fault != federation.Refused {
			t.Errorf("%s: the answer to another request gave %v", name, err)
		}
	}
	if asked != 1 {
		t.Errorf("the metadata was fetched %d times", asked)
	}
}

// What a URL of metadata answers is kept, but not what is none, and not without end: whoever may name providers may name any number of URLs.
func TestSAMLMetadataIsKeptWithinBounds(t *testing.T) {
	t.Parallel()
	good := federationtest.NewSAML(t, "https://idp.example/saml").Metadata()
	doc, asked := "<html/>", map[string]int{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		io.WriteString(w, doc)
	}))
	t.Cleanup(server.Close)
	c := client(t, server)
	resolve := func(path string) error {
		p := federation.Provider{Type: "SAML", Details: map[string]string{"MetadataURL": server.URL + path}}
		return c.Resolve(t.Context(), &p)
	}
	var e *federation.Error
	if err := resolve("/mended"); !errors.As(err, &e) || e.Fault != federation.Setup {
		t.Errorf("a page in place of metadata: %v", err)
	}
	doc = good + "<!--" + strings.Repeat("x", 900<<10) + "-->"
	if err := resolve("/mended"); err != nil || asked["/mended"] != 2 {
		t.Errorf("mended since: %v, asked for %d times", err, asked["/mended"])
	}
	for i := range 40 {
		if err := resolve(fmt.Sprint("/", i)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{"/39": 1, "/mended": 3} { // the one is kept, the other had to go
		if err := resolve(path); err != nil || asked[path] != want {
			t.Errorf("%s: %v, asked for %d times, want %d", path, err, asked[path], want)
		}
	}
}

func TestBeginSaysWhatTheApplicationAsks(t *testing.T) {
	t.Parallel()
	idp := federationtest.NewCode(t, "OIDC")
	to, pending, err := client(t, idp.Server).Begin(context.Background(), provider(t, idp, nil), us, "s", federation.Ask{LoginHint: "ada", Prompt: "login"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("login_hint") != "ada" || q.Get("prompt") != "login" || q.Get("code_challenge_method") != "S256" || len(pending.Verifier) < 43 || q.Get("redirect_uri") != us.Callback {
		t.Errorf("the redirect is %s", to)
	}
}
