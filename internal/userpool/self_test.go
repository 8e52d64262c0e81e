package userpool

import (
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestPeopleChangeTheirPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	policy := DefaultPasswordPolicy
	policy.History = 2
	p := w.pool(Settings{Password: policy})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	token := w.tokens(app, "ada").Access
	wantError(t, w.ChangePassword(ctx, token, "wrong", other), "NotAuthorizedException", "Incorrect username or password.")
	wantError(t, w.ChangePassword(ctx, token, "", other), "InvalidParameterException", "Missing required parameter PreviousPassword")
	wantError(t, w.ChangePassword(ctx, token, good, good), "PasswordHistoryPolicyViolationException", "")
	ok(t, w.ChangePassword(ctx, token, good, other))
	wantError(t, w.ChangePassword(ctx, token, other, good), "PasswordHistoryPolicyViolationException", "")
	must(w.srp(app, "ada", other))(t)
	ok(t, w.SetPassword(ctx, scope, p.ID, "ada", "Th1rd-Passw0rd", true))
	ok(t, w.SetPassword(ctx, scope, p.ID, "ada", good, true)) // two others lie between
}

func TestPeopleChangeTheirAttributes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{AutoVerified: []string{"email"}, Schema: []SchemaAttribute{{Name: "badge"}, {Name: "site", Mutable: true}}})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true", "custom:badge": "7"})
	token := w.tokens(app, "ada").Access
	attribute := func(name string) string { return must(w.Self(ctx, token))(t).Attributes[name] }
	for name, c := range map[string]struct {
		changes    map[string]string
		code, text string
	}{
		"sub":           {map[string]string{"sub": "x"}, "NotAuthorizedException", "A client attempted to write unauthorized attribute"},
		"verification":  {map[string]string{"phone_number_verified": "true"}, "NotAuthorizedException", "A client attempted to write unauthorized attribute"},
		"immutable":     {map[string]string{"custom:badge": "8"}, "InvalidParameterException", "Attributes did not conform to the schema: custom:badge: Attribute cannot be updated."},
		"unknown":       {map[string]string{"custom:nothing": "8"}, "InvalidParameterException", "Attributes did not conform to the schema: Type for attribute {custom:nothing} could not be determined"},
		"bad e-mail":    {map[string]string{"email": "x"}, "InvalidParameterException", "Invalid email address format."},
		"not a boolean": {map[string]string{"birthdate": "1815"}, "InvalidParameterException", "Attributes did not conform to the schema: birthdate: String must be at least 10 characters"},
	} {
		t.Log(name)
		_, err := w.UpdateSelf(ctx, token, c.changes)
		wantError(t, err, c.code, c.text)
	}
	sent := must(w.UpdateSelf(ctx, token, map[string]string{"custom:site": "plant 7", "email": "lovelace@example.com"}))(t)
	if len(sent) != 1 || sent[0].Destination != "l***@e***" || attribute("email") != "lovelace@example.com" || attribute("email_verified") != "false" {
		t.Errorf("sent %v, attributes %v", sent, must(w.Self(ctx, token))(t).Attributes)
	}
	wantError(t, w.VerifyAttribute(ctx, token, "email", "x"), "CodeMismatchException", "")
	ok(t, w.VerifyAttribute(ctx, token, "email", w.mail.last(t).Code))
	if attribute("email_verified") != "true" {
		t.Error("the address is not verified")
	}
	wantError(t, w.VerifyAttribute(ctx, token, "email", w.mail.last(t).Code), "ExpiredCodeException", "")
	if d := must(w.RequestVerification(ctx, token, "email"))(t); d.Attribute != "email" {
		t.Errorf("delivery %+v", d)
	}
	stale := w.mail.last(t).Code
	must(w.UpdateSelf(ctx, token, map[string]string{"email": "third@example.com", "custom:site": ""}))(t)
	wantError(t, w.VerifyAttribute(ctx, token, "email", stale), "CodeMismatchException", "")
	if attribute("custom:site") != "" {
		t.Error("a blank value removes an attribute")
	}
	_, err := w.RequestVerification(ctx, token, "phone_number")
	wantError(t, err, "InvalidParameterException", "User has no phone_number to verify.")
	_, err = w.RequestVerification(ctx, token, "name")
	wantError(t, err, "InvalidParameterException", "")
}

func TestCodesForNewAddressesCountWithThoseThatStrangersAskFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SignUpsPerMinute = 2 })
	p := w.pool(Settings{AutoVerified: []string{"email"}})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com"})
	token := w.tokens(app, "ada").Access
	ctx := fleet.WithCaller(t.Context(), &fleet.Caller{SourceIP: "10.0.0.1"})
	change := func(name, value string) error {
		_, err := w.UpdateSelf(ctx, token, map[string]string{name: value})
		return err
	}
	ok(t, change("email", "a@example.com"))
	ok(t, change("email", "b@example.com"))
	sent := w.mail.count()
	wantError(t, change("email", "c@example.com"), "TooManyRequestsException", "Rate exceeded")
	ok(t, change("name", "Ada")) // which sends nothing
	if u := must(w.Self(ctx, token))(t); w.mail.count() != sent || u.Attributes["email"] != "b@example.com" {
		t.Errorf("%d messages, attributes %v", w.mail.count()-sent, u.Attributes)
	}
	ok(t, w.UpdateUser(ctx, scope, p.ID, "ada", map[string]string{"email": "d@example.com"})) // an administrator
}

func TestWhereAnAddressIsVerifiedFirstTheOldOneStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{AutoVerified: []string{"email"}, VerifyFirst: []string{"email"}, UsernameAttributes: []string{"email"}})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada@example.com", map[string]string{"email_verified": "true"})
	token := w.tokens(app, "ada@example.com").Access
	must(w.UpdateSelf(ctx, token, map[string]string{"email": "lovelace@example.com"}))(t)
	if u := must(w.Self(ctx, token))(t); u.Attributes["email"] != "ada@example.com" || u.Attributes["email_verified"] != "true" {
		t.Errorf("attributes %v", u.Attributes)
	}
	if d := must(w.RequestVerification(ctx, token, "email"))(t); d.Destination != "l***@e***" {
		t.Errorf("delivery %+v", d)
	}
	ok(t, w.VerifyAttribute(ctx, token, "email", w.mail.last(t).Code))
	must(w.srp(app, "lovelace@example.com", good))(t)
	_, err := w.signIn(app, "ada@example.com", good)
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
}

func TestPeopleDeleteThemselves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	u := w.user(p, "ada", nil)
	tokens := w.tokens(app, "ada")
	ok(t, w.DeleteSelf(ctx, tokens.Access))
	if !w.cutOff(p, u.Sub, w.clock()) {
		t.Error("credentials outlive their user")
	}
	wantError(t, w.DeleteSelf(ctx, tokens.Access), "UserNotFoundException", "User does not exist.")
	w.user(p, "ada", nil) // the name is free again
	if _, err := w.Self(ctx, tokens.Access); err == nil {
		t.Error("a token of the former user serves the new one")
	}
}
