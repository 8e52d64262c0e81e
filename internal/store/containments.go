package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A ContainmentPhase says how far the containment of a claim has come.
type ContainmentPhase int

const (
	Revoking  ContainmentPhase = iota // its certificates lose their power
	Freeing                           // their things and names become free
	Contained                         // done
)

// A Containment is what was, and is still to be, done about a stolen claim, or about a certificate that descends from one and has
// descendants itself.
type Containment struct {
	Claim    string    // claim or certificate id
	Root     string    // the claim that was named; Claim for that one
	Since    time.Time // what was made before stays
	Phase    ContainmentPhase
	After    string // where the phase has come to
	Actor    string // ARN of who asked
	Started  time.Time
	Finished time.Time // zero: not yet

	Certificates int // that lost their power
	Things       int // that were removed
	Released     int // that lost a principal and stay
}

// A ScopedContainment is a containment with where it belongs.
type ScopedContainment struct {
	Scope fleet.Scope
	Containment
}

const containmentColumns = `claim, root, since, phase, after, actor, started, finished, certificates, things, released`

func scanContainment(row scanner) (c Containment, err error) {
	var since, phase, started, finished int64
	err = row.Scan(&c.Claim, &c.Root, &since, &phase, &c.After, &c.Actor, &started, &finished, &c.Certificates, &c.Things, &c.Released)
	c.Phase = ContainmentPhase(phase)
	c.Since, c.Started, c.Finished = fromMillis(since), fromMillis(started), fromMillis(finished)
	return c, err
}

// Containment returns the containment of a claim or certificate; found is false if there is none.
func (tx *Tx) Containment(s fleet.Scope, claim string) (c Containment, found bool, err error) {
	return one(tx, scanContainment, `SELECT `+containmentColumns+` FROM containments WHERE account = ? AND region = ? AND claim = ?`, s.Account, s.Region, claim)
}

// PutContainment stores a containment, new or changed.
func (tx *Tx) PutContainment(s fleet.Scope, c Containment) error {
	_, err := tx.exec(`INSERT INTO containments (account, region, `+containmentColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, claim) DO UPDATE SET root = excluded.root, since = excluded.since, phase = excluded.phase, after = excluded.after,
			actor = excluded.actor, started = excluded.started, finished = excluded.finished, certificates = excluded.certificates,
			things = excluded.things, released = excluded.released`,
		s.Account, s.Region, c.Claim, c.Root, millis(c.Since), int(c.Phase), c.After, c.Actor, millis(c.Started), millis(c.Finished), c.Certificates, c.Things, c.Released)
	return err
}

// OpenContainment returns a containment of any scope that has something left to do, certificates before names.
func (tx *Tx) OpenContainment() (c ScopedContainment, found bool, err error) {
	return one(tx, func(row scanner) (c ScopedContainment, err error) {
		c.Containment, err = scanContainment(appendScan{row, []any{&c.Scope.Account, &c.Scope.Region}})
		return c, err
	}, `SELECT `+containmentColumns+`, account, region FROM containments WHERE phase < 2 ORDER BY phase, account, region, claim LIMIT 1`)
}

// ContainmentOf sums up the containment of a claim with those of all descendants; open is true while one of them has something left
// to do. found is false if there is none.
func (tx *Tx) ContainmentOf(s fleet.Scope, root string) (c Containment, open, found bool, err error) {
	if c, found, err = tx.Containment(s, root); err != nil || !found {
		return c, false, found, err
	}
	err = tx.row(`SELECT CAST(COALESCE(SUM(CASE WHEN phase < 2 THEN 1 ELSE 0 END), 0) AS BIGINT) > 0, CAST(COALESCE(SUM(certificates), 0) AS BIGINT),
		CAST(COALESCE(SUM(things), 0) AS BIGINT), CAST(COALESCE(SUM(released), 0) AS BIGINT)
		FROM containments WHERE account = ? AND region = ? AND root = ?`, s.Account, s.Region, c.Root).Scan(&open, &c.Certificates, &c.Things, &c.Released)
	return c, open, true, err
}

// MarkContained notes that what the registration of a certificate did is to be undone, and forgets its answer. A second time changes
// nothing.
func (tx *Tx) MarkContained(s fleet.Scope, certificate string) error {
	_, err := tx.exec(`UPDATE registrations SET contained = ?, configuration = '', replay_until = 0 WHERE account = ? AND region = ? AND certificate = ? AND contained = 0`,
		millis(tx.Now()), s.Account, s.Region, certificate)
	return err
}

// PutTrail replaces what is known of what a registration did.
func (tx *Tx) PutTrail(s fleet.Scope, certificate string, t fleet.Trail) error {
	_, err := tx.exec(`UPDATE registrations SET trail = ? WHERE account = ? AND region = ? AND certificate = ?`, writeTrail(t), s.Account, s.Region, certificate)
	return err
}

// HasDescendants reports whether any certificate was asked for by this claim or certificate.
func (tx *Tx) HasDescendants(s fleet.Scope, claim string) (has bool, err error) {
	err = tx.row(`SELECT EXISTS (SELECT 1 FROM certificates WHERE account = ? AND region = ? AND origin_claim = ? AND origin_claim <> '')`,
		s.Account, s.Region, claim).Scan(&has)
	return has, err
}

// Bounds of CertificatesOfClaim: a claim with few certificates is asked for them; for one with many all certificates are gone through in
// the order of time, so many of them for a page.
const (
	fewDescendants = 1000
	maxExamined    = 2000
)

// CertificatesOfClaim lists the certificates that a claim, or a certificate that was used as one, has asked for since a time, oldest
// first. A page looks at a bounded number of certificates: it may be short, or empty, and have a next one.
func (tx *Tx) CertificatesOfClaim(s fleet.Scope, claim string, since time.Time, p fleet.Page) ([]fleet.Certificate, string, error) {
	var n int
	if err := tx.row(fmt.Sprintf(`SELECT COUNT(*) FROM (SELECT 1 FROM certificates WHERE account = ? AND region = ? AND origin_claim = ? AND origin_claim <> '' LIMIT %d) AS few`,
		fewDescendants+1), s.Account, s.Region, claim).Scan(&n); err != nil {
		return nil, "", err
	}
	ms, id := millis(since), ""
	if at, after, ok := strings.Cut(p.After, "/"); ok {
		if t, err := strconv.ParseInt(at, 10, 64); err == nil {
			ms, id = t, after
		}
	}
	key := func(c fleet.Certificate) string { return timeKey(c.Created, c.ID) }
	if n <= fewDescendants {
		list, err := all(tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates c
			WHERE account = ? AND region = ? AND origin_claim = ? AND origin_claim <> '' AND (+c.created, c.id) > (?, ?) ORDER BY +c.created, c.id LIMIT ?`,
			s.Account, s.Region, claim, ms, id, pageLimit(p))
		list, next := cutPage(p, list, key)
		return list, next, err
	}
	var lastMS int64
	var lastID string
	err := tx.row(fmt.Sprintf(`SELECT created, id FROM certificates WHERE account = ? AND region = ? AND (created, id) > (?, ?)
		ORDER BY created, id LIMIT 1 OFFSET %d`, maxExamined-1), s.Account, s.Region, ms, id).Scan(&lastMS, &lastID)
	more := !noRows(err)
	switch {
	case !more:
		lastMS, lastID = 1<<62, ""
	case err != nil:
		return nil, "", err
	}
	list, err := all(tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates c
		WHERE account = ? AND region = ? AND (c.created, c.id) > (?, ?) AND (c.created, c.id) <= (?, ?) AND c.origin_claim || '' = ? ORDER BY c.created, c.id LIMIT ?`,
		s.Account, s.Region, ms, id, lastMS, lastID, claim, pageLimit(p))
	list, next := cutPage(p, list, key)
	if next == "" && more {
		next = strconv.FormatInt(lastMS, 10) + "/" + lastID
	}
	return list, next, err
}

// DetachPolicies unties all policies from a target, and returns how many.
func (tx *Tx) DetachPolicies(s fleet.Scope, target string) (int, error) {
	n, err := affected(tx.exec(`DELETE FROM policy_attachments WHERE account = ? AND region = ? AND target = ?`, s.Account, s.Region, principalKey(s, target)))
	if n > 0 {
		tx.Changed(s, ChangedAttachment, target)
	}
	return n, err
}
