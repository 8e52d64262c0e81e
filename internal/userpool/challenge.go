package userpool

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// An Answer responds to a challenge (RespondToAuthChallenge, AdminRespondToAuthChallenge).
type Answer struct {
	ClientID  string
	Challenge string
	Session   fleet.Secret
	Responses map[string]fleet.Secret
}

// Respond goes on with a sign-in.
func (s *Service) Respond(ctx context.Context, in Answer) (Outcome, error) {
	e, err := s.enter(ctx, in.ClientID)
	if err != nil {
		s.tellRefused(ctx, entry{}, in.Challenge, err)
		return Outcome{}, err
	}
	return s.respond(ctx, e, in)
}

// AdminRespond goes on with a sign-in that AdminInitiateAuth began.
func (s *Service) AdminRespond(ctx context.Context, scope fleet.Scope, poolID string, in Answer) (Outcome, error) {
	e, err := s.enterPool(ctx, scope, poolID, in.ClientID)
	if err != nil {
		return Outcome{}, err
	}
	return s.respond(ctx, e, in)
}

func (s *Service) respond(ctx context.Context, e entry, in Answer) (out Outcome, err error) {
	e = e.watch()
	defer func() { s.tellRefused(ctx, e, in.Challenge, err) }()
	if !e.admin {
		if err := s.check(ctx, s.guesses); err != nil {
			return Outcome{}, err
		}
	}
	switch in.Challenge {
	case "PASSWORD_VERIFIER":
		return s.finishSRP(ctx, e, in.Responses)
	case "NEW_PASSWORD_REQUIRED":
		return s.changeTemporary(ctx, e, in)
	case tokenStep:
		return s.answerToken(ctx, e, in)
	case setUpStep:
		return s.finishSetUp(ctx, e, in)
	case chooseStep:
		return s.choose(ctx, e, in)
	case passwordStep, srpStep:
		return s.answerWay(ctx, e, in)
	case passkeyStep:
		return s.answerPasskey(ctx, e, in)
	}
	return Outcome{}, notOffered("The challenge " + in.Challenge)
}

// srpBlock is what SECRET_BLOCK carries, sealed, from the first step of SRP to the second.
type srpBlock struct {
	Client, Sub     string // a shadow's Sub is nobody's: without one its block would be shorter
	Identity, Typed string
	A, B, U         []byte // the client's public, our private number, the scrambler
	PasswordSet     int64  // the password that the exchange is about, in Unix milliseconds
	Issued          int64
	Nonce           string
}

func (s *Service) sealBlock(p *Pool, b srpBlock) (string, error) {
	text, err := json.Marshal(b)
	return base64.StdEncoding.EncodeToString(s.seal("srp-block", text, p.Scope, p.ID)), err
}

// maxSealed bounds what is opened of a SECRET_BLOCK or Session.
const maxSealed = 8192

// openBlock also returns the sealed bytes, which the client's signature covers.
func (s *Service) openBlock(p *Pool, text string) (b srpBlock, sealed []byte, err error) {
	if len(text) > maxSealed {
		return b, nil, sessionInvalid()
	}
	sealed, err = decodeBase64(text)
	if err != nil {
		return b, nil, sessionInvalid()
	}
	plain, err := s.open("srp-block", sealed, p.Scope, p.ID)
	if err != nil || json.Unmarshal(plain, &b) != nil {
		return b, nil, sessionInvalid()
	}
	return b, sealed, nil
}

func (c *Client) sessionLife() time.Duration { return time.Duration(c.SessionMinutes) * time.Minute }

// finishSRP checks the proof of the second step.
func (s *Service) finishSRP(ctx context.Context, e entry, responses map[string]fleet.Secret) (Outcome, error) {
	v, err := required(responses, "USERNAME", "PASSWORD_CLAIM_SECRET_BLOCK", "PASSWORD_CLAIM_SIGNATURE", "TIMESTAMP")
	if err != nil {
		return Outcome{}, err
	}
	name, claim, timestamp := v[0], v[2], v[3]
	if err := e.client.checkSecretHash(responses["SECRET_HASH"].Reveal(), name); err != nil {
		return Outcome{}, err
	}
	b, sealed, err := s.openBlock(e.pool, v[1])
	if err != nil {
		return Outcome{}, err
	}
	expires := time.UnixMilli(b.Issued).Add(e.client.sessionLife())
	switch {
	case b.Client != e.client.ID:
		return Outcome{}, sessionInvalid()
	case !s.now().Before(expires):
		return Outcome{}, sessionExpired()
	case e.pool.fold(name) != e.pool.fold(b.Identity) && e.pool.fold(name) != e.pool.fold(b.Typed):
		return Outcome{}, sessionInvalid()
	}
	if err := s.checkTimestamp(timestamp); err != nil {
		return Outcome{}, err
	}
	user, verifier, err := s.blockUser(ctx, e.pool, b)
	if err != nil {
		return Outcome{}, err
	}
	e.meets(user)
	signature, err := decodeBase64(claim)
	var same bool
	if err2 := s.compute(ctx, func() {
		number := func(raw []byte) *big.Int { return new(big.Int).SetBytes(raw) }
		secret := srpSecret(number(b.A), number(b.B), number(b.U), verifier)
		want := srpSignature(srpKey(secret, number(b.U)), e.pool.key(), b.Identity, sealed, timestamp)
		same = secretsEqual(string(want), string(signature)) && err == nil
	}); err2 != nil {
		return Outcome{}, err2
	}
	return s.settle(ctx, e, attempt{name: b.Typed, user: user, proven: same && user != nil, nonce: b.Nonce, expires: expires})
}

// blockUser returns whom a block is about, with a verifier to compute with: a shadow's, where there is no such user, so that the
// answer takes as long.
func (s *Service) blockUser(ctx context.Context, p *Pool, b srpBlock) (*store.PoolUser, *big.Int, error) {
	var u store.PoolUser
	err := s.view(ctx, func(tx *store.Tx) (err error) {
		u, err = tx.PoolUserBySub(p.Scope, p.ID, b.Sub)
		return err
	})
	if err == nil {
		v, err := s.verifierOf(p, &u)
		u.PasswordSet = time.UnixMilli(b.PasswordSet) // a password set since then is another one
		return &u, v, err
	}
	if !isNotFound(err) {
		return nil, nil, err
	}
	secret, err := s.open("pool-secret", p.secret, p.Scope, p.ID)
	if err != nil {
		return nil, nil, err
	}
	_, _, v := shadow(secret, p.ID, p.fold(b.Typed))
	return nil, v, nil
}

// checkTimestamp refuses a clock that is far off. The text is part of what the client signed; its form is English with the day
// unpadded, and some clients pad it (identity spec 1.6).
func (s *Service) checkTimestamp(text string) error {
	at, err := time.Parse("Mon Jan 2 15:04:05 MST 2006", strings.Join(strings.Fields(text), " "))
	if err != nil || len(text) > 64 {
		return invalid("TIMESTAMP format should be EEE MMM d HH:mm:ss z yyyy in english.")
	}
	if d := s.now().Sub(at); d > s.cfg.TimestampSkew || d < -s.cfg.TimestampSkew {
		return notAuthorized("The clock of this device is wrong: it says " + at.Format(time.RFC3339) + ", the server says " +
			s.now().Format(time.RFC3339) + ". Set it and sign in again.")
	}
	return nil
}

// A challengeSession is what a Session carries, sealed, to the next step.
type challengeSession struct {
	Client, Sub, Step string
	PasswordSet       int64
	Issued            int64
	Nonce             string
	Hosted            bool // begun at the pages: it ends there, in a browser that is signed in

	// Of choice-based sign-in, which may be about a shadow, whose Sub is nobody's.
	Identity, Typed string          `json:",omitempty"`
	Passkey         *passkeyRequest `json:",omitempty"`
}

// Steps of a sign-in, by their challenges. Of MFA_SETUP there are two sessions: before the software token works, and after.
const (
	newPasswordStep = "NEW_PASSWORD_REQUIRED"
	setUpStep       = "MFA_SETUP"
	setUpDoneStep   = "MFA_SETUP verified"
	tokenStep       = "SOFTWARE_TOKEN_MFA"
)

// newStep begins a step of a user's sign-in.
func (s *Service) newStep(e entry, u store.PoolUser, step string) (fleet.Secret, error) {
	return s.sealSession(e, challengeSession{Client: e.client.ID, Sub: u.Sub, Step: step, PasswordSet: u.PasswordSet.UnixMilli(), Hosted: e.hosted,
		Nonce: fleet.RandomString(22, fleet.AlphaAlnum)})
}

// sealSession writes a session that lives from now on. The client's id stands in front of it: AssociateSoftwareToken and
// VerifySoftwareToken name none.
func (s *Service) sealSession(e entry, c challengeSession) (fleet.Secret, error) {
	c.Issued = s.now().UnixMilli()
	text, err := json.Marshal(c)
	return fleet.Secret(c.Client + "." + base64.RawURLEncoding.EncodeToString(s.seal("session", text, e.pool.Scope, e.pool.ID))), err
}

// challengeNewPassword asks a user with a temporary password for a lasting one.
func (s *Service) challengeNewPassword(e entry, u store.PoolUser) (Outcome, error) {
	shown := maps.Clone(u.Attributes)
	maps.DeleteFunc(shown, func(name, _ string) bool { return strings.HasPrefix(name, "dev:") })
	lacking := []string{}
	for _, name := range e.pool.requiredAttributes() {
		if u.Attributes[name] == "" {
			lacking = append(lacking, "userAttributes."+name)
		}
	}
	attributes, err := toJSON(shown)
	if err != nil {
		return Outcome{}, err
	}
	needed, err := toJSON(lacking)
	if err != nil {
		return Outcome{}, err
	}
	session, err := s.newStep(e, u, newPasswordStep)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Challenge: newPasswordStep, Session: session, Parameters: map[string]string{
		"USER_ID_FOR_SRP": u.Username, "userAttributes": attributes, "requiredAttributes": needed,
	}}, nil
}

// openSession checks a Session for a step and returns it with its end.
func (s *Service) openSession(e entry, text fleet.Secret, step string) (c challengeSession, expires time.Time, err error) {
	if text == "" {
		return c, expires, missing("Session")
	}
	rest, ours := strings.CutPrefix(text.Reveal(), e.client.ID+".")
	sealed, err := decodeBase64(rest)
	if err != nil || !ours || len(text) > maxSealed {
		return c, expires, sessionInvalid()
	}
	plain, err := s.open("session", sealed, e.pool.Scope, e.pool.ID)
	if err != nil || json.Unmarshal(plain, &c) != nil || c.Client != e.client.ID || c.Step != step || c.Hosted != e.hosted {
		return c, expires, sessionInvalid()
	}
	expires = time.UnixMilli(c.Issued).Add(e.client.sessionLife())
	if !s.now().Before(expires) {
		return c, expires, sessionExpired()
	}
	return c, expires, nil
}

// changeTemporary answers NEW_PASSWORD_REQUIRED. The session is spent only by success, so that a person may try another password.
func (s *Service) changeTemporary(ctx context.Context, e entry, in Answer) (Outcome, error) {
	v, err := required(in.Responses, "USERNAME", "NEW_PASSWORD")
	if err != nil {
		return Outcome{}, err
	}
	name, text := v[0], v[1]
	if err := e.client.checkSecretHash(in.Responses["SECRET_HASH"].Reveal(), name); err != nil {
		return Outcome{}, err
	}
	c, expires, err := s.openSession(e, in.Session, newPasswordStep)
	if err != nil {
		return Outcome{}, err
	}
	seen, err := s.challenged(ctx, e.pool, c, name)
	if err != nil {
		return Outcome{}, err
	}
	e.meets(seen)
	changes, err := e.newAttributes(seen, in.Responses)
	if err != nil {
		return Outcome{}, err
	}
	pw, err := s.newPassword(ctx, e.pool, seen, seen.Username, seen.Sub, text)
	if err != nil {
		return Outcome{}, err
	}
	var verdict error
	var g grant
	session := newSession(e, s.now())
	err = s.tx(ctx, func(tx *store.Tx) (err error) {
		first, err := tx.SpendChallenge(e.pool.Scope, e.pool.ID, c.Nonce, expires)
		if err != nil {
			return err
		}
		if !first {
			return sessionUsed()
		}
		old, err := tx.PoolUserBySub(e.pool.Scope, e.pool.ID, c.Sub)
		if err != nil {
			return asNotFound(err, sessionInvalid())
		}
		if old.PasswordSet.UnixMilli() != c.PasswordSet || old.Status != MustChange {
			return sessionInvalid()
		}
		if !old.Enabled {
			return userDisabled()
		}
		u := old
		if err := e.pool.change(&u, changes); err != nil {
			return err
		}
		setPassword(&u, pw, s.now())
		u.Status, u.Modified = Confirmed, s.now()
		if err := e.pool.save(tx, old, u); err != nil {
			return err
		}
		verdict, g, err = s.next(tx, e, u, session, false)
		return err
	})
	if err != nil {
		return Outcome{}, err
	}
	if verdict != nil {
		return Outcome{}, verdict
	}
	g.source = tokensOfNewPassword
	return s.fulfil(ctx, e, g)
}

// challenged returns the user of a session, who must be the one that the answer names.
func (s *Service) challenged(ctx context.Context, p *Pool, c challengeSession, name string) (*store.PoolUser, error) {
	var u *store.PoolUser
	err := s.view(ctx, func(tx *store.Tx) (err error) {
		u, err = p.find(tx, name)
		return err
	})
	if err == nil && (u == nil || u.Sub != c.Sub || u.PasswordSet.UnixMilli() != c.PasswordSet || u.Status != MustChange) {
		// A session that has done its work is the likely cause: the user is confirmed by now.
		if u != nil && u.Sub == c.Sub && u.Status == Confirmed {
			return nil, sessionUsed()
		}
		err = sessionInvalid()
	}
	return u, err
}

// newAttributes reads the userAttributes.… of an answer: they may fill what is missing and change what the client may write, but
// not a required attribute that has a value (identity spec 1.5).
func (e entry) newAttributes(u *store.PoolUser, responses map[string]fleet.Secret) (map[string]string, error) {
	changes := map[string]string{}
	after := maps.Clone(u.Attributes)
	for _, key := range slices.Sorted(maps.Keys(responses)) {
		name, ok := strings.CutPrefix(key, "userAttributes.")
		value := responses[key].Reveal()
		if !ok || u.Attributes[name] == value {
			continue
		}
		a, _ := e.pool.attribute(name)
		switch {
		case a.Required && u.Attributes[name] != "":
			return nil, notAuthorized("Cannot modify an already provided " + name)
		case !e.mayWrite(name):
			return nil, unauthorizedAttribute()
		}
		changes[name], after[name] = value, value
	}
	for _, name := range e.pool.requiredAttributes() {
		if after[name] == "" {
			return nil, invalid("Invalid attributes given, " + name + " is missing")
		}
	}
	return changes, nil
}

func unauthorizedAttribute() error {
	return notAuthorized("A client attempted to write unauthorized attribute")
}

// mayWrite and mayRead say what a client may do with an attribute of its user (identity spec 1.2). Without a list a client may do
// everything that users may.
func (e entry) mayWrite(name string) bool {
	if name == "sub" || strings.HasSuffix(name, "_verified") || strings.HasPrefix(name, "dev:") {
		return false
	}
	return e.client.WriteAttributes == nil || slices.Contains(e.client.WriteAttributes, name)
}

func (e entry) mayRead(name string) bool {
	if strings.HasPrefix(name, "dev:") {
		return false
	}
	return name == "sub" || name == identitiesAttribute || e.client.ReadAttributes == nil || slices.Contains(e.client.ReadAttributes, name)
}
