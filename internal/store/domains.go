package store

import (
	"github.com/imprint-iot/imprint/internal/fleet"
)

// ChangedDomain is the kind of Change for domain configurations; the key is the host name.
const ChangedDomain = "domain"

const domainColumns = `name, domain, managed, enabled, security_policy, authentication, protocol, changed`

func scanDomain(s scanner) (d fleet.DomainConfiguration, err error) {
	var changed int64
	err = s.Scan(&d.Name, &d.Domain, &d.Managed, &d.Enabled, &d.SecurityPolicy, &d.Authentication, &d.Protocol, &changed)
	d.Changed = fromMillis(changed)
	return d, err
}

// Domain returns a domain configuration. It fails with KindNotFound.
func (tx *Tx) Domain(s fleet.Scope, name string) (fleet.DomainConfiguration, error) {
	return find(tx, "domain configuration", name, scanDomain, `SELECT `+domainColumns+` FROM domain_configurations
		WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name)
}

// Domains lists the domain configurations of a scope by name.
func (tx *Tx) Domains(s fleet.Scope, p fleet.Page) ([]fleet.DomainConfiguration, string, error) {
	list, err := all(tx, scanDomain, `SELECT `+domainColumns+` FROM domain_configurations WHERE account = ? AND region = ? AND name > ? ORDER BY name LIMIT ?`,
		s.Account, s.Region, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(d fleet.DomainConfiguration) string { return d.Name })
	return list, next, err
}

// A ScopedDomain is a domain configuration with where it belongs.
type ScopedDomain struct {
	Scope fleet.Scope
	fleet.DomainConfiguration
}

// AllDomains lists the domain configurations of all scopes by host name. They are few: the server's certificate names those of customers.
func (tx *Tx) AllDomains() ([]ScopedDomain, error) {
	return all(tx, func(row scanner) (d ScopedDomain, err error) {
		d.DomainConfiguration, err = scanDomain(appendScan{row, []any{&d.Scope.Account, &d.Scope.Region}})
		return d, err
	}, `SELECT `+domainColumns+`, account, region FROM domain_configurations ORDER BY domain`)
}

// CreateDomain adds a domain configuration. It fails with KindExists if the name is taken, or the host name by any scope.
func (tx *Tx) CreateDomain(s fleet.Scope, d fleet.DomainConfiguration) error {
	added, err := tx.insert(`INSERT INTO domain_configurations (account, region, name, domain, managed, enabled, security_policy, authentication, protocol, changed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, s.Account, s.Region, d.Name, d.Domain, flag(d.Managed), flag(d.Enabled), d.SecurityPolicy, d.Authentication,
		d.Protocol, millis(d.Changed))
	if err == nil && !added {
		return fleet.Exists("domain configuration", d.Name, "already exists")
	}
	tx.Changed(s, ChangedDomain, d.Domain)
	return err
}

// UpdateDomain stores all but name and host name.
func (tx *Tx) UpdateDomain(s fleet.Scope, d fleet.DomainConfiguration) error {
	_, err := tx.exec(`UPDATE domain_configurations SET enabled = ?, security_policy = ?, authentication = ?, protocol = ?, changed = ?
		WHERE account = ? AND region = ? AND name = ?`, flag(d.Enabled), d.SecurityPolicy, d.Authentication, d.Protocol, millis(d.Changed), s.Account, s.Region, d.Name)
	tx.Changed(s, ChangedDomain, d.Domain)
	return err
}

// DeleteDomain removes a domain configuration with its tags.
func (tx *Tx) DeleteDomain(s fleet.Scope, d fleet.DomainConfiguration) error {
	if _, err := tx.exec(`DELETE FROM domain_configurations WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, d.Name); err != nil {
		return err
	}
	tx.Changed(s, ChangedDomain, d.Domain)
	return tx.deleteTags(s, fleet.DomainResource(s, d.Name))
}
