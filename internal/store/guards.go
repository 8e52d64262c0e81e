package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Kinds of Change of guards, and their keys.
const ChangedApproval = "approval" // approval id: asked for, decided, used

// limitsColumn is how limits are stored.
func limitsColumn(l fleet.ClaimLimits) string {
	if l.IsZero() {
		return ""
	}
	return toJSON(l)
}

const bootstrapColumns = `b.certificate, b.budget, b.limits, b.successor, b.ends, b.modified`

func scanBootstrap(s scanner) (b fleet.Bootstrap, err error) {
	var limits string
	var ends, modified int64
	if err := s.Scan(&b.Certificate, &b.Budget, &limits, &b.Successor, &ends, &modified); err != nil {
		return b, err
	}
	b.Ends, b.Modified = fromMillis(ends), fromMillis(modified)
	return b, fromJSON(limits, &b.Limits)
}

// Bootstrap returns what is said of a certificate as a shared claim; found is false if nothing is. fleet.Certificate.Limited tells
// without asking.
func (tx *Tx) Bootstrap(s fleet.Scope, certificate string) (b fleet.Bootstrap, found bool, err error) {
	return one(tx, scanBootstrap, `SELECT `+bootstrapColumns+` FROM bootstraps b WHERE account = ? AND region = ? AND certificate = ?`,
		s.Account, s.Region, certificate)
}

// PutBootstrap stores what is said of a certificate.
func (tx *Tx) PutBootstrap(s fleet.Scope, b fleet.Bootstrap) error {
	_, err := tx.exec(`INSERT INTO bootstraps (account, region, certificate, budget, limits, successor, ends, modified) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, certificate) DO UPDATE SET budget = excluded.budget, limits = excluded.limits, successor = excluded.successor,
			ends = excluded.ends, modified = excluded.modified`,
		s.Account, s.Region, b.Certificate, b.Budget, limitsColumn(b.Limits), b.Successor, millis(b.Ends), millis(tx.Now()))
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE certificates SET limited = 1 WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, b.Certificate)
	tx.Changed(s, ChangedCertificate, b.Certificate)
	return err
}

// ForgetBootstrap removes what is said of a certificate that is deleted, and its count unless others share it.
func (tx *Tx) ForgetBootstrap(s fleet.Scope, certificate string) error {
	budget, found, err := one(tx, scanString, `DELETE FROM bootstraps WHERE account = ? AND region = ? AND certificate = ? RETURNING budget`,
		s.Account, s.Region, certificate)
	if err != nil {
		return err
	}
	if !found {
		budget = certificate
	}
	_, err = tx.exec(`DELETE FROM claim_uses WHERE account = ? AND region = ? AND budget = ? AND NOT EXISTS (SELECT 1 FROM bootstraps b
		WHERE b.account = claim_uses.account AND b.region = claim_uses.region AND b.budget = claim_uses.budget)`, s.Account, s.Region, budget)
	return err
}

// BootstrapsOfBudget lists the certificates that share a count.
func (tx *Tx) BootstrapsOfBudget(s fleet.Scope, budget string) ([]fleet.Bootstrap, error) {
	return all(tx, scanBootstrap, `SELECT `+bootstrapColumns+` FROM bootstraps b WHERE account = ? AND region = ? AND budget = ? ORDER BY modified, certificate`,
		s.Account, s.Region, budget)
}

// A ScopedBootstrap is a Bootstrap with where it belongs.
type ScopedBootstrap struct {
	Scope fleet.Scope
	fleet.Bootstrap
}

// EndedBootstraps lists certificates that were to be deactivated by now, at most limit.
func (tx *Tx) EndedBootstraps(now time.Time, limit int) ([]ScopedBootstrap, error) {
	return all(tx, func(row scanner) (b ScopedBootstrap, err error) {
		var s fleet.Scope
		b.Bootstrap, err = scanBootstrap(appendScan{row, []any{&s.Account, &s.Region}})
		b.Scope = s
		return b, err
	}, `SELECT `+bootstrapColumns+`, b.account, b.region FROM bootstraps b WHERE ends > 0 AND ends <= ? ORDER BY ends LIMIT ?`, millis(now), limit)
}

// CountDevice counts one more device against a budget and returns how many there are now. What is counted in a transaction that
// fails is not counted.
func (tx *Tx) CountDevice(s fleet.Scope, budget string) (devices int, err error) {
	err = tx.row(`INSERT INTO claim_uses (account, region, budget, devices) VALUES (?, ?, ?, 1)
		ON CONFLICT (account, region, budget) DO UPDATE SET devices = claim_uses.devices + 1 RETURNING devices`, s.Account, s.Region, budget).Scan(&devices)
	return devices, err
}

// DevicesOf returns how many devices were counted against a budget.
func (tx *Tx) DevicesOf(s fleet.Scope, budget string) (int, error) {
	n, _, err := one(tx, scanInt, `SELECT devices FROM claim_uses WHERE account = ? AND region = ? AND budget = ?`, s.Account, s.Region, budget)
	return int(n), err
}

// RecountDevices sets the count of a budget to at least the number of certificates that were registered with its claims and are
// still there, for claims that were not counted from their beginning.
func (tx *Tx) RecountDevices(s fleet.Scope, budget string, claims []string) error {
	var devices int64
	for _, claim := range claims {
		n, _, err := one(tx, scanInt, `SELECT COUNT(*) FROM certificates WHERE account = ? AND region = ? AND origin_claim = ? AND origin_claim <> '' AND status <> ?`,
			s.Account, s.Region, claim, string(fleet.PendingActivation))
		if err != nil {
			return err
		}
		devices += n
	}
	if devices == 0 {
		return nil
	}
	_, err := tx.exec(`INSERT INTO claim_uses (account, region, budget, devices) VALUES (?, ?, ?, ?)
		ON CONFLICT (account, region, budget) DO UPDATE SET devices = CASE WHEN excluded.devices > claim_uses.devices THEN excluded.devices ELSE claim_uses.devices END`,
		s.Account, s.Region, budget, devices)
	return err
}

// KeysOf returns the hashes of the public keys with which a thing was registered, with the state of their certificates: "" for
// those that were deleted. Certificates whose key is not known are left out.
func (tx *Tx) KeysOf(s fleet.Scope, thing string) (keys []KeyOfThing, err error) {
	return all(tx, func(row scanner) (k KeyOfThing, err error) {
		var status string
		err = row.Scan(&k.Key, &status)
		k.Status = fleet.CertificateStatus(status)
		return k, err
	}, `SELECT DISTINCT r.key_hash, COALESCE(c.status, '') FROM registrations r
		LEFT JOIN certificates c ON c.account = r.account AND c.region = r.region AND c.id = r.certificate
		WHERE r.account = ? AND r.region = ? AND r.thing = ? AND r.key_hash <> ''`, s.Account, s.Region, thing)
}

// KeyOfThing is a key that a thing was registered with.
type KeyOfThing struct {
	Key    string
	Status fleet.CertificateStatus // of the certificate; "": deleted
}

const approvalColumns = `a.id, a.thing, a.key_hash, a.state, a.template, a.principal, a.certificate, a.client, a.address, a.trace, a.attempts, a.replaces,
	a.decided_by, a.created, a.decided, a.expires`

func scanApproval(s scanner) (a fleet.ApprovalRequest, err error) {
	var state string
	var created, decided, expires int64
	err = s.Scan(&a.ID, &a.Thing, &a.Key, &state, &a.Template, &a.Principal, &a.Certificate, &a.ClientID, &a.SourceIP, &a.TraceID, &a.Attempts, &a.Replace,
		&a.DecidedBy, &created, &decided, &expires)
	a.State = fleet.ApprovalState(state)
	a.Created, a.Decided, a.Expires = fromMillis(created), fromMillis(decided), fromMillis(expires)
	return a, err
}

// Approval returns a request for approval. It fails with KindNotFound.
func (tx *Tx) Approval(s fleet.Scope, id string) (fleet.ApprovalRequest, error) {
	return find(tx, "approval", id, scanApproval,
		`SELECT `+approvalColumns+` FROM approvals a WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
}

// ApprovalOf returns the request for a thing and a key that is not used up; found is false if there is none.
func (tx *Tx) ApprovalOf(s fleet.Scope, thing, key string) (a fleet.ApprovalRequest, found bool, err error) {
	return one(tx, scanApproval, `SELECT `+approvalColumns+` FROM approvals a WHERE account = ? AND region = ? AND thing = ? AND key_hash = ? AND state <> 'USED'`,
		s.Account, s.Region, thing, key)
}

// Approvals lists requests by id, which is by time, of one state only if it is not "".
func (tx *Tx) Approvals(s fleet.Scope, state fleet.ApprovalState, p fleet.Page) ([]fleet.ApprovalRequest, string, error) {
	where, args := `account = ? AND region = ? AND id > ?`, []any{s.Account, s.Region, p.After}
	if state != "" {
		where, args = where+` AND state = ?`, append(args, string(state))
	}
	list, err := all(tx, scanApproval, `SELECT `+approvalColumns+` FROM approvals a WHERE `+where+` ORDER BY id LIMIT ?`, append(args, pageLimit(p))...)
	list, next := cutPage(p, list, func(a fleet.ApprovalRequest) string { return a.ID })
	return list, next, err
}

// PendingApprovals counts the requests that wait for a decision, of one thing and of the whole scope, each up to limit.
func (tx *Tx) PendingApprovals(s fleet.Scope, thing string, limit int) (ofThing, inAll int, err error) {
	if err = tx.row(`SELECT COUNT(*) FROM approvals WHERE account = ? AND region = ? AND thing = ? AND state <> 'USED' AND state = 'PENDING'`,
		s.Account, s.Region, thing).Scan(&ofThing); err != nil {
		return 0, 0, err
	}
	err = tx.row(`SELECT COUNT(*) FROM (SELECT 1 FROM approvals WHERE account = ? AND region = ? AND state = 'PENDING' LIMIT ?) AS waiting`,
		s.Account, s.Region, limit).Scan(&inAll)
	return ofThing, inAll, err
}

// PutApproval stores a request.
func (tx *Tx) PutApproval(s fleet.Scope, a fleet.ApprovalRequest) error {
	replaces := 0
	if a.Replace {
		replaces = 1
	}
	_, err := tx.exec(`INSERT INTO approvals (account, region, id, thing, key_hash, state, template, principal, certificate, client, address, trace, attempts,
			replaces, decided_by, created, decided, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, id) DO UPDATE SET state = excluded.state, certificate = excluded.certificate, client = excluded.client, address = excluded.address,
			trace = excluded.trace, attempts = excluded.attempts, replaces = excluded.replaces, decided_by = excluded.decided_by, decided = excluded.decided,
			expires = excluded.expires`,
		s.Account, s.Region, a.ID, a.Thing, a.Key, string(a.State), a.Template, a.Principal, a.Certificate, a.ClientID, a.SourceIP, a.TraceID, a.Attempts,
		replaces, a.DecidedBy, millis(a.Created), millis(a.Decided), millis(a.Expires))
	tx.Changed(s, ChangedApproval, a.ID)
	return err
}

// DeleteApprovals forgets requests whose time was over before now, at most limit, and returns how many.
func (tx *Tx) DeleteApprovals(now time.Time, limit int) (int, error) {
	list, err := all(tx, scanChange(ChangedApproval), `DELETE FROM approvals WHERE (account, region, id) IN (SELECT account, region, id FROM approvals
		WHERE expires <= ? ORDER BY expires LIMIT ?) RETURNING account, region, id`, millis(now), limit)
	for _, c := range list {
		tx.Changed(c.Scope, c.Kind, c.Key)
	}
	return len(list), err
}
