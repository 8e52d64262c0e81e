package store

import (
	"database/sql/driver"
	"reflect"
	"strconv"
	"testing"
	"time"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

// TestStatementsAreCompiledOnce: SQLite compiles a statement again whose plan depends on a value that is bound anew (a LIMIT, or one
// beside a partial index), and that takes longer than running it.
func TestStatementsAreCompiledOnce(t *testing.T) {
	t.Parallel()
	db := open(t)
	const rounds = 5
	for n := range rounds {
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			for i, use := range uses {
				if err := use(tx, n); err != nil {
					t.Errorf("use %d: %v", i, err)
				}
			}
			return nil
		}))
	}
	seen := map[string]int{}
	for _, s := range compiled(t, db.writes.conn) {
		if seen[s.sql]++; seen[s.sql] > 1 {
			t.Errorf("two compiled statements of one text: %s", s.sql)
		}
		if s.again > 0 && s.sql != "BEGIN IMMEDIATE" { // the first of which finds out that there is a schema
			t.Errorf("compiled %d times again in %d uses: %s", s.again, s.uses, s.sql)
		}
	}
	if len(seen) < len(uses) {
		t.Errorf("%d uses left %d compiled statements", len(uses), len(seen))
	}
}

// uses are what a server does all day, with other values each time.
var uses = []func(tx *Tx, n int) error{
	func(tx *Tx, n int) error {
		id := "used" + strconv.Itoa(n)
		err := tx.AddSuccession(scopeA, Succession{Certificate: "old" + strconv.Itoa(n), Successor: id, Thing: "thing", Overlap: time.Hour})
		if err == nil {
			_, err = tx.CertificateUsed(scopeA, id, tx.Now())
		}
		return err
	},
	func(tx *Tx, n int) error {
		return tx.CreateThing(scopeA, fleet.Thing{Name: "thing" + strconv.Itoa(n), Version: 1})
	},
	func(tx *Tx, n int) error { _, err := tx.Thing(scopeA, "thing"+strconv.Itoa(n)); return err },
	func(tx *Tx, n int) error { _, _, err := tx.Things(scopeA, ThingFilter{}, page(n)); return err },
	func(tx *Tx, n int) error {
		_, _, err := tx.Things(scopeA, ThingFilter{Type: name(n)}, page(n))
		return err
	},
	func(tx *Tx, n int) error {
		_, _, err := tx.Things(scopeA, ThingFilter{Attribute: name(n), Value: name(n), Prefix: true}, page(n))
		return err
	},
	func(tx *Tx, n int) error {
		_, _, err := tx.Groups(scopeA, GroupFilter{Prefix: name(n)}, page(n))
		return err
	},
	func(tx *Tx, n int) error { _, _, err := tx.BilledThings(scopeA, name(n), page(n)); return err },
	func(tx *Tx, n int) error { _, _, err := tx.PrincipalsOf(scopeA, name(n), "", page(n)); return err },
	func(tx *Tx, n int) error {
		_, _, err := tx.AssociatedThing(scopeA, scopeA.IoT("cert", name(n)), name(n))
		return err
	},
	func(tx *Tx, n int) error {
		_, _, err := tx.OtherTie(scopeA, name(n), scopeA.IoT("cert", name(n)))
		return err
	},
	func(tx *Tx, n int) error {
		return tx.CreateCertificate(scopeA, fleet.Certificate{ID: name(n), Status: fleet.PendingActivation, Created: at(n),
			Origin: fleet.CertificateOrigin{ClaimID: name(n), CSRHash: name(n), Expires: at(n)}})
	},
	func(tx *Tx, n int) error { _, err := tx.CertificatesByID(name(n)); return err },
	func(tx *Tx, n int) error {
		_, _, _, err := tx.CertificateOfCSR(scopeA, name(n), name(n), at(n))
		return err
	},
	func(tx *Tx, n int) error { _, err := tx.PendingOf(scopeA, name(n), n+1); return err },
	func(tx *Tx, n int) error {
		_, _, err := tx.Certificates(scopeA, CertificateFilter{}, page(n))
		return err
	},
	func(tx *Tx, n int) error {
		_, _, err := tx.Certificates(scopeA, CertificateFilter{CA: name(n)}, page(n))
		return err
	},
	func(tx *Tx, n int) error { _, err := tx.DeleteExpired(at(n-1), n+1); return err },
	func(tx *Tx, n int) error {
		return tx.CreatePolicy(scopeA, fleet.Policy{Name: name(n), Document: name(n)})
	},
	func(tx *Tx, n int) error { _, _, err := tx.Policies(scopeA, page(n)); return err },
	func(tx *Tx, n int) error {
		_, _, err := tx.CertificatesOfClaim(scopeA, name(n), at(n), page(n))
		return err
	},
	func(tx *Tx, n int) error {
		_, _, err := tx.Orphans(scopeA, OrphanKinds[n%len(OrphanKinds)], at(n), page(n))
		return err
	},
	func(tx *Tx, n int) error {
		_, err := tx.EffectivePolicies(scopeA, scopeA.IoT("cert", name(n)), name(n))
		return err
	},
	func(tx *Tx, n int) error {
		_, _, err := tx.PoliciesOf(scopeA, scopeA.IoT("cert", name(n)), page(n))
		return err
	},
	func(tx *Tx, n int) error {
		return tx.CreateClaim(scopeA, fleet.Claim{ID: name(n), Template: name(n), Created: at(n), Expires: at(n)})
	},
	func(tx *Tx, n int) error { _, _, err := tx.Claims(scopeA, name(n), page(n)); return err },
	func(tx *Tx, n int) error { _, err := tx.DeleteClaims(at(n-1), n+1); return err },
	func(tx *Tx, n int) error {
		return tx.PutRegistration(scopeA, Registration{Certificate: name(n), Thing: name(n), Created: at(n), ReplayUntil: at(n)})
	},
	func(tx *Tx, n int) error { _, err := tx.ForgetAnswers(at(n-1), n+1); return err },
	func(tx *Tx, n int) error {
		return tx.PutTrace(scopeA, trace.Record{ID: name(n), Kind: trace.Register, Start: at(n)}, []string{name(n)})
	},
	func(tx *Tx, n int) error { _, err := tx.Traces(scopeA, name(n), n+1); return err },
	func(tx *Tx, n int) error { _, err := tx.SweepUserPools(at(n), n+1); return err },
	func(tx *Tx, n int) error {
		_, _, err := tx.PoolUsers(scopeA, "pool", PoolUserFilter{}, page(n))
		return err
	},
	func(tx *Tx, n int) error { _, err := tx.DrainIdentityPool(scopeA, name(n), n+1); return err },
	func(tx *Tx, n int) error { _, _, err := tx.IAMEntities(scopeA, IAMRole, "/", page(n)); return err },
}

func name(n int) string     { return "name" + strconv.Itoa(n) }
func at(n int) time.Time    { return time.UnixMilli(1e12 + int64(n)*1000) }
func page(n int) fleet.Page { return fleet.Page{Limit: n + 1} }

type statement struct {
	sql                string
	uses, again, steps int
}

// compiled lists the compiled statements of a connection with SQLite's own counters (sqlite3_stmt_status).
func compiled(t *testing.T, conn driver.Conn) (out []statement) {
	t.Helper()
	tls := libc.NewTLS()
	defer tls.Close()
	handle := reflect.ValueOf(conn).Elem().FieldByName("db") // the driver gives it to nobody
	if handle.Kind() != reflect.Uintptr {
		t.Fatalf("%T has no field db", conn)
	}
	db := uintptr(handle.Uint())
	for s := sqlite3.Xsqlite3_next_stmt(tls, db, 0); s != 0; s = sqlite3.Xsqlite3_next_stmt(tls, db, s) {
		out = append(out, statement{libc.GoString(sqlite3.Xsqlite3_sql(tls, s)),
			int(sqlite3.Xsqlite3_stmt_status(tls, s, sqlite3.SQLITE_STMTSTATUS_RUN, 0)),
			int(sqlite3.Xsqlite3_stmt_status(tls, s, sqlite3.SQLITE_STMTSTATUS_REPREPARE, 0)),
			int(sqlite3.Xsqlite3_stmt_status(tls, s, sqlite3.SQLITE_STMTSTATUS_VM_STEP, 0))})
	}
	return out
}
