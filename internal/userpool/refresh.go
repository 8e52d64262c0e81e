package userpool

import (
	"context"
	"crypto/subtle"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// refreshAuth is the flow REFRESH_TOKEN_AUTH: new tokens for the same refresh token (identity spec 1.8).
func (s *Service) refreshAuth(ctx context.Context, e entry, parameters map[string]fleet.Secret) (Outcome, error) {
	v, err := required(parameters, "REFRESH_TOKEN")
	if err != nil {
		return Outcome{}, err
	}
	if e.client.rotates() {
		return Outcome{}, invalid("REFRESH_TOKEN_AUTH is not available to a client that rotates refresh tokens: use GetTokensFromRefreshToken.")
	}
	g, err := s.redeem(ctx, e, v[0])
	if err != nil {
		return Outcome{}, err
	}
	// Which name the client hashed is not said here, so either will do.
	if err := e.client.checkSecretHash(parameters["SECRET_HASH"].Reveal(), g.user.Username, g.user.Sub); err != nil {
		return Outcome{}, err
	}
	return s.fulfil(ctx, e, g)
}

// Refresh returns new tokens for a refresh token; with rotation a new refresh token is among them (GetTokensFromRefreshToken).
func (s *Service) Refresh(ctx context.Context, clientID string, secret, token fleet.Secret) (*Tokens, error) {
	e, err := s.enter(ctx, clientID)
	if err != nil {
		return nil, err
	}
	if !e.client.hasSecret(secret) {
		return nil, notAuthorized("Unable to verify secret for client " + e.client.ID)
	}
	if err := s.check(ctx, s.guesses); err != nil {
		return nil, err
	}
	return s.renew(ctx, e, token.Reveal())
}

// renew makes new tokens for a refresh token. The trigger is asked before the token is traded: its failure must not cost the old one.
func (s *Service) renew(ctx context.Context, e entry, token string) (*Tokens, error) {
	g, err := s.redeem(ctx, e, token)
	if err != nil {
		return nil, err
	}
	over, err := s.preToken(ctx, e, g)
	if err != nil {
		return nil, err
	}
	if e.client.rotates() {
		if g, err = s.rotate(ctx, e, token); err != nil {
			return nil, err
		}
	}
	return s.sign(ctx, e, g, over)
}

func (c *Client) rotates() bool { return c.Rotation != nil && c.Rotation.Enabled }

// hasSecret compares a secret that was sent in plain with the client's; a public client has none.
func (c *Client) hasSecret(sent fleet.Secret) bool {
	return secretsEqual(c.Secret.Reveal(), sent.Reveal())
}

// redeem checks a refresh token and leaves it as it is.
func (s *Service) redeem(ctx context.Context, e entry, token string) (g grant, err error) {
	var reused bool
	err = s.view(ctx, func(tx *store.Tx) error {
		_, g, reused, err = s.refreshGrant(tx, e, token)
		return err
	})
	if err == nil && reused {
		_, err = s.rotate(ctx, e, token) // which ends the session
	}
	if err != nil && fleet.KindOf(err) == fleet.KindDenied {
		s.wrongGuess(ctx, e)
	}
	return g, err
}

// rotate trades a refresh token for the next one. A token that was traded before may be traded again within the grace period, in
// case the answer was lost; later its use means that it was stolen, and the whole session ends.
func (s *Service) rotate(ctx context.Context, e entry, token string) (g grant, err error) {
	var reused bool
	var id string
	draw := newRefresh("", time.Time{})
	err = s.tx(ctx, func(tx *store.Tx) error {
		var old store.RefreshToken
		if old, g, reused, err = s.refreshGrant(tx, e, token); err != nil {
			return err
		}
		id = g.session.ID
		if reused {
			return tx.RevokePoolSession(e.pool.Scope, e.pool.ID, id, s.now())
		}
		next := draw.row
		next.Session, next.Expires = old.Session, old.Expires
		g.refresh = draw.text
		if err := tx.RotateRefreshToken(e.pool.Scope, e.pool.ID, old.ID, s.now()); err != nil {
			return err
		}
		return tx.AddRefreshToken(e.pool.Scope, e.pool.ID, next)
	})
	switch {
	case err != nil:
		if fleet.KindOf(err) == fleet.KindDenied {
			s.wrongGuess(ctx, e)
		}
		return grant{}, err
	case reused:
		s.log.WarnContext(ctx, "a refresh token was used again after it had been traded; its session is revoked",
			"pool", e.pool.ID, "user", g.user.Sub, "session", id)
		return grant{}, fail(fleet.KindDenied, "RefreshTokenReuseException", "The refresh token has been used before. Sign in again.")
	}
	return g, nil
}

// refreshGrant finds what a refresh token stands for. reused says that it was traded before and its grace period is over.
func (s *Service) refreshGrant(tx *store.Tx, e entry, token string) (row store.RefreshToken, g grant, reused bool, err error) {
	p, now := e.pool, s.now()
	garbage := notAuthorized("Invalid Refresh Token")
	id, hash, ok := parseRefresh(token)
	if !ok {
		return row, g, false, garbage
	}
	if row, err = tx.RefreshToken(p.Scope, p.ID, id); err != nil {
		return row, g, false, asNotFound(err, garbage)
	}
	if subtle.ConstantTimeCompare(row.Hash, hash) != 1 {
		return row, g, false, garbage
	}
	if g.session, err = tx.PoolSession(p.Scope, p.ID, row.Session); err != nil {
		return row, g, false, asNotFound(err, garbage)
	}
	if g.session.Client != e.client.ID {
		return row, g, false, garbage
	}
	if g.user, err = tx.PoolUserBySub(p.Scope, p.ID, g.session.Sub); err != nil {
		return row, g, false, asNotFound(err, garbage)
	}
	switch {
	case !g.user.Enabled:
		return row, g, false, userDisabled()
	case !g.session.Revoked.IsZero():
		return row, g, false, notAuthorized("Refresh Token has been revoked")
	case !now.Before(row.Expires):
		return row, g, false, notAuthorized("Refresh Token has expired")
	case g.user.Status == ResetRequired:
		return row, g, false, resetRequired()
	}
	if !row.Rotated.IsZero() {
		grace := 0
		if e.client.Rotation != nil {
			grace = e.client.Rotation.GraceSeconds
		}
		reused = now.After(row.Rotated.Add(time.Duration(grace) * time.Second))
	}
	g.source = tokensOfRefresh
	g.groups, _, err = tx.GroupsOfPoolUser(p.Scope, p.ID, g.user.Sub, fleet.Page{})
	return row, g, reused, err
}

// Revoke ends the session of a refresh token, with all tokens that came from it. What is no live refresh token of the client is
// accepted silently (identity spec 1.8).
func (s *Service) Revoke(ctx context.Context, clientID string, secret, token fleet.Secret) error {
	e, err := s.enter(ctx, clientID)
	if err != nil {
		return err
	}
	if !e.client.hasSecret(secret) {
		return fail(fleet.KindDenied, "UnauthorizedException", "Invalid client secret")
	}
	return s.revoke(ctx, e, token)
}

func (s *Service) revoke(ctx context.Context, e entry, token fleet.Secret) error {
	if e.client.NoRevocation {
		return fail(fleet.KindState, "UnsupportedOperationException", "Token revocation is not enabled for this client")
	}
	id, hash, ok := parseRefresh(token.Reveal())
	if !ok {
		if strings.Count(token.Reveal(), ".") == 2 && strings.HasPrefix(token.Reveal(), "ey") {
			return fail(fleet.KindInvalid, "UnsupportedTokenTypeException", "Unsupported token type: only refresh tokens can be revoked")
		}
		return nil
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		row, err := tx.RefreshToken(e.pool.Scope, e.pool.ID, id)
		if isNotFound(err) || err == nil && subtle.ConstantTimeCompare(row.Hash, hash) != 1 {
			return nil
		}
		if err != nil {
			return err
		}
		session, err := tx.PoolSession(e.pool.Scope, e.pool.ID, row.Session)
		if isNotFound(err) || err == nil && session.Client != e.client.ID {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.RevokePoolSession(e.pool.Scope, e.pool.ID, session.ID, s.now())
	})
}
