package userpool

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

const passkeyOrigin = "https://app.iot.lan"

// withPasskeys are the settings of a pool where people may sign in with them.
var withPasskeys = Settings{FirstFactors: []string{"PASSWORD", "WEB_AUTHN"}, Passkeys: PasskeySettings{RelyingParty: "iot.lan"}}

// passkey gives a user one, after a sign-in with the password.
func (w *world) passkey(c *Client, name string) *webauthntest.Authenticator {
	w.t.Helper()
	h := Holder{AccessToken: w.tokens(c, name).Access}
	a := webauthntest.New(passkeyOrigin)
	ok(w.t, w.AddPasskey(w.t.Context(), h, a.Create(must(w.NewPasskey(w.t.Context(), h))(w.t))))
	return a
}

// TestWhoMayNotHavePasskeys: what is wrong is named.
func TestWhoMayNotHavePasskeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		settings Settings
		code     string
	}{
		"off":            {Settings{Passkeys: PasskeySettings{RelyingParty: "iot.lan"}}, "WebAuthnNotEnabledException"},
		"for whom":       {Settings{FirstFactors: withPasskeys.FirstFactors}, "WebAuthnConfigurationMissingException"},
		"all is set, so": {withPasskeys, ""},
	} {
		p := w.pool(c.settings)
		app := w.choiceClient(p)
		w.user(p, "ada", nil)
		_, err := w.NewPasskey(t.Context(), Holder{AccessToken: w.tokens(app, "ada").Access})
		if c.code == "" {
			ok(t, err)
		} else if wantError(t, err, c.code, ""); w.showsPasskeys(app, "ada") || w.showsPasskeys(app, "nobody") {
			t.Errorf("%s: passkeys are offered", name)
		}
	}
	_, err := w.NewPasskey(t.Context(), Holder{AccessToken: "x"})
	wantError(t, err, "NotAuthorizedException", "Invalid Access Token")
	for _, bad := range []string{"IOT.lan", "https://iot.lan", "10.0.0.1", "lan", "iot.lan:8443"} {
		_, err := w.SetMFA(t.Context(), scope, w.pool(Settings{}).ID, "", nil, &PasskeySettings{RelyingParty: bad})
		wantError(t, err, "InvalidParameterException", "")
	}
	_, err = w.CreatePool(t.Context(), scope, "p", Settings{FirstFactors: []string{"WEB_AUTHN"}}, nil)
	wantError(t, err, "InvalidParameterException", "AllowedFirstAuthFactors must contain PASSWORD.")
	_, err = w.CreatePool(t.Context(), scope, "p", Settings{FirstFactors: []string{"PASSWORD", "EMAIL_OTP"}}, nil)
	wantError(t, err, "InvalidParameterException", "")
}

func TestTheRelyingPartyIsTheHostOfThePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{FirstFactors: withPasskeys.FirstFactors})
	c := w.choiceClient(p)
	w.user(p, "ada", nil)
	party := func() string {
		t.Helper()
		var o creationOptions
		ok(t, json.Unmarshal(must(w.NewPasskey(t.Context(), Holder{AccessToken: w.tokens(c, "ada").Access}))(t), &o))
		if o.Party.ID != o.Party.Name || o.User.Name != "ada" || o.User.DisplayName != "ada" || !o.Selection.RequireResident || o.Selection.Resident != "required" ||
			o.Selection.Verification != "preferred" || o.Timeout != 60_000 || fmt.Sprint(o.Algorithms) != "[{-7 public-key} {-257 public-key}]" {
			t.Errorf("the options are %+v", o)
		}
		return o.Party.ID
	}
	ok(t, w.CreateDomain(t.Context(), Domain{Scope: scope, Name: "installers", PoolID: p.ID}))
	if got := party(); got != "iot.lan" {
		t.Errorf("with a prefix it is %s", got)
	}
	ok(t, w.CreateDomain(t.Context(), Domain{Scope: scope, Name: "login.example.com", PoolID: p.ID, Custom: true}))
	if got := party(); got != "login.example.com" {
		t.Errorf("with a host name it is %s", got)
	}
	h := Holder{AccessToken: w.tokens(c, "ada").Access}
	wantError(t, w.AddPasskey(t.Context(), h, webauthntest.New(passkeyOrigin).Create(must(w.NewPasskey(t.Context(), h))(t))), "WebAuthnOriginNotAllowedException", "")
}

// TestNewPasskeysThatAreRefused: each by the error that the protocol has for it.
func TestNewPasskeysThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	settings := withPasskeys
	settings.Passkeys.Verification = "required"
	p := w.pool(settings)
	c, second := w.choiceClient(p), w.choiceClient(p)
	w.user(p, "ada", nil)
	w.user(p, "bob", nil)
	ada, bob := Holder{AccessToken: w.tokens(c, "ada").Access}, Holder{AccessToken: w.tokens(c, "bob").Access}
	asked := func(h Holder) []byte { t.Helper(); return must(w.NewPasskey(t.Context(), h))(t) }
	for code, change := range map[string]func(*webauthntest.Authenticator){
		"WebAuthnOriginNotAllowedException":       func(a *webauthntest.Authenticator) { a.Origin = "https://evil.example" },
		"WebAuthnRelyingPartyMismatchException":   func(a *webauthntest.Authenticator) { a.Party = "evil.example" },
		"WebAuthnChallengeNotFoundException":      func(a *webauthntest.Authenticator) { a.Challenge = "AAAAAAAAAAAAAAAAAAAAAAAA" },
		"WebAuthnCredentialNotSupportedException": func(a *webauthntest.Authenticator) { a.Algorithm = -8 },
		"InvalidParameterException":               func(a *webauthntest.Authenticator) { a.Type = "webauthn.get" },
	} {
		a := webauthntest.New(passkeyOrigin)
		change(a)
		wantError(t, w.AddPasskey(t.Context(), ada, a.Create(asked(ada))), code, "")
	}
	a := webauthntest.New(passkeyOrigin)
	a.Flags = webauthntest.Present
	wantError(t, w.AddPasskey(t.Context(), ada, a.Create(asked(ada))), "WebAuthnCredentialNotSupportedException", "")
	wantError(t, w.AddPasskey(t.Context(), ada, []byte(`{"id":"x"}`)), "InvalidParameterException", "")

	a = webauthntest.New(passkeyOrigin)
	wantError(t, w.AddPasskey(t.Context(), bob, a.Create(asked(ada))), "WebAuthnChallengeNotFoundException", "")
	wantError(t, w.AddPasskey(t.Context(), Holder{AccessToken: w.tokens(second, "ada").Access}, a.Create(asked(ada))), "WebAuthnClientMismatchException", "")
	old := asked(ada)
	w.pass(passkeyLife)
	wantError(t, w.AddPasskey(t.Context(), ada, a.Create(old)), "WebAuthnChallengeNotFoundException", "")
	options := asked(ada)
	ok(t, w.AddPasskey(t.Context(), ada, a.Create(options)))
	wantError(t, w.AddPasskey(t.Context(), ada, webauthntest.New(passkeyOrigin).Create(options)), "WebAuthnChallengeNotFoundException", "")
	wantError(t, w.AddPasskey(t.Context(), bob, a.Create(asked(bob))), "InvalidParameterException", "This passkey is registered already.")
	elsewhere := w.pool(settings)
	app := w.choiceClient(elsewhere)
	w.user(elsewhere, "ada", nil)
	stranger := Holder{AccessToken: w.tokens(app, "ada").Access}
	wantError(t, w.AddPasskey(t.Context(), stranger, webauthntest.New(passkeyOrigin).Create(asked(ada))), "WebAuthnChallengeNotFoundException", "")
	ok(t, w.AddPasskey(t.Context(), stranger, a.Create(asked(stranger)))) // each pool has its own

	late := asked(ada)
	ok(t, w.SignOutEverywhere(t.Context(), ada.AccessToken))
	wantError(t, w.AddPasskey(t.Context(), ada, webauthntest.New(passkeyOrigin).Create(late)), "NotAuthorizedException", "Access Token has been revoked")
	ok(t, w.EnableUser(t.Context(), scope, p.ID, "bob", false))
	_, err := w.NewPasskey(t.Context(), bob)
	wantError(t, err, "NotAuthorizedException", "User is disabled.")
}

func TestAUserHasAtMostTwentyPasskeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(withPasskeys)
	c := w.choiceClient(p)
	w.user(p, "ada", nil)
	h := Holder{AccessToken: w.tokens(c, "ada").Access}
	spare := must(w.NewPasskey(t.Context(), h))(t)
	for range maxPasskeys {
		ok(t, w.AddPasskey(t.Context(), h, webauthntest.New(passkeyOrigin).Create(must(w.NewPasskey(t.Context(), h))(t))))
	}
	_, err := w.NewPasskey(t.Context(), h)
	wantError(t, err, "LimitExceededException", "")
	wantError(t, w.AddPasskey(t.Context(), h, webauthntest.New(passkeyOrigin).Create(spare)), "LimitExceededException", "")
	var all []Passkey
	token := ""
	for {
		page, next, err := w.Passkeys(t.Context(), h, token, 7)
		ok(t, err)
		if all = append(all, page...); next == "" {
			break
		}
		token = next
	}
	if len(all) != maxPasskeys {
		t.Errorf("%d passkeys are listed", len(all))
	}
	if r := optionsOf(t, w.askPasskey(c, "ada")); len(r.Allow) != maxPasskeys {
		t.Errorf("%d are asked for", len(r.Allow))
	}
}
