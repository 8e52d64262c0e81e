package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pressly/goose/v3"
	modernc "modernc.org/sqlite"
)

// oldestSQLite is the first version without the WAL-reset corruption.
const oldestSQLite = "3.51.3"

func sqlite() *engine {
	return &engine{
		readers: 4 + 2*runtime.GOMAXPROCS(0),
		begin:   beginSQLite,
		migrate: func(ctx context.Context, db *sql.DB) error {
			return migrate(ctx, db, goose.DialectSQLite3, sqliteLines)
		},
		words: keepPlan,
		fault: func(error) fault { return faultOther },
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
	db.engine, db.memory, db.expected = sqlite(), newMemory(), newExpected()
	db.due, db.checkpointed = make(chan struct{}, 1), make(chan struct{})
	// synchronous=FULL: a commit is on disk when it returns (SQLite "PRAGMA synchronous"; WAL needs FULL for that).
	options := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)", "busy_timeout(10000)", "temp_store(MEMORY)",
		fmt.Sprintf("wal_autocheckpoint(%d)", logPages)}}
	if vfs, err := logVFS(); err != nil {
		return fmt.Errorf("opening store: %w", err)
	} else if vfs != "" {
		options.Set("vfs", vfs)
	}
	if db.writing, err = modernc.NewConnector(fileURI(path, options.Encode())); err != nil {
		return fmt.Errorf("opening store: %w", err)
	}
	db.reading = db.writing
	if err := db.prepare(ctx, prepareSQLite); err != nil {
		return fmt.Errorf("opening store %s: %w", path, err)
	}
	return nil
}

// fileURI names a file to SQLite, which takes #, ? and % in a bare path for something else.
func fileURI(path, query string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query
}

func prepareSQLite(ctx context.Context, s *session) error {
	var version string
	found, err := s.query(ctx, "SELECT sqlite_version()")
	if err != nil {
		return err
	}
	if err := found.one([]any{&version}); err != nil {
		return err
	}
	if versionLess(version, oldestSQLite) {
		return fmt.Errorf("SQLite %s can corrupt its write-ahead log; %s or newer is needed", version, oldestSQLite)
	}
	return nil
}

// Snapshot writes a copy of the database, as it is at one moment, to a SQLite file that must be empty or not there; writers
// don't wait for it. PostgreSQL has its own means.
func (db *DB) Snapshot(ctx context.Context, path string) error {
	if db.engine.turn != "" {
		return errors.New("the data are in PostgreSQL: take a snapshot with pg_dump")
	}
	raw := sql.OpenDB(db.reading)
	_, err := raw.ExecContext(ctx, "VACUUM INTO ?", path)
	if err = errors.Join(err, raw.Close()); err != nil {
		return fmt.Errorf("copying the database: %w", err)
	}
	return nil
}

// CheckFile reports what is wrong with a SQLite file of a store, which nobody may have open. It reads all of it.
func CheckFile(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", fileURI(path, "mode=ro&immutable=1"))
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("checking the database: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the database is damaged: %s", verdict)
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM settings").Scan(&n); err != nil {
		return fmt.Errorf("checking the database: %w", err)
	}
	return nil
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

// beginSQLite begins with a compiled statement. A writer takes its place at once: to become one later may fail.
func beginSQLite(ctx context.Context, s *session, write bool) (driver.Tx, error) {
	words := "BEGIN"
	if write {
		words = "BEGIN IMMEDIATE"
	}
	_, err := s.exec(ctx, words)
	return spoken{s}, err
}

// spoken is a transaction that ends by statements too.
type spoken struct{ s *session }

func (t spoken) Commit() error   { return t.end("COMMIT") }
func (t spoken) Rollback() error { return t.end("ROLLBACK") }

func (t spoken) end(words string) error {
	_, err := t.s.exec(context.Background(), words)
	return err
}
