package userpool

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// functions answers triggers by their ARN, as the tests say, and keeps what they were asked.
type functions struct {
	mu     sync.Mutex
	asked  []map[string]any
	answer map[string]func(event map[string]any) (any, error) // by the name of the function
}

func (f *functions) CallTrigger(_ context.Context, _ fleet.Scope, function, poolARN string, event []byte, _ map[string]string) ([]byte, error) {
	var e, kept map[string]any
	if err := errors.Join(json.Unmarshal(event, &e), json.Unmarshal(event, &kept)); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.asked = append(f.asked, kept)
	answer := f.answer[strings.TrimPrefix(function, fn(""))]
	f.mu.Unlock()
	if !strings.HasPrefix(poolARN, "arn:aws:cognito-idp:us-east-1:000000000000:userpool/us-east-1_") {
		return nil, errors.New("the source is " + poolARN)
	}
	if answer == nil {
		return event, nil
	}
	out, err := answer(e)
	if text, ok := out.(string); ok {
		return []byte(text), err
	}
	b, _ := json.Marshal(out)
	return b, err
}

// last returns the newest event and forgets all.
func (f *functions) last(t *testing.T) map[string]any {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		t.Fatal("no trigger was called")
	}
	e := f.asked[len(f.asked)-1]
	f.asked = nil
	return e
}

func (f *functions) sources() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.asked {
		list = append(list, e["triggerSource"].(string))
	}
	f.asked = nil
	return list
}

func fn(name string) string { return "arn:aws:lambda:us-east-1:000000000000:function:" + name }

// responds returns a handler that answers the event with this response.
func responds(response any) func(map[string]any) (any, error) {
	return func(e map[string]any) (any, error) {
		e["response"] = response
		return e, nil
	}
}

func raises(err error) func(map[string]any) (any, error) {
	return func(map[string]any) (any, error) { return nil, err }
}

// newTriggerWorld has a pool whose triggers are functions of the test, and a client.
func newTriggerWorld(t *testing.T, s Settings, with Triggers) (*world, *functions, *Pool, *Client) {
	t.Helper()
	f := &functions{answer: map[string]func(map[string]any) (any, error){}}
	w := newWorld(t, func(c *Config) { c.Functions = f })
	s.Triggers = with
	p := w.pool(s)
	return w, f, p, w.client(p, ClientSettings{})
}

type m = map[string]any

func TestPreSignUpDecidesWhoMayJoin(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, open, Triggers{PreSignUp: fn("pre"), PostConfirmation: fn("post")})
	ctx := WithMetadata(t.Context(), map[string]string{"campaign": "spring"})
	join := func(name string, attributes map[string]string) (SignedUp, error) {
		return w.SignUp(ctx, Registration{ClientID: app.ID, Username: name, Password: good, Attributes: attributes, Validation: map[string]string{"badge": "7"}})
	}
	f.answer["pre"] = raises(RaisedError("only our own people"))
	_, err := join("eve", map[string]string{"email": "eve@example.com"})
	wantError(t, err, "UserLambdaValidationException", "PreSignUp failed with error only our own people.")
	_, err = w.User(ctx, scope, p.ID, "eve")
	wantError(t, err, "UserNotFoundException", "")
	want := m{"version": "1", "region": "us-east-1", "userPoolId": p.ID, "userName": "eve", "triggerSource": "PreSignUp_SignUp",
		"callerContext": m{"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": app.ID},
		"request":       m{"userAttributes": m{"email": "eve@example.com"}, "validationData": m{"badge": "7"}, "clientMetadata": m{"campaign": "spring"}},
		"response":      m{"autoConfirmUser": false, "autoVerifyEmail": false, "autoVerifyPhone": false}}
	if got := f.last(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the event is %v, want %v", got, want)
	}

	f.answer["pre"] = nil // it answers what it got
	made := must(join("bob", map[string]string{"email": "bob@example.com"}))(t)
	if made.Confirmed || made.Delivery == nil {
		t.Errorf("signed up: %+v", made)
	}
	f.answer["pre"] = responds(m{"autoConfirmUser": true, "autoVerifyEmail": true})
	f.sources()
	made = must(join("ada", map[string]string{"email": "ada@example.com"}))(t)
	if !made.Confirmed || made.Delivery != nil || !slices.Equal(f.sources(), []string{"PreSignUp_SignUp", "PostConfirmation_ConfirmSignUp"}) {
		t.Errorf("signed up: %+v", made)
	}
	if u := must(w.User(ctx, scope, p.ID, "ada"))(t); u.Status != Confirmed || u.Attributes["email_verified"] != "true" {
		t.Errorf("the user is %+v", u)
	}
	w.tokens(app, "ada")
	f.answer["pre"] = responds(m{"autoVerifyPhone": true})
	_, err = join("dan", map[string]string{"email": "dan@example.com"})
	wantError(t, err, "InvalidLambdaResponseException", "")

	// For an administrator's user only the refusal counts.
	f.answer["pre"] = responds(m{"autoConfirmUser": true, "autoVerifyEmail": true})
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "carl", Attributes: map[string]string{"email": "c@example.com"}, Suppress: true, Validation: map[string]string{"badge": "8"}}))(t)
	if u := must(w.User(ctx, scope, p.ID, "carl"))(t); u.Status != MustChange || u.Attributes["email_verified"] != "" {
		t.Errorf("the user is %+v", u)
	}
	if e := f.last(t); e["triggerSource"] != "PreSignUp_AdminCreateUser" || e["callerContext"].(m)["clientId"] != "CLIENT_ID_NOT_APPLICABLE" || e["request"].(m)["validationData"].(m)["badge"] != "8" {
		t.Errorf("the event is %v", e)
	}
	f.answer["pre"] = raises(RaisedError("no"))
	_, err = w.CreateUser(ctx, scope, p.ID, NewUser{Username: "nina", Suppress: true})
	wantError(t, err, "UserLambdaValidationException", "PreSignUp failed with error no.")
}

func TestTriggersThatDoNotAnswerRefuse(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, open, Triggers{PreSignUp: fn("pre")})
	for name, c := range map[string]struct {
		answer     func(map[string]any) (any, error)
		code, text string
	}{
		"slow":            {raises(context.DeadlineExceeded), "UnexpectedLambdaException", "PreSignUp invocation failed due to error Socket timeout while invoking Lambda function."},
		"not permitted":   {raises(ErrNotPermitted), "UnexpectedLambdaException", "PreSignUp invocation failed due to error AccessDeniedException."},
		"away":            {raises(errors.New("connection refused")), "UnexpectedLambdaException", "PreSignUp invocation failed due to error ServiceException."},
		"no such":         {raises(fleet.Invalid("hook", "x", "there is no function x")), "UnexpectedLambdaException", "PreSignUp invocation failed due to error ResourceNotFoundException."},
		"nothing":         {responds(nil), "InvalidLambdaResponseException", "Unrecognizable lambda output"},
		"text":            {func(m) (any, error) { return `"yes"`, nil }, "InvalidLambdaResponseException", "Unrecognizable lambda output"},
		"no response":     {func(m) (any, error) { return `{"Response":{"autoConfirmUser":true}}`, nil }, "InvalidLambdaResponseException", "Unrecognizable lambda output"},
		"text for truth":  {responds(m{"autoConfirmUser": "true"}), "InvalidLambdaResponseException", "Unrecognizable lambda output"},
		"not JSON at all": {func(m) (any, error) { return `<html>`, nil }, "InvalidLambdaResponseException", "Unrecognizable lambda output"},
	} {
		f.answer["pre"] = c.answer
		if name == "nothing" {
			f.answer["pre"] = func(m) (any, error) { return `null`, nil }
		}
		_, _, err := w.signUp(app, "eve", map[string]string{"email": "eve@example.com"})
		t.Log(name)
		wantError(t, err, c.code, c.text)
	}
	if _, err := w.User(t.Context(), scope, p.ID, "eve"); err == nil {
		t.Error("eve was signed up")
	}
	for _, arn := range []string{"pre", "arn:aws:iam::000000000000:role/pre", "arn:aws:lambda:us-east-1:000000000000:layer:pre"} {
		_, err := w.CreatePool(t.Context(), scope, "p", Settings{Triggers: Triggers{CustomMessage: arn}}, nil)
		wantError(t, err, "InvalidParameterException", "")
	}
}

func TestPostConfirmationHearsOfThoseWhoWereConfirmed(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, open, Triggers{PostConfirmation: fn("post")})
	ctx := WithMetadata(t.Context(), map[string]string{"a": "b"})
	sub, _, err := w.signUp(app, "ada", map[string]string{"email": "ada@example.com"})
	ok(t, err)
	f.answer["post"] = raises(RaisedError("too late"))
	wantError(t, w.ConfirmSignUp(ctx, w.request(app, "ada"), w.mail.last(t).Code, false), "UserLambdaValidationException", "PostConfirmation failed with error too late.")
	want := m{"version": "1", "region": "us-east-1", "userPoolId": p.ID, "userName": "ada", "triggerSource": "PostConfirmation_ConfirmSignUp",
		"callerContext": m{"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": app.ID}, "response": m{},
		"request": m{"userAttributes": m{"sub": sub, "cognito:user_status": "CONFIRMED", "email": "ada@example.com", "email_verified": "true"}, "clientMetadata": m{"a": "b"}}}
	if got := f.last(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the event is %v, want %v", got, want)
	}
	f.answer["post"] = nil
	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t)
	w.background.Wait()
	ok(t, w.ConfirmForgotPassword(ctx, w.request(app, "ada"), w.mail.last(t).Code, other))
	_, _, err = w.signUp(app, "bob", map[string]string{"email": "bob@example.com"})
	ok(t, err)
	ok(t, w.ConfirmUser(ctx, scope, p.ID, "bob"))
	if got := f.sources(); !slices.Equal(got, []string{"PostConfirmation_ConfirmForgotPassword", "PostConfirmation_ConfirmSignUp"}) {
		t.Errorf("triggers %v", got)
	}
}

func TestCustomMessageWordsMessages(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, open, Triggers{CustomMessage: fn("words")})
	showing := w.client(p, ClientSettings{ShowUnknownUsers: true})
	ctx := WithMetadata(t.Context(), map[string]string{"lang": "de"})
	f.answer["words"] = func(e map[string]any) (any, error) {
		r := e["request"].(m)
		e["response"] = m{"emailSubject": "Hallo", "emailMessage": e["triggerSource"].(string) + ": " + r["codeParameter"].(string), "smsMessage": nil}
		return e, nil
	}
	_, err := w.SignUp(ctx, Registration{ClientID: app.ID, Username: "ada", Password: good, Attributes: map[string]string{"email": "ada@example.com"}})
	ok(t, err)
	if got := w.mail.last(t); got.Body.Reveal() != "CustomMessage_SignUp: "+got.Code.Reveal() || got.Subject != "Hallo" {
		t.Errorf("the message is %q, %q", got.Subject, got.Body.Reveal())
	}
	e := f.last(t)
	r := e["request"].(m)
	if e["userName"] != "ada" || e["callerContext"].(m)["clientId"] != app.ID || r["clientMetadata"].(m)["lang"] != "de" || r["usernameParameter"] != nil ||
		r["userAttributes"].(m)["cognito:user_status"] != "UNCONFIRMED" || !slices.Equal(slices.Sorted(maps.Keys(e["response"].(m))), []string{"emailMessage", "emailSubject", "smsMessage"}) {
		t.Errorf("the event is %v", e)
	}
	must(w.ResendCode(ctx, w.request(showing, "ada")))(t)
	ok(t, w.ConfirmSignUp(ctx, w.request(app, "ada"), w.mail.last(t).Code, false))
	must(w.ForgotPassword(ctx, w.request(showing, "ada")))(t)
	ok(t, w.ResetPassword(ctx, scope, p.ID, "ada"))
	ok(t, w.ConfirmForgotPassword(ctx, w.request(app, "ada"), w.mail.last(t).Code, good))
	token := w.tokens(app, "ada").Access
	must(w.RequestVerification(ctx, token, "email"))(t)
	must(w.UpdateSelf(ctx, token, map[string]string{"email": "new@example.com"}))(t)
	ok(t, w.VerifyAttribute(ctx, token, "email", w.mail.last(t).Code))
	if got := f.sources(); !slices.Equal(got, []string{"CustomMessage_ResendCode", "CustomMessage_ForgotPassword", "CustomMessage_ForgotPassword",
		"CustomMessage_VerifyUserAttribute", "CustomMessage_UpdateUserAttribute"}) {
		t.Errorf("triggers %v", got)
	}
	_, err = w.CreateUser(ctx, scope, p.ID, NewUser{Username: "bob", Attributes: map[string]string{"email": "bob@example.com"}})
	wantError(t, err, "InvalidParameterException", "The message of CustomMessage for an invitation must contain {username} and {####}.")
	f.answer["words"] = func(e map[string]any) (any, error) {
		r := e["request"].(m)
		e["response"] = m{"emailMessage": "Hi " + r["usernameParameter"].(string) + ", " + r["codeParameter"].(string)}
		return e, nil
	}
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "bob", Resend: true, TemporaryPassword: other}))(t)
	if got := w.mail.last(t).Body.Reveal(); got != "Hi bob, "+other {
		t.Errorf("the message is %q", got)
	}
	f.answer["words"] = responds(m{"emailMessage": "no code"})
	_, err = w.ForgotPassword(ctx, w.request(showing, "ada"))
	wantError(t, err, "InvalidParameterException", "")
	f.answer["words"] = raises(RaisedError("not now"))
	_, err = w.ForgotPassword(ctx, w.request(showing, "ada"))
	wantError(t, err, "UserLambdaValidationException", "CustomMessage failed with error not now.")
	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t) // would tell that ada exists
	w.background.Wait()
	if w.waiting() != 0 {
		t.Error("a message that the trigger refused waits")
	}
}

func TestPreTokenGenerationChangesTheIdToken(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, Settings{}, Triggers{PreTokenGeneration: fn("claims")})
	u := w.user(p, "ada", map[string]string{"email": "ada@example.com", "name": "Ada"})
	must(w.CreateGroup(t.Context(), scope, p.ID, Group{Name: "installers", RoleARN: "arn:aws:iam::000000000000:role/i"}))(t)
	ok(t, w.AddToGroup(t.Context(), scope, p.ID, "ada", "installers"))
	f.answer["claims"] = responds(m{"claimsOverrideDetails": m{
		"claimsToAddOrOverride": m{"plant": "north", "name": "Countess", "sub": "eve", "cognito:username": "eve", "cognito:groups": "admins", "iss": "https://evil.example",
			"aud": "other", "exp": "99999999999", "token_use": "access", "origin_jti": "x", "dev:custom:a": "b"},
		"claimsToSuppress": []string{"email", "sub", "cognito:groups"}}})
	tokens := w.tokens(app, "ada")
	want := m{"version": "1", "region": "us-east-1", "userPoolId": p.ID, "userName": "ada", "triggerSource": "TokenGeneration_Authentication",
		"callerContext": m{"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": app.ID}, "response": m{"claimsOverrideDetails": nil},
		"request": m{"userAttributes": m{"sub": u.Sub, "cognito:user_status": "CONFIRMED", "email": "ada@example.com", "name": "Ada"},
			"groupConfiguration": m{"groupsToOverride": []any{"installers"}, "iamRolesToOverride": []any{"arn:aws:iam::000000000000:role/i"}, "preferredRole": "arn:aws:iam::000000000000:role/i"}}}
	if got := f.last(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the event is %v, want %v", got, want)
	}
	id, access := claims(t, tokens.ID), claims(t, tokens.Access)
	if id["plant"] != "north" || id["name"] != "Countess" || id["email"] != nil || id["sub"] != u.Sub || id["cognito:username"] != "ada" || id["iss"] != w.Issuer(p.ID) || id["aud"] != app.ID ||
		id["token_use"] != "id" || id["dev:custom:a"] != nil || !slices.Equal(id.Strings("cognito:groups"), []string{"installers"}) || id["origin_jti"] == "x" {
		t.Errorf("the Id token says %v", id)
	}
	if access["plant"] != nil || access["sub"] != u.Sub {
		t.Errorf("the access token says %v", access)
	}
	must(w.VerifyIDToken(t.Context(), scope, p.ID, tokens.ID.Reveal()))(t)
	for _, bad := range []any{m{"claimsToAddOrOverride": m{"n": 1}}, m{"claimsToSuppress": "email"}, "yes", m{"groupOverrideDetails": m{"groupsToOverride": []int{1}}}} {
		f.answer["claims"] = responds(m{"claimsOverrideDetails": bad})
		_, err := w.signIn(app, "ada", good)
		wantError(t, err, "InvalidLambdaResponseException", "Unrecognizable lambda output")
	}
	f.answer["claims"] = raises(RaisedError("nobody today"))
	_, err := w.signIn(app, "ada", good)
	wantError(t, err, "UserLambdaValidationException", "PreTokenGeneration failed with error nobody today.")
}

func TestGroupsThatATriggerChoosesHold(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, Settings{}, Triggers{PreTokenGeneration: fn("claims")})
	ctx := t.Context()
	w.user(p, "ada", nil)
	for _, g := range []string{"installers", "visitors"} {
		must(w.CreateGroup(ctx, scope, p.ID, Group{Name: g, RoleARN: "arn:aws:iam::000000000000:role/" + g}))(t)
	}
	ok(t, w.AddToGroup(ctx, scope, p.ID, "ada", "installers"))
	held := func(token fleet.Secret) []string {
		c := must(w.VerifyIDToken(ctx, scope, p.ID, token.Reveal()))(t)
		return slices.Concat(c.Strings("cognito:groups"), c.Strings("cognito:roles"), []string{c.String("cognito:preferred_role")})
	}
	f.answer["claims"] = responds(m{"claimsOverrideDetails": m{"groupOverrideDetails": m{"groupsToOverride": []string{"night shift"}, "iamRolesToOverride": []string{"r1", "r2"}, "preferredRole": "r2"}}})
	tokens := w.tokens(app, "ada")
	if got := held(tokens.ID); !slices.Equal(got, []string{"night shift", "r1", "r2", "r2"}) {
		t.Errorf("the token holds %v", got)
	}
	if got := claims(t, tokens.Access).Strings("cognito:groups"); !slices.Equal(got, []string{"night shift"}) {
		t.Errorf("the access token has the groups %v", got)
	}
	// A refresh asks again; then the newest answer counts, for the older token too.
	f.answer["claims"] = responds(m{"claimsOverrideDetails": m{"groupOverrideDetails": m{}}})
	f.sources()
	next := must(w.Refresh(WithMetadata(ctx, map[string]string{"a": "b"}), app.ID, "", tokens.Refresh))(t)
	if e := f.last(t); e["triggerSource"] != "TokenGeneration_RefreshTokens" || e["request"].(m)["clientMetadata"].(m)["a"] != "b" {
		t.Errorf("the event is %v", e)
	}
	if got := held(next.ID); !slices.Equal(got, []string{""}) {
		t.Errorf("the token holds %v", got)
	}
	if got := held(tokens.ID); !slices.Equal(got, []string{""}) {
		t.Errorf("the older token holds %v", got)
	}
	f.answer["claims"] = responds(m{"claimsOverrideDetails": nil})
	if got := held(must(w.Refresh(ctx, app.ID, "", tokens.Refresh))(t).ID); !slices.Equal(got, []string{"installers", "arn:aws:iam::000000000000:role/installers", "arn:aws:iam::000000000000:role/installers"}) {
		t.Errorf("the token holds %v", got)
	}
}

func TestPreTokenGenerationV2ChangesBothTokens(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, Settings{}, Triggers{PreTokenGeneration: fn("claims"), TokenVersion: tokenEventV2})
	ctx := t.Context()
	w.user(p, "ada", nil)
	f.answer["claims"] = responds(m{"claimsAndScopeOverrideDetails": m{
		"idTokenGeneration": m{"claimsToAddOrOverride": m{"plant": m{"name": "north", "no": 7}, "aud": "x"}},
		"accessTokenGeneration": m{"claimsToAddOrOverride": m{"tenant": "t1", "list": []int{1, 2}, "client_id": "x", "username": "eve", "scope": "all", "exp": 1, "version": 3},
			"claimsToSuppress": []string{"jti", "client_id"}, "scopesToAdd": []string{"plant/read", "aws.cognito.signin.other", "two words", ""}, "scopesToSuppress": []string{}}}})
	tokens := w.tokens(app, "ada")
	e := f.last(t)
	if e["version"] != "2" || !reflect.DeepEqual(e["request"].(m)["scopes"], []any{"aws.cognito.signin.user.admin"}) || !reflect.DeepEqual(e["response"], m{"claimsAndScopeOverrideDetails": nil}) {
		t.Errorf("the event is %v", e)
	}
	id, access := claims(t, tokens.ID), claims(t, tokens.Access)
	if plant, _ := json.Marshal(id["plant"]); string(plant) != `{"name":"north","no":7}` || id["aud"] != app.ID {
		t.Errorf("the Id token says %v", id)
	}
	if access["tenant"] != "t1" || access["client_id"] != app.ID || access["username"] != "ada" || access["scope"] != "aws.cognito.signin.user.admin plant/read" || access["jti"] == nil {
		t.Errorf("the access token says %v", access)
	}
	if list, _ := json.Marshal(access["list"]); string(list) != "[1,2]" {
		t.Errorf("the access token says %v", access)
	}
	must(w.Self(ctx, tokens.Access))(t)
	f.answer["claims"] = responds(m{"claimsAndScopeOverrideDetails": m{"accessTokenGeneration": m{"scopesToSuppress": []string{"aws.cognito.signin.user.admin"}}}})
	_, err := w.Self(ctx, w.tokens(app, "ada").Access)
	wantError(t, err, "NotAuthorizedException", "Access Token does not have required scopes")
}

func TestATriggerThatFailsCostsNoRefreshToken(t *testing.T) {
	t.Parallel()
	w, f, p, _ := newTriggerWorld(t, Settings{}, Triggers{PreTokenGeneration: fn("claims")})
	ctx := t.Context()
	app := w.client(p, ClientSettings{Rotation: &Rotation{Enabled: true}})
	w.user(p, "ada", nil)
	tokens := w.tokens(app, "ada")
	f.answer["claims"] = raises(context.DeadlineExceeded)
	_, err := w.Refresh(ctx, app.ID, "", tokens.Refresh)
	wantError(t, err, "UnexpectedLambdaException", "")
	f.answer["claims"] = nil
	if next := must(w.Refresh(ctx, app.ID, "", tokens.Refresh))(t); next.Refresh == "" || next.Refresh == tokens.Refresh {
		t.Error("the refresh token was not traded")
	}
	w.pass(time.Second)
	_, err = w.Refresh(ctx, app.ID, "", tokens.Refresh)
	wantError(t, err, "RefreshTokenReuseException", "")
}

func TestANewPasswordIsTheSourceOfTokens(t *testing.T) {
	t.Parallel()
	w, f, p, app := newTriggerWorld(t, Settings{}, Triggers{PreTokenGeneration: fn("claims")})
	must(w.CreateUser(t.Context(), scope, p.ID, NewUser{Username: "ada", Suppress: true, TemporaryPassword: good}))(t)
	o := must(w.signIn(app, "ada", good))(t)
	must(w.Respond(WithMetadata(t.Context(), map[string]string{"x": "y"}), Answer{ClientID: app.ID, Challenge: "NEW_PASSWORD_REQUIRED", Session: o.Session,
		Responses: secrets("USERNAME", "ada", "NEW_PASSWORD", other)}))(t)
	if e := f.last(t); e["triggerSource"] != "TokenGeneration_NewPasswordChallenge" || e["request"].(m)["clientMetadata"].(m)["x"] != "y" {
		t.Errorf("the event is %v", e)
	}
}

func FuzzTriggerAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"response":{"claimsOverrideDetails":{"claimsToAddOrOverride":{"a":"b","sub":"x"},"claimsToSuppress":["email"],"groupOverrideDetails":{"groupsToOverride":["g"],"iamRolesToOverride":["r"],"preferredRole":"r"}}}}`,
		`{"response":{"claimsAndScopeOverrideDetails":{"idTokenGeneration":{"claimsToAddOrOverride":{"a":{"b":[1]}},"claimsToSuppress":[]},"accessTokenGeneration":{"claimsToAddOrOverride":{"a":1},"claimsToSuppress":["x"],"scopesToAdd":["s","aws.cognito.x","t u"],"scopesToSuppress":["aws.cognito.signin.user.admin"]},"groupOverrideDetails":{}}}}`,
		`{"response":{"claimsOverrideDetails":null,"claimsAndScopeOverrideDetails":null}}`, `{"response":{}}`, `{"response":null}`, `{}`, `null`, `[]`, `{"response":{"claimsOverrideDetails":[]}}`,
		`{"response":{"claimsAndScopeOverrideDetails":{"accessTokenGeneration":{"scopesToSuppress":["aws.cognito.signin.user.admin"]},"idTokenGeneration":7}}}`,
		`{"response":{"claimsOverrideDetails":{"groupOverrideDetails":{"groupsToOverride":"g"},"claimsToAddOrOverride":{"a":1}}}}`, `{"response":{"claimsAndScopeOverrideDetails":5}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		response, err := readResponse(answer)
		if err != nil {
			return
		}
		for _, read := range []func(map[string]json.RawMessage) (*overrides, error){readClaimsV1, readClaimsV2} {
			over, err := read(response)
			if err != nil || over == nil {
				continue
			}
			id, access := jwt.Claims{"sub": "s", "token_use": "id", "cognito:username": "u", "email": "e"}, jwt.Claims{"sub": "s", "scope": userScope, "client_id": "c"}
			over.id.apply(id)
			over.access.apply(access)
			over.scopes(access)
			if id["sub"] != "s" || id["token_use"] != "id" || id["cognito:username"] != "u" || access["sub"] != "s" || access["client_id"] != "c" {
				t.Fatalf("fixed claims were changed: %v, %v", id, access)
			}
			for _, s := range strings.Fields(access.String("scope")) {
				if strings.HasPrefix(s, "aws.cognito") && s != userScope {
					t.Fatalf("the scope %s was added", s)
				}
			}
			for name := range id {
				if fixedClaim(name) && name != "sub" && name != "token_use" && name != "cognito:username" {
					t.Fatalf("the claim %s was added", name)
				}
			}
		}
	})
}
