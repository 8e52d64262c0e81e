package userpool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Triggers are the functions that a pool asks or tells (LambdaConfig), by ARN; empty: none. They are called outside of transactions, since
// they take up to five seconds, and what they refuse or do not answer does not happen.
type Triggers struct {
	PreSignUp          string // before a user is made: refuses, confirms, verifies
	PostConfirmation   string // after a user was confirmed or has recovered the password
	CustomMessage      string // words a message
	PreTokenGeneration string // changes claims and groups of tokens
	TokenVersion       string // of PreTokenGeneration's event: V1_0 or V2_0; empty: V1_0
}

// check refuses what is not the ARN of a function.
func (t *Triggers) check() error {
	for _, f := range []struct{ name, arn string }{{"PreSignUp", t.PreSignUp}, {"PostConfirmation", t.PostConfirmation}, {"CustomMessage", t.CustomMessage},
		{"PreTokenGeneration", t.PreTokenGeneration}} {
		if a, ok := fleet.ParseARN(f.arn); f.arn != "" && (!ok || a.Service != "lambda" || !strings.HasPrefix(a.Resource, "function:")) {
			return invalid("LambdaConfig." + f.name + " " + f.arn + " is not the ARN of a Lambda function.")
		}
	}
	return nil
}

// triggerTime is how long a trigger may take, as in AWS.
const triggerTime = 5 * time.Second

// A FunctionCaller calls the functions of triggers.
type FunctionCaller interface {
	// CallTrigger has a function answer an event of a pool. It fails with RaisedError for what the function raised, ErrNotPermitted if its
	// policy does not let the pool call it, context.DeadlineExceeded, or another error if there was no answer. hide are values that
	// other errors must not show.
	CallTrigger(ctx context.Context, scope fleet.Scope, function, poolARN string, event []byte, hide map[string]string) ([]byte, error)
}

// RaisedError is the message of an error that a trigger raised, for whoever caused the event.
type RaisedError string

// Error implements error.
func (e RaisedError) Error() string { return "the function raised: " + string(e) }

// ErrNotPermitted says that the policy of a function does not let the pool call it.
var ErrNotPermitted = errors.New("the function's policy does not permit it")

type metadataKey struct{}

// WithMetadata adds what a client says to triggers (ClientMetadata) to a request.
func WithMetadata(ctx context.Context, m map[string]string) context.Context {
	if len(m) == 0 {
		return ctx
	}
	return context.WithValue(ctx, metadataKey{}, m)
}

func metadataOf(ctx context.Context) map[string]string {
	m, _ := ctx.Value(metadataKey{}).(map[string]string)
	return m
}

// An occasion is why a trigger is called, and about whom.
type occasion struct {
	trigger  string // PreSignUp, …: the name in errors
	source   string // PreSignUp_SignUp, …
	function string // ARN
	version  string // of the event
	client   string // empty: an administrator's operation
	username string
}

// triggerEvent is what every trigger gets (AWS's developer guide, "Lambda trigger event").
type triggerEvent struct {
	Version       string `json:"version"`
	Region        string `json:"region"`
	UserPoolID    string `json:"userPoolId"`
	UserName      string `json:"userName"`
	CallerContext struct {
		SDK    string `json:"awsSdkVersion"`
		Client string `json:"clientId"`
	} `json:"callerContext"`
	TriggerSource string         `json:"triggerSource"`
	Request       map[string]any `json:"request"`
	Response      map[string]any `json:"response"`
}

// trigger calls a function and returns the members of its response. request must have userAttributes.
func (s *Service) trigger(ctx context.Context, p *Pool, o occasion, request, response map[string]any) (map[string]json.RawMessage, error) {
	e := triggerEvent{Version: o.version, Region: p.Scope.Region, UserPoolID: p.ID, UserName: o.username, TriggerSource: o.source, Request: request, Response: response}
	e.CallerContext.SDK, e.CallerContext.Client = "aws-sdk-unknown-unknown", or(o.client, "CLIENT_ID_NOT_APPLICABLE")
	event, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if s.cfg.Functions == nil {
		return nil, invocationFailed(o, "ServiceException")
	}
	hide, _ := request["userAttributes"].(map[string]string)
	start := s.now()
	ctx, cancel := context.WithTimeout(ctx, triggerTime)
	defer cancel()
	answer, err := s.cfg.Functions.CallTrigger(ctx, p.Scope, o.function, p.ARN(), event, hide)
	var members map[string]json.RawMessage
	if err == nil {
		members, err = readResponse(answer)
	}
	if s.cfg.OnTrigger != nil {
		s.cfg.OnTrigger(o.trigger, outcomeOf(err), s.now().Sub(start))
	}
	if err == nil {
		return members, nil
	}
	var raised RaisedError
	if errors.As(err, &raised) {
		return nil, fail(fleet.KindInvalid, "UserLambdaValidationException", o.trigger+" failed with error "+string(raised)+".")
	}
	s.log.WarnContext(ctx, "a trigger did not answer as it should", "pool", p.ID, "trigger", o.source, "function", o.function, "error", err)
	switch {
	case errors.Is(err, errUnrecognizable):
		return nil, unrecognizable()
	case errors.Is(err, ErrNotPermitted):
		return nil, invocationFailed(o, "AccessDeniedException")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, invocationFailed(o, "Socket timeout while invoking Lambda function")
	case fleet.KindOf(err) == fleet.KindInvalid:
		return nil, invocationFailed(o, "ResourceNotFoundException")
	}
	return nil, invocationFailed(o, "ServiceException")
}

// outcomeOf is the word of the metrics for how a call went.
func outcomeOf(err error) string {
	var raised RaisedError
	switch {
	case err == nil:
		return "answered"
	case errors.As(err, &raised):
		return "refused"
	case errors.Is(err, errUnrecognizable):
		return "unreadable"
	}
	return "failed"
}

var errUnrecognizable = errors.New("its answer is no event with a response")

func unrecognizable() *fleet.Error {
	return fail(fleet.KindInvalid, "InvalidLambdaResponseException", "Unrecognizable lambda output")
}

func invocationFailed(o occasion, why string) *fleet.Error {
	return fail(fleet.KindState, "UnexpectedLambdaException", o.trigger+" invocation failed due to error "+why+".")
}

// readResponse takes the response out of a function's answer, which is the event with a response.
func readResponse(answer []byte) (map[string]json.RawMessage, error) {
	event, err := members(answer)
	if err != nil || event == nil {
		return nil, errUnrecognizable
	}
	response, err := members(event["response"])
	if err != nil || event["response"] == nil {
		return nil, errUnrecognizable
	}
	return response, nil
}

// members reads a JSON object by its exact names, which encoding/json would take in any case for a struct; nil for null and for nothing.
func members(text json.RawMessage) (m map[string]json.RawMessage, err error) {
	if len(text) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, errUnrecognizable
	}
	return m, nil
}

// member reads a member of an object into v, and leaves v alone where it is null or absent.
func member(m map[string]json.RawMessage, name string, v any) error {
	if text := m[name]; len(text) > 0 && string(text) != "null" && json.Unmarshal(text, v) != nil {
		return fmt.Errorf("%s: %w", name, errUnrecognizable)
	}
	return nil
}

// withMetadata adds the request's ClientMetadata as triggers get it: left out where there is none.
func withMetadata(ctx context.Context, request map[string]any) map[string]any {
	if m := metadataOf(ctx); m != nil {
		request["clientMetadata"] = m
	}
	return request
}

// triggerAttributes are the attributes of a stored user as triggers see them.
func triggerAttributes(u *store.PoolUser) map[string]string {
	m := maps.Clone(u.Attributes)
	if m == nil {
		m = map[string]string{}
	}
	m["sub"], m["cognito:user_status"] = u.Sub, u.Status
	return m
}

// preSignUp asks whether u may be made. source is SignUp or AdminCreateUser; of the latter only the refusal counts.
func (s *Service) preSignUp(ctx context.Context, p *Pool, client, source string, u *store.PoolUser, validation map[string]string) error {
	if p.Triggers.PreSignUp == "" {
		return nil
	}
	request := map[string]any{"userAttributes": cloneAttributes(u.Attributes), "validationData": validation}
	m, err := s.trigger(ctx, p, occasion{trigger: "PreSignUp", source: "PreSignUp_" + source, function: p.Triggers.PreSignUp, version: "1", client: client, username: u.Username},
		withMetadata(ctx, request), map[string]any{"autoConfirmUser": false, "autoVerifyEmail": false, "autoVerifyPhone": false})
	if err != nil {
		return err
	}
	var confirm bool
	verify := map[string]*bool{"email": new(bool), "phone_number": new(bool)}
	if errors.Join(member(m, "autoConfirmUser", &confirm), member(m, "autoVerifyEmail", verify["email"]), member(m, "autoVerifyPhone", verify["phone_number"])) != nil {
		return unrecognizable()
	}
	if source != "SignUp" {
		return nil
	}
	for name, yes := range verify {
		if !*yes {
			continue
		}
		if u.Attributes[name] == "" {
			return fail(fleet.KindInvalid, "InvalidLambdaResponseException", "PreSignUp verifies "+name+", which the user does not have.")
		}
		u.Attributes[name+"_verified"] = "true"
	}
	if confirm {
		u.Status = Confirmed
	}
	return nil
}

// postConfirmation tells that u was confirmed (ConfirmSignUp) or has recovered the password (ConfirmForgotPassword). It is too late for a
// refusal to undo it; the caller hears of it.
func (s *Service) postConfirmation(ctx context.Context, p *Pool, client, source string, u *store.PoolUser) error {
	if p.Triggers.PostConfirmation == "" {
		return nil
	}
	_, err := s.trigger(ctx, p, occasion{trigger: "PostConfirmation", source: "PostConfirmation_" + source, function: p.Triggers.PostConfirmation, version: "1", client: client,
		username: u.Username}, withMetadata(ctx, map[string]any{"userAttributes": triggerAttributes(u)}), map[string]any{})
	return err
}

// customWording asks how to word a message, and returns words where the trigger has none.
func (s *Service) customWording(ctx context.Context, p *Pool, u *store.PoolUser, o order, words wording) (wording, error) {
	if p.Triggers.CustomMessage == "" {
		return words, nil
	}
	request := map[string]any{"userAttributes": triggerAttributes(u), "codeParameter": "{####}", "usernameParameter": nil, "linkParameter": "{##Click Here##}"}
	if o.Reason == invitation {
		request["usernameParameter"] = "{username}"
	}
	m, err := s.trigger(ctx, p, occasion{trigger: "CustomMessage", source: "CustomMessage_" + o.Source, function: p.Triggers.CustomMessage, version: "1", client: o.Client,
		username: u.Username}, withMetadata(WithMetadata(ctx, o.Metadata), request), map[string]any{"smsMessage": nil, "emailMessage": nil, "emailSubject": nil})
	if err != nil {
		return words, err
	}
	var sms, email, subject string
	if errors.Join(member(m, "smsMessage", &sms), member(m, "emailMessage", &email), member(m, "emailSubject", &subject)) != nil {
		return words, unrecognizable()
	}
	name, body := "emailBody", email
	if o.Attribute == "phone_number" {
		name, body = "smsMessage", sms
	}
	if _, _, _, found := placeholder(body); found && p.linked(o) {
		return wording{or(subject, words.subject), body}, nil
	}
	if err := checkCustom(name, body, o.Reason == invitation); err != nil {
		return words, err
	}
	return wording{or(subject, words.subject), or(body, words.body)}, nil
}

// checkCustom refuses words without the placeholders that they must have, as AWS does.
func checkCustom(name, body string, invites bool) error {
	const code, user = "{####}", "{username}"
	switch {
	case body == "":
		return nil
	case len(body) > 20_000:
		return invalid("1 validation error detected: Value at '" + name + "' failed to satisfy constraint: Member must have length less than or equal to 20000")
	case !strings.Contains(body, code):
		return invalid("1 validation error detected: Value at '" + name + `' failed to satisfy constraint: Member must satisfy regular expression pattern: [\p{L}\p{M}\p{S}\p{N}\p{P}\s*]*\{####\}[\p{L}\p{M}\p{S}\p{N}\p{P}\s*]*`)
	case invites && !strings.Contains(body, user):
		return invalid("The message of CustomMessage for an invitation must contain " + user + " and " + code + ".")
	}
	return nil
}
