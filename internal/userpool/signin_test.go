package userpool

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

func claims(t testing.TB, token fleet.Secret) jwt.Claims {
	t.Helper()
	return must(jwt.Parse(token.Reveal()))(t).Claims
}

func TestSignInBySRPGivesTokens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings   Settings
		username   string
		attributes map[string]string
		typed      string
	}{
		"username":                       {Settings{}, "installer1", nil, "installer1"},
		"username in another case":       {Settings{}, "Installer1", nil, "INSTALLER1"},
		"case-sensitive username":        {Settings{CaseSensitive: true}, "Installer1", nil, "Installer1"},
		"name that is not ASCII":         {Settings{}, "Žofie名前", nil, "žofie名前"},
		"e-mail as username":             {Settings{UsernameAttributes: []string{"email"}}, "Ada@example.com", nil, "ada@Example.com"},
		"phone as username":              {Settings{UsernameAttributes: []string{"email", "phone_number"}}, "+491701234567", nil, "+491701234567"},
		"verified alias":                 {Settings{AliasAttributes: []string{"email"}}, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"}, "ada@example.com"},
		"preferred_username as an alias": {Settings{AliasAttributes: []string{"preferred_username"}}, "ada", map[string]string{"preferred_username": "Lovelace"}, "lovelace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.pool(c.settings)
			app := w.client(p, ClientSettings{})
			u := w.user(p, c.username, c.attributes)
			o := must(w.srp(app, c.typed, good))(t)
			if o.Tokens == nil || o.Challenge != "" || o.Session != "" || len(o.Parameters) != 0 || o.Parameters == nil {
				t.Fatalf("outcome %+v", o)
			}
			id := claims(t, o.Tokens.ID)
			if id.String("sub") != u.Sub || id.String("cognito:username") != u.Username {
				t.Errorf("Id token is for %s %s, want %s %s", id.String("sub"), id.String("cognito:username"), u.Sub, u.Username)
			}
			if _, err := w.srp(app, c.typed, good+"x"); err == nil {
				t.Error("a wrong password signed in")
			}
		})
	}
}

func TestAnUnverifiedAliasSignsNobodyIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{AliasAttributes: []string{"email"}})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com"})
	_, err := w.signIn(app, "ada@example.com", good)
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	ok(t, w.UpdateUser(t.Context(), scope, p.ID, "ada", map[string]string{"email_verified": "true"}))
	must(w.signIn(app, "ada@example.com", good))(t)
}

func TestTokensStateWhatTheSpecSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{Schema: []SchemaAttribute{{Name: "site", Mutable: true}, {Name: "score", DeveloperOnly: true, Mutable: true}}})
	app := w.client(p, ClientSettings{})
	u := w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true", "address": "Main St 1", "updated_at": "1700000000",
		"custom:site": "plant 7", "dev:custom:score": "3"})
	for name, g := range map[string]Group{"a": {RoleARN: "arn:aws:iam::000000000000:role/a", Precedence: new(5)}, "b": {RoleARN: "arn:aws:iam::000000000000:role/b", Precedence: new(1)}} {
		g.Name = name
		must(w.CreateGroup(t.Context(), scope, p.ID, g))(t)
		ok(t, w.AddToGroup(t.Context(), scope, p.ID, "ada", name))
	}
	tokens := w.tokens(app, "ada")
	id, access := claims(t, tokens.ID), claims(t, tokens.Access)
	now := json.Number("1793520000")
	for claim, want := range map[string]string{
		"sub": u.Sub, "iss": "https://iot.lan:8443/" + p.ID, "aud": app.ID, "token_use": "id", "cognito:username": "ada",
		"cognito:groups": `["b","a"]`, "cognito:roles": `["arn:aws:iam::000000000000:role/b","arn:aws:iam::000000000000:role/a"]`,
		"cognito:preferred_role": "arn:aws:iam::000000000000:role/b", "email": "ada@example.com", "email_verified": "true",
		"address": `{"formatted":"Main St 1"}`, "updated_at": "1700000000", "custom:site": "plant 7",
		"iat": string(now), "auth_time": string(now), "exp": "1793523600",
	} {
		if got := asText(t, id[claim]); got != want {
			t.Errorf("Id token: %s is %s, want %s", claim, got, want)
		}
	}
	for claim, want := range map[string]string{
		"sub": u.Sub, "iss": "https://iot.lan:8443/" + p.ID, "client_id": app.ID, "token_use": "access", "username": "ada", "version": "2",
		"scope": "aws.cognito.signin.user.admin", "cognito:groups": `["b","a"]`, "iat": string(now), "exp": "1793523600",
	} {
		if got := asText(t, access[claim]); got != want {
			t.Errorf("access token: %s is %s, want %s", claim, got, want)
		}
	}
	if id["email_verified"] != true {
		t.Error("email_verified must be a boolean in the Id token")
	}
	for _, claim := range []string{"dev:custom:score", "client_id", "scope"} {
		if id[claim] != nil {
			t.Errorf("the Id token has %s", claim)
		}
	}
	for _, claim := range []string{"aud", "email", "cognito:roles", "cognito:preferred_role"} {
		if access[claim] != nil {
			t.Errorf("the access token has %s", claim)
		}
	}
	if id.String("origin_jti") == "" || id.String("origin_jti") != access.String("origin_jti") || id.String("jti") == access.String("jti") {
		t.Error("both tokens share origin_jti and have a jti of their own")
	}
	if h, g := must(jwt.Parse(tokens.ID.Reveal()))(t), must(jwt.Parse(tokens.Access.Reveal()))(t); h.KeyID == g.KeyID {
		t.Error("Id and access tokens are signed with different keys")
	}
	if tokens.ExpiresIn != 3600 {
		t.Errorf("expires in %d", tokens.ExpiresIn)
	}
}

func asText(t testing.TB, v any) string {
	t.Helper()
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	ok(t, err)
	return string(b)
}

func TestValidityAndReadAttributesOfTheClientCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{AccessValidity: new(10), AccessUnit: "minutes", IDValidity: new(1), IDUnit: "days",
		ReadAttributes: []string{"email"}, NoRevocation: true})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "name": "Ada"})
	tokens := w.tokens(app, "ada")
	id, access := claims(t, tokens.ID), claims(t, tokens.Access)
	idEnd, _ := id.Time("exp")
	accessEnd, _ := access.Time("exp")
	if idEnd.Sub(w.clock()) != 24*time.Hour || accessEnd.Sub(w.clock()) != 10*time.Minute || tokens.ExpiresIn != 600 {
		t.Errorf("ends %v and %v", idEnd, accessEnd)
	}
	if id["name"] != nil || id["email"] == nil || id["origin_jti"] != nil || access["origin_jti"] != nil {
		t.Errorf("claims %v", id)
	}
	u := must(w.Self(t.Context(), tokens.Access))(t)
	if u.Attributes["name"] != "" || u.Attributes["email"] == "" || u.Attributes["sub"] == "" {
		t.Errorf("GetUser shows %v", u.Attributes)
	}
}

func TestATemporaryPasswordMustBeChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{Schema: []SchemaAttribute{{Name: "email", Required: true, Mutable: true}, {Name: "name", Required: true, Mutable: true}}})
	app := w.client(p, ClientSettings{})
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "ada", Attributes: map[string]string{"email": "ada@example.com", "email_verified": "true"},
		TemporaryPassword: good, Suppress: true}))(t)
	o := must(w.srp(app, "ada", good))(t)
	if o.Challenge != "NEW_PASSWORD_REQUIRED" || len(o.Session) < 20 || len(o.Session) > 2048 {
		t.Fatalf("outcome %+v", o)
	}
	var shown map[string]string
	var needed []string
	ok(t, json.Unmarshal([]byte(o.Parameters["userAttributes"]), &shown))
	ok(t, json.Unmarshal([]byte(o.Parameters["requiredAttributes"]), &needed))
	if shown["email"] != "ada@example.com" || len(needed) != 1 || needed[0] != "userAttributes.name" || o.Parameters["USER_ID_FOR_SRP"] != "ada" {
		t.Errorf("parameters %v", o.Parameters)
	}
	respond := func(pairs ...string) (Outcome, error) {
		return w.Respond(ctx, Answer{ClientID: app.ID, Challenge: o.Challenge, Session: o.Session, Responses: secrets(pairs...)})
	}
	_, err := respond("USERNAME", "ada", "NEW_PASSWORD", other)
	wantError(t, err, "InvalidParameterException", "Invalid attributes given, name is missing")
	_, err = respond("USERNAME", "ada", "NEW_PASSWORD", "short", "userAttributes.name", "Ada")
	wantError(t, err, "InvalidPasswordException", "Password did not conform with policy: Password not long enough")
	_, err = respond("USERNAME", "ada", "NEW_PASSWORD", other, "userAttributes.name", "Ada", "userAttributes.email", "eve@example.com")
	wantError(t, err, "NotAuthorizedException", "Cannot modify an already provided email")
	_, err = respond("USERNAME", "ada", "NEW_PASSWORD", other, "userAttributes.name", "Ada", "userAttributes.phone_number_verified", "true")
	wantError(t, err, "NotAuthorizedException", "A client attempted to write unauthorized attribute")
	done := must(respond("USERNAME", "ada", "NEW_PASSWORD", other, "userAttributes.name", "Ada", "userAttributes.email", "ada@example.com"))(t)
	if done.Tokens == nil {
		t.Fatalf("outcome %+v", done)
	}
	if u := must(w.User(ctx, scope, p.ID, "ada"))(t); u.Status != Confirmed || u.Attributes["name"] != "Ada" || u.Attributes["email_verified"] != "true" {
		t.Errorf("user %+v", u)
	}
	_, err = respond("USERNAME", "ada", "NEW_PASSWORD", other+"2", "userAttributes.name", "Ada")
	wantError(t, err, "NotAuthorizedException", "Invalid session for the user, session can only be used once.")
	must(w.signIn(app, "ada", other))(t)
	_, err = w.signIn(app, "ada", good)
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
}

func TestAChallengeHoldsForItsUserClientAndTimeOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app, second := w.client(p, ClientSettings{}), w.client(p, ClientSettings{})
	for _, name := range []string{"ada", "eve"} {
		must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: name, TemporaryPassword: good, Suppress: true}))(t)
	}
	o := must(w.signIn(app, "ada", good))(t)
	respond := func(c *Client, session fleet.Secret, name string) error {
		_, err := w.Respond(ctx, Answer{ClientID: c.ID, Challenge: "NEW_PASSWORD_REQUIRED", Session: session, Responses: secrets("USERNAME", name, "NEW_PASSWORD", other)})
		return err
	}
	wantError(t, respond(second, o.Session, "ada"), "NotAuthorizedException", "Invalid session for the user.")
	wantError(t, respond(app, o.Session, "eve"), "NotAuthorizedException", "Invalid session for the user.")
	wantError(t, respond(app, "A"+o.Session, "ada"), "NotAuthorizedException", "Invalid session for the user.")
	w.pass(3 * time.Minute)
	wantError(t, respond(app, o.Session, "ada"), "NotAuthorizedException", "Invalid session for the user, session is expired.")
	o = must(w.signIn(app, "ada", good))(t)
	ok(t, w.SetPassword(ctx, scope, p.ID, "ada", other, false))
	wantError(t, respond(app, o.Session, "ada"), "NotAuthorizedException", "Invalid session for the user.")
}

func TestATemporaryPasswordExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "ada", TemporaryPassword: good, Suppress: true}))(t)
	w.pass(7 * 24 * time.Hour)
	_, err := w.signIn(app, "ada", good)
	wantError(t, err, "NotAuthorizedException", "Temporary password has expired and must be reset by an administrator.")
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "ada", TemporaryPassword: good, Resend: true}))(t)
	if o := must(w.signIn(app, "ada", good))(t); o.Challenge != "NEW_PASSWORD_REQUIRED" {
		t.Errorf("outcome %+v", o)
	}
}

func TestASecretBlockIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app, second := w.client(p, ClientSettings{}), w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	srp := newSRPClient(p.ID, good)
	first := must(w.InitiateAuth(ctx, SignIn{ClientID: app.ID, Flow: "USER_SRP_AUTH", Parameters: secrets("USERNAME", "ada", "SRP_A", srp.srpA())}))(t)
	respond := func(c *Client, change func(map[string]string), at time.Time) error {
		answer := srp.answer(first.Parameters, at)
		if change != nil {
			change(answer)
		}
		r := map[string]fleet.Secret{}
		for k, v := range answer {
			r[k] = fleet.Secret(v)
		}
		_, err := w.Respond(ctx, Answer{ClientID: c.ID, Challenge: "PASSWORD_VERIFIER", Responses: r})
		return err
	}
	now := w.clock()
	wantError(t, respond(second, nil, now), "NotAuthorizedException", "Invalid session for the user.")
	wantError(t, respond(app, func(a map[string]string) { a["USERNAME"] = "eve" }, now), "NotAuthorizedException", "Invalid session for the user.")
	wantError(t, respond(app, func(a map[string]string) { a["PASSWORD_CLAIM_SECRET_BLOCK"] = "AAAA" }, now), "NotAuthorizedException", "Invalid session for the user.")
	wantError(t, respond(app, func(a map[string]string) { a["TIMESTAMP"] = "yesterday" }, now), "InvalidParameterException", "TIMESTAMP format should be EEE MMM d HH:mm:ss z yyyy in english.")
	wantError(t, respond(app, nil, now.Add(6*time.Minute)), "NotAuthorizedException", "")
	wantError(t, respond(app, nil, now.Add(-6*time.Minute)), "NotAuthorizedException", "")
	for _, missing := range []string{"USERNAME", "PASSWORD_CLAIM_SECRET_BLOCK", "PASSWORD_CLAIM_SIGNATURE", "TIMESTAMP"} {
		wantError(t, respond(app, func(a map[string]string) { delete(a, missing) }, now), "InvalidParameterException", "Missing required parameter "+missing)
	}
	urlSafe := strings.NewReplacer("+", "-", "/", "_")
	ok(t, respond(app, func(a map[string]string) {
		a["PASSWORD_CLAIM_SECRET_BLOCK"] = urlSafe.Replace(a["PASSWORD_CLAIM_SECRET_BLOCK"])
	}, now.Add(-4*time.Minute)))
	wantError(t, respond(app, nil, now), "NotAuthorizedException", "Invalid session for the user, session can only be used once.")
	w.pass(3 * time.Minute)
	wantError(t, respond(app, nil, w.clock()), "NotAuthorizedException", "Invalid session for the user, session is expired.")
}

func TestTimestampsOfOtherClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t) // 2026-11-01 08:00, a Sunday
	for _, text := range []string{"Sun Nov 1 08:00:00 UTC 2026", "Sun Nov 01 08:00:00 UTC 2026", "Sun Nov  1 08:00:00 UTC 2026", "Sun Nov 1 08:04:59 UTC 2026"} {
		if err := w.checkTimestamp(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"Sun Nov 1 08:05:01 UTC 2026", "Sun Nov 1 07:54:59 UTC 2026", "", "2026-11-01T08:00:00Z", "Sun Nov 1 08:00:00 UTC 2026 " + strings.Repeat(" ", 64)} {
		if w.checkTimestamp(text) == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestAnUnknownUserLooksLikeAnyOther(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings Settings
		username string
		wantSame bool // the identity shown is the name itself
	}{
		"username":             {Settings{}, "nobody", true},
		"e-mail pool":          {Settings{UsernameAttributes: []string{"email"}}, "nobody@example.com", false},
		"e-mail where aliases": {Settings{AliasAttributes: []string{"email"}}, "nobody@example.com", false},
		"name where aliases":   {Settings{AliasAttributes: []string{"email"}}, "nobody", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.pool(c.settings)
			app := w.client(p, ClientSettings{})
			start := func() map[string]string {
				srp := newSRPClient(p.ID, good)
				return must(w.InitiateAuth(t.Context(), SignIn{ClientID: app.ID, Flow: "USER_SRP_AUTH", Parameters: secrets("USERNAME", c.username, "SRP_A", srp.srpA())}))(t).Parameters
			}
			a, b := start(), start()
			if a["SALT"] != b["SALT"] || a["USER_ID_FOR_SRP"] != b["USER_ID_FOR_SRP"] || a["SRP_B"] == b["SRP_B"] || a["USERNAME"] != a["USER_ID_FOR_SRP"] {
				t.Errorf("two questions are answered %v and %v", a, b)
			}
			if got := a["USER_ID_FOR_SRP"]; (got == c.username) != c.wantSame || !c.wantSame && !uuidForm.MatchString(got) {
				t.Errorf("identity %s", got)
			}
			for range 4 {
				_, err := w.srp(app, c.username, good)
				wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
			}
			_, err := w.signIn(app, c.username, good)
			wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
			_, err = w.srp(app, c.username, good)
			wantError(t, err, "NotAuthorizedException", "Password attempts exceeded")
		})
	}
}

func TestFlowsThatAClientMayNotUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	srpOnly := w.client(p, ClientSettings{AuthFlows: []string{"ALLOW_USER_SRP_AUTH"}})
	adminOnly := w.client(p, ClientSettings{AuthFlows: []string{"ALLOW_ADMIN_USER_PASSWORD_AUTH"}})
	legacy := w.client(p, ClientSettings{AuthFlows: []string{"USER_PASSWORD_AUTH"}})
	for _, c := range []struct {
		client     *Client
		flow       string
		admin      bool
		code, text string // empty: the flow is admitted
	}{
		{srpOnly, "USER_PASSWORD_AUTH", false, "InvalidParameterException", "USER_PASSWORD_AUTH flow not enabled for this client"},
		{adminOnly, "USER_SRP_AUTH", false, "InvalidParameterException", "USER_SRP_AUTH is not enabled for the client."},
		{srpOnly, "REFRESH_TOKEN_AUTH", false, "InvalidParameterException", "Auth flow not enabled for this client"},
		{srpOnly, "ADMIN_USER_PASSWORD_AUTH", true, "InvalidParameterException", "Auth flow not enabled for this client"},
		{adminOnly, "ADMIN_USER_PASSWORD_AUTH", false, "InvalidParameterException", "Initiate Auth method not supported."},
		{legacy, "USER_PASSWORD_AUTH", true, "InvalidParameterException", "Initiate Auth method not supported."},
		{srpOnly, "CUSTOM_AUTH", false, "InvalidParameterException", ""},
		{srpOnly, "USER_AUTH", false, "InvalidParameterException", "USER_AUTH is not enabled for the client."},
		{srpOnly, "USER_AUTH", true, "InvalidParameterException", "USER_AUTH is not enabled for the client."},
		{adminOnly, "ADMIN_NO_SRP_AUTH", true, "", ""},
		{legacy, "USER_PASSWORD_AUTH", false, "", ""},
		{legacy, "USER_SRP_AUTH", false, "", ""},
		{legacy, "REFRESH_TOKEN", false, "", ""},
	} {
		in := SignIn{ClientID: c.client.ID, Flow: c.flow}
		var err error
		if c.admin {
			_, err = w.AdminInitiateAuth(t.Context(), scope, p.ID, in)
		} else {
			_, err = w.InitiateAuth(t.Context(), in)
		}
		if c.code == "" { // the next complaint is about parameters
			c.code = "InvalidParameterException"
			if err == nil || !strings.HasPrefix(err.Error(), "Missing required parameter") {
				t.Errorf("%s: %v", c.flow, err)
			}
		}
		wantError(t, err, c.code, c.text)
	}
}

func TestAdministratorsSignUsersIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "ada", TemporaryPassword: good, Suppress: true}))(t)
	o := must(w.AdminInitiateAuth(ctx, scope, p.ID, SignIn{ClientID: app.ID, Flow: "ADMIN_NO_SRP_AUTH", Parameters: secrets("USERNAME", "ada", "PASSWORD", good)}))(t)
	o = must(w.AdminRespond(ctx, scope, p.ID, Answer{ClientID: app.ID, Challenge: o.Challenge, Session: o.Session,
		Responses: secrets("USERNAME", "ada", "NEW_PASSWORD", other)}))(t)
	if o.Tokens == nil {
		t.Fatalf("outcome %+v", o)
	}
	foreign := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	_, err := w.AdminInitiateAuth(ctx, foreign, p.ID, SignIn{ClientID: app.ID, Flow: "ADMIN_NO_SRP_AUTH"})
	wantError(t, err, "ResourceNotFoundException", "User pool "+p.ID+" does not exist.")
	q := w.pool(Settings{})
	_, err = w.AdminInitiateAuth(ctx, scope, q.ID, SignIn{ClientID: app.ID, Flow: "ADMIN_NO_SRP_AUTH"})
	wantError(t, err, "ResourceNotFoundException", "User pool client "+app.ID+" does not exist.")
}

func TestAClientWithASecretNeedsItsHash(t *testing.T) {
	t.Parallel()
	if got := secretHash("clientsecret123", "installer1", "1h57kf5cpq17m0eml12example"); got != "9SN+edoX5ayHMp7L+IN8JPaFYFmea8//XYhh/Y1qHME=" {
		t.Errorf("the vector of identity spec 1.7 gives %s", got)
	}
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := must(w.CreateClient(ctx, scope, p.ID, NewClient{Name: "server", GenerateSecret: true, ClientSettings: ClientSettings{AuthFlows: allFlows}}))(t)
	public := w.client(p, ClientSettings{})
	u := w.user(p, "ada", nil)
	o := must(w.srp(app, "ada", good))(t)
	start := func(c *Client, hash string) error {
		_, err := w.InitiateAuth(ctx, SignIn{ClientID: c.ID, Flow: "USER_PASSWORD_AUTH", Parameters: secrets("USERNAME", "ada", "PASSWORD", good, "SECRET_HASH", hash)})
		return err
	}
	wantError(t, start(app, ""), "NotAuthorizedException", "Client "+app.ID+" is configured with secret but SECRET_HASH was not received")
	wantError(t, start(app, secretHash("wrong", "ada", app.ID)), "NotAuthorizedException", "Unable to verify secret hash for client "+app.ID)
	wantError(t, start(public, "x"), "NotAuthorizedException", "Unable to verify secret hash for client "+public.ID)
	for _, name := range []string{"ada", u.Sub} {
		must(w.InitiateAuth(ctx, SignIn{ClientID: app.ID, Flow: "REFRESH_TOKEN_AUTH",
			Parameters: app.hashed(name, "REFRESH_TOKEN", o.Tokens.Refresh.Reveal())}))(t)
	}
}
