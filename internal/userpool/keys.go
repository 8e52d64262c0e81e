package userpool

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// poolKeys are the signing keys of a pool, unsealed. They never change while the pool lives.
type poolKeys struct {
	id, access signingKey // the newest of each purpose
	public     []jwt.Key  // all, so that older tokens verify
}

type signingKey struct {
	kid     string
	private *rsa.PrivateKey
}

// newPoolKeys makes the two keys of a new pool (identity spec 1.8).
func (s *Service) newPoolKeys(ctx context.Context, p *Pool) ([]store.UserPoolKey, error) {
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
		keys = append(keys, store.UserPoolKey{ID: kid, Purpose: purpose, Private: s.seal("signing-key", private, p.Scope, p.ID, kid),
			Public: public, Created: p.Created})
	}
	return keys, nil
}

// poolKeys returns the keys of a pool that the caller knows to exist.
func (s *Service) poolKeys(ctx context.Context, scope fleet.Scope, poolID string) (*poolKeys, error) {
	s.keysMu.Lock()
	k := s.keys[poolID]
	s.keysMu.Unlock()
	if k != nil {
		return k, nil
	}
	var rows []store.UserPoolKey
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		rows, err = tx.UserPoolKeys(scope, poolID)
		return err
	}); err != nil {
		return nil, err
	}
	k = &poolKeys{}
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
		k.public = append(k.public, jwt.Key{ID: row.ID, Public: &private.PublicKey})
		slot := &k.access
		if row.Purpose == "id" {
			slot = &k.id
		}
		if slot.private == nil { // the newest comes first
			*slot = signingKey{row.ID, private}
		}
	}
	if k.id.private == nil || k.access.private == nil {
		return nil, fmt.Errorf("user pool %s has no signing keys", poolID)
	}
	s.keysMu.Lock()
	s.keys[poolID] = k
	s.keysMu.Unlock()
	return k, nil
}

func (k *poolKeys) find(kid string) *rsa.PublicKey {
	for _, key := range k.public {
		if key.ID == kid {
			return key.Public
		}
	}
	return nil
}
