package userpool

import (
	"context"

	"github.com/imprint-iot/imprint/internal/store"
)

// secondFactor says what a user has to do beside the password (identity spec 1.5): nothing, show the code of token (tokenStep), or
// set one up (setUpStep). Where everybody must have one, a verified token is asked for even if its owner has disabled it: otherwise
// the password alone would be enough to replace it.
func (p *Pool) secondFactor(tx *store.Tx, u store.PoolUser) (step string, token store.SoftwareToken, err error) {
	mode := p.MFAMode()
	if mode == MFAOff {
		return "", token, nil
	}
	token, err = tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenVerified)
	switch none := isNotFound(err); {
	case err != nil && !none:
		return "", token, err
	case none && mode == MFAOn:
		return setUpStep, token, nil
	case !none && (mode == MFAOn || token.Enabled):
		return tokenStep, token, nil
	}
	return "", token, nil
}

// challengeToken asks for a code, or for a token to be set up.
func (s *Service) challengeToken(e entry, g grant) (Outcome, error) {
	session, err := s.newStep(e, g.user, g.challenge)
	if err != nil {
		return Outcome{}, err
	}
	parameters := map[string]string{"USER_ID_FOR_SRP": g.user.Username}
	switch {
	case g.challenge == setUpStep:
		parameters["MFAS_CAN_SETUP"] = `["` + tokenStep + `"]`
	case g.device != "":
		parameters["FRIENDLY_DEVICE_NAME"] = g.device
	}
	return Outcome{Challenge: g.challenge, Session: session, Parameters: parameters}, nil
}

// user returns the user of a session, if they may still go on with it.
func (c *challengeSession) user(tx *store.Tx, p *Pool) (store.PoolUser, error) {
	u, err := tx.PoolUserBySub(p.Scope, p.ID, c.Sub)
	switch {
	case err != nil:
		return u, asNotFound(err, sessionInvalid())
	case !u.Enabled:
		return u, userDisabled()
	case u.Status == ResetRequired:
		return u, resetRequired()
	case u.PasswordSet.UnixMilli() != c.PasswordSet || u.Status != Confirmed:
		return u, sessionInvalid()
	}
	return u, nil
}

// finishStep answers the last step of a sign-in: a session of that step, with the name of its user. decide says whether the answer is
// right; its verdict is what to tell the user and does not undo what was counted. A session is spent by success only, so that a
// person who has mistyped may try again.
func (s *Service) finishStep(ctx context.Context, e entry, in Answer, step string, decide func(*store.Tx, store.PoolUser) (verdict, err error)) (Outcome, error) {
	name := in.Responses["USERNAME"].Reveal()
	if err := e.client.checkSecretHash(in.Responses["SECRET_HASH"].Reveal(), name); err != nil {
		return Outcome{}, err
	}
	c, expires, err := s.openSession(e, in.Session, step)
	if err != nil {
		return Outcome{}, err
	}
	var verdict error
	var g grant
	session := newSession(e, s.now())
	err = s.tx(ctx, func(tx *store.Tx) error {
		u, err := c.user(tx, e.pool)
		e.meets(&u)
		if err != nil {
			return err
		}
		named, err := e.pool.find(tx, name)
		if err != nil || named == nil || named.Sub != u.Sub {
			return orElse(err, sessionInvalid())
		}
		if verdict, err = decide(tx, u); err != nil || verdict != nil {
			return err
		}
		first, err := tx.SpendChallenge(e.pool.Scope, e.pool.ID, c.Nonce, expires)
		if err != nil || !first {
			return orElse(err, sessionUsed())
		}
		g, err = s.begin(tx, e, u, session)
		return err
	})
	if err != nil {
		return Outcome{}, err
	}
	if verdict != nil {
		s.wrongGuess(ctx, e)
		return Outcome{}, verdict
	}
	return s.fulfil(ctx, e, g)
}

// answerToken answers SOFTWARE_TOKEN_MFA. Each code is accepted once: the step it belongs to is recorded with the sign-in.
func (s *Service) answerToken(ctx context.Context, e entry, in Answer) (Outcome, error) {
	v, err := required(in.Responses, "USERNAME", "SOFTWARE_TOKEN_MFA_CODE")
	if err != nil {
		return Outcome{}, err
	}
	code := v[1]
	return s.finishStep(ctx, e, in, tokenStep, func(tx *store.Tx, u store.PoolUser) (verdict, err error) {
		t, err := tx.SoftwareToken(e.pool.Scope, e.pool.ID, u.Sub, store.TokenVerified)
		if err != nil {
			return nil, asNotFound(err, noSoftwareToken())
		}
		secret, err := s.openToken(e.pool, u.Sub, t)
		if err != nil {
			return nil, err
		}
		outcome := provenNothing
		step, again := matchTOTP(secret, code, s.now(), t.Used)
		if step != 0 {
			outcome = provenAll
		}
		locked, err := countSignIn(tx, e.pool.Scope, e.pool.ID, userSubject(u.Sub), s.now(), outcome)
		switch {
		case err != nil:
			return nil, err
		case locked:
			return lockedOut(), nil
		case again:
			return tokenUsed(), nil
		case step == 0:
			return tokenMismatch(), nil
		}
		t.Used = step
		return nil, tx.PutSoftwareToken(e.pool.Scope, e.pool.ID, u.Sub, t)
	})
}

// finishSetUp answers MFA_SETUP, with the session that VerifySoftwareToken gave.
func (s *Service) finishSetUp(ctx context.Context, e entry, in Answer) (Outcome, error) {
	if _, err := required(in.Responses, "USERNAME"); err != nil {
		return Outcome{}, err
	}
	if _, _, err := s.openSession(e, in.Session, setUpStep); err == nil {
		return Outcome{}, invalid("User has not verified software token mfa")
	}
	return s.finishStep(ctx, e, in, setUpDoneStep, func(tx *store.Tx, u store.PoolUser) (verdict, err error) {
		_, err = tx.SoftwareToken(e.pool.Scope, e.pool.ID, u.Sub, store.TokenVerified)
		return nil, asNotFound(err, sessionInvalid())
	})
}
