// Package store keeps everything that must survive: it holds all SQL of the product, and nothing but SQL. Rules live in the
// packages above it.
//
// Begin with DB.Tx and DB.View here, then read the file of your subject (things.go, certificates.go, iam.go …): each holds the
// query methods of Tx for one part of the vocabulary. migrations/ has the schema.
//
// Writes are grouped: concurrent transactions share one fsync (group commit), each in a savepoint of its own. When Tx returns
// nil, what its body wrote survives a power cut.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Config says where the store is.
type Config struct {
	Path  string // of the SQLite file; its folder must exist
	Clock fleet.Clock
	Log   *slog.Logger // nil: discard

	// OnWrite, if set, hears how long each caller of DB.Tx waited, OnCommit how long each commit took and how many callers shared
	// it, bodies and sync included. err is what became of it. Both must be quick: the writer waits for OnCommit.
	OnWrite  func(took time.Duration, err error)
	OnCommit func(group int, took time.Duration, err error)
}

// A DB is an open store. It is safe for concurrent use.
type DB struct {
	write *sql.DB // one connection: SQLite has one writer
	read  *sql.DB

	writes  *session      // the writer's; nobody else touches it
	readers chan *session // those that are free
	drained chan struct{} // closed when no reader is left

	clock fleet.Clock
	log   *slog.Logger

	onWrite  func(time.Duration, error)
	onCommit func(int, time.Duration, error)

	jobs   chan *job
	done   chan struct{} // closed when the writer has stopped
	closed chan struct{} // closed by Close
	once   sync.Once

	listenMu  sync.RWMutex
	listeners []func([]Change)
}

// oldestSQLite is the first version without the WAL-reset corruption.
const oldestSQLite = "3.51.3"

// Open opens the store, creates it if it is not there, and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	db := &DB{clock: cfg.Clock, log: cfg.Log, onWrite: cfg.OnWrite, onCommit: cfg.OnCommit, jobs: make(chan *job, 256), done: make(chan struct{}), closed: make(chan struct{})}
	// synchronous=FULL: a commit is on disk when it returns (SQLite "PRAGMA synchronous"; WAL needs FULL for that).
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)", "busy_timeout(10000)", "temp_store(MEMORY)"}}
	if db.write, err = sql.Open("sqlite", "file:"+path+"?_txlock=immediate&"+pragmas.Encode()); err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	db.write.SetMaxOpenConns(1)
	if db.read, err = sql.Open("sqlite", "file:"+path+"?"+pragmas.Encode()); err != nil {
		return nil, errors.Join(fmt.Errorf("opening store: %w", err), db.write.Close())
	}
	readers := 4 + 2*runtime.GOMAXPROCS(0)
	db.read.SetMaxOpenConns(readers)
	db.readers, db.writes = make(chan *session, readers), &session{pool: db.write}
	db.drained = make(chan struct{})
	for range readers {
		db.readers <- &session{pool: db.read}
	}
	if err := db.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening store %s: %w", path, err), db.write.Close(), db.read.Close())
	}
	go db.writer()
	return db, nil
}

func (db *DB) prepare(ctx context.Context) error {
	var version string
	if err := db.write.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return err
	}
	if versionLess(version, oldestSQLite) {
		return fmt.Errorf("SQLite %s can corrupt its write-ahead log; %s or newer is needed", version, oldestSQLite)
	}
	return migrate(ctx, db.write)
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

// Close lets transactions that have begun finish, refuses new ones and closes the store.
func (db *DB) Close() error {
	var err error
	db.once.Do(func() {
		close(db.closed)
		<-db.done
		err = db.writes.close()
		for range cap(db.readers) {
			err = errors.Join(err, (<-db.readers).close())
		}
		close(db.drained)
	})
	return errors.Join(err, db.read.Close(), db.write.Close())
}

// A Change tells listeners that something was written. Kinds and keys are listed beside the functions that call Tx.Changed.
type Change struct {
	Scope     fleet.Scope
	Kind, Key string
}

// Listen registers f to be called with the changes of each transaction after its commit and before Tx returns, so that
// a cache or an open connection learns of a revocation before the revoker has its answer. f must be quick and must not
// call Tx.
func (db *DB) Listen(f func([]Change)) {
	db.listenMu.Lock()
	defer db.listenMu.Unlock()
	db.listeners = append(db.listeners, f)
}

func (db *DB) notify(changes []Change) {
	if len(changes) == 0 {
		return
	}
	db.listenMu.RLock()
	defer db.listenMu.RUnlock()
	for _, f := range db.listeners {
		f(changes)
	}
}

// Now is the store's clock.
func (db *DB) Now() fleet.Clock { return db.clock }

// isUnique reports whether err is a violation of a UNIQUE or PRIMARY KEY constraint.
func isUnique(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Code() == sqlitelib.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY
}
