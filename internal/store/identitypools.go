package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// ChangedIdentityPool is the kind of Change that a write to an identity pool announces; the key is the pool's id.
const ChangedIdentityPool = "identitypool"

// An IdentityPool is an identity pool as stored. Settings is the rules' JSON.
type IdentityPool struct {
	Scope    fleet.Scope
	ID, Name string
	Settings string
	Tags     map[string]string
	Created  time.Time
}

const identityPoolColumns = `account, region, id, name, settings, tags, created`

func scanIdentityPool(s scanner) (p IdentityPool, err error) {
	var tags string
	var created int64
	if err := s.Scan(&p.Scope.Account, &p.Scope.Region, &p.ID, &p.Name, &p.Settings, &tags, &created); err != nil {
		return p, err
	}
	p.Created = fromMillis(created)
	return p, fromJSON(tags, &p.Tags)
}

// FindIdentityPool returns an identity pool of any scope: unsigned requests name none. It fails with KindNotFound.
func (tx *Tx) FindIdentityPool(id string) (IdentityPool, error) {
	return find(tx, "identity pool", id, scanIdentityPool, `SELECT `+identityPoolColumns+` FROM identity_pools WHERE id = ?`, id)
}

// CreateIdentityPool adds a pool. It fails with KindExists if any scope has the id.
func (tx *Tx) CreateIdentityPool(p IdentityPool) error {
	added, err := tx.insert(`INSERT INTO identity_pools (`+identityPoolColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		p.Scope.Account, p.Scope.Region, p.ID, p.Name, p.Settings, toJSON(p.Tags), millis(p.Created))
	if err == nil && !added {
		return fleet.Exists("identity pool", p.ID, "already exists")
	}
	tx.Changed(p.Scope, ChangedIdentityPool, p.ID)
	return err
}

// UpdateIdentityPool stores name, settings and tags.
func (tx *Tx) UpdateIdentityPool(p IdentityPool) error {
	_, err := tx.exec(`UPDATE identity_pools SET name = ?, settings = ?, tags = ? WHERE account = ? AND region = ? AND id = ?`,
		p.Name, p.Settings, toJSON(p.Tags), p.Scope.Account, p.Scope.Region, p.ID)
	tx.Changed(p.Scope, ChangedIdentityPool, p.ID)
	return err
}

// DrainIdentityPool removes at most n identities of a pool. When none is left it removes the pool itself and returns done.
func (tx *Tx) DrainIdentityPool(s fleet.Scope, id string, n int) (done bool, err error) {
	ids, err := all(tx, scanString, `SELECT id FROM identities WHERE account = ? AND region = ? AND pool = ? LIMIT ?`, s.Account, s.Region, id, n)
	if err != nil {
		return false, err
	}
	for _, identity := range ids {
		for _, q := range []string{
			`DELETE FROM identity_logins WHERE account = ? AND region = ? AND pool = ? AND identity = ?`,
			`DELETE FROM identities WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		} {
			if _, err := tx.exec(q, s.Account, s.Region, id, identity); err != nil {
				return false, err
			}
		}
	}
	if len(ids) > 0 {
		return false, nil
	}
	_, err = tx.exec(`DELETE FROM identity_pools WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
	tx.Changed(s, ChangedIdentityPool, id)
	return true, err
}

// IdentityPools lists the pools of a scope by id.
func (tx *Tx) IdentityPools(s fleet.Scope, p fleet.Page) ([]IdentityPool, string, error) {
	pools, err := all(tx, scanIdentityPool, `SELECT `+identityPoolColumns+` FROM identity_pools
		WHERE account = ? AND region = ? AND id > ? ORDER BY id LIMIT ?`, s.Account, s.Region, p.After, pageLimit(p))
	pools, next := cutPage(p, pools, func(p IdentityPool) string { return p.ID })
	return pools, next, err
}

// An Identity is somebody known to an identity pool: a guest, or the owner of logins.
type Identity struct {
	Scope             fleet.Scope
	Pool, ID          string
	Logins            map[string]string // provider → subject
	Created, Modified time.Time
}

func scanIdentity(s scanner) (i Identity, err error) {
	var created, modified int64
	err = s.Scan(&i.Scope.Account, &i.Scope.Region, &i.Pool, &i.ID, &created, &modified)
	i.Created, i.Modified = fromMillis(created), fromMillis(modified)
	return i, err
}

const identityColumns = `account, region, pool, id, created, modified`

// FindIdentity returns an identity of any scope with its logins. It fails with KindNotFound.
func (tx *Tx) FindIdentity(id string) (Identity, error) {
	i, found, err := one(tx, scanIdentity, `SELECT `+identityColumns+` FROM identities WHERE id = ?`, id)
	if err != nil {
		return i, err
	}
	if !found {
		return i, fleet.NotFound("identity", id)
	}
	return i, tx.loadLogins(&i)
}

func (tx *Tx) loadLogins(i *Identity) error {
	pairs, err := all(tx, func(s scanner) (p [2]string, err error) { return p, s.Scan(&p[0], &p[1]) },
		`SELECT provider, subject FROM identity_logins WHERE account = ? AND region = ? AND pool = ? AND identity = ?`,
		i.Scope.Account, i.Scope.Region, i.Pool, i.ID)
	i.Logins = map[string]string{}
	for _, p := range pairs {
		i.Logins[p[0]] = p[1]
	}
	return err
}

// IdentityOf returns the id of the identity that owns a login, "" if there is none.
func (tx *Tx) IdentityOf(s fleet.Scope, pool, provider, subject string) (string, error) {
	id, _, err := one(tx, scanString, `SELECT identity FROM identity_logins WHERE account = ? AND region = ? AND pool = ? AND provider = ? AND subject = ?`,
		s.Account, s.Region, pool, provider, subject)
	return id, err
}

// CreateIdentity adds an identity without logins.
func (tx *Tx) CreateIdentity(s fleet.Scope, pool, id string) error {
	now := millis(tx.Now())
	_, err := tx.exec(`INSERT INTO identities (`+identityColumns+`) VALUES (?, ?, ?, ?, ?, ?)`, s.Account, s.Region, pool, id, now, now)
	return err
}

// LinkLogin gives a login to an identity. It fails with KindConflict if the login or the identity's place for the provider is
// taken.
func (tx *Tx) LinkLogin(s fleet.Scope, pool, identity, provider, subject string) error {
	added, err := tx.insert(`INSERT INTO identity_logins (account, region, pool, provider, subject, identity) VALUES (?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, provider, subject, identity)
	if err == nil && !added {
		return &fleet.Error{Kind: fleet.KindConflict, Resource: "identity", Name: identity, Msg: "has another login of " + provider + " already", Err: err}
	}
	if err != nil {
		return err
	}
	return tx.touchIdentity(s, pool, identity)
}

// UnlinkLogin takes a provider's login from an identity.
func (tx *Tx) UnlinkLogin(s fleet.Scope, pool, identity, provider string) error {
	_, err := tx.exec(`DELETE FROM identity_logins WHERE account = ? AND region = ? AND pool = ? AND identity = ? AND provider = ?`,
		s.Account, s.Region, pool, identity, provider)
	if err != nil {
		return err
	}
	return tx.touchIdentity(s, pool, identity)
}

func (tx *Tx) touchIdentity(s fleet.Scope, pool, id string) error {
	_, err := tx.exec(`UPDATE identities SET modified = ? WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		millis(tx.Now()), s.Account, s.Region, pool, id)
	return err
}

// Identities lists a pool's identities by id.
func (tx *Tx) Identities(s fleet.Scope, pool string, p fleet.Page) ([]Identity, string, error) {
	list, err := all(tx, scanIdentity, `SELECT `+identityColumns+` FROM identities
		WHERE account = ? AND region = ? AND pool = ? AND id > ? ORDER BY id LIMIT ?`, s.Account, s.Region, pool, p.After, pageLimit(p))
	if err != nil {
		return nil, "", err
	}
	list, next := cutPage(p, list, func(i Identity) string { return i.ID })
	for n := range list {
		if err := tx.loadLogins(&list[n]); err != nil {
			return nil, "", err
		}
	}
	return list, next, nil
}

// DeleteIdentity removes an identity and its logins and reports whether the scope had it.
func (tx *Tx) DeleteIdentity(s fleet.Scope, id string) (bool, error) {
	i, err := tx.FindIdentity(id)
	if err != nil && fleet.KindOf(err) == fleet.KindNotFound || err == nil && i.Scope != s {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := tx.exec(`DELETE FROM identity_logins WHERE account = ? AND region = ? AND pool = ? AND identity = ?`, s.Account, s.Region, i.Pool, id); err != nil {
		return false, err
	}
	return changedRows(tx.exec(`DELETE FROM identities WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, i.Pool, id))
}
