package userpool

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// freshKeys makes each key anew: those of the other tests come round again.
type freshKeys struct{}

func (freshKeys) Take(context.Context) (*rsa.PrivateKey, error) {
	return rsa.GenerateKey(rand.Reader, 2048)
}

func (w *world) keyOf(token fleet.Secret) string {
	w.t.Helper()
	return must(jwt.Parse(token.Reveal()))(w.t).KeyID
}

// published asks for the pool's key set as others do.
func (w *world) published(p *Pool, etag string) (ids []string, tag string, status int) {
	w.t.Helper()
	r := httptest.NewRequest("GET", "/"+p.ID+"/.well-known/jwks.json", nil)
	r.Header.Set("If-None-Match", etag)
	rec := httptest.NewRecorder()
	w.WellKnown().ServeHTTP(rec, r)
	if rec.Code == http.StatusOK {
		var set struct{ Keys []struct{ Kid string } }
		must(0, json.Unmarshal(rec.Body.Bytes(), &set))(w.t)
		for _, k := range set.Keys {
			ids = append(ids, k.Kid)
		}
	}
	return ids, rec.Header().Get("ETag"), rec.Code
}

func TestSigningKeysRotateWithoutBreakingTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Keys = freshKeys{} })
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	good := func(tokens *Tokens) {
		t.Helper()
		if _, err := w.VerifyIDToken(ctx, scope, p.ID, tokens.ID.Reveal()); err != nil {
			t.Errorf("the Id token: %v", err)
		}
		if _, err := w.Self(ctx, tokens.Access); err != nil {
			t.Errorf("the access token: %v", err)
		}
	}
	before := w.tokens(app, "ada")
	first, etag, _ := w.published(p, "")
	if _, _, status := w.published(p, etag); status != http.StatusNotModified || len(first) != 2 {
		t.Errorf("whoever has the key set is answered %d; keys %v", status, first)
	}
	r := must(w.RotateKeys(ctx, scope, p.ID, false))(t)
	ids, tag, status := w.published(p, etag)
	if status != http.StatusOK || tag == etag || len(ids) != 4 {
		t.Errorf("once rotated: %d, %v", status, ids)
	}
	between := w.tokens(app, "ada")
	if !slices.Contains(first, w.keyOf(between.ID)) {
		t.Error("a new key signs before everybody can have it")
	}
	w.pass(r.Signs.Sub(w.clock()) + time.Second)
	after := w.tokens(app, "ada")
	if !slices.Contains(r.KeyIDs, w.keyOf(after.ID)) || !slices.Contains(r.KeyIDs, w.keyOf(after.Access)) || w.keyOf(after.ID) == w.keyOf(after.Access) {
		t.Error("the new keys do not sign")
	}
	good(after)
	if ids, _, _ := w.published(p, ""); len(ids) != 4 {
		t.Errorf("while old tokens live: %v", ids)
	}
	if _, err := w.refresh(app, before.Refresh, true); err != nil {
		t.Errorf("a refresh token of before: %v", err)
	}
	w.pass(r.Gone.Sub(w.clock()) + time.Second)
	if ids, _, _ := w.published(p, ""); !slices.Equal(slices.Sorted(slices.Values(ids)), slices.Sorted(slices.Values(r.KeyIDs))) {
		t.Errorf("once all old tokens are over: %v", ids)
	}
	// The next rotation takes what is not published any more off the disk.
	must(w.RotateKeys(ctx, scope, p.ID, false))(t)
	if held := must(w.readKeys(ctx, scope, p.ID))(t); len(held) != 4 {
		t.Errorf("%d keys are held", len(held))
	}
}

func TestTokensOfBeforeLiveTheirTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Keys = freshKeys{} })
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	r := must(w.RotateKeys(t.Context(), scope, p.ID, false))(t)
	w.pass(r.Signs.Sub(w.clock()) - time.Second)
	last := w.tokens(app, "ada") // the last that an old key signs
	w.pass(50 * time.Minute)
	if _, err := w.VerifyIDToken(t.Context(), scope, p.ID, last.ID.Reveal()); err != nil {
		t.Error(err)
	}
}

func TestKeysThatSomebodyElseHasGoAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Keys = freshKeys{} })
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	before := w.tokens(app, "ada")
	r := must(w.RotateKeys(ctx, scope, p.ID, true))(t)
	if _, err := w.VerifyIDToken(ctx, scope, p.ID, before.ID.Reveal()); err == nil {
		t.Error("a token of the old key is still good")
	}
	if _, err := w.Self(ctx, before.Access); err == nil {
		t.Error("an access token of the old key is still good")
	}
	if ids, _, _ := w.published(p, ""); len(ids) != 2 || !slices.Contains(r.KeyIDs, ids[0]) {
		t.Errorf("published: %v", ids)
	}
	again, err := w.refresh(app, before.Refresh, true)
	if err != nil || !slices.Contains(r.KeyIDs, w.keyOf(again.ID)) {
		t.Errorf("the session: %v", err)
	}
	if _, err := w.RotateKeys(ctx, fleet.Scope{Account: "999999999999", Region: scope.Region}, p.ID, true); !isNotFound(err) {
		t.Errorf("another account's caller: %v", err)
	}
}
