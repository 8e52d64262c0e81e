package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A PoolUser is a user of a pool as stored. Verifier and History are sealed by the rules.
type PoolUser struct {
	Username          string // canonical: the verifier is computed over it
	Sub               string
	Status            string
	Enabled           bool
	Salt              []byte
	Verifier, History []byte
	PasswordSet       time.Time
	TemporaryUntil    time.Time // zero: the password is not temporary
	SignedOut         time.Time // zero: never
	Created, Modified time.Time
	Attributes        map[string]string // without sub
}

const poolUserColumns = `u.username, u.sub, u.status, u.enabled, u.salt, u.verifier, u.history, u.password_set, u.temporary_until, u.signed_out, u.created, u.modified`

func scanPoolUser(s scanner) (u PoolUser, err error) {
	var set, until, out, created, modified int64
	err = s.Scan(&u.Username, &u.Sub, &u.Status, &u.Enabled, &u.Salt, &u.Verifier, &u.History, &set, &until, &out, &created, &modified)
	u.PasswordSet, u.TemporaryUntil, u.SignedOut = fromMillis(set), fromMillis(until), fromMillis(out)
	u.Created, u.Modified = fromMillis(created), fromMillis(modified)
	return u, err
}

// PoolUserByName returns the user with a canonical username. It fails with KindNotFound.
func (tx *Tx) PoolUserByName(s fleet.Scope, pool, username string) (PoolUser, error) {
	return tx.poolUser(s, pool, username, `SELECT `+poolUserColumns+` FROM pool_users u
		WHERE u.account = ? AND u.region = ? AND u.pool = ? AND u.username = ?`)
}

// PoolUserBySub returns the user with an id. It fails with KindNotFound.
func (tx *Tx) PoolUserBySub(s fleet.Scope, pool, sub string) (PoolUser, error) {
	return tx.poolUser(s, pool, sub, `SELECT `+poolUserColumns+` FROM pool_users u WHERE u.account = ? AND u.region = ? AND u.pool = ? AND u.sub = ?`)
}

// PoolUserByAlias returns the user who owns a folded alias of a kind. It fails with KindNotFound.
func (tx *Tx) PoolUserByAlias(s fleet.Scope, pool, kind, value string) (PoolUser, error) {
	return tx.poolUser(s, pool, value, `SELECT `+poolUserColumns+` FROM pool_user_aliases a JOIN pool_users u
		ON u.account = a.account AND u.region = a.region AND u.pool = a.pool AND u.sub = a.sub
		WHERE a.account = ? AND a.region = ? AND a.pool = ? AND a.value = ? AND a.kind = ?`, kind)
}

func (tx *Tx) poolUser(s fleet.Scope, pool, key, query string, args ...any) (PoolUser, error) {
	u, found, err := one(tx, scanPoolUser, query, append([]any{s.Account, s.Region, pool, key}, args...)...)
	if err == nil && !found {
		err = fleet.NotFound("user", key)
	}
	if err != nil {
		return u, err
	}
	users := []PoolUser{u}
	err = tx.loadAttributes(s, pool, users)
	return users[0], err
}

// loadAttributes fills the attributes of users, some hundreds at most.
func (tx *Tx) loadAttributes(s fleet.Scope, pool string, users []PoolUser) error {
	if len(users) == 0 {
		return nil
	}
	args := []any{s.Account, s.Region, pool}
	at := make(map[string]int, len(users))
	for i := range users {
		users[i].Attributes = map[string]string{}
		at[users[i].Sub] = i
		args = append(args, users[i].Sub)
	}
	rows, err := tx.rows(attributesOf(len(users)), append(args, users[len(users)-1].Sub)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var sub, name, value string
		if err := rows.Scan(&sub, &name, &value); err != nil {
			return err
		}
		users[at[sub]].Attributes[name] = value
	}
	return rows.Err()
}

// attributesOf is the query for the attributes of n users, the last of whom is named twice. Without its order SQLite reads all of the pool by
// the index of values, which has each column that is asked for; with one user alone there would be no order.
func attributesOf(n int) string {
	return `SELECT sub, name, value FROM pool_user_attributes WHERE account = ? AND region = ? AND pool = ? AND sub IN (?` +
		strings.Repeat(", ?", n) + `) ORDER BY account, region, pool, sub, name`
}

// CreatePoolUser adds a user with its attributes. It fails with KindExists if the username is taken.
func (tx *Tx) CreatePoolUser(s fleet.Scope, pool string, u PoolUser) error {
	added, err := tx.insert(`INSERT INTO pool_users (account, region, pool, username, sub, status, enabled, salt, verifier, history, password_set,
			temporary_until, signed_out, created, modified)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, u.Username, u.Sub, u.Status, flag(u.Enabled), blob(u.Salt), blob(u.Verifier), blob(u.History), millis(u.PasswordSet),
		millis(u.TemporaryUntil), millis(u.SignedOut), millis(u.Created), millis(u.Modified))
	if err == nil && !added {
		return fleet.Exists("user", u.Username, "already exists")
	}
	if err != nil {
		return err
	}
	return tx.storeAttributes(s, pool, u.Sub, nil, u.Attributes)
}

// UpdatePoolUser stores everything but username, sub and creation time in place of old, which the caller has read in this
// transaction.
func (tx *Tx) UpdatePoolUser(s fleet.Scope, pool string, old, u PoolUser) error {
	_, err := tx.exec(`UPDATE pool_users SET status = ?, enabled = ?, salt = ?, verifier = ?, history = ?, password_set = ?, temporary_until = ?,
			signed_out = ?, modified = ?
		WHERE account = ? AND region = ? AND pool = ? AND username = ?`,
		u.Status, flag(u.Enabled), blob(u.Salt), blob(u.Verifier), blob(u.History), millis(u.PasswordSet), millis(u.TemporaryUntil),
		millis(u.SignedOut), millis(u.Modified), s.Account, s.Region, pool, u.Username)
	if err != nil {
		return err
	}
	tx.Changed(s, ChangedPoolUser, pool+"/"+u.Sub)
	return tx.storeAttributes(s, pool, u.Sub, old.Attributes, u.Attributes)
}

func (tx *Tx) storeAttributes(s fleet.Scope, pool, sub string, from, to map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, kept := to[name]; kept {
			continue
		}
		if _, err := tx.exec(`DELETE FROM pool_user_attributes WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND name = ?`,
			s.Account, s.Region, pool, sub, name); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to)) {
		if v, had := from[name]; had && v == to[name] {
			continue
		}
		if _, err := tx.exec(`INSERT INTO pool_user_attributes (account, region, pool, sub, name, value) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (account, region, pool, sub, name) DO UPDATE SET value = excluded.value`,
			s.Account, s.Region, pool, sub, name, to[name]); err != nil {
			return err
		}
	}
	return nil
}

// DeletePoolUser removes a user with everything that belongs to it.
func (tx *Tx) DeletePoolUser(s fleet.Scope, pool, sub string) error {
	if err := tx.EndPoolSessions(s, pool, sub); err != nil {
		return err
	}
	for _, table := range []string{"pool_identities", "pool_messages", "pool_passkeys", "pool_software_tokens", "pool_user_codes", "pool_group_members", "pool_user_aliases", "pool_user_attributes", "pool_users"} {
		if _, err := tx.exec(`DELETE FROM `+table+` WHERE account = ? AND region = ? AND pool = ? AND sub = ?`, s.Account, s.Region, pool, sub); err != nil {
			return err
		}
	}
	tx.Changed(s, ChangedPoolUser, pool+"/"+sub)
	return nil
}

// A PoolAlias is a name of a kind under which a user may sign in.
type PoolAlias struct{ Kind, Value string }

// AliasOwner returns the sub of whoever owns an alias, "" if nobody does.
func (tx *Tx) AliasOwner(s fleet.Scope, pool string, a PoolAlias) (string, error) {
	sub, _, err := one(tx, scanString, `SELECT sub FROM pool_user_aliases WHERE account = ? AND region = ? AND pool = ? AND kind = ? AND value = ?`,
		s.Account, s.Region, pool, a.Kind, a.Value)
	return sub, err
}

// SetPoolAliases makes aliases the only ones of a user. It fails with KindExists if another user owns one.
func (tx *Tx) SetPoolAliases(s fleet.Scope, pool, sub string, aliases []PoolAlias) error {
	if _, err := tx.exec(`DELETE FROM pool_user_aliases WHERE account = ? AND region = ? AND pool = ? AND sub = ?`, s.Account, s.Region, pool, sub); err != nil {
		return err
	}
	for _, a := range aliases {
		added, err := tx.insert(`INSERT INTO pool_user_aliases (account, region, pool, kind, value, sub) VALUES (?, ?, ?, ?, ?, ?)`,
			s.Account, s.Region, pool, a.Kind, a.Value, sub)
		if err == nil && !added {
			return fleet.Exists(a.Kind, a.Value, "another user has it")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A PoolUserFilter narrows a list of users: Field is "" (no filter), "username", "sub", "cognito:user_status", "status"
// (Value "Enabled" or "Disabled") or the name of an attribute.
type PoolUserFilter struct {
	Field, Value string
	Prefix       bool // Value is only the beginning
}

// PoolUsers lists users that pass f, by username.
func (tx *Tx) PoolUsers(s fleet.Scope, pool string, f PoolUserFilter, p fleet.Page) ([]PoolUser, string, error) {
	query, args := poolUsersQuery(s, pool, f, p)
	users, err := all(tx, scanPoolUser, query, args...)
	if err != nil {
		return nil, "", err
	}
	users, next := cutPage(p, users, func(u PoolUser) string { return u.Username })
	return users, next, tx.loadAttributes(s, pool, users)
}

// poolUsersQuery begins with the attribute where there is one to look for: SQLite keeps the order of a CROSS JOIN, and would read the whole
// pool otherwise, since that has the order of the list.
func poolUsersQuery(s fleet.Scope, pool string, f PoolUserFilter, p fleet.Page) (query string, args []any) {
	from, where := `pool_users u`, `u.account = ? AND u.region = ? AND u.pool = ? AND u.username > ?`
	args = []any{s.Account, s.Region, pool, p.After}
	match := func(column string) {
		if f.Prefix {
			lo, hi := prefixRange(f.Value)
			where += ` AND ` + column + ` >= ? AND ` + column + ` < ?`
			args = append(args, lo, hi)
			return
		}
		where += ` AND ` + column + ` = ?`
		args = append(args, f.Value)
	}
	switch f.Field {
	case "":
	case "username":
		match("u.username")
	case "sub":
		match("u.sub")
	case "cognito:user_status":
		match("u.status")
	case "status":
		match(`CASE u.enabled WHEN 0 THEN 'Disabled' ELSE 'Enabled' END`)
	default:
		from = `pool_user_attributes a CROSS JOIN pool_users u`
		where += ` AND u.sub = a.sub AND a.account = ? AND a.region = ? AND a.pool = ? AND a.name = ?`
		args = append(args, s.Account, s.Region, pool, f.Field)
		match("a.value")
	}
	return fmt.Sprintf(`SELECT %s FROM %s WHERE %s ORDER BY u.username LIMIT ?`, poolUserColumns, from, where), append(args, pageLimit(p))
}

// flag is how a boolean is stored.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob is how bytes are stored: none is empty, never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
