package iam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/store"
)

// A ProviderToken is a token of an issuer that the account trusts by an OpenID Connect provider.
type ProviderToken struct {
	*oidc.Token
	Provider Entity
}

// VerifyProviderToken checks an Id token against an OpenID Connect provider of the account, by its ARN. It fails with an *oidc.Error for
// the token and KindNotFound for the provider.
func (s *Service) VerifyProviderToken(ctx context.Context, scope fleet.Scope, arn string, token fleet.Secret) (ProviderToken, error) {
	e, err := s.Provider(ctx, scope, arn)
	if err != nil {
		return ProviderToken{}, err
	}
	t, err := s.oidc.Verify(ctx, issuerOf(e), token.Reveal(), oidc.Expect{Audiences: e.ClientIDs})
	return ProviderToken{t, e}, err
}

// ProviderStillHolds looks again, in a write transaction, at the provider behind a token once something was issued for it: if it was
// deleted or narrowed meanwhile, this fails, or the cut-off comes later and ends what was issued.
func (s *Service) ProviderStillHolds(ctx context.Context, scope fleet.Scope, p ProviderToken) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, store.IAMOIDC, p.Provider.Name)
		if err == nil && (e.ID != p.Provider.ID || !slices.Contains(e.ClientIDs, p.Audience)) {
			err = noSuch("OpenIDConnect Provider not found for arn %s", p.Provider.ARN(scope))
		}
		return err
	})
}

func issuerOf(e Entity) oidc.Provider {
	p := oidc.Provider{Issuer: "https://" + e.URL, Thumbprints: e.Thumbprints}
	if e.Name == oidc.Google {
		p.Aliases = oidc.WellKnown(oidc.Google).Aliases
	}
	return p
}

// FederationOf says of a foreign token what stays known for the whole session. Provider is the issuer; an identity pool puts its own
// name in its place.
func FederationOf(t *oidc.Token, issuer, provider string) fleet.Federation {
	c := t.Claims
	f := fleet.Federation{Provider: issuer, Audience: t.Audience, Subject: t.Subject, AMR: c.Strings("amr"), Email: c.String("email"),
		OIDC: provider, UserSub: t.Subject, Username: t.Subject}
	if !slices.Equal(t.Audiences, []string{t.Audience}) {
		f.Original = t.Audiences
	}
	for _, name := range []string{"preferred_username", "email"} {
		if v := c.String(name); v != "" {
			f.Username = v
			break
		}
	}
	return f
}

// foreign checks a token of AssumeRoleWithWebIdentity that none of our own pools issued.
func (s *Service) foreign(ctx context.Context, scope fleet.Scope, token fleet.Secret, providerID string) (id WebIdentity, federated string, err error) {
	if oidc.Social(providerID) {
		return s.social(ctx, token, providerID)
	}
	issuer, err := oidc.UnverifiedIssuer(token.Reveal())
	if err != nil {
		return id, "", webTokenError(err)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(issuer, "https://"), "/")
	none := fleet.Invalid("", "", "No OpenIDConnect provider found in your account for %.255s", issuer).WithCode("InvalidIdentityToken")
	if name == "" || len(name) > 255 || name == fleet.IdentityPools {
		return id, "", none
	}
	arn := scope.IAM("oidc-provider/" + name)
	t, err := s.VerifyProviderToken(ctx, scope, arn, token)
	switch r, ok := oidc.ReasonOf(err); {
	// Names are found in any case, but issuers differ by it.
	case errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}), ok && r == oidc.Issuer:
		return id, "", none
	case err != nil:
		return id, "", webTokenError(err)
	}
	id = WebIdentity{Issuer: t.Provider.URL, Federation: FederationOf(t.Token, t.Provider.URL, t.Provider.Name), Claims: t.Claims,
		StillHolds: func(ctx context.Context) error { return webTokenError(s.ProviderStillHolds(ctx, scope, t)) }}
	return id, t.Provider.ARN(scope), nil
}

// social checks an access token. Its app is for the trust policy to judge, by PROVIDER:app_id, as with AWS.
func (s *Service) social(ctx context.Context, token fleet.Secret, name string) (id WebIdentity, federated string, err error) {
	t, err := s.oidc.Ask(ctx, name, token.Reveal())
	if err != nil {
		return id, "", webTokenError(err)
	}
	id = WebIdentity{Issuer: name, Federation: FederationOf(t, name, ""), Claims: t.Claims, StillHolds: func(context.Context) error { return nil }}
	return id, name, nil
}

// webTokenError gives STS's codes to what is wrong with a web identity token (identity spec 3). Whatever is no *oidc.Error, it leaves.
func webTokenError(err error) error {
	var e *oidc.Error
	if !errors.As(err, &e) {
		return err
	}
	code, text := "InvalidIdentityToken", e.Msg
	out := &fleet.Error{Kind: fleet.KindInvalid, Err: e.Err}
	switch e.Reason {
	case oidc.Expired:
		code = "ExpiredTokenException"
	case oidc.Unreachable:
		code = "IDPCommunicationError"
	case oidc.Rejected:
		code, out.Kind = "IDPRejectedClaim", fleet.KindDenied
	case oidc.Audience:
		text = "Incorrect token audience"
	case oidc.Malformed, oidc.NotID:
		text = fmt.Sprintf("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token): %s", e.Msg)
	case oidc.Misconfigured:
		text = "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements: " + e.Msg
	}
	out.Code, out.Msg = code, text
	return out
}
