package userpool

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

func optionsOf(t testing.TB, o Outcome) (r requestOptions) {
	t.Helper()
	ok(t, json.Unmarshal([]byte(o.Parameters["CREDENTIAL_REQUEST_OPTIONS"]), &r))
	return r
}

func (w *world) askPasskey(c *Client, name string) Outcome {
	w.t.Helper()
	o := must(w.choose(c, name, "PREFERRED_CHALLENGE", "WEB_AUTHN"))(w.t)
	if o.Challenge != "WEB_AUTHN" || len(o.Session) < 20 || len(o.Session) > 2048 {
		w.t.Fatalf("%s is asked for %s with a session of %d", name, o.Challenge, len(o.Session))
	}
	return o
}

func (w *world) showsPasskeys(c *Client, name string) bool {
	w.t.Helper()
	return slices.Contains(must(w.choose(c, name))(w.t).Available, "WEB_AUTHN")
}

// respondPasskey answers WEB_AUTHN with a credential.
func (w *world) respondPasskey(c *Client, name string, session fleet.Secret, credential []byte) (Outcome, error) {
	return w.Respond(context.Background(), Answer{ClientID: c.ID, Challenge: "WEB_AUTHN", Session: session,
		Responses: c.hashed(name, "USERNAME", name, "CREDENTIAL", string(credential))})
}

func (w *world) answerPasskey(c *Client, name string, o Outcome, a *webauthntest.Authenticator) (Outcome, error) {
	return w.respondPasskey(c, name, o.Session, a.Get([]byte(o.Parameters["CREDENTIAL_REQUEST_OPTIONS"])))
}

func TestAPasskeySignsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(withPasskeys)
	c := w.choiceClient(p)
	u := w.user(p, "ada", nil)
	if w.showsPasskeys(c, "ada") {
		t.Error("a passkey is offered to somebody who has none")
	}
	if o := must(w.choose(c, "ada", "PREFERRED_CHALLENGE", "WEB_AUTHN"))(t); o.Challenge != "SELECT_CHALLENGE" || !slices.Equal(o.Available, []string{"PASSWORD", "PASSWORD_SRP"}) {
		t.Errorf("who prefers what they have not is answered %s of %v", o.Challenge, o.Available)
	}
	a := w.passkey(c, "ada")
	o := w.askPasskey(c, "ada")
	if r := optionsOf(t, o); r.RPID != "iot.lan" || r.Verification != "preferred" || r.Timeout != 180_000 || len(r.Allow) != 1 ||
		r.Allow[0] != (passkeyRef{base64.RawURLEncoding.EncodeToString(a.ID), "public-key"}) || len(r.Challenge) != 43 {
		t.Errorf("asked for %+v", r)
	}
	if !slices.Equal(o.Available, []string{"PASSWORD", "PASSWORD_SRP", "WEB_AUTHN"}) {
		t.Errorf("available are %v", o.Available)
	}
	a.UserHandle = []byte(u.Sub)
	if done := must(w.answerPasskey(c, "ada", o, a))(t); done.Tokens == nil || done.Tokens.Refresh == "" || done.Challenge != "" {
		t.Errorf("the passkey gives %+v", done)
	}
	// By way of the choice, and by an administrator's program.
	chosen := must(w.choose(c, "ada"))(t)
	wantChallenge(t, chosen, "SELECT_CHALLENGE", nil)
	o = must(w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: "SELECT_CHALLENGE", Session: chosen.Session, Responses: secrets("USERNAME", "ada", "ANSWER", "WEB_AUTHN")}))(t)
	if done := must(w.answerPasskey(c, "ada", o, a))(t); done.Tokens == nil {
		t.Errorf("the choice gives %+v", done)
	}
	o = must(w.AdminInitiateAuth(t.Context(), scope, p.ID, SignIn{ClientID: c.ID, Flow: "USER_AUTH", Parameters: secrets("USERNAME", "ada", "PREFERRED_CHALLENGE", "WEB_AUTHN")}))(t)
	if done := must(w.AdminRespond(t.Context(), scope, p.ID, Answer{ClientID: c.ID, Challenge: "SELECT_CHALLENGE", Session: o.Session, Responses: secrets("USERNAME", "ada",
		"ANSWER", "WEB_AUTHN", "CREDENTIAL", string(a.Get([]byte(o.Parameters["CREDENTIAL_REQUEST_OPTIONS"]))))}))(t); done.Tokens == nil {
		t.Errorf("an administrator's program gets %+v", done)
	}
	// It is lost: the password still works, and lists and removes it.
	h := Holder{AccessToken: w.tokens(c, "ada").Access}
	keys, next, err := w.Passkeys(t.Context(), h, "", 1)
	if ok(t, err); len(keys) != 1 || next != "" || keys[0].Name != "Platform passkey" || keys[0].Party != "iot.lan" || !keys[0].Created.Equal(w.clock()) {
		t.Fatalf("ada has %+v, %q", keys, next)
	}
	wantError(t, w.DeletePasskey(t.Context(), h, "x"), "ResourceNotFoundException", "")
	o = w.askPasskey(c, "ada")
	ok(t, w.DeletePasskey(t.Context(), h, keys[0].ID))
	_, err = w.answerPasskey(c, "ada", o, a)
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	if w.showsPasskeys(c, "ada") {
		t.Error("a removed passkey is offered")
	}
}

// TestAssertionsThatAreRefused: each attack spends its challenge and counts as a guess.
func TestAssertionsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	settings := withPasskeys
	settings.Passkeys.Verification = "required"
	p := w.pool(settings)
	c := w.choiceClient(p)
	w.user(p, "ada", nil)
	w.user(p, "bob", nil)
	ada, bob := w.passkey(c, "ada"), w.passkey(c, "bob")
	elsewhere := w.pool(settings)
	app := w.choiceClient(elsewhere)
	w.user(elsewhere, "ada", nil)
	again := w.passkey(app, "ada")

	wrong := func(what string, got Outcome, err error, text string) {
		t.Helper()
		if got.Tokens != nil || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %+v, %v, want %q", what, got, err, text)
		}
		w.pass(time.Hour) // without a lock
	}
	const plain = "Incorrect username or password."
	for what, x := range map[string]struct {
		change func(a *webauthntest.Authenticator)
		text   string
	}{
		"another origin":          {func(a *webauthntest.Authenticator) { a.Origin = "https://app.iot.lan.evil.example" }, "the origin is not allowed"},
		"a frame":                 {func(a *webauthntest.Authenticator) { a.CrossOrigin = true }, "the origin is not allowed"},
		"another party":           {func(a *webauthntest.Authenticator) { a.Party = "evil.example" }, "another relying party"},
		"another challenge":       {func(a *webauthntest.Authenticator) { a.Challenge = "AAAA" }, "another challenge"},
		"nobody verified":         {func(a *webauthntest.Authenticator) { a.Flags = webauthntest.Present }, "it has not verified the person"},
		"a registration":          {func(a *webauthntest.Authenticator) { a.Type = "webauthn.create" }, "webauthn.create"},
		"another key":             {func(a *webauthntest.Authenticator) { a.Key = bob.Key }, plain},
		"another's key":           {func(a *webauthntest.Authenticator) { a.Key, a.ID = bob.Key, bob.ID }, plain},
		"another pool's key":      {func(a *webauthntest.Authenticator) { a.Key, a.ID = again.Key, again.ID }, plain},
		"an unknown key":          {func(a *webauthntest.Authenticator) { *a = *webauthntest.New(passkeyOrigin) }, plain},
		"another's user handle":   {func(a *webauthntest.Authenticator) { a.UserHandle = []byte("bob") }, plain},
		"a credential that moved": {func(a *webauthntest.Authenticator) { a.Flags |= webauthntest.BackupEligible }, plain},
	} {
		evil := *ada
		evil.Count += 100
		x.change(&evil)
		o := w.askPasskey(c, "ada")
		got, err := w.answerPasskey(c, "ada", o, &evil)
		wrong(what, got, err, x.text)
		o = w.askPasskey(c, "ada")
		_, _ = w.answerPasskey(c, "ada", o, &evil)
		if _, err = w.answerPasskey(c, "ada", o, ada); err == nil {
			t.Errorf("after %s the challenge is good again", what)
		}
		w.pass(time.Hour)
	}

	o := w.askPasskey(c, "ada")
	credential := ada.Get([]byte(o.Parameters["CREDENTIAL_REQUEST_OPTIONS"]))
	must(w.respondPasskey(c, "ada", o.Session, credential))(t)
	got, err := w.respondPasskey(c, "ada", o.Session, credential)
	wrong("a replay", got, err, "session can only be used once")
	got, err = w.respondPasskey(c, "ada", w.askPasskey(c, "ada").Session, credential)
	wrong("a replay to another challenge", got, err, "another challenge")

	o = w.askPasskey(c, "ada")
	w.pass(3 * time.Minute)
	got, err = w.answerPasskey(c, "ada", o, ada)
	wrong("an old challenge", got, err, "session is expired")
	o = w.askPasskey(c, "ada")
	got, err = w.answerPasskey(c, "bob", o, ada)
	wrong("another's name", got, err, "Invalid session")
	got, err = w.answerPasskey(app, "ada", o, again)
	wrong("another pool's challenge", got, err, "Invalid session")
	o.Session = must(w.choose(c, "ada"))(t).Session
	got, err = w.answerPasskey(c, "ada", o, ada)
	wrong("the session of another step", got, err, "Invalid session")
	got, err = w.respondPasskey(c, "ada", w.askPasskey(c, "ada").Session, []byte("{}"))
	wrong("nothing", got, err, "CREDENTIAL: ")

	// Its algorithm is the one of its registration, whatever the answer says: there is no place to say another.
	confused := *ada
	confused.Algorithm = -257
	must(w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), &confused))(t)
}

func TestACopyOfAPasskeyIsFoundOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(withPasskeys)
	c := w.choiceClient(p)
	w.user(p, "ada", nil)
	a := w.passkey(c, "ada")
	copied := *a
	must(w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a))(t)
	must(w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a))(t)
	_, err := w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), &copied)
	wantError(t, err, "NotAuthorizedException", "")
	if !strings.Contains(err.Error(), "there may be a copy") {
		t.Errorf("the copy is told %v", err)
	}
	must(w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a))(t)

	w.user(p, "bob", nil)
	h := Holder{AccessToken: w.tokens(c, "bob").Access}
	synced := webauthntest.New(passkeyOrigin) // which does not count
	synced.Counts, synced.Flags = false, synced.Flags|webauthntest.BackupEligible|webauthntest.BackedUp
	ok(t, w.AddPasskey(t.Context(), h, synced.Create(must(w.NewPasskey(t.Context(), h))(t))))
	for range 2 {
		must(w.answerPasskey(c, "bob", w.askPasskey(c, "bob"), synced))(t)
	}
}

func TestWrongPasskeysLockLikeWrongPasswords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(withPasskeys)
	c := w.choiceClient(p)
	w.user(p, "ada", nil)
	a := w.passkey(c, "ada")
	wrong := webauthntest.New(passkeyOrigin)
	for n := range freeFailures {
		if n%2 == 0 {
			_, err := w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), wrong)
			wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
			continue
		}
		_, err := w.signIn(c, "ada", "wrong")
		wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	}
	_, err := w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a)
	wantError(t, err, "NotAuthorizedException", "Password attempts exceeded")
	w.pass(2 * time.Second)
	must(w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a))(t)
	must(w.signIn(c, "ada", good))(t)

	// Thirty at once are one after the other: one right answer of a challenge signs in once.
	o := w.askPasskey(c, "ada")
	credential := a.Get([]byte(o.Parameters["CREDENTIAL_REQUEST_OPTIONS"]))
	results := make(chan error, 30)
	for range cap(results) {
		go func() {
			_, err := w.respondPasskey(c, "ada", o.Session, credential)
			results <- err
		}()
	}
	in := 0
	for range cap(results) {
		if <-results == nil {
			in++
		}
	}
	if in != 1 {
		t.Errorf("one assertion signed in %d times", in)
	}
}

// TestPasskeysOfUsersWhoMayNotSignIn: they follow the state of the user, and are no way around a password that was set for them.
func TestPasskeysOfUsersWhoMayNotSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(withPasskeys)
	c := w.choiceClient(p)
	w.user(p, "ada", map[string]string{"email": "a@example.com", "email_verified": "true"})
	a := w.passkey(c, "ada")
	ok(t, w.EnableUser(t.Context(), scope, p.ID, "ada", false))
	_, err := w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a)
	wantError(t, err, "NotAuthorizedException", "User is disabled.")
	ok(t, w.EnableUser(t.Context(), scope, p.ID, "ada", true))

	before := w.askPasskey(c, "ada")
	ok(t, w.SetPassword(t.Context(), scope, p.ID, "ada", other, false)) // a temporary one
	_, err = w.answerPasskey(c, "ada", before, a)
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	if w.showsPasskeys(c, "ada") {
		t.Error("a passkey stands in for a temporary password")
	}
	ok(t, w.SetPassword(t.Context(), scope, p.ID, "ada", good, true))
	must(w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a))(t)

	before = w.askPasskey(c, "ada")
	ok(t, w.DeleteUser(t.Context(), scope, p.ID, "ada"))
	_, err = w.answerPasskey(c, "ada", before, a)
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	w.user(p, "ada", nil)
	if w.showsPasskeys(c, "ada") {
		t.Error("a new user has an old one's passkey")
	}
	// Who comes from elsewhere proves it there.
	h := Holder{AccessToken: w.tokens(c, "ada").Access}
	ok(t, w.db.Tx(t.Context(), func(tx *store.Tx) error {
		u, err := tx.PoolUserByName(scope, p.ID, "ada")
		if err != nil {
			return err
		}
		from := u
		from.Status = External
		return tx.UpdatePoolUser(scope, p.ID, u, from)
	}))
	_, err = w.NewPasskey(t.Context(), h)
	wantError(t, err, "NotAuthorizedException", "Users from other identity providers have no passkeys here.")
}

// TestPasskeysAndTheSecondFactor: by itself a passkey is one factor, and is not offered to who needs two. With user verification it is both
// where the pool and the user want that.
func TestPasskeysAndTheSecondFactor(t *testing.T) {
	t.Parallel()
	settings := withPasskeys
	settings.MFA = MFAOptional
	w, p, c, secret := enrolled(t, settings)
	c.AuthFlows = append(slices.Clone(allFlows), "ALLOW_USER_AUTH")
	must(w.UpdateClient(t.Context(), scope, p.ID, c.ID, "", c.ClientSettings))(t)
	signIn := func() fleet.Secret {
		t.Helper()
		w.pass(totpSeconds * time.Second)
		return must(w.answerCode(c, must(w.signIn(c, "ada", good))(t), "ada", w.code(secret, 0)))(t).Tokens.Access
	}
	access := signIn()
	h := Holder{AccessToken: access}
	a := webauthntest.New(passkeyOrigin)
	ok(t, w.AddPasskey(t.Context(), h, a.Create(must(w.NewPasskey(t.Context(), h))(t))))
	if w.showsPasskeys(c, "ada") {
		t.Error("one factor is offered to somebody who needs two")
	}
	yes, no := true, false
	want := MFAChoice{Passkeys: &yes}
	wantError(t, w.PreferMFA(t.Context(), access, want), "InvalidParameterException", "")
	multi := withPasskeys.Passkeys
	multi.Factor = "MULTI_FACTOR_WITH_USER_VERIFICATION"
	must(w.SetMFA(t.Context(), scope, p.ID, "", nil, &multi))(t)
	if w.showsPasskeys(c, "ada") {
		t.Error("passkeys are both factors without being asked")
	}
	ok(t, w.PreferMFA(t.Context(), access, want))
	o := w.askPasskey(c, "ada")
	if r := optionsOf(t, o); r.Verification != "required" {
		t.Errorf("verification is %s", r.Verification)
	}
	if done := must(w.answerPasskey(c, "ada", o, a))(t); done.Tokens == nil {
		t.Errorf("the passkey gives %+v", done)
	}
	a.Flags = webauthntest.Present
	_, err := w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a)
	wantError(t, err, "NotAuthorizedException", "")
	a.Flags |= webauthntest.Verified
	must(w.SetMFA(t.Context(), scope, p.ID, MFAOn, &yes, nil))(t)
	if done := must(w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), a))(t); done.Tokens == nil {
		t.Errorf("where everybody needs two factors the passkey gives %+v", done)
	}
	before := w.askPasskey(c, "ada")
	ok(t, w.PreferMFA(t.Context(), access, MFAChoice{Passkeys: &no}))
	if done := must(w.answerPasskey(c, "ada", before, a))(t); done.Challenge != "SOFTWARE_TOKEN_MFA" || done.Tokens != nil {
		t.Errorf("after the choice was taken back the passkey gives %+v", done)
	}
	w.user(p, "bob", nil)
	wantError(t, w.PreferMFAFor(t.Context(), scope, p.ID, "bob", want), "InvalidParameterException", "User has no passkey")
}

// TestShadowsHavePasskeysOrNone: a name that nobody has answers as it did before, and as names do that somebody has.
func TestShadowsHavePasskeysOrNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(withPasskeys)
	c := w.choiceClient(p)
	with := 0
	for n := range 64 {
		name := fmt.Sprintf("nobody-%d", n)
		if !w.showsPasskeys(c, name) {
			continue
		}
		with++
		one, two := optionsOf(t, w.askPasskey(c, name)), optionsOf(t, w.askPasskey(c, strings.ToUpper(name)))
		if fmt.Sprint(one.Allow) != fmt.Sprint(two.Allow) || one.Challenge == two.Challenge || len(one.Allow) != 1 {
			t.Errorf("%s shows %v and %v", name, one, two)
		}
	}
	if with < 8 || with > 56 {
		t.Errorf("%d of 64 have passkeys", with)
	}
	shown := w.client(p, ClientSettings{AuthFlows: c.AuthFlows, ShowUnknownUsers: true})
	_, err := w.choose(shown, "nobody")
	wantError(t, err, "UserNotFoundException", "User does not exist.")
}

func TestARefusedPasskeyIsToldWithWhoseItIs(t *testing.T) {
	t.Parallel()
	var told []RefusedSignIn
	w := newWorld(t, func(c *Config) {
		c.OnSignInRefused = func(_ context.Context, r RefusedSignIn) { told = append(told, r) }
	})
	p := w.pool(withPasskeys)
	c := w.choiceClient(p)
	w.user(p, "ada", nil)
	w.passkey(c, "ada")
	_, err := w.answerPasskey(c, "ada", w.askPasskey(c, "ada"), webauthntest.New(passkeyOrigin))
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	if len(told) != 1 || told[0].User != "ada" || told[0].Step != "WEB_AUTHN" {
		t.Errorf("told %+v", told)
	}
}
