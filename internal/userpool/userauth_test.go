package userpool

import (
	"context"
	"slices"
	"testing"
	"time"
)

// choiceClient is a client that allows choice-based sign-in too.
func (w *world) choiceClient(p *Pool) *Client {
	w.t.Helper()
	return w.client(p, ClientSettings{AuthFlows: append(slices.Clone(allFlows), "ALLOW_USER_AUTH")})
}

func (w *world) choose(c *Client, name string, more ...string) (Outcome, error) {
	return w.InitiateAuth(context.Background(), SignIn{ClientID: c.ID, Flow: "USER_AUTH", Parameters: c.hashed(name, append([]string{"USERNAME", name}, more...)...)})
}

func TestPasswordsByChoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{}) // with no passkeys at all
	c := must(w.CreateClient(t.Context(), scope, p.ID, NewClient{Name: "app", GenerateSecret: true, ClientSettings: ClientSettings{AuthFlows: []string{"ALLOW_USER_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}}}))(t)
	w.user(p, "ada", nil)
	answer := func(o Outcome, more ...string) (Outcome, error) {
		return w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: o.Challenge, Session: o.Session, Responses: c.hashed("ada", append([]string{"USERNAME", "ada"}, more...)...)})
	}
	verify := func(o Outcome, app *srpClient) {
		t.Helper()
		if o.Challenge != "PASSWORD_VERIFIER" || len(o.Session) < 20 {
			t.Fatalf("SRP goes on with %s and a session of %d", o.Challenge, len(o.Session))
		}
		var pairs []string
		for k, v := range app.answer(o.Parameters, w.clock()) {
			pairs = append(pairs, k, v)
		}
		if done := must(answer(o, pairs...))(t); done.Tokens == nil {
			t.Errorf("SRP gives %+v", done)
		}
	}
	srp := func() *srpClient { return newSRPClient(p.ID, good) }
	o := must(w.choose(c, "ada"))(t)
	if o.Challenge != "SELECT_CHALLENGE" || !slices.Equal(o.Available, []string{"PASSWORD", "PASSWORD_SRP"}) || len(o.Parameters) != 0 {
		t.Fatalf("the choice is %+v", o)
	}
	if done := must(answer(o, "ANSWER", "PASSWORD", "PASSWORD", good))(t); done.Tokens == nil {
		t.Errorf("a password gives %+v", done)
	}
	app := srp()
	verify(must(answer(o, "ANSWER", "PASSWORD_SRP", "SRP_A", app.srpA()))(t), app)
	// The choice first, what it asks for in a step of its own.
	o = must(answer(must(w.choose(c, "ada"))(t), "ANSWER", "PASSWORD"))(t)
	if o.Challenge != "PASSWORD" {
		t.Fatalf("asked for %s", o.Challenge)
	}
	_, err := answer(o, "PASSWORD", "wrong")
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	if done := must(answer(o, "PASSWORD", good))(t); done.Tokens == nil {
		t.Errorf("a password gives %+v", done)
	}
	// Preferred, with and without what it asks for.
	if done := must(w.choose(c, "ada", "PREFERRED_CHALLENGE", "PASSWORD", "PASSWORD", good))(t); done.Tokens == nil || done.Available != nil {
		t.Errorf("a preferred password gives %+v", done)
	}
	app = srp()
	verify(must(w.choose(c, "ada", "PREFERRED_CHALLENGE", "PASSWORD_SRP", "SRP_A", app.srpA()))(t), app)
	app = srp()
	verify(must(answer(must(w.choose(c, "ada", "PREFERRED_CHALLENGE", "PASSWORD_SRP"))(t), "SRP_A", app.srpA()))(t), app)

	_, err = w.choose(c, "ada", "PREFERRED_CHALLENGE", "TELEPATHY")
	wantError(t, err, "InvalidParameterException", "")
	if o := must(w.choose(c, "ada", "PREFERRED_CHALLENGE", "EMAIL_OTP"))(t); o.Challenge != "SELECT_CHALLENGE" {
		t.Errorf("a way that there is not leads to %s", o.Challenge)
	}
	_, err = answer(must(w.choose(c, "ada"))(t), "ANSWER", "WEB_AUTHN")
	wantError(t, err, "InvalidParameterException", "ANSWER must be one of the available challenges.")
	_, err = w.InitiateAuth(t.Context(), SignIn{ClientID: c.ID, Flow: "USER_AUTH", Parameters: secrets("USERNAME", "ada")})
	wantError(t, err, "NotAuthorizedException", "")
	// A session is for its own step, name and time.
	o = must(w.choose(c, "ada"))(t)
	_, err = w.Respond(t.Context(), Answer{ClientID: c.ID, Challenge: "SELECT_CHALLENGE", Session: o.Session, Responses: c.hashed("eve", "USERNAME", "eve", "ANSWER", "PASSWORD", "PASSWORD", good)})
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	o.Challenge = "PASSWORD"
	_, err = answer(o, "PASSWORD", good)
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user.")
	o.Challenge = "SELECT_CHALLENGE"
	w.pass(3 * time.Minute)
	_, err = answer(o, "ANSWER", "PASSWORD", "PASSWORD", good)
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user, session is expired.")
}
