package federation

import (
	"context"
	"errors"

	"github.com/imprint-iot/imprint/internal/oidc"
)

// aliases are further names of a provider in its tokens: Google's older ones come without a scheme.
func aliases(p Provider) []string {
	if p.Type == TypeGoogle && p.Details[issuerURL] == kinds[TypeGoogle].defaults[issuerURL] {
		return []string{"accounts.google.com"}
	}
	return nil
}

// identifyOpenID reads the Id token (OpenID Connect Core 3.1.3.7), and the user information where the provider has some (5.3).
func (c *Service) identifyOpenID(ctx context.Context, p Provider, e endpoints, pending Pending, t tokens) (Identity, error) {
	if t.ID == "" {
		return Identity{}, refused("The identity provider gave no Id token.")
	}
	if pending.Nonce == "" {
		return Identity{}, refused("The sign-in has no nonce.")
	}
	token, err := c.tokens.Verify(ctx, oidc.Provider{Issuer: p.Details[issuerURL], Aliases: aliases(p), KeysURL: e.keys}, t.ID,
		oidc.Expect{Audiences: []string{p.Details[clientID]}, Party: true, Nonce: pending.Nonce})
	if err != nil {
		return Identity{}, tokenError(err)
	}
	id := Identity{Subject: token.Subject, Claims: token.Claims}
	if e.attributes == "" || p.Type == TypeApple {
		return id, nil
	}
	more, err := c.attributes(ctx, p, e, t)
	if err != nil {
		return Identity{}, err
	}
	if !same(more.String("sub"), id.Subject) { // OpenID Connect Core 5.3.2
		return Identity{}, refused("The user information of the identity provider is about somebody else.")
	}
	id.Claims = merged(id.Claims, more)
	return id, nil
}

// tokenError says whose fault it is that a token, or what its issuer publishes, is not accepted.
func tokenError(err error) error {
	var e *oidc.Error
	if !errors.As(err, &e) {
		return unavailable("it was not asked to the end", err)
	}
	switch e.Reason {
	case oidc.Unreachable:
		return &Error{Fault: Unavailable, Msg: "The identity provider could not be reached: " + e.Msg, Err: e.Err}
	case oidc.Misconfigured:
		return &Error{Fault: Setup, Msg: "The identity provider is not set up as it should be: " + e.Msg, Err: e.Err}
	}
	return &Error{Fault: Refused, Msg: "The identity provider's token is not accepted: " + e.Msg, Err: e.Err}
}
