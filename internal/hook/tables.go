package hook

import (
	"context"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

const (
	MaxTables = 256  // of a scope
	MaxKeys   = 1000 // in a request
	maxKey    = 256  // bytes of a key
	keyChunk  = 200  // keys in a transaction, so that a registration never waits long behind it
)

// CreateTable makes an empty table and reports whether there was none of that name. Errors are of KindInvalid and KindLimit.
func (s *Service) CreateTable(ctx context.Context, scope fleet.Scope, name string) (created bool, err error) {
	if !fleet.ValidTableName(name) {
		return false, fleet.Invalid("table", name, "a name has 1 to 64 letters, digits and characters of _.-")
	}
	err = s.Store.Tx(ctx, func(tx *store.Tx) error {
		if created, err = tx.CreateTable(scope, name); err != nil || !created {
			return err
		}
		n, err := tx.CountTables(scope)
		if err == nil && n > MaxTables {
			err = fleet.OverLimit("table", name, "would be one too many: %d are allowed", MaxTables)
		}
		return err
	})
	return created && err == nil, err
}

// AddKeys puts keys into a table, in several transactions, and returns how many were new. What has been put stays when it fails:
// the same call goes on. Errors are of KindInvalid and KindNotFound.
func (s *Service) AddKeys(ctx context.Context, scope fleet.Scope, table string, keys []string) (int, error) {
	return s.inChunks(ctx, keys, func(tx *store.Tx, chunk []string) (int, error) { return tx.AddKeys(scope, table, chunk) })
}

// RemoveKeys takes keys out of a table and returns how many it had. Otherwise it is like AddKeys.
func (s *Service) RemoveKeys(ctx context.Context, scope fleet.Scope, table string, keys []string) (int, error) {
	return s.inChunks(ctx, keys, func(tx *store.Tx, chunk []string) (int, error) { return tx.RemoveKeys(scope, table, chunk) })
}

func (s *Service) inChunks(ctx context.Context, keys []string, do func(*store.Tx, []string) (int, error)) (total int, err error) {
	if len(keys) > MaxKeys {
		return 0, fleet.Invalid("", "", "there are %d keys: a request takes %d", len(keys), MaxKeys)
	}
	for i, key := range keys {
		if key == "" || len(key) > maxKey || !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl) {
			return 0, fleet.Invalid("", "", "key %d of %d: a key has 1 to %d bytes and no control characters", i+1, len(keys), maxKey)
		}
	}
	for chunk := range slices.Chunk(keys, keyChunk) {
		var n int
		if err := s.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			n, err = do(tx, chunk)
			return err
		}); err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// DeleteTable takes a table away at once; Sweep removes its keys. Rules that ask it refuse every device from
// then on. It fails with KindNotFound.
func (s *Service) DeleteTable(ctx context.Context, scope fleet.Scope, name string) error {
	return s.Store.Tx(ctx, func(tx *store.Tx) error { return tx.DeleteTable(scope, name) })
}
