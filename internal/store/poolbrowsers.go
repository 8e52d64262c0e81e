package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A PoolBrowser is a browser in which somebody is signed in at the pages of a pool. Its ID is a hash of the cookie.
type PoolBrowser struct {
	ID, Sub           string
	AuthTime, Expires time.Time
}

// PoolBrowser returns a browser. It fails with KindNotFound.
func (tx *Tx) PoolBrowser(s fleet.Scope, pool, id string) (PoolBrowser, error) {
	return find(tx, "browser", id, func(s scanner) (b PoolBrowser, err error) {
		var auth, expires int64
		err = s.Scan(&b.ID, &b.Sub, &auth, &expires)
		b.AuthTime, b.Expires = fromMillis(auth), fromMillis(expires)
		return b, err
	}, `SELECT id, sub, auth_time, expires FROM pool_browsers WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, pool, id)
}

// AddPoolBrowser stores a browser.
func (tx *Tx) AddPoolBrowser(s fleet.Scope, pool string, b PoolBrowser) error {
	_, err := tx.exec(`INSERT INTO pool_browsers (account, region, pool, id, sub, auth_time, expires) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, b.ID, b.Sub, millis(b.AuthTime), millis(b.Expires))
	return err
}

// DeletePoolBrowser forgets a browser.
func (tx *Tx) DeletePoolBrowser(s fleet.Scope, pool, id string) error {
	_, err := tx.exec(`DELETE FROM pool_browsers WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, pool, id)
	return err
}

// endPoolBrowsers forgets all browsers of a user, and the codes that came from them.
func (tx *Tx) endPoolBrowsers(s fleet.Scope, pool, sub string) error {
	for _, table := range []string{"pool_browsers", "pool_auth_codes"} {
		if _, err := tx.exec(`DELETE FROM `+table+` WHERE account = ? AND region = ? AND pool = ? AND sub = ?`, s.Account, s.Region, pool, sub); err != nil {
			return err
		}
	}
	return nil
}

// An AuthCode is an authorization code and what it stands for. Its ID is a hash of the code.
type AuthCode struct {
	ID, Client, Sub   string
	Redirect          string // redirect_uri as the request had it; empty: it had none
	Scope, Nonce      string
	Challenge         string // of PKCE; empty: none
	AuthTime, Expires time.Time
	Session           string // that it was traded for; empty: none yet
}

// AuthCode returns an authorization code. It fails with KindNotFound.
func (tx *Tx) AuthCode(s fleet.Scope, pool, id string) (AuthCode, error) {
	return find(tx, "authorization code", "", func(s scanner) (c AuthCode, err error) {
		var auth, expires int64
		err = s.Scan(&c.ID, &c.Client, &c.Sub, &c.Redirect, &c.Scope, &c.Nonce, &c.Challenge, &auth, &expires, &c.Session)
		c.AuthTime, c.Expires = fromMillis(auth), fromMillis(expires)
		return c, err
	}, `SELECT id, client, sub, redirect, scope, nonce, challenge, auth_time, expires, session FROM pool_auth_codes
		WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, pool, id)
}

// AddAuthCode stores an authorization code.
func (tx *Tx) AddAuthCode(s fleet.Scope, pool string, c AuthCode) error {
	_, err := tx.exec(`INSERT INTO pool_auth_codes (account, region, pool, id, client, sub, redirect, scope, nonce, challenge, auth_time, expires, session)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, c.ID, c.Client, c.Sub, c.Redirect, c.Scope, c.Nonce, c.Challenge, millis(c.AuthTime), millis(c.Expires), c.Session)
	return err
}

// SpendAuthCode records the session that a code was traded for.
func (tx *Tx) SpendAuthCode(s fleet.Scope, pool, id, session string) error {
	_, err := tx.exec(`UPDATE pool_auth_codes SET session = ? WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		session, s.Account, s.Region, pool, id)
	return err
}

// DeleteAuthCode removes a code.
func (tx *Tx) DeleteAuthCode(s fleet.Scope, pool, id string) error {
	_, err := tx.exec(`DELETE FROM pool_auth_codes WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, pool, id)
	return err
}
