package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const certificateColumns = `c.id, c.pem, c.status, c.mode, c.ca_id, c.not_before, c.not_after, c.created, c.modified, c.version, c.generation,
	c.origin_claim, c.origin_requester, c.origin_template, c.origin_csr, c.expires, c.limited`

func scanCertificate(s scanner) (c fleet.Certificate, err error) {
	var status, mode string
	var notBefore, notAfter, created, modified, expires int64
	err = s.Scan(&c.ID, &c.PEM, &status, &mode, &c.CAID, &notBefore, &notAfter, &created, &modified, &c.Version, &c.Generation,
		&c.Origin.ClaimID, &c.Origin.Requester, &c.Origin.Template, &c.Origin.CSRHash, &expires, &c.Limited)
	c.Status, c.Mode = fleet.CertificateStatus(status), fleet.CertificateMode(mode)
	c.NotBefore, c.NotAfter = fromMillis(notBefore), fromMillis(notAfter)
	c.Created, c.Modified, c.Origin.Expires = fromMillis(created), fromMillis(modified), fromMillis(expires)
	return c, err
}

// Certificate returns a certificate. It fails with KindNotFound.
func (tx *Tx) Certificate(s fleet.Scope, id string) (fleet.Certificate, error) {
	if e := tx.expectation(id); e != nil && e.claim == nil && e.certificates[0].Scope == s {
		tx.saw(Change{s, ChangedCertificate, id}, e.certificates[0].Certificate, true)
		return e.certificates[0].Certificate, nil
	}
	c, found, err := again(tx, Change{s, ChangedCertificate, id}, func() (fleet.Certificate, bool, error) {
		return one(tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates c WHERE account = ? AND region = ? AND id = ?`,
			s.Account, s.Region, id)
	})
	if err == nil && !found {
		err = fleet.NotFound("certificate", id)
	}
	return c, err
}

// A ScopedCertificate is a certificate with where it is registered.
type ScopedCertificate struct {
	Scope fleet.Scope
	fleet.Certificate
}

func scanScopedCertificate(row scanner) (c ScopedCertificate, err error) {
	c.Certificate, err = scanCertificate(appendScan{row, []any{&c.Scope.Account, &c.Scope.Region}})
	return c, err
}

// CertificatesByID returns every registration of a certificate in any scope: one, unless its owner registered it in several
// accounts (provisioning spec 7.5). It is empty if there is none.
func (tx *Tx) CertificatesByID(id string) ([]ScopedCertificate, error) {
	if e := tx.expectation(id); e != nil {
		return slices.Clone(e.certificates), nil
	}
	return all(tx, scanScopedCertificate, `SELECT `+certificateColumns+`, c.account, c.region FROM certificates c
		WHERE c.id = ? ORDER BY c.account, c.region`, id)
}

// CreateCertificate adds a certificate. It fails with KindExists if the scope has it.
func (tx *Tx) CreateCertificate(s fleet.Scope, c fleet.Certificate) error {
	added, err := tx.insert(`INSERT INTO certificates (account, region, id, pem, status, mode, ca_id, not_before, not_after, created, modified,
		version, generation, origin_claim, origin_requester, origin_template, origin_csr, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, c.ID, c.PEM, string(c.Status), string(c.Mode), c.CAID, millis(c.NotBefore), millis(c.NotAfter),
		millis(c.Created), millis(c.Modified), c.Version, c.Generation, c.Origin.ClaimID, c.Origin.Requester, c.Origin.Template,
		c.Origin.CSRHash, millis(c.Origin.Expires))
	if err == nil && !added {
		return fleet.Exists("certificate", c.ID, "is registered already")
	}
	tx.Changed(s, ChangedCertificate, c.ID)
	if err == nil { // one that was not there is tied to nothing
		tx.saw(Change{s, ChangedCertificate, c.ID}, asStored(c), true)
		tx.saw(Change{s, ChangedAttachment, s.IoT("cert", c.ID)}, Ties{}, true)
	}
	return err
}

// asStored is a certificate as the database gives it back.
func asStored(c fleet.Certificate) fleet.Certificate {
	for _, at := range []*time.Time{&c.NotBefore, &c.NotAfter, &c.Created, &c.Modified, &c.Origin.Expires} {
		*at = fromMillis(millis(*at))
	}
	return c
}

// UpdateCertificate stores status, modification time, version and expiry of c.
func (tx *Tx) UpdateCertificate(s fleet.Scope, c fleet.Certificate) error {
	_, err := tx.exec(`UPDATE certificates SET status = ?, modified = ?, version = ?, expires = ? WHERE account = ? AND region = ? AND id = ?`,
		string(c.Status), millis(c.Modified), c.Version, millis(c.Origin.Expires), s.Account, s.Region, c.ID)
	on := Change{s, ChangedCertificate, c.ID}
	was, looked := tx.looks[on]
	tx.Changed(s, ChangedCertificate, c.ID)
	if looked && was.found && err == nil {
		row := was.row.(fleet.Certificate)
		row.Status, row.Modified, row.Version, row.Origin.Expires = c.Status, fromMillis(millis(c.Modified)), c.Version, fromMillis(millis(c.Origin.Expires))
		tx.saw(on, row, true)
	}
	return err
}

// DeleteCertificate removes a certificate with its policy attachments, its use, its successions and what is known of a transfer.
// Things must be detached before.
func (tx *Tx) DeleteCertificate(s fleet.Scope, id string) error {
	for q, key := range map[string]string{
		`DELETE FROM certificates WHERE account = ? AND region = ? AND id = ?`:                   id,
		`DELETE FROM policy_attachments WHERE account = ? AND region = ? AND target = ?`:         "cert/" + id,
		`DELETE FROM certificate_use WHERE account = ? AND region = ? AND certificate = ?`:       id,
		`DELETE FROM successions WHERE account = ? AND region = ? AND certificate = ?`:           id,
		`DELETE FROM successions WHERE account = ? AND region = ? AND successor = ?`:             id,
		`DELETE FROM certificate_transfers WHERE account = ? AND region = ? AND certificate = ?`: id,
		`DELETE FROM first_connections WHERE account = ? AND region = ? AND certificate = ?`:     id,
	} {
		if _, err := tx.exec(q, s.Account, s.Region, key); err != nil {
			return err
		}
	}
	delete(tx.looks, Change{s, ChangedAttachment, s.IoT("cert", id)})
	tx.Changed(s, ChangedCertificate, id)
	return nil
}

// A CertificateFilter narrows a list of certificates; zero fields do not.
type CertificateFilter struct {
	CA    string    // signed by this registered CA
	Since time.Time // made, or for those of a CA registered, no earlier
}

// Certificates lists certificates by creation time, oldest first, newest first if p.Desc.
func (tx *Tx) Certificates(s fleet.Scope, f CertificateFilter, p fleet.Page) ([]fleet.Certificate, string, error) {
	where, args := `c.account = ? AND c.region = ?`, []any{s.Account, s.Region}
	if f.CA != "" {
		where += ` AND c.ca_id = ? AND c.ca_id <> ''`
		args = append(args, f.CA)
	}
	if !f.Since.IsZero() {
		where += ` AND c.created >= ?`
		args = append(args, millis(f.Since))
	}
	keyset, order, keyArgs := timePage(p, "c.created", "c.id")
	list, err := all(tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates c WHERE `+where+keyset+order+` LIMIT ?`,
		append(append(args, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(c fleet.Certificate) string { return timeKey(c.Created, c.ID) })
	return list, next, err
}

// DeleteExpired removes at most limit pending certificates whose time has passed, and returns how many it looked at: call
// again while that is limit. One that something was attached to is kept, and expires no more (provisioning spec 9.1).
func (tx *Tx) DeleteExpired(now time.Time, limit int) (int, error) {
	list, err := all(tx, scanScopedCertificate, `SELECT `+certificateColumns+`, c.account, c.region FROM certificates c
		WHERE c.expires > 0 AND c.expires <= ? ORDER BY c.expires LIMIT ?`, millis(now), limit)
	if err != nil {
		return 0, err
	}
	for _, c := range list {
		used, err := tx.certificateInUse(c.Scope, c.ID)
		if err != nil {
			return 0, err
		}
		if used || c.Status != fleet.PendingActivation {
			c.Origin.Expires = time.Time{}
			err = tx.UpdateCertificate(c.Scope, c.Certificate)
		} else {
			err = tx.DeleteCertificate(c.Scope, c.ID)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(list), nil
}

func (tx *Tx) certificateInUse(s fleet.Scope, id string) (used bool, err error) {
	err = tx.row(`SELECT EXISTS (SELECT 1 FROM thing_principals WHERE account = ? AND region = ? AND principal = ?)
		OR EXISTS (SELECT 1 FROM policy_attachments WHERE account = ? AND region = ? AND target = ?)`,
		s.Account, s.Region, "cert/"+id, s.Account, s.Region, "cert/"+id).Scan(&used)
	return used, err
}

// timePage continues a list ordered by creation time and id after a key made by timeKey.
func timePage(p fleet.Page, created, id string) (keyset, order string, args []any) {
	cmp, dir := ">", "ASC"
	if p.Desc {
		cmp, dir = "<", "DESC"
	}
	order = fmt.Sprintf(" ORDER BY %s %s, %s %s", created, dir, id, dir)
	if at, after, ok := strings.Cut(p.After, "/"); ok {
		if ms, err := strconv.ParseInt(at, 10, 64); err == nil {
			return fmt.Sprintf(" AND (%s, %s) %s (?, ?)", created, id, cmp), order, []any{ms, after}
		}
	}
	return "", order, nil
}

func timeKey(created time.Time, id string) string {
	return strconv.FormatInt(millis(created), 10) + "/" + id
}
