package userpool

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// refresh renews tokens by either way.
func (w *world) refresh(c *Client, token fleet.Secret, byFlow bool) (*Tokens, error) {
	w.t.Helper()
	if !byFlow {
		return w.Refresh(context.Background(), c.ID, c.Secret, token)
	}
	o, err := w.InitiateAuth(context.Background(), SignIn{ClientID: c.ID, Flow: "REFRESH_TOKEN_AUTH", Parameters: secrets("REFRESH_TOKEN", token.Reveal())})
	return o.Tokens, err
}

func TestRefreshKeepsTheSessionAndRenewsTheRest(t *testing.T) {
	t.Parallel()
	for name, byFlow := range map[string]bool{"REFRESH_TOKEN_AUTH": true, "GetTokensFromRefreshToken": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.pool(Settings{})
			app, second := w.client(p, ClientSettings{}), w.client(p, ClientSettings{})
			w.user(p, "ada", nil)
			first := w.tokens(app, "ada")
			w.pass(20 * time.Hour)
			must(w.CreateGroup(t.Context(), scope, p.ID, Group{Name: "new"}))(t)
			ok(t, w.AddToGroup(t.Context(), scope, p.ID, "ada", "new"))
			next := must(w.refresh(app, first.Refresh, byFlow))(t)
			if next.Refresh != "" {
				t.Error("without rotation there is no new refresh token")
			}
			a, b := claims(t, first.Access), claims(t, next.Access)
			for _, claim := range []string{"auth_time", "origin_jti", "sub"} {
				if asText(t, a[claim]) != asText(t, b[claim]) {
					t.Errorf("%s changed from %v to %v", claim, a[claim], b[claim])
				}
			}
			for _, claim := range []string{"iat", "exp", "jti", "event_id"} {
				if asText(t, a[claim]) == asText(t, b[claim]) {
					t.Errorf("%s stayed %v", claim, a[claim])
				}
			}
			if asText(t, b["cognito:groups"]) != `["new"]` {
				t.Errorf("groups %v", b["cognito:groups"])
			}
			for _, bad := range []fleet.Secret{"", "garbage", "v1.short.x", first.Access, tamper(first.Refresh), "v1." + fleet.Secret(strings.Repeat("a", 22)) + "." + fleet.Secret(strings.Repeat("A", 43))} {
				if bad == "" && byFlow {
					continue // a missing parameter
				}
				_, err := w.refresh(app, bad, byFlow)
				wantError(t, err, "NotAuthorizedException", "Invalid Refresh Token")
			}
			_, err := w.refresh(second, first.Refresh, byFlow)
			wantError(t, err, "NotAuthorizedException", "Invalid Refresh Token")
			w.pass(10 * 24 * time.Hour)
			must(w.refresh(app, first.Refresh, byFlow))(t)
			w.pass(20 * 24 * time.Hour)
			_, err = w.refresh(app, first.Refresh, byFlow)
			wantError(t, err, "NotAuthorizedException", "Refresh Token has expired")
		})
	}
}

// tamper changes the secret part of a refresh token.
func tamper(token fleet.Secret) fleet.Secret {
	s := token.Reveal()
	c := byte('A')
	if s[30] == c {
		c = 'B'
	}
	return fleet.Secret(s[:30] + string(c) + s[31:])
}

func TestRefreshIsRefusedToWhomSignInIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	tokens := w.tokens(app, "ada")
	ok(t, w.EnableUser(ctx, scope, p.ID, "ada", false))
	_, err := w.refresh(app, tokens.Refresh, true)
	wantError(t, err, "NotAuthorizedException", "User is disabled.")
	ok(t, w.EnableUser(ctx, scope, p.ID, "ada", true))
	_, err = w.refresh(app, tokens.Refresh, true)
	wantError(t, err, "NotAuthorizedException", "Refresh Token has been revoked")
	tokens = w.tokens(app, "ada")
	ok(t, w.ResetPassword(ctx, scope, p.ID, "ada"))
	_, err = w.refresh(app, tokens.Refresh, true)
	wantError(t, err, "PasswordResetRequiredException", "Password reset required for the user")
	ok(t, w.DeleteUser(ctx, scope, p.ID, "ada"))
	_, err = w.refresh(app, tokens.Refresh, true)
	wantError(t, err, "NotAuthorizedException", "Invalid Refresh Token")
}

func TestRotationGivesANewTokenAndKillsTheFamilyOnReuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{Rotation: &Rotation{Enabled: true, GraceSeconds: 10}})
	w.user(p, "ada", nil)
	first := w.tokens(app, "ada")
	_, err := w.refresh(app, first.Refresh, true)
	wantError(t, err, "InvalidParameterException", "")
	second := must(w.refresh(app, first.Refresh, false))(t)
	if second.Refresh == "" || second.Refresh == first.Refresh {
		t.Fatal("rotation gives a new refresh token")
	}
	w.pass(10 * time.Second) // the answer was lost; within the grace period the old token still trades
	again := must(w.refresh(app, first.Refresh, false))(t)
	third := must(w.refresh(app, second.Refresh, false))(t)
	w.pass(time.Second)
	_, err = w.refresh(app, first.Refresh, false)
	wantError(t, err, "RefreshTokenReuseException", "")
	for _, token := range []fleet.Secret{again.Refresh, third.Refresh, first.Refresh} {
		_, err = w.refresh(app, token, false)
		wantError(t, err, "NotAuthorizedException", "Refresh Token has been revoked")
	}
	_, err = w.Self(t.Context(), third.Access)
	wantError(t, err, "NotAuthorizedException", "Access Token has been revoked")
}

func TestRotatedTokensKeepTheEndOfTheSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{Rotation: &Rotation{Enabled: true}, RefreshValidity: new(2)})
	w.user(p, "ada", nil)
	token := w.tokens(app, "ada").Refresh
	w.pass(24 * time.Hour)
	token = must(w.refresh(app, token, false))(t).Refresh
	w.pass(24 * time.Hour)
	_, err := w.refresh(app, token, false)
	wantError(t, err, "NotAuthorizedException", "Refresh Token has expired")
}

func TestATokenTradedTwiceAtOnceHasOneHeir(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{Rotation: &Rotation{Enabled: true}})
	w.user(p, "ada", nil)
	token := w.tokens(app, "ada").Refresh
	must(w.refresh(app, token, false))(t)
	w.pass(time.Millisecond)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := w.refresh(app, token, false); err == nil {
				t.Error("a traded token without grace traded again")
			}
		})
	}
	wg.Wait()
}

func TestRevocationEndsTheTokensOfOneSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app, second := w.client(p, ClientSettings{}), w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	one, two := w.tokens(app, "ada"), w.tokens(app, "ada")
	ok(t, w.Revoke(ctx, second.ID, "", one.Refresh)) // another client's: nothing happens
	ok(t, w.Revoke(ctx, app.ID, "", "garbage"))
	ok(t, w.Revoke(ctx, app.ID, "", tamper(one.Refresh)))
	must(w.refresh(app, one.Refresh, true))(t)
	wantError(t, w.Revoke(ctx, app.ID, "", one.Access), "UnsupportedTokenTypeException", "")
	wantError(t, w.Revoke(ctx, app.ID, "not its secret", one.Refresh), "UnauthorizedException", "")
	ok(t, w.Revoke(ctx, app.ID, "", one.Refresh))
	ok(t, w.Revoke(ctx, app.ID, "", one.Refresh)) // twice is fine
	_, err := w.refresh(app, one.Refresh, true)
	wantError(t, err, "NotAuthorizedException", "Refresh Token has been revoked")
	_, err = w.Self(ctx, one.Access)
	wantError(t, err, "NotAuthorizedException", "Access Token has been revoked")
	_, err = w.VerifyIDToken(ctx, scope, p.ID, one.ID.Reveal())
	wantError(t, err, "NotAuthorizedException", "Token has been revoked.")
	must(w.Self(ctx, two.Access))(t)
	must(w.VerifyIDToken(ctx, scope, p.ID, two.ID.Reveal()))(t)
	off := w.client(p, ClientSettings{NoRevocation: true})
	wantError(t, w.Revoke(ctx, off.ID, "", w.tokens(off, "ada").Refresh), "UnsupportedOperationException", "")
}

func TestGlobalSignOutEndsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app, plain := w.client(p, ClientSettings{}), w.client(p, ClientSettings{NoRevocation: true})
	u := w.user(p, "ada", nil)
	for name, out := range map[string]func(*Tokens) error{
		"by the user":          func(tk *Tokens) error { return w.SignOutEverywhere(ctx, tk.Access) },
		"by the administrator": func(*Tokens) error { return w.SignOutUser(ctx, scope, p.ID, "ada") },
		"by disabling (and back)": func(*Tokens) error {
			ok(t, w.EnableUser(ctx, scope, p.ID, "ada", false))
			return w.EnableUser(ctx, scope, p.ID, "ada", true)
		},
	} {
		one, two := w.tokens(app, "ada"), w.tokens(plain, "ada")
		issued := w.clock()
		w.pass(time.Second)
		ok(t, out(one))
		for _, tokens := range []*Tokens{one, two} {
			_, err := w.Self(ctx, tokens.Access)
			wantError(t, err, "NotAuthorizedException", "Access Token has been revoked")
			_, err = w.VerifyIDToken(ctx, scope, p.ID, tokens.ID.Reveal())
			wantError(t, err, "NotAuthorizedException", "Token has been revoked.")
		}
		_, err := w.refresh(app, one.Refresh, true)
		wantError(t, err, "NotAuthorizedException", "Refresh Token has been revoked")
		if !w.cutOff(p, u.Sub, issued) {
			t.Errorf("%s: credentials live on", name)
		}
		w.pass(time.Second)
		if w.cutOff(p, u.Sub, w.clock()) {
			t.Errorf("%s: later credentials are dead too", name)
		}
		must(w.Self(ctx, w.tokens(app, "ada").Access))(t)
		must(w.Self(ctx, w.tokens(plain, "ada").Access))(t)
	}
}

func TestExpiredRowsAreSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	tokens := w.tokens(app, "ada")
	_, err := w.signIn(app, "nobody", good)
	wantError(t, err, "NotAuthorizedException", "")
	ok(t, w.Sweep(ctx))
	must(w.refresh(app, tokens.Refresh, true))(t)
	w.pass(40 * 24 * time.Hour)
	ok(t, w.Sweep(ctx))
	_, err = w.refresh(app, tokens.Refresh, true)
	wantError(t, err, "NotAuthorizedException", "Invalid Refresh Token")
	ok(t, w.db.View(ctx, func(tx *store.Tx) error {
		a, err := tx.PoolAttempts(scope, p.ID, nameSubject("nobody"), signInAttempts)
		if a.Count != 0 {
			t.Error("a counter outlived its time")
		}
		return err
	}))
}

func FuzzParseRefresh(f *testing.F) {
	f.Add(newRefresh("s", time.Time{}).text.Reveal())
	f.Add("v1..")
	f.Add("v1.aaaaaaaaaaaaaaaaaaaaaa." + base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, token string) {
		id, hash, ok := parseRefresh(token)
		if ok && (len(id) != 22 || len(hash) != 32 || len(token) > 128) {
			t.Errorf("%q gives %q %x", token, id, hash)
		}
	})
}
