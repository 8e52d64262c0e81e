package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// oldestSQLite is the first version without the WAL-reset corruption.
const oldestSQLite = "3.51.3"

func sqlite() *engine {
	return &engine{
		readers: 4 + 2*runtime.GOMAXPROCS(0),
		reading: sql.TxOptions{ReadOnly: true},
		migrate: func(ctx context.Context, db *sql.DB) error { return migrate(ctx, db, goose.DialectSQLite3, nil) },
		words:   keepPlan,
		fault:   func(error) fault { return faultOther },
	}
}

// keepPlan hides a bound LIMIT from SQLite's planner, which would take the value into its plan and therefore compile the
// statement again each time a value is bound.
func keepPlan(query string) string { return strings.ReplaceAll(query, "LIMIT ?", "LIMIT ? + 0") }

// openSQLite opens the file, creates it if it is not there, and brings its schema up to date.
func (db *DB) openSQLite(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("opening store: %w", err)
	}
	db.engine, db.memory = sqlite(), newMemory()
	// synchronous=FULL: a commit is on disk when it returns (SQLite "PRAGMA synchronous"; WAL needs FULL for that).
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)", "busy_timeout(10000)", "temp_store(MEMORY)"}}
	if db.write, err = sql.Open("sqlite", "file:"+path+"?_txlock=immediate&"+pragmas.Encode()); err != nil {
		return fmt.Errorf("opening store: %w", err)
	}
	if db.read, err = sql.Open("sqlite", "file:"+path+"?"+pragmas.Encode()); err != nil {
		return errors.Join(fmt.Errorf("opening store: %w", err), db.write.Close())
	}
	db.write.SetMaxOpenConns(1)
	db.read.SetMaxOpenConns(db.engine.readers)
	if err := db.prepareSQLite(ctx); err != nil {
		return errors.Join(fmt.Errorf("opening store %s: %w", path, err), db.write.Close(), db.read.Close())
	}
	return nil
}

func (db *DB) prepareSQLite(ctx context.Context) error {
	var version string
	if err := db.write.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return err
	}
	if versionLess(version, oldestSQLite) {
		return fmt.Errorf("SQLite %s can corrupt its write-ahead log; %s or newer is needed", version, oldestSQLite)
	}
	return db.engine.migrate(ctx, db.write)
}

func versionLess(a, b string) bool {
	var x, y [3]int
	fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2])
	fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2])
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}
