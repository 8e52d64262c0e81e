package hosted

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/userpool"
)

func answerOf(t *testing.T, p *person) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(p.page), &out); err != nil {
		t.Fatalf("%d %s: %v", p.status, p.page, err)
	}
	return out
}

func TestAPersonSignsInAndTheAppGetsTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	p := w.person()
	p.open("/oauth2/authorize" + w.asks("login_hint", "ada"))
	p.sees("Sign in", "")
	if !strings.Contains(p.page, `value="ada"`) {
		t.Error("the hint of the app is not in the page")
	}
	p.send("username", "ada", "password", "wrong")
	p.sees("Sign in", "Incorrect username or password.")
	p.send("username", "ada", "password", good)
	got := p.returned()
	if got.Get("state") != "a b&c" || got.Get("code") == "" || p.status != http.StatusSeeOther {
		t.Fatalf("the app gets %v by %d", got, p.status)
	}

	app := w.person()
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {w.client.ID}, "code": {got.Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	app.call("/oauth2/token", form)
	tokens := answerOf(t, app)
	if app.status != 200 || tokens["token_type"] != "Bearer" || tokens["expires_in"] != 3600.0 || tokens["id_token"] == nil || tokens["refresh_token"] == nil {
		t.Fatalf("%d %v", app.status, tokens)
	}
	if app.header.Get("Access-Control-Allow-Origin") != "*" || app.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", app.header)
	}
	app.do(http.MethodGet, w.server.URL+"/auth/plant/oauth2/userInfo", "", "Authorization", "Bearer "+tokens["access_token"].(string))
	if info := answerOf(t, app); info["username"] != "ada" {
		t.Errorf("userInfo says %v", info)
	}
	app.call("/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {w.client.ID}, "refresh_token": {tokens["refresh_token"].(string)}})
	if again := answerOf(t, app); app.status != 200 || again["refresh_token"] != nil || again["access_token"] == nil {
		t.Errorf("%d %v", app.status, again)
	}
	app.call("/oauth2/revoke", url.Values{"token": {tokens["refresh_token"].(string)}, "client_id": {w.client.ID}})
	if app.status != 200 || app.page != "" {
		t.Errorf("revocation answers %d %s", app.status, app.page)
	}
	app.do(http.MethodGet, w.server.URL+"/auth/plant/oauth2/userInfo", "", "Authorization", "Bearer "+tokens["access_token"].(string))
	if app.status != 401 || !strings.Contains(app.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("a revoked token: %d %v", app.status, app.header)
	}

	// A second request needs no password, unless the app asks for one; nor after an hour, or a sign-out.
	p.open("/oauth2/authorize" + w.asks("redirect_uri", callback+"?x=y"))
	if got := p.returned(); got.Get("code") == "" || got.Get("x") != "y" {
		t.Errorf("the app gets %v", got)
	}
	p.open("/oauth2/authorize" + w.asks("prompt", "login"))
	p.sees("Sign in", "")
	p.send("username", "ada", "password", good)
	p.returned()
	w.pass(time.Hour)
	p.open("/oauth2/authorize" + w.asks("prompt", "none"))
	if got := p.returned(); got.Get("error") != "login_required" || got.Get("state") != "a b&c" {
		t.Errorf("the app gets %v", got)
	}
	p.open("/oauth2/authorize" + w.asks())
	p.sees("Sign in", "")
	p.send("username", "ada", "password", good)
	p.returned()
	p.open("/logout?client_id=" + w.client.ID + "&logout_uri=https://app.example/bye&state=1")
	if p.left == nil || p.left.String() != "https://app.example/bye?state=1" {
		t.Errorf("sign-out leads to %v", p.left)
	}
	p.open("/oauth2/authorize" + w.asks())
	p.sees("Sign in", "")
}

func TestAnAppMayAskForASignInThatIsRecent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	p := w.person()
	p.open("/oauth2/authorize" + w.asks("max_age", "0"))
	p.send("username", "ada", "password", good)
	p.returned() // as recent as can be
	w.pass(time.Minute)
	for age, old := range map[string]bool{"": false, "61": false, "60": false, "59": true, "0": true} {
		p.open("/oauth2/authorize" + w.asks("max_age", age, "prompt", "none"))
		if got := p.returned(); (got.Get("error") == "login_required") != old {
			t.Errorf("max_age=%s: the app gets %v", age, got)
		}
	}
	p.open("/oauth2/authorize" + w.asks("max_age", "59"))
	p.sees("Sign in", "")
	p.send("username", "ada", "password", good)
	p.returned()
	for _, age := range []string{"-1", "1h", "99999999999"} {
		p.open("/oauth2/authorize" + w.asks("max_age", age))
		if got := p.returned(); got.Get("error") != "invalid_request" || got.Get("error_description") != "max_age must be a number of seconds." {
			t.Errorf("max_age=%s: the app gets %v", age, got)
		}
	}
}

func TestTheImplicitFlowAnswersInTheFragment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{})
	p := w.person()
	p.open("/oauth2/authorize" + w.asks("response_type", "token", "code_challenge", "", "code_challenge_method", "", "nonce", "n"))
	p.send("username", "ada", "password", good)
	if p.left == nil || p.left.RawQuery != "" {
		t.Fatalf("the browser is at %v", p.left)
	}
	got := must(url.ParseQuery(p.left.Fragment))(t)
	if got.Get("access_token") == "" || got.Get("id_token") == "" || got.Get("token_type") != "Bearer" || got.Get("expires_in") != "3600" || got.Has("refresh_token") || got.Has("code") {
		t.Errorf("the app gets %v", got)
	}
}

func TestTheLinkOfAMailConfirmsASignUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, userpool.Settings{AutoVerified: []string{"email"}, Verification: userpool.MessageTemplate{ByLink: true}})
	out := must(w.pools.SignUp(t.Context(), userpool.Registration{ClientID: w.client.ID, Username: "bob", Password: good, Attributes: map[string]string{"email": "bob@example.com"}}))(t)
	link := "/confirmUser?client_id=" + w.client.ID + "&user_name=bob&confirmation_code="
	code := <-w.codes
	p := w.person()
	p.open(link + "0" + code)
	p.sees("This did not work", "This code is not right.")
	p.do(http.MethodHead, w.server.URL+"/auth/plant"+link+code, "")
	p.open("/confirmUser?client_id=" + w.client.ID + "&user_name=bob&user_name=ada&confirmation_code=" + code)
	p.sees("This did not work", "is there twice")
	status := func() string { return must(w.pools.User(t.Context(), scope, w.pool.ID, out.Sub))(t).Status }
	if status() != userpool.Unconfirmed {
		t.Fatal("it is confirmed already")
	}
	p.open(link + code)
	p.sees("Account confirmed", "")
	if status() != userpool.Confirmed {
		t.Error("it is not confirmed")
	}
}
