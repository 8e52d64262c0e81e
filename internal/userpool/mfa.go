package userpool

import (
	"context"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is how a software token becomes a user's second factor; tokenchallenge.go is how a sign-in asks for it. Software tokens
// are the only second factor there is.

// Modes of a pool's second factor.
const (
	MFAOff      = "OFF"
	MFAOptional = "OPTIONAL" // whoever has enabled a software token is asked for it
	MFAOn       = "ON"       // everybody is; who has none sets one up at the next sign-in
)

const maxDeviceName = 1024 // bytes

// MFAMode is the pool's mode: MFAOff, MFAOptional or MFAOn.
func (s *Settings) MFAMode() string { return or(s.MFA, MFAOff) }

// SetMFA sets the mode of a pool and returns the pool (SetUserPoolMfaConfig). An empty mode is the present one. tokens says whether
// software tokens are a factor, passkeys what passkeys are made for; nil: it was not said.
func (s *Service) SetMFA(ctx context.Context, scope fleet.Scope, poolID, mode string, tokens *bool, passkeys *PasskeySettings) (pool *Pool, err error) {
	err = s.changePool(ctx, scope, poolID, func(p *Pool) error {
		pool = p
		now := or(mode, p.MFAMode())
		asked := tokens != nil || mode != ""
		with := tokens != nil && *tokens
		switch {
		case now == MFAOff && with:
			return invalid("Invalid MFA configuration given, can't turn off MFA and configure an MFA together.")
		case now != MFAOff && asked && !with:
			return invalid("Invalid MFA Configuration given. SMS MFA, Email MFA, or Software Token MFA must be enabled.")
		}
		p.MFA = now
		if passkeys != nil {
			p.Passkeys = *passkeys
		}
		return p.Passkeys.check()
	})
	return pool, err
}

// MFAChoice is what a user, or an administrator for one, wants of second factors. What was not said is nil.
type MFAChoice struct {
	Token    *TokenChoice // software tokens
	Passkeys *bool        // a passkey that verifies its owner counts as both factors
}

// TokenChoice is what somebody wants of software tokens.
type TokenChoice struct{ Enabled, Preferred bool }

// PreferMFA keeps the choice of the token's owner (SetUserMFAPreference).
func (s *Service) PreferMFA(ctx context.Context, token fleet.Secret, choice MFAChoice) error {
	who, err := s.authenticate(ctx, token)
	if err != nil || choice == (MFAChoice{}) {
		return err
	}
	return s.changeSelf(ctx, who, choice.keep)
}

// PreferMFAFor keeps a choice for a user (AdminSetUserMFAPreference).
func (s *Service) PreferMFAFor(ctx context.Context, scope fleet.Scope, poolID, username string, choice MFAChoice) error {
	if choice == (MFAChoice{}) {
		_, _, err := s.userFor(ctx, scope, poolID, username)
		return err
	}
	_, err := s.changeUser(ctx, scope, poolID, username, choice.keep)
	return err
}

func (c MFAChoice) keep(tx *store.Tx, p *Pool, u *store.PoolUser) error {
	if c.Token != nil {
		if err := c.Token.keep(tx, p, u); err != nil {
			return err
		}
	}
	if c.Passkeys != nil {
		return keepPasskeyChoice(tx, p, u, *c.Passkeys)
	}
	return nil
}

func (c *TokenChoice) keep(tx *store.Tx, p *Pool, u *store.PoolUser) error {
	if c.Preferred && !c.Enabled {
		return invalid("SoftwareTokenMfaSettings has PreferredMfa true and Enabled false: only what is enabled can be preferred.")
	}
	t, err := tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenVerified)
	if isNotFound(err) {
		if c.Enabled {
			return invalid("User has not verified software token mfa")
		}
		return nil
	}
	if err != nil {
		return err
	}
	t.Enabled, t.Preferred = c.Enabled, c.Preferred
	return tx.PutSoftwareToken(p.Scope, p.ID, u.Sub, t)
}

// ResetSoftwareToken takes a user's software tokens away, the one in force and one that is being set up: it is lost. Where everybody needs
// one, the next sign-in with the password sets up another. Sessions go on.
func (s *Service) ResetSoftwareToken(ctx context.Context, scope fleet.Scope, poolID, username string) error {
	_, err := s.changeUser(ctx, scope, poolID, username, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		if _, err := tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenVerified); err != nil {
			return asNotFound(err, noSoftwareToken())
		}
		for _, state := range []string{store.TokenVerified, store.TokenPending} {
			if err := tx.DeleteSoftwareToken(p.Scope, p.ID, u.Sub, state); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// factors fills in the second factors of a user.
func (p *Pool) factors(tx *store.Tx, u *User) error {
	t, err := tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenVerified)
	if isNotFound(err) {
		return nil
	}
	if t.Enabled {
		u.MFA = []string{tokenStep}
	}
	if t.Preferred {
		u.PreferredMFA = tokenStep
	}
	return err
}

// An Enrolment says who sets up a software token: somebody who is signed in, or whom a sign-in asks for it. One of the two is given.
type Enrolment struct {
	AccessToken fleet.Secret
	Session     fleet.Secret // of MFA_SETUP
	hosted      bool         // Session is one of the pages
}

// enrolling is an Enrolment that was checked outside of a transaction.
type enrolling struct {
	entry
	claims  jwt.Claims        // of the access token
	session *challengeSession // nil: there is an access token
	expires time.Time         // of session
}

func (s *Service) enrolling(ctx context.Context, in Enrolment) (x enrolling, err error) {
	switch {
	case in.AccessToken != "" && in.Session != "":
		return x, invalid("Give AccessToken or Session, not both.")
	case in.AccessToken != "":
		who, err := s.authenticate(ctx, in.AccessToken)
		return enrolling{entry: who.entry, claims: who.claims}, err
	case in.Session == "":
		return x, missing("AccessToken or Session")
	}
	if err := s.check(ctx, s.guesses); err != nil {
		return x, err
	}
	clientID, _, _ := strings.Cut(in.Session.Reveal(), ".")
	if x.entry, err = s.enter(ctx, clientID); err != nil {
		return x, asNotFound(err, sessionInvalid())
	}
	x.hosted = in.hosted
	c, expires, err := s.openSession(x.entry, in.Session, setUpStep)
	x.session, x.expires = &c, expires
	return x, err
}

// still looks again who enrols, in the transaction, and returns the pool and the user as they are now. A session of MFA_SETUP ends
// when a token works: from then on the token is asked for.
func (x *enrolling) still(s *Service, tx *store.Tx) (p *Pool, u store.PoolUser, err error) {
	if x.session == nil {
		again := self{claims: x.claims}
		err = s.load(tx, x.pool.Scope, x.pool.ID, &again)
		p, u = again.pool, again.user
	} else if p, err = readPool(tx, x.pool.Scope, x.pool.ID); err == nil {
		u, err = x.session.user(tx, p)
	}
	switch {
	case err != nil:
		return nil, u, err
	case p.MFAMode() == MFAOff:
		return nil, u, softwareTokensOff()
	}
	if x.session != nil {
		if _, err := tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenVerified); !isNotFound(err) {
			return nil, u, orElse(err, sessionInvalid())
		}
	}
	return p, u, nil
}

// NewSoftwareToken hands out the secret of a software token, in base32, in place of one that was not verified; a token that works
// goes on working until the new one is verified (AssociateSoftwareToken). Who came with a session gets the next one.
func (s *Service) NewSoftwareToken(ctx context.Context, in Enrolment) (text, session fleet.Secret, err error) {
	x, err := s.enrolling(ctx, in)
	if err != nil {
		return "", "", err
	}
	secret := newTOTPSecret()
	if err := s.tx(ctx, func(tx *store.Tx) error {
		p, u, err := x.still(s, tx)
		if err != nil {
			return err
		}
		return tx.PutSoftwareToken(p.Scope, p.ID, u.Sub, store.SoftwareToken{State: store.TokenPending, Secret: s.sealToken(p, u.Sub, store.TokenPending, secret)})
	}); err != nil {
		return "", "", err
	}
	if x.session != nil {
		session, err = s.sealSession(x.entry, *x.session) // with the same nonce: one set-up is finished once
	}
	return fleet.Secret(totpText(secret)), session, err
}

func (s *Service) sealToken(p *Pool, sub, state string, secret []byte) []byte {
	return s.seal("software-token", secret, p.Scope, p.ID, sub, state)
}

func (s *Service) openToken(p *Pool, sub string, t store.SoftwareToken) ([]byte, error) {
	return s.open("software-token", t.Secret, p.Scope, p.ID, sub, t.State)
}

// VerifySoftwareToken puts the new software token into force once its owner shows a code of it; device is what they call it. Who came
// with a session gets the one that finishes the sign-in.
func (s *Service) VerifySoftwareToken(ctx context.Context, in Enrolment, code fleet.Secret, device string) (session fleet.Secret, err error) {
	if len(device) > maxDeviceName {
		return "", invalid("FriendlyDeviceName is longer than 1024 bytes.")
	}
	x, err := s.enrolling(ctx, in)
	if err != nil {
		return "", err
	}
	var verdict error
	var user store.PoolUser
	err = s.tx(ctx, func(tx *store.Tx) error {
		var p *Pool
		if p, user, err = x.still(s, tx); err != nil {
			return err
		}
		verdict, err = s.verifyToken(tx, x, p, user, code, device)
		return err
	})
	switch {
	case err != nil:
		return "", err
	case verdict != nil:
		s.guesses.add(ctx)
		return "", verdict
	case x.session == nil:
		return "", nil
	}
	return s.newStep(x.entry, user, setUpDoneStep)
}

// verifyToken is the decision of VerifySoftwareToken. verdict is what to tell the user; it does not undo what was counted.
func (s *Service) verifyToken(tx *store.Tx, x enrolling, p *Pool, u store.PoolUser, code fleet.Secret, device string) (verdict, err error) {
	tooMany, err := countHourly(tx, p.Scope, p.ID, userSubject(u.Sub), tokenAttempts, s.now())
	if err != nil || tooMany {
		return tooManyRequests(), err
	}
	t, err := tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenPending)
	if err != nil {
		return nil, asNotFound(err, noSoftwareToken())
	}
	secret, err := s.openToken(p, u.Sub, t)
	if err != nil {
		return nil, err
	}
	step, _ := matchTOTP(secret, code.Reveal(), s.now(), t.Used)
	if step == 0 {
		return tokenMismatchAtSetUp(), nil
	}
	if x.session != nil {
		first, err := tx.SpendChallenge(p.Scope, p.ID, x.session.Nonce, x.expires)
		if err != nil || !first {
			return nil, orElse(err, sessionUsed())
		}
	}
	old, err := tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenVerified)
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	enabled := old.Enabled || x.session != nil || p.MFAMode() == MFAOn
	if err := tx.DeleteSoftwareToken(p.Scope, p.ID, u.Sub, store.TokenPending); err != nil {
		return nil, err
	}
	return nil, tx.PutSoftwareToken(p.Scope, p.ID, u.Sub, store.SoftwareToken{State: store.TokenVerified, Device: device, Used: step,
		Enabled: enabled, Preferred: old.Preferred, Secret: s.sealToken(p, u.Sub, store.TokenVerified, secret)})
}
