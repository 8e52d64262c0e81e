package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// An OrphanKind is one way in which something hangs on nothing.
type OrphanKind string

const (
	PendingCertificates       OrphanKind = "pendingCertificates"       // issued, never registered
	UnconnectedCertificates   OrphanKind = "unconnectedCertificates"   // active, of a thing, and no connection is on record
	CertificatesWithoutThing  OrphanKind = "certificatesWithoutThing"  // not revoked, and never used as a claim
	ThingsWithoutPrincipal    OrphanKind = "thingsWithoutPrincipal"    //
	PoliciesWithoutAttachment OrphanKind = "policiesWithoutAttachment" //
	UnusedClaims              OrphanKind = "unusedClaims"              // expired, and no certificate came of them
)

// OrphanKinds are all kinds, in the order in which a report tells them.
var OrphanKinds = []OrphanKind{PendingCertificates, UnconnectedCertificates, CertificatesWithoutThing, ThingsWithoutPrincipal, PoliciesWithoutAttachment, UnusedClaims}

// An Orphan is something that hangs on nothing.
type Orphan struct {
	Name    string // or id
	Created time.Time
	Claim   string // of a certificate: the claim that it came from, if it did
	// Template is that of a claim.
	Template string
}

// orphanQuery walks one table. With byTime it goes in the order of creation, else in that of names.
type orphanQuery struct{ table, key, detail, condition string }

func (q orphanQuery) byTime() bool { return q.table != "things" && q.table != "claims" }

const hasThing = `EXISTS (SELECT 1 FROM thing_principals p WHERE p.account = o.account AND p.region = o.region AND p.principal = 'cert/' || o.id)`
const hasChildren = `EXISTS (SELECT 1 FROM certificates d WHERE d.account = o.account AND d.region = o.region AND d.origin_claim = o.id AND d.origin_claim <> '')`

const hasConnected = `EXISTS (SELECT 1 FROM certificate_use u WHERE u.account = o.account AND u.region = o.region AND u.certificate = o.id)`

var orphanQueries = map[OrphanKind]orphanQuery{
	PendingCertificates:      {"certificates", "o.id", "o.origin_claim", `o.status = 'PENDING_ACTIVATION'`},
	UnconnectedCertificates:  {"certificates", "o.id", "o.origin_claim", `o.status = 'ACTIVE' AND NOT ` + hasConnected + ` AND ` + hasThing},
	CertificatesWithoutThing: {"certificates", "o.id", "o.origin_claim", `o.status IN ('ACTIVE', 'INACTIVE') AND NOT ` + hasThing + ` AND NOT ` + hasChildren},
	ThingsWithoutPrincipal: {"things", "o.name", "''", `NOT EXISTS (SELECT 1 FROM thing_principals p WHERE p.account = o.account AND p.region = o.region
		AND p.thing = o.name)`},
	PoliciesWithoutAttachment: {"policies", "o.name", "''", `NOT EXISTS (SELECT 1 FROM policy_attachments a WHERE a.account = o.account AND a.region = o.region
		AND a.policy = o.name)`},
	UnusedClaims: {"claims", "o.id", "o.template", `o.expires < ? AND NOT ` + hasChildren},
}

// orphansExamined is how many rows a page of orphans looks at, at most. Each is a search in a place of its own, since ids of
// certificates are hashes, and so for many rows a page would take longer in a large registry, of which less is in SQLite's
// memory.
const orphansExamined = 100

// Orphans lists what was made before a time and is an orphan of a kind. A page looks at a bounded number of rows: it may be short, or
// empty, and have a next one.
func (tx *Tx) Orphans(s fleet.Scope, kind OrphanKind, before time.Time, p fleet.Page) (list []Orphan, next string, err error) {
	q, known := orphanQueries[kind]
	if !known {
		return nil, "", fleet.Invalid("", "", "there is no kind of orphan %q", string(kind))
	}
	condition, where, order, key := q.condition+` AND o.created < ?`, q.key+` > ?`, q.key, func(o Orphan) string { return o.Name }
	args := []any{millis(before), s.Account, s.Region, p.After}
	if q.byTime() { // what is too young comes last
		at, after, _ := strings.Cut(p.After, "/")
		ms, _ := strconv.ParseInt(at, 10, 64)
		condition, where, order = q.condition, `(o.created, `+q.key+`) > (?, ?) AND o.created < ?`, `o.created, `+q.key
		args = []any{s.Account, s.Region, ms, after, millis(before)}
		key = func(o Orphan) string { return timeKey(o.Created, o.Name) }
	}
	if kind == UnusedClaims {
		args = append([]any{millis(tx.Now())}, args...)
	}
	return sift(tx, p, orphansExamined, func(r scanner) (o Orphan, err error) {
		var created int64
		var detail string
		err = r.Scan(&o.Name, &created, &detail)
		if o.Created = fromMillis(created); kind == UnusedClaims {
			o.Template = detail
		} else {
			o.Claim = detail
		}
		return o, err
	}, key, fmt.Sprintf(`SELECT %s, o.created, %s, %s FROM %s o WHERE o.account = ? AND o.region = ? AND %s ORDER BY %s`,
		q.key, q.detail, condition, q.table, where, order), args...)
}
