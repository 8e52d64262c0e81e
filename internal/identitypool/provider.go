package identitypool

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/oidc"
)

// userPoolOf returns the id of the user pool that a provider name means. Clients write the name in several ways, of which
// each means the same provider (identity spec 2.3): AWS's own host name, AWS's newer issuer host, and our issuer without its
// scheme. ok is false for any other provider.
func (s *Service) userPoolOf(name string) (poolID string, ok bool) {
	name = strings.TrimSuffix(name, "/")
	cut := strings.LastIndexByte(name, '/')
	if cut < 0 {
		return "", false
	}
	host, id := name[:cut], name[cut+1:]
	region, _, ok := strings.Cut(id, "_")
	if !ok {
		return "", false
	}
	switch host {
	case "cognito-idp." + region + ".amazonaws.com", "issuer-cognito-idp." + region + ".amazonaws.com", s.issuerHost:
		return id, true
	}
	return "", false
}

// canonical is the provider name under which logins are stored and shown in amr.
func canonical(poolID string) string {
	region, _, _ := strings.Cut(poolID, "_")
	return "cognito-idp." + region + ".amazonaws.com/" + poolID
}

// providerName takes the name of a provider out of what administrators and clients write: the ARN of IAM's OpenID Connect provider means
// its issuer, and one trailing slash does not count (identity spec 2.2).
func providerName(written string) string {
	if a, ok := fleet.ParseARN(written); ok && a.Service == "iam" && a.Kind() == "oidc-provider" {
		written = strings.TrimPrefix(a.Resource, "oidc-provider/")
	}
	return strings.TrimSuffix(written, "/")
}

// sameProvider reports whether two provider names mean the same provider.
func (s *Service) sameProvider(a, b string) bool {
	x, okX := s.userPoolOf(a)
	y, okY := s.userPoolOf(b)
	return okX && okY && x == y || providerName(a) == providerName(b)
}

// mapping finds the role mapping for a login. Keys are, for a client of a user pool, provider name, colon, client id; for IAM's OpenID
// Connect providers the ARN; for public providers the name (identity spec 2.1).
func (s *Service) mapping(p *Pool, l login) (Mapping, bool) {
	for key, m := range p.Mappings {
		switch name, ok := strings.CutSuffix(key, ":"+l.clientID); {
		case l.poolID == "":
			if providerName(key) == l.provider {
				return m, true
			}
		case ok:
			if id, ok := s.userPoolOf(name); ok && id == l.poolID {
				return m, true
			}
		}
	}
	return Mapping{}, false
}

// A login is a verified token.
type login struct {
	provider string // canonical
	poolID   string // of our own user pool; "" for any other provider
	clientID string
	subject  string
	claims   jwt.Claims

	foreign fleet.Federation  // of any other provider
	through iam.ProviderToken // of one of IAM's
}

// maxLogins bounds the work of one unsigned request.
const maxLogins = 10

// verify checks every entry of a Logins map against the pool's providers (identity spec 2.2). The result is ordered by provider.
func (s *Service) verify(ctx context.Context, p *Pool, logins map[string]fleet.Secret) ([]login, error) {
	if len(logins) > maxLogins {
		return nil, invalid("at most %d logins", maxLogins)
	}
	var out []login
	for name, token := range logins {
		l, err := s.verifyOne(ctx, p, name, token)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o login) bool { return o.provider == l.provider }) {
			return nil, invalid("two logins name the provider %s", l.provider)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b login) int { return strings.Compare(a.provider, b.provider) })
	return out, nil
}

// verifyOne finds the provider by the name that the client gives, never by what the token says: a token of another provider fails there.
func (s *Service) verifyOne(ctx context.Context, p *Pool, name string, token fleet.Secret) (login, error) {
	if poolID, ok := s.userPoolOf(name); ok && slices.ContainsFunc(p.Providers, func(c Provider) bool { return s.sameProvider(c.Name, name) }) {
		return s.verifyUser(ctx, p, poolID, name, token)
	}
	name = strings.TrimSuffix(name, "/")
	if apps, ok := p.Public[name]; ok {
		return s.verifyPublic(ctx, name, strings.Split(apps, ";"), token)
	}
	for _, arn := range p.OIDC {
		if providerName(arn) == name {
			return s.verifyOIDC(ctx, p, arn, token)
		}
	}
	return login{}, notAuthorized("Logins don't match. Please include at least one valid login for this identity or identity pool.")
}

// verifyUser checks an Id token of one of our own user pools.
func (s *Service) verifyUser(ctx context.Context, p *Pool, poolID, name string, token fleet.Secret) (login, error) {
	claims, err := s.tokens.VerifyIDToken(ctx, p.Scope, poolID, token.Reveal())
	if err != nil {
		return login{}, badToken(err)
	}
	audience := claims.String("aud")
	for _, c := range p.Providers {
		if c.ClientID == audience && s.sameProvider(c.Name, name) {
			return login{provider: canonical(poolID), poolID: poolID, clientID: audience, subject: claims.String("sub"), claims: claims}, nil
		}
	}
	return login{}, notAuthorized("Token is not from a supported provider of this identity pool.")
}

// verifyPublic checks what Google, Apple, Facebook or Amazon gave one of the apps.
func (s *Service) verifyPublic(ctx context.Context, name string, apps []string, token fleet.Secret) (login, error) {
	t, err := s.issuers.VerifyPublic(ctx, name, token.Reveal(), apps)
	if err != nil {
		return login{}, foreignToken(err)
	}
	f := iam.FederationOf(t, name, "")
	f.AMR = []string{"authenticated", name, name + ":" + t.Audience + ":" + t.Subject}
	return login{provider: name, clientID: t.Audience, subject: t.Subject, claims: t.Claims, foreign: f}, nil
}

// verifyOIDC checks an Id token of one of IAM's OpenID Connect providers.
func (s *Service) verifyOIDC(ctx context.Context, p *Pool, arn string, token fleet.Secret) (login, error) {
	t, err := s.sessions.VerifyProviderToken(ctx, p.Scope, arn, token)
	if isNotFound(err) {
		return login{}, notAuthorized("Token is not from a supported provider of this identity pool.")
	}
	if err != nil {
		return login{}, foreignToken(err)
	}
	name := t.Provider.Name
	f := iam.FederationOf(t.Token, name, name)
	f.AMR = []string{"authenticated", name, name + ":OIDC:" + t.Audience + ":" + t.Subject}
	return login{provider: name, clientID: t.Audience, subject: t.Subject, claims: t.Claims, foreign: f, through: t}, nil
}

// foreignToken gives the codes and words that clients know to what is wrong with a token of another issuer (identity spec 2.7).
func foreignToken(err error) error {
	var e *oidc.Error
	if !errors.As(err, &e) {
		return err
	}
	text := e.Msg
	switch e.Reason {
	case oidc.Unreachable, oidc.Misconfigured:
		return &fleet.Error{Kind: fleet.KindInvalid, Code: "ExternalServiceException", Msg: e.Msg, Err: e.Err}
	case oidc.Audience:
		return notAuthorized("Token is not from a supported provider of this identity pool.")
	case oidc.Issuer:
		text = "Issuer doesn't match providerName"
	case oidc.Signature:
		text = "Token signature invalid."
	case oidc.NotID:
		text = "Not a valid OpenId Connect identity token."
	}
	return notAuthorized("Invalid login token. %s", text)
}

// badToken keeps the user pool's reason, under the code and prefix that clients know.
func badToken(err error) error {
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind == fleet.KindInternal || e.Kind == fleet.KindUnavailable {
		return err
	}
	if strings.HasPrefix(e.Msg, "Invalid login token") {
		return notAuthorized("%s", e.Msg)
	}
	return notAuthorized("Invalid login token. %s", e.Msg)
}
