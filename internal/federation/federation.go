// Package federation asks other identity providers who somebody is: OpenID Connect providers, Google, Sign in with Apple, Facebook,
// Login with Amazon, and SAML 2.0. It speaks their protocols and knows no user pool: what becomes of an Identity is internal/userpool's.
//
// Begin with Service.Begin, which says where to send the browser, and Service.Finish, which takes what comes back. Check, in
// details.go, has the settings of each type; oauth.go is what all but SAML have in common, openid.go what those with Id tokens have,
// apple.go what is special about Apple; saml.go goes on in the package samlsp.
//
// What has to be remembered between the two steps is a Pending, which the caller keeps where only the same browser brings it back,
// once. Every call goes through the client of internal/egress, none follows an address that a browser brought.
package federation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/oidc"
)

// Types of providers, as CreateIdentityProvider names them.
const (
	TypeOIDC     = "OIDC"
	TypeGoogle   = "Google"
	TypeApple    = "SignInWithApple"
	TypeFacebook = "Facebook"
	TypeAmazon   = "LoginWithAmazon"
	TypeSAML     = "SAML"
)

// A Provider is an identity provider as an administrator described it.
type Provider struct {
	Type    string
	Details map[string]string // ProviderDetails, secrets among them; Check completes them
	Mapping map[string]string // AttributeMapping: an attribute of the user pool to one of the provider
}

// Us is what a provider knows of us.
type Us struct {
	Callback string // URL that browsers come back to with a code
	ACS      string // URL that browsers post SAML answers to
	EntityID string // our name in SAML
}

// Ask is what an application may say about a sign-in beforehand.
type Ask struct {
	LoginHint string
	Prompt    string // none, login, consent, select_account
}

// Pending is what is to be remembered of a sign-in that has begun. It is a secret of the browser that began it.
type Pending struct {
	Nonce    string `json:",omitempty"`
	Verifier string `json:",omitempty"` // of PKCE (RFC 7636)
	Request  string `json:",omitempty"` // id of a SAML request
}

// An Identity is somebody whom a provider knows.
type Identity struct {
	Subject string     // by which the provider knows them for ever: sub, id, user_id, or NameID
	Issuer  string     // of SAML: the provider's entity id; else ""
	Claims  jwt.Claims // all that the provider says; values of SAML attributes are []string

	// Once is the id of a SAML assertion, which counts once: whoever has seen it has to remember it until Until.
	Once  string
	Until time.Time
}

// Fault says whose fault it is that a sign-in failed.
type Fault uint8

const (
	Refused     Fault = iota // what came is not to be believed
	Denied                   // the provider, or its user, said no
	Unavailable              // the provider could not be asked; trying again may help
	Setup                    // what the administrator or the provider has set up does not fit
)

// An Error is why a sign-in through a provider failed.
type Error struct {
	Fault Fault
	Code  string // of a provider that said no: its OAuth error
	Msg   string // for the person who signs in and for the administrator; holds no secret
	Err   error  // cause, for logs
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

func refused(format string, args ...any) *Error {
	return &Error{Fault: Refused, Msg: fmt.Sprintf(format, args...)}
}

func setup(format string, args ...any) *Error {
	return &Error{Fault: Setup, Msg: fmt.Sprintf(format, args...)}
}

// unavailable hides the URL of a call, which may hold what nobody else may see.
func unavailable(what string, err error) *Error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return &Error{Fault: Unavailable, Msg: "The identity provider could not be reached: " + what, Err: err}
}

// Config says what a Service stands on.
type Config struct {
	HTTP   *egress.Client // of internal/egress
	Tokens *oidc.Verifier
	Clock  fleet.Clock
}

// A Service speaks to providers. It is safe for concurrent use.
type Service struct {
	http   *egress.Client
	tokens *oidc.Verifier
	clock  fleet.Clock

	mu       sync.Mutex
	metadata map[string]*metadata // of SAML providers, by URL
}

// New makes a service.
func New(c Config) *Service {
	return &Service{http: c.HTTP, tokens: c.Tokens, clock: c.Clock, metadata: map[string]*metadata{}}
}

// Resolve asks a provider for what must be known of it before anybody can sign in, and fails if that is wrong. It adds to the details
// what AWS shows of it. Check comes before.
func (c *Service) Resolve(ctx context.Context, p *Provider) error {
	if p.Type == TypeSAML {
		return c.resolveSAML(ctx, p)
	}
	_, err := c.endpoints(ctx, *p)
	return err
}

// Begin starts a sign-in. state comes back with the browser: of unreserved characters, at most 80.
func (c *Service) Begin(ctx context.Context, p Provider, us Us, state string, ask Ask) (redirect string, pending Pending, err error) {
	if p.Type == TypeSAML {
		return c.beginSAML(ctx, p, us, state)
	}
	return c.beginCode(ctx, p, us, state, ask)
}

// Finish ends a sign-in with what the browser brought: the query or form of the callback. It fails with *Error.
func (c *Service) Finish(ctx context.Context, p Provider, us Us, pending Pending, answer url.Values) (Identity, error) {
	if p.Type == TypeSAML {
		return c.finishSAML(ctx, p, us, pending, answer)
	}
	return c.finishCode(ctx, p, us, pending, answer)
}

// Posts says that the answers of a provider come as forms that another site posts, without cookies that are Lax.
func (p Provider) Posts() bool { return p.Type == TypeSAML || p.Type == TypeApple }

// merged is b on top of a.
func merged(a, b jwt.Claims) jwt.Claims {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}
