package hosted

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/userpool"
)

// TestNobodyIsSentWhereTheClientDidNotSay: open redirect.
func TestNobodyIsSentWhereTheClientDidNotSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	other := w.app(userpool.NewClient{Name: "other"})
	signedIn := w.person()
	signedIn.open("/login" + w.asks())
	signedIn.send("username", "ada", "password", good)
	signedIn.returned()
	for _, to := range []string{"https://evil.example/", "//evil.example/", "https://app.example.evil.example/back", "https://app.example/back/", "https://app.example/back#x",
		"https://app.example/back?code=x", "https://app.example@evil.example/back", "https://app.example/back%0d%0aLocation:https://evil.example", "javascript:alert(1)",
		"/auth/plant/login", "HTTPS://APP.EXAMPLE/BACK", "https://app.example:443/back", "https://app.example/./back"} {
		for _, path := range []string{"/oauth2/authorize", "/login", "/signup", "/forgotPassword", "/confirmUser"} {
			signedIn.open(path + w.asks("redirect_uri", to))
			if signedIn.left != nil || signedIn.status != 400 || strings.Contains(signedIn.page, `href="`+to) {
				t.Errorf("%s to %s: %d, leads to %v", path, to, signedIn.status, signedIn.left)
			}
		}
		signedIn.open("/logout?" + url.Values{"client_id": {w.client.ID}, "logout_uri": {to}}.Encode())
		if signedIn.left != nil || signedIn.status != 400 {
			t.Errorf("sign-out to %s: %d, leads to %v", to, signedIn.status, signedIn.left)
		}
		signedIn.open("/logout?" + url.Values{"client_id": {w.client.ID}, "redirect_uri": {to}, "response_type": {"code"}}.Encode())
		if signedIn.left != nil || signedIn.status != 400 {
			t.Errorf("sign-out and in to %s: %d, leads to %v", to, signedIn.status, signedIn.left)
		}
	}
	// A parameter that is there twice may be read differently by two readers.
	signedIn.open("/oauth2/authorize" + w.asks() + "&redirect_uri=https%3A%2F%2Fevil.example%2F")
	if signedIn.left != nil || signedIn.status != 400 {
		t.Errorf("two addresses: %d, %v", signedIn.status, signedIn.left)
	}
	// What went wrong is told to the app, and only where the app may be told.
	signedIn.open("/oauth2/authorize" + w.asks("scope", "nothing", "client_id", other.ID))
	if got := signedIn.returned(); got.Get("error") != "invalid_scope" || got.Get("state") != "a b&c" {
		t.Errorf("the app gets %v", got)
	}
}

// TestAFormOfAnotherSiteDoesNothing: cross-site request forgery, sign-in as the attacker included.
func TestAFormOfAnotherSiteDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{AutoVerified: []string{"email"}})
	attacker, victim := w.person(), w.person()
	attacker.open("/login" + w.asks())
	action, values := attacker.form(0) // with a token that is good in the attacker's browser
	values.Set("username", "ada")
	values.Set("password", good)
	victim.open("/login" + w.asks())
	victim.do(http.MethodPost, action, values.Encode())
	victim.sees("Sign in", "keeps no cookies")
	if victim.status != http.StatusForbidden {
		t.Errorf("status %d", victim.status)
	}
	values.Del("token")
	victim.do(http.MethodPost, action, values.Encode())
	victim.sees("Sign in", "keeps no cookies")

	_, own := victim.form(0) // even the victim's own token is no good from elsewhere
	own.Set("username", "ada")
	own.Set("password", good)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		victim.do(http.MethodPost, action, own.Encode(), header...)
		if victim.status != http.StatusForbidden || victim.left != nil {
			t.Errorf("%v: %d, %v", header, victim.status, victim.left)
		}
	}
	for _, path := range []string{"/signup", "/confirmUser", "/resendcode", "/forgotPassword", "/confirmForgotPassword", "/login/password", "/login/code", "/login/setup"} {
		victim.do(http.MethodPost, w.server.URL+"/auth/plant"+path+w.asks(), "username=eve&password="+url.QueryEscape(good)+"&attribute.email=eve%40example.com&code=000000&session=x")
		if victim.status != http.StatusForbidden {
			t.Errorf("%s without a token: %d %s", path, victim.status, victim.page)
		}
	}
	if len(w.codes) > 0 {
		t.Error("something was sent")
	}
	// A form in another encoding, as a script or a form of text could send it.
	victim.do(http.MethodPost, action, own.Encode(), "Content-Type", "text/plain")
	if victim.status != 400 {
		t.Errorf("text/plain: %d", victim.status)
	}
	// And with all as it should be it works.
	victim.do(http.MethodPost, action, own.Encode(), "Sec-Fetch-Site", "same-origin")
	victim.returned()
}

// TestACookieThatWasKnownBeforeIsNoSession: session fixation.
func TestACookieThatWasKnownBeforeIsNoSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	p := w.person()
	p.open("/login" + w.asks())
	address := must(url.Parse(p.at))(t)
	before := p.http.Jar.Cookies(address)[0].Value
	p.send("username", "ada", "password", good)
	p.returned()
	after := p.http.Jar.Cookies(address)[0].Value
	if before == after {
		t.Error("the cookie is the same as before the sign-in")
	}
	set := p.header.Get("Set-Cookie")
	for _, want := range []string{"__Host-imprint-" + w.pool.ID + "=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax", "Max-Age=3600"} {
		if !strings.Contains(set, want) {
			t.Errorf("the cookie %q lacks %s", set, want)
		}
	}
	if strings.Contains(set, "Domain") {
		t.Errorf("the cookie %q goes to other hosts", set)
	}
	thief := w.person()
	thief.http.Jar.SetCookies(address, []*http.Cookie{{Name: "__Host-imprint-" + w.pool.ID, Value: before, Path: "/", Secure: true}})
	thief.open("/oauth2/authorize" + w.asks())
	thief.sees("Sign in", "")
	// Who signs out ends it in every copy of the cookie.
	thief.http.Jar.SetCookies(address, []*http.Cookie{{Name: "__Host-imprint-" + w.pool.ID, Value: after, Path: "/", Secure: true}})
	p.open("/logout?client_id=" + w.client.ID)
	p.sees("Signed out", "")
	thief.open("/oauth2/authorize" + w.asks())
	thief.sees("Sign in", "")
}

// TestPagesAreForNoFrameAndNoScript: clickjacking, injected markup, caches, referrers.
func TestPagesAreForNoFrameAndNoScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	p := w.person()
	for _, path := range []string{"/login", "/signup", "/forgotPassword", "/confirmUser", "/oauth2/authorize", "/logout", "/nothing"} {
		p.open(path + w.asks("login_hint", `"><script>alert(1)</script>`, "state", `"><script>`))
		csp := p.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "script-src") || strings.Contains(csp, "unsafe") || strings.Contains(p.page, "<script") {
			t.Errorf("%s may run scripts: %s\n%s", path, csp, p.page)
		}
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
			"Access-Control-Allow-Origin": ""} {
			if got := p.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		p.do(http.MethodOptions, w.server.URL+"/auth/plant"+path, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
		if p.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s answers a preflight", path)
		}
	}
	p.do(http.MethodOptions, w.server.URL+"/auth/plant/oauth2/token", "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-amz-user-agent")
	if p.status != http.StatusNoContent || p.header.Get("Access-Control-Allow-Origin") != "*" || p.header.Get("Access-Control-Allow-Headers") != "x-amz-user-agent" {
		t.Errorf("the preflight of the token endpoint: %d %v", p.status, p.header)
	}
}

func TestTheTokenEndpointSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	secret := w.app(userpool.NewClient{Name: "web", GenerateSecret: true})
	app := w.person()
	for name, x := range map[string]struct {
		form   url.Values
		header []string
		status int
		code   string
	}{
		"nothing":             {url.Values{}, nil, 400, "invalid_client"},
		"an unknown client":   {url.Values{"client_id": {"nobody"}, "grant_type": {"authorization_code"}, "code": {"x"}}, nil, 400, "invalid_client"},
		"no secret":           {url.Values{"client_id": {secret.ID}, "grant_type": {"authorization_code"}, "code": {"x"}}, nil, 400, "invalid_client"},
		"a secret where none": {url.Values{"client_id": {w.client.ID}, "client_secret": {"x"}, "grant_type": {"authorization_code"}, "code": {"x"}}, nil, 400, "invalid_client"},
		"a garbled header":    {url.Values{"grant_type": {"authorization_code"}}, []string{"Authorization", "Basic !"}, 400, "invalid_request"},
		"no grant":            {url.Values{"client_id": {w.client.ID}}, nil, 400, "invalid_request"},
		"an unknown grant":    {url.Values{"client_id": {w.client.ID}, "grant_type": {"password"}}, nil, 400, "unsupported_grant_type"},
		"no code":             {url.Values{"client_id": {w.client.ID}, "grant_type": {"authorization_code"}}, nil, 400, "invalid_request"},
		"an unknown code":     {url.Values{"client_id": {w.client.ID}, "grant_type": {"authorization_code"}, "code": {"x"}}, nil, 400, "invalid_grant"},
		"an unknown token":    {url.Values{"client_id": {w.client.ID}, "grant_type": {"refresh_token"}, "refresh_token": {"x"}}, nil, 400, "invalid_grant"},
		"a flow not allowed":  {url.Values{"client_id": {w.client.ID}, "grant_type": {"client_credentials"}}, nil, 400, "unauthorized_client"},
		"another encoding":    {url.Values{"client_id": {w.client.ID}}, []string{"Content-Type", "application/json"}, 400, "invalid_request"},
	} {
		app.call("/oauth2/token", x.form, x.header...)
		if got := answerOf(t, app); app.status != x.status || got["error"] != x.code {
			t.Errorf("%s: %d %v, want %d %s", name, app.status, got, x.status, x.code)
		}
	}
	app.do(http.MethodPost, w.server.URL+"/auth/plant/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "code": {"x"}}.Encode(),
		"Authorization", "Basic "+basic(secret.ID, secret.Secret.Reveal()))
	if got := answerOf(t, app); got["error"] != "invalid_grant" {
		t.Errorf("a client by header: %v", got)
	}
	app.do(http.MethodGet, w.server.URL+"/auth/plant/oauth2/token", "")
	if app.status != http.StatusMethodNotAllowed || app.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d", app.status)
	}
	app.call("/oauth2/revoke", url.Values{"token": {"x"}, "client_id": {secret.ID}})
	if got := answerOf(t, app); app.status != 401 || got["error"] != "invalid_client" {
		t.Errorf("revocation without the secret: %d %v", app.status, got)
	}
	app.do(http.MethodGet, w.server.URL+"/auth/plant/oauth2/userInfo", "")
	if app.status != 400 || app.header.Get("WWW-Authenticate") == "" {
		t.Errorf("userInfo without a token: %d", app.status)
	}
}

func TestALookIsOnThePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	css := ".submitButton-customizable{background-color:#123456;}"
	png := append([]byte("\x89PNG\r\n\x1a\n"), "rest"...)
	must(w.pools.SetLook(t.Context(), scope, w.pool.ID, "", &css, png))(t)
	p := w.person()
	p.open("/login" + w.asks())
	for _, kind := range []string{"look.css", "logo"} {
		_, rest, found := strings.Cut(p.page, "/auth/plant/oauth2/assets/"+kind)
		if !found {
			t.Fatalf("the page has no %s:\n%s", kind, p.page)
		}
		address, _, _ := strings.Cut(rest, `"`)
		q := w.person()
		q.open("/oauth2/assets/" + kind + strings.ReplaceAll(address, "&amp;", "&"))
		if q.status != 200 || kind == "look.css" && !strings.Contains(q.page, "#123456") || kind == "logo" && q.header.Get("Content-Type") != "image/png" {
			t.Errorf("%s: %d %v %q", kind, q.status, q.header, q.page)
		}
	}
	p.open("/oauth2/assets/style.css")
	if p.status != 200 || !strings.HasPrefix(p.header.Get("Content-Type"), "text/css") {
		t.Errorf("the style sheet: %d %v", p.status, p.header)
	}
}

// TestPagesDoNotTellWhoExists: whoever enters names there sees the same pages for somebody's as for nobody's.
func TestPagesDoNotTellWhoExists(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t, userpool.Settings{AutoVerified: []string{"email"}})
	const known, unknown = "zed-1", "zed-2"
	must(w.pools.CreateUser(ctx, scope, w.pool.ID, userpool.NewUser{Username: known, Suppress: true,
		Attributes: map[string]string{"email": "a@example.com", "email_verified": "true"}}))(t)
	noError(t, w.pools.SetPassword(ctx, scope, w.pool.ID, known, good, true))
	destination := regexp.MustCompile(`[a-z]\*\*\*@[a-z]\*\*\*`)
	p := w.person()
	seen := func(name string) string {
		page := destination.ReplaceAllString(strings.ReplaceAll(p.page, name, "NAME"), "ADDRESS")
		return strconv.Itoa(p.status) + "\n" + page
	}
	for range 7 { // more than an hour allows
		for what, do := range map[string]func(name string) string{
			"login": func(name string) string {
				p.open("/login" + w.asks())
				p.send("username", name, "password", "wrong")
				return seen(name)
			},
			"forgotPassword": func(name string) string {
				p.open("/forgotPassword" + w.asks())
				p.send("username", name)
				return seen(name)
			},
			"confirmForgotPassword": func(name string) string {
				p.open("/forgotPassword" + w.asks())
				p.send("username", name)
				if p.title() == "Set a new password" {
					p.send("code", "x", "password", good)
				}
				return seen(name)
			},
		} {
			if a, b := do(known), do(unknown); a != b {
				t.Fatalf("%s tells who exists: somebody gets\n%s\nand nobody\n%s", what, a, b)
			}
		}
	}
}
