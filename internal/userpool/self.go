package userpool

import (
	"context"
	"maps"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is what people do with their own account. Each operation takes the access token that proves who they are.

// Self returns the owner of an access token with the attributes that the client may read (GetUser).
func (s *Service) Self(ctx context.Context, token fleet.Secret) (User, error) {
	who, err := s.authenticate(ctx, token)
	if err != nil {
		return User{}, err
	}
	u, err := userOf(who.user)
	for name := range u.Attributes {
		if !who.mayRead(name) {
			delete(u.Attributes, name)
		}
	}
	if err == nil {
		err = s.view(ctx, func(tx *store.Tx) error { return who.pool.factors(tx, &u) })
	}
	return u, err
}

// changeSelf is changeUser for the owner of an access token, who is checked again in the transaction.
func (s *Service) changeSelf(ctx context.Context, who self, change func(*store.Tx, *Pool, *store.PoolUser) error) error {
	_, err := s.changeUser(ctx, who.pool.Scope, who.pool.ID, who.user.Sub, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		again := self{claims: who.claims}
		if err := s.load(tx, p.Scope, p.ID, &again); err != nil {
			return err
		}
		return change(tx, p, u)
	})
	return err
}

// SignOutEverywhere ends all sessions of the token's owner (GlobalSignOut).
func (s *Service) SignOutEverywhere(ctx context.Context, token fleet.Secret) error {
	who, err := s.authenticate(ctx, token)
	if err != nil {
		return err
	}
	return s.changeSelf(ctx, who, s.signOut)
}

// DeleteSelf removes the token's owner.
func (s *Service) DeleteSelf(ctx context.Context, token fleet.Secret) error {
	who, err := s.authenticate(ctx, token)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		again := self{claims: who.claims}
		if err := s.load(tx, who.pool.Scope, who.pool.ID, &again); err != nil {
			return err
		}
		return s.remove(tx, who.pool, who.user.Sub)
	})
}

// limited counts an attempt in a transaction of its own, so that it stays counted whatever follows.
func (s *Service) limited(ctx context.Context, p *Pool, sub, action string, over *fleet.Error) error {
	var tooMany bool
	err := s.tx(ctx, func(tx *store.Tx) (err error) {
		tooMany, err = countHourly(tx, p.Scope, p.ID, userSubject(sub), action, s.now())
		return err
	})
	if err == nil && tooMany {
		return over
	}
	return err
}

// ChangePassword replaces the password of the token's owner, who must know the present one.
func (s *Service) ChangePassword(ctx context.Context, token, previous, proposed fleet.Secret) error {
	who, err := s.authenticate(ctx, token)
	if err != nil {
		return err
	}
	if err := refuseExternal(&who.user); err != nil {
		return err
	}
	if previous == "" {
		return missing("PreviousPassword")
	}
	if err := s.limited(ctx, who.pool, who.user.Sub, changeAttempts, attemptLimit()); err != nil {
		return err
	}
	verifier, err := s.verifierOf(who.pool, &who.user)
	if err != nil {
		return err
	}
	var same bool
	if err := s.compute(ctx, func() {
		same = sameVerifier(srpVerifier(who.pool.key(), who.user.Username, previous.Reveal(), who.user.Salt), verifier)
	}); err != nil {
		return err
	}
	if !same {
		s.guesses.add(ctx)
		return wrongPassword()
	}
	pw, err := s.newPassword(ctx, who.pool, &who.user, who.user.Username, who.user.Sub, proposed.Reveal())
	if err != nil {
		return err
	}
	return s.changeSelf(ctx, who, func(_ *store.Tx, _ *Pool, u *store.PoolUser) error {
		if !u.PasswordSet.Equal(who.user.PasswordSet) { // it was changed meanwhile: the previous one is another
			return wrongPassword()
		}
		setPassword(u, pw, s.now())
		return nil
	})
}

// UpdateSelf changes attributes of the token's owner; an empty value removes one. A new address that the pool verifies gets a
// code; where the pool verifies first, the old address stays until the code is entered.
func (s *Service) UpdateSelf(ctx context.Context, token fleet.Secret, changes map[string]string) ([]CodeDelivery, error) {
	who, err := s.authenticate(ctx, token)
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(changes) {
		if !who.mayWrite(name) {
			return nil, unauthorizedAttribute()
		}
	}
	var messages []order
	if err := s.changeSelf(ctx, who, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		if messages, err = s.amend(ctx, tx, p, u, changes, who.client.ID); err == nil && len(messages) > 0 {
			err = s.check(ctx, s.signUps) // an account that somebody made is no way to send any number of messages to strangers
		}
		return err
	}); err != nil {
		return nil, err
	}
	var sent []CodeDelivery
	for _, o := range messages {
		s.signUps.add(ctx)
		if err := s.deliver(ctx, who.pool, o); err != nil {
			return nil, err
		}
		sent = append(sent, o.delivery())
	}
	return sent, nil
}

// amend changes attributes of a user for a client, "" for an administrator, and returns the messages that it owes: codes for new addresses
// which the pool verifies. Only administrators may say that an address is verified, and then it needs no code.
func (s *Service) amend(ctx context.Context, tx *store.Tx, p *Pool, u *store.PoolUser, changes map[string]string, client string) (messages []order, err error) {
	atOnce := maps.Clone(changes)
	for _, name := range []string{"email", "phone_number"} {
		value, changed := changes[name]
		first := slices.Contains(p.VerifyFirst, name)
		if !changed || value == "" || value == u.Attributes[name] || changes[name+"_verified"] == "true" || !first && !slices.Contains(p.AutoVerified, name) {
			continue
		}
		if err := p.checkAttributes(map[string]string{name: value}); err != nil {
			return nil, err
		}
		if first {
			delete(atOnce, name)
		}
		code := newCode()
		o := newOrder(u, verification, name, value, code, s.now(), confirmLife).by(ctx, "UpdateUserAttribute", client)
		messages = append(messages, o)
		if err := s.owe(tx, p, o); err != nil {
			return nil, err
		}
		if err := s.putCode(tx, p, u.Sub, verifyCode+name, name, value, code, confirmLife); err != nil {
			return nil, err
		}
	}
	return messages, p.change(u, atOnce)
}

// RequestVerification sends a code that proves an address of the token's owner (GetUserAttributeVerificationCode).
func (s *Service) RequestVerification(ctx context.Context, token fleet.Secret, attribute string) (CodeDelivery, error) {
	who, err := s.authenticate(ctx, token)
	if err != nil {
		return CodeDelivery{}, err
	}
	if attribute != "email" && attribute != "phone_number" {
		return CodeDelivery{}, invalid("Only email and phone_number can be verified.")
	}
	if err := s.limited(ctx, who.pool, who.user.Sub, askAttempts, attemptLimit()); err != nil {
		return CodeDelivery{}, err
	}
	var o order
	code := newCode()
	err = s.changeSelf(ctx, who, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		value := u.Attributes[attribute]
		if pending, err := tx.PoolCode(p.Scope, p.ID, u.Sub, verifyCode+attribute); err == nil && slices.Contains(p.VerifyFirst, attribute) {
			value = pending.Value // the address that waits to be verified
		} else if err != nil && !isNotFound(err) {
			return err
		}
		if value == "" {
			return invalid("User has no " + attribute + " to verify.")
		}
		o = newOrder(u, verification, attribute, value, code, s.now(), confirmLife).by(ctx, "VerifyUserAttribute", who.client.ID)
		if err := s.owe(tx, p, o); err != nil {
			return err
		}
		return s.putCode(tx, p, u.Sub, verifyCode+attribute, attribute, value, code, confirmLife)
	})
	if err != nil {
		return CodeDelivery{}, err
	}
	return o.delivery(), s.deliver(ctx, who.pool, o)
}

// VerifyAttribute proves an address of the token's owner with the code that was sent there.
func (s *Service) VerifyAttribute(ctx context.Context, token fleet.Secret, attribute string, code fleet.Secret) error {
	who, err := s.authenticate(ctx, token)
	if err != nil {
		return err
	}
	if err := s.limited(ctx, who.pool, who.user.Sub, verifyAttempts, attemptLimit()); err != nil {
		return err
	}
	var verdict error
	err = s.changeSelf(ctx, who, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		var c store.PoolCode
		if c, verdict, err = s.takeCode(tx, p, u.Sub, verifyCode+attribute, code); err != nil || verdict != nil {
			return err
		}
		return p.prove(u, c)
	})
	if err == nil && verdict != nil {
		s.guesses.add(ctx)
		return verdict
	}
	return err
}

// prove marks the address that a code was sent to as verified. An address that has changed since stays unverified, unless the
// pool verifies first: then the code brings the new address in.
func (p *Pool) prove(u *store.PoolUser, c store.PoolCode) error {
	if c.Attribute == "" {
		return nil
	}
	if u.Attributes[c.Attribute] != c.Value {
		if !slices.Contains(p.VerifyFirst, c.Attribute) {
			return codeExpired()
		}
		if err := p.change(u, map[string]string{c.Attribute: c.Value}); err != nil {
			return err
		}
	}
	u.Attributes[c.Attribute+"_verified"] = "true"
	return nil
}
