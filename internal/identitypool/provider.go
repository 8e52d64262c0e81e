package identitypool

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
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

// sameProvider reports whether two provider names mean the same user pool.
func (s *Service) sameProvider(a, b string) bool {
	x, okX := s.userPoolOf(a)
	y, okY := s.userPoolOf(b)
	return okX && okY && x == y || a == b
}

// mapping finds the role mapping for a client of a user pool: keys are provider name, colon, client id.
func (s *Service) mapping(p *Pool, poolID, clientID string) (Mapping, bool) {
	for key, m := range p.Mappings {
		if name, ok := strings.CutSuffix(key, ":"+clientID); ok {
			if id, ok := s.userPoolOf(name); ok && id == poolID {
				return m, true
			}
		}
	}
	return Mapping{}, false
}

// A login is a verified Id token.
type login struct {
	provider string // canonical
	poolID   string
	clientID string
	subject  string
	claims   jwt.Claims
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

func (s *Service) verifyOne(ctx context.Context, p *Pool, name string, token fleet.Secret) (login, error) {
	poolID, ok := s.userPoolOf(name)
	if !ok || !slices.ContainsFunc(p.Providers, func(c Provider) bool { return s.sameProvider(c.Name, name) }) {
		return login{}, notAuthorized("Logins don't match. Please include at least one valid login for this identity or identity pool.")
	}
	claims, err := s.tokens.VerifyIDToken(ctx, p.Scope, poolID, token.Reveal())
	if err != nil {
		return login{}, badToken(err)
	}
	audience := claims.String("aud")
	for _, c := range p.Providers {
		if c.ClientID == audience && s.sameProvider(c.Name, name) {
			return login{canonical(poolID), poolID, audience, claims.String("sub"), claims}, nil
		}
	}
	return login{}, notAuthorized("Token is not from a supported provider of this identity pool.")
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
