package userpool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

// known and unknown are names of which one is somebody's. Their addresses look alike when they are masked.
const (
	known   = "anna"
	unknown = "anne"
)

// fewStatements is how many more may be asked about somebody who exists: the user's rows are read, a code and a message are kept. Each takes
// some microseconds, of which make soak looks whether they show.
const fewStatements = 6

// A drill does one thing that needs no proof, about somebody of a name, and returns what a stranger sees of it.
type drill struct {
	name string
	do   func(w *world, app *Client, name string) string
}

// seen is what a stranger sees of an answer, but for what differs from one answer to the next anyway.
func seen(name, answer string, err error) string {
	var e *fleet.Error
	switch {
	case err == nil:
		return strings.ReplaceAll(answer, name, "NAME")
	case errors.As(err, &e):
		return fmt.Sprintf("%v %s %q", e.Kind, e.Code, strings.ReplaceAll(e.Msg, name, "NAME"))
	}
	return err.Error()
}

// offered is the form of the first step's answer. Numbers may begin with zeros, so the longest of a few counts; a salt is the same each time,
// so its zeros are put back.
func offered(w *world, app *Client, name string) string {
	longest := map[string]int{}
	var err error
	for range 3 {
		srp := newSRPClient(app.PoolID, "wrong")
		var out Outcome
		out, err = w.InitiateAuth(context.Background(), SignIn{ClientID: app.ID, Flow: "USER_SRP_AUTH", Parameters: secrets("USERNAME", name, "SRP_A", srp.srpA())})
		for k, v := range out.Parameters {
			if k == "SALT" {
				v = strings.Repeat("0", max(0, 32-len(v))) + v
			}
			longest[k] = max(longest[k], len(strings.ReplaceAll(v, name, "NAME")))
		}
	}
	return seen(name, fmt.Sprint(longest), err)
}

// chosen is the form of the answers to a choice-based sign-in, of which passkeys are a way. Both have some: see target.
func chosen(w *world, app *Client, name string) string {
	out, err := w.InitiateAuth(context.Background(), SignIn{ClientID: app.ID, Flow: "USER_AUTH", Parameters: secrets("USERNAME", name)})
	asked, err2 := w.InitiateAuth(context.Background(), SignIn{ClientID: app.ID, Flow: "USER_AUTH", Parameters: secrets("USERNAME", name, "PREFERRED_CHALLENGE", "WEB_AUTHN")})
	if err != nil || err2 != nil {
		return seen(name, "", errors.Join(err, err2))
	}
	o := optionsOf(w.t, asked)
	return fmt.Sprint(out.Challenge, out.Available, len(out.Session), asked.Challenge, len(asked.Session), len(asked.Parameters), o.RPID, o.Timeout, o.Verification, len(o.Allow),
		len(o.Challenge))
}

var guesses = []drill{
	{"InitiateAuth by choice", chosen},
	{"a passkey of nobody", func(w *world, app *Client, name string) string {
		asked, err := w.InitiateAuth(context.Background(), SignIn{ClientID: app.ID, Flow: "USER_AUTH", Parameters: secrets("USERNAME", name, "PREFERRED_CHALLENGE", "WEB_AUTHN")})
		if err != nil {
			return seen(name, "", err)
		}
		out, err := w.answerPasskey(app, name, asked, webauthntest.New(passkeyOrigin))
		return seen(name, fmt.Sprintf("%+v", out), err)
	}},
	{"a password by choice", func(w *world, app *Client, name string) string {
		out, err := w.InitiateAuth(context.Background(), SignIn{ClientID: app.ID, Flow: "USER_AUTH", Parameters: secrets("USERNAME", name, "PREFERRED_CHALLENGE", "PASSWORD", "PASSWORD", "wrong")})
		return seen(name, fmt.Sprintf("%+v", out), err)
	}},
	{"InitiateAuth by password", func(w *world, app *Client, name string) string {
		out, err := w.signIn(app, name, "wrong")
		return seen(name, fmt.Sprintf("%+v", out), err)
	}},
	{"RespondToAuthChallenge", func(w *world, app *Client, name string) string {
		out, err := w.srp(app, name, "wrong")
		return seen(name, fmt.Sprintf("%+v", out), err)
	}},
	{"ConfirmForgotPassword", func(w *world, app *Client, name string) string {
		return seen(name, "done", w.ConfirmForgotPassword(context.Background(), w.request(app, name), "x", other))
	}},
	{"ConfirmForgotPassword with a weak password", func(w *world, app *Client, name string) string {
		return seen(name, "done", w.ConfirmForgotPassword(context.Background(), w.request(app, name), "x", "weak"))
	}},
	{"ConfirmForgotPassword with the user's own password", func(w *world, app *Client, name string) string {
		return seen(name, "done", w.ConfirmForgotPassword(context.Background(), w.request(app, name), "x", good))
	}},
}

var forgot = drill{"ForgotPassword", func(w *world, app *Client, name string) string {
	d, err := w.ForgotPassword(context.Background(), w.request(app, name))
	return seen(name, fmt.Sprintf("%s %s %d", d.Medium, d.Attribute, len(d.Destination)), err)
}}

// ofSignUps are those about whoever has not confirmed yet. That somebody is confirmed already is told, as the protocol has it.
var ofSignUps = []drill{
	{"ConfirmSignUp", func(w *world, app *Client, name string) string {
		return seen(name, "done", w.ConfirmSignUp(context.Background(), w.request(app, name), "x", false))
	}},
	{"ResendConfirmationCode", func(w *world, app *Client, name string) string {
		d, err := w.ResendCode(context.Background(), w.request(app, name))
		return seen(name, fmt.Sprintf("%s %s %d", d.Medium, d.Attribute, len(d.Destination)), err)
	}},
}

// target makes a pool with a password history, a client that hides who exists, and somebody known there.
func (w *world) target() (*Pool, *Client) {
	settings := open
	settings.Password.History = 3
	settings.FirstFactors, settings.Passkeys.RelyingParty = []string{"PASSWORD", "WEB_AUTHN"}, "iot.lan"
	p := w.pool(settings)
	app := w.client(p, ClientSettings{AuthFlows: append(slices.Clone(allFlows), "ALLOW_USER_AUTH")})
	w.user(p, known, map[string]string{"email": "a@example.com", "email_verified": "true"})
	w.passkey(app, known)
	for !w.showsPasskeys(app, unknown) { // every other pool shows some of a name that nobody has
		p = w.pool(settings)
		app = w.client(p, ClientSettings{AuthFlows: app.AuthFlows})
		w.user(p, known, map[string]string{"email": "a@example.com", "email_verified": "true"})
		w.passkey(app, known)
	}
	return p, app
}

// watched is a service that tells of refused sign-ins, as the server's does, and has no budgets.
func watched(c *Config) {
	c.FailuresPerMinute, c.SignUpsPerMinute = -1, -1
	c.OnSignInRefused = func(context.Context, RefusedSignIn) {}
}

// TestNobodyLearnsByTextWhoExists: every answer to a stranger is the same, at first, after each other and when it was too much.
func TestNobodyLearnsByTextWhoExists(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watched)
	p, app := w.target()
	same := func(d drill, known string) {
		t.Helper()
		if a, b := d.do(w, app, known), d.do(w, app, unknown); a != b {
			t.Errorf("%s tells who exists: %s answers\n%s\nand %s\n%s", d.name, known, a, unknown, b)
		}
	}
	rounds := func(known string) {
		t.Helper()
		for range 18 { // more than may be tried of anything
			same(drill{"InitiateAuth by SRP", offered}, known)
			for _, d := range guesses {
				same(d, known)
			}
			same(forgot, known)
			w.pass(11 * time.Minute) // codes and counts run out at some time
		}
	}
	rounds(known)
	disabled := "anno"
	w.user(p, disabled, map[string]string{"email": "b@example.com", "email_verified": "true"})
	w.passkey(app, disabled)
	ok(t, w.EnableUser(t.Context(), scope, p.ID, disabled, false))
	w.pass(3 * time.Hour)
	rounds(disabled)
	unconfirmed := "anni"
	_, _, err := w.signUp(app, unconfirmed, map[string]string{"email": "i@example.com"})
	ok(t, err)
	for range 18 {
		for _, d := range ofSignUps {
			same(d, unconfirmed)
		}
	}
}

// TestNobodyLearnsByWorkWhoExists counts what a stranger could measure: powers, which are nearly all of a sign-in's time, and
// statements of the store. It is not parallel: powers are counted for the whole process.
func TestNobodyLearnsByWorkWhoExists(t *testing.T) {
	powers := 0
	onPower = func() { powers++ }
	defer func() { onPower = func() {} }()
	w := newWorld(t, watched)
	_, app := w.target()
	for _, name := range []string{known, unknown} { // codes are under way; the first statements of a store may be more
		for _, d := range append([]drill{forgot}, guesses...) {
			d.do(w, app, name)
		}
	}
	w.background.Wait()
	for range cap(w.inFlight) { // messages wait for Deliver: what is sent behind an answer must not be counted as a part of it
		w.inFlight <- struct{}{}
	}
	for _, c := range append([]drill{{"InitiateAuth by SRP", offered}, forgot}, guesses...) {
		work := func(name string) (int, int64) {
			before, asked := powers, w.statements.Load()
			c.do(w, app, name)
			return powers - before, w.statements.Load() - asked
		}
		a, asked := work(known)
		b, askedOfNobody := work(unknown)
		t.Logf("%s: %d powers and %d statements for somebody, %d and %d for nobody", c.name, a, asked, b, askedOfNobody)
		if a != b {
			t.Errorf("%s: %d powers for somebody, %d for nobody", c.name, a, b)
		}
		if more := asked - askedOfNobody; more < 0 || more > fewStatements {
			t.Errorf("%s: %d statements for somebody, %d for nobody", c.name, asked, askedOfNobody)
		}
	}
}

// TestOnlyWhoHasTheCodeLearnsOfOldPasswords: recovery is no way to guess passwords past the lock-out.
func TestOnlyWhoHasTheCodeLearnsOfOldPasswords(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	_, app := w.target()
	must(w.ForgotPassword(ctx, w.request(app, known)))(t)
	w.background.Wait()
	code := w.mail.last(t).Code
	wantError(t, w.ConfirmForgotPassword(ctx, w.request(app, known), code+"x", good), "CodeMismatchException", "")
	wantError(t, w.ConfirmForgotPassword(ctx, w.request(app, known), code, good), "PasswordHistoryPolicyViolationException", "")
	ok(t, w.ConfirmForgotPassword(ctx, w.request(app, known), code, other)) // the code was not spent
	must(w.srp(app, known, other))(t)
	wantError(t, w.ConfirmForgotPassword(ctx, w.request(app, known), code, other+"2"), "ExpiredCodeException", "")
}

// TestOnePasswordForManyUsers: spraying. From one address it is refused after a few users, whoever they are. From many it is not, but
// each guess counts for its user: the next ones lock, for a quarter of an hour at most, and nobody is locked out for ever.
func TestOnePasswordForManyUsers(t *testing.T) {
	t.Parallel()
	const perMinute, users = 6, 12
	const longestLockAfter = 10 // failures, as locks double from a second
	w := newWorld(t, func(c *Config) { c.FailuresPerMinute = perMinute })
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	name := func(n int) string { return fmt.Sprintf("user-%02d", n) }
	for n := range users / 2 { // the other half does not exist
		w.user(p, name(2*n), nil)
	}
	from := func(ip string) context.Context {
		return fleet.WithCaller(t.Context(), &fleet.Caller{SourceIP: ip})
	}
	password := func(ip, name, password string) error {
		_, err := w.InitiateAuth(from(ip), SignIn{ClientID: app.ID, Flow: "USER_PASSWORD_AUTH", Parameters: secrets("USERNAME", name, "PASSWORD", password)})
		return err
	}
	const spray = "Summer-2026!"
	// One address: the budget is used up by users that exist and by others alike, and then nothing is tried, by any way.
	for n := range perMinute {
		wantError(t, password("10.0.0.1", name(n), spray), "NotAuthorizedException", "Incorrect username or password.")
	}
	for n := range users {
		wantError(t, password("10.0.0.1", name(n), spray), "TooManyRequestsException", "Rate exceeded")
	}
	srp := newSRPClient(p.ID, spray)
	_, err := w.InitiateAuth(from("10.0.0.1"), SignIn{ClientID: app.ID, Flow: "USER_SRP_AUTH", Parameters: secrets("USERNAME", name(0), "SRP_A", srp.srpA())})
	wantError(t, err, "TooManyRequestsException", "Rate exceeded")
	wantError(t, w.ConfirmForgotPassword(from("10.0.0.1"), w.request(app, name(0)), "1", good), "TooManyRequestsException", "Rate exceeded")
	wantError(t, w.ConfirmSignUp(from("10.0.0.1"), w.request(app, name(0)), "1", false), "TooManyRequestsException", "Rate exceeded")
	ok(t, password("10.0.0.2", name(0), good)) // what was refused there holds nobody back who is elsewhere

	// Many addresses, one guess from each: the fifth wrong one for a user locks, whether there is such a user or not.
	address := 0
	elsewhere := func() string { address++; return fmt.Sprintf("10.1.%d.%d", address/250, address%250) }
	w.pass(15 * time.Minute) // what was guessed so far is forgotten
	for round := range freeFailures {
		for n := range users {
			wantError(t, password(elsewhere(), name(n), fmt.Sprint(spray, round)), "NotAuthorizedException", "Incorrect username or password.")
		}
	}
	for n := range users {
		wantError(t, password(elsewhere(), name(n), good), "NotAuthorizedException", "Password attempts exceeded")
	}
	// Who sprays on, a guess each minute, gets four counted in an hour, and holds the user out as long as that and a quarter of an hour.
	guesses := 0
	for end := w.clock().Add(6 * time.Hour); w.clock().Before(end); {
		w.pass(time.Minute)
		if err := password(elsewhere(), name(0), spray); err.Error() != "Password attempts exceeded" {
			wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
			guesses++
		}
	}
	if guesses > 6*4+longestLockAfter {
		t.Errorf("%d guesses counted in six hours", guesses)
	}
	var waited time.Duration
	for password("10.0.0.2", name(0), good) != nil { // tries during a lock do not lengthen it
		if waited += time.Minute; waited > longestLock+time.Minute {
			t.Fatal("the user is locked out for longer than the longest lock")
		}
		w.pass(time.Minute)
	}
}
