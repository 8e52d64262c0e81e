package userpool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

func TestPools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	tags := map[string]string{"team": "plant"}
	p := must(w.CreatePool(ctx, scope, "one", Settings{DeletionProtection: true, Schema: []SchemaAttribute{{Name: "site", Mutable: true}}}, tags))(t)
	if !strings.HasPrefix(p.ID, "us-east-1_") || len(p.ID) != 19 || len(p.Schema) != 21 || p.Password != DefaultPasswordPolicy {
		t.Errorf("pool %+v", p)
	}
	got := must(w.Pool(ctx, scope, p.ID))(t)
	if got.Name != "one" || got.Tags["team"] != "plant" || !got.Created.Equal(p.Created) || got.EstimatedUsers != 0 {
		t.Errorf("read back %+v", got)
	}
	wantError(t, w.DeletePool(ctx, scope, p.ID), "InvalidParameterException", "")
	ok(t, w.UpdatePool(ctx, scope, p.ID, "", Settings{AdminCreateOnly: true, Tier: "LITE"}, nil))
	got = must(w.Pool(ctx, scope, p.ID))(t)
	if got.Name != "one" || got.DeletionProtection || !got.AdminCreateOnly || len(got.Schema) != 21 || got.Tags["team"] != "plant" || got.Tier != "LITE" {
		t.Errorf("updated %+v", got)
	}
	ok(t, w.AddAttributes(ctx, scope, p.ID, []SchemaAttribute{{Name: "line"}, {Name: "score", DeveloperOnly: true}}))
	if got = must(w.Pool(ctx, scope, p.ID))(t); len(got.Schema) != 23 || got.Schema[22].Name != "dev:custom:score" {
		t.Errorf("schema %+v", got.Schema)
	}
	wantError(t, w.AddAttributes(ctx, scope, p.ID, []SchemaAttribute{{Name: "line"}}), "InvalidParameterException", "")
	ok(t, w.TagPool(ctx, scope, p.ARN(), map[string]string{"a": "b"}))
	ok(t, w.UntagPool(ctx, scope, p.ARN(), []string{"team"}))
	if tags := must(w.PoolTags(ctx, scope, p.ARN()))(t); len(tags) != 1 || tags["a"] != "b" {
		t.Errorf("tags %v", tags)
	}
	_, err := w.PoolTags(ctx, scope, "arn:aws:cognito-idp:us-east-1:111111111111:userpool/"+p.ID)
	wantError(t, err, "ResourceNotFoundException", "")
	must(w.CreatePool(ctx, scope, "two", Settings{}, nil))(t)
	page, next, err := w.Pools(ctx, scope, "", 1)
	ok(t, err)
	rest, end, err := w.Pools(ctx, scope, next, 1)
	ok(t, err)
	if len(page) != 1 || len(rest) != 1 || end != "" || page[0].ID == rest[0].ID {
		t.Errorf("pages %v, %v", page, rest)
	}
}

func TestADeletedPoolTakesEverythingAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	u := w.user(p, "ada", nil)
	tokens := w.tokens(app, "ada")
	for i := range 60 {
		must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: fmt.Sprint("u", i), Suppress: true}))(t)
	}
	ok(t, w.DeletePool(ctx, scope, p.ID))
	if !w.cutOff(p, u.Sub, w.clock()) {
		t.Error("credentials outlive their pool")
	}
	_, err := w.Self(ctx, tokens.Access)
	wantError(t, err, "NotAuthorizedException", "Invalid Access Token")
	_, err = w.signIn(app, "ada", good)
	wantError(t, err, "ResourceNotFoundException", "User pool client "+app.ID+" does not exist.")
	wantError(t, w.DeletePool(ctx, scope, p.ID), "ResourceNotFoundException", "User pool "+p.ID+" does not exist.")
	ok(t, w.db.View(ctx, func(tx *store.Tx) error {
		n, err := tx.CountPoolUsers(scope, p.ID)
		if n != 0 {
			t.Errorf("%d users are left", n)
		}
		return err
	}))
}

func TestADeletionThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	w.user(p, "ada", nil)
	ok(t, w.db.Tx(ctx, func(tx *store.Tx) error { return tx.CloseUserPool(scope, p.ID) })) // and the power fails
	_, err := w.Pool(ctx, scope, p.ID)
	wantError(t, err, "ResourceNotFoundException", "")
	ok(t, w.Sweep(ctx))
	ok(t, w.db.View(ctx, func(tx *store.Tx) error {
		left, err := tx.ClosedUserPools()
		if len(left) != 0 {
			t.Errorf("left %v", left)
		}
		return err
	}))
}

func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, s := range map[string]Settings{
		"usernames and aliases":     {UsernameAttributes: []string{"email"}, AliasAttributes: []string{"email"}},
		"admin_only and another":    {Recovery: []RecoveryOption{{1, "admin_only"}, {2, "verified_email"}}},
		"password too short":        {Password: PasswordPolicy{MinLength: 5}},
		"required custom":           {Schema: []SchemaAttribute{{Name: "x", Required: true}}},
		"standard of other type":    {Schema: []SchemaAttribute{{Name: "email", Type: "Number"}}},
		"custom name too long":      {Schema: []SchemaAttribute{{Name: strings.Repeat("x", 21)}}},
		"bounds that are no number": {Schema: []SchemaAttribute{{Name: "x", Length: &Bounds{Max: "many"}}}},
	} {
		t.Log(name)
		_, err := w.CreatePool(t.Context(), scope, "p", s, nil)
		wantError(t, err, "InvalidParameterException", "")
	}
	_, err := w.CreatePool(t.Context(), scope, "p", Settings{}, map[string]string{"aws:x": ""})
	wantError(t, err, "InvalidParameterException", "")
	if _, err := New(Config{}); err == nil {
		t.Error("a service without a store was made")
	}
}

func TestClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{Schema: []SchemaAttribute{{Name: "email", Required: true, Mutable: true}}})
	c := must(w.CreateClient(ctx, scope, p.ID, NewClient{Name: "app", GenerateSecret: true}))(t)
	if len(c.ID) != 26 || len(c.Secret) != 52 || !slices.Equal(c.AuthFlows, defaultAuthFlows) || c.SessionMinutes != 3 ||
		c.accessLife() != time.Hour || c.refreshLife() != 30*24*time.Hour || c.ShowUnknownUsers || c.NoRevocation {
		t.Errorf("client %+v", c)
	}
	updated := must(w.UpdateClient(ctx, scope, p.ID, c.ID, "", ClientSettings{AuthFlows: allFlows, SessionMinutes: 15, RefreshValidity: new(0)}))(t)
	if updated.Name != "app" || updated.SessionMinutes != 15 || updated.Secret != c.Secret || updated.refreshLife() != 30*24*time.Hour {
		t.Errorf("updated %+v", updated)
	}
	if again := must(w.Client(ctx, scope, p.ID, c.ID))(t); again.Secret != c.Secret || !slices.Equal(again.AuthFlows, allFlows) {
		t.Errorf("read back %+v", again)
	}
	for name, s := range map[string]ClientSettings{
		"mixed flows":             {AuthFlows: []string{"ALLOW_USER_SRP_AUTH", "ADMIN_NO_SRP_AUTH"}},
		"access too short":        {AccessValidity: new(4), AccessUnit: "minutes"},
		"access too long":         {AccessValidity: new(25)},
		"access beyond counting":  {AccessValidity: new(86400), AccessUnit: "days"},
		"refresh too short":       {RefreshValidity: new(59), RefreshUnit: "minutes"},
		"refresh too long":        {RefreshValidity: new(3651)},
		"refresh beyond counting": {RefreshValidity: new(315360000), RefreshUnit: "days"},
		"unknown attribute":       {ReadAttributes: []string{"custom:none"}},
		"required not writable":   {WriteAttributes: []string{"name"}},
		"unknown provider":        {Providers: []string{"Google"}},
		"too many URLs":           {CallbackURLs: make([]string, 101)},
	} {
		t.Log(name)
		_, err := w.CreateClient(ctx, scope, p.ID, NewClient{Name: "x", ClientSettings: s})
		wantError(t, err, "InvalidParameterException", "")
	}
	_, err := w.CreateClient(ctx, scope, p.ID, NewClient{Name: "x", GenerateSecret: true, Secret: "s"})
	wantError(t, err, "InvalidParameterException", "")
	must(w.CreateClient(ctx, scope, p.ID, NewClient{Name: "second"}))(t)
	page, next, err := w.Clients(ctx, scope, p.ID, "", 1)
	ok(t, err)
	rest, _, err := w.Clients(ctx, scope, p.ID, next, 1)
	ok(t, err)
	if len(page) != 1 || len(rest) != 1 || page[0].ID == rest[0].ID {
		t.Errorf("pages %v, %v", page, rest)
	}
	ok(t, w.DeleteClient(ctx, scope, p.ID, c.ID))
	wantError(t, w.DeleteClient(ctx, scope, p.ID, c.ID), "ResourceNotFoundException", "User pool client "+c.ID+" does not exist.")
}

func FuzzPageKey(f *testing.F) {
	f.Add(pageToken("users", "ada"))
	f.Fuzz(func(t *testing.T, token string) {
		if key, err := pageKey("users", token); err == nil && token != "" && key == "" {
			t.Errorf("%q is no token", token)
		}
	})
}
