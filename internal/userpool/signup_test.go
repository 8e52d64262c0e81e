package userpool

import (
	"errors"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// open is a pool that people may join, with codes by e-mail.
var open = Settings{AutoVerified: []string{"email"}}

func (w *world) request(c *Client, name string) CodeRequest {
	return CodeRequest{ClientID: c.ID, Username: name, SecretHash: c.hashed(name)["SECRET_HASH"]}
}

func (w *world) signUp(c *Client, name string, attributes map[string]string) (string, *CodeDelivery, error) {
	made, err := w.SignUp(w.t.(*testing.T).Context(), Registration{ClientID: c.ID, SecretHash: c.hashed(name)["SECRET_HASH"], Username: name, Password: good, Attributes: attributes})
	return made.Sub, made.Delivery, err
}

func TestSignUpToSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(open)
	app := must(w.CreateClient(ctx, scope, p.ID, NewClient{Name: "app", GenerateSecret: true, ClientSettings: ClientSettings{AuthFlows: allFlows}}))(t)
	sub, sent, err := w.signUp(app, "ada", map[string]string{"email": "ada@example.com"})
	ok(t, err)
	if sent == nil || *sent != (CodeDelivery{"a***@e***", "EMAIL", "email"}) {
		t.Errorf("delivery %+v", sent)
	}
	m := w.mail.last(t)
	if m.Destination != "ada@example.com" || m.Reason != "sign-up" || len(m.Code) != 6 || m.Sub != sub || m.Body != "Your confirmation code is "+m.Code {
		t.Errorf("message %+v with body %s", m, m.Body.Reveal())
	}
	_, err = w.srp(app, "ada", good)
	wantError(t, err, "UserNotConfirmedException", "User is not confirmed.")
	_, err = w.srp(app, "ada", "wrong")
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	wantError(t, w.ConfirmSignUp(ctx, w.request(app, "ada"), "000", false), "CodeMismatchException", "Invalid verification code provided, please try again.")
	d := must(w.ResendCode(ctx, w.request(app, "ada")))(t)
	w.background.Wait()
	second := w.mail.last(t)
	if d != *sent || second.Code == m.Code {
		t.Errorf("delivery %+v, the code stayed: %t", d, second.Code == m.Code)
	}
	wantError(t, w.ConfirmSignUp(ctx, w.request(app, "ada"), m.Code, false), "CodeMismatchException", "")
	ok(t, w.ConfirmSignUp(ctx, w.request(app, "ada"), second.Code, false))
	if u := must(w.User(ctx, scope, p.ID, "ada"))(t); u.Status != Confirmed || u.Attributes["email_verified"] != "true" || u.Sub != sub {
		t.Errorf("user %+v", u)
	}
	must(w.srp(app, "ada", good))(t)
	wantError(t, w.ConfirmSignUp(ctx, w.request(app, "ada"), second.Code, false), "NotAuthorizedException", "User cannot be confirmed. Current status is CONFIRMED")
	_, err = w.ResendCode(ctx, w.request(app, "ada"))
	wantError(t, err, "InvalidParameterException", "User is already confirmed.")
}

func TestSignUpsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	needsName := Settings{Schema: []SchemaAttribute{{Name: "name", Required: true, Mutable: true}, {Name: "n", Type: "Number", Mutable: true, Range: &Bounds{"1", "9"}}}}
	for _, c := range []struct {
		name       string
		settings   Settings
		client     ClientSettings
		username   string
		password   fleet.Secret
		attributes map[string]string
		code, text string
	}{
		{"pools of administrators", Settings{AdminCreateOnly: true}, ClientSettings{}, "ada", good, nil, "NotAuthorizedException", "SignUp is not permitted for this user pool"},
		{"no password", Settings{}, ClientSettings{}, "ada", "", nil, "InvalidParameterException", "Missing required parameter Password"},
		{"weak password", Settings{}, ClientSettings{}, "ada", "x", nil, "InvalidPasswordException", "Password did not conform with policy: Password not long enough"},
		{"missing attribute", needsName, ClientSettings{}, "ada", good, nil, "InvalidParameterException", "Attributes did not conform to the schema: name: The attribute is required"},
		{"blank attribute", needsName, ClientSettings{}, "ada", good, map[string]string{"name": ""}, "InvalidParameterException", "Attributes did not conform to the schema: name: The attribute is required"},
		{"unknown attribute", Settings{}, ClientSettings{}, "ada", good, map[string]string{"custom:x": "1"}, "InvalidParameterException", "Attributes did not conform to the schema: Type for attribute {custom:x} could not be determined"},
		{"number out of range", needsName, ClientSettings{}, "ada", good, map[string]string{"name": "A", "custom:n": "10"}, "InvalidParameterException", "Attributes did not conform to the schema: custom:n: Number must be at most 9"},
		{"verified by oneself", Settings{}, ClientSettings{}, "ada", good, map[string]string{"email_verified": "true"}, "NotAuthorizedException", "A client attempted to write unauthorized attribute"},
		{"attribute that the client may not write", Settings{}, ClientSettings{WriteAttributes: []string{"email"}}, "ada", good, map[string]string{"name": "A"}, "NotAuthorizedException", "A client attempted to write unauthorized attribute"},
		{"no e-mail", Settings{}, ClientSettings{}, "ada", good, map[string]string{"email": "nowhere"}, "InvalidParameterException", "Invalid email address format."},
		{"no phone number", Settings{}, ClientSettings{}, "ada", good, map[string]string{"phone_number": "0170"}, "InvalidParameterException", "Invalid phone number format."},
		{"username that is no e-mail", Settings{UsernameAttributes: []string{"email"}}, ClientSettings{}, "ada", good, nil, "InvalidParameterException", "Username should be an email."},
		{"username that is neither", Settings{UsernameAttributes: []string{"email", "phone_number"}}, ClientSettings{}, "ada", good, nil, "InvalidParameterException", "Username should be either an email or a phone number."},
		{"username like an alias", Settings{AliasAttributes: []string{"email"}}, ClientSettings{}, "a@b.c", good, nil, "InvalidParameterException", "Username cannot be of email format, since user pool is configured for email alias."},
	} {
		p := w.pool(c.settings)
		app := w.client(p, c.client)
		_, err := w.SignUp(ctx, Registration{ClientID: app.ID, Username: c.username, Password: c.password, Attributes: c.attributes})
		t.Log(c.name)
		wantError(t, err, c.code, c.text)
	}
	_, err := w.SignUp(ctx, Registration{ClientID: "nobody", Username: "ada", Password: good})
	wantError(t, err, "ResourceNotFoundException", "User pool client nobody does not exist.")
}

func TestNamesAreTakenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p, q := w.pool(open), w.pool(Settings{UsernameAttributes: []string{"email", "phone_number"}})
	app, mailApp := w.client(p, ClientSettings{}), w.client(q, ClientSettings{})
	_, _, err := w.signUp(app, "Ada", nil)
	ok(t, err)
	_, _, err = w.signUp(app, "aDA", nil)
	wantError(t, err, "UsernameExistsException", "User already exists")
	_, err = w.CreateUser(ctx, scope, p.ID, NewUser{Username: "ada", Suppress: true})
	wantError(t, err, "UsernameExistsException", "User account already exists")
	_, _, err = w.signUp(mailApp, "ada@example.com", map[string]string{"phone_number": "+4917012345"})
	ok(t, err)
	_, _, err = w.signUp(mailApp, "ADA@example.com", nil)
	wantError(t, err, "UsernameExistsException", "An account with the given email already exists.")
	_, _, err = w.signUp(mailApp, "+4917012345", nil)
	wantError(t, err, "UsernameExistsException", "An account with the given phone_number already exists.")
}

func TestAnAliasBelongsToWhomeverProvesItLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{AutoVerified: []string{"email"}, AliasAttributes: []string{"email"}})
	app := w.client(p, ClientSettings{})
	w.user(p, "first", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	_, _, err := w.signUp(app, "second", map[string]string{"email": "Ada@example.com"})
	ok(t, err)
	code := w.mail.last(t).Code
	wantError(t, w.ConfirmSignUp(ctx, w.request(app, "second"), code, false), "AliasExistsException", "An account with the email already exists.")
	ok(t, w.ConfirmSignUp(ctx, w.request(app, "second"), code, true))
	if id := claims(t, must(w.signIn(app, "ada@example.com", good))(t).Tokens.ID); id.String("cognito:username") != "second" {
		t.Errorf("the alias signs %s in", id.String("cognito:username"))
	}
	if u := must(w.User(ctx, scope, p.ID, "first"))(t); u.Attributes["email_verified"] != "false" {
		t.Errorf("the former owner has %v", u.Attributes)
	}
	_, err = w.CreateUser(ctx, scope, p.ID, NewUser{Username: "third", Suppress: true, Attributes: map[string]string{"email": "ada@example.com", "email_verified": "true"}})
	wantError(t, err, "AliasExistsException", "An account with the email already exists.")
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "third", Suppress: true, ForceAlias: true, Attributes: map[string]string{"email": "ada@example.com", "email_verified": "true"}}))(t)
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true", "phone_number": "+491701234567"})
	tokens := w.tokens(app, "ada")
	d := must(w.ForgotPassword(ctx, w.request(app, "ada")))(t)
	w.background.Wait()
	m := w.mail.last(t)
	if d != (CodeDelivery{"a***@e***", "EMAIL", "email"}) || m.Reason != "recovery" || m.Body != "Your password reset code is "+m.Code {
		t.Errorf("delivery %+v, message %+v", d, m)
	}
	recover := func(code, password fleet.Secret) error {
		return w.ConfirmForgotPassword(ctx, w.request(app, "ada"), code, password)
	}
	wantError(t, recover("x", other), "CodeMismatchException", "Invalid verification code provided, please try again.")
	wantError(t, recover(m.Code, "short"), "InvalidPasswordException", "")
	must(w.signIn(app, "ada", good))(t) // until then the old password counts
	ok(t, recover(m.Code, other))
	wantError(t, recover(m.Code, other), "ExpiredCodeException", "Invalid code provided, please request a code again.")
	_, err := w.signIn(app, "ada", good)
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	must(w.signIn(app, "ada", other))(t)
	_, err = w.refresh(app, tokens.Refresh, true)
	wantError(t, err, "NotAuthorizedException", "Refresh Token has been revoked")

	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t)
	w.background.Wait()
	w.pass(time.Hour)
	wantError(t, recover(w.mail.last(t).Code, good), "ExpiredCodeException", "Invalid code provided, please request a code again.")
}

func TestRecoveryEndsWhatAThiefHasOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	app, plain := w.client(p, ClientSettings{}), w.client(p, ClientSettings{NoRevocation: true})
	u := w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	one, two := w.tokens(app, "ada"), w.tokens(plain, "ada")
	issued := w.clock()
	w.pass(time.Second)
	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t)
	w.background.Wait()
	ok(t, w.ConfirmForgotPassword(ctx, w.request(app, "ada"), w.mail.last(t).Code, other))
	for _, tokens := range []*Tokens{one, two} {
		_, err := w.Self(ctx, tokens.Access)
		wantError(t, err, "NotAuthorizedException", "Access Token has been revoked")
		_, err = w.VerifyIDToken(ctx, scope, p.ID, tokens.ID.Reveal())
		wantError(t, err, "NotAuthorizedException", "Token has been revoked.")
	}
	if !w.cutOff(p, u.Sub, issued) {
		t.Error("credentials live on")
	}
}

func TestAnAdministratorsResetDisablesThePassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{Recovery: []RecoveryOption{{1, "admin_only"}}})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	_, err := w.ForgotPassword(ctx, w.request(app, "ada"))
	wantError(t, err, "NotAuthorizedException", "Contact administrator to reset password.")
	ok(t, w.ResetPassword(ctx, scope, p.ID, "ada"))
	for _, password := range []string{good, "wrong"} {
		_, err := w.srp(app, "ada", password)
		wantError(t, err, "PasswordResetRequiredException", "Password reset required for the user")
		_, err = w.signIn(app, "ada", password)
		wantError(t, err, "PasswordResetRequiredException", "Password reset required for the user")
	}
	w.pass(time.Hour - time.Minute)
	ok(t, w.ConfirmForgotPassword(ctx, w.request(app, "ada"), w.mail.last(t).Code, other))
	must(w.srp(app, "ada", other))(t)
}

func TestRecoveriesThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	verified := map[string]string{"email": "ada@example.com", "email_verified": "true"}
	for _, c := range []struct {
		name       string
		settings   Settings
		attributes map[string]string
		state      func(p *Pool)
		legacy     bool
		code, text string
	}{
		{"no verified address", Settings{}, map[string]string{"email": "ada@example.com"}, nil, false, "InvalidParameterException", "Cannot reset password for the user as there is no registered/verified email or phone_number"},
		{"another way only", Settings{Recovery: []RecoveryOption{{1, "verified_phone_number"}}}, verified, nil, false, "InvalidParameterException", "Cannot reset password for the user as there is no registered/verified email or phone_number"},
		{"temporary password", Settings{}, verified, func(p *Pool) { ok(t, w.SetPassword(ctx, scope, p.ID, "ada", good, false)) }, false, "NotAuthorizedException", "User password cannot be reset in the current state."},
		{"disabled, where users show", Settings{}, verified, func(p *Pool) { ok(t, w.EnableUser(ctx, scope, p.ID, "ada", false)) }, true, "NotAuthorizedException", "User is disabled."},
	} {
		p := w.pool(c.settings)
		app := w.client(p, ClientSettings{ShowUnknownUsers: c.legacy})
		w.user(p, "ada", c.attributes)
		if c.state != nil {
			c.state(p)
		}
		t.Log(c.name)
		_, err := w.ForgotPassword(ctx, w.request(app, "ada"))
		wantError(t, err, c.code, c.text)
	}
}

func TestCodesForNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(open)
	hiding, showing := w.client(p, ClientSettings{}), w.client(p, ClientSettings{ShowUnknownUsers: true})
	const text = "Username/client id combination not found."
	_, err := w.ForgotPassword(ctx, w.request(showing, "nobody"))
	wantError(t, err, "UserNotFoundException", text)
	_, err = w.ResendCode(ctx, w.request(showing, "nobody"))
	wantError(t, err, "UserNotFoundException", text)
	wantError(t, w.ConfirmSignUp(ctx, w.request(showing, "nobody"), "1", false), "UserNotFoundException", text)
	wantError(t, w.ConfirmForgotPassword(ctx, w.request(showing, "nobody"), "1", good), "UserNotFoundException", text)
	_, err = w.srp(showing, "nobody", good)
	wantError(t, err, "UserNotFoundException", "User does not exist.")

	wantError(t, w.ConfirmForgotPassword(ctx, w.request(hiding, "nobody"), "1", good), "ExpiredCodeException", "")
	a, b := must(w.ForgotPassword(ctx, w.request(hiding, "nobody")))(t), must(w.ForgotPassword(ctx, w.request(hiding, "nobody")))(t)
	if a != b || a.Medium != "EMAIL" || len(a.Destination) != len("i***@e***") {
		t.Errorf("simulated deliveries %+v and %+v", a, b)
	}
	if d := must(w.ResendCode(ctx, w.request(hiding, "nobody@example.com")))(t); d.Destination != "n***@e***" {
		t.Errorf("simulated delivery %+v", d)
	}
	wantError(t, w.ConfirmForgotPassword(ctx, w.request(hiding, "nobody"), "1", good), "CodeMismatchException", "")
	wantError(t, w.ConfirmSignUp(ctx, w.request(hiding, "nobody"), "1", false), "CodeMismatchException", "")
	w.background.Wait()
	if n := w.mail.count(); n != 0 {
		t.Errorf("%d messages were sent to nobody", n)
	}
	// A disabled user looks the same and gets nothing.
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	ok(t, w.EnableUser(ctx, scope, p.ID, "ada", false))
	must(w.ForgotPassword(ctx, w.request(hiding, "ada")))(t)
	w.background.Wait()
	if n := w.mail.count(); n != 0 {
		t.Errorf("%d messages were sent to a disabled user", n)
	}
}

func TestAttemptsPerHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.FailuresPerMinute, c.SignUpsPerMinute = -1, -1 })
	ctx := t.Context()
	p := w.pool(open)
	app := w.client(p, ClientSettings{})
	const over = "Attempt limit exceeded, please try after some time."
	_, _, err := w.signUp(app, "new", map[string]string{"email": "new@example.com"})
	ok(t, err)
	code := w.mail.last(t).Code
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	token := w.tokens(app, "ada").Access
	for _, c := range []struct {
		name  string
		limit int
		code  string
		try   func() error
	}{
		{"ResendConfirmationCode", 5, "LimitExceededException", func() error { _, err := w.ResendCode(ctx, w.request(app, "new")); return err }},
		{"ResendConfirmationCode for nobody", 5, "LimitExceededException", func() error { _, err := w.ResendCode(ctx, w.request(app, "nobody")); return err }},
		{"ConfirmSignUp", 15, "TooManyFailedAttemptsException", func() error { return w.ConfirmSignUp(ctx, w.request(app, "new"), code+"x", false) }},
		{"ForgotPassword", 5, "LimitExceededException", func() error { _, err := w.ForgotPassword(ctx, w.request(app, "ada")); return err }},
		{"ConfirmForgotPassword", 15, "TooManyFailedAttemptsException", func() error { return w.ConfirmForgotPassword(ctx, w.request(app, "ada"), "x", good) }},
		{"ConfirmForgotPassword for nobody", 15, "TooManyFailedAttemptsException", func() error { return w.ConfirmForgotPassword(ctx, w.request(app, "nobody"), "x", good) }},
		{"ChangePassword", 5, "LimitExceededException", func() error { return w.ChangePassword(ctx, token, "wrong", other) }},
		{"GetUserAttributeVerificationCode", 5, "LimitExceededException", func() error { _, err := w.RequestVerification(ctx, token, "email"); return err }},
		{"VerifyUserAttribute", 15, "LimitExceededException", func() error { return w.VerifyAttribute(ctx, token, "email", "x") }},
	} {
		limited := func() bool {
			var e *fleet.Error
			err := c.try()
			return errors.As(err, &e) && e.Code == c.code && e.Msg == over
		}
		for i := range c.limit {
			if limited() {
				t.Errorf("%s: attempt %d was refused", c.name, i+1)
			}
		}
		if !limited() {
			t.Errorf("%s: attempt %d was not refused", c.name, c.limit+1)
		}
	}
	w.pass(time.Hour)
	must(w.ResendCode(ctx, w.request(app, "new")))(t)
}

func TestSignUpsPerAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SignUpsPerMinute = 2 })
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	ctx := fleet.WithCaller(t.Context(), &fleet.Caller{SourceIP: "10.0.0.1"})
	try := func(name string) error {
		_, err := w.SignUp(ctx, Registration{ClientID: app.ID, Username: name, Password: good})
		return err
	}
	ok(t, try("a"))
	ok(t, try("b"))
	wantError(t, try("c"), "TooManyRequestsException", "Rate exceeded")
	w.pass(time.Minute)
	ok(t, try("c"))
}

func TestDeliveryThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(open)
	app, showing := w.client(p, ClientSettings{}), w.client(p, ClientSettings{ShowUnknownUsers: true})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	w.mail.err = errors.New("no route to mail host")
	_, _, err := w.signUp(app, "eve", map[string]string{"email": "eve@example.com"})
	wantError(t, err, "CodeDeliveryFailureException", "")
	_, err = w.CreateUser(ctx, scope, p.ID, NewUser{Username: "bob"})
	wantError(t, err, "CodeDeliveryFailureException", "")
	must(w.User(ctx, scope, p.ID, "bob"))(t) // but the user is there
	_, err = w.ForgotPassword(ctx, w.request(showing, "ada"))
	wantError(t, err, "CodeDeliveryFailureException", "")
	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t) // would tell that ada exists
}
