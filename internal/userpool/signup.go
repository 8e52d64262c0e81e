package userpool

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Registration is what somebody sends to make an account of their own.
type Registration struct {
	ClientID   string
	SecretHash fleet.Secret
	Username   string
	Password   fleet.Secret
	Attributes map[string]string
	Validation map[string]string // for the PreSignUp trigger
}

// SignedUp is what came of a registration.
type SignedUp struct {
	Sub       string
	Confirmed bool          // nothing is left to do but to sign in
	Delivery  *CodeDelivery // nil: no code was sent
}

// SignUp makes an unconfirmed user and sends a code where the pool verifies an address (identity spec 1.9), unless the pool's trigger
// refuses or confirms the user.
func (s *Service) SignUp(ctx context.Context, r Registration) (out SignedUp, err error) {
	e, err := s.enterHashed(ctx, r.ClientID, r.SecretHash, r.Username)
	if err != nil {
		return out, err
	}
	p, now := e.pool, s.now()
	if p.AdminCreateOnly {
		return out, notAuthorized("SignUp is not permitted for this user pool")
	}
	if err := s.countSignUp(ctx); err != nil {
		return out, err
	}
	if r.Password == "" {
		return out, missing("Password")
	}
	for _, name := range sortedKeys(r.Attributes) {
		if !e.mayWrite(name) {
			return out, unauthorizedAttribute()
		}
	}
	u, err := p.newIdentity(r.Username, r.Attributes, now)
	if err != nil {
		return out, err
	}
	if err := p.checkRequired(u.Attributes); err != nil {
		return out, err
	}
	pw, err := s.newPassword(ctx, p, nil, u.Username, u.Sub, r.Password.Reveal())
	if err != nil {
		return out, err
	}
	setPassword(&u, pw, now)
	u.Status = Unconfirmed
	if err := s.preSignUp(ctx, p, e.client.ID, "SignUp", &u, r.Validation); err != nil {
		return out, err
	}
	attribute, value := p.signUpAddress(u.Attributes)
	if u.Status == Confirmed {
		attribute, value = "", ""
	}
	code := newCode()
	o := newOrder(&u, signUpReason, attribute, value, code, now, confirmLife).by(ctx, "SignUp", e.client.ID)
	err = s.tx(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, p.Scope, p.ID); err != nil {
			return err
		}
		if err := p.insert(tx, u, "User already exists"); err != nil || attribute == "" {
			return err
		}
		if err := s.owe(tx, p, o); err != nil {
			return err
		}
		return s.putCode(tx, p, u.Sub, signUpCode, attribute, value, code, confirmLife)
	})
	if err != nil {
		return out, err
	}
	out = SignedUp{Sub: u.Sub, Confirmed: u.Status == Confirmed}
	switch {
	case out.Confirmed:
		return out, s.postConfirmation(ctx, p, e.client.ID, "ConfirmSignUp", &u)
	case attribute == "":
		return out, nil
	}
	out.Delivery = new(o.delivery())
	return out, s.deliver(ctx, p, o)
}

// enterHashed finds a client and checks its SECRET_HASH over a name.
func (s *Service) enterHashed(ctx context.Context, clientID string, hash fleet.Secret, name string) (entry, error) {
	e, err := s.enter(ctx, clientID)
	if err != nil {
		return e, err
	}
	return e, e.client.checkSecretHash(hash.Reveal(), name)
}

// countSignUp bounds what one address may make us store and send without having proven anything.
func (s *Service) countSignUp(ctx context.Context) error {
	if err := s.check(ctx, s.signUps); err != nil {
		return err
	}
	s.signUps.add(ctx)
	return nil
}

// A CodeRequest names somebody who wants a code, and the client that asks.
type CodeRequest struct {
	ClientID   string
	SecretHash fleet.Secret
	Username   string
}

// lookUp finds the user of a request; nil for an unknown one where the client hides who exists.
func (s *Service) lookUp(tx *store.Tx, e entry, name string) (*store.PoolUser, error) {
	u, err := e.pool.find(tx, name)
	if err == nil && u == nil && e.client.ShowUnknownUsers {
		err = userNotInClient()
	}
	return u, err
}

// ConfirmSignUp proves the address of a new user and lets them sign in. forceAlias takes the address away from a user who had it
// before.
func (s *Service) ConfirmSignUp(ctx context.Context, r CodeRequest, code fleet.Secret, forceAlias bool) error {
	e, err := s.enterHashed(ctx, r.ClientID, r.SecretHash, r.Username)
	if err != nil {
		return err
	}
	return s.confirmSignUp(ctx, e, r.Username, code, forceAlias)
}

func (s *Service) confirmSignUp(ctx context.Context, e entry, username string, code fleet.Secret, forceAlias bool) error {
	if err := s.check(ctx, s.guesses); err != nil {
		return err
	}
	if err := s.guess(ctx, func(tx *store.Tx) (verdict, err error) { return s.confirm(tx, e, username, code, forceAlias) }); err != nil {
		return err
	}
	return s.confirmed(ctx, e, username, "ConfirmSignUp")
}

// confirmed calls the trigger for a user who was confirmed, by the name that was given.
func (s *Service) confirmed(ctx context.Context, e entry, name, source string) error {
	if e.pool.Triggers.PostConfirmation == "" {
		return nil
	}
	p, u, err := s.userFor(ctx, e.pool.Scope, e.pool.ID, name)
	if err != nil {
		return err
	}
	return s.postConfirmation(ctx, p, e.client.ID, source, u)
}

func (s *Service) confirm(tx *store.Tx, e entry, name string, code fleet.Secret, forceAlias bool) (verdict, err error) {
	p := e.pool
	found, err := s.lookUp(tx, e, name)
	if err != nil {
		return nil, err
	}
	tooMany, err := countHourly(tx, p.Scope, p.ID, subjectOf(found, p.fold(name)), confirmAttempts, s.now())
	switch {
	case err != nil:
		return nil, err
	case tooMany:
		return tooManyFailures(), nil
	case found == nil:
		return codeMismatch(), nil
	case found.Status != Unconfirmed:
		return notAuthorized("User cannot be confirmed. Current status is " + found.Status), nil
	}
	c, verdict, err := s.takeCode(tx, p, found.Sub, signUpCode, code)
	if err != nil || verdict != nil {
		return verdict, err
	}
	old, u := *found, *found
	u.Attributes = cloneAttributes(old.Attributes)
	if err := p.prove(&u, c); err != nil {
		return nil, err
	}
	u.Status, u.Modified = Confirmed, s.now()
	if forceAlias {
		if err := p.release(tx, u, s.now()); err != nil {
			return nil, err
		}
	}
	return nil, p.save(tx, old, u)
}

// ResendCode sends a new sign-up code in place of the old one.
func (s *Service) ResendCode(ctx context.Context, r CodeRequest) (CodeDelivery, error) {
	e, err := s.enterHashed(ctx, r.ClientID, r.SecretHash, r.Username)
	if err != nil {
		return CodeDelivery{}, err
	}
	return s.sendCode(ctx, e, r.Username, resendAttempts, func(tx *store.Tx, u *store.PoolUser, code fleet.Secret) (order, error) {
		p := e.pool
		if u.Status != Unconfirmed {
			return order{}, invalid("User is already confirmed.")
		}
		attribute, value := p.signUpAddress(u.Attributes)
		if attribute == "" {
			return order{}, invalid("Auto verification not turned on.")
		}
		return newOrder(u, signUpReason, attribute, value, code, s.now(), confirmLife).by(ctx, "ResendCode", e.client.ID), s.putCode(tx, p, u.Sub, signUpCode, attribute, value, code, confirmLife)
	})
}

// sendCode counts a request for a code, lets prepare store it, and sends it. Where the client hides who exists an unknown user is
// answered in the same way, in the same time.
func (s *Service) sendCode(ctx context.Context, e entry, name, action string,
	prepare func(*store.Tx, *store.PoolUser, fleet.Secret) (order, error)) (CodeDelivery, error) {
	if err := s.countSignUp(ctx); err != nil {
		return CodeDelivery{}, err
	}
	p := e.pool
	code := newCode()
	var verdict error
	var o order
	err := s.tx(ctx, func(tx *store.Tx) error {
		verdict, o = nil, order{}
		u, err := s.lookUp(tx, e, name)
		if err != nil {
			return err
		}
		tooMany, err := countHourly(tx, p.Scope, p.ID, subjectOf(u, p.fold(name)), action, s.now())
		if err != nil {
			return err
		}
		if tooMany {
			verdict = attemptLimit()
			return nil
		}
		if u == nil {
			return nil
		}
		o, err = prepare(tx, u, code)
		if err != nil && fleet.KindOf(err) != fleet.KindInternal { // a refusal: the attempt stays counted
			verdict, err = err, nil
		}
		if err == nil && verdict == nil && o.Value != "" {
			err = s.owe(tx, p, o)
		}
		return err
	})
	if err == nil {
		err = verdict
	}
	switch {
	case err != nil:
		return CodeDelivery{}, err
	case o.Value == "":
		return s.simulated(p, name)
	case e.client.ShowUnknownUsers:
		return o.delivery(), s.deliver(ctx, p, o)
	}
	s.deliverQuietly(ctx, p, o)
	return o.delivery(), nil
}

// simulated is where a code for a user who does not exist would have gone: the same for the same name.
func (s *Service) simulated(p *Pool, name string) (CodeDelivery, error) {
	if isPhone(name) {
		return deliveryTo("phone_number", name), nil
	}
	if isEmail(name) {
		return deliveryTo("email", name), nil
	}
	secret, err := s.open("pool-secret", p.secret, p.Scope, p.ID)
	if err != nil {
		return CodeDelivery{}, err
	}
	sum := hmacSum(secret, []byte("address\x00"+p.fold(name)))
	letter := func(b byte) string { return string('a' + rune(b%26)) }
	return deliveryTo("email", letter(sum[0])+"@"+letter(sum[1])), nil
}

// ForgotPassword sends a code for a new password to a verified address.
func (s *Service) ForgotPassword(ctx context.Context, r CodeRequest) (CodeDelivery, error) {
	e, err := s.enterHashed(ctx, r.ClientID, r.SecretHash, r.Username)
	if err != nil {
		return CodeDelivery{}, err
	}
	return s.sendCode(ctx, e, r.Username, forgotAttempts, func(tx *store.Tx, u *store.PoolUser, code fleet.Secret) (order, error) {
		p := e.pool
		switch {
		case !u.Enabled && !e.client.ShowUnknownUsers:
			return order{}, nil // looks like any other, and nothing is sent
		case !u.Enabled:
			return order{}, userDisabled()
		case u.Status == MustChange || u.Status == External:
			return order{}, notAuthorized("User password cannot be reset in the current state.")
		}
		attribute, value, err := p.recoveryAddress(u.Attributes)
		if err != nil {
			return order{}, err
		}
		return newOrder(u, recovery, attribute, value, code, s.now(), recoverLife).by(ctx, "ForgotPassword", e.client.ID), s.putCode(tx, p, u.Sub, recoverCode, attribute, value, code, recoverLife)
	})
}

// ConfirmForgotPassword sets a new password with a code. All sessions end, with tokens and credentials: whoever needed recovery may not be the
// only one who was signed in. The code is looked at before the password: only who has it may learn that a password was used before, or make the
// server compute, so that a wrong code is the same work for whomever it is.
func (s *Service) ConfirmForgotPassword(ctx context.Context, r CodeRequest, code, text fleet.Secret) error {
	e, err := s.enterHashed(ctx, r.ClientID, r.SecretHash, r.Username)
	if err != nil {
		return err
	}
	if err := s.check(ctx, s.guesses); err != nil {
		return err
	}
	if err := e.pool.Password.check(text.Reveal()); err != nil {
		return err
	}
	var seen *store.PoolUser
	if err := s.guess(ctx, func(tx *store.Tx) (verdict, err error) {
		seen, verdict, err = s.mayRecover(tx, e, r.Username, code)
		return verdict, err
	}); err != nil {
		return err
	}
	pw, err := s.newPassword(ctx, e.pool, seen, seen.Username, seen.Sub, text.Reveal())
	if err != nil {
		return err
	}
	if err := s.guess(ctx, func(tx *store.Tx) (verdict, err error) { return s.recoverUser(tx, e, seen.Sub, code, pw) }); err != nil {
		return err
	}
	return s.confirmed(ctx, e, r.Username, "ConfirmForgotPassword")
}

// guess runs a transaction that may find a guess wrong, which counts against the address that it came from. What the transaction
// has counted is kept.
func (s *Service) guess(ctx context.Context, f func(*store.Tx) (verdict, err error)) error {
	var verdict error
	err := s.tx(ctx, func(tx *store.Tx) (err error) {
		verdict, err = f(tx)
		return err
	})
	if err == nil && verdict != nil {
		s.guesses.add(ctx)
		return verdict
	}
	return err
}

// mayRecover counts a try and returns the user whose code it is, which is not spent yet.
func (s *Service) mayRecover(tx *store.Tx, e entry, name string, code fleet.Secret) (u *store.PoolUser, verdict, err error) {
	p, now := e.pool, s.now()
	u, err = s.lookUp(tx, e, name)
	if err != nil {
		return nil, nil, err
	}
	subject := subjectOf(u, p.fold(name))
	if u != nil && (u.Status == External || !u.Enabled && !e.client.ShowUnknownUsers) { // nothing is sent to them, as to nobody
		u = nil
	}
	tooMany, err := countHourly(tx, p.Scope, p.ID, subject, recoverAttempts, now)
	switch {
	case err != nil:
		return nil, nil, err
	case tooMany:
		return nil, tooManyFailures(), nil
	case u != nil:
		_, verdict, err = s.checkCode(tx, p, u.Sub, recoverCode, code)
		return u, verdict, err
	}
	asked, err := counted(tx, p.Scope, p.ID, subject, forgotAttempts, now)
	if asked { // a shadow has a code if somebody asked for one
		return nil, codeMismatch(), err
	}
	return nil, codeExpired(), err
}

func (s *Service) recoverUser(tx *store.Tx, e entry, sub string, code fleet.Secret, pw password) (verdict, err error) {
	p, now := e.pool, s.now()
	old, err := tx.PoolUserBySub(p.Scope, p.ID, sub)
	if err != nil {
		return nil, asNotFound(err, userNotFound())
	}
	c, verdict, err := s.takeCode(tx, p, sub, recoverCode, code)
	if err != nil || verdict != nil {
		return verdict, err
	}
	if !old.Enabled {
		return userDisabled(), nil
	}
	u := old
	u.Attributes = cloneAttributes(old.Attributes)
	if c.Attribute != "" && u.Attributes[c.Attribute] == c.Value {
		u.Attributes[c.Attribute+"_verified"] = "true"
	}
	setPassword(&u, pw, now)
	u.Status, u.Modified = Confirmed, now
	if err := s.signOut(tx, p, &u); err != nil {
		return nil, err
	}
	if err := tx.ClearPoolAttempts(p.Scope, p.ID, userSubject(sub), signInAttempts); err != nil {
		return nil, err
	}
	return nil, p.save(tx, old, u)
}
