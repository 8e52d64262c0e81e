// Package store keeps everything that must survive: it holds all SQL of the product, and nothing but SQL. Rules live in the
// packages above it.
//
// Begin with DB.Tx and DB.View here, then read the file of your subject (things.go, certificates.go, iam.go …): each holds the
// query methods of Tx for one part of the vocabulary. migrations/ has the schema.
//
// It runs on SQLite or PostgreSQL (engine.go). Concurrent transactions share one commit, and one fsync, and fail alone
// (docs/decisions/0001-groups-of-transactions.md). When Tx returns nil, what its body wrote survives a power cut.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Config says where the store is.
type Config struct {
	Path  string // of the SQLite file; its folder must exist
	URL   string // of a PostgreSQL database, postgres://…, in place of Path
	Alone bool   // no other store that wants to be alone may have the PostgreSQL database open
	Clock fleet.Clock
	Log   *slog.Logger // nil: discard

	// Rehearse is for tests: each body of DB.Tx runs twice, the first time for nothing, as after a conflict.
	Rehearse bool
	// MostRows is for tests: a body that changes more rows fails. 0: any number. Bulk work goes in chunks.
	MostRows int
	// OnStatement is for tests: it hears each statement of a transaction. It must be quick.
	OnStatement func(query string)

	// OnWrite, if set, hears how long each caller of DB.Tx waited, OnCommit how long each commit took and how many callers shared
	// it, bodies and sync included. err is what became of it. Both must be quick: the writer waits for OnCommit.
	OnWrite  func(took time.Duration, err error)
	OnCommit func(group int, took time.Duration, err error)
}

// A DB is an open store. It is safe for concurrent use.
type DB struct {
	engine           *engine
	writing, reading driver.Connector

	writes  *session // the writer's; nobody else touches it
	readers free
	drained chan struct{} // closed when no reader is left

	clock    fleet.Clock
	log      *slog.Logger
	rehearse bool
	mostRows int

	memory   *memory
	expected *expected

	onStatement func(string)

	onWrite  func(time.Duration, error)
	onCommit func(int, time.Duration, error)

	writers atomic.Uint64 // see Writes
	jobs    chan *job
	done    chan struct{} // closed when the writer has stopped
	closed  chan struct{} // closed by Close
	once    sync.Once

	undecided []Change // of commits that may have succeeded, or may yet; the writer's

	due          chan struct{} // a checkpoint is; nil: not SQLite
	commits      uint64        // the writer's
	checkpointed chan struct{} // closed when no more checkpoints are made

	listenMu  sync.RWMutex
	listeners []func([]Change)
}

// Open opens the store, creates it if it is not there, and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	db := &DB{clock: cfg.Clock, log: cfg.Log, rehearse: cfg.Rehearse, mostRows: cfg.MostRows, onStatement: cfg.OnStatement, onWrite: cfg.OnWrite, onCommit: cfg.OnCommit, jobs: make(chan *job, 256), done: make(chan struct{}),
		closed: make(chan struct{}), drained: make(chan struct{})}
	var err error
	if cfg.URL != "" {
		err = db.openPostgres(ctx, cfg)
	} else {
		err = db.openSQLite(ctx, cfg.Path)
	}
	if err != nil {
		return nil, err
	}
	db.readers = newFree(db.engine.readers)
	go db.ready()
	go db.writer()
	if db.due != nil {
		go db.checkpoints()
	}
	return db, nil
}

// ready makes the readers. The first one is connected at once, beside whatever else is opened; whoever wants to read before waits for
// that, in place of doing it too.
func (db *DB) ready() {
	for i := range db.engine.readers {
		s := &session{connector: db.reading, engine: db.engine, heard: db.onStatement}
		if i == 0 {
			ctx, done := db.engine.bounded()
			_ = s.connect(ctx) // whoever reads tries again, and tells
			done()
		}
		db.readers.put(s)
	}
}

// prepare connects the writer, which may have to be the only one, and then looks at the database and brings its schema up to date.
func (db *DB) prepare(ctx context.Context, look func(context.Context, *session) error) error {
	db.writes = &session{connector: db.writing, engine: db.engine, heard: db.onStatement}
	if err := db.writes.connect(ctx); err != nil {
		return err
	}
	err := look(ctx, db.writes)
	if err == nil && !upToDate(ctx, db.writes) {
		raw := sql.OpenDB(db.reading)
		err = errors.Join(db.engine.migrate(ctx, raw), raw.Close())
	}
	if err != nil {
		db.writes.drop()
	}
	return err
}

// Close lets transactions that have begun finish, refuses new ones and closes the store.
func (db *DB) Close() error {
	var err error
	db.once.Do(func() {
		close(db.closed)
		<-db.done
		if db.due != nil {
			<-db.checkpointed
		}
		err = db.writes.close()
		for range db.engine.readers {
			on, _ := db.readers.take(nil, nil)
			err = errors.Join(err, on.close())
		}
		close(db.drained)
	})
	return err
}

// A Change tells listeners that something was written. Kinds and keys are listed beside the functions that call Tx.Changed.
type Change struct {
	Scope     fleet.Scope
	Kind, Key string
}

// Listen registers f to be called with the changes of each transaction after its commit and before Tx returns, so that
// a cache or an open connection learns of a revocation before the revoker has its answer. Of a commit that may have
// succeeded f hears at once, and again after the next one. f must be quick and must not call Tx.
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
