package userpool

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is what administrators do with users. The edge has asked IAM before.

// NewUser describes a user whom an administrator makes.
type NewUser struct {
	Username          string
	Attributes        map[string]string
	TemporaryPassword fleet.Secret      // empty: one is made
	Suppress          bool              // send no invitation
	Resend            bool              // only send the invitation again
	Mediums           []string          // SMS, EMAIL; none: SMS
	ForceAlias        bool              // take aliases away from whoever has them
	Validation        map[string]string // for the PreSignUp trigger
}

// CreateUser makes a user who must change the password at first sign-in, and invites them (AdminCreateUser, identity spec 1.3).
func (s *Service) CreateUser(ctx context.Context, scope fleet.Scope, poolID string, n NewUser) (User, error) {
	if n.Resend {
		return s.inviteAgain(ctx, scope, poolID, n)
	}
	p, err := s.poolFor(ctx, scope, poolID)
	if err != nil {
		return User{}, err
	}
	now := s.now()
	u, err := p.newIdentity(n.Username, n.Attributes, now)
	if err != nil {
		return User{}, err
	}
	temporary := n.TemporaryPassword
	if temporary == "" {
		temporary = p.Password.generate()
	}
	pw, err := s.newPassword(ctx, p, nil, u.Username, u.Sub, temporary.Reveal())
	if err != nil {
		return User{}, err
	}
	u.Status = MustChange
	if err := s.preSignUp(ctx, p, "", "AdminCreateUser", &u, n.Validation); err != nil {
		return User{}, err
	}
	setTemporary(p, &u, pw, now)
	var invitations []order
	if !n.Suppress {
		invitations = p.invitations(ctx, &u, n.Mediums, temporary, now)
	}
	err = s.tx(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, scope, poolID); err != nil { // still there
			return err
		}
		if n.ForceAlias {
			if err := p.release(tx, u, now); err != nil {
				return err
			}
		}
		if err := p.insert(tx, u, "User account already exists"); err != nil {
			return err
		}
		return s.owe(tx, p, invitations...)
	})
	if err != nil {
		return User{}, err
	}
	out, _ := userOf(u)
	return out, s.deliverAll(ctx, p, invitations)
}

// setTemporary gives u a password that must be changed at sign-in and expires.
func setTemporary(p *Pool, u *store.PoolUser, pw password, now time.Time) {
	setPassword(u, pw, now)
	u.TemporaryUntil = now.Add(time.Duration(p.Password.TemporaryDays) * 24 * time.Hour)
}

func setPassword(u *store.PoolUser, pw password, now time.Time) {
	u.Salt, u.Verifier, u.History = pw.salt, pw.verifier, pw.history
	// Whatever was proven with the password before is bound to this time; it must differ from the last one.
	if !now.After(u.PasswordSet) {
		now = u.PasswordSet.Add(time.Millisecond)
	}
	u.PasswordSet, u.TemporaryUntil = now, time.Time{}
}

// inviteAgain renews the temporary password of a user who has not used it yet.
func (s *Service) inviteAgain(ctx context.Context, scope fleet.Scope, poolID string, n NewUser) (User, error) {
	p, seen, err := s.userFor(ctx, scope, poolID, n.Username)
	if err != nil {
		return User{}, err
	}
	if seen.Status != MustChange {
		return User{}, fail(fleet.KindState, "UnsupportedUserStateException", "Resend not possible. "+seen.Username+" status is not FORCE_CHANGE_PASSWORD")
	}
	temporary := n.TemporaryPassword
	if temporary == "" {
		temporary = p.Password.generate()
	}
	pw, err := s.newPassword(ctx, p, seen, seen.Username, seen.Sub, temporary.Reveal())
	if err != nil {
		return User{}, err
	}
	var invitations []order
	u, err := s.changeUser(ctx, scope, poolID, seen.Sub, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		if u.Status != MustChange {
			return fail(fleet.KindState, "UnsupportedUserStateException", "Resend not possible. "+u.Username+" status is not FORCE_CHANGE_PASSWORD")
		}
		setTemporary(p, u, pw, s.now())
		invitations = p.invitations(ctx, u, n.Mediums, temporary, s.now())
		return s.owe(tx, p, invitations...)
	})
	if err != nil {
		return User{}, err
	}
	out, _ := userOf(u)
	return out, s.deliverAll(ctx, p, invitations)
}

// invitations are the messages that carry a temporary password to a user. Where the user has no address of the medium asked for,
// whichever address there is serves; a user without any gets a message without destination, which is kept for the administrator.
func (p *Pool) invitations(ctx context.Context, u *store.PoolUser, mediums []string, temporary fleet.Secret, now time.Time) (list []order) {
	if len(mediums) == 0 {
		mediums = []string{"SMS"}
	}
	to := func(name string) order {
		return newOrder(u, invitation, name, u.Attributes[name], temporary, now, u.TemporaryUntil.Sub(now)).by(ctx, "AdminCreateUser", "")
	}
	attribute := map[string]string{"SMS": "phone_number", "EMAIL": "email"}
	for i, medium := range mediums {
		if name := attribute[medium]; u.Attributes[name] != "" && !slices.Contains(mediums[:i], medium) {
			list = append(list, to(name))
		}
	}
	switch {
	case len(list) > 0:
		return list
	case u.Attributes["phone_number"] != "":
		return []order{to("phone_number")}
	}
	return []order{to("email")}
}

// deliverAll delivers all and returns the first error.
func (s *Service) deliverAll(ctx context.Context, p *Pool, orders []order) (first error) {
	for _, o := range orders {
		if err := s.deliver(ctx, p, o); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// poolFor and userFor read outside of a transaction, for work that must not hold one up.
func (s *Service) poolFor(ctx context.Context, scope fleet.Scope, poolID string) (p *Pool, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		p, err = readPool(tx, scope, poolID)
		return err
	})
	return p, err
}

func (s *Service) userFor(ctx context.Context, scope fleet.Scope, poolID, username string) (p *Pool, u *store.PoolUser, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		p, u, err = readUser(tx, scope, poolID, username)
		return err
	})
	return p, u, err
}

// readUser returns a user by any of their names. It fails with UserNotFoundException.
func readUser(tx *store.Tx, scope fleet.Scope, poolID, username string) (*Pool, *store.PoolUser, error) {
	p, err := readPool(tx, scope, poolID)
	if err != nil {
		return nil, nil, err
	}
	u, err := p.find(tx, username)
	if err == nil && u == nil {
		err = userNotFound()
	}
	return p, u, err
}

// changeUser reads a user, lets change alter it and stores it, in one transaction. It returns the user as stored.
func (s *Service) changeUser(ctx context.Context, scope fleet.Scope, poolID, username string,
	change func(*store.Tx, *Pool, *store.PoolUser) error) (out store.PoolUser, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		p, u, err := readUser(tx, scope, poolID, username)
		if err != nil {
			return err
		}
		old := *u
		u.Attributes = maps.Clone(old.Attributes)
		if err := change(tx, p, u); err != nil {
			return err
		}
		u.Modified = s.now()
		out = *u
		return p.save(tx, old, *u)
	})
	return out, err
}

// User returns a user by username, id or alias.
func (s *Service) User(ctx context.Context, scope fleet.Scope, poolID, username string) (User, error) {
	var out User
	err := s.view(ctx, func(tx *store.Tx) error {
		p, u, err := readUser(tx, scope, poolID, username)
		if err != nil {
			return err
		}
		if out, err = userOf(*u); err != nil {
			return err
		}
		return p.factors(tx, &out)
	})
	return out, err
}

// Users lists users that pass a filter in the language of ListUsers (filter.go). Of their attributes it keeps those named; nil keeps all.
func (s *Service) Users(ctx context.Context, scope fleet.Scope, poolID, filter string, attributes []string, token string, limit int) (users []User, next string, err error) {
	f, err := parseFilter(filter)
	if err != nil {
		return nil, "", err
	}
	after, err := pageKey("users", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		for _, name := range attributes {
			if _, known := p.attribute(name); !known {
				return invalid("One or more requested attributes do not exist in user pool.")
			}
		}
		rows, key, err := tx.PoolUsers(scope, poolID, f, fleet.Page{After: after, Limit: limit})
		if err != nil {
			return err
		}
		next = pageToken("users", key)
		users, err = convert(rows, userOf)
		return err
	})
	for i := range users {
		if attributes != nil {
			maps.DeleteFunc(users[i].Attributes, func(name, _ string) bool { return !slices.Contains(attributes, name) })
		}
	}
	return users, next, err
}

// DeleteUser removes a user with everything that hangs on it.
func (s *Service) DeleteUser(ctx context.Context, scope fleet.Scope, poolID, username string) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		p, u, err := readUser(tx, scope, poolID, username)
		if err != nil {
			return err
		}
		return s.remove(tx, p, u.Sub)
	})
}

func (s *Service) remove(tx *store.Tx, p *Pool, sub string) error {
	if err := tx.DeletePoolUser(p.Scope, p.ID, sub); err != nil {
		return err
	}
	return tx.CutOff(p.Scope, cutSubject(p.ID, sub), s.now())
}

// EnableUser lets a user sign in, or no longer: then their sessions, credentials and unused claims end with it.
func (s *Service) EnableUser(ctx context.Context, scope fleet.Scope, poolID, username string, enabled bool) error {
	_, err := s.changeUser(ctx, scope, poolID, username, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		u.Enabled = enabled
		if enabled {
			return nil
		}
		return s.signOut(tx, p, u)
	})
	return err
}

// SignOutUser ends the sessions of a user everywhere (AdminUserGlobalSignOut).
func (s *Service) SignOutUser(ctx context.Context, scope fleet.Scope, poolID, username string) error {
	_, err := s.changeUser(ctx, scope, poolID, username, s.signOut)
	return err
}

// SetPassword gives a user a password: a lasting one, or one that must be changed at the next sign-in.
func (s *Service) SetPassword(ctx context.Context, scope fleet.Scope, poolID, username string, text fleet.Secret, permanent bool) error {
	p, seen, err := s.userFor(ctx, scope, poolID, username)
	if err != nil {
		return err
	}
	if err := refuseExternal(seen); err != nil {
		return err
	}
	pw, err := s.newPassword(ctx, p, seen, seen.Username, seen.Sub, text.Reveal())
	if err != nil {
		return err
	}
	_, err = s.changeUser(ctx, scope, poolID, seen.Sub, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		if permanent {
			setPassword(u, pw, s.now())
			u.Status = Confirmed
		} else {
			setTemporary(p, u, pw, s.now())
			u.Status = MustChange
		}
		return tx.ClearPoolAttempts(scope, poolID, userSubject(u.Sub), signInAttempts)
	})
	return err
}

// ResetPassword makes the present password worthless and sends the user a code for a new one (AdminResetUserPassword).
func (s *Service) ResetPassword(ctx context.Context, scope fleet.Scope, poolID, username string) error {
	var o order
	code := newCode()
	var pool *Pool
	_, err := s.changeUser(ctx, scope, poolID, username, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		pool = p
		if u.Status == MustChange || u.Status == Unconfirmed || u.Status == External {
			return notAuthorized("User password cannot be reset in the current state.")
		}
		way := *p
		if len(p.Recovery) == 1 && p.Recovery[0].Name == "admin_only" { // this is the administrator
			way.Recovery = nil
		}
		attribute, value, err := way.recoveryAddress(u.Attributes)
		if err != nil {
			return err
		}
		u.Status = ResetRequired
		o = newOrder(u, recovery, attribute, value, code, s.now(), recoverLife).by(ctx, "ForgotPassword", "")
		if err := s.owe(tx, p, o); err != nil {
			return err
		}
		return s.putCode(tx, p, u.Sub, recoverCode, attribute, value, code, recoverLife)
	})
	if err != nil {
		return err
	}
	return s.deliver(ctx, pool, o)
}

// ConfirmUser confirms a sign-up without a code (AdminConfirmSignUp).
func (s *Service) ConfirmUser(ctx context.Context, scope fleet.Scope, poolID, username string) error {
	var pool *Pool
	u, err := s.changeUser(ctx, scope, poolID, username, func(tx *store.Tx, p *Pool, u *store.PoolUser) error {
		pool = p
		if u.Status != Unconfirmed {
			return notAuthorized("User cannot be confirmed. Current status is " + u.Status)
		}
		u.Status = Confirmed
		return tx.DeletePoolCode(scope, poolID, u.Sub, signUpCode)
	})
	if err != nil {
		return err
	}
	return s.postConfirmation(ctx, pool, "", "ConfirmSignUp", &u)
}

// UpdateUser changes attributes of a user; an empty value removes one. New addresses are verified as in UpdateSelf, but for those of which the
// administrator says that they are.
func (s *Service) UpdateUser(ctx context.Context, scope fleet.Scope, poolID, username string, changes map[string]string) error {
	var pool *Pool
	var messages []order
	if _, err := s.changeUser(ctx, scope, poolID, username, func(tx *store.Tx, p *Pool, u *store.PoolUser) (err error) {
		pool = p
		messages, err = s.amend(ctx, tx, p, u, changes, "")
		return err
	}); err != nil {
		return err
	}
	return s.deliverAll(ctx, pool, messages)
}

// DeleteUserAttributes removes attributes of a user.
func (s *Service) DeleteUserAttributes(ctx context.Context, scope fleet.Scope, poolID, username string, names []string) error {
	return s.UpdateUser(ctx, scope, poolID, username, blank(names))
}

func blank(names []string) map[string]string {
	changes := map[string]string{}
	for _, n := range names {
		changes[n] = ""
	}
	return changes
}
