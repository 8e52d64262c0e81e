package store

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// TestSigningInCostsTheSameHoweverManyUsersThereAre: each query on the way is a search by an index.
func TestSigningInCostsTheSameHoweverManyUsersThereAre(t *testing.T) {
	t.Parallel()
	db := open(t)
	const place = `account = 'a' AND region = 'r' AND pool = 'p'`
	for name, query := range map[string]string{
		"client":           `SELECT ` + userPoolClientColumns + ` FROM user_pool_clients WHERE id = 'x'`,
		"pool":             `SELECT ` + userPoolColumns + ` FROM user_pools WHERE id = 'x' AND deleting = 0`,
		"user by name":     `SELECT ` + poolUserColumns + ` FROM pool_users u WHERE ` + place + ` AND u.username = 'x'`,
		"user by id":       `SELECT ` + poolUserColumns + ` FROM pool_users u WHERE ` + place + ` AND u.sub = 'x'`,
		"user by alias":    `SELECT sub FROM pool_user_aliases WHERE ` + place + ` AND kind = 'email' AND value = 'x'`,
		"attributes":       `SELECT sub, name, value FROM pool_user_attributes WHERE ` + place + ` AND sub IN ('x')`,
		"passkey":          `SELECT ` + passkeyColumns + ` FROM pool_passkeys WHERE ` + place + ` AND id = 'x'`,
		"passkeys":         `SELECT ` + passkeyColumns + ` FROM pool_passkeys WHERE ` + place + ` AND sub = 'x' AND id > ''`,
		"groups":           `SELECT grp FROM pool_group_members WHERE ` + place + ` AND sub = 'x'`,
		"attempts":         `SELECT count FROM pool_attempts WHERE ` + place + ` AND subject = 'x' AND action = 'y'`,
		"spent challenges": `SELECT id FROM pool_spent_challenges WHERE ` + place + ` AND id = 'x'`,
		"session":          `SELECT id FROM pool_sessions WHERE ` + place + ` AND id = 'x'`,
		"sessions of user": `UPDATE pool_sessions SET revoked = 1 WHERE ` + place + ` AND sub = 'x'`,
		"refresh token":    `SELECT id FROM pool_refresh_tokens WHERE ` + place + ` AND id = 'x'`,
		"search by value":  `SELECT sub FROM pool_user_attributes WHERE ` + place + ` AND name = 'email' AND value >= 'x' AND value < 'y'`,
		"identity":         `SELECT ` + identityColumns + ` FROM identities WHERE id = 'x'`,
		"identity pool":    `SELECT ` + identityPoolColumns + ` FROM identity_pools WHERE id = 'x'`,
		"login":            `SELECT identity FROM identity_logins WHERE ` + place + ` AND provider = 'x' AND subject = 'y'`,
		"logins":           `SELECT provider FROM identity_logins WHERE ` + place + ` AND identity = 'x'`,
	} {
		err := db.View(t.Context(), func(tx *Tx) error {
			plan, err := all(tx, func(s scanner) (string, error) {
				var id, parent, unused int
				var detail string
				return detail, s.Scan(&id, &parent, &unused, &detail)
			}, `EXPLAIN QUERY PLAN `+query)
			for _, step := range plan {
				if strings.HasPrefix(step, "SCAN") {
					t.Errorf("%s: %s", name, step)
				}
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUserPoolsOfOneScopeAreNothingToAnother(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		mine, other := fleet.Scope{Account: "000000000000", Region: "us-east-1"}, fleet.Scope{Account: "111111111111", Region: "us-east-1"}
		now := time.Now()
		err := db.Tx(t.Context(), func(tx *Tx) error {
			for _, s := range []fleet.Scope{mine, other} { // the same names in both, but for the ids that are unique everywhere
				id := "us-east-1_" + s.Account
				steps := []error{
					tx.CreateUserPool(UserPool{Scope: s, ID: id, Name: "p", Settings: "{}", Secret: []byte{0, 1}}),
					tx.CreatePoolUser(s, "pool", PoolUser{Username: "ada", Sub: "sub", Enabled: true, Attributes: map[string]string{"email": s.Account}}),
					tx.SetPoolAliases(s, "pool", "sub", []PoolAlias{{"email", "a@b"}}),
					tx.CreatePoolGroup(s, "pool", PoolGroup{Name: "g", Description: s.Account}),
					tx.AddPoolGroupMember(s, "pool", "sub", "g"),
					tx.AddPoolSession(s, "pool", PoolSession{ID: "session", Sub: "sub", Expires: now.Add(time.Hour)}),
					tx.AddRefreshToken(s, "pool", RefreshToken{ID: "token", Session: "session", Hash: []byte{0xff}, Expires: now.Add(time.Hour)}),
					tx.PutPoolCode(s, "pool", "sub", PoolCode{Purpose: "signup", Code: []byte{1}, Expires: now.Add(time.Hour)}),
				}
				for _, err := range steps {
					if err != nil {
						return err
					}
				}
			}
			return tx.DeletePoolUser(other, "pool", "sub")
		})
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(t.Context(), func(tx *Tx) error {
			u, err := tx.PoolUserByAlias(mine, "pool", "email", "a@b")
			if err != nil || u.Username != "ada" || u.Attributes["email"] != mine.Account || !u.Enabled {
				t.Errorf("user %+v, %v", u, err)
			}
			if _, err := tx.PoolSession(mine, "pool", "session"); err != nil {
				t.Error(err)
			}
			if r, err := tx.RefreshToken(mine, "pool", "token"); err != nil || len(r.Hash) != 1 || r.Hash[0] != 0xff {
				t.Errorf("refresh token %+v, %v", r, err)
			}
			if _, err := tx.PoolCode(mine, "pool", "sub", "signup"); err != nil {
				t.Error(err)
			}
			if subs, err := tx.PoolGroupSubs(mine, "pool", "g", 10); err != nil || len(subs) != 1 {
				t.Errorf("members %v, %v", subs, err)
			}
			for _, err := range []error{
				second(tx.PoolUserBySub(other, "pool", "sub")), second(tx.PoolSession(other, "pool", "session")), second(tx.RefreshToken(other, "pool", "token")),
				second(tx.PoolCode(other, "pool", "sub", "signup")), second(tx.UserPool(other, "us-east-1_"+mine.Account)),
			} {
				if fleet.KindOf(err) != fleet.KindNotFound {
					t.Errorf("another scope's row: %v", err)
				}
			}
			if p, err := tx.FindUserPool("us-east-1_" + mine.Account); err != nil || p.Scope != mine || string(p.Secret) != "\x00\x01" {
				t.Errorf("pool %+v, %v", p, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func second[T any](_ T, err error) error {
	if err == nil {
		return &fleet.Error{Msg: "found"}
	}
	return err
}

// TestUsersAreFoundByIndexes: each step of these plans goes to what it looks for. Reading all of a pool by the beginning of an index is a
// search too, in SQLite's words.
func TestUsersAreFoundByIndexes(t *testing.T) {
	t.Parallel()
	db := openWith(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db")})
	s := fleet.Scope{Account: "000000000000", Region: "us-east-1"}
	list := func(f PoolUserFilter) (string, []any) { return poolUsersQuery(s, "p", f, fleet.Page{Limit: 10}) }
	byValue, valueArgs := list(PoolUserFilter{Field: "email", Value: "x"})
	byPrefix, prefixArgs := list(PoolUserFilter{Field: "email", Value: "x", Prefix: true})
	bySub, subArgs := list(PoolUserFilter{Field: "sub", Value: "x"})
	for _, c := range []struct {
		query string
		args  []any
		steps []string
	}{
		{attributesOf(1), []any{"a", "r", "p", "x", "x"}, []string{"sub=?"}},
		{attributesOf(2), []any{"a", "r", "p", "x", "y", "y"}, []string{"sub=?"}},
		{byValue, valueArgs, []string{"name=? AND value=?", "sub=?"}},
		{byPrefix, prefixArgs, []string{"name=? AND value>? AND value<?", "sub=?"}},
		{bySub, subArgs, []string{"sub=?"}},
	} {
		var plan []string
		err := db.View(t.Context(), func(tx *Tx) (err error) {
			plan, err = all(tx, func(s scanner) (string, error) {
				var id, parent, unused int
				var detail string
				return detail, s.Scan(&id, &parent, &unused, &detail)
			}, `EXPLAIN QUERY PLAN `+c.query, c.args...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.steps {
			if i >= len(plan) || !strings.Contains(plan[i], want) {
				t.Errorf("%s goes by %q, want %q in step %d", c.query, plan, want, i+1)
			}
		}
	}
}
