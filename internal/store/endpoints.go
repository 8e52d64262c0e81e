package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// EndpointPrefix returns the scope's endpoint prefix, "" if it has none yet.
func (tx *Tx) EndpointPrefix(s fleet.Scope) (string, error) {
	prefix, _, err := one(tx, scanString, `SELECT prefix FROM endpoints WHERE account = ? AND region = ?`, s.Account, s.Region)
	return prefix, err
}

// CreateEndpointPrefix gives the scope a prefix and returns the one that it has from now on: its first, for ever. It fails
// with KindExists if another scope has this prefix.
func (tx *Tx) CreateEndpointPrefix(s fleet.Scope, prefix string) (string, error) {
	if _, err := tx.insert(`INSERT INTO endpoints (account, region, prefix) VALUES (?, ?, ?)`, s.Account, s.Region, prefix); err != nil {
		return "", err
	}
	has, err := tx.EndpointPrefix(s)
	if err == nil && has == "" {
		err = fleet.Exists("endpoint", prefix, "belongs to another account")
	}
	return has, err
}

// ScopeOfEndpoint returns the scope whose endpoint prefix this is. found is false if there is none.
func (tx *Tx) ScopeOfEndpoint(prefix string) (s fleet.Scope, found bool, err error) {
	return one(tx, func(row scanner) (s fleet.Scope, err error) {
		err = row.Scan(&s.Account, &s.Region)
		return s, err
	}, `SELECT account, region FROM endpoints WHERE prefix = ?`, prefix)
}

// EventConfigurations says which registry events a scope publishes.
type EventConfigurations struct {
	Enabled           []string // event types
	Created, Modified time.Time
}

// EventConfigurations returns what was stored last, the zero value if nothing was.
func (tx *Tx) EventConfigurations(s fleet.Scope) (EventConfigurations, error) {
	return remembered(tx, Change{s, ChangedEvents, ""}, "", func() (EventConfigurations, error) {
		e, _, err := one(tx, func(row scanner) (e EventConfigurations, err error) {
			var enabled string
			var created, modified int64
			if err := row.Scan(&enabled, &created, &modified); err != nil {
				return e, err
			}
			e.Created, e.Modified = fromMillis(created), fromMillis(modified)
			return e, fromJSON(enabled, &e.Enabled)
		}, `SELECT enabled, created, modified FROM event_configurations WHERE account = ? AND region = ?`, s.Account, s.Region)
		return e, err
	})
}

// PutEventConfigurations stores which registry events a scope publishes.
func (tx *Tx) PutEventConfigurations(s fleet.Scope, e EventConfigurations) error {
	_, err := tx.exec(`INSERT INTO event_configurations (account, region, enabled, created, modified) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, region) DO UPDATE SET enabled = excluded.enabled, modified = excluded.modified`,
		s.Account, s.Region, toJSON(e.Enabled), millis(e.Created), millis(e.Modified))
	tx.Changed(s, ChangedEvents, "")
	return err
}
