package userpool

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// forge signs claims with a key of the pool.
func (w *world) forge(p *Pool, base jwt.Claims, change func(jwt.Claims)) string {
	w.t.Helper()
	keys := must(w.poolKeys(w.t.Context(), p.Scope, p.ID))(w.t)
	c := maps.Clone(base)
	change(c)
	return must(jwt.Sign(keys.id.private, keys.id.kid, c))(w.t)
}

func TestIDTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p, q := w.pool(Settings{}), w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	tokens := w.tokens(app, "ada")
	base := claims(t, tokens.ID)
	must(w.VerifyIDToken(ctx, scope, p.ID, tokens.ID.Reveal()))(t)
	now := strconv.FormatInt(w.clock().Unix(), 10)
	parts := strings.Split(tokens.ID.Reveal(), ".")
	for name, c := range map[string]struct{ token, text string }{
		"no token":                {"x", "Not a valid OpenId Connect identity token."},
		"tampered payload":        {parts[0] + "." + parts[1][:len(parts[1])-4] + "." + parts[2], ""},
		"tampered signature":      {tokens.ID.Reveal()[:len(tokens.ID)-8] + "AAAAAAAA", "Token signature invalid."},
		"access token":            {tokens.Access.Reveal(), "Missing a required claim: aud"},
		"another issuer":          {w.forge(p, base, func(c jwt.Claims) { c["iss"] = "https://evil/" + p.ID }), "Issuer doesn't match providerName"},
		"another pool's key":      {w.forge(q, base, func(jwt.Claims) {}), ""},
		"expired":                 {w.forge(p, base, func(c jwt.Claims) { c["exp"] = w.clock().Unix() }), "Token expired: " + now + " >= " + now},
		"without end":             {w.forge(p, base, func(c jwt.Claims) { delete(c, "exp") }), "Not a valid OpenId Connect identity token."},
		"of another use":          {w.forge(p, base, func(c jwt.Claims) { c["token_use"] = "access" }), "Not a valid OpenId Connect identity token."},
		"of a user who is not":    {w.forge(p, base, func(c jwt.Claims) { c["sub"] = fleet.NewUUID() }), "The user of this token does not exist any more."},
		"of a stranger's sign-in": {w.forge(p, base, func(c jwt.Claims) { c["origin_jti"] = fleet.NewUUID() }), "Token has been revoked."},
	} {
		_, err := w.VerifyIDToken(ctx, scope, p.ID, c.token)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantError(t, err, "NotAuthorizedException", c.text)
	}
	_, err := w.VerifyIDToken(ctx, scope, q.ID, tokens.ID.Reveal())
	wantError(t, err, "NotAuthorizedException", "Issuer doesn't match providerName")
	_, err = w.VerifyIDToken(ctx, fleet.Scope{Account: "111111111111", Region: "us-east-1"}, p.ID, tokens.ID.Reveal())
	wantError(t, err, "ResourceNotFoundException", "")
}

func TestTokensEndWithTheirClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	w.user(p, "ada", nil)
	for _, settings := range []ClientSettings{{}, {NoRevocation: true}} {
		app := w.client(p, settings)
		tokens := w.tokens(app, "ada")
		claims := must(w.VerifyIDToken(ctx, scope, p.ID, tokens.ID.Reveal()))(t)
		must(w.Self(ctx, tokens.Access))(t)
		ok(t, w.DeleteClient(ctx, scope, p.ID, app.ID))
		_, err := w.VerifyIDToken(ctx, scope, p.ID, tokens.ID.Reveal())
		wantError(t, err, "NotAuthorizedException", "The app client of this token does not exist any more.")
		wantError(t, w.StillHold(ctx, scope, p.ID, claims), "NotAuthorizedException", "")
		_, err = w.Self(ctx, tokens.Access)
		wantError(t, err, "NotAuthorizedException", "Invalid Access Token")
	}
}

func TestAnOldTokenGivesNoRoleBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	u := w.user(p, "ada", nil)
	role := func(name string) string { return "arn:aws:iam::000000000000:role/" + name }
	for i, name := range []string{"a", "b"} {
		must(w.CreateGroup(ctx, scope, p.ID, Group{Name: name, RoleARN: role(name), Precedence: new(i)}))(t)
		ok(t, w.AddToGroup(ctx, scope, p.ID, "ada", name))
	}
	token := w.tokens(app, "ada").ID.Reveal()
	check := func(groups, roles, preferred string) {
		t.Helper()
		c := must(w.VerifyIDToken(ctx, scope, p.ID, token))(t)
		if got := strings.Join(c.Strings("cognito:groups"), " "); got != groups {
			t.Errorf("groups %q, want %q", got, groups)
		}
		if got := strings.Join(c.Strings("cognito:roles"), " "); got != roles {
			t.Errorf("roles %q, want %q", got, roles)
		}
		if got := c.String("cognito:preferred_role"); got != preferred {
			t.Errorf("preferred role %q, want %q", got, preferred)
		}
	}
	check("a b", role("a")+" "+role("b"), role("a"))
	issued := w.clock()
	w.pass(time.Second)
	ok(t, w.RemoveFromGroup(ctx, scope, p.ID, "ada", "a"))
	check("b", role("b"), "")
	if !w.cutOff(p, u.Sub, issued) {
		t.Error("leaving a group leaves credentials alive")
	}
	w.pass(time.Second)
	issued = w.clock()
	w.pass(time.Second)
	must(w.UpdateGroup(ctx, scope, p.ID, "b", GroupChange{Description: new("same role")}))(t)
	if w.cutOff(p, u.Sub, issued) {
		t.Error("a new description cuts nobody off")
	}
	must(w.UpdateGroup(ctx, scope, p.ID, "b", GroupChange{RoleARN: new(role("c"))}))(t)
	check("b", "", "")
	if !w.cutOff(p, u.Sub, issued) {
		t.Error("a group's new role leaves credentials of the old one alive")
	}
	w.pass(time.Second)
	issued = w.clock()
	w.pass(time.Second)
	ok(t, w.DeleteGroup(ctx, scope, p.ID, "b"))
	check("", "", "")
	if !w.cutOff(p, u.Sub, issued) {
		t.Error("a deleted group leaves credentials alive")
	}
}

func TestAccessTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app, doomed := w.client(p, ClientSettings{}), w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	tokens, orphan := w.tokens(app, "ada"), w.tokens(doomed, "ada")
	base := claims(t, tokens.Access)
	if who, err := w.authenticate(ctx, tokens.Access); err != nil || who.pool.Scope != scope || who.pool.ID != p.ID || who.user.Username != "ada" {
		t.Fatalf("%+v %v", who, err)
	}
	refused := func(token, code, text string) {
		t.Helper()
		_, err := w.Self(ctx, fleet.Secret(token))
		wantError(t, err, code, text)
	}
	garbage := "Invalid Access Token"
	refused("x", "NotAuthorizedException", garbage)
	refused(tokens.ID.Reveal(), "NotAuthorizedException", garbage)
	refused(tokens.Access.Reveal()[:len(tokens.Access)-8]+"AAAAAAAA", "NotAuthorizedException", garbage)
	refused(w.forge(p, base, func(c jwt.Claims) { c["iss"] = "https://evil/" + p.ID }), "NotAuthorizedException", garbage)
	refused(w.forge(p, base, func(c jwt.Claims) { c["iss"] = c.String("iss") + "x" }), "NotAuthorizedException", garbage)
	refused(w.forge(p, base, func(c jwt.Claims) { c["client_id"] = "nobody" }), "NotAuthorizedException", garbage)
	refused(w.forge(p, base, func(c jwt.Claims) { c["scope"] = "openid" }), "NotAuthorizedException", "Access Token does not have required scopes")
	ok(t, w.DeleteClient(ctx, scope, p.ID, doomed.ID))
	refused(orphan.Access.Reveal(), "NotAuthorizedException", garbage)
	w.pass(time.Hour)
	refused(tokens.Access.Reveal(), "NotAuthorizedException", "Access Token has expired")
	fresh := w.tokens(app, "ada").Access.Reveal()
	ok(t, w.ResetPassword(ctx, scope, p.ID, "ada"))
	refused(fresh, "PasswordResetRequiredException", "Password reset required for the user")
	ok(t, w.EnableUser(ctx, scope, p.ID, "ada", false))
	refused(fresh, "NotAuthorizedException", "User is disabled.")
	ok(t, w.DeleteUser(ctx, scope, p.ID, "ada"))
	refused(fresh, "UserNotFoundException", "User does not exist.")
}

func TestKeysAndConfigurationArePublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	srv := httptest.NewServer(w.WellKnown())
	defer srv.Close()
	get := func(path string) (*http.Response, []byte) {
		t.Helper()
		r := must(http.Get(srv.URL + path))(t)
		defer r.Body.Close()
		return r, must(io.ReadAll(r.Body))(t)
	}
	r, body := get("/" + p.ID + "/.well-known/jwks.json")
	if r.StatusCode != 200 || r.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(r.Header.Get("Cache-Control"), "public") {
		t.Errorf("key set: %d %v", r.StatusCode, r.Header)
	}
	var set struct{ Keys []map[string]string }
	ok(t, json.Unmarshal(body, &set))
	kids := map[string]bool{}
	for _, k := range set.Keys {
		kids[k["kid"]] = true
	}
	tokens := w.tokens(app, "ada")
	for _, token := range []fleet.Secret{tokens.ID, tokens.Access} {
		if kid := must(jwt.Parse(token.Reveal()))(t).KeyID; !kids[kid] {
			t.Errorf("key %s is not published", kid)
		}
	}
	r, body = get("/prefix/" + p.ID + "/.well-known/openid-configuration")
	var conf map[string]any
	ok(t, json.Unmarshal(body, &conf))
	issuer := "https://iot.lan:8443/" + p.ID
	if r.StatusCode != 200 || conf["issuer"] != issuer || conf["jwks_uri"] != issuer+"/.well-known/jwks.json" {
		t.Errorf("configuration: %d %v", r.StatusCode, conf)
	}
	for _, path := range []string{"/us-east-1_nothere00/.well-known/jwks.json", "/" + p.ID + "/.well-known/other", "/.well-known/jwks.json", "/"} {
		if r, _ := get(path); r.StatusCode != 404 {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	if r := must(http.Post(srv.URL+"/"+p.ID+"/.well-known/jwks.json", "", nil))(t); r.StatusCode != 405 {
		t.Errorf("POST: %d", r.StatusCode)
	}
	ok(t, w.DeletePool(t.Context(), scope, p.ID))
	if r, _ := get("/" + p.ID + "/.well-known/jwks.json"); r.StatusCode != 404 {
		t.Errorf("a deleted pool publishes keys: %d", r.StatusCode)
	}
	if !IsWellKnown("/a/.well-known/jwks.json") || IsWellKnown("/a/.well-known/x") || IsWellKnown("/.well-known/jwks.json") {
		t.Error("IsWellKnown must know exactly what WellKnown serves")
	}
}
