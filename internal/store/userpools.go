package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Kinds of Change that writes to user pools announce.
const (
	ChangedUserPool = "userpool" // pool id: created, changed, deleted
	ChangedPoolUser = "pooluser" // POOL/SUB: deleted, disabled, signed out, in other groups
)

// A UserPool is a user pool as stored. Settings is the rules' JSON; Secret is sealed by them.
type UserPool struct {
	Scope             fleet.Scope
	ID, Name          string
	Settings          string
	Tags              map[string]string
	Secret            []byte
	Created, Modified time.Time
}

const userPoolColumns = `account, region, id, name, settings, tags, secret, created, modified`

func scanUserPool(s scanner) (p UserPool, err error) {
	var tags string
	var created, modified int64
	if err := s.Scan(&p.Scope.Account, &p.Scope.Region, &p.ID, &p.Name, &p.Settings, &tags, &p.Secret, &created, &modified); err != nil {
		return p, err
	}
	p.Created, p.Modified = fromMillis(created), fromMillis(modified)
	return p, fromJSON(tags, &p.Tags)
}

// UserPool returns a user pool of the scope. It fails with KindNotFound.
func (tx *Tx) UserPool(s fleet.Scope, id string) (UserPool, error) {
	return find(tx, "user pool", id, scanUserPool, `SELECT `+userPoolColumns+` FROM user_pools
		WHERE account = ? AND region = ? AND id = ? AND deleting = 0`, s.Account, s.Region, id)
}

// FindUserPool returns a user pool of any scope: unsigned requests name none. It fails with KindNotFound.
func (tx *Tx) FindUserPool(id string) (UserPool, error) {
	return find(tx, "user pool", id, scanUserPool, `SELECT `+userPoolColumns+` FROM user_pools WHERE id = ? AND deleting = 0`, id)
}

// CreateUserPool adds a pool. It fails with KindExists if any scope has the id.
func (tx *Tx) CreateUserPool(p UserPool) error {
	added, err := tx.insert(`INSERT INTO user_pools (`+userPoolColumns+`, deleting) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)`,
		p.Scope.Account, p.Scope.Region, p.ID, p.Name, p.Settings, toJSON(p.Tags), p.Secret, millis(p.Created), millis(p.Modified))
	if err == nil && !added {
		return fleet.Exists("user pool", p.ID, "already exists")
	}
	tx.Changed(p.Scope, ChangedUserPool, p.ID)
	return err
}

// UpdateUserPool stores name, settings, tags and time of change.
func (tx *Tx) UpdateUserPool(p UserPool) error {
	_, err := tx.exec(`UPDATE user_pools SET name = ?, settings = ?, tags = ?, modified = ? WHERE account = ? AND region = ? AND id = ?`,
		p.Name, p.Settings, toJSON(p.Tags), millis(p.Modified), p.Scope.Account, p.Scope.Region, p.ID)
	tx.Changed(p.Scope, ChangedUserPool, p.ID)
	return err
}

// UserPools lists the pools of a scope by id.
func (tx *Tx) UserPools(s fleet.Scope, p fleet.Page) ([]UserPool, string, error) {
	pools, err := all(tx, scanUserPool, `SELECT `+userPoolColumns+` FROM user_pools
		WHERE account = ? AND region = ? AND id > ? AND deleting = 0 ORDER BY id LIMIT ?`, s.Account, s.Region, p.After, pageLimit(p))
	pools, next := cutPage(p, pools, func(p UserPool) string { return p.ID })
	return pools, next, err
}

// CloseUserPool makes a pool and its clients vanish for everybody; DrainUserPool then removes what it held.
func (tx *Tx) CloseUserPool(s fleet.Scope, id string) error {
	if _, err := tx.exec(`UPDATE user_pools SET deleting = 1 WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM user_pool_clients WHERE account = ? AND region = ? AND pool = ?`, s.Account, s.Region, id)
	tx.Changed(s, ChangedUserPool, id)
	return err
}

// ClosedUserPools lists pools of all scopes that were closed and hold something still.
func (tx *Tx) ClosedUserPools() ([]UserPool, error) {
	return all(tx, scanUserPool, `SELECT `+userPoolColumns+` FROM user_pools WHERE deleting <> 0`)
}

// DrainUserPool removes at most n users of a closed pool with all that belongs to them, cutting off their credentials at the
// time at. When no user is left it removes the pool itself and returns done.
func (tx *Tx) DrainUserPool(s fleet.Scope, id string, n int, at time.Time) (done bool, err error) {
	subs, err := all(tx, scanString, `SELECT sub FROM pool_users WHERE account = ? AND region = ? AND pool = ? LIMIT ?`, s.Account, s.Region, id, n)
	if err != nil {
		return false, err
	}
	for _, sub := range subs {
		if err := tx.DeletePoolUser(s, id, sub); err != nil {
			return false, err
		}
		if err := tx.CutOff(s, "user:"+id+"/"+sub, at); err != nil {
			return false, err
		}
	}
	if len(subs) > 0 {
		return false, nil
	}
	if done, err := tx.drainPoolImports(s, id); err != nil || !done {
		return false, err
	}
	for table, key := range map[string]string{"pool_groups": "name", "pool_attempts": "subject, action", "pool_spent_challenges": "id",
		"pool_providers": "name", "pool_provider_identifiers": "identifier"} {
		some, err := affected(tx.exec(`DELETE FROM `+table+` WHERE account = ? AND region = ? AND pool = ? AND (`+key+`) IN (SELECT `+key+` FROM `+table+`
			WHERE account = ? AND region = ? AND pool = ? LIMIT ?)`, s.Account, s.Region, id, s.Account, s.Region, id, drainChunk))
		if err != nil || some == drainChunk {
			return false, err
		}
	}
	for _, q := range []string{
		`DELETE FROM user_pool_resource_servers WHERE account = ? AND region = ? AND pool = ?`,
		`DELETE FROM user_pool_looks WHERE account = ? AND region = ? AND pool = ?`,
		`DELETE FROM user_pool_keys WHERE account = ? AND region = ? AND pool = ?`,
		`DELETE FROM user_pools WHERE account = ? AND region = ? AND id = ?`,
	} {
		if _, err := tx.exec(q, s.Account, s.Region, id); err != nil {
			return false, err
		}
	}
	return true, nil
}

// drainChunk is how many rows of a kind one transaction removes at a time.
const drainChunk = 100

// A UserPoolKey signs tokens of one purpose, "id" or "access". Private is sealed, Public a PKIX key.
type UserPoolKey struct {
	ID, Purpose     string
	Private, Public []byte
	Created         time.Time
}

// AddUserPoolKey stores a key of a pool.
func (tx *Tx) AddUserPoolKey(s fleet.Scope, pool string, k UserPoolKey) error {
	_, err := tx.exec(`INSERT INTO user_pool_keys (account, region, pool, kid, purpose, private, public, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, k.ID, k.Purpose, k.Private, k.Public, millis(k.Created))
	tx.Changed(s, ChangedUserPool, pool)
	return err
}

// DeleteUserPoolKey takes a key from a pool.
func (tx *Tx) DeleteUserPoolKey(s fleet.Scope, pool, kid string) error {
	_, err := tx.exec(`DELETE FROM user_pool_keys WHERE account = ? AND region = ? AND pool = ? AND kid = ?`, s.Account, s.Region, pool, kid)
	tx.Changed(s, ChangedUserPool, pool)
	return err
}

// UserPoolKeys lists the keys of a pool, newest first.
func (tx *Tx) UserPoolKeys(s fleet.Scope, pool string) ([]UserPoolKey, error) {
	return all(tx, func(s scanner) (k UserPoolKey, err error) {
		var created int64
		err = s.Scan(&k.ID, &k.Purpose, &k.Private, &k.Public, &created)
		k.Created = fromMillis(created)
		return k, err
	}, `SELECT kid, purpose, private, public, created FROM user_pool_keys WHERE account = ? AND region = ? AND pool = ? ORDER BY created DESC, kid`,
		s.Account, s.Region, pool)
}

// A UserPoolClient is an app client as stored. Secret is sealed, empty for a public client.
type UserPoolClient struct {
	Scope             fleet.Scope
	Pool, ID, Name    string
	Settings          string
	Secret            []byte
	Created, Modified time.Time
}

const userPoolClientColumns = `account, region, pool, id, name, settings, secret, created, modified`

func scanUserPoolClient(s scanner) (c UserPoolClient, err error) {
	var created, modified int64
	err = s.Scan(&c.Scope.Account, &c.Scope.Region, &c.Pool, &c.ID, &c.Name, &c.Settings, &c.Secret, &created, &modified)
	c.Created, c.Modified = fromMillis(created), fromMillis(modified)
	return c, err
}

// UserPoolClient returns a client of a pool. It fails with KindNotFound.
func (tx *Tx) UserPoolClient(s fleet.Scope, pool, id string) (UserPoolClient, error) {
	return find(tx, "user pool client", id, scanUserPoolClient, `SELECT `+userPoolClientColumns+` FROM user_pool_clients
		WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, pool, id)
}

// FindUserPoolClient returns a client of any scope and pool: unsigned requests name none. It fails with KindNotFound.
func (tx *Tx) FindUserPoolClient(id string) (UserPoolClient, error) {
	return find(tx, "user pool client", id, scanUserPoolClient, `SELECT `+userPoolClientColumns+` FROM user_pool_clients WHERE id = ?`, id)
}

// CreateUserPoolClient adds a client. It fails with KindExists if any pool has the id.
func (tx *Tx) CreateUserPoolClient(c UserPoolClient) error {
	added, err := tx.insert(`INSERT INTO user_pool_clients (`+userPoolClientColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.Scope.Account, c.Scope.Region, c.Pool, c.ID, c.Name, c.Settings, blob(c.Secret), millis(c.Created), millis(c.Modified))
	if err == nil && !added {
		return fleet.Exists("user pool client", c.ID, "already exists")
	}
	return err
}

// UpdateUserPoolClient stores name, settings and time of change.
func (tx *Tx) UpdateUserPoolClient(c UserPoolClient) error {
	_, err := tx.exec(`UPDATE user_pool_clients SET name = ?, settings = ?, modified = ? WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		c.Name, c.Settings, millis(c.Modified), c.Scope.Account, c.Scope.Region, c.Pool, c.ID)
	return err
}

// DeleteUserPoolClient removes a client. Its sessions expire on their own: a token of a client that is gone is refused.
func (tx *Tx) DeleteUserPoolClient(s fleet.Scope, pool, id string) error {
	if _, err := tx.exec(`DELETE FROM user_pool_looks WHERE account = ? AND region = ? AND pool = ? AND client = ?`, s.Account, s.Region, pool, id); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM user_pool_clients WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, pool, id)
	return err
}

// UserPoolClients lists the clients of a pool by id.
func (tx *Tx) UserPoolClients(s fleet.Scope, pool string, p fleet.Page) ([]UserPoolClient, string, error) {
	clients, err := all(tx, scanUserPoolClient, `SELECT `+userPoolClientColumns+` FROM user_pool_clients
		WHERE account = ? AND region = ? AND pool = ? AND id > ? ORDER BY id LIMIT ?`, s.Account, s.Region, pool, p.After, pageLimit(p))
	clients, next := cutPage(p, clients, func(c UserPoolClient) string { return c.ID })
	return clients, next, err
}

// CountUserPoolClients and CountPoolGroups count towards the quotas of a pool, CountPoolUsers is its estimated size.
func (tx *Tx) CountUserPoolClients(s fleet.Scope, pool string) (int, error) {
	return tx.countIn(s, pool, `SELECT COUNT(*) FROM user_pool_clients WHERE account = ? AND region = ? AND pool = ?`)
}

func (tx *Tx) CountPoolGroups(s fleet.Scope, pool string) (int, error) {
	return tx.countIn(s, pool, `SELECT COUNT(*) FROM pool_groups WHERE account = ? AND region = ? AND pool = ?`)
}

func (tx *Tx) CountPoolUsers(s fleet.Scope, pool string) (int, error) {
	return tx.countIn(s, pool, `SELECT COUNT(*) FROM pool_users WHERE account = ? AND region = ? AND pool = ?`)
}

func (tx *Tx) countIn(s fleet.Scope, pool, query string) (n int, err error) {
	err = tx.row(query, s.Account, s.Region, pool).Scan(&n)
	return n, err
}
