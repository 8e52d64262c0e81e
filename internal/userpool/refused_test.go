package userpool

import (
	"context"
	"errors"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestRefusedSignInsAreToldWithWhoseTheyAre(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var told []RefusedSignIn
	w := newWorld(t, func(c *Config) {
		c.OnSignInRefused = func(_ context.Context, r RefusedSignIn) { told = append(told, r) }
	})
	p := w.pool(Settings{UsernameAttributes: []string{"email"}})
	site := w.site(p, "plant")
	c := w.client(p, func() ClientSettings { s := oauth("code"); s.AuthFlows = allFlows; return s }())
	u := w.user(p, "ada@example.com", nil)
	want := func(user, step, text string, pages bool) {
		t.Helper()
		if len(told) != 1 {
			t.Fatalf("told %d times: %+v", len(told), told)
		}
		r := told[0]
		told = nil
		var e *fleet.Error
		if r.Scope != scope || r.Pool != p.ID || r.Client != c.ID || r.User != user || r.Step != step || r.Pages != pages || !errors.As(r.Err, &e) || e.Msg != text {
			t.Errorf("told %+v, want %s at %s: %s", r, user, step, text)
		}
	}
	const wrong = "Incorrect username or password."
	_, err := w.signIn(c, "ada@example.com", "wrong")
	wantError(t, err, "NotAuthorizedException", "")
	want(u.Username, "USER_PASSWORD_AUTH", wrong, false)
	_, err = w.signIn(c, "P@ssw0rd-in-the-wrong-field", "wrong")
	wantError(t, err, "NotAuthorizedException", "")
	want("", "USER_PASSWORD_AUTH", wrong, false)
	_, err = w.srp(c, "ada@example.com", "wrong")
	wantError(t, err, "NotAuthorizedException", "")
	want(u.Username, "PASSWORD_VERIFIER", wrong, false)

	a := must(w.Authorization(ctx, site, w.asks(c)))(t)
	_, err = w.SignIn(ctx, a, "ada@example.com", "wrong")
	wantError(t, err, "NotAuthorizedException", "")
	want(u.Username, "USER_PASSWORD_AUTH", wrong, true)
	w.browse(a, "ada@example.com")
	w.tokens(c, "ada@example.com")
	if len(told) > 0 {
		t.Errorf("told of sign-ins that were not refused: %+v", told)
	}
	ok(t, w.EnableUser(ctx, scope, p.ID, u.Username, false))
	_, err = w.signIn(c, "ada@example.com", good)
	wantError(t, err, "NotAuthorizedException", "")
	want(u.Username, "USER_PASSWORD_AUTH", "User is disabled.", false)

	_, err = w.InitiateAuth(ctx, SignIn{ClientID: "nobody", Flow: "USER_SRP_AUTH"})
	wantError(t, err, "ResourceNotFoundException", "")
	if len(told) != 1 || told[0].Pool != "" || told[0].Step != "USER_SRP_AUTH" {
		t.Errorf("an unknown client: %+v", told)
	}
}
