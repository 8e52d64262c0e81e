package store

import (
	"github.com/imprint-iot/imprint/internal/fleet"
)

const accessKeySelect = `SELECT k.id, u.name, k.sealed, k.active, k.created, k.last_used, k.last_service, k.last_region, k.account
	FROM iam_access_keys k JOIN iam_entities u ON u.account = k.account AND u.region = k.region AND u.id = k.usr`

// An AccountKey is an access key with the account that it belongs to.
type AccountKey struct {
	Account string
	fleet.AccessKey
}

func scanAccessKey(s scanner) (k AccountKey, err error) {
	var created, used int64
	err = s.Scan(&k.ID, &k.User, &k.Sealed, &k.Active, &created, &used, &k.LastUsed.Service, &k.LastUsed.Region, &k.Account)
	k.Created, k.LastUsed.At = fromMillis(created), fromMillis(used)
	return k, err
}

// AccessKeyByID returns an access key of any account. It fails with KindNotFound.
func (tx *Tx) AccessKeyByID(id string) (AccountKey, error) {
	k, found, err := one(tx, scanAccessKey, accessKeySelect+` WHERE k.id = ?`, id)
	if err == nil && !found {
		err = fleet.NotFound("access key", id)
	}
	return k, err
}

// AccessKeys lists the keys of a user by id.
func (tx *Tx) AccessKeys(s fleet.Scope, user fleet.Entity, p fleet.Page) ([]fleet.AccessKey, string, error) {
	keyset, order, keyArgs := pageOrder(p, "k.id")
	list, err := all(tx, func(s scanner) (fleet.AccessKey, error) {
		k, err := scanAccessKey(s)
		return k.AccessKey, err
	}, accessKeySelect+` WHERE k.account = ? AND k.region = ? AND k.usr = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, GlobalRegion, user.ID}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(k fleet.AccessKey) string { return k.ID })
	return list, next, err
}

// CreateAccessKey adds a key to a user. It fails with KindExists if any account has the id.
func (tx *Tx) CreateAccessKey(s fleet.Scope, user fleet.Entity, k fleet.AccessKey) error {
	_, err := tx.exec(`INSERT INTO iam_access_keys (account, region, id, usr, sealed, active, created, last_used, last_service, last_region)
		VALUES (?, ?, ?, ?, ?, ?, ?, 0, '', '')`, s.Account, GlobalRegion, k.ID, user.ID, k.Sealed, flag(k.Active), millis(k.Created))
	if isUnique(err) {
		return fleet.Exists("access key", k.ID, "already exists")
	}
	tx.Changed(global(s), ChangedKey, k.ID)
	return err
}

// SetAccessKeyActive switches a key on or off.
func (tx *Tx) SetAccessKeyActive(s fleet.Scope, id string, active bool) error {
	_, err := tx.exec(`UPDATE iam_access_keys SET active = ? WHERE account = ? AND region = ? AND id = ?`, flag(active), s.Account, GlobalRegion, id)
	tx.Changed(global(s), ChangedKey, id)
	return err
}

// DeleteAccessKey removes a key.
func (tx *Tx) DeleteAccessKey(s fleet.Scope, id string) error {
	_, err := tx.exec(`DELETE FROM iam_access_keys WHERE account = ? AND region = ? AND id = ?`, s.Account, GlobalRegion, id)
	tx.Changed(global(s), ChangedKey, id)
	return err
}

// UsedAccessKey records the last use of a key, if it is later than the one recorded. Nobody is told: it changes no right.
func (tx *Tx) UsedAccessKey(id string, use fleet.KeyUse) error {
	_, err := tx.exec(`UPDATE iam_access_keys SET last_used = ?, last_service = ?, last_region = ? WHERE id = ? AND last_used < ?`,
		millis(use.At), use.Service, use.Region, id, millis(use.At))
	return err
}

// OIDCProvider returns a provider by its URL without scheme. It fails with KindNotFound.
func (tx *Tx) OIDCProvider(s fleet.Scope, url string) (fleet.OIDCProvider, error) {
	p, found, err := one(tx, scanOIDCProvider, oidcSelect+` AND url = ?`, s.Account, GlobalRegion, url)
	if err == nil && !found {
		err = fleet.NotFound("OpenIDConnect provider", url)
	}
	return p, err
}

const oidcSelect = `SELECT url, client_ids, thumbprints, created FROM iam_oidc_providers WHERE account = ? AND region = ?`

func scanOIDCProvider(s scanner) (p fleet.OIDCProvider, err error) {
	var clients, thumbprints string
	var created int64
	if err := s.Scan(&p.URL, &clients, &thumbprints, &created); err != nil {
		return p, err
	}
	p.Created = fromMillis(created)
	if err := fromJSON(clients, &p.ClientIDs); err != nil {
		return p, err
	}
	return p, fromJSON(thumbprints, &p.Thumbprints)
}

// OIDCProviders lists the providers of an account by URL.
func (tx *Tx) OIDCProviders(s fleet.Scope) ([]fleet.OIDCProvider, error) {
	return all(tx, scanOIDCProvider, oidcSelect+` ORDER BY url`, s.Account, GlobalRegion)
}

// PutOIDCProvider adds or replaces a provider.
func (tx *Tx) PutOIDCProvider(s fleet.Scope, p fleet.OIDCProvider) error {
	_, err := tx.exec(`INSERT INTO iam_oidc_providers (account, region, url, client_ids, thumbprints, created) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, url) DO UPDATE SET client_ids = excluded.client_ids, thumbprints = excluded.thumbprints`,
		s.Account, GlobalRegion, p.URL, toJSON(p.ClientIDs), toJSON(p.Thumbprints), millis(p.Created))
	tx.Changed(global(s), ChangedOIDC, p.URL)
	return err
}

// DeleteOIDCProvider removes a provider with its tags; an unknown one is no error.
func (tx *Tx) DeleteOIDCProvider(s fleet.Scope, url string) error {
	if _, err := tx.exec(`DELETE FROM iam_oidc_providers WHERE account = ? AND region = ? AND url = ?`, s.Account, GlobalRegion, url); err != nil {
		return err
	}
	tx.Changed(global(s), ChangedOIDC, url)
	return tx.deleteIAMTags(s, url)
}
