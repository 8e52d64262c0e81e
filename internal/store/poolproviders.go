package store

import (
	"errors"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A PoolProvider is an identity provider of a user pool as stored. Secret is sealed by the rules; empty: nothing is secret.
type PoolProvider struct {
	Name, Type        string
	Details           map[string]string // without what is secret
	Secret            []byte
	Mapping           map[string]string // attribute of the pool -> of the provider
	Identifiers       []string
	Created, Modified time.Time
}

const poolProviderColumns = `name, type, details, secret, mapping, identifiers, created, modified`

func scanPoolProvider(s scanner) (p PoolProvider, err error) {
	var details, mapping, identifiers string
	var created, modified int64
	if err := s.Scan(&p.Name, &p.Type, &details, &p.Secret, &mapping, &identifiers, &created, &modified); err != nil {
		return p, err
	}
	p.Created, p.Modified = fromMillis(created), fromMillis(modified)
	return p, errors.Join(fromJSON(details, &p.Details), fromJSON(mapping, &p.Mapping), fromJSON(identifiers, &p.Identifiers))
}

// PoolProvider returns an identity provider. It fails with KindNotFound.
func (tx *Tx) PoolProvider(s fleet.Scope, pool, name string) (PoolProvider, error) {
	return find(tx, "identity provider", name, scanPoolProvider, `SELECT `+poolProviderColumns+` FROM pool_providers
		WHERE account = ? AND region = ? AND pool = ? AND name = ?`, s.Account, s.Region, pool, name)
}

// PoolProviderName returns the name of the provider that an identifier stands for, "" if it stands for none.
func (tx *Tx) PoolProviderName(s fleet.Scope, pool, identifier string) (string, error) {
	name, _, err := one(tx, scanString, `SELECT provider FROM pool_provider_identifiers WHERE account = ? AND region = ? AND pool = ? AND identifier = ?`,
		s.Account, s.Region, pool, identifier)
	return name, err
}

// PoolProviderNames lists the names of all providers of a pool, some hundreds at most.
func (tx *Tx) PoolProviderNames(s fleet.Scope, pool string) ([]string, error) {
	return all(tx, scanString, `SELECT name FROM pool_providers WHERE account = ? AND region = ? AND pool = ? ORDER BY name`, s.Account, s.Region, pool)
}

// PoolProviders lists the providers of a pool by name.
func (tx *Tx) PoolProviders(s fleet.Scope, pool string, p fleet.Page) ([]PoolProvider, string, error) {
	list, err := all(tx, scanPoolProvider, `SELECT `+poolProviderColumns+` FROM pool_providers
		WHERE account = ? AND region = ? AND pool = ? AND name > ? ORDER BY name LIMIT ?`, s.Account, s.Region, pool, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(p PoolProvider) string { return p.Name })
	return list, next, err
}

// CreatePoolProvider adds a provider. It fails with KindExists if the name, or one of its identifiers, is taken.
func (tx *Tx) CreatePoolProvider(s fleet.Scope, pool string, p PoolProvider) error {
	added, err := tx.insert(`INSERT INTO pool_providers (account, region, pool, `+poolProviderColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, p.Name, p.Type, toJSON(p.Details), blob(p.Secret), toJSON(p.Mapping), toJSON(p.Identifiers), millis(p.Created), millis(p.Modified))
	if err == nil && !added {
		return fleet.Exists("identity provider", p.Name, "already exists")
	}
	if err != nil {
		return err
	}
	return tx.identifyPoolProvider(s, pool, p)
}

// UpdatePoolProvider stores everything but name, type and creation time. It fails with KindExists if an identifier is another one's.
func (tx *Tx) UpdatePoolProvider(s fleet.Scope, pool string, p PoolProvider) error {
	_, err := tx.exec(`UPDATE pool_providers SET details = ?, secret = ?, mapping = ?, identifiers = ?, modified = ?
		WHERE account = ? AND region = ? AND pool = ? AND name = ?`,
		toJSON(p.Details), blob(p.Secret), toJSON(p.Mapping), toJSON(p.Identifiers), millis(p.Modified), s.Account, s.Region, pool, p.Name)
	if err != nil {
		return err
	}
	if err := tx.forgetIdentifiers(s, pool, p.Name); err != nil {
		return err
	}
	return tx.identifyPoolProvider(s, pool, p)
}

func (tx *Tx) identifyPoolProvider(s fleet.Scope, pool string, p PoolProvider) error {
	for _, id := range p.Identifiers {
		added, err := tx.insert(`INSERT INTO pool_provider_identifiers (account, region, pool, identifier, provider) VALUES (?, ?, ?, ?, ?)`,
			s.Account, s.Region, pool, id, p.Name)
		if err == nil && !added {
			return fleet.Exists("identifier", id, "another provider has it")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) forgetIdentifiers(s fleet.Scope, pool, name string) error {
	_, err := tx.exec(`DELETE FROM pool_provider_identifiers WHERE account = ? AND region = ? AND pool = ? AND provider = ?`, s.Account, s.Region, pool, name)
	return err
}

// DeletePoolProvider removes a provider. The users who came by it, and who they are there, stay.
func (tx *Tx) DeletePoolProvider(s fleet.Scope, pool, name string) error {
	if err := tx.forgetIdentifiers(s, pool, name); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM pool_providers WHERE account = ? AND region = ? AND pool = ? AND name = ?`, s.Account, s.Region, pool, name)
	return err
}

// A PoolIdentity is who a user is at a provider.
type PoolIdentity struct {
	Provider, Subject string
	Sub               string
	Origin            bool   // the user came into being by it; else it was linked to the user
	Issuer            string // of a SAML provider
	Created           time.Time
}

const poolIdentityColumns = `provider, subject, sub, origin, issuer, created`

func scanPoolIdentity(s scanner) (i PoolIdentity, err error) {
	var created int64
	err = s.Scan(&i.Provider, &i.Subject, &i.Sub, &i.Origin, &i.Issuer, &created)
	i.Created = fromMillis(created)
	return i, err
}

// PoolIdentity returns whom a provider's subject is. It fails with KindNotFound.
func (tx *Tx) PoolIdentity(s fleet.Scope, pool, provider, subject string) (PoolIdentity, error) {
	return find(tx, "identity", provider+"/"+subject, scanPoolIdentity, `SELECT `+poolIdentityColumns+` FROM pool_identities
		WHERE account = ? AND region = ? AND pool = ? AND provider = ? AND subject = ?`, s.Account, s.Region, pool, provider, subject)
}

// PoolIdentities lists who a user is at providers, the oldest first.
func (tx *Tx) PoolIdentities(s fleet.Scope, pool, sub string) ([]PoolIdentity, error) {
	return all(tx, scanPoolIdentity, `SELECT `+poolIdentityColumns+` FROM pool_identities
		WHERE account = ? AND region = ? AND pool = ? AND sub = ? ORDER BY created, provider, subject`, s.Account, s.Region, pool, sub)
}

// AddPoolIdentity stores an identity. It fails with KindExists if the subject is known.
func (tx *Tx) AddPoolIdentity(s fleet.Scope, pool string, i PoolIdentity) error {
	added, err := tx.insert(`INSERT INTO pool_identities (account, region, pool, `+poolIdentityColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, i.Provider, i.Subject, i.Sub, flag(i.Origin), i.Issuer, millis(i.Created))
	if err == nil && !added {
		return fleet.Exists("identity", i.Provider+"/"+i.Subject, "already exists")
	}
	return err
}

// DeletePoolIdentity removes an identity.
func (tx *Tx) DeletePoolIdentity(s fleet.Scope, pool, provider, subject string) error {
	_, err := tx.exec(`DELETE FROM pool_identities WHERE account = ? AND region = ? AND pool = ? AND provider = ? AND subject = ?`,
		s.Account, s.Region, pool, provider, subject)
	return err
}
