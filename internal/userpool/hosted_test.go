package userpool

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

const callback = "https://app.example/back"

// site gives a pool a domain.
func (w *world) site(p *Pool, prefix string) *Site {
	w.t.Helper()
	ctx := context.Background()
	ok(w.t, w.CreateDomain(ctx, Domain{Scope: scope, Name: prefix, PoolID: p.ID}))
	return must(w.Site(ctx, prefix, false))(w.t)
}

// newSite has a pool with the domain plant.
func newSite(t testing.TB) (*world, *Pool, *Site) {
	t.Helper()
	w := newWorld(t)
	p := w.pool(Settings{})
	return w, p, w.site(p, "plant")
}

// oauth are settings of a client that signs people in at the pages.
func oauth(flows ...string) ClientSettings {
	return ClientSettings{OAuth: true, OAuthFlows: flows, OAuthScopes: []string{"openid", "email", userScope}, CallbackURLs: []string{callback, "myapp://back"},
		LogoutURLs: []string{"https://app.example/bye"}}
}

// browse signs a user in at the pages for a request, and returns the cookie.
func (w *world) browse(a *Authorization, name string) fleet.Secret {
	w.t.Helper()
	o := must(w.SignIn(context.Background(), a, name, good))(w.t)
	if o.Cookie == "" || o.Tokens != nil {
		w.t.Fatalf("signing in at the pages answers %+v", o)
	}
	return o.Cookie
}

func pkce(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const verifier = "0123456789012345678901234567890123456789012"

// authCode gets an authorization code with PKCE.
func (w *world) authCode(site *Site, c *Client, name string) fleet.Secret {
	w.t.Helper()
	a := must(w.Authorization(context.Background(), site, w.asks(c)))(w.t)
	reply := must(w.Authorize(context.Background(), a, w.browse(a, name)))(w.t)
	if reply.Code == "" {
		w.t.Fatalf("no code: %+v", reply)
	}
	return reply.Code
}

func (w *world) asks(c *Client) AuthorizeRequest {
	return AuthorizeRequest{ClientID: c.ID, ResponseType: "code", RedirectURI: callback, Scope: "openid email", State: "s", Nonce: "n",
		Challenge: pkce(verifier), ChallengeMethod: "S256"}
}

func trade(c *Client, code fleet.Secret) TokenRequest {
	return TokenRequest{Grant: "authorization_code", Client: c.ID, Secret: c.Secret, Code: code, Redirect: callback, Verifier: verifier}
}

func claimsOf(t testing.TB, token fleet.Secret) jwt.Claims {
	t.Helper()
	return must(jwt.Parse(token.Reveal()))(t).Claims
}

func TestACodeIsTradedOnceForTokensOfWhatWasGranted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, p, site := newSite(t)
	c := w.client(p, oauth("code"))
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true", "name": "Ada"})

	begun := w.clock()
	a := must(w.Authorization(ctx, site, w.asks(c)))(t)
	cookie := w.browse(a, "ada")
	w.pass(10 * time.Minute)
	reply := must(w.Authorize(ctx, a, cookie))(t)
	tokens := must(w.Token(ctx, site, trade(c, reply.Code)))(t)
	id, access := claimsOf(t, tokens.ID), claimsOf(t, tokens.Access)
	for name, want := range map[string]string{"nonce": "n", "aud": c.ID, "email": "ada@example.com", "name": "", "at_hash": accessHash(tokens.Access.Reveal())} {
		if got := id.String(name); got != want {
			t.Errorf("claim %s of the Id token is %q, want %q", name, got, want)
		}
	}
	if at, _ := id.Time("auth_time"); !at.Equal(begun.Truncate(time.Second)) {
		t.Errorf("auth_time is %v, want that of the sign-in, %v", at, begun)
	}
	if got := access.String("scope"); got != "openid email" {
		t.Errorf("scope is %q", got)
	}
	if _, err := w.Self(ctx, tokens.Access); err == nil {
		t.Error("a token without the scope for it may read the account")
	}
	info := must(w.UserInfo(ctx, site, tokens.Access))(t)
	if info["email_verified"] != "true" || info["username"] != "ada" || info["name"] != "" {
		t.Errorf("userInfo says %v", info)
	}

	// Renewed tokens have the same scopes and no nonce.
	again := must(w.Token(ctx, site, TokenRequest{Grant: "refresh_token", Client: c.ID, Refresh: tokens.Refresh}))(t)
	if again.Refresh != "" || claimsOf(t, again.Access).String("scope") != "openid email" || claimsOf(t, again.ID).String("nonce") != "" {
		t.Errorf("renewed: %v %v", claimsOf(t, again.Access), claimsOf(t, again.ID))
	}

	// The code once more: refused, and what it gave is gone.
	_, err := w.Token(ctx, site, trade(c, reply.Code))
	wantError(t, err, "invalid_grant", "")
	_, err = w.UserInfo(ctx, site, tokens.Access)
	wantError(t, err, "NotAuthorizedException", "Access Token has been revoked")
	_, err = w.Token(ctx, site, TokenRequest{Grant: "refresh_token", Client: c.ID, Refresh: tokens.Refresh})
	wantError(t, err, "invalid_grant", "Refresh Token has been revoked")
}

func TestACodeIsGoodForWhoAskedForIt(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, p, site := newSite(t)
	c, other := w.client(p, oauth("code")), w.client(p, oauth("code"))
	settings := oauth("code")
	secret := must(w.CreateClient(ctx, scope, p.ID, NewClient{Name: "web", GenerateSecret: true, ClientSettings: settings}))(t)
	foreign := w.pool(Settings{})
	foreignSite := w.site(foreign, "office")
	w.user(p, "ada", nil)

	for name, change := range map[string]func(*TokenRequest){
		"another redirect_uri":   func(r *TokenRequest) { r.Redirect = "myapp://back" },
		"no redirect_uri":        func(r *TokenRequest) { r.Redirect = "" },
		"no verifier":            func(r *TokenRequest) { r.Verifier = "" },
		"the challenge itself":   func(r *TokenRequest) { r.Verifier = fleet.Secret(pkce(verifier)) },
		"a verifier that is off": func(r *TokenRequest) { r.Verifier = fleet.Secret(verifier[:42] + "x") },
	} {
		code := w.authCode(site, c, "ada")
		r := trade(c, code)
		change(&r)
		_, err := w.Token(ctx, site, r)
		wantError(t, err, "invalid_grant", "")
		if _, err := w.Token(ctx, site, trade(c, code)); err == nil {
			t.Errorf("%s: the code is still good", name)
		}
	}

	code := w.authCode(site, c, "ada")
	_, err := w.Token(ctx, site, trade(other, code))
	wantError(t, err, "invalid_grant", "")
	must(w.Token(ctx, site, trade(c, code)))(t) // its own client is not hurt

	code = w.authCode(site, c, "ada")
	_, err = w.Token(ctx, foreignSite, trade(c, code))
	wantError(t, err, "invalid_client", "Client does not exist.")
	w.pass(codeLife)
	_, err = w.Token(ctx, site, trade(c, code))
	wantError(t, err, "invalid_grant", "")

	code = w.authCode(site, secret, "ada")
	r := trade(secret, code)
	r.Secret = "wrong"
	_, err = w.Token(ctx, site, r)
	wantError(t, err, "invalid_client", "")
	must(w.Token(ctx, site, trade(secret, code)))(t)

	// Without a challenge there must be no verifier: somebody may have taken the challenge away.
	a := must(w.Authorization(ctx, site, AuthorizeRequest{ClientID: c.ID, ResponseType: "code", RedirectURI: callback}))(t)
	cookie := w.browse(a, "ada")
	code = must(w.Authorize(ctx, a, cookie))(t).Code
	_, err = w.Token(ctx, site, trade(c, code))
	wantError(t, err, "invalid_grant", "")
	code = must(w.Authorize(ctx, a, cookie))(t).Code
	r = trade(c, code)
	r.Verifier = ""
	must(w.Token(ctx, site, r))(t)

	// Who is signed out or disabled meanwhile gets nothing.
	code = w.authCode(site, c, "ada")
	ok(t, w.SignOutUser(ctx, scope, p.ID, "ada"))
	_, err = w.Token(ctx, site, trade(c, code))
	wantError(t, err, "invalid_grant", "")
	if must(w.SignedIn(ctx, site, cookie))(t) {
		t.Error("the browser is still signed in after a sign-out everywhere")
	}
}

// What one pool gave is worth nothing at the site of another, even to a client and a user who are called the same.
func TestWhatOnePoolGaveIsNothingToAnother(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, p, site := newSite(t)
	q := w.pool(Settings{})
	office := w.site(q, "office")
	c, d := w.client(p, oauth("code")), w.client(q, oauth("code"))
	for _, pool := range []*Pool{p, q} {
		w.user(pool, "ada", nil)
	}
	tokens := must(w.Token(ctx, site, trade(c, w.authCode(site, c, "ada"))))(t)
	_, err := w.UserInfo(ctx, office, tokens.Access)
	wantError(t, err, "NotAuthorizedException", "Invalid Access Token")
	_, err = w.Token(ctx, office, TokenRequest{Grant: "refresh_token", Client: d.ID, Refresh: tokens.Refresh})
	wantError(t, err, "invalid_grant", "")
	_, err = w.Token(ctx, office, trade(d, w.authCode(site, c, "ada")))
	wantError(t, err, "invalid_grant", "")
	ok(t, w.RevokeAtSite(ctx, office, d.ID, "", tokens.Refresh)) // what is unknown there needs no revocation (RFC 7009 section 2.2)
	a := must(w.Authorization(ctx, site, w.asks(c)))(t)
	cookie := w.browse(a, "ada")
	token := must(w.FormToken(site, cookie))(t)
	if must(w.IsFormToken(office, cookie, token))(t) || must(w.SignedIn(ctx, office, cookie))(t) {
		t.Error("a form or a cookie of one pool is good for another")
	}
	_, err = w.VerifyIDToken(ctx, scope, q.ID, tokens.ID.Reveal())
	wantError(t, err, "NotAuthorizedException", "Issuer doesn't match providerName")
	must(w.UserInfo(ctx, site, tokens.Access))(t) // all of it still is what it was
	must(w.Token(ctx, site, TokenRequest{Grant: "refresh_token", Client: c.ID, Refresh: tokens.Refresh}))(t)
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, p, site := newSite(t)
	c := w.client(p, oauth("code"))
	plain := w.client(p, ClientSettings{CallbackURLs: []string{callback}})
	for name, x := range map[string]struct {
		change func(*AuthorizeRequest)
		code   string
		told   bool // the app is told
	}{
		"no client":              {func(r *AuthorizeRequest) { r.ClientID = "" }, "invalid_request", false},
		"an unknown client":      {func(r *AuthorizeRequest) { r.ClientID = "nobody" }, "invalid_client", false},
		"no redirect_uri":        {func(r *AuthorizeRequest) { r.RedirectURI = "" }, "invalid_request", false},
		"another redirect_uri":   {func(r *AuthorizeRequest) { r.RedirectURI = "https://evil.example/" }, "redirect_mismatch", false},
		"a longer redirect_uri":  {func(r *AuthorizeRequest) { r.RedirectURI += "/" }, "redirect_mismatch", false},
		"a query added":          {func(r *AuthorizeRequest) { r.RedirectURI += "?x=y" }, "redirect_mismatch", false},
		"upper case":             {func(r *AuthorizeRequest) { r.RedirectURI = strings.ToUpper(r.RedirectURI) }, "redirect_mismatch", false},
		"no response_type":       {func(r *AuthorizeRequest) { r.ResponseType = "" }, "unsupported_response_type", true},
		"a flow not allowed":     {func(r *AuthorizeRequest) { r.ResponseType = "token" }, "unauthorized_client", true},
		"a client without OAuth": {func(r *AuthorizeRequest) { r.ClientID = plain.ID }, "unauthorized_client", true},
		"PKCE plain":             {func(r *AuthorizeRequest) { r.ChallengeMethod = "plain" }, "invalid_request", true},
		"PKCE without method":    {func(r *AuthorizeRequest) { r.ChallengeMethod = "" }, "invalid_request", true},
		"a method alone":         {func(r *AuthorizeRequest) { r.Challenge = "" }, "invalid_request", true},
		"a short challenge":      {func(r *AuthorizeRequest) { r.Challenge = "abc" }, "invalid_request", true},
		"a scope not allowed":    {func(r *AuthorizeRequest) { r.Scope = "openid profile" }, "invalid_scope", true},
		"an unknown scope":       {func(r *AuthorizeRequest) { r.Scope = "openid x/y" }, "invalid_scope", true},
		"email without openid":   {func(r *AuthorizeRequest) { r.Scope = "email" }, "invalid_scope", true},
		"an unknown provider":    {func(r *AuthorizeRequest) { r.Provider = "Other" }, "invalid_request", true},
		"a long state":           {func(r *AuthorizeRequest) { r.State = strings.Repeat("x", maxRequest+1) }, "invalid_request", true},
	} {
		r := w.asks(c)
		x.change(&r)
		a, err := w.Authorization(ctx, site, r)
		if err == nil {
			t.Errorf("%s: nothing is wrong with it", name)
			continue
		}
		wantError(t, err, x.code, "")
		if (a != nil) != x.told {
			t.Errorf("%s: the app is told: %v, want %v", name, a != nil, x.told)
		}
	}
}

func TestSettingsOfOAuthThatAreRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	p := w.pool(Settings{})
	ok(t, w.CreateResourceServer(ctx, scope, ResourceServer{PoolID: p.ID, Identifier: "https://api.example", Name: "api", Scopes: []ResourceScope{{Name: "read"}}}))
	with := func(change func(*ClientSettings)) ClientSettings {
		s := oauth("code")
		change(&s)
		return s
	}
	for name, x := range map[string]struct {
		settings ClientSettings
		secret   bool
		code     string
	}{
		"http":                        {with(func(s *ClientSettings) { s.CallbackURLs = []string{"http://app.example/"} }), false, "InvalidParameterException"},
		"a fragment":                  {with(func(s *ClientSettings) { s.CallbackURLs = []string{"https://app.example/#x"} }), false, "InvalidParameterException"},
		"a script":                    {with(func(s *ClientSettings) { s.CallbackURLs = []string{"javascript:alert(1)"} }), false, "InvalidParameterException"},
		"a relative address":          {with(func(s *ClientSettings) { s.LogoutURLs = []string{"/bye"} }), false, "InvalidParameterException"},
		"a user in the address":       {with(func(s *ClientSettings) { s.CallbackURLs = []string{"https://bank.example@evil.example/"} }), false, "InvalidParameterException"},
		"another default":             {with(func(s *ClientSettings) { s.DefaultRedirect = "https://app.example/x" }), false, "InvalidParameterException"},
		"no scopes":                   {with(func(s *ClientSettings) { s.OAuthScopes = nil }), false, "InvalidParameterException"},
		"an unknown scope":            {with(func(s *ClientSettings) { s.OAuthScopes = []string{"https://api.example/write"} }), false, "ScopeDoesNotExistException"},
		"client_credentials and code": {with(func(s *ClientSettings) { s.OAuthFlows = []string{"code", "client_credentials"} }), true, "InvalidOAuthFlowException"},
		"client_credentials, openid":  {with(func(s *ClientSettings) { s.OAuthFlows = []string{"client_credentials"} }), true, "InvalidOAuthFlowException"},
		"client_credentials without a secret": {with(func(s *ClientSettings) {
			s.OAuthFlows, s.OAuthScopes = []string{"client_credentials"}, []string{"https://api.example/read"}
		}), false, "InvalidOAuthFlowException"},
	} {
		_, err := w.CreateClient(ctx, scope, p.ID, NewClient{Name: "app", GenerateSecret: x.secret, ClientSettings: x.settings})
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		wantError(t, err, x.code, "")
	}
	for _, good := range []string{"http://localhost:3000/", "http://127.0.0.1/x", "http://[::1]:8080/", "myapp://back", "com.example.app:/back", "https://app.example:8443/a?b=c"} {
		w.client(p, with(func(s *ClientSettings) { s.CallbackURLs = []string{good} }))
	}
}

func TestAClientGetsATokenOfItsOwn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, p, site := newSite(t)
	server := ResourceServer{PoolID: p.ID, Identifier: "https://api.example", Name: "api", Scopes: []ResourceScope{{Name: "read"}, {Name: "write"}}}
	ok(t, w.CreateResourceServer(ctx, scope, server))
	c := must(w.CreateClient(ctx, scope, p.ID, NewClient{Name: "batch", GenerateSecret: true, ClientSettings: ClientSettings{OAuth: true,
		OAuthFlows: []string{"client_credentials"}, OAuthScopes: []string{"https://api.example/read", "https://api.example/write"}}}))(t)
	r := TokenRequest{Grant: "client_credentials", Client: c.ID, Secret: c.Secret}
	tokens := must(w.Token(ctx, site, r))(t)
	claims := claimsOf(t, tokens.Access)
	if tokens.ID != "" || tokens.Refresh != "" || claims.String("sub") != c.ID || claims.String("username") != "" || claims.String("scope") != "https://api.example/read https://api.example/write" {
		t.Errorf("got %+v with %v", tokens, claims)
	}
	if _, err := w.Self(ctx, tokens.Access); err == nil {
		t.Error("a client's own token reads an account")
	}
	_, err := w.UserInfo(ctx, site, tokens.Access)
	wantError(t, err, "NotAuthorizedException", "Access Token does not have required scopes")
	r.Scope = "openid"
	_, err = w.Token(ctx, site, r)
	wantError(t, err, "invalid_scope", "")
	r.Scope = ""
	server.Scopes = server.Scopes[:1] // a scope that is gone is no longer given
	ok(t, w.UpdateResourceServer(ctx, scope, server))
	if got := claimsOf(t, must(w.Token(ctx, site, r))(t).Access).String("scope"); got != "https://api.example/read" {
		t.Errorf("scope is %q", got)
	}
	r.Secret = ""
	_, err = w.Token(ctx, site, r)
	wantError(t, err, "invalid_client", "")
	_, err = w.Token(ctx, site, TokenRequest{Grant: "authorization_code", Client: c.ID, Secret: c.Secret, Code: "x"})
	wantError(t, err, "unauthorized_client", "")
}

func TestASignInAtThePagesStaysThere(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, p, site := newSite(t)
	settings := oauth("code", "implicit")
	settings.AuthFlows = []string{"ALLOW_REFRESH_TOKEN_AUTH"} // the API takes no passwords
	c := w.client(p, settings)
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "bob", TemporaryPassword: good, Suppress: true}))(t)
	a := must(w.Authorization(ctx, site, w.asks(c)))(t)
	o := must(w.SignIn(ctx, a, "bob", good))(t)
	if o.Challenge != "NEW_PASSWORD_REQUIRED" {
		t.Fatalf("got %+v", o)
	}
	answer := Answer{ClientID: c.ID, Challenge: o.Challenge, Session: o.Session, Responses: secrets("USERNAME", "bob", "NEW_PASSWORD", other)}
	_, err := w.Respond(ctx, answer)
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	o = must(w.Answer(ctx, a, answer))(t)
	if o.Cookie == "" || o.Tokens != nil {
		t.Fatalf("got %+v", o)
	}

	// The implicit flow gives tokens that cannot be renewed.
	r := w.asks(c)
	r.ResponseType, r.Challenge, r.ChallengeMethod = "token", "", ""
	implicit := must(w.Authorization(ctx, site, r))(t)
	reply := must(w.Authorize(ctx, implicit, o.Cookie))(t)
	if reply.Tokens == nil || reply.Tokens.Refresh != "" || reply.Code != "" {
		t.Fatalf("got %+v", reply)
	}
	must(w.UserInfo(ctx, site, reply.Tokens.Access))(t)

	w.pass(BrowserLife)
	if reply := must(w.Authorize(ctx, a, o.Cookie))(t); reply.SignedIn {
		t.Error("the browser is signed in for longer than an hour")
	}
	cookie := must(w.SignIn(ctx, a, "bob", other))(t).Cookie
	foreign := w.site(w.pool(Settings{}), "office")
	if must(w.SignedIn(ctx, foreign, cookie))(t) {
		t.Error("a cookie of one pool is good for another")
	}
	ok(t, w.SignOutBrowser(ctx, site, cookie))
	if must(w.SignedIn(ctx, site, cookie))(t) {
		t.Error("the browser is signed in after its sign-out")
	}
	cookie = must(w.SignIn(ctx, a, "bob", other))(t).Cookie
	ok(t, w.EnableUser(ctx, scope, p.ID, "bob", false))
	if must(w.SignedIn(ctx, site, cookie))(t) {
		t.Error("a disabled user is signed in")
	}
}

// TestGuessesAtThePagesCountWithThoseBehindTheAPI: five here and there lock.
func TestGuessesAtThePagesCountWithThoseBehindTheAPI(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, p, site := newSite(t)
	c := w.client(p, oauth("code"))
	w.user(p, "ada", nil)
	a := must(w.Authorization(ctx, site, w.asks(c)))(t)
	for _, name := range []string{"ada", "nobody"} {
		for i := range 5 {
			var err error
			if i%2 == 0 {
				_, err = w.SignIn(ctx, a, name, "wrong")
			} else {
				_, err = w.signIn(c, name, "wrong")
			}
			wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
		}
		_, err := w.SignIn(ctx, a, name, good)
		wantError(t, err, "NotAuthorizedException", "Password attempts exceeded")
	}
}
