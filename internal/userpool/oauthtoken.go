package userpool

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// A TokenRequest is the form of /oauth2/token. Client and Secret come from the form or from the header Authorization.
type TokenRequest struct {
	Grant    string
	Client   string
	Secret   fleet.Secret
	Code     fleet.Secret
	Redirect string
	Verifier fleet.Secret // code_verifier of PKCE
	Refresh  fleet.Secret
	Scope    string
}

func invalidGrant() *fleet.Error {
	return oauthError("invalid_grant", "The code or token is wrong, has expired or was used before.")
}

// Token trades a code or a refresh token for tokens, or gives a client tokens of its own (RFC 6749).
func (s *Service) Token(ctx context.Context, site *Site, r TokenRequest) (*Tokens, error) {
	if err := s.check(ctx, s.guesses); err != nil {
		return nil, err
	}
	e, err := s.enterSite(ctx, site, r.Client, r.Secret)
	if err != nil {
		return nil, err
	}
	switch r.Grant {
	case "authorization_code":
		if !e.client.OAuth || !slices.Contains(e.client.OAuthFlows, codeFlow) {
			return nil, oauthError("unauthorized_client", "The client may not use this flow: AllowedOAuthFlows lacks code.")
		}
		return s.tradeCode(ctx, e, r)
	case "refresh_token":
		if r.Refresh == "" {
			return nil, invalidRequest("refresh_token is missing.")
		}
		return s.tradeRefresh(ctx, e, r.Refresh)
	case credentialsFlow:
		return s.tradeSecret(ctx, e, r.Scope)
	case "":
		return nil, invalidRequest("grant_type is missing.")
	}
	return nil, oauthError("unsupported_grant_type", "grant_type must be authorization_code, refresh_token or client_credentials.")
}

// enterSite finds a client of a site that has proven itself, if it has a secret.
func (s *Service) enterSite(ctx context.Context, site *Site, id string, secret fleet.Secret) (e entry, err error) {
	if id == "" {
		return e, oauthError("invalid_client", "client_id is missing.")
	}
	e.pool = site.Pool
	err = s.view(ctx, func(tx *store.Tx) error {
		e.client, err = s.siteClient(tx, site, id)
		return err
	})
	if err == nil && !e.client.hasSecret(secret) {
		err = oauthError("invalid_client", "The client's secret is missing or wrong.")
	}
	if err != nil && fleet.KindOf(err) == fleet.KindDenied {
		s.wrongGuess(ctx, e)
	}
	return e, err
}

// tradeCode trades an authorization code for a session. What a code is bound to is looked at in the transaction that spends it. One that is
// brought with anything wrong is spent as well: it has come into wrong hands. One that is brought again takes away what it gave.
func (s *Service) tradeCode(ctx context.Context, e entry, r TokenRequest) (*Tokens, error) {
	if r.Code == "" {
		return nil, invalidRequest("code is missing.")
	}
	var g grant
	var verdict error
	var reused string
	session := newSession(e, s.now())
	err := s.tx(ctx, func(tx *store.Tx) error {
		verdict, reused = invalidGrant(), ""
		c, err := tx.AuthCode(e.pool.Scope, e.pool.ID, hashOf(r.Code))
		if isNotFound(err) || err == nil && c.Client != e.client.ID { // another client's code is left to that client
			return nil
		}
		if err != nil {
			return err
		}
		if reused = c.Session; reused != "" {
			return tx.RevokePoolSession(e.pool.Scope, e.pool.ID, reused, s.now())
		}
		u, good, err := s.codeHolds(tx, e, c, r)
		if err != nil {
			return err
		}
		if !good {
			return tx.DeleteAuthCode(e.pool.Scope, e.pool.ID, c.ID)
		}
		session.session.AuthTime, session.session.Scope = c.AuthTime, c.Scope
		if err := tx.SpendAuthCode(e.pool.Scope, e.pool.ID, c.ID, session.session.ID); err != nil {
			return err
		}
		verdict = nil
		g, err = s.begin(tx, e, u, session)
		g.nonce = c.Nonce
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case verdict != nil:
		if reused != "" {
			s.log.WarnContext(ctx, "an authorization code was used again after it had been traded; its session is revoked",
				"pool", e.pool.ID, "client", e.client.ID, "session", reused)
		}
		s.wrongGuess(ctx, e)
		return nil, verdict
	}
	tokens, err := s.mint(ctx, e, g)
	return tokens, asOAuth(err)
}

// codeHolds reports whether a code is brought in time, from where it was sent, by whoever asked for it, for a user who may still sign in.
func (s *Service) codeHolds(tx *store.Tx, e entry, c store.AuthCode, r TokenRequest) (u store.PoolUser, good bool, err error) {
	if !s.now().Before(c.Expires) || c.Redirect != r.Redirect || !verifies(c.Challenge, r.Verifier) {
		return u, false, nil
	}
	if u, err = tx.PoolUserBySub(e.pool.Scope, e.pool.ID, c.Sub); err != nil {
		return u, false, asNotFoundNil(err)
	}
	return u, maySignIn(u), nil
}

func asNotFoundNil(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

var verifierForm = fleet.NewPattern(`^[A-Za-z0-9._~-]{43,128}$`)

// verifies checks PKCE (RFC 7636). A verifier where no challenge was given is refused too: somebody has taken the challenge out of the
// request (RFC 9700 section 4.8.2).
func verifies(challenge string, verifier fleet.Secret) bool {
	if challenge == "" || verifier == "" {
		return challenge == "" && verifier == ""
	}
	sum := sha256.Sum256([]byte(verifier.Reveal()))
	return verifierForm.MatchString(verifier.Reveal()) && secretsEqual(challenge, base64.RawURLEncoding.EncodeToString(sum[:]))
}

func (s *Service) tradeRefresh(ctx context.Context, e entry, token fleet.Secret) (*Tokens, error) {
	tokens, err := s.renew(ctx, e, token.Reveal())
	if err = asOAuth(err); err != nil {
		if k := fleet.KindOf(err); k == fleet.KindDenied || k == fleet.KindState {
			return nil, oauthError("invalid_grant", err.Error())
		}
		return nil, err
	}
	return tokens, nil
}

// tradeSecret gives a client that has a secret a token of its own: for no user, and for scopes of resource servers alone.
func (s *Service) tradeSecret(ctx context.Context, e entry, asked string) (*Tokens, error) {
	if e.client.Secret == "" || !e.client.OAuth || !slices.Contains(e.client.OAuthFlows, credentialsFlow) {
		return nil, oauthError("unauthorized_client", "The client may not use this flow: AllowedOAuthFlows lacks client_credentials.")
	}
	may := slices.DeleteFunc(slices.Clone(e.client.OAuthScopes), func(scope string) bool { return slices.Contains(ownScopes, scope) })
	var granted []string
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		granted, err = e.grantScopes(tx, asked, may)
		return err
	}); err != nil {
		return nil, err
	}
	keys, err := s.poolKeys(ctx, e.pool.Scope, e.pool.ID)
	if err != nil {
		return nil, err
	}
	now := s.now()
	text, err := jwt.Sign(keys.access.private, keys.access.kid, jwt.Claims{
		"sub": e.client.ID, "iss": s.Issuer(e.pool.ID), "token_use": "access", "client_id": e.client.ID, "version": 2, "jti": fleet.NewUUID(),
		"scope": strings.Join(granted, " "), "auth_time": now.Unix(), "iat": now.Unix(), "exp": now.Add(e.client.accessLife()).Unix(),
	})
	if err != nil {
		return nil, err
	}
	s.proven(ctx)
	return &Tokens{Access: fleet.Secret(text), ExpiresIn: int(e.client.accessLife().Seconds())}, nil
}

// RevokeAtSite is Revoke for a client that has proven itself at /oauth2/revoke (RFC 7009).
func (s *Service) RevokeAtSite(ctx context.Context, site *Site, client string, secret, token fleet.Secret) error {
	if err := s.check(ctx, s.guesses); err != nil {
		return err
	}
	e, err := s.enterSite(ctx, site, client, secret)
	if err != nil {
		return err
	}
	if token == "" {
		return invalidRequest("token is missing.")
	}
	return s.revoke(ctx, e, token)
}

// UserInfo returns what an access token lets its holder know of its user (OpenID Connect Core 5.3). All values are text, as with AWS.
func (s *Service) UserInfo(ctx context.Context, site *Site, token fleet.Secret) (map[string]string, error) {
	who, err := s.authenticateFor(ctx, token, openIDScope)
	if err == nil && (who.pool.Scope != site.Pool.Scope || who.pool.ID != site.Pool.ID) {
		err = notAuthorized("Invalid Access Token")
	}
	if err != nil {
		return nil, err
	}
	info := map[string]string{"sub": who.user.Sub, "username": who.user.Username}
	scopes := strings.Fields(who.claims.String("scope"))
	for name, value := range who.user.Attributes {
		if who.mayRead(name) && released(scopes, name) {
			info[name] = value
		}
	}
	return info, nil
}

// released reports whether scopes let an attribute out: email and phone their own, profile or openid by itself all that the client may read.
func released(scopes []string, name string) bool {
	email, phone := slices.Contains(scopes, emailScope), slices.Contains(scopes, phoneScope)
	switch {
	case slices.Contains(scopes, profileScope) || !email && !phone:
		return true
	case email && (name == "email" || name == "email_verified"):
		return true
	}
	return phone && (name == "phone_number" || name == "phone_number_verified")
}

// accessHash is the at_hash of an Id token (OpenID Connect Core 3.1.3.6).
func accessHash(access string) string {
	sum := sha256.Sum256([]byte(access))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
