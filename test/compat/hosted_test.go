package compat

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// An oauthApp is an app of the standard libraries for OAuth 2.0 and OpenID Connect: a page that the browser comes back to with a code.
type oauthApp struct {
	*httptest.Server
	config   oauth2.Config
	provider *oidc.Provider
	client   *http.Client
	verifier string
	nonce    string
	state    string
	got      chan oauthResult
}

type oauthResult struct {
	tokens *oauth2.Token
	err    error
}

// newOAuthApp serves the app at an address that the server lets people be sent back to.
func newOAuthApp(t *testing.T, s *site) *oauthApp {
	t.Helper()
	a := &oauthApp{verifier: oauth2.GenerateVerifier(), nonce: oauth2.GenerateVerifier(), state: oauth2.GenerateVerifier() + " &=#", got: make(chan oauthResult, 16),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(t)}}}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/back" {
			return
		}
		q := r.URL.Query()
		if q.Get("state") != a.state {
			a.got <- oauthResult{err: errors.New("the state is another one: " + q.Get("state"))}
			return
		}
		if e := q.Get("error"); e != "" {
			a.got <- oauthResult{err: errors.New(e)}
			return
		}
		tokens, err := a.config.Exchange(a.context(r.Context()), q.Get("code"), oauth2.VerifierOption(a.verifier))
		a.got <- oauthResult{tokens, err}
	}))
	t.Cleanup(a.Close)
	a.URL = strings.Replace(a.URL, "127.0.0.1", "localhost", 1)
	return a
}

func (a *oauthApp) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, a.client)
}

// discover lets the app find everything from the issuer alone.
func (a *oauthApp) discover(t *testing.T, issuer, clientID, secret string) {
	t.Helper()
	var err error
	a.provider, err = oidc.NewProvider(a.context(t.Context()), issuer)
	check(t, err)
	a.config = oauth2.Config{ClientID: clientID, ClientSecret: secret, Endpoint: a.provider.Endpoint(), RedirectURL: a.URL + "/back", Scopes: []string{oidc.ScopeOpenID, "email"}}
}

// address is where the app sends the browser.
func (a *oauthApp) address(options ...oauth2.AuthCodeOption) string {
	return a.config.AuthCodeURL(a.state, append(options, oidc.Nonce(a.nonce), oauth2.S256ChallengeOption(a.verifier))...)
}

// TestAStandardClientSignsPeopleInOnThePages: discovery, code with PKCE, checks of the Id token, userInfo and renewal by go-oidc and x/oauth2,
// and every page of the way in Chromium without JavaScript.
func TestAStandardClientSignsPeopleInOnThePages(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	admin := s.adminSDK(t)
	// The SDK for Go leaves a false out, and sign-up is off unless it is said.
	id := ptr(strings.TrimSpace(s.run(t, s.data, nil, imprint(), "aws", "cognito-idp", "create-user-pool", "--pool-name", "Installers of Plant 7",
		"--admin-create-user-config", "AllowAdminCreateUserOnly=false", "--auto-verified-attributes", "email", "--query", "UserPool.Id", "--output", "text")))
	_, err := admin.pools.CreateUserPoolDomain(t.Context(), &cognitoidentityprovider.CreateUserPoolDomainInput{UserPoolId: id, Domain: ptr("plant")})
	check(t, err)
	_, err = admin.pools.SetUserPoolMfaConfig(t.Context(), &cognitoidentityprovider.SetUserPoolMfaConfigInput{UserPoolId: id,
		MfaConfiguration: idptypes.UserPoolMfaTypeOn, SoftwareTokenMfaConfiguration: &idptypes.SoftwareTokenMfaConfigType{Enabled: true}})
	check(t, err)
	app := newOAuthApp(t, s)
	client, err := admin.pools.CreateUserPoolClient(t.Context(), &cognitoidentityprovider.CreateUserPoolClientInput{UserPoolId: id, ClientName: ptr("app"), GenerateSecret: true,
		AllowedOAuthFlowsUserPoolClient: true, AllowedOAuthFlows: []idptypes.OAuthFlowType{"code"}, AllowedOAuthScopes: []string{"openid", "email"},
		CallbackURLs: []string{app.URL + "/back"}, LogoutURLs: []string{app.URL + "/bye"}, SupportedIdentityProviders: []string{"COGNITO"}})
	check(t, err)
	_, err = admin.pools.AdminCreateUser(t.Context(), &cognitoidentityprovider.AdminCreateUserInput{UserPoolId: id, Username: ptr("ida"), TemporaryPassword: ptr("Temp0rary!"),
		MessageAction: "SUPPRESS", UserAttributes: []idptypes.AttributeType{{Name: ptr("email"), Value: ptr("ida@example.com")}}})
	check(t, err)
	app.discover(t, s.get("AWS_ENDPOINT_URL")+"/"+*id, *client.UserPoolClient.ClientId, *client.UserPoolClient.ClientSecret)

	got := browse[struct {
		Seen      []string
		Faults    []string
		SignedOut string
		Cookie    struct {
			Name, SameSite   string
			HTTPOnly, Secure bool
		}
	}](t, s, browserHome(t, s.get("AWS_CA_BUNDLE")), "hosted.mjs", "ADDRESS="+app.address(), "AGAIN="+app.address(oauth2.SetAuthURLParam("prompt", "login")),
		"LOGOUT="+strings.TrimSuffix(app.provider.Endpoint().AuthURL, "/oauth2/authorize")+"/logout?client_id="+*client.UserPoolClient.ClientId+"&logout_uri="+app.URL+"/bye",
		"OUTBOX="+filepath.Join(s.data, "outbox"), "BACK="+app.URL+"/back")
	want := []string{"Sign in", "Sign in: Incorrect username or password.", "Set a new password",
		"Set a new password: This password will not do. Password not long enough.", "Set up an authenticator app",
		"Set up an authenticator app: This code is not right. Enter the one that the app shows now.", "the app", "the app", "Enter your code", "Enter your code: This code is not right. Enter the one that the app shows now.", "the app",
		"Sign up", "Sign up: This password will not do. Password must have symbol characters.", "Confirm your account",
		"Confirm your account: This code is not right. Look at the newest message.", "Sign in", "Forgot your password?", "Set a new password", "Sign in"}
	if !slices.Equal(got.Seen, want) {
		t.Errorf("the browser saw\n  %s\nwant\n  %s", strings.Join(got.Seen, "\n  "), strings.Join(want, "\n  "))
	}
	if len(got.Faults) > 0 {
		t.Errorf("axe finds\n  %s", strings.Join(got.Faults, "\n  "))
	}
	if got.SignedOut != app.URL+"/bye" {
		t.Errorf("sign-out leads to %s", got.SignedOut)
	}
	if c := got.Cookie; c.Name != "__Host-imprint-"+*id || c.SameSite != "Lax" || !c.HTTPOnly || !c.Secure {
		t.Errorf("the cookie is %+v", c)
	}

	for range 3 {
		r := <-app.got
		check(t, r.err)
		raw, _ := r.tokens.Extra("id_token").(string)
		idToken, err := app.provider.Verifier(&oidc.Config{ClientID: app.config.ClientID}).Verify(app.context(t.Context()), raw)
		check(t, err)
		if idToken.Nonce != app.nonce {
			t.Errorf("nonce %q", idToken.Nonce)
		}
		check(t, idToken.VerifyAccessToken(r.tokens.AccessToken))
		info, err := app.provider.UserInfo(app.context(t.Context()), oauth2.StaticTokenSource(r.tokens))
		check(t, err)
		if info.Subject != idToken.Subject || info.Email != "ida@example.com" {
			t.Errorf("userInfo says %+v", info)
		}
		old := *r.tokens
		old.AccessToken, old.Expiry = "", old.Expiry.AddDate(-1, 0, 0)
		renewed, err := app.config.TokenSource(app.context(t.Context()), &old).Token()
		check(t, err)
		if renewed.AccessToken == "" || renewed.AccessToken == r.tokens.AccessToken {
			t.Error("the token was not renewed")
		}
	}
	if os.Getenv("SCREENSHOTS") != "" {
		t.Log("pictures are in " + os.Getenv("SCREENSHOTS"))
	}
}

func TestThePageAboutSignInWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	out := s.run(t, filepath.Dir(s.data), nil, "bash", "-c", "set -euo pipefail\nset -x\nexport PATH=/usr/bin:$PATH\n"+codeBlocks(document(t, "sign-in.md")))
	for _, want := range []string{s.get("AWS_ENDPOINT_URL") + "/auth/plant7/oauth2/authorize", s.get("AWS_ENDPOINT_URL") + "/auth/plant7/login?client_id="} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing says %s:\n%s", want, out)
		}
	}
}
