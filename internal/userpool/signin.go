package userpool

import (
	"context"
	"math/big"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A SignIn begins a sign-in (InitiateAuth, AdminInitiateAuth; identity spec 1.5).
type SignIn struct {
	ClientID   string
	Flow       string
	Parameters map[string]fleet.Secret
}

// An Outcome is a challenge to answer or the tokens of a sign-in that succeeded.
type Outcome struct {
	Challenge  string // empty: Tokens are set
	Session    fleet.Secret
	Parameters map[string]string // of the challenge; never nil
	Available  []string          // challenges that a choice-based sign-in may go on with
	Tokens     *Tokens
	Cookie     fleet.Secret // of a browser, in place of tokens, where the sign-in was at the pages
}

// entry is what is known once a request's client is found and has proven itself.
type entry struct {
	client *Client
	pool   *Pool
	admin  bool
	hosted bool    // the server's own pages ask, for the browser in front of them
	whom   *string // where a watched sign-in notes its user (refused.go)
}

// InitiateAuth begins a sign-in for whoever knows a client id.
func (s *Service) InitiateAuth(ctx context.Context, in SignIn) (Outcome, error) {
	e, err := s.enter(ctx, in.ClientID)
	if err != nil {
		s.tellRefused(ctx, entry{}, in.Flow, err)
		return Outcome{}, err
	}
	return s.initiate(ctx, e, in)
}

// AdminInitiateAuth begins a sign-in for an administrator's program, which may use the flows that send the password.
func (s *Service) AdminInitiateAuth(ctx context.Context, scope fleet.Scope, poolID string, in SignIn) (Outcome, error) {
	e, err := s.enterPool(ctx, scope, poolID, in.ClientID)
	if err != nil {
		return Outcome{}, err
	}
	return s.initiate(ctx, e, in)
}

func (s *Service) enter(ctx context.Context, clientID string) (e entry, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		e.client, e.pool, err = s.findClient(tx, clientID)
		return err
	})
	return e, err
}

func (s *Service) enterPool(ctx context.Context, scope fleet.Scope, poolID, clientID string) (e entry, err error) {
	e.admin = true
	err = s.view(ctx, func(tx *store.Tx) error {
		e.client, e.pool, err = s.readClient(tx, scope, poolID, clientID)
		return err
	})
	return e, err
}

func (s *Service) initiate(ctx context.Context, e entry, in SignIn) (out Outcome, err error) {
	flow := in.Flow
	e = e.watch()
	defer func() { s.tellRefused(ctx, e, flow, err) }()
	switch flow {
	case "REFRESH_TOKEN":
		flow = "REFRESH_TOKEN_AUTH"
	case "ADMIN_NO_SRP_AUTH":
		flow = "ADMIN_USER_PASSWORD_AUTH"
	}
	if err := e.allow(flow); err != nil {
		return Outcome{}, err
	}
	if !e.admin {
		if err := s.check(ctx, s.guesses); err != nil {
			return Outcome{}, err
		}
	}
	switch flow {
	case "USER_SRP_AUTH":
		return s.offerSRP(ctx, e, in.Parameters)
	case "USER_AUTH":
		return s.userAuth(ctx, e, in.Parameters)
	case "REFRESH_TOKEN_AUTH":
		return s.refreshAuth(ctx, e, in.Parameters)
	default:
		return s.passwordAuth(ctx, e, in.Parameters)
	}
}

// wrongGuess counts against the address that a guess came from. The address of an administrator's program is not the guesser's.
func (s *Service) wrongGuess(ctx context.Context, e entry) {
	if !e.admin {
		s.guesses.add(ctx)
	}
}

// allow refuses a flow that the client, the operation or this version does not offer.
func (e entry) allow(flow string) error {
	switch {
	case e.hosted && flow == "USER_PASSWORD_AUTH": // there is no other way to type a password into a page
		return nil
	case flow == "CUSTOM_AUTH":
		return notOffered("The flow " + flow)
	case e.admin && flow == "USER_PASSWORD_AUTH", !e.admin && flow == "ADMIN_USER_PASSWORD_AUTH":
		return invalid("Initiate Auth method not supported.")
	case e.client.allows(flow):
		return nil
	case flow == "USER_SRP_AUTH" || flow == "USER_AUTH":
		return invalid(flow + " is not enabled for the client.")
	case flow == "USER_PASSWORD_AUTH":
		return invalid("USER_PASSWORD_AUTH flow not enabled for this client")
	default:
		return invalid("Auth flow not enabled for this client")
	}
}

// required returns parameters by name; the first that is missing is named in the error.
func required(parameters map[string]fleet.Secret, names ...string) ([]string, error) {
	values := make([]string, len(names))
	for i, n := range names {
		if values[i] = parameters[n].Reveal(); values[i] == "" {
			return nil, missing(n)
		}
	}
	return values, nil
}

// A candidate is whom a sign-in is about: a user, or the shadow of one who does not exist.
type candidate struct {
	user     *store.PoolUser // nil: a shadow
	sub      string          // a shadow has one too
	identity string          // what SRP hashes
	salt     []byte
	verifier *big.Int
	passkeys []string // ids that a shadow shows
}

// candidate finds a user by a typed name. For an unknown one it returns a shadow that cannot be told from a user, or
// UserNotFoundException where the client wants that.
func (s *Service) candidate(ctx context.Context, e entry, name string) (candidate, error) {
	var c candidate
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		c.user, err = e.pool.find(tx, name)
		return err
	}); err != nil {
		return c, err
	}
	e.meets(c.user)
	if c.user != nil && len(c.user.Verifier) > 0 {
		var err error
		c.identity, c.sub, c.salt = c.user.Username, c.user.Sub, c.user.Salt
		c.verifier, err = s.verifierOf(e.pool, c.user)
		return c, err
	}
	// There is no password to know of whoever comes from elsewhere, or was imported.
	if status := statusOf(c.user); e.client.ShowUnknownUsers && status != External {
		s.wrongGuess(ctx, e)
		if status == ResetRequired {
			return c, resetRequired()
		}
		return c, userNotFound()
	}
	c.user = nil
	secret, err := s.open("pool-secret", e.pool.secret, e.pool.Scope, e.pool.ID)
	if err != nil {
		return c, err
	}
	folded := e.pool.fold(name)
	c.salt, c.sub, c.verifier = shadow(secret, e.pool.ID, folded)
	c.passkeys = shadowPasskeys(secret, e.pool.ID, folded)
	// A real user of this name would show the name itself, unless the name can only be an alias.
	c.identity = folded
	if len(e.pool.UsernameAttributes) > 0 || len(e.pool.AliasAttributes) > 0 && (strings.Contains(name, "@") || strings.HasPrefix(name, "+")) {
		c.identity = c.sub
	}
	return c, nil
}

func statusOf(u *store.PoolUser) string {
	if u == nil {
		return ""
	}
	return u.Status
}

// offerSRP answers the first step of SRP. Nothing is stored: what the second step needs travels sealed in SECRET_BLOCK.
func (s *Service) offerSRP(ctx context.Context, e entry, parameters map[string]fleet.Secret) (Outcome, error) {
	v, err := required(parameters, "USERNAME", "SRP_A")
	if err != nil {
		return Outcome{}, err
	}
	name := v[0]
	a, ok := parseSRPA(v[1])
	if !ok {
		return Outcome{}, invalid("Invalid SRP_A: a hexadecimal number between 1 and the group's prime is expected.")
	}
	if err := e.client.checkSecretHash(parameters["SECRET_HASH"].Reveal(), name); err != nil {
		return Outcome{}, err
	}
	c, err := s.candidate(ctx, e, name)
	if err != nil {
		return Outcome{}, err
	}
	var b, public, u *big.Int
	if err := s.compute(ctx, func() { b, public, u = srpOffer(a, c.verifier) }); err != nil {
		return Outcome{}, err
	}
	block := srpBlock{Client: e.client.ID, Sub: c.sub, Identity: c.identity, Typed: name, A: a.Bytes(), B: b.Bytes(), U: u.Bytes(),
		PasswordSet: s.now().UnixMilli(), Issued: s.now().UnixMilli(), Nonce: fleet.RandomString(22, fleet.AlphaAlnum)}
	if c.user != nil {
		block.PasswordSet = c.user.PasswordSet.UnixMilli()
	}
	sealed, err := s.sealBlock(e.pool, block)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Challenge: "PASSWORD_VERIFIER", Parameters: map[string]string{
		"SALT":            srpHex(new(big.Int).SetBytes(c.salt)),
		"SRP_B":           srpHex(public),
		"SECRET_BLOCK":    sealed,
		"USERNAME":        c.identity,
		"USER_ID_FOR_SRP": c.identity,
	}}, nil
}

// passwordAuth signs in with the password itself.
func (s *Service) passwordAuth(ctx context.Context, e entry, parameters map[string]fleet.Secret) (Outcome, error) {
	v, err := required(parameters, "USERNAME", "PASSWORD")
	if err != nil {
		return Outcome{}, err
	}
	name, text := v[0], v[1]
	if err := e.client.checkSecretHash(parameters["SECRET_HASH"].Reveal(), name); err != nil {
		return Outcome{}, err
	}
	c, err := s.candidate(ctx, e, name)
	if err != nil {
		return Outcome{}, err
	}
	var same bool
	if err := s.compute(ctx, func() {
		same = sameVerifier(srpVerifier(e.pool.key(), c.identity, text, c.salt), c.verifier)
	}); err != nil {
		return Outcome{}, err
	}
	return s.settle(ctx, e, attempt{name: name, user: c.user, proven: same && c.user != nil})
}

// An attempt is a sign-in whose arithmetic is done.
type attempt struct {
	name    string          // as typed
	user    *store.PoolUser // as read before the arithmetic; nil: nobody
	proven  bool            // the password was right, or the signature of passkey
	passkey *passkeyProof   // nil: it is about the password
	nonce   string          // of a challenge that may be answered once; empty: none
	expires time.Time       // of the challenge
}

// settle decides an attempt: it counts it, and if it succeeded goes on with what the user's state calls for. Count, single use
// and decision are one transaction, so that no number of attempts at once gets more guesses than one after the other.
func (s *Service) settle(ctx context.Context, e entry, a attempt) (Outcome, error) {
	var verdict error
	var grant grant
	session := newSession(e, s.now())
	err := s.tx(ctx, func(tx *store.Tx) (err error) {
		verdict, grant, err = s.decide(tx, e, a, session)
		return err
	})
	if err != nil {
		return Outcome{}, err
	}
	if verdict != nil {
		if !a.proven {
			s.wrongGuess(ctx, e)
		}
		return Outcome{}, verdict
	}
	return s.fulfil(ctx, e, grant)
}

// decide is the body of settle. verdict is what to tell the user; it does not undo what was counted.
func (s *Service) decide(tx *store.Tx, e entry, a attempt, session newSessionIDs) (verdict error, g grant, err error) {
	p, now := e.pool, s.now()
	if a.nonce != "" {
		first, err := tx.SpendChallenge(p.Scope, p.ID, a.nonce, a.expires)
		if err != nil {
			return nil, g, err
		}
		if !first {
			return sessionUsed(), g, nil
		}
	}
	proven, user := a.proven, store.PoolUser{}
	if a.user != nil {
		user, err = tx.PoolUserBySub(p.Scope, p.ID, a.user.Sub)
		if err != nil && !isNotFound(err) {
			return nil, g, err
		}
		proven = proven && err == nil
		if a.passkey == nil {
			proven = proven && user.PasswordSet.Equal(a.user.PasswordSet)
		} else if proven {
			proven, err = a.passkey.holds(tx, p, user)
			if err != nil {
				return nil, g, err
			}
		}
		if user.Status == ResetRequired {
			proven = false // the old password no longer counts, and whatever was sent is answered alike
		}
	}
	outcome := provenNothing
	if proven {
		factor, _, err := p.secondFactor(tx, user)
		if err != nil {
			return nil, g, err
		}
		if outcome = provenAll; factor == tokenStep && !a.passkey.countsAsBoth() {
			outcome = provenPart
		}
	}
	locked, err := countSignIn(tx, p.Scope, p.ID, subjectOf(a.user, p.fold(a.name)), now, outcome)
	switch {
	case err != nil:
		return nil, g, err
	case locked:
		return lockedOut(), g, nil
	case user.Status == ResetRequired:
		return resetRequired(), g, nil
	case !proven && a.passkey != nil:
		return a.passkey.verdict(), g, nil
	case !proven:
		return wrongPassword(), g, nil
	}
	return s.next(tx, e, user, session, a.passkey.countsAsBoth())
}

// next is the state machine after the first factor was right (identity spec 1.5); both: the second was, too.
func (s *Service) next(tx *store.Tx, e entry, u store.PoolUser, session newSessionIDs, both bool) (verdict error, g grant, err error) {
	switch {
	case !u.Enabled:
		return userDisabled(), g, nil
	case u.Status == Unconfirmed:
		return userNotConfirmed(), g, nil
	case u.Status == MustChange && !u.TemporaryUntil.IsZero() && !s.now().Before(u.TemporaryUntil):
		return notAuthorized("Temporary password has expired and must be reset by an administrator."), g, nil
	case u.Status == MustChange:
		return nil, grant{user: u, challenge: newPasswordStep}, nil
	}
	factor, token, err := e.pool.secondFactor(tx, u)
	if err != nil || factor != "" && !both {
		return nil, grant{user: u, challenge: factor, device: token.Device}, err
	}
	g, err = s.begin(tx, e, u, session)
	return nil, g, err
}
