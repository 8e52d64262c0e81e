package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/trace"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

// A request that is refused for who sent it leaves a trace, so that `imprint explain` can tell an installer's app what was wrong. It is
// found by the request id that every SDK prints, the access key, the user and the address.

// A requestCure says how to mend refusals with a code whose text holds certain words.
type requestCure struct{ code, words, cure string }

// requestCures is read from above; the first row that fits is taken.
var requestCures = []requestCure{
	{sigv4.InvalidSignature, "Signature expired", "set the clock of the machine that signs: it may be 15 minutes off at most, and it is behind"},
	{sigv4.InvalidSignature, "not yet current", "set the clock of the machine that signs: it may be 15 minutes off at most, and it is ahead"},
	{sigv4.InvalidSignature, "valid Region", "sign for this server's region: set AWS_REGION (and region in the profile) as `imprint env` prints it"},
	{sigv4.InvalidSignature, "correct service", "send the request to the service that it is signed for"},
	{sigv4.InvalidSignature, "does not match", "check the secret access key; if it is right, a proxy in between changes method, path or host, which must arrive as they were signed"},
	{sigv4.UnrecognizedClient, "", "use a key of this server: `imprint env` prints one, `imprint admin create-key` makes one; a key of AWS or of another installation is unknown here, and so is one that was deleted"},
	{sigv4.ExpiredToken, "", "sign in again: the session has ended, by its time, or since user, group, role or key changed"},
	{sigv4.MissingAuthenticationToken, "", "sign the request with Signature Version 4"},
	{"NotAuthorizedException", "selects no single role", "put the user into one group whose role is to count, give groups different precedences, or set AmbiguousRoleResolution to AuthenticatedRole (SetIdentityPoolRoles)"},
	{"NotAuthorizedException", "Unauthenticated access", "sign in first and send the Id token as login, or allow guests in the identity pool"},
	{"NotAuthorizedException", "not from a supported provider", "send the Id token of a user pool and client that the identity pool lists (UpdateIdentityPool)"},
	{"NotAuthorizedException", "revoked", "sign in again: the person was signed out, or their rights have changed"},
	{"NotAuthorizedException", "Token expired", "refresh the Id token, then ask again: it is good for an hour, if the client says nothing else"},
	{"NotAuthorizedException", "Invalid login token", "send the Id token, not the access token, as the user pool gave it; sign in again if it is an old one"},
	{"NotAuthorizedException", "Incorrect username or password", "type name and password again, or set a new one (AdminSetUserPassword, ForgotPassword)"},
	{"NotAuthorizedException", "Password attempts exceeded", "wait: after five failures each further one doubles the wait, up to 15 minutes; AdminSetUserPassword ends it"},
	{"NotAuthorizedException", "User is disabled", "AdminEnableUser lets them sign in again"},
	{"NotAuthorizedException", "Temporary password has expired", "send a new one (AdminCreateUser with MessageAction RESEND)"},
	{"UserNotConfirmedException", "", "let them enter the code of their sign-up (ConfirmSignUp), or confirm them (AdminConfirmSignUp)"},
	{"PasswordResetRequiredException", "", "let them set a new password with the code that was sent to them (ForgotPassword sends another)"},
	{"CodeMismatchException", "Invalid code received", "enter the code that the authenticator app shows now; check the clock of the phone, or give a new start with imprint user reset-token"},
	{"ExpiredTokenException", "", "sign in again: the token has ended, or the person was signed out"},
}

func cureOfRequest(e *fleet.Error) string {
	for _, c := range requestCures {
		if c.code == e.Code && strings.Contains(e.Msg, c.words) {
			return c.cure
		}
	}
	return ""
}

// unproven leaves the trace of a request whose signature was refused.
func (s *Server) unproven(ctx context.Context, r *http.Request, scope fleet.Scope, err error) {
	e := refusal(err)
	if e == nil || e.Code == sigv4.MissingAuthenticationToken { // whoever knocks without a key is no client of ours
		return
	}
	t := s.requestTrace(ctx, scope)
	t.Fact("sourceIp", remoteHost(r))
	if sig, err := sigv4.Parse(r); err == nil {
		t.Fact("accessKeyId", sig.AccessKeyID)
	}
	t.SetCure("%s", cureOfRequest(e))
	s.recorder.Finish(t, e)
}

// denied leaves the trace of a request that IAM refused.
func (s *Server) denied(ctx context.Context, caller *fleet.Caller, a wire.Access, err error) {
	e := refusal(err)
	if e == nil || e.Kind != fleet.KindDenied {
		return
	}
	t := s.requestTrace(ctx, caller.Scope)
	t.Fact("sourceIp", caller.SourceIP)
	t.Fact("accessKeyId", caller.AccessKeyID)
	who := fleet.InstallerOf(caller)
	t.Fact("user", who.Username)
	t.Fact("caller", caller.ARN)
	on := "*"
	if len(a.Resources) > 0 {
		on = strings.Join(a.Resources, " ")
	}
	if _, name, ok := strings.Cut(on, ":provisioningtemplate/"); ok {
		t.Fact("template", name)
	}
	t.Step("iam", "%s on %s: %s", a.Action, on, e.Msg)
	switch {
	case strings.Contains(e.Msg, "explicit deny"):
		t.SetCure("a policy denies %s: take the statement out if %s should be allowed", a.Action, holder(caller))
	default:
		t.SetCure("allow %s on %s in a policy of %s", a.Action, on, holder(caller))
	}
	s.recorder.Finish(t, e)
}

// holder names whom a policy has to be given.
func holder(c *fleet.Caller) string {
	if c.RoleARN != "" {
		return "the role " + c.RoleARN
	}
	return c.ARN
}

// traceSignIns leaves traces of sign-ins and of trades of tokens that were refused: nobody has signed those.
func (s *Server) traceSignIns(next func(wire.Event)) func(wire.Event) {
	return func(e wire.Event) {
		next(e)
		failed := refusal(e.Err)
		if failed == nil || e.Caller == nil || e.Caller.ARN != "" || !signIn[e.Operation] {
			return
		}
		t := trace.New(s.site.Scope, trace.Request, s.clock)
		t.Fact("requestId", e.RequestID)
		t.Fact("sourceIp", e.Caller.SourceIP)
		t.Step(e.Service, "%s", e.Operation)
		t.SetCure("%s", cureOfRequest(failed))
		s.recorder.Finish(t, failed)
	}
}

// signIn has the unsigned operations by which somebody proves who they are. The steps of a sign-in to a user pool are not among them:
// signInRefused knows whose it is.
var signIn = map[string]bool{"GetTokensFromRefreshToken": true, "GetId": true, "GetCredentialsForIdentity": true, "GetOpenIdToken": true,
	"AssumeRoleWithWebIdentity": true}

// signInRefused leaves the trace of a sign-in to a user pool that was refused, by the API or at the pages.
func (s *Server) signInRefused(ctx context.Context, r userpool.RefusedSignIn) {
	e := refusal(r.Err)
	if e == nil {
		return
	}
	if r.Scope == (fleet.Scope{}) {
		r.Scope = s.site.Scope
	}
	t := s.requestTrace(ctx, r.Scope)
	if c := fleet.CallerFrom(ctx); c != nil {
		t.Fact("sourceIp", c.SourceIP)
	}
	t.Fact("user", r.User)
	t.Fact("userPool", r.Pool)
	t.Fact("client", r.Client)
	where := "cognito-idp"
	if r.Pages {
		where = "pages"
	}
	t.Step(where, "%s", r.Step)
	t.SetCure("%s", cureOfRequest(e))
	s.recorder.Finish(t, e)
}

func (s *Server) requestTrace(ctx context.Context, scope fleet.Scope) *trace.Trace {
	t := trace.New(scope, trace.Request, s.clock)
	t.Fact("requestId", fleet.RequestID(ctx))
	return t
}

// refusal is err if it is a domain error that the caller can mend, else nil.
func refusal(err error) *fleet.Error {
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind == fleet.KindInternal || e.Kind == fleet.KindUnavailable || e.Kind == fleet.KindThrottled {
		return nil
	}
	return e
}

func remoteHost(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}
