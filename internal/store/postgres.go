package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// oldestPostgres is the first version that the tests run on.
const oldestPostgres = 15

// postgres has one writer in each node, and the nodes take turns: docs/decisions/0005-one-writer-at-a-time.md has the figures.
// SERIALIZABLE is for whoever else writes to the database.
func postgres() *engine {
	return &engine{
		readers: 8, timeout: 30 * time.Second,
		writing: sql.TxOptions{Isolation: sql.LevelSerializable},
		turn:    "LOCK TABLE write_turn IN EXCLUSIVE MODE", // takes no snapshot yet, unlike an advisory lock; let go once durable
		// One snapshot, and nothing to conflict with.
		reading: sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		migrate: func(ctx context.Context, db *sql.DB) error {
			return migrate(ctx, db, goose.DialectPostgres, bytewise, goose.WithSessionLocker(migrationLock{}))
		},
		words: numbered,
		fault: postgresFault,
	}
}

// postgresFault goes by the codes of "PostgreSQL Error Codes" (appendix A of its manual).
func postgresFault(err error) fault {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.Code {
		case "40001", "40P01", // serialization failure, deadlock
			"23505": // a key that another transaction added meanwhile ("Serialization Failure Handling": worth a retry)
			return faultConflict
		case "22021", "22P05": // character not in repertoire, untranslatable character
			return faultText
		case "57P01", "57P02", "57P03", "57P05", "25P03", // shutting down, crashed, starting, idle, idle in a transaction
			"53300", "25006", "55P03", "57014": // too many connections, read-only (a standby), no lock in time, no result in time
			return faultGone
		}
		if e.Code[:2] == "08" { // connection exception
			return faultGone
		}
		return faultOther
	}
	var n net.Error
	if errors.As(err, &n) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.As(err, new(*pgconn.ConnectError)) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return faultGone
	}
	return faultOther
}

// openPostgres connects to the database, which must exist, and brings its schema up to date. Of several nodes that start together
// one does.
func (db *DB) openPostgres(ctx context.Context, url string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("opening store: the database's URL can't be read; it looks like postgres://USER:PASSWORD@HOST:5432/DATABASE (%w)", redacted(err))
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	db.engine = postgres()
	for name, value := range map[string]string{
		"application_name": "imprint", "timezone": "UTC", "client_encoding": "UTF8",
		// A node that hangs must not hold up the others.
		"statement_timeout": "30s", "lock_timeout": "30s", "idle_in_transaction_session_timeout": "5s",
		// SERIALIZABLE watches what was read. A search by an index reads a page of it, a scan the whole table, and then any two
		// transactions conflict; for small tables the planner would prefer scans.
		"enable_seqscan": "off",
	} {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	connect := &patient{Connector: stdlib.GetConnector(*cfg), log: db.log}
	db.write, db.read = sql.OpenDB(connect), sql.OpenDB(connect)
	db.write.SetMaxOpenConns(1)
	db.read.SetMaxOpenConns(db.engine.readers)
	if err := db.preparePostgres(ctx); err != nil {
		return errors.Join(fmt.Errorf("opening store in database %q on %s: %w", cfg.Database, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))), err),
			db.write.Close(), db.read.Close())
	}
	return nil
}

// redacted keeps a password out of the error about a URL.
func redacted(err error) error {
	var e *pgconn.ParseConfigError
	if errors.As(err, &e) {
		return errors.New("it has a part that is not understood")
	}
	return err
}

func (db *DB) preparePostgres(ctx context.Context) error {
	var version int
	var encoding string
	if err := db.write.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')").
		Scan(&version, &encoding); err != nil {
		return err
	}
	if version < oldestPostgres {
		return fmt.Errorf("PostgreSQL %d is too old; %d or newer is needed", version, oldestPostgres)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database has encoding %s; make one with: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return db.engine.migrate(ctx, db.write)
}

// migrationLock lets one node at a time look at the schema and change it. It is held by a session, hence let go when the node dies.
type migrationLock struct{}

const migrationLockKey = 0x696d7072696e74 // "imprint"

func (migrationLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	// A migration may take longer than any other statement, and so may waiting for one.
	if _, err := conn.ExecContext(ctx, "SET statement_timeout = 0; SET lock_timeout = 0"); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLockKey)); err != nil {
		return err
	}
	_, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS write_turn ()") // holds nothing; see engine.turn
	return err
}

func (migrationLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(migrationLockKey))
	_, reset := conn.ExecContext(ctx, "RESET statement_timeout; RESET lock_timeout")
	return errors.Join(err, reset)
}

// patient remembers for a moment that the database could not be reached, so that not everybody waits to find out, and says so once.
type patient struct {
	driver.Connector
	log *slog.Logger

	mu   sync.Mutex
	err  error // nil while it can be reached
	last time.Time
}

const askAgain = 500 * time.Millisecond

func (p *patient) Connect(ctx context.Context) (driver.Conn, error) {
	p.mu.Lock()
	if err := p.err; err != nil && time.Since(p.last) < askAgain {
		p.mu.Unlock()
		return nil, err
	}
	p.mu.Unlock()
	conn, err := p.Connector.Connect(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil && p.err == nil:
		p.log.Error("the database can't be reached", "error", err)
	case err == nil && p.err != nil:
		p.log.Info("the database can be reached again")
	}
	p.err, p.last = err, time.Now()
	return conn, err
}
