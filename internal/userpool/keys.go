package userpool

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// A pool has a key for Id tokens and one for access tokens (identity spec 1.8). When they are rotated, a new key is published at
// once but signs only after keyLead, when every verifier that keeps the key set for as long as it is told to has it; the one
// before stays published until the last token that it can have signed is over.
const (
	keyLead  = wellKnownAge * time.Second
	tokenMax = 24 * time.Hour // longest life of an Id or access token that a client may have
)

// poolKeys are the keys of a pool at a moment, unsealed.
type poolKeys struct {
	id, access signingKey // that sign now
	public     []jwt.Key  // that are published: of tokens which may still live, and of those to come
}

// heldKeys are all keys of a pool, the newest first; they change by rotation only.
type heldKeys []signingKey

type signingKey struct {
	kid, purpose string
	created      time.Time
	private      *rsa.PrivateKey
}

// at returns the keys as they are at a moment.
func (h heldKeys) at(now time.Time) *poolKeys {
	k := &poolKeys{}
	for _, purpose := range []string{"id", "access"} {
		slot := &k.access
		if purpose == "id" {
			slot = &k.id
		}
		mine := slices.DeleteFunc(slices.Clone(h), func(key signingKey) bool { return key.purpose != purpose })
		for i, key := range mine {
			first := i == len(mine)-1 // nobody signed before it: it signs from the beginning
			signs := first || !now.Before(key.created.Add(keyLead))
			switch {
			case slot.private != nil && !now.Before(mine[i-1].created.Add(keyLead+tokenMax)):
				continue // what it signed is over
			case slot.private == nil && signs:
				*slot = key
			}
			k.public = append(k.public, jwt.Key{ID: key.kid, Public: &key.private.PublicKey})
		}
	}
	return k
}

// newPoolKeys makes the two keys of a pool (identity spec 1.8).
func (s *Service) newPoolKeys(ctx context.Context, scope fleet.Scope, poolID string, created time.Time) ([]store.UserPoolKey, error) {
	var keys []store.UserPoolKey
	for _, purpose := range []string{"id", "access"} {
		key, err := s.cfg.Keys.Take(ctx)
		if err != nil {
			return nil, fmt.Errorf("making a signing key: %w", err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("making a signing key: %w", err)
		}
		public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("making a signing key: %w", err)
		}
		kid := jwt.Thumbprint(&key.PublicKey)
		keys = append(keys, store.UserPoolKey{ID: kid, Purpose: purpose, Private: s.seal("signing-key", private, scope, poolID, kid),
			Public: public, Created: created})
	}
	return keys, nil
}

// A KeyRotation is what RotateKeys did.
type KeyRotation struct {
	KeyIDs []string
	Signs  time.Time // from when on the new keys sign
	Gone   time.Time // when the keys of before are no longer published
}

// RotateKeys gives a pool new signing keys. Tokens of before stay good until they are over. With now, for keys that somebody else has,
// the old ones are gone at once and so are their tokens; sessions live on, and refresh tokens give new ones.
func (s *Service) RotateKeys(ctx context.Context, scope fleet.Scope, poolID string, now bool) (KeyRotation, error) {
	if _, err := s.poolFor(ctx, scope, poolID); err != nil {
		return KeyRotation{}, err
	}
	at := s.now()
	made, err := s.newPoolKeys(ctx, scope, poolID, at)
	if err != nil {
		return KeyRotation{}, err
	}
	out := KeyRotation{Signs: at.Add(keyLead), Gone: at.Add(keyLead + tokenMax)}
	if now {
		out.Signs, out.Gone = at, at
	}
	for _, k := range made {
		out.KeyIDs = append(out.KeyIDs, k.ID)
	}
	return out, s.tx(ctx, func(tx *store.Tx) error {
		rows, err := tx.UserPoolKeys(scope, poolID)
		if err != nil {
			return err
		}
		held := heldKeys{}
		for _, row := range rows {
			held = append(held, signingKey{kid: row.ID, purpose: row.Purpose, created: row.Created, private: &rsa.PrivateKey{}})
		}
		published := held.at(at)
		for _, row := range rows {
			if now || !slices.ContainsFunc(published.public, func(k jwt.Key) bool { return k.ID == row.ID }) {
				if err := tx.DeleteUserPoolKey(scope, poolID, row.ID); err != nil {
					return err
				}
			}
		}
		if !now && len(rows) > maxKeys {
			return fleet.OverLimit("", "", "the pool has been rotated %d times within a day; wait, or rotate at once", maxKeys/2).WithCode("LimitExceededException")
		}
		for _, k := range made {
			if len(rows) > 0 && !k.Created.After(rows[0].Created) { // of two with one time nobody knows which is newer
				k.Created = rows[0].Created.Add(time.Millisecond)
			}
			if err := tx.AddUserPoolKey(scope, poolID, k); err != nil {
				return err
			}
		}
		return nil
	})
}

const maxKeys = 20 // of a pool; a key set must stay small

// poolKeys returns the keys of a pool that the caller knows to exist.
func (s *Service) poolKeys(ctx context.Context, scope fleet.Scope, poolID string) (*poolKeys, error) {
	s.keysMu.Lock()
	held, generation := s.keys[poolID], s.keysSeen
	s.keysMu.Unlock()
	if held == nil {
		var err error
		if held, err = s.readKeys(ctx, scope, poolID); err != nil {
			return nil, err
		}
		s.keysMu.Lock()
		if s.keysSeen == generation { // nothing was rotated meanwhile
			s.keys[poolID] = held
		}
		s.keysMu.Unlock()
	}
	k := held.at(s.now())
	if k.id.private == nil || k.access.private == nil {
		return nil, fmt.Errorf("user pool %s has no signing keys", poolID)
	}
	return k, nil
}

func (s *Service) readKeys(ctx context.Context, scope fleet.Scope, poolID string) (held heldKeys, err error) {
	var rows []store.UserPoolKey
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		rows, err = tx.UserPoolKeys(scope, poolID)
		return err
	}); err != nil {
		return nil, err
	}
	for _, row := range rows {
		der, err := s.open("signing-key", row.Private, scope, poolID, row.ID)
		if err != nil {
			return nil, err
		}
		parsed, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("reading a signing key: %w", err)
		}
		private, ok := parsed.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("reading a signing key: it is a %T", parsed)
		}
		held = append(held, signingKey{row.ID, row.Purpose, row.Created, private})
	}
	return held, nil
}

func (k *poolKeys) find(kid string) *rsa.PublicKey {
	for _, key := range k.public {
		if key.ID == kid {
			return key.Public
		}
	}
	return nil
}
