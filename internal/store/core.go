package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// CreateAccount adds an account. It fails with KindExists if the id is taken.
func (tx *Tx) CreateAccount(id, name string) error {
	added, err := tx.insert(`INSERT INTO accounts (account, name, created) VALUES (?, ?, ?)`, id, name, millis(tx.Now()))
	if err == nil && !added {
		return fleet.Exists("account", id, "already exists")
	}
	return err
}

// An Account is one tenant of the service.
type Account struct {
	ID, Name string
	Created  time.Time
}

// Accounts lists all accounts by id.
func (tx *Tx) Accounts() ([]Account, error) {
	return all(tx, func(s scanner) (a Account, err error) {
		var created int64
		err = s.Scan(&a.ID, &a.Name, &created)
		a.Created = fromMillis(created)
		return a, err
	}, `SELECT account, name, created FROM accounts ORDER BY account`)
}

// AccountExists reports whether the account exists.
func (tx *Tx) AccountExists(id string) (bool, error) {
	_, found, err := one(tx, scanString, `SELECT account FROM accounts WHERE account = ?`, id)
	return found, err
}

// Setting returns a setting of the installation, "" if it was never set.
func (tx *Tx) Setting(name string) (string, error) {
	v, _, err := one(tx, scanString, `SELECT value FROM settings WHERE name = ?`, name)
	return v, err
}

// PutSetting stores a setting of the installation.
func (tx *Tx) PutSetting(name, value string) error {
	_, err := tx.exec(`INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

// ChangedCutoff is the kind of Change of a cut-off; the key is its subject.
const ChangedCutoff = "cutoff"

// CutOff kills every credential and unused claim of subject that was issued at or before at. Subjects are "user:POOL/SUB",
// "role:NAME" and "key:ACCESSKEYID". Listeners get a ChangedCutoff.
func (tx *Tx) CutOff(s fleet.Scope, subject string, at time.Time) error {
	_, err := tx.exec(`INSERT INTO cutoffs (account, region, subject, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (account, region, subject) DO UPDATE SET at = excluded.at WHERE excluded.at > cutoffs.at`,
		s.Account, s.Region, subject, millis(at))
	tx.Changed(s, ChangedCutoff, subject)
	return err
}

// CutoffAfter reports whether any of the subjects was cut off at or after issued.
func (tx *Tx) CutoffAfter(s fleet.Scope, issued time.Time, subjects ...string) (bool, error) {
	for _, subject := range subjects {
		if subject == "" {
			continue
		}
		at, err := remembered(tx, Change{s, ChangedCutoff, subject}, "at", func() (at int64, err error) {
			at, _, err = one(tx, scanInt, `SELECT at FROM cutoffs WHERE account = ? AND region = ? AND subject = ?`, s.Account, s.Region, subject)
			return at, err
		})
		if err != nil || at > 0 && at >= millis(issued) {
			return err == nil, err
		}
	}
	return false, nil
}
