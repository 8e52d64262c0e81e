package userpool

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// Tokens are the result of a sign-in or a refresh.
type Tokens struct {
	Access    fleet.Secret
	ID        fleet.Secret // empty: an app that did not ask for openid
	Refresh   fleet.Secret // empty when the old one stays
	ExpiresIn int          // seconds, of the access token
}

// userScope is the scope of tokens that come from the API; operations that take an access token want it (identity spec 1.8).
const userScope = "aws.cognito.signin.user.admin"

// newSessionIDs are the random parts of a session and its first refresh token, drawn before the transaction that stores them.
type newSessionIDs struct {
	session     store.PoolSession
	refresh     issuedRefresh
	unrefreshed bool          // the session has no refresh token
	browser     issuedBrowser // in place of both: of a sign-in at the pages
}

func newSession(e entry, now time.Time) newSessionIDs {
	if e.hosted {
		return newSessionIDs{browser: newBrowser(now)}
	}
	refreshable := now.Add(e.client.refreshLife())
	// The session outlives its last tokens, which ask for it.
	s := store.PoolSession{ID: fleet.NewUUID(), Client: e.client.ID, AuthTime: now,
		Expires: refreshable.Add(max(e.client.accessLife(), e.client.idLife()))}
	return newSessionIDs{session: s, refresh: newRefresh(s.ID, refreshable)}
}

// issuedRefresh is a refresh token before only its hash is left.
type issuedRefresh struct {
	text fleet.Secret
	row  store.RefreshToken
}

// newRefresh makes the next refresh token of a session: v1.ID.SECRET, which fits the pattern that clients allow.
func newRefresh(session string, expires time.Time) issuedRefresh {
	secret := make([]byte, 32)
	rand.Read(secret)
	id := fleet.RandomString(22, fleet.AlphaAlnum)
	hash := sha256.Sum256(secret)
	return issuedRefresh{
		text: fleet.Secret("v1." + id + "." + base64.RawURLEncoding.EncodeToString(secret)),
		row:  store.RefreshToken{ID: id, Session: session, Hash: hash[:], Expires: expires},
	}
}

// parseRefresh takes a refresh token apart; ok is false for anything else.
func parseRefresh(token string) (id string, hash []byte, ok bool) {
	rest, ok := strings.CutPrefix(token, "v1.")
	id, secret, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || len(token) > 128 || len(id) != 22 {
		return "", nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(raw) != 32 {
		return "", nil, false
	}
	sum := sha256.Sum256(raw)
	return id, sum[:], true
}

// A grant is what a decision has given: a challenge to answer, or a session with the facts that its tokens state.
type grant struct {
	user      store.PoolUser
	challenge string // empty: none
	device    string // of SOFTWARE_TOKEN_MFA: what the user calls the token
	session   store.PoolSession
	groups    []Group
	refresh   fleet.Secret
	nonce     string       // of OpenID Connect
	cookie    fleet.Secret // of a sign-in at the pages, which has no session
	source    string       // why tokens are made (tokensOf…); empty: a sign-in
}

// begin stores a new session of a user and returns what its tokens state. At the pages the browser is what is signed in; apps get
// sessions of it.
func (s *Service) begin(tx *store.Tx, e entry, u store.PoolUser, ids newSessionIDs) (grant, error) {
	if e.hosted {
		ids.browser.row.Sub = u.Sub
		return grant{user: u, cookie: ids.browser.cookie}, tx.AddPoolBrowser(e.pool.Scope, e.pool.ID, ids.browser.row)
	}
	ids.session.Sub = u.Sub
	if err := tx.AddPoolSession(e.pool.Scope, e.pool.ID, ids.session); err != nil {
		return grant{}, err
	}
	g := grant{user: u, session: ids.session}
	if !ids.unrefreshed {
		g.refresh = ids.refresh.text
		if err := tx.AddRefreshToken(e.pool.Scope, e.pool.ID, ids.refresh.row); err != nil {
			return grant{}, err
		}
	}
	var err error
	g.groups, _, err = tx.GroupsOfPoolUser(e.pool.Scope, e.pool.ID, u.Sub, fleet.Page{})
	return g, err
}

// fulfil turns a grant into an outcome, outside of the transaction: signatures cost a millisecond each.
func (s *Service) fulfil(ctx context.Context, e entry, g grant) (Outcome, error) {
	switch g.challenge {
	case newPasswordStep:
		return s.challengeNewPassword(e, g.user)
	case setUpStep, tokenStep:
		return s.challengeToken(e, g)
	}
	if e.hosted {
		s.proven(ctx)
		return Outcome{Parameters: map[string]string{}, Cookie: g.cookie}, nil
	}
	tokens, err := s.mint(ctx, e, g)
	return Outcome{Parameters: map[string]string{}, Tokens: tokens}, err
}

// mint makes the tokens of a grant, changed as the pool's trigger wants.
func (s *Service) mint(ctx context.Context, e entry, g grant) (*Tokens, error) {
	over, err := s.preToken(ctx, e, g)
	if err != nil {
		return nil, err
	}
	return s.sign(ctx, e, g, over)
}

// sign signs the tokens of a grant (identity spec 1.8). over may be nil.
func (s *Service) sign(ctx context.Context, e entry, g grant, over *overrides) (*Tokens, error) {
	s.proven(ctx)
	if err := s.keepGroups(ctx, e, g, over); err != nil {
		return nil, err
	}
	keys, err := s.poolKeys(ctx, e.pool.Scope, e.pool.ID)
	if err != nil {
		return nil, err
	}
	now := s.now()
	scope := or(g.session.Scope, userScope)
	scopes := strings.Fields(scope)
	names, roles, preferred := groupClaims(g.groups)
	if over != nil && over.groups != nil {
		names, roles, preferred = over.groups.Groups, over.groups.Roles, over.groups.Preferred
	}
	common := func(use string, life time.Duration) jwt.Claims {
		c := jwt.Claims{
			"sub": g.user.Sub, "iss": s.Issuer(e.pool.ID), "token_use": use, "event_id": fleet.NewUUID(), "jti": fleet.NewUUID(),
			"auth_time": g.session.AuthTime.Unix(), "iat": now.Unix(), "exp": now.Add(life).Unix(),
		}
		if !e.client.NoRevocation {
			c["origin_jti"] = g.session.ID
		}
		if len(names) > 0 {
			c["cognito:groups"] = names
		}
		return c
	}
	access := common("access", e.client.accessLife())
	access["client_id"], access["username"], access["scope"], access["version"] = e.client.ID, g.user.Username, scope, 2
	id := common("id", e.client.idLife())
	id["aud"], id["cognito:username"] = e.client.ID, g.user.Username
	if len(roles) > 0 {
		id["cognito:roles"] = roles
	}
	if preferred != "" {
		id["cognito:preferred_role"] = preferred
	}
	for name, value := range g.user.Attributes {
		if e.mayRead(name) && (name == identitiesAttribute || released(scopes, name)) {
			id[name] = attributeClaim(name, value)
		}
	}
	if over != nil {
		over.id.apply(id)
		over.access.apply(access)
		over.scopes(access)
	}
	accessText, err := jwt.Sign(keys.access.private, keys.access.kid, access)
	if err != nil {
		return nil, err
	}
	tokens := &Tokens{Access: fleet.Secret(accessText), Refresh: g.refresh, ExpiresIn: int(e.client.accessLife().Seconds())}
	if g.session.Scope != "" { // of OAuth
		if !slices.Contains(scopes, openIDScope) {
			return tokens, nil
		}
		id["at_hash"] = accessHash(accessText)
		if g.nonce != "" {
			id["nonce"] = g.nonce
		}
	}
	idText, err := jwt.Sign(keys.id.private, keys.id.kid, id)
	if err != nil {
		return nil, err
	}
	tokens.ID = fleet.Secret(idText)
	return tokens, nil
}

// attributeClaim is how an attribute appears in an Id token: OpenID Connect gives a few standard ones another type than text.
func attributeClaim(name, value string) any {
	switch name {
	case "email_verified", "phone_number_verified":
		return value == "true"
	case "address":
		return map[string]string{"formatted": value}
	case "updated_at":
		return json.Number(value) // the schema lets whole numbers in only
	case identitiesAttribute:
		return identitiesClaim(value)
	}
	return value
}
