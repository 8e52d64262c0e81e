package store

import (
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// farEnd is from when on ends of certificates have no index: the default end of AWS's, and ours, lies behind it. Migrations 11 and 16
// say the same number.
const farEnd = 2493072000000

// within narrows a query to the certificates c of a scope that end before ?, and since to those that end from ? on. The casts
// keep SQLite from asking whether a bound time implies the condition of a partial index, for which it would compile the statement
// again at every new value.
var within = fmt.Sprintf(`c.account = ? AND c.region = ? AND c.not_after < %d AND c.not_after < CAST(? AS BIGINT) AND c.status = ?`, farEnd)

const since = ` AND c.not_after >= CAST(? AS BIGINT)`

// An Expiry is an active certificate that ends, with what is to be known about that.
type Expiry struct {
	ID        string
	NotBefore time.Time
	NotAfter  time.Time
	CA        string    // registered CA that signed it, "" for ours
	Template  string    // that it was registered with, "" for none
	Thing     string    // one that it is attached to, "" for none
	LastSeen  time.Time // zero: it never connected
	Asked     bool      // another certificate was asked for with it, or is to take its place
	Replaced  bool      // the one that takes its place has connected
}

func scanExpiry(row scanner) (e Expiry, err error) {
	var notBefore, notAfter, seen, asked, replaced int64
	err = row.Scan(&e.ID, &notBefore, &notAfter, &e.CA, &e.Template, &e.Thing, &seen, &asked, &replaced)
	e.NotBefore, e.NotAfter, e.LastSeen, e.Asked, e.Replaced = fromMillis(notBefore), fromMillis(notAfter), fromMillis(seen), asked > 0, replaced > 0
	return e, err
}

// Expiries lists the active certificates that end from one time, inclusive, to another, the next to end first.
func (tx *Tx) Expiries(s fleet.Scope, from, to time.Time, p fleet.Page) ([]Expiry, string, error) {
	keyset, order, keyArgs := timePage(p, "c.not_after", "c.id")
	if keyset == "" { // else one lower bound, see prefixPage
		keyset, keyArgs = since, []any{millis(from)}
	}
	args := append([]any{s.Account, s.Region, millis(to), string(fleet.Active)}, keyArgs...)
	// Looked up row by row: PostgreSQL makes hashes of whole tables for joins, also for a page.
	list, err := all(tx, scanExpiry, `SELECT c.id, c.not_before, c.not_after, c.ca_id,
		COALESCE((SELECT r.template FROM registrations r WHERE r.account = c.account AND r.region = c.region AND r.certificate = c.id), ''),
		COALESCE((SELECT MIN(t.thing) FROM thing_principals t WHERE t.account = c.account AND t.region = c.region AND t.principal = 'cert/' || c.id), ''),
		COALESCE((SELECT u.last_seen FROM certificate_use u WHERE u.account = c.account AND u.region = c.region AND u.certificate = c.id), 0),
		(SELECT COUNT(*) FROM successions n WHERE n.account = c.account AND n.region = c.region AND n.certificate = c.id) +
		(SELECT COUNT(*) FROM certificates n WHERE n.account = c.account AND n.region = c.region AND n.origin_claim = c.id AND n.origin_claim <> '' AND n.expires > 0),
		(SELECT COUNT(*) FROM successions n WHERE n.account = c.account AND n.region = c.region AND n.certificate = c.id AND n.due > 0)
		FROM certificates c WHERE `+within+keyset+order+` LIMIT ?`, append(args, pageLimit(p))...)
	list, next := cutPage(p, list, func(e Expiry) string { return timeKey(e.NotAfter, e.ID) })
	return list, next, err
}

// An ExpiryCount is how many active certificates end on a day.
type ExpiryCount struct {
	Day      time.Time // its beginning, UTC
	Template string    // "" for none
	CA       string    // "" for ours
	Count    int
}

// ExpiryCounts counts what Expiries lists, by day, template and CA.
func (tx *Tx) ExpiryCounts(s fleet.Scope, from, to time.Time) ([]ExpiryCount, error) {
	return all(tx, func(row scanner) (e ExpiryCount, err error) {
		var day int64
		err = row.Scan(&day, &e.Template, &e.CA, &e.Count)
		e.Day = fromMillis(day * dayMillis)
		return e, err
	}, `SELECT c.not_after / 86400000 AS day, COALESCE(r.template, '') AS template, c.ca_id, COUNT(*) FROM certificates c
		LEFT JOIN registrations r ON r.account = c.account AND r.region = c.region AND r.certificate = c.id
		WHERE `+within+since+` GROUP BY day, COALESCE(r.template, ''), c.ca_id ORDER BY day, template, c.ca_id`,
		s.Account, s.Region, millis(to), string(fleet.Active), millis(from))
}

const dayMillis = 86400000

// EndingCertificates counts the active certificates of all scopes that end from one time, inclusive, to another, and says when the
// first of them does; zero: there is none.
func (tx *Tx) EndingCertificates(from, to time.Time) (n int, next time.Time, err error) {
	var ms int64
	err = tx.row(fmt.Sprintf(`SELECT COUNT(*), COALESCE(MIN(not_after), 0) FROM certificates
		WHERE not_after < %d AND not_after >= CAST(? AS BIGINT) AND not_after < CAST(? AS BIGINT) AND status = ?`, farEnd), millis(from), millis(to), string(fleet.Active)).Scan(&n, &ms)
	return n, fromMillis(ms), err
}
