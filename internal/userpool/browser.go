package userpool

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// BrowserLife is how long a browser stays signed in at the pages (identity spec 1.12), from the sign-in on.
const BrowserLife = time.Hour

// newSecret is 256 random bits as text: a cookie, or an authorization code.
func newSecret() fleet.Secret {
	b := make([]byte, 32)
	rand.Read(b)
	return fleet.Secret(base64.RawURLEncoding.EncodeToString(b))
}

// hashOf is under which name the store keeps such a secret. No salt: there is nothing to guess in 256 bits.
func hashOf(s fleet.Secret) string { return digest(s.Reveal()) }

// digest is SHA-256 in hexadecimal.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// issuedBrowser is the browser that a sign-in will make, before only a hash of its cookie is left.
type issuedBrowser struct {
	cookie fleet.Secret
	row    store.PoolBrowser
}

func newBrowser(now time.Time) issuedBrowser {
	cookie := newSecret()
	return issuedBrowser{cookie, store.PoolBrowser{ID: hashOf(cookie), AuthTime: now, Expires: now.Add(BrowserLife)}}
}

// NewCookie is the value of a browser's cookie before anybody has signed in. It is never a session: a sign-in makes another one.
func (s *Service) NewCookie() fleet.Secret { return newSecret() }

// FormToken binds the forms of a site to the cookie of the browser that shows them: whoever lures a browser into sending a form of theirs
// does not know it.
func (s *Service) FormToken(site *Site, cookie fleet.Secret) (string, error) {
	secret, err := s.open("pool-secret", site.Pool.secret, site.Pool.Scope, site.Pool.ID)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(hmacSum(secret, []byte("form\x00"+cookie.Reveal()))), nil
}

// IsFormToken compares in constant time.
func (s *Service) IsFormToken(site *Site, cookie fleet.Secret, token string) (bool, error) {
	want, err := s.FormToken(site, cookie)
	return err == nil && cookie != "" && hmac.Equal([]byte(want), []byte(token)), err
}

// SignedIn reports whether somebody is signed in at the pages in the browser with a cookie.
func (s *Service) SignedIn(ctx context.Context, site *Site, cookie fleet.Secret) (in bool, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		_, _, in, err = s.browser(tx, site.Pool, cookie)
		return err
	})
	return in, err
}

// browser returns who is signed in with a cookie; in is false if nobody is, any more.
func (s *Service) browser(tx *store.Tx, p *Pool, cookie fleet.Secret) (b store.PoolBrowser, u store.PoolUser, in bool, err error) {
	if cookie == "" {
		return b, u, false, nil
	}
	if b, err = tx.PoolBrowser(p.Scope, p.ID, hashOf(cookie)); err == nil && s.now().Before(b.Expires) {
		u, err = tx.PoolUserBySub(p.Scope, p.ID, b.Sub)
		in = err == nil && maySignIn(u)
	}
	if isNotFound(err) {
		return b, u, false, nil
	}
	return b, u, in, err
}

// maySignIn reports whether a user who has proven who they are may have tokens.
func maySignIn(u store.PoolUser) bool {
	switch u.Status {
	case Unconfirmed, MustChange, ResetRequired:
		return false
	}
	return u.Enabled
}

// SignOutBrowser forgets the sign-in of a browser. Tokens that apps got of it live on, until they are revoked.
func (s *Service) SignOutBrowser(ctx context.Context, site *Site, cookie fleet.Secret) error {
	if cookie == "" {
		return nil
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		return tx.DeletePoolBrowser(site.Pool.Scope, site.Pool.ID, hashOf(cookie))
	})
}
