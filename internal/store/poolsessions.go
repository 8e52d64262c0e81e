package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A PoolSession is one sign-in with everything that was refreshed from it. Its ID is the tokens' origin_jti.
type PoolSession struct {
	ID, Sub, Client string
	Scope           string // what the client was granted, divided by spaces; empty: a sign-in by the API
	AuthTime        time.Time
	Expires         time.Time
	Revoked         time.Time // zero: live
	Groups          string    // that a trigger chose for its tokens, in the rules' JSON; empty: those of the user
}

// PoolSession returns a session. It fails with KindNotFound.
func (tx *Tx) PoolSession(s fleet.Scope, pool, id string) (PoolSession, error) {
	return find(tx, "session", id, func(s scanner) (p PoolSession, err error) {
		var auth, expires, revoked int64
		err = s.Scan(&p.ID, &p.Sub, &p.Client, &p.Scope, &auth, &expires, &revoked, &p.Groups)
		p.AuthTime, p.Expires, p.Revoked = fromMillis(auth), fromMillis(expires), fromMillis(revoked)
		return p, err
	}, `SELECT id, sub, client, scope, auth_time, expires, revoked, chosen FROM pool_sessions WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		s.Account, s.Region, pool, id)
}

// AddPoolSession stores a session.
func (tx *Tx) AddPoolSession(s fleet.Scope, pool string, p PoolSession) error {
	_, err := tx.exec(`INSERT INTO pool_sessions (account, region, pool, id, sub, client, scope, auth_time, expires, revoked)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, s.Account, s.Region, pool, p.ID, p.Sub, p.Client, p.Scope, millis(p.AuthTime), millis(p.Expires), millis(p.Revoked))
	return err
}

// SetPoolSessionGroups stores the groups that a trigger chose for the tokens of a session.
func (tx *Tx) SetPoolSessionGroups(s fleet.Scope, pool, id, groups string) error {
	_, err := tx.exec(`UPDATE pool_sessions SET chosen = ? WHERE account = ? AND region = ? AND pool = ? AND id = ?`, groups, s.Account, s.Region, pool, id)
	return err
}

// RevokePoolSession ends a session at the time at, unless it has ended before.
func (tx *Tx) RevokePoolSession(s fleet.Scope, pool, id string, at time.Time) error {
	_, err := tx.exec(`UPDATE pool_sessions SET revoked = ? WHERE account = ? AND region = ? AND pool = ? AND id = ? AND revoked = 0`,
		millis(at), s.Account, s.Region, pool, id)
	return err
}

// RevokePoolSessions ends all sessions of a user at the time at, those in browsers too.
func (tx *Tx) RevokePoolSessions(s fleet.Scope, pool, sub string, at time.Time) error {
	if err := tx.endPoolBrowsers(s, pool, sub); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE pool_sessions SET revoked = ? WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND revoked = 0`,
		millis(at), s.Account, s.Region, pool, sub)
	return err
}

// EndPoolSessions removes all sessions of a user and their refresh tokens.
func (tx *Tx) EndPoolSessions(s fleet.Scope, pool, sub string) error {
	if err := tx.endPoolBrowsers(s, pool, sub); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM pool_refresh_tokens WHERE account = ? AND region = ? AND pool = ? AND session IN
		(SELECT id FROM pool_sessions WHERE account = ? AND region = ? AND pool = ? AND sub = ?)`,
		s.Account, s.Region, pool, s.Account, s.Region, pool, sub)
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM pool_sessions WHERE account = ? AND region = ? AND pool = ? AND sub = ?`, s.Account, s.Region, pool, sub)
	return err
}

// A RefreshToken renews the tokens of a session. Only a hash of it is stored.
type RefreshToken struct {
	ID, Session string
	Hash        []byte
	Expires     time.Time
	Rotated     time.Time // when it was traded for the next one; zero: never
}

// RefreshToken returns a refresh token. It fails with KindNotFound.
func (tx *Tx) RefreshToken(s fleet.Scope, pool, id string) (RefreshToken, error) {
	return find(tx, "refresh token", id, func(s scanner) (r RefreshToken, err error) {
		var expires, rotated int64
		err = s.Scan(&r.ID, &r.Session, &r.Hash, &expires, &rotated)
		r.Expires, r.Rotated = fromMillis(expires), fromMillis(rotated)
		return r, err
	}, `SELECT id, session, hash, expires, rotated FROM pool_refresh_tokens WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		s.Account, s.Region, pool, id)
}

// AddRefreshToken stores a refresh token.
func (tx *Tx) AddRefreshToken(s fleet.Scope, pool string, r RefreshToken) error {
	_, err := tx.exec(`INSERT INTO pool_refresh_tokens (account, region, pool, id, session, hash, expires, rotated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, r.ID, r.Session, r.Hash, millis(r.Expires), millis(r.Rotated))
	return err
}

// RotateRefreshToken records that a token was traded for the next one at the time at; the first trade counts.
func (tx *Tx) RotateRefreshToken(s fleet.Scope, pool, id string, at time.Time) error {
	_, err := tx.exec(`UPDATE pool_refresh_tokens SET rotated = ? WHERE account = ? AND region = ? AND pool = ? AND id = ? AND rotated = 0`,
		millis(at), s.Account, s.Region, pool, id)
	return err
}

// A PoolCode is a confirmation code on its way to a user. Code is sealed.
type PoolCode struct {
	Purpose   string // signup, recover, verify:ATTRIBUTE
	Code      []byte
	Attribute string // that the code proves
	Value     string // the address it was sent to
	Failures  int
	Expires   time.Time
}

// PoolCode returns the code of a user for a purpose. It fails with KindNotFound.
func (tx *Tx) PoolCode(s fleet.Scope, pool, sub, purpose string) (PoolCode, error) {
	return find(tx, "code", purpose, func(s scanner) (c PoolCode, err error) {
		var expires int64
		err = s.Scan(&c.Purpose, &c.Code, &c.Attribute, &c.Value, &c.Failures, &expires)
		c.Expires = fromMillis(expires)
		return c, err
	}, `SELECT purpose, code, attribute, value, failures, expires FROM pool_user_codes
		WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND purpose = ?`, s.Account, s.Region, pool, sub, purpose)
}

// PutPoolCode stores a code in place of an earlier one for the same purpose.
func (tx *Tx) PutPoolCode(s fleet.Scope, pool, sub string, c PoolCode) error {
	_, err := tx.exec(`INSERT INTO pool_user_codes (account, region, pool, sub, purpose, code, attribute, value, failures, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, pool, sub, purpose) DO UPDATE SET code = excluded.code, attribute = excluded.attribute,
			value = excluded.value, failures = excluded.failures, expires = excluded.expires`,
		s.Account, s.Region, pool, sub, c.Purpose, c.Code, c.Attribute, c.Value, c.Failures, millis(c.Expires))
	return err
}

// DeletePoolCode removes a code.
func (tx *Tx) DeletePoolCode(s fleet.Scope, pool, sub, purpose string) error {
	_, err := tx.exec(`DELETE FROM pool_user_codes WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND purpose = ?`,
		s.Account, s.Region, pool, sub, purpose)
	return err
}

// PoolAttempts counts what somebody tried. Until is the end of a lock or of a counting window, after Expires all is forgotten.
type PoolAttempts struct {
	Count          int
	Until, Expires time.Time
}

// PoolAttempts returns the counter of a subject and an action, the zero counter if there is none.
func (tx *Tx) PoolAttempts(s fleet.Scope, pool, subject, action string) (PoolAttempts, error) {
	a, _, err := one(tx, func(s scanner) (a PoolAttempts, err error) {
		var until, expires int64
		err = s.Scan(&a.Count, &until, &expires)
		a.Until, a.Expires = fromMillis(until), fromMillis(expires)
		return a, err
	}, `SELECT count, until, expires FROM pool_attempts WHERE account = ? AND region = ? AND pool = ? AND subject = ? AND action = ?`,
		s.Account, s.Region, pool, subject, action)
	return a, err
}

// PutPoolAttempts stores a counter.
func (tx *Tx) PutPoolAttempts(s fleet.Scope, pool, subject, action string, a PoolAttempts) error {
	_, err := tx.exec(`INSERT INTO pool_attempts (account, region, pool, subject, action, count, until, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, pool, subject, action) DO UPDATE SET count = excluded.count, until = excluded.until, expires = excluded.expires`,
		s.Account, s.Region, pool, subject, action, a.Count, millis(a.Until), millis(a.Expires))
	return err
}

// ClearPoolAttempts forgets a counter.
func (tx *Tx) ClearPoolAttempts(s fleet.Scope, pool, subject, action string) error {
	_, err := tx.exec(`DELETE FROM pool_attempts WHERE account = ? AND region = ? AND pool = ? AND subject = ? AND action = ?`,
		s.Account, s.Region, pool, subject, action)
	return err
}

// SpendChallenge records that a challenge was answered and reports whether this was the first time.
func (tx *Tx) SpendChallenge(s fleet.Scope, pool, id string, expires time.Time) (first bool, err error) {
	return changedRows(tx.exec(`INSERT INTO pool_spent_challenges (account, region, pool, id, expires) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, region, pool, id) DO NOTHING`, s.Account, s.Region, pool, id, millis(expires)))
}

// SweepUserPools removes at most n rows of each kind that expired before now and reports whether more may be left.
func (tx *Tx) SweepUserPools(now time.Time, n int) (more bool, err error) {
	for _, t := range []struct{ table, key string }{
		{"pool_refresh_tokens", "account, region, pool, id"},
		{"pool_sessions", "account, region, pool, id"},
		{"pool_user_codes", "account, region, pool, sub, purpose"},
		{"pool_attempts", "account, region, pool, subject, action"},
		{"pool_spent_challenges", "account, region, pool, id"},
		{"pool_messages", "account, region, pool, id"},
		{"pool_browsers", "account, region, pool, id"},
		{"pool_auth_codes", "account, region, pool, id"},
	} {
		r, err := tx.exec(`DELETE FROM `+t.table+` WHERE (`+t.key+`) IN (SELECT `+t.key+` FROM `+t.table+` WHERE expires < ? LIMIT ?)`, millis(now), n)
		if err != nil {
			return false, err
		}
		count, err := r.RowsAffected()
		if err != nil {
			return false, err
		}
		more = more || count == int64(n)
	}
	return more, nil
}
