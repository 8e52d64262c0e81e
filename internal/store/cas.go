package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// ChangedCA is the kind of Change of customers' CAs; its key is the certificate id.
const ChangedCA = "ca"

const caColumns = `a.id, a.pem, a.subject, a.key_hash, a.status, a.mode, a.auto, a.template, a.body, a.role_arn, a.not_before, a.not_after,
	a.created, a.modified, a.version, a.generation`

func scanCA(s scanner) (c fleet.CA, err error) {
	var status, mode string
	var auto int
	var notBefore, notAfter, created, modified int64
	err = s.Scan(&c.ID, &c.PEM, &c.Subject, &c.Key, &status, &mode, &auto, &c.Config.Template, &c.Config.Body, &c.Config.RoleARN, &notBefore, &notAfter,
		&created, &modified, &c.Version, &c.Generation)
	c.Status, c.Mode, c.Auto = fleet.CertificateStatus(status), fleet.CertificateMode(mode), auto == 1
	c.NotBefore, c.NotAfter, c.Created, c.Modified = fromMillis(notBefore), fromMillis(notAfter), fromMillis(created), fromMillis(modified)
	return c, err
}

// CA returns a customer's CA. It fails with KindNotFound.
func (tx *Tx) CA(s fleet.Scope, id string) (fleet.CA, error) {
	return find(tx, "CA certificate", id, scanCA, `SELECT `+caColumns+` FROM ca_certificates a WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
}

// A ScopedCA is a CA with where it is registered.
type ScopedCA struct {
	Scope fleet.Scope
	fleet.CA
}

func scanScopedCA(row scanner) (c ScopedCA, err error) {
	c.CA, err = scanCA(appendScan{row, []any{&c.Scope.Account, &c.Scope.Region}})
	return c, err
}

// CAsBySubject returns the CAs of a region with this subject, oldest first: of one account, or of all if account is "".
func (tx *Tx) CAsBySubject(account, region, subject string) ([]ScopedCA, error) {
	return all(tx, scanScopedCA, `SELECT `+caColumns+`, a.account, a.region FROM ca_certificates a
		WHERE a.region = ? AND a.subject = ? AND (? = '' OR a.account = ?) ORDER BY a.created, a.account, a.id`, region, subject, account, account)
}

// CAsByID returns all registrations of a CA in a region, one for each account that has it.
func (tx *Tx) CAsByID(region, id string) ([]ScopedCA, error) {
	return all(tx, scanScopedCA, `SELECT `+caColumns+`, a.account, a.region FROM ca_certificates a WHERE a.region = ? AND a.id = ? ORDER BY a.account`, region, id)
}

// CreateCA adds a CA. It fails with KindExists if the scope has it.
func (tx *Tx) CreateCA(s fleet.Scope, c fleet.CA) error {
	added, err := tx.insert(`INSERT INTO ca_certificates (account, region, id, pem, subject, key_hash, status, mode, auto, template, body, role_arn,
		not_before, not_after, created, modified, version, generation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, c.ID, c.PEM, c.Subject, c.Key, string(c.Status), string(c.Mode), flag(c.Auto), c.Config.Template, c.Config.Body, c.Config.RoleARN,
		millis(c.NotBefore), millis(c.NotAfter), millis(c.Created), millis(c.Modified), c.Version, c.Generation)
	if err == nil && !added {
		return fleet.Exists("CA certificate", c.ID, "is registered already")
	}
	tx.Changed(s, ChangedCA, c.ID)
	return err
}

// UpdateCA stores status, auto-registration, configuration, modification time and version of c.
func (tx *Tx) UpdateCA(s fleet.Scope, c fleet.CA) error {
	_, err := tx.exec(`UPDATE ca_certificates SET status = ?, auto = ?, template = ?, body = ?, role_arn = ?, modified = ?, version = ?
		WHERE account = ? AND region = ? AND id = ?`,
		string(c.Status), flag(c.Auto), c.Config.Template, c.Config.Body, c.Config.RoleARN, millis(c.Modified), c.Version, s.Account, s.Region, c.ID)
	tx.Changed(s, ChangedCA, c.ID)
	return err
}

// DeleteCA removes a CA with its tags. What it has signed stays.
func (tx *Tx) DeleteCA(s fleet.Scope, id string) error {
	if _, err := tx.exec(`DELETE FROM ca_certificates WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id); err != nil {
		return err
	}
	tx.Changed(s, ChangedCA, id)
	return tx.deleteTags(s, "cacert/"+id)
}

// CAs lists CAs by creation time, oldest first, newest first if p.Desc; with a template only those that provision with it.
func (tx *Tx) CAs(s fleet.Scope, template string, p fleet.Page) ([]fleet.CA, string, error) {
	where, args := `a.account = ? AND a.region = ?`, []any{s.Account, s.Region}
	if template != "" {
		where += ` AND a.template = ? AND a.template <> ''`
		args = append(args, template)
	}
	keyset, order, keyArgs := timePage(p, "a.created", "a.id")
	list, err := all(tx, scanCA, `SELECT `+caColumns+` FROM ca_certificates a WHERE `+where+keyset+order+` LIMIT ?`,
		append(append(args, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(c fleet.CA) string { return timeKey(c.Created, c.ID) })
	return list, next, err
}

// RegistrationCode returns the code that proves the key of a CA, "" if the scope has none.
func (tx *Tx) RegistrationCode(s fleet.Scope) (string, error) {
	code, _, err := one(tx, scanString, `SELECT code FROM registration_codes WHERE account = ? AND region = ?`, s.Account, s.Region)
	return code, err
}

// CreateRegistrationCode gives the scope a code, unless it has one, and returns the one that it has.
func (tx *Tx) CreateRegistrationCode(s fleet.Scope, code string) (string, error) {
	if _, err := tx.insert(`INSERT INTO registration_codes (account, region, code) VALUES (?, ?, ?)`, s.Account, s.Region, code); err != nil {
		return "", err
	}
	return tx.RegistrationCode(s)
}

// DeleteRegistrationCode takes a scope's code away. It is no error if there is none.
func (tx *Tx) DeleteRegistrationCode(s fleet.Scope) error {
	_, err := tx.exec(`DELETE FROM registration_codes WHERE account = ? AND region = ?`, s.Account, s.Region)
	return err
}

// A FirstConnection says why a certificate that its first connection has registered waits for its activation.
type FirstConnection struct {
	Reason, Cure string
	Trace        string // id
	Tried        time.Time
}

// FirstConnection returns the outcome of the last attempt to provision a certificate. found is false if none has failed.
func (tx *Tx) FirstConnection(s fleet.Scope, certificate string) (f FirstConnection, found bool, err error) {
	return one(tx, func(row scanner) (f FirstConnection, err error) {
		var tried int64
		err = row.Scan(&f.Reason, &f.Cure, &f.Trace, &tried)
		f.Tried = fromMillis(tried)
		return f, err
	}, `SELECT reason, cure, trace, tried FROM first_connections WHERE account = ? AND region = ? AND certificate = ?`, s.Account, s.Region, certificate)
}

// PutFirstConnection stores the outcome of an attempt to provision a certificate.
func (tx *Tx) PutFirstConnection(s fleet.Scope, certificate string, f FirstConnection) error {
	_, err := tx.exec(`INSERT INTO first_connections (account, region, certificate, reason, cure, trace, tried) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, certificate) DO UPDATE SET reason = excluded.reason, cure = excluded.cure, trace = excluded.trace, tried = excluded.tried`,
		s.Account, s.Region, certificate, f.Reason, f.Cure, f.Trace, millis(f.Tried))
	return err
}

// ForgetFirstConnection removes what was noted about a certificate that waits no more.
func (tx *Tx) ForgetFirstConnection(s fleet.Scope, certificate string) error {
	_, err := tx.exec(`DELETE FROM first_connections WHERE account = ? AND region = ? AND certificate = ?`, s.Account, s.Region, certificate)
	return err
}

// WaitingOf counts the certificates of a CA that wait for their activation, up to limit.
func (tx *Tx) WaitingOf(s fleet.Scope, ca string, limit int) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM (SELECT 1 FROM certificates WHERE account = ? AND region = ? AND ca_id = ? AND ca_id <> '' AND status = 'PENDING_ACTIVATION' LIMIT ?) AS waiting`,
		s.Account, s.Region, ca, limit).Scan(&n)
	return n, err
}
