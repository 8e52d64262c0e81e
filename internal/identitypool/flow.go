package identitypool

import (
	"context"
	"crypto/rsa"
	"fmt"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// userClaim is not in AWS's tokens: pool, sub and name of the person, so that signing them out ends the session that STS makes of
// a token.
const userClaim = "imprint:user"

// providerClaim names IAM's OpenID Connect provider that vouched for the person, for the same reason.
const providerClaim = "imprint:oidc"

// Lifetimes that AWS fixes (identity spec 2.4).
const (
	sessionLife = time.Hour
	tokenLife   = 10 * time.Minute
	sessionName = "CognitoIdentityCredentials"
)

// Tokens checks Id tokens of our user pools: signature, issuer, time, token_use, and that the user and session still stand.
//
// StillHold looks again at what VerifyIDToken returned, in a write transaction: a sign-out, a change of groups or a disabled user
// either comes before it, and it fails, or comes later, and then its cut-off is later than whatever was issued before.
type Tokens interface {
	VerifyIDToken(ctx context.Context, scope fleet.Scope, poolID, token string) (jwt.Claims, error)
	StillHold(ctx context.Context, scope fleet.Scope, poolID string, claims jwt.Claims) error
}

// Sessions issues the temporary credentials of a role after asking its trust policy, and checks tokens against the account's OpenID
// Connect providers (iam.Service).
type Sessions interface {
	IssueSession(ctx context.Context, r iam.SessionRequest) (iam.Session, error)
	VerifyProviderToken(ctx context.Context, scope fleet.Scope, arn string, token fleet.Secret) (iam.ProviderToken, error)
	ProviderStillHolds(ctx context.Context, scope fleet.Scope, p iam.ProviderToken) error
}

// Config says what the rules stand on.
type Config struct {
	Store      *store.DB
	Tokens     Tokens
	Sessions   Sessions
	Issuers    *oidc.Verifier  // of the public providers
	Key        *rsa.PrivateKey // signs the tokens of GetOpenIdToken
	IssuerHost string          // host[:port] of the user pools' issuer

	// RoleIssuers are other issuers, without scheme, whose tokens may name roles, as those of our user pools do (mappings of type Token).
	RoleIssuers []string

	Clock fleet.Clock
}

// A Service holds the rules. It is safe for concurrent use.
type Service struct {
	db         *store.DB
	tokens     Tokens
	sessions   Sessions
	issuers    *oidc.Verifier
	key        *rsa.PrivateKey
	issuerHost string
	clock      fleet.Clock

	roleIssuers []string
}

// New makes the rules.
func New(c Config) *Service {
	return &Service{db: c.Store, tokens: c.Tokens, sessions: c.Sessions, issuers: c.Issuers, key: c.Key, issuerHost: c.IssuerHost, clock: c.Clock,
		roleIssuers: c.RoleIssuers}
}

// KeySet is the JSON Web Key Set of the tokens that OpenIDToken issues.
func (s *Service) KeySet() []byte {
	return jwt.KeySet([]jwt.Key{{ID: jwt.Thumbprint(&s.key.PublicKey), Public: &s.key.PublicKey}})
}

func (s *Service) find(ctx context.Context, id string) (p *Pool, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		p, err = anyPool(tx, id)
		return err
	})
	return p, err
}

// ID returns the identity of whoever holds the logins, making one at first sight. Without logins it makes a guest.
func (s *Service) ID(ctx context.Context, poolID string, tokens map[string]fleet.Secret) (identity string, err error) {
	p, err := s.find(ctx, poolID)
	if err != nil {
		return "", err
	}
	if len(tokens) == 0 && !p.Guests {
		return "", guestsRefused()
	}
	logins, err := s.verify(ctx, p, tokens)
	if err != nil {
		return "", err
	}
	if len(logins) == 1 { // nearly always: somebody who was here before, and nothing to write
		err := s.db.View(ctx, func(tx *store.Tx) error {
			identity, err = tx.IdentityOf(p.Scope, p.ID, logins[0].provider, logins[0].subject)
			return err
		})
		if identity != "" || err != nil {
			return identity, err
		}
	}
	fresh := p.Scope.Region + ":" + fleet.NewUUID()
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		identity, err = resolve(tx, p, fresh, "", logins)
		return err
	})
	return identity, err
}

func guestsRefused() error {
	return notAuthorized("Unauthenticated access is not supported for this identity pool.")
}

// resolve finds the identity that owns any of the logins and gives it the others; if none does, wanted gets them, or, without
// wanted, the fresh id becomes an identity.
func resolve(tx *store.Tx, p *Pool, fresh, wanted string, logins []login) (string, error) {
	owners := make([]string, len(logins))
	owner := ""
	for i, l := range logins {
		id, err := tx.IdentityOf(p.Scope, p.ID, l.provider, l.subject)
		if err != nil {
			return "", err
		}
		if owners[i] = id; owner == "" {
			owner = id
		}
	}
	switch {
	case owner == "" && wanted != "":
		owner = wanted
	case owner == "":
		owner = fresh
		if err := tx.CreateIdentity(p.Scope, p.ID, owner); err != nil {
			return "", err
		}
	}
	for i, l := range logins {
		switch owners[i] {
		case owner:
		case "":
			if err := tx.LinkLogin(p.Scope, p.ID, owner, l.provider, l.subject); err != nil {
				return "", conflict(err)
			}
		default:
			return "", conflict(nil)
		}
	}
	return owner, nil
}

func conflict(err error) error {
	if err != nil && fleet.KindOf(err) != fleet.KindConflict {
		return err
	}
	return &fleet.Error{Kind: fleet.KindConflict, Code: "ResourceConflictException",
		Msg: "Token is already associated with another identity, or the identity with another login of this provider.", Err: err}
}

// who checks the logins presented for an identity and returns the identity to use, which may be another one that the logins
// already belong to (identity spec 2.4, linking).
func (s *Service) who(ctx context.Context, id string, tokens map[string]fleet.Secret) (*Pool, string, []login, error) {
	var known store.Identity
	var p *Pool
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		if known, err = tx.FindIdentity(id); err != nil {
			return err
		}
		p, err = anyPool(tx, known.Pool)
		return err
	})
	if isNotFound(err) {
		return nil, "", nil, notFound("Identity", id)
	}
	if err != nil {
		return nil, "", nil, err
	}
	if len(tokens) == 0 {
		switch {
		case len(known.Logins) > 0:
			return nil, "", nil, notAuthorized("Access to Identity '%s' is forbidden.", id)
		case !p.Guests:
			return nil, "", nil, guestsRefused()
		}
		return p, id, nil, nil
	}
	logins, err := s.verify(ctx, p, tokens)
	if err != nil {
		return nil, "", nil, err
	}
	if err := mayHold(known, logins); err != nil {
		return nil, "", nil, err
	}
	if ownsAll(known, logins) { // nothing to link
		return p, id, logins, nil
	}
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		now, err := tx.FindIdentity(known.ID) // somebody else may have become its owner while the tokens were checked
		if isNotFound(err) {
			return notFound("Identity", known.ID)
		}
		if err != nil {
			return err
		}
		if err := mayHold(now, logins); err != nil {
			return err
		}
		id, err = resolve(tx, p, "", known.ID, logins)
		return err
	})
	return p, id, logins, err
}

// mayHold refuses an identity that has an owner to logins of which none is the owner's.
func mayHold(i store.Identity, logins []login) error {
	if len(i.Logins) > 0 && !owns(i, logins) {
		return notAuthorized("Logins don't match. Please include at least one valid login for this identity or identity pool.")
	}
	return nil
}

func ownsAll(i store.Identity, logins []login) bool {
	for _, l := range logins {
		if i.Logins[l.provider] != l.subject {
			return false
		}
	}
	return true
}

func owns(i store.Identity, logins []login) bool {
	for _, l := range logins {
		if i.Logins[l.provider] == l.subject {
			return true
		}
	}
	return false
}

// Credentials gives an identity temporary credentials of the role that its login selects (the enhanced flow). The identity
// returned may differ from the one asked for; clients adopt it.
func (s *Service) Credentials(ctx context.Context, id string, tokens map[string]fleet.Secret, customRole string) (string, iam.Credentials, error) {
	p, id, logins, err := s.who(ctx, id, tokens)
	if err != nil {
		return "", iam.Credentials{}, err
	}
	r := iam.SessionRequest{Scope: p.Scope, Name: sessionName, Duration: sessionLife,
		Principal: policy.Principal{Federated: fleet.IdentityPools}, Action: "sts:AssumeRoleWithWebIdentity"}
	if len(logins) == 0 {
		if r.RoleARN = p.Roles["unauthenticated"]; r.RoleARN == "" {
			return "", iam.Credentials{}, badConfiguration(nil)
		}
		r.Policies = []string{iam.GuestPolicy}
		r.Federation = &fleet.Federation{Provider: fleet.IdentityPools, Audience: p.ID, Subject: id, AMR: []string{"unauthenticated"}}
	} else {
		l := logins[0]
		if r.RoleARN, err = s.chooseRole(p, l, customRole); err != nil {
			return "", iam.Credentials{}, err
		}
		r.Federation, r.Tags = federation(p, id, l), s.tags(p, l)
	}
	c, err := s.sessions.IssueSession(ctx, r)
	if err != nil {
		if k := fleet.KindOf(err); k != fleet.KindInternal && k != fleet.KindUnavailable {
			err = badConfiguration(err)
		}
		return "", iam.Credentials{}, err
	}
	if err := s.stillHold(ctx, p, logins); err != nil {
		return "", iam.Credentials{}, err
	}
	return id, c.Credentials, nil
}

// OpenIDToken gives an identity a token that STS trades for credentials (the basic flow).
func (s *Service) OpenIDToken(ctx context.Context, id string, tokens map[string]fleet.Secret) (string, fleet.Secret, error) {
	p, id, logins, err := s.who(ctx, id, tokens)
	if err != nil {
		return "", "", err
	}
	if !p.Classic {
		return "", "", invalid("Basic (classic) flow is not enabled, please use enhanced flow.")
	}
	now := s.clock.Now()
	claims := jwt.Claims{"iss": "https://" + fleet.IdentityPools, "aud": p.ID, "sub": id, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix(), "amr": []string{"unauthenticated"}}
	if len(logins) > 0 {
		f := federation(p, id, logins[0])
		claims["amr"] = f.AMR
		if f.PoolID != "" {
			claims[userClaim] = f.PoolID + "/" + f.UserSub + "/" + f.Username
		} else if f.OIDC != "" {
			claims[providerClaim] = f.OIDC
		}
	}
	text, err := jwt.Sign(s.key, jwt.Thumbprint(&s.key.PublicKey), claims)
	if err != nil {
		return "", "", fmt.Errorf("signing an identity token: %w", err)
	}
	return id, fleet.Secret(text), s.stillHold(ctx, p, logins)
}

// stillHold looks at logins again once something was issued for them, so that a sign-out which was being committed meanwhile is
// not outlived.
func (s *Service) stillHold(ctx context.Context, p *Pool, logins []login) error {
	for _, l := range logins {
		var err error
		switch {
		case l.poolID != "":
			err = s.tokens.StillHold(ctx, p.Scope, l.poolID, l.claims)
		case l.foreign.OIDC != "":
			err = s.sessions.ProviderStillHolds(ctx, p.Scope, l.through)
		}
		if err != nil {
			return badToken(err)
		}
	}
	return nil
}

// VerifyToken checks a token that OpenIDToken issued and returns its claims. A token of somebody who was signed out, disabled or
// taken from a group since is refused, as their credentials are.
func (s *Service) VerifyToken(ctx context.Context, token string) (jwt.Claims, error) {
	t, err := jwt.Parse(token)
	if err != nil {
		return nil, err
	}
	if err := t.Verify(&s.key.PublicKey); err != nil {
		return nil, err
	}
	if exp, ok := t.Claims.Time("exp"); !ok || !s.clock.Now().Before(exp) || t.Claims.String("iss") != "https://"+fleet.IdentityPools {
		return nil, fleet.Denied("Token expired or of another issuer").WithCode("ExpiredTokenException")
	}
	return t.Claims, s.holds(ctx, s.db.View, t.Claims)
}

// StillHolds looks again at what VerifyToken returned, in a write transaction: a sign-out either came before and makes it fail, or
// it comes later and cuts off whatever was issued before this call.
func (s *Service) StillHolds(ctx context.Context, claims jwt.Claims) error {
	return s.holds(ctx, s.db.Tx, claims)
}

func (s *Service) holds(ctx context.Context, in func(context.Context, func(*store.Tx) error) error, claims jwt.Claims) error {
	user := strings.SplitN(claims.String(userClaim), "/", 3)
	provider := claims.String(providerClaim)
	issued, ok := claims.Time("iat")
	if len(user) < 3 && provider == "" || !ok {
		return nil // a guest, or somebody whom a public provider knows
	}
	p, err := s.find(ctx, claims.String("aud"))
	if err != nil {
		return err
	}
	return in(ctx, func(tx *store.Tx) error {
		// The time of issue is a whole second, rounded down: whoever signs in within the second of a sign-out asks once more.
		at, subject := p.Scope, "oidc:"+provider
		if provider == "" {
			subject = "user:" + user[0] + "/" + user[1]
		} else {
			at = at.Global()
		}
		dead, err := tx.CutoffAfter(at, issued, subject)
		if err == nil && dead {
			err = fleet.Denied("Token has been revoked").WithCode("ExpiredTokenException")
		}
		return err
	})
}

// Unlink takes logins from an identity; the caller proves to own it by a valid login.
func (s *Service) Unlink(ctx context.Context, id string, tokens map[string]fleet.Secret, remove []string) error {
	p, owner, logins, err := s.who(ctx, id, tokens)
	if err != nil {
		return err
	}
	if owner != id || len(logins) == 0 { // the logins are another identity's, or none: they give no right over this one
		return notAuthorized("Logins don't match. Please include at least one valid login for this identity or identity pool.")
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		for _, name := range remove {
			name = providerName(name)
			if poolID, ok := s.userPoolOf(name); ok {
				name = canonical(poolID)
			}
			if err := tx.UnlinkLogin(p.Scope, p.ID, id, name); err != nil {
				return err
			}
		}
		return nil
	})
}
