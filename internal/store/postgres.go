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
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// oldestPostgres is the first version that the tests run on.
const oldestPostgres = 15

// postgres has one writer in each node, and the nodes take turns: docs/decisions/0005-one-writer-at-a-time.md has the figures.
// SERIALIZABLE is for whoever else writes to the database.
func postgres() *engine {
	return &engine{
		readers: 8, timeout: 30 * time.Second,
		begin: beginPostgres,
		turn:  "LOCK TABLE write_turn IN EXCLUSIVE MODE", // takes no snapshot yet, unlike an advisory lock; let go once durable
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
		errors.As(err, new(*pgconn.ConnectError)) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errNotAlone) ||
		errors.Is(err, ErrOvertaken) {
		return faultGone
	}
	return faultOther
}

// openPostgres connects to the database, which must exist, and brings its schema up to date. Of several nodes that start together
// one does.
func (db *DB) openPostgres(ctx context.Context, c Config) error {
	cfg, err := postgresConfig(c.URL)
	if err != nil {
		return fmt.Errorf("opening store: the database's URL: %w; it looks like postgres://USER:PASSWORD@HOST:5432/DATABASE", err)
	}
	db.engine = postgres()
	var owner owner
	var options []stdlib.OptionOpenDB
	if c.Alone {
		options = append(options, stdlib.OptionAfterConnect(owner.connected))
	}
	seen := &outage{log: db.log}
	db.writing = patient{stdlib.GetConnector(*cfg, options...), seen}
	db.reading = patient{stdlib.GetConnector(*cfg), seen}
	err = db.prepare(ctx, preparePostgres)
	if err == nil && c.Alone {
		if err = owner.sign(ctx, db.writes); err != nil {
			db.writes.drop()
		}
	}
	if err != nil {
		return fmt.Errorf("opening store in database %q on %s: %w%s", cfg.Database, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))), err, cure(err))
	}
	return nil
}

// beginPostgres reads one snapshot, with nothing to conflict with, and writes SERIALIZABLE.
func beginPostgres(ctx context.Context, s *session, write bool) (driver.Tx, error) {
	o := driver.TxOptions{Isolation: driver.IsolationLevel(sql.LevelRepeatableRead), ReadOnly: true}
	if write {
		o = driver.TxOptions{Isolation: driver.IsolationLevel(sql.LevelSerializable)}
	}
	return s.conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

// postgresConfig reads a URL, and the variables and files that libpq reads too. Its errors hold no password.
func postgresConfig(text string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("it can't be read")
	}
	cfg, err := pgx.ParseConfig(u.String())
	if q := u.Query(); err == nil && !q.Has("sslmode") && os.Getenv("PGSSLMODE") == "" && mayGoPlain(cfg) {
		q.Set("sslmode", "verify-full") // what libpq does by default protects from nobody in between
		u.RawQuery = q.Encode()
		cfg, err = pgx.ParseConfig(u.String())
	}
	if err != nil {
		reason := err.Error() // "cannot parse `URL`: reason"
		reason = reason[strings.LastIndex(reason, "`")+1:]
		if password, ok := u.User.Password(); ok && password != "" {
			reason = strings.ReplaceAll(reason, password, "xxxxx")
		}
		return nil, errors.New("it has a wrong part" + reason)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	for name, value := range map[string]string{
		"application_name": "imprint", "timezone": "UTC", "client_encoding": "UTF8",
		// A node that hangs or is cut off must not hold up the others.
		"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "5s",
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "25000",
		// SERIALIZABLE watches what was read. A search by an index reads a page of it, a scan the whole table, and then any two
		// transactions conflict; for small tables the planner would prefer scans.
		"enable_seqscan": "off",
	} {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	return cfg, nil
}

// mayGoPlain reports whether a host elsewhere, wherever its name comes from, is asked for TLS and then without: libpq's default.
func mayGoPlain(cfg *pgx.ConnConfig) bool {
	asked := cfg.TLSConfig != nil
	for _, f := range cfg.Fallbacks {
		if asked = asked || f.TLSConfig != nil; asked && f.TLSConfig == nil && !isLocal(f.Host) {
			return true
		}
	}
	return false
}

// isLocal reports whether a host of a URL is this machine: loopback, a Unix socket, or the default, which is one of them.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || ip != nil && ip.IsLoopback()
}

// cure says how to mend what goes wrong most often.
func cure(err error) string {
	var e *pgconn.PgError
	switch text := err.Error(); {
	case errors.As(err, &e) && e.Code == "3D000": // invalid catalog name
		return " (make it with: createdb -E UTF8 -T template0 NAME)"
	case strings.Contains(text, "refused TLS") || strings.Contains(text, "x509:"):
		return " (TLS with a certificate for the host is asked for: sslrootcert=FILE in the URL names the CA, sslmode=disable does without TLS)"
	}
	return ""
}

// An owner is a store that is alone. What its process knows of the database (sessions, compiled policies) holds as long as
// nobody else writes there: one that has lost its connection may go on, unless another owner was there meanwhile.
type owner struct{ id string } // "": it has not signed yet

// ownerSetting has the id of the last owner.
const ownerSetting = "owner"

// connected takes a lock that ends with the connection. It waits a little (lock_timeout) for a store whose process has just
// ended.
func (o *owner) connected(ctx context.Context, conn *pgx.Conn) error {
	const mine = migrationLockKey + 1
	_, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(mine))
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) && e.Code == "55P03" { // lock not available
		err = errNotAlone
	}
	if err == nil && o.id != "" {
		var last string
		err = conn.QueryRow(ctx, "SELECT value FROM settings WHERE name = $1", ownerSetting).Scan(&last)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && last != o.id {
			err = ErrOvertaken
		}
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, conn.Close(ctx))
}

// sign makes the store the last owner. s holds the lock.
func (o *owner) sign(ctx context.Context, s *session) error {
	id := fleet.NewUUID()
	_, err := s.exec(ctx, `INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, ownerSetting, id)
	if err == nil {
		o.id = id
	}
	return err
}

var errNotAlone = errors.New("another imprint serve uses this database: stop it first")

// ErrOvertaken is the error of all writes of a store that was alone, lost its connection and finds that another one was there
// meanwhile. A new one has to be opened, by a process that has forgotten what was.
var ErrOvertaken = errors.New("another imprint serve has used this database since this one lost its connection: start this one again")

func preparePostgres(ctx context.Context, s *session) error {
	var version int
	var encoding string
	found, err := s.query(ctx, "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')")
	if err != nil {
		return err
	}
	if err := found.one([]any{&version, &encoding}); err != nil {
		return err
	}
	if version < oldestPostgres {
		return fmt.Errorf("PostgreSQL %d is too old; %d or newer is needed", version, oldestPostgres)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database has encoding %s; make one with: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
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

// patient is a connector that does not ask again at once when the database could not be reached, so that not everybody waits to find
// out.
type patient struct {
	driver.Connector
	*outage
}

// An outage is the time in which a database can't be reached. It says so once.
type outage struct {
	log *slog.Logger

	mu   sync.Mutex
	err  error // nil: it can be reached
	last time.Time
}

const askAgain = 500 * time.Millisecond

func (p patient) Connect(ctx context.Context) (driver.Conn, error) {
	if err := p.lately(); err != nil {
		return nil, err
	}
	conn, err := p.Connector.Connect(ctx)
	p.found(err)
	return conn, err
}

// lately returns the error of a moment ago.
func (o *outage) lately() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil && time.Since(o.last) < askAgain {
		return o.err
	}
	return nil
}

func (o *outage) found(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil && o.err == nil:
		o.log.Error("the database can't be reached", "error", err)
	case err == nil && o.err != nil:
		o.log.Info("the database can be reached again")
	}
	o.err, o.last = err, time.Now()
}
