package hosted

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

var optionsTag = regexp.MustCompile(`data-passkey="(get|create)" data-options="([^"]*)"`)

// options are what the script would ask the browser for.
func (p *person) options(kind string) []byte {
	p.w.t.Helper()
	m := optionsTag.FindStringSubmatch(p.page)
	if m == nil || m[1] != kind {
		p.w.t.Fatalf("%s asks for no passkey to %s: %q, %q", p.at, kind, p.title(), p.told())
	}
	return []byte(html.UnescapeString(m[2]))
}

// press sends the first form by its second button.
func (p *person) press(pairs ...string) {
	p.w.t.Helper()
	m := regexp.MustCompile(`formaction="([^"]*)"`).FindStringSubmatch(p.page)
	if m == nil {
		p.w.t.Fatalf("%s has no second button:\n%s", p.at, p.page)
	}
	_, values := p.form(0)
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	p.do(http.MethodPost, p.w.server.URL+html.UnescapeString(m[1]), values.Encode())
}

func newPasskeyWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, userpool.Settings{FirstFactors: []string{"PASSWORD", "WEB_AUTHN"}})
	w.client = w.app(userpool.NewClient{Name: "with passkeys", ClientSettings: userpool.ClientSettings{AuthFlows: []string{"ALLOW_USER_AUTH"}}})
	return w
}

const pagesOrigin = "https://iot.lan:8443"

func TestAPersonAddsUsesAndRemovesAPasskey(t *testing.T) {
	t.Parallel()
	w := newPasskeyWorld(t)
	p := w.person()
	p.open("/oauth2/authorize" + w.asks())
	p.press("username", "")
	p.sees("Sign in", "Enter your name")
	p.press("username", "ada", "password", "")
	p.sees("Sign in", "There is no passkey")

	// From the sign-in page to the passkeys and back to what the app has asked for.
	p.open(passkeysPath + w.asks())
	p.sees("Sign in", "")
	p.send("username", "ada", "password", good)
	p.sees("Your passkeys", "")
	a := webauthntest.New(pagesOrigin)
	p.send("credential", string(a.Create(p.options("create"))))
	p.sees("Your passkeys", "")
	if !strings.Contains(p.page, "The passkey was added.") || !strings.Contains(p.page, "Platform passkey, added 1 November 2026 08:00 UTC") {
		t.Fatalf("after adding a passkey the page is\n%s", p.page)
	}
	stale := w.person()
	*stale = *p
	p.send("credential", string(webauthntest.New("https://evil.example").Create(p.options("create"))))
	p.sees("Your passkeys", "the origin is not allowed")
	p.send("credential", "")
	p.sees("Your passkeys", "Credential")
	w.pass(10 * time.Minute)
	p.send("credential", string(webauthntest.New(pagesOrigin).Create(p.options("create"))))
	p.sees("Your passkeys", "Begin again.")
	p.open("/passkeys/back" + w.asks())
	if got := p.returned(); got.Get("code") == "" || got.Get("state") != "a b&c" {
		t.Errorf("the app gets %v", got)
	}

	q := w.person()
	q.open("/login" + w.asks())
	q.press("username", "ada")
	q.sees("Use your passkey", "")
	q.send("credential", string(a.Get(q.options("get"))))
	if got := q.returned(); got.Get("code") == "" {
		t.Errorf("the app gets %v", got)
	}
	q.open("/login" + w.asks())
	q.press("username", "ada")
	wrong := webauthntest.New(pagesOrigin)
	q.send("credential", string(wrong.Get(q.options("get"))))
	q.sees("Sign in", "This passkey was not accepted.")
	q.press("username", "ada")
	a.Origin = "https://evil.example"
	q.send("credential", string(a.Get(q.options("get"))))
	q.sees("Sign in", "the origin is not allowed")

	// An app may send the browser for the passkeys alone, as with AWS, and has it back as it was.
	alone := "?" + url.Values{"client_id": {w.client.ID}, "redirect_uri": {callback}}.Encode()
	p.open(passkeysPath + alone)
	action, values := p.form(1)
	p.do(http.MethodPost, action, values.Encode())
	p.sees("Your passkeys", "")
	if !strings.Contains(p.page, "The passkey was removed.") || strings.Contains(p.page, "Platform passkey") {
		t.Errorf("after removing the passkey the page is\n%s", p.page)
	}
	p.do(http.MethodPost, action, values.Encode())
	p.sees("Your passkeys", "no such passkey")
	p.open("/passkeys/back" + alone)
	if p.left == nil || p.left.String() != callback {
		t.Errorf("the browser is sent to %v", p.left)
	}
	q.open("/login" + w.asks())
	q.press("username", "ada")
	q.sees("Sign in", "There is no passkey")

	w.pass(time.Hour)
	p.open(passkeysPath + alone)
	p.sees("Sign in", "")
	p.do(http.MethodPost, action, values.Encode())
	p.sees("Sign in", "")
}

// TestPasskeysAreShownWhereTheyCanBeUsed: not to clients that do not allow them, nor where the browser would not show them.
func TestPasskeysAreShownWhereTheyCanBeUsed(t *testing.T) {
	t.Parallel()
	w := newPasskeyWorld(t)
	shown := func() bool {
		t.Helper()
		p := w.person()
		p.open("/login" + w.asks())
		p.sees("Sign in", "")
		with := strings.Contains(p.page, "data-passkeys")
		policy := p.header.Get("Content-Security-Policy")
		if with != strings.Contains(policy, "script-src 'self'; ") || with != strings.Contains(p.page, "<script src=") || strings.Contains(policy, "unsafe") {
			t.Errorf("with %v the policy is %s", with, policy)
		}
		return with
	}
	if !shown() {
		t.Error("passkeys are not shown")
	}
	if _, err := w.pools.SetMFA(t.Context(), scope, w.pool.ID, "", nil, &userpool.PasskeySettings{RelyingParty: "app.example"}); err != nil {
		t.Fatal(err)
	}
	if shown() {
		t.Error("passkeys of another site are shown")
	}
	if _, err := w.pools.SetMFA(t.Context(), scope, w.pool.ID, "", nil, &userpool.PasskeySettings{}); err != nil {
		t.Fatal(err)
	}
	mine := w.client
	w.client = w.app(userpool.NewClient{Name: "passwords only"})
	if shown() {
		t.Error("passkeys are shown to a client that does not allow them")
	}
	p := w.person()
	p.open("/login" + w.asks())
	_, values := p.form(0)
	values.Set("username", "ada")
	p.do(http.MethodPost, w.server.URL+"/auth/plant/login/passkey"+w.asks(), values.Encode())
	p.sees("Sign in", "USER_AUTH is not enabled for the client.")
	w.client = mine
	p.open(scriptPath)
	if p.header.Get("Content-Type") != "text/javascript; charset=utf-8" || !strings.Contains(p.page, "navigator.credentials") {
		t.Errorf("the script is %v", p.header)
	}
}

// TestFormsOfPasskeysAreOurs: what another site has sent does nothing.
func TestFormsOfPasskeysAreOurs(t *testing.T) {
	t.Parallel()
	w := newPasskeyWorld(t)
	p := w.person()
	p.open("/login" + w.asks("then", "passkeys"))
	p.send("username", "ada", "password", good)
	a := webauthntest.New(pagesOrigin)
	credential := string(a.Create(p.options("create")))
	for _, path := range []string{passkeysPath, "/passkeys/remove", "/login/passkey", "/login/passkey/answer"} {
		form := url.Values{"credential": {credential}, "username": {"ada"}, "passkey": {"x"}, "token": {"x"}}
		p.do(http.MethodPost, w.server.URL+"/auth/plant"+path+w.asks(), form.Encode())
		if p.status != http.StatusForbidden {
			t.Errorf("%s takes a form of another site: %d %q", path, p.status, p.title())
		}
		p.do(http.MethodPost, w.server.URL+"/auth/plant"+path+w.asks(), form.Encode(), "Sec-Fetch-Site", "cross-site")
		if p.status != http.StatusForbidden {
			t.Errorf("%s takes a form of another origin: %d", path, p.status)
		}
	}
	p.open(passkeysPath + w.asks())
	if strings.Contains(p.page, "Platform passkey") {
		t.Error("a form of another site has added a passkey")
	}
	p.send("credential", credential)
	p.sees("Your passkeys", "")
	var seen []string
	for range 2 { // the passkeys of others are not shown, nor removed
		seen = append(seen, p.page)
		p.open(passkeysPath + w.asks())
	}
	other := w.person()
	if _, err := w.pools.CreateUser(t.Context(), scope, w.pool.ID, userpool.NewUser{Username: "bob", Suppress: true}); err != nil {
		t.Fatal(err)
	}
	noError(t, w.pools.SetPassword(t.Context(), scope, w.pool.ID, "bob", good, true))
	_, removal := p.form(1)
	other.open("/login" + w.asks("then", "passkeys"))
	other.send("username", "bob", "password", good)
	_, own := other.form(0)
	removal.Set("token", own.Get("token"))
	other.do(http.MethodPost, w.server.URL+"/auth/plant/passkeys/remove"+w.asks(), removal.Encode())
	other.sees("Your passkeys", "no such passkey")
	if slices.ContainsFunc(seen, func(page string) bool { return !strings.Contains(page, "Platform passkey") }) {
		t.Error("ada's passkey is gone")
	}
}
