package userpool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// VerifyIDToken checks an Id token of a pool: signature, issuer, use and time, and that the user is still there, enabled, and
// signed in. It fails with kind fleet.KindDenied and the sentence that identity spec 2.7 gives, without "Invalid login token. ".
//
// It returns the claims as the token states them, but for cognito:groups, cognito:roles and cognito:preferred_role: a group that
// the user has left, or a role that the group has lost, is no longer among them. So nobody regains a role with an old token.
func (s *Service) VerifyIDToken(ctx context.Context, scope fleet.Scope, poolID, token string) (jwt.Claims, error) {
	garbage := notAuthorized("Not a valid OpenId Connect identity token.")
	t, err := jwt.Parse(token)
	if err != nil {
		return nil, garbage
	}
	if _, err := s.poolFor(ctx, scope, poolID); err != nil {
		return nil, err
	}
	keys, err := s.poolKeys(ctx, scope, poolID)
	if err != nil {
		return nil, err
	}
	c := t.Claims
	if c.String("iss") != s.Issuer(poolID) {
		return nil, notAuthorized("Issuer doesn't match providerName")
	}
	if public := keys.find(t.KeyID); public == nil || t.Verify(public) != nil {
		return nil, notAuthorized("Token signature invalid.")
	}
	exp, ok := c.Time("exp")
	switch {
	case c.String("aud") == "": // an access token, most likely
		return nil, notAuthorized("Missing a required claim: aud")
	case c.String("token_use") != "id" || !ok:
		return nil, garbage
	case !s.now().Before(exp):
		return nil, notAuthorized(fmt.Sprintf("Token expired: %d >= %d", exp.Unix(), s.now().Unix()))
	}
	if err := s.view(ctx, func(tx *store.Tx) error { return s.stillHolds(tx, scope, poolID, c) }); err != nil {
		return c, err
	}
	s.proven(ctx)
	return c, nil
}

// StillHold looks again at claims that VerifyIDToken has returned, in a write transaction. A sign-out, a disabled user or a change
// of groups either came before and makes it fail; or it comes later, and then it cuts off whatever was issued before this call.
// Without it, what was issued while such a change was being committed would outlive the change.
func (s *Service) StillHold(ctx context.Context, scope fleet.Scope, poolID string, claims jwt.Claims) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		again := maps.Clone(claims)
		if err := s.stillHolds(tx, scope, poolID, again); err != nil {
			return err
		}
		for _, name := range []string{"cognito:groups", "cognito:roles", "cognito:preferred_role"} {
			if !slices.Equal(again.Strings(name), claims.Strings(name)) {
				return notAuthorized("The groups of the user have changed. Try again.")
			}
		}
		return nil
	})
}

// stillHolds is the server-side token check (identity spec 2.2); it takes out of the claims what no longer holds.
func (s *Service) stillHolds(tx *store.Tx, scope fleet.Scope, poolID string, c jwt.Claims) error {
	u, err := tx.PoolUserBySub(scope, poolID, c.String("sub"))
	if err != nil {
		return asNotFound(err, notAuthorized("The user of this token does not exist any more."))
	}
	if !u.Enabled {
		return userDisabled()
	}
	if _, err := tx.UserPoolClient(scope, poolID, c.String("aud")); err != nil {
		return asNotFound(err, notAuthorized("The app client of this token does not exist any more."))
	}
	live, err := sessionLive(tx, scope, poolID, u, c)
	if err != nil {
		return err
	}
	if !live {
		return notAuthorized("Token has been revoked.")
	}
	names, roles, err := heldGroups(tx, scope, poolID, u.Sub, c.String("origin_jti"))
	if err != nil {
		return err
	}
	for claim, held := range map[string][]string{"cognito:groups": names, "cognito:roles": roles} {
		kept := slices.DeleteFunc(slices.Clone(c.Strings(claim)), func(v string) bool { return !slices.Contains(held, v) })
		if c[claim] = kept; len(kept) == 0 {
			delete(c, claim)
		}
	}
	if !slices.Contains(roles, c.String("cognito:preferred_role")) {
		delete(c, "cognito:preferred_role")
	}
	return nil
}

// sessionLive reports whether the sign-in behind a token still stands. Tokens of clients without revocation name no session; for
// them a global sign-out counts by the time of issue.
func sessionLive(tx *store.Tx, scope fleet.Scope, poolID string, u store.PoolUser, c jwt.Claims) (bool, error) {
	if id := c.String("origin_jti"); id != "" {
		session, err := tx.PoolSession(scope, poolID, id)
		if isNotFound(err) {
			return false, nil
		}
		return session.Revoked.IsZero() && session.Sub == u.Sub, err
	}
	issued, ok := c.Time("iat")
	return ok && issued.After(u.SignedOut), nil
}

// self is who an access token speaks for.
type self struct {
	entry
	user   store.PoolUser
	claims jwt.Claims
}

// authenticate checks an access token as the operations do that take one. Errors are those of identity spec 1.8.
func (s *Service) authenticate(ctx context.Context, token fleet.Secret) (self, error) {
	return s.authenticateFor(ctx, token, userScope)
}

// authenticateFor checks an access token that must have a scope.
func (s *Service) authenticateFor(ctx context.Context, token fleet.Secret, scopeNeeded string) (who self, err error) {
	garbage := notAuthorized("Invalid Access Token")
	t, err := jwt.Parse(token.Reveal())
	if err != nil {
		return who, garbage
	}
	poolID, ok := strings.CutPrefix(t.Claims.String("iss"), s.cfg.Issuer+"/")
	if !ok || t.Claims.String("token_use") != "access" {
		return who, garbage
	}
	var scope fleet.Scope
	err = s.view(ctx, func(tx *store.Tx) error {
		row, err := tx.FindUserPool(poolID)
		scope = row.Scope
		return err
	})
	if err != nil {
		return who, asNotFound(err, garbage)
	}
	keys, err := s.poolKeys(ctx, scope, poolID)
	if err != nil {
		return who, err
	}
	if public := keys.find(t.KeyID); public == nil || t.Verify(public) != nil {
		return who, garbage
	}
	exp, ok := t.Claims.Time("exp")
	switch {
	case !ok:
		return who, garbage
	case !s.now().Before(exp):
		return who, notAuthorized("Access Token has expired")
	case !slices.Contains(strings.Fields(t.Claims.String("scope")), scopeNeeded):
		return who, notAuthorized("Access Token does not have required scopes")
	}
	who.claims = t.Claims
	if err := s.view(ctx, func(tx *store.Tx) error { return s.load(tx, scope, poolID, &who) }); err != nil {
		return who, err
	}
	s.proven(ctx)
	return who, nil
}

// load reads the client and the user of an access token and refuses those that no longer count.
func (s *Service) load(tx *store.Tx, scope fleet.Scope, poolID string, who *self) (err error) {
	if who.client, who.pool, err = s.readClient(tx, scope, poolID, who.claims.String("client_id")); err != nil {
		return asNotFound(err, notAuthorized("Invalid Access Token"))
	}
	if who.user, err = tx.PoolUserBySub(scope, poolID, who.claims.String("sub")); err != nil {
		return asNotFound(err, userNotFound())
	}
	if !who.user.Enabled {
		return userDisabled()
	}
	live, err := sessionLive(tx, scope, poolID, who.user, who.claims)
	switch {
	case err != nil:
		return err
	case !live:
		return notAuthorized("Access Token has been revoked")
	case who.user.Status == ResetRequired:
		return resetRequired()
	}
	return nil
}
