package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Succession says that a certificate goes when its successor has connected.
type Succession struct {
	Certificate string // id of the one that goes
	Successor   string // id of the one that has taken its place
	Thing       string
	Overlap     time.Duration // how long Certificate stays after the first connection of Successor
	Due         time.Time     // when Certificate goes; zero: Successor has not connected yet
	Created     time.Time
}

const successionColumns = `s.certificate, s.successor, s.thing, s.overlap, s.due, s.created`

func scanSuccession(row scanner) (s Succession, err error) {
	var overlap, due, created int64
	err = row.Scan(&s.Certificate, &s.Successor, &s.Thing, &overlap, &due, &created)
	s.Overlap, s.Due, s.Created = time.Duration(overlap)*time.Millisecond, fromMillis(due), fromMillis(created)
	return s, err
}

// AddSuccession notes a succession whose successor has not connected yet. One that is there stays as it is.
func (tx *Tx) AddSuccession(s fleet.Scope, n Succession) error {
	_, err := tx.insert(`INSERT INTO successions (account, region, certificate, successor, thing, overlap, due, created) VALUES (?, ?, ?, ?, ?, ?, 0, ?)`,
		s.Account, s.Region, n.Certificate, n.Successor, n.Thing, n.Overlap.Milliseconds(), millis(tx.Now()))
	return err
}

// Successions lists who is to take the place of a certificate, oldest first.
func (tx *Tx) Successions(s fleet.Scope, certificate string) ([]Succession, error) {
	return all(tx, scanSuccession, `SELECT `+successionColumns+` FROM successions s WHERE account = ? AND region = ? AND certificate = ? ORDER BY created, successor`,
		s.Account, s.Region, certificate)
}

// A ScopedSuccession is a succession with where it belongs.
type ScopedSuccession struct {
	Scope fleet.Scope
	Succession
}

// DueSuccessions lists at most limit successions, of all scopes, whose certificate is to go now.
func (tx *Tx) DueSuccessions(now time.Time, limit int) ([]ScopedSuccession, error) {
	return all(tx, func(row scanner) (n ScopedSuccession, err error) {
		n.Succession, err = scanSuccession(appendScan{row, []any{&n.Scope.Account, &n.Scope.Region}})
		return n, err
	}, `SELECT `+successionColumns+`, s.account, s.region FROM successions s WHERE s.due > 0 AND s.due <= ? ORDER BY s.due LIMIT ?`, millis(now), limit)
}

// DeleteSuccession forgets a succession.
func (tx *Tx) DeleteSuccession(s fleet.Scope, certificate, successor string) error {
	_, err := tx.exec(`DELETE FROM successions WHERE account = ? AND region = ? AND certificate = ? AND successor = ?`, s.Account, s.Region, certificate, successor)
	return err
}

// CertificateUsed notes that a certificate has connected. With its first connection those that it succeeds begin to go; soonest is when the
// first of them is due, zero if there is none.
func (tx *Tx) CertificateUsed(s fleet.Scope, id string, at time.Time) (soonest time.Time, err error) {
	first, _, err := one(tx, scanInt, `INSERT INTO certificate_use (account, region, certificate, first_seen, last_seen) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, region, certificate) DO UPDATE SET last_seen = CASE WHEN excluded.last_seen > certificate_use.last_seen THEN excluded.last_seen
		ELSE certificate_use.last_seen END RETURNING first_seen`, s.Account, s.Region, id, millis(at), millis(at))
	if err != nil || first != millis(at) {
		return soonest, err
	}
	due, err := all(tx, scanInt, `UPDATE successions SET due = ? + overlap WHERE account = ? AND region = ? AND successor = ? AND due = 0 RETURNING due`,
		millis(at), s.Account, s.Region, id)
	for _, ms := range due {
		if t := fromMillis(ms); soonest.IsZero() || t.Before(soonest) {
			soonest = t
		}
	}
	return soonest, err
}

// A CertificateUse says when a certificate connected.
type CertificateUse struct{ First, Last time.Time }

// CertificateUse returns when a certificate connected; found is false if it never did.
func (tx *Tx) CertificateUse(s fleet.Scope, id string) (u CertificateUse, found bool, err error) {
	return one(tx, func(row scanner) (u CertificateUse, err error) {
		var first, last int64
		err = row.Scan(&first, &last)
		return CertificateUse{fromMillis(first), fromMillis(last)}, err
	}, `SELECT first_seen, last_seen FROM certificate_use WHERE account = ? AND region = ? AND certificate = ?`, s.Account, s.Region, id)
}
