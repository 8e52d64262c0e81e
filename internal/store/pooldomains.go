package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// ChangedPoolDomain is the kind of Change for domains of user pools; its key is the domain.
const ChangedPoolDomain = "userpooldomain"

// A PoolDomain is where the sign-in pages of a pool are. Settings is the rules' JSON.
type PoolDomain struct {
	Scope        fleet.Scope
	Domain, Pool string
	Custom       bool // a host name of its own, not a prefix
	Settings     string
	Modified     time.Time
}

const poolDomainColumns = `domain, account, region, pool, custom, settings, modified`

func scanPoolDomain(s scanner) (d PoolDomain, err error) {
	var modified int64
	err = s.Scan(&d.Domain, &d.Scope.Account, &d.Scope.Region, &d.Pool, &d.Custom, &d.Settings, &modified)
	d.Modified = fromMillis(modified)
	return d, err
}

// PoolDomain returns a domain of any scope: browsers name none. It fails with KindNotFound.
func (tx *Tx) PoolDomain(domain string) (PoolDomain, error) {
	return find(tx, "domain", domain, scanPoolDomain, `SELECT `+poolDomainColumns+` FROM user_pool_domains WHERE domain = ?`, domain)
}

// PoolDomains lists the domains of a pool, the prefix before the host name.
func (tx *Tx) PoolDomains(s fleet.Scope, pool string) ([]PoolDomain, error) {
	return all(tx, scanPoolDomain, `SELECT `+poolDomainColumns+` FROM user_pool_domains WHERE account = ? AND region = ? AND pool = ? ORDER BY custom`,
		s.Account, s.Region, pool)
}

// CustomPoolDomains lists the host names of all scopes at which pools have their pages. They are few: the server's certificate
// has them all.
func (tx *Tx) CustomPoolDomains() ([]PoolDomain, error) {
	return all(tx, scanPoolDomain, `SELECT `+poolDomainColumns+` FROM user_pool_domains WHERE custom = 1 ORDER BY domain`)
}

// CreatePoolDomain adds a domain. It fails with KindExists if any pool has it.
func (tx *Tx) CreatePoolDomain(d PoolDomain) error {
	added, err := tx.insert(`INSERT INTO user_pool_domains (`+poolDomainColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		d.Domain, d.Scope.Account, d.Scope.Region, d.Pool, flag(d.Custom), d.Settings, millis(d.Modified))
	if err == nil && !added {
		return fleet.Exists("domain", d.Domain, "already exists")
	}
	tx.Changed(d.Scope, ChangedPoolDomain, d.Domain)
	return err
}

// UpdatePoolDomain stores settings and time of change.
func (tx *Tx) UpdatePoolDomain(d PoolDomain) error {
	_, err := tx.exec(`UPDATE user_pool_domains SET settings = ?, modified = ? WHERE domain = ?`, d.Settings, millis(d.Modified), d.Domain)
	tx.Changed(d.Scope, ChangedPoolDomain, d.Domain)
	return err
}

// DeletePoolDomain removes a domain.
func (tx *Tx) DeletePoolDomain(d PoolDomain) error {
	_, err := tx.exec(`DELETE FROM user_pool_domains WHERE domain = ?`, d.Domain)
	tx.Changed(d.Scope, ChangedPoolDomain, d.Domain)
	return err
}

// A ResourceServer is an API that clients may be given access to. Scopes is the rules' JSON.
type ResourceServer struct{ Identifier, Name, Scopes string }

func scanResourceServer(s scanner) (r ResourceServer, err error) {
	return r, s.Scan(&r.Identifier, &r.Name, &r.Scopes)
}

// ResourceServer returns a resource server of a pool. It fails with KindNotFound.
func (tx *Tx) ResourceServer(s fleet.Scope, pool, identifier string) (ResourceServer, error) {
	return find(tx, "resource server", identifier, scanResourceServer, `SELECT identifier, name, scopes FROM user_pool_resource_servers
		WHERE account = ? AND region = ? AND pool = ? AND identifier = ?`, s.Account, s.Region, pool, identifier)
}

// ResourceServers lists the resource servers of a pool by identifier.
func (tx *Tx) ResourceServers(s fleet.Scope, pool string, p fleet.Page) ([]ResourceServer, string, error) {
	list, err := all(tx, scanResourceServer, `SELECT identifier, name, scopes FROM user_pool_resource_servers
		WHERE account = ? AND region = ? AND pool = ? AND identifier > ? ORDER BY identifier LIMIT ?`, s.Account, s.Region, pool, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(r ResourceServer) string { return r.Identifier })
	return list, next, err
}

// CountResourceServers counts towards the quota of a pool.
func (tx *Tx) CountResourceServers(s fleet.Scope, pool string) (int, error) {
	return tx.countIn(s, pool, `SELECT COUNT(*) FROM user_pool_resource_servers WHERE account = ? AND region = ? AND pool = ?`)
}

// PutResourceServer stores a resource server in place of the one with its identifier.
func (tx *Tx) PutResourceServer(s fleet.Scope, pool string, r ResourceServer) error {
	_, err := tx.exec(`INSERT INTO user_pool_resource_servers (account, region, pool, identifier, name, scopes) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, pool, identifier) DO UPDATE SET name = excluded.name, scopes = excluded.scopes`,
		s.Account, s.Region, pool, r.Identifier, r.Name, r.Scopes)
	return err
}

// DeleteResourceServer removes a resource server.
func (tx *Tx) DeleteResourceServer(s fleet.Scope, pool, identifier string) error {
	_, err := tx.exec(`DELETE FROM user_pool_resource_servers WHERE account = ? AND region = ? AND pool = ? AND identifier = ?`,
		s.Account, s.Region, pool, identifier)
	return err
}

// A PoolLook is what the sign-in pages of a client look like, or with the client AllClients those of a pool.
type PoolLook struct {
	Client, CSS       string
	Image             []byte
	Created, Modified time.Time
}

// AllClients stands for every client of a pool that has no look of its own.
const AllClients = "ALL"

// PoolLook returns the look of a client. It fails with KindNotFound.
func (tx *Tx) PoolLook(s fleet.Scope, pool, client string) (PoolLook, error) {
	return find(tx, "look", client, func(s scanner) (l PoolLook, err error) {
		var created, modified int64
		err = s.Scan(&l.Client, &l.CSS, &l.Image, &created, &modified)
		l.Created, l.Modified = fromMillis(created), fromMillis(modified)
		return l, err
	}, `SELECT client, css, image, created, modified FROM user_pool_looks WHERE account = ? AND region = ? AND pool = ? AND client = ?`,
		s.Account, s.Region, pool, client)
}

// PutPoolLook stores a look in place of the client's earlier one.
func (tx *Tx) PutPoolLook(s fleet.Scope, pool string, l PoolLook) error {
	_, err := tx.exec(`INSERT INTO user_pool_looks (account, region, pool, client, css, image, created, modified) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, pool, client) DO UPDATE SET css = excluded.css, image = excluded.image, modified = excluded.modified`,
		s.Account, s.Region, pool, l.Client, l.CSS, blob(l.Image), millis(l.Created), millis(l.Modified))
	return err
}
