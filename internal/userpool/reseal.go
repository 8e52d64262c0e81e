package userpool

import (
	"context"

	"github.com/imprint-iot/imprint/internal/store"
)

// A Resealer seals again, under the current master key, what was sealed under an older one; nil: nothing to do.
type Resealer interface {
	Reseal(purpose string, sealed, aad []byte) ([]byte, error)
}

// stored names the purpose of each sealed column of user pools. Challenges and sessions of a sign-in are not stored: those
// sealed under an older key end with it.
var stored = []struct {
	column  store.SealedColumn
	purpose string
}{
	{store.SealedPoolSecrets, "pool-secret"},
	{store.SealedPoolKeys, "signing-key"},
	{store.SealedPoolClients, "client-secret"},
	{store.SealedVerifiers, "verifier"},
	{store.SealedHistories, "password-history"},
	{store.SealedPoolCodes, "code"},
	{store.SealedTokens, "software-token"},
	{store.SealedProviders, "provider"},
	{store.SealedPoolMessages, "message"},
}

// Reseal brings everything sealed of all user pools under the current master key and returns how many values it changed.
func Reseal(ctx context.Context, db *store.DB, r Resealer) (n int, err error) {
	for _, s := range stored {
		changed, err := db.ReplaceSealed(ctx, s.column, func(v store.SealedValue) ([]byte, error) {
			return r.Reseal("userpool/"+s.purpose, v.Value, placeOf(v.Scope, v.Keys))
		})
		n += changed
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
