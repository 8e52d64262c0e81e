package userpool

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is the front half of OAuth 2.0 at a pool's domain (RFC 6749 section 4.1, identity spec 1.12): what an app asks for when it
// sends somebody's browser here, and the code with which the browser is sent back. oauthtoken.go is the other half. Errors carry the codes
// of RFC 6749.

// An AuthorizeRequest is the query of /oauth2/authorize, as it was sent.
type AuthorizeRequest struct {
	ClientID, ResponseType, RedirectURI, Scope, State, Nonce string
	Challenge, ChallengeMethod                               string // PKCE (RFC 7636)
	Provider                                                 string // identity_provider: the name of one, OwnProvider, or empty
	Prompt                                                   string
	MaxAge                                                   string // seconds since the sign-in (OpenID Connect Core 3.1.2.1); empty: any
}

// An Authorization is a request that was found good: a client of the site, an address that the browser may be sent back to, scopes that the
// client may have. Only then the site may send anybody there, errors included.
type Authorization struct {
	entry
	Request  AuthorizeRequest
	Redirect string // where the browser goes in the end
	scopes   []string
	maxAge   time.Duration // of a sign-in that counts; negative: any
}

// oauthError makes an error of RFC 6749.
func oauthError(code, description string) *fleet.Error {
	kind := fleet.KindInvalid
	if code == "invalid_client" || code == "unauthorized_client" || code == "invalid_grant" {
		kind = fleet.KindDenied
	}
	return fail(kind, code, description)
}

func invalidRequest(description string) *fleet.Error {
	return oauthError("invalid_request", description)
}

// Authorization checks a request. Without a client and an address that belongs to it there is no Authorization, and the error is for the
// person in front of the browser. Otherwise there always is one, and the error, if any, is for the app.
func (s *Service) Authorization(ctx context.Context, site *Site, r AuthorizeRequest) (a *Authorization, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		if a, err = s.addressee(tx, site, r); err != nil {
			return err
		}
		return a.check(tx)
	})
	return a, err
}

// addressee finds whose request it is and where the answer may go: an address that the client has registered, letter by letter.
func (s *Service) addressee(tx *store.Tx, site *Site, r AuthorizeRequest) (*Authorization, error) {
	if r.ClientID == "" {
		return nil, invalidRequest("Required String parameter 'client_id' is not present")
	}
	c, err := s.siteClient(tx, site, r.ClientID)
	if err != nil {
		return nil, err
	}
	to := r.RedirectURI
	if to == "" {
		to = c.DefaultRedirect
	}
	switch {
	case to == "":
		return nil, invalidRequest("Required String parameter 'redirect_uri' is not present")
	case !slices.Contains(c.CallbackURLs, to) || badRedirect(to) != "":
		return nil, oauthError("redirect_mismatch", "The app may not be sent back to the redirect_uri of this request: it is none of the client's CallbackURLs.")
	}
	return &Authorization{entry: entry{client: c, pool: site.Pool, hosted: true}, Request: r, Redirect: to, maxAge: -1}, nil
}

// siteClient returns a client of a site's pool.
func (s *Service) siteClient(tx *store.Tx, site *Site, id string) (*Client, error) {
	row, err := tx.UserPoolClient(site.Pool.Scope, site.Pool.ID, id)
	if err != nil {
		return nil, asNotFound(err, oauthError("invalid_client", "Client does not exist."))
	}
	return s.clientOf(row)
}

// maxRequest bounds the parts of a request that are kept or sent back.
const maxRequest = 4096

func (a *Authorization) check(tx *store.Tx) error {
	r, c := a.Request, a.client
	flow := map[string]string{"code": codeFlow, "token": implicitFlow}[r.ResponseType]
	switch {
	case flow == "":
		return oauthError("unsupported_response_type", "response_type must be code or token.")
	case !c.OAuth || !slices.Contains(c.OAuthFlows, flow):
		return oauthError("unauthorized_client", "The client may not use this flow: AllowedOAuthFlows lacks it.")
	case len(r.State) > maxRequest || len(r.Nonce) > maxRequest || len(r.Scope) > maxRequest:
		return invalidRequest("A parameter is longer than 4096 bytes.")
	case r.Challenge == "" && r.ChallengeMethod != "":
		return invalidRequest("code_challenge_method came without code_challenge.")
	case r.Challenge != "" && r.ChallengeMethod != "S256":
		return invalidRequest("code_challenge_method must be S256.")
	case r.Challenge != "" && !challengeForm.MatchString(r.Challenge):
		return invalidRequest("code_challenge must be 43 characters, the base64url of a SHA-256.")
	case r.Provider != "" && !c.signsInWith(r.Provider):
		return invalidRequest("The client has no identity provider of this name.")
	}
	if r.MaxAge != "" {
		n, err := strconv.ParseUint(r.MaxAge, 10, 31)
		if err != nil {
			return invalidRequest("max_age must be a number of seconds.")
		}
		a.maxAge = time.Duration(n) * time.Second
	}
	var err error
	if a.scopes, err = a.grantScopes(tx, r.Scope, c.OAuthScopes); err != nil {
		return err
	}
	if !slices.Contains(a.scopes, openIDScope) && slices.ContainsFunc(a.scopes, func(s string) bool { return s == emailScope || s == phoneScope || s == profileScope }) {
		return oauthError("invalid_scope", "The scopes email, phone and profile need openid beside them.")
	}
	return nil
}

var challengeForm = fleet.NewPattern(`^[A-Za-z0-9_-]{43}$`)

// renews reports whether the app wants a sign-in that is new, whoever is signed in.
func (a *Authorization) renews() bool {
	return a.maxAge == 0 || slices.Contains(strings.Fields(a.Request.Prompt), "login")
}

// Pool and Client are what pages show of a request: nothing secret is in them.
func (a *Authorization) Pool() *Pool { return a.pool }

// ClientID names the client.
func (a *Authorization) ClientID() string { return a.client.ID }

// TakesPasswords reports whether the pool's own users may sign in to the client.
func (a *Authorization) TakesPasswords() bool { return a.client.signsInWith(OwnProvider) }

// TakesSignUps reports whether people may make an account at the pages.
func (a *Authorization) TakesSignUps() bool { return a.TakesPasswords() && !a.pool.AdminCreateOnly }

// SignUpAttributes lists what a new user is asked for beside name and password: what the pool requires or verifies.
func (a *Authorization) SignUpAttributes() []string {
	names := a.pool.requiredAttributes()
	for _, name := range a.pool.AutoVerified {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return len(a.pool.UsernameAttributes) == 1 && slices.Contains(a.pool.UsernameAttributes, name) || !a.mayWrite(name)
	})
}

// The pages are the server's own, so they know a client's secret; what they do goes through the same operations as everything else.

// SignIn begins a sign-in at the pages. The outcome is a challenge, or a browser that is signed in.
func (s *Service) SignIn(ctx context.Context, a *Authorization, name string, password fleet.Secret) (Outcome, error) {
	return s.initiate(ctx, a.entry, SignIn{ClientID: a.client.ID, Flow: "USER_PASSWORD_AUTH", Parameters: map[string]fleet.Secret{
		"USERNAME": fleet.Secret(name), "PASSWORD": password, "SECRET_HASH": a.hash(name)}})
}

// Answer goes on with a sign-in at the pages.
func (s *Service) Answer(ctx context.Context, a *Authorization, in Answer) (Outcome, error) {
	in.ClientID = a.client.ID
	in.Responses["SECRET_HASH"] = a.hash(in.Responses["USERNAME"].Reveal())
	return s.respond(ctx, a.entry, in)
}

// hash is the SECRET_HASH that the client would send.
func (a *Authorization) hash(name string) fleet.Secret {
	if a.client.Secret == "" {
		return ""
	}
	return fleet.Secret(secretHash(a.client.Secret, name, a.client.ID))
}

// CodeRequest is a request for a code by somebody at the pages.
func (a *Authorization) CodeRequest(name string) CodeRequest {
	return CodeRequest{ClientID: a.client.ID, SecretHash: a.hash(name), Username: name}
}

// Registration is somebody who makes an account at the pages.
func (a *Authorization) Registration(name string, password fleet.Secret, attributes map[string]string) Registration {
	return Registration{ClientID: a.client.ID, SecretHash: a.hash(name), Username: name, Password: password, Attributes: attributes}
}

// Enrolment is for MFA_SETUP at the pages.
func (a *Authorization) Enrolment(session fleet.Secret) Enrolment {
	return Enrolment{Session: session, hosted: true}
}

// codeLife is how long an authorization code waits for its client (identity spec 1.12).
const codeLife = 5 * time.Minute

// A Reply is what the browser takes back to the app: a code or, where the app asked for a token, tokens.
type Reply struct {
	SignedIn bool // false: nobody is signed in in this browser, and the rest is empty
	Code     fleet.Secret
	Tokens   *Tokens
}

// Authorize answers a request for whoever has just signed in in the browser with a cookie.
func (s *Service) Authorize(ctx context.Context, a *Authorization, cookie fleet.Secret) (Reply, error) {
	return s.authorize(ctx, a, cookie, -1)
}

// AuthorizeAgain answers a request for whoever has signed in in the browser some time ago, if the app takes that.
func (s *Service) AuthorizeAgain(ctx context.Context, a *Authorization, cookie fleet.Secret) (Reply, error) {
	if a.renews() {
		return Reply{}, nil
	}
	return s.authorize(ctx, a, cookie, a.maxAge)
}

// authorize takes a sign-in that is at most maxAge old; negative: any.
func (s *Service) authorize(ctx context.Context, a *Authorization, cookie fleet.Secret, maxAge time.Duration) (Reply, error) {
	var reply Reply
	var g grant
	now, scope := s.now(), strings.Join(a.scopes, " ")
	code := newSecret()
	session := newSession(a.app(), now)
	err := s.tx(ctx, func(tx *store.Tx) error {
		reply = Reply{}
		b, u, in, err := s.browser(tx, a.pool, cookie)
		if err != nil || !in || maxAge >= 0 && now.Sub(b.AuthTime) > maxAge {
			return err
		}
		reply.SignedIn = true
		if a.Request.ResponseType == "code" {
			reply.Code = code
			return tx.AddAuthCode(a.pool.Scope, a.pool.ID, store.AuthCode{ID: hashOf(code), Client: a.client.ID, Sub: u.Sub,
				Redirect: a.Request.RedirectURI, Scope: scope, Nonce: a.Request.Nonce, Challenge: a.Request.Challenge,
				AuthTime: b.AuthTime, Expires: now.Add(codeLife)})
		}
		session.session.AuthTime, session.session.Scope = b.AuthTime, scope
		session.unrefreshed = true // tokens in an address are not renewed (RFC 6749 section 4.2.2)
		g, err = s.begin(tx, a.app(), u, session)
		g.nonce = a.Request.Nonce
		return err
	})
	if err != nil || !reply.SignedIn || reply.Code != "" {
		return reply, err
	}
	reply.Tokens, err = s.mint(ctx, a.entry, g)
	return reply, err
}

// app is the entry of the client itself, whose sessions are not those of a browser.
func (a *Authorization) app() entry { return entry{client: a.client, pool: a.pool} }

// LogoutAddress checks where the browser may go after a sign-out: one of the client's LogoutURLs, or none.
func (s *Service) LogoutAddress(ctx context.Context, site *Site, clientID, to string) error {
	return s.view(ctx, func(tx *store.Tx) error {
		if clientID == "" {
			return invalidRequest("Required String parameter 'client_id' is not present")
		}
		c, err := s.siteClient(tx, site, clientID)
		if err != nil {
			return err
		}
		if to != "" && (!slices.Contains(c.LogoutURLs, to) || badRedirect(to) != "") {
			return oauthError("redirect_mismatch", "The logout_uri of this request is none of the client's LogoutURLs.")
		}
		return nil
	})
}
