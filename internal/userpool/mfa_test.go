package userpool

import (
	"context"
	"encoding/base32"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// code is what an authenticator app shows for a secret, some steps from now.
func (w *world) code(secret fleet.Secret, offset int64) fleet.Secret {
	w.t.Helper()
	raw := must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret.Reveal()))(w.t)
	return fleet.Secret(totpCode(raw, totpStepAt(w.clock())+offset))
}

// wrong is a code that is not one of a secret around now.
func (w *world) wrong(secret fleet.Secret) fleet.Secret {
	for _, guess := range []fleet.Secret{"000000", "111111", "222222", "333333"} {
		if guess != w.code(secret, -1) && guess != w.code(secret, 0) && guess != w.code(secret, 1) {
			return guess
		}
	}
	panic("three steps have four codes")
}

// enrol gives a signed-in user a software token and lets a step pass, so that its next code is a new one.
func (w *world) enrol(access fleet.Secret, choice MFAChoice) fleet.Secret {
	w.t.Helper()
	secret, session, err := w.NewSoftwareToken(w.t.Context(), Enrolment{AccessToken: access})
	if ok(w.t, err); session != "" {
		w.t.Error("an enrolment by access token has a session")
	}
	if len(secret) != 52 || strings.Trim(secret.Reveal(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		w.t.Errorf("the secret has %d characters", len(secret))
	}
	if s := must(w.VerifySoftwareToken(w.t.Context(), Enrolment{AccessToken: access}, w.code(secret, 0), "my phone"))(w.t); s != "" {
		w.t.Error("an enrolment by access token has a session")
	}
	ok(w.t, w.PreferMFA(w.t.Context(), access, choice))
	w.pass(totpSeconds * time.Second)
	return secret
}

func (w *world) answerCode(c *Client, o Outcome, name string, code fleet.Secret) (Outcome, error) {
	responses := c.hashed(name, "USERNAME", name, "SOFTWARE_TOKEN_MFA_CODE", code.Reveal())
	return w.Respond(w.t.Context(), Answer{ClientID: c.ID, Challenge: "SOFTWARE_TOKEN_MFA", Session: o.Session, Responses: responses})
}

func wantChallenge(t testing.TB, o Outcome, name string, parameters map[string]string) {
	t.Helper()
	if o.Challenge != name || o.Tokens != nil || len(o.Session) < 20 || len(o.Session) > 2048 {
		t.Fatalf("outcome %+v with a session of %d, want %s", o, len(o.Session), name)
	}
	if len(o.Parameters) != len(parameters) {
		t.Errorf("parameters %v, want %v", o.Parameters, parameters)
	}
	for k, v := range parameters {
		if o.Parameters[k] != v {
			t.Errorf("%s is %q, want %q", k, o.Parameters[k], v)
		}
	}
}

// enrolled is a pool where people may use a second factor, with a user who does and their secret.
func enrolled(t testing.TB, settings Settings) (w *world, p *Pool, c *Client, secret fleet.Secret) {
	t.Helper()
	w = newWorld(t)
	if settings.MFA == "" {
		settings.MFA = MFAOptional
	}
	p = w.pool(settings)
	c = w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	return w, p, c, w.enrol(w.tokens(c, "ada").Access, MFAChoice{Token: &TokenChoice{Enabled: true, Preferred: true}})
}

func TestWhoHasEnabledASoftwareTokenIsAskedForItInEveryFlow(t *testing.T) {
	t.Parallel()
	w, p, c, secret := enrolled(t, Settings{})
	admin := func() (Outcome, error) {
		return w.AdminInitiateAuth(t.Context(), scope, p.ID, SignIn{ClientID: c.ID, Flow: "ADMIN_USER_PASSWORD_AUTH",
			Parameters: secrets("USERNAME", "ada", "PASSWORD", good)})
	}
	for name, flow := range map[string]func() (Outcome, error){
		"SRP":      func() (Outcome, error) { return w.srp(c, "ada", good) },
		"password": func() (Outcome, error) { return w.signIn(c, "ada", good) },
		"admin":    admin,
	} {
		o := must(flow())(t)
		wantChallenge(t, o, "SOFTWARE_TOKEN_MFA", map[string]string{"USER_ID_FOR_SRP": "ada", "FRIENDLY_DEVICE_NAME": "my phone"})
		answer := Answer{ClientID: c.ID, Challenge: o.Challenge, Session: o.Session, Responses: secrets("USERNAME", "ada", "SOFTWARE_TOKEN_MFA_CODE", w.code(secret, 0).Reveal())}
		respond := w.Respond
		if name == "admin" {
			respond = func(ctx context.Context, in Answer) (Outcome, error) { return w.AdminRespond(ctx, scope, p.ID, in) }
		}
		if done := must(respond(t.Context(), answer))(t); done.Tokens == nil || done.Tokens.Refresh == "" || done.Challenge != "" || len(done.Parameters) != 0 {
			t.Errorf("%s: a right code gives %+v", name, done)
		}
		w.pass(totpSeconds * time.Second)
		answer.Responses["SOFTWARE_TOKEN_MFA_CODE"] = w.code(secret, 0)
		_, err := respond(t.Context(), answer)
		wantError(t, err, "NotAuthorizedException", "Invalid session for the user, session can only be used once.")
		w.pass(totpSeconds * time.Second)
	}
	u := must(w.User(t.Context(), scope, p.ID, "ada"))(t)
	if !slices.Equal(u.MFA, []string{"SOFTWARE_TOKEN_MFA"}) || u.PreferredMFA != "SOFTWARE_TOKEN_MFA" {
		t.Errorf("the user shows %v, preferred %q", u.MFA, u.PreferredMFA)
	}
}

func TestAfterATemporaryPasswordTheCodeIsAskedFor(t *testing.T) {
	t.Parallel()
	w, p, c, secret := enrolled(t, Settings{})
	ok(t, w.SetPassword(t.Context(), scope, p.ID, "ada", other, false))
	first := must(w.srp(c, "ada", other))(t)
	if first.Challenge != "NEW_PASSWORD_REQUIRED" {
		t.Fatalf("challenge %s", first.Challenge)
	}
	second := must(w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: first.Challenge, Session: first.Session,
		Responses: secrets("USERNAME", "ada", "NEW_PASSWORD", good)}))(t)
	wantChallenge(t, second, "SOFTWARE_TOKEN_MFA", map[string]string{"USER_ID_FOR_SRP": "ada", "FRIENDLY_DEVICE_NAME": "my phone"})
	if o := must(w.answerCode(c, second, "ada", w.code(secret, 0)))(t); o.Tokens == nil {
		t.Error("no tokens after both challenges")
	}
}

func TestACodeIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	w, _, c, secret := enrolled(t, Settings{})
	code := w.code(secret, 0)
	one, two := must(w.signIn(c, "ada", good))(t), must(w.signIn(c, "ada", good))(t)
	_, err := w.answerCode(c, one, "ada", w.wrong(secret))
	wantError(t, err, "CodeMismatchException", "Invalid code received for user")
	must(w.answerCode(c, one, "ada", code))(t)
	_, err = w.answerCode(c, two, "ada", code)
	wantError(t, err, "ExpiredCodeException", "Your software token has already been used once.")
	w.pass(totpSeconds * time.Second)
	_, err = w.answerCode(c, two, "ada", code) // still within the window
	wantError(t, err, "ExpiredCodeException", "")
	must(w.answerCode(c, two, "ada", w.code(secret, 1)))(t)

	// The code that set the token up is used, too.
	access := w.tokensWith(c, "ada", secret)
	renewed := must2(w.NewSoftwareToken(t.Context(), Enrolment{AccessToken: access}))(t)
	setUp := w.code(renewed, 0)
	must(w.VerifySoftwareToken(t.Context(), Enrolment{AccessToken: access}, setUp, ""))(t)
	_, err = w.answerCode(c, must(w.signIn(c, "ada", good))(t), "ada", setUp)
	wantError(t, err, "ExpiredCodeException", "")
}

// must2 is must for a value with another that nobody wants.
func must2[T, U any](v T, _ U, err error) func(testing.TB) T { return must(v, err) }

// tokensWith signs in with password and code, two steps later.
func (w *world) tokensWith(c *Client, name string, secret fleet.Secret) fleet.Secret {
	w.t.Helper()
	w.pass(2 * totpSeconds * time.Second)
	return must(w.answerCode(c, must(w.signIn(c, name, good))(w.t), name, w.code(secret, 0)))(w.t).Tokens.Access
}

func TestManyAnswersAtOnceWithOneCodeSignInOnce(t *testing.T) {
	t.Parallel()
	w, _, c, secret := enrolled(t, Settings{})
	code := w.code(secret, 0)
	var outcomes []Outcome
	for range 8 {
		outcomes = append(outcomes, must(w.signIn(c, "ada", good))(t))
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for _, o := range outcomes {
		wg.Go(func() {
			if _, err := w.answerCode(c, o, "ada", code); err == nil {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("one code has signed in %d times", in.Load())
	}
}

func TestWrongCodesLockLikeWrongPasswordsAndThePasswordAloneForgetsNone(t *testing.T) {
	t.Parallel()
	w, p, c, secret := enrolled(t, Settings{})
	for range 4 {
		o := must(w.signIn(c, "ada", good))(t) // which must not start the count anew
		_, err := w.answerCode(c, o, "ada", w.wrong(secret))
		wantError(t, err, "CodeMismatchException", "Invalid code received for user")
	}
	o := must(w.signIn(c, "ada", good))(t)
	_, err := w.answerCode(c, o, "ada", w.wrong(secret))
	wantError(t, err, "CodeMismatchException", "")
	_, err = w.answerCode(c, o, "ada", w.code(secret, 0))
	wantError(t, err, "NotAuthorizedException", "Password attempts exceeded")
	_, err = w.signIn(c, "ada", good)
	wantError(t, err, "NotAuthorizedException", "Password attempts exceeded")
	w.pass(2 * time.Second)
	must(w.answerCode(c, o, "ada", w.code(secret, 0)))(t)
	ok(t, w.db.View(t.Context(), func(tx *store.Tx) error {
		u, err := tx.PoolUserByName(scope, p.ID, "ada")
		ok(t, err)
		a, err := tx.PoolAttempts(scope, p.ID, userSubject(u.Sub), signInAttempts)
		if a.Count != 0 {
			t.Errorf("after a whole sign-in %d failures are kept", a.Count)
		}
		return err
	}))
}

func TestWhereEverybodyNeedsATokenTheSignInSetsItUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{MFA: MFAOn})
	c := must(w.CreateClient(t.Context(), scope, p.ID, NewClient{Name: "app", ClientSettings: ClientSettings{AuthFlows: allFlows}, Secret: "a secret of the client that is long enough"}))(t)
	must(w.CreateUser(t.Context(), scope, p.ID, NewUser{Username: "ada", TemporaryPassword: other, Suppress: true}))(t)
	first := must(w.srp(c, "ada", other))(t)
	o := must(w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: first.Challenge, Session: first.Session,
		Responses: c.hashed("ada", "USERNAME", "ada", "NEW_PASSWORD", good)}))(t)
	wantChallenge(t, o, "MFA_SETUP", map[string]string{"USER_ID_FOR_SRP": "ada", "MFAS_CAN_SETUP": `["SOFTWARE_TOKEN_MFA"]`})
	finish := func(session fleet.Secret) (Outcome, error) {
		return w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: "MFA_SETUP", Session: session, Responses: c.hashed("ada", "USERNAME", "ada")})
	}
	_, err := finish(o.Session)
	wantError(t, err, "InvalidParameterException", "User has not verified software token mfa")
	_, err = w.VerifySoftwareToken(t.Context(), Enrolment{Session: o.Session}, "000000", "")
	wantError(t, err, "SoftwareTokenMFANotFoundException", "Software Token MFA does not exist for the user.")
	secret, session, err := w.NewSoftwareToken(t.Context(), Enrolment{Session: o.Session})
	ok(t, err)
	_, err = w.VerifySoftwareToken(t.Context(), Enrolment{Session: session}, w.wrong(secret), "")
	wantError(t, err, "EnableSoftwareTokenMFAException", "Code mismatch and fail enable Software Token MFA")
	done := must(w.VerifySoftwareToken(t.Context(), Enrolment{Session: session}, w.code(secret, 0), "phone"))(t)
	for _, spent := range []fleet.Secret{o.Session, session} { // the password alone replaces no token
		_, _, err = w.NewSoftwareToken(t.Context(), Enrolment{Session: spent})
		wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	}
	if out := must(finish(done))(t); out.Tokens == nil {
		t.Errorf("after the set-up: %+v", out)
	}
	_, err = finish(done)
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user, session can only be used once.")
	w.pass(totpSeconds * time.Second)
	again := must(w.signIn(c, "ada", good))(t)
	wantChallenge(t, again, "SOFTWARE_TOKEN_MFA", map[string]string{"USER_ID_FOR_SRP": "ada", "FRIENDLY_DEVICE_NAME": "phone"})
	_, err = w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: again.Challenge, Session: again.Session,
		Responses: secrets("USERNAME", "ada", "SOFTWARE_TOKEN_MFA_CODE", w.code(secret, 0).Reveal())}) // without SECRET_HASH
	wantError(t, err, "NotAuthorizedException", "")
	tokens := must(w.answerCode(c, again, "ada", w.code(secret, 0)))(t).Tokens
	// Who switches it off is still asked: AWS answers success and goes on asking.
	ok(t, w.PreferMFA(t.Context(), tokens.Access, MFAChoice{Token: &TokenChoice{}}))
	wantChallenge(t, must(w.signIn(c, "ada", good))(t), "SOFTWARE_TOKEN_MFA", map[string]string{"USER_ID_FOR_SRP": "ada", "FRIENDLY_DEVICE_NAME": "phone"})
}

func TestASessionServesOnlyItsStepItsUserAndItsPassword(t *testing.T) {
	t.Parallel()
	w, p, c, secret := enrolled(t, Settings{})
	w.user(p, "eve", nil)
	o := must(w.signIn(c, "ada", good))(t)
	_, err := w.answerCode(c, o, "eve", w.code(secret, 0))
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	other := w.client(p, ClientSettings{})
	_, err = w.answerCode(other, o, "ada", w.code(secret, 0))
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	for _, step := range []string{"NEW_PASSWORD_REQUIRED", "MFA_SETUP"} {
		_, err = w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: step, Session: o.Session, Responses: secrets("USERNAME", "ada", "NEW_PASSWORD", good)})
		wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	}
	for _, session := range []fleet.Secret{o.Session, "nothing.at-all-of-the-kind", "nothing-at-all-of-the-kind", o.Session + "x"} {
		_, _, err = w.NewSoftwareToken(t.Context(), Enrolment{Session: session})
		wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	}
	_, err = w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: "SOFTWARE_TOKEN_MFA", Responses: secrets("USERNAME", "ada", "SOFTWARE_TOKEN_MFA_CODE", "1")})
	wantError(t, err, "InvalidParameterException", "Missing required parameter Session")
	ok(t, w.EnableUser(t.Context(), scope, p.ID, "ada", false))
	_, err = w.answerCode(c, o, "ada", w.code(secret, 0))
	wantError(t, err, "NotAuthorizedException", "User is disabled.")
	ok(t, w.EnableUser(t.Context(), scope, p.ID, "ada", true))
	ok(t, w.SetPassword(t.Context(), scope, p.ID, "ada", good+"x", true))
	_, err = w.answerCode(c, o, "ada", w.code(secret, 0))
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	fresh := must(w.signIn(c, "ada", good+"x"))(t)
	w.pass(4 * time.Minute)
	_, err = w.answerCode(c, fresh, "ada", w.code(secret, 0))
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user, session is expired.")
}

func TestPreferencesAreKeptWhereAPersonHasAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	c := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	access := w.tokens(c, "ada").Access
	_, _, err := w.NewSoftwareToken(t.Context(), Enrolment{AccessToken: access})
	wantError(t, err, "SoftwareTokenMFANotFoundException", "Software Token MFA has not been enabled by the userPool")
	must(w.SetMFA(t.Context(), scope, p.ID, MFAOptional, new(true), nil))(t)
	on, off := MFAChoice{Token: &TokenChoice{Enabled: true, Preferred: true}}, MFAChoice{Token: &TokenChoice{}}
	wantError(t, w.PreferMFA(t.Context(), access, on), "InvalidParameterException", "User has not verified software token mfa")
	ok(t, w.PreferMFA(t.Context(), access, off))
	ok(t, w.PreferMFA(t.Context(), access, MFAChoice{}))
	_, _, err = w.NewSoftwareToken(t.Context(), Enrolment{})
	wantError(t, err, "InvalidParameterException", "")
	secret := w.enrol(access, MFAChoice{}) // verified, and not asked for yet
	if u := must(w.Self(t.Context(), access))(t); u.MFA != nil || u.PreferredMFA != "" {
		t.Errorf("before the choice: %v %q", u.MFA, u.PreferredMFA)
	}
	w.tokens(c, "ada")
	wantError(t, w.PreferMFAFor(t.Context(), scope, p.ID, "ada", MFAChoice{Token: &TokenChoice{Preferred: true}}), "InvalidParameterException", "")
	wantError(t, w.PreferMFAFor(t.Context(), scope, p.ID, "eve", off), "UserNotFoundException", "")
	wantError(t, w.PreferMFAFor(t.Context(), scope, p.ID, "eve", MFAChoice{}), "UserNotFoundException", "")
	ok(t, w.PreferMFAFor(t.Context(), scope, p.ID, "ada", on))
	if u := must(w.Self(t.Context(), access))(t); len(u.MFA) != 1 || u.PreferredMFA != "SOFTWARE_TOKEN_MFA" {
		t.Errorf("after the choice: %v %q", u.MFA, u.PreferredMFA)
	}
	// A token that is being set up leaves the one in force alone.
	next := must2(w.NewSoftwareToken(t.Context(), Enrolment{AccessToken: access}))(t)
	o := must(w.signIn(c, "ada", good))(t)
	_, err = w.answerCode(c, o, "ada", w.code(next, 0))
	wantError(t, err, "CodeMismatchException", "")
	must(w.answerCode(c, o, "ada", w.code(secret, 0)))(t)
	must(w.VerifySoftwareToken(t.Context(), Enrolment{AccessToken: access}, w.code(next, 0), "new phone"))(t)
	w.pass(totpSeconds * time.Second)
	o = must(w.signIn(c, "ada", good))(t)
	_, err = w.answerCode(c, o, "ada", w.code(secret, 0))
	wantError(t, err, "CodeMismatchException", "")
	must(w.answerCode(c, o, "ada", w.code(next, 0)))(t)
	ok(t, w.PreferMFA(t.Context(), access, off))
	w.tokens(c, "ada")
	// A pool without a second factor asks nobody.
	ok(t, w.PreferMFA(t.Context(), access, on))
	must(w.SetMFA(t.Context(), scope, p.ID, MFAOff, nil, nil))(t)
	w.tokens(c, "ada")
}

func TestTheModeOfAPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	yes, no := new(true), new(false)
	none := "Invalid MFA Configuration given. SMS MFA, Email MFA, or Software Token MFA must be enabled."
	both := "Invalid MFA configuration given, can't turn off MFA and configure an MFA together."
	for _, c := range []struct {
		mode      string
		tokens    *bool
		now, fail string
	}{
		{"", nil, "OFF", ""}, {"OFF", nil, "OFF", ""}, {"OFF", no, "OFF", ""}, {"OFF", yes, "OFF", both}, {"", yes, "OFF", both}, {"", no, "OFF", ""},
		{"ON", nil, "OFF", none}, {"OPTIONAL", no, "OFF", none}, {"OPTIONAL", yes, "OPTIONAL", ""}, {"", nil, "OPTIONAL", ""}, {"", no, "OPTIONAL", none},
		{"ON", nil, "OPTIONAL", none}, {"ON", yes, "ON", ""}, {"", yes, "ON", ""}, {"OFF", nil, "OFF", ""},
	} {
		set, err := w.SetMFA(t.Context(), scope, p.ID, c.mode, c.tokens, nil)
		if c.fail != "" {
			wantError(t, err, "InvalidParameterException", c.fail)
		} else if ok(t, err); set.MFAMode() != c.now {
			t.Errorf("%q answers %s", c.mode, set.MFAMode())
		}
		if got := must(w.Pool(t.Context(), scope, p.ID))(t).MFAMode(); got != c.now {
			t.Errorf("%q leaves the pool %s, want %s", c.mode, got, c.now)
		}
	}
	_, err := w.SetMFA(t.Context(), scope, p.ID+"x", "OFF", nil, nil)
	wantError(t, err, "ResourceNotFoundException", "")
}

func TestCodesOfASetUpCanBeGuessedFifteenTimesAnHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{MFA: MFAOptional})
	c := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	by := Enrolment{AccessToken: w.tokens(c, "ada").Access}
	secret := must2(w.NewSoftwareToken(t.Context(), by))(t)
	for range 15 {
		_, err := w.VerifySoftwareToken(t.Context(), by, w.wrong(secret), "")
		wantError(t, err, "EnableSoftwareTokenMFAException", "")
	}
	_, err := w.VerifySoftwareToken(t.Context(), by, w.code(secret, 0), "")
	wantError(t, err, "TooManyRequestsException", "Rate exceeded")
	_, err = w.VerifySoftwareToken(t.Context(), by, w.code(secret, 0), strings.Repeat("x", 1025))
	wantError(t, err, "InvalidParameterException", "")
}

func TestATokenGoesWithItsUser(t *testing.T) {
	t.Parallel()
	w, p, c, _ := enrolled(t, Settings{})
	sub := must(w.User(t.Context(), scope, p.ID, "ada"))(t).Sub
	ok(t, w.DeleteUser(t.Context(), scope, p.ID, "ada"))
	ok(t, w.db.View(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.SoftwareToken(scope, p.ID, sub, store.TokenVerified); !isNotFound(err) {
			t.Errorf("the token of a deleted user: %v", err)
		}
		return nil
	}))
	w.user(p, "ada", nil)
	w.tokens(c, "ada")
}

func TestASecretInTheStoreOpensOnlyWhereItWasPut(t *testing.T) {
	t.Parallel()
	w, p, c, secret := enrolled(t, Settings{})
	w.user(p, "eve", nil)
	w.enrol(w.tokens(c, "eve").Access, MFAChoice{Token: &TokenChoice{Enabled: true}})
	subs := map[string]string{}
	for _, name := range []string{"ada", "eve"} {
		subs[name] = must(w.User(t.Context(), scope, p.ID, name))(t).Sub
	}
	ok(t, w.db.Tx(t.Context(), func(tx *store.Tx) error { // somebody with access to the database puts their own secret in place of another's
		theirs, err := tx.SoftwareToken(scope, p.ID, subs["ada"], store.TokenVerified)
		ok(t, err)
		if strings.Contains(string(theirs.Secret), secret.Reveal()) {
			t.Error("the secret is in the store as it is")
		}
		return tx.PutSoftwareToken(scope, p.ID, subs["eve"], theirs)
	}))
	if _, err := w.answerCode(c, must(w.signIn(c, "eve", good))(t), "eve", w.code(secret, 0)); err == nil {
		t.Error("a secret that was moved to another user signs them in")
	}
}

func TestALostTokenIsReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{MFA: MFAOn})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	asked := func() string { return must(w.signIn(app, "ada", good))(t).Challenge }
	enrol := func() {
		o := must(w.signIn(app, "ada", good))(t)
		text, session, err := w.NewSoftwareToken(ctx, Enrolment{Session: o.Session})
		ok(t, err)
		must(w.VerifySoftwareToken(ctx, Enrolment{Session: session}, w.code(text, 0), ""))(t)
	}
	wantError(t, w.ResetSoftwareToken(ctx, scope, p.ID, "ada"), "SoftwareTokenMFANotFoundException", "")
	wantError(t, w.ResetSoftwareToken(ctx, scope, p.ID, "eve"), "UserNotFoundException", "")
	enrol()
	if c := asked(); c != tokenStep {
		t.Fatalf("a sign-in asks for %s", c)
	}
	half := must(w.signIn(app, "ada", good))(t)
	ok(t, w.ResetSoftwareToken(ctx, scope, p.ID, "ada"))
	_, err := w.Respond(ctx, Answer{ClientID: app.ID, Challenge: tokenStep, Session: half.Session, Responses: secrets("USERNAME", "ada", "SOFTWARE_TOKEN_MFA_CODE", "123456")})
	wantError(t, err, "SoftwareTokenMFANotFoundException", "")
	if c := asked(); c != setUpStep {
		t.Fatalf("a sign-in after the reset asks for %s", c)
	}
	enrol()
	if c := asked(); c != tokenStep {
		t.Fatalf("a sign-in with the new token asks for %s", c)
	}
}
