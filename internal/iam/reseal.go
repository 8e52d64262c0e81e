package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/store"
)

// A Resealer seals again, under the current master key, what was sealed under an older one; nil: nothing to do.
type Resealer interface {
	Reseal(purpose string, sealed, aad []byte) ([]byte, error)
}

// Reseal brings every secret of an access key under the current master key and returns how many it changed. Session tokens are
// not stored: those sealed under an older key end with it.
func Reseal(ctx context.Context, db *store.DB, r Resealer) (int, error) {
	return db.ReplaceSealed(ctx, store.SealedAccessKeys, func(v store.SealedValue) ([]byte, error) {
		return r.Reseal(purposeKey, v.Value, []byte(v.Keys[0]))
	})
}
