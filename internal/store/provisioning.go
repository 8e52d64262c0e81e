package store

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func noRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

const claimColumns = `c.id, c.subject, c.template, c.created, c.expires, c.revoked, c.installer, c.generation, c.limits`

func scanClaim(s scanner) (c fleet.Claim, err error) {
	var created, expires, revoked int64
	var installer, limits string
	if err := s.Scan(&c.ID, &c.Subject, &c.Template, &created, &expires, &revoked, &installer, &c.Generation, &limits); err != nil {
		return c, err
	}
	c.Created, c.Expires, c.Revoked = fromMillis(created), fromMillis(expires), fromMillis(revoked)
	return c, errors.Join(fromJSON(installer, &c.Installer), fromJSON(limits, &c.Limits))
}

// Claim returns a temporary claim. It fails with KindNotFound.
func (tx *Tx) Claim(s fleet.Scope, id string) (fleet.Claim, error) {
	return remembered(tx, Change{s, ChangedClaim, id}, "", func() (fleet.Claim, error) {
		return find(tx, "claim", id, scanClaim,
			`SELECT `+claimColumns+` FROM claims c WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
	})
}

// A ScopedClaim is a claim with where it belongs.
type ScopedClaim struct {
	Scope fleet.Scope
	fleet.Claim
}

// ClaimByID finds a claim in any scope by its certificate's id.
func (tx *Tx) ClaimByID(id string) (ScopedClaim, bool, error) {
	if e := tx.expectation(id); e != nil && e.claim != nil {
		return *e.claim, true, nil
	}
	return one(tx, func(row scanner) (c ScopedClaim, err error) {
		var s fleet.Scope
		c.Claim, err = scanClaim(appendScan{row, []any{&s.Account, &s.Region}})
		c.Scope = s
		return c, err
	}, `SELECT `+claimColumns+`, c.account, c.region FROM claims c WHERE c.id = ?`, id)
}

// Claims lists the claims of a template by creation time, newest first if p.Desc. An empty template lists nothing.
func (tx *Tx) Claims(s fleet.Scope, template string, p fleet.Page) ([]fleet.Claim, string, error) {
	keyset, order, keyArgs := timePage(p, "c.created", "c.id")
	list, err := all(tx, scanClaim, `SELECT `+claimColumns+` FROM claims c WHERE account = ? AND region = ? AND template = ?`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region, template}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(c fleet.Claim) string { return timeKey(c.Created, c.ID) })
	return list, next, err
}

// CreateClaim adds a claim.
func (tx *Tx) CreateClaim(s fleet.Scope, c fleet.Claim) error {
	_, err := tx.exec(`INSERT INTO claims (account, region, id, subject, template, created, expires, revoked, installer, generation, limits)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, c.ID, c.Subject, c.Template, millis(c.Created), millis(c.Expires), millis(c.Revoked), toJSON(c.Installer), c.Generation, limitsColumn(c.Limits))
	tx.Changed(s, ChangedClaim, c.ID)
	return err
}

// RevokeClaim ends a claim. It fails with KindNotFound; a claim that was revoked before keeps its time.
func (tx *Tx) RevokeClaim(s fleet.Scope, id string) error {
	found, err := changedRows(tx.exec(`UPDATE claims SET revoked = CASE WHEN revoked = 0 THEN ? ELSE revoked END
		WHERE account = ? AND region = ? AND id = ?`, millis(tx.Now()), s.Account, s.Region, id))
	if err == nil && !found {
		err = fleet.NotFound("claim", id)
	}
	tx.Changed(s, ChangedClaim, id)
	return err
}

// DeleteClaims forgets claims that expired before t, at most limit, and returns how many.
func (tx *Tx) DeleteClaims(t time.Time, limit int) (int, error) {
	if _, err := tx.exec(`DELETE FROM claim_uses WHERE (account, region, budget) IN (SELECT account, region, id FROM claims WHERE expires < ? ORDER BY expires LIMIT ?)`,
		millis(t), limit); err != nil {
		return 0, err
	}
	list, err := all(tx, scanChange(ChangedClaim), `DELETE FROM claims WHERE id IN (SELECT id FROM claims WHERE expires < ? ORDER BY expires LIMIT ?)
		RETURNING account, region, id`, millis(t), limit)
	for _, c := range list {
		tx.Changed(c.Scope, c.Kind, c.Key)
	}
	return len(list), err
}

func affected(r driver.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// A Registration is what a certificate's ownership token was spent on.
type Registration struct {
	Certificate   string
	Thing         string // "" when the template has none
	Template      string
	Version       int
	Principal     string // claim or certificate id that asked
	Installer     fleet.Installer
	Parameters    string            // hash of what the device sent
	Key           string            // hash of the certificate's public key; "": not known
	Configuration map[string]string // the answer; forgotten after ReplayUntil
	Created       time.Time
	ReplayUntil   time.Time // zero: the answer can't be had again
	Trail         fleet.Trail
	Contained     time.Time // when its claim was contained; zero: it stands
}

func scanRegistration(s scanner) (r Registration, err error) {
	var installer, configuration, trail string
	var created, until, contained int64
	err = s.Scan(&r.Certificate, &r.Thing, &r.Template, &r.Version, &r.Principal, &installer, &r.Parameters, &configuration, &created, &until, &r.Key, &trail, &contained)
	r.Created, r.ReplayUntil, r.Contained = fromMillis(created), fromMillis(until), fromMillis(contained)
	return r, errors.Join(err, fromJSON(installer, &r.Installer), fromJSON(configuration, &r.Configuration), readTrail(trail, &r.Trail))
}

const registrationColumns = `r.certificate, r.thing, r.template, r.version, r.principal, r.installer, r.parameters, r.configuration, r.created, r.replay_until,
	r.key_hash, r.trail, r.contained`

// Registration returns what a certificate's token was spent on; found is false if it wasn't.
func (tx *Tx) Registration(s fleet.Scope, certificate string) (r Registration, found bool, err error) {
	if tx.pending(s, certificate) != nil {
		return r, false, nil
	}
	return one(tx, scanRegistration, `SELECT `+registrationColumns+` FROM registrations r WHERE account = ? AND region = ? AND certificate = ?`,
		s.Account, s.Region, certificate)
}

// RegistrationsOf lists the registrations of a thing, oldest first.
func (tx *Tx) RegistrationsOf(s fleet.Scope, thing string) ([]Registration, error) {
	return all(tx, scanRegistration, `SELECT `+registrationColumns+` FROM registrations r WHERE account = ? AND region = ? AND thing = ? ORDER BY created`,
		s.Account, s.Region, thing)
}

// PutRegistration spends a token. It fails with KindExists if it is spent.
func (tx *Tx) PutRegistration(s fleet.Scope, r Registration) error {
	added, err := tx.insert(`INSERT INTO registrations (account, region, certificate, thing, template, version, principal, installer, parameters, configuration, created,
		replay_until, key_hash, trail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, r.Certificate, r.Thing, r.Template, r.Version, r.Principal, toJSON(r.Installer), r.Parameters, toJSON(r.Configuration),
		millis(r.Created), millis(r.ReplayUntil), r.Key, writeTrail(r.Trail))
	if err == nil && !added {
		return fleet.Exists("registration", r.Certificate, "the ownership token is spent")
	}
	tx.db.expected.forget(Change{s, ChangedCertificate, r.Certificate})
	return err
}

// ForgetAnswers drops answers that can't be replayed any more, at most limit, and returns how many. The rest of the
// registrations stays: it tells who put which thing there.
func (tx *Tx) ForgetAnswers(now time.Time, limit int) (int, error) {
	r, err := tx.exec(`UPDATE registrations SET configuration = '', replay_until = 0 WHERE (account, region, certificate) IN (
		SELECT account, region, certificate FROM registrations WHERE replay_until > 0 AND replay_until <= ? ORDER BY replay_until LIMIT ?)`, millis(now), limit)
	return affected(r, err)
}

// CertificateOfCSR finds the certificate that the claim has got for this CSR and may still register, or has registered so
// lately that the answer can be had again. A device that lost power asks for it anew.
func (tx *Tx) CertificateOfCSR(s fleet.Scope, claim, csrHash string, now time.Time) (c fleet.Certificate, until time.Time, found bool, err error) {
	if claim == "" || csrHash == "" {
		return c, until, false, nil
	}
	// Most requests are new, and an index alone says so.
	if _, found, err = one(tx, scanInt, `SELECT 1 FROM certificates WHERE account = ? AND region = ? AND origin_claim = ? AND origin_claim <> '' AND origin_csr = ? LIMIT 1`,
		s.Account, s.Region, claim, csrHash); err != nil || !found {
		return c, until, false, err
	}
	var ms int64
	// The unary plus keeps SQLite from asking whether a bound time implies the condition of a partial index (expires > 0): for that
	// it would compile the statement again at every new value.
	c, found, err = one(tx, func(row scanner) (fleet.Certificate, error) { return scanCertificate(appendScan{row, []any{&ms}}) },
		`SELECT `+certificateColumns+`, CASE WHEN c.status = ? THEN c.expires ELSE r.replay_until END FROM certificates c
		LEFT JOIN registrations r ON r.account = c.account AND r.region = c.region AND r.certificate = c.id
		WHERE c.account = ? AND c.region = ? AND c.origin_claim = ? AND c.origin_claim <> '' AND c.origin_csr = ?
			AND (c.status = ? AND +c.expires > ? OR c.status IN (?, ?) AND +r.replay_until > ?)
		ORDER BY c.created DESC, c.id LIMIT 1`,
		string(fleet.PendingActivation), s.Account, s.Region, claim, csrHash,
		string(fleet.PendingActivation), millis(now), string(fleet.Active), string(fleet.Inactive), millis(now))
	return c, fromMillis(ms), found, err
}

// PendingOf counts the certificates that claim asked for and nobody has registered, up to limit.
func (tx *Tx) PendingOf(s fleet.Scope, claim string, limit int) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM (SELECT 1 FROM certificates WHERE account = ? AND region = ? AND origin_claim = ? AND origin_claim <> '' AND expires > 0 LIMIT ?) AS pending`,
		s.Account, s.Region, claim, limit).Scan(&n)
	return n, err
}
