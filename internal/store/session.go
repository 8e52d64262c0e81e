package store

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"strconv"
)

// A session is one connection with its compiled statements: compiling takes SQLite longer than running what we ask, and PostgreSQL
// a round trip. It is used by one transaction at a time, and speaks to the engine's driver: on the way through database/sql a
// statement took more than twice as long.
type session struct {
	connector driver.Connector
	engine    *engine
	conn      driver.Conn // nil until first used
	stmts     map[string]stmt
	args      []driver.NamedValue // of the statement that runs

	heard   func(query string)
	changed bool // the transaction has changed what a memory may keep
}

// stmt is what the drivers of both engines have.
type stmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// maxStatements bounds what a session keeps; when it is full it begins anew. The statements of the product are fewer, but for
// lists of varying length.
const maxStatements = 400

// free holds sessions that nobody uses. Those that have a connection are taken first: a connection reads the schema before it does
// anything, a millisecond or more, and has its own compiled statements.
type free struct{ warm, cold chan *session }

func newFree(most int) free {
	return free{warm: make(chan *session, most), cold: make(chan *session, most)}
}

// take waits for a session. ok is false when one of the channels was closed before there was one.
func (f free) take(canceled, drained <-chan struct{}) (s *session, ok bool) {
	select {
	case s = <-f.warm:
		return s, true
	default:
	}
	select {
	case s = <-f.warm:
	case s = <-f.cold:
		select {
		case warm := <-f.warm: // both have come meanwhile, and either could be had
			f.cold <- s
			s = warm
		default:
		}
	case <-canceled:
	case <-drained:
	}
	return s, s != nil
}

func (f free) put(s *session) {
	if s.conn == nil {
		f.cold <- s
		return
	}
	f.warm <- s
}

// begin starts a transaction. A connection that cannot is given up for another one, as after a restart of the database.
func (s *session) begin(ctx context.Context, write bool) (driver.Tx, error) {
	for {
		fresh := s.conn == nil
		if fresh {
			if err := s.connect(ctx); err != nil {
				return nil, err
			}
		}
		tx, err := s.engine.begin(ctx, s, write)
		if err == nil {
			return tx, nil
		}
		s.drop()
		if fresh {
			return nil, err
		}
	}
}

func (s *session) connect(ctx context.Context) error {
	conn, err := s.connector.Connect(ctx)
	if err == nil {
		s.conn, s.stmts = conn, map[string]stmt{}
	}
	return err
}

// drop gives up the connection: its state is not known.
func (s *session) drop() {
	if s.conn != nil {
		_ = s.conn.Close() // whatever it has to say, it is not used again
		s.conn = nil
	}
}

// close ends the connection.
func (s *session) close() error {
	if s.conn == nil {
		return nil
	}
	s.forget()
	return s.conn.Close()
}

func (s *session) forget() {
	for _, old := range s.stmts {
		_ = old.Close() // the connection is sound, and if not the next statement will tell
	}
	clear(s.stmts)
}

// prepared returns the compiled form of a query in the store's words.
func (s *session) prepared(ctx context.Context, query string) (stmt, error) {
	if s.heard != nil {
		s.heard(query)
	}
	if known := s.stmts[query]; known != nil {
		return known, nil
	}
	if len(s.stmts) >= maxStatements {
		s.forget()
	}
	fresh, err := s.conn.(driver.ConnPrepareContext).PrepareContext(ctx, s.engine.words(query))
	if err != nil {
		return nil, err
	}
	s.stmts[query] = fresh.(stmt)
	return s.stmts[query], nil
}

func (s *session) exec(ctx context.Context, query string, args ...any) (driver.Result, error) {
	run, err := s.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	defer s.unbind()
	if err := s.bind(args); err != nil {
		return nil, err
	}
	return run.ExecContext(ctx, s.args)
}

func (s *session) query(ctx context.Context, query string, args ...any) (*rows, error) {
	run, err := s.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	defer s.unbind()
	if err := s.bind(args); err != nil {
		return nil, err
	}
	from, err := run.QueryContext(ctx, s.args)
	if err != nil {
		return nil, err
	}
	return &rows{from: from, values: make([]driver.Value, len(from.Columns()))}, nil
}

// bind puts the values of a statement into s.args, which drivers don't keep.
func (s *session) bind(args []any) error {
	for i, arg := range args {
		v := driver.Value(arg)
		switch arg := arg.(type) {
		case string, int64, []byte, bool:
		case int:
			v = int64(arg)
		default:
			var err error
			if v, err = driver.DefaultParameterConverter.ConvertValue(arg); err != nil {
				return fmt.Errorf("value %d of a statement: %w", i+1, err)
			}
		}
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return nil
}

// unbind lets go of the values of a statement: they may be parts of something large.
func (s *session) unbind() {
	clear(s.args)
	s.args = s.args[:0]
}

// rows are the answer to a query. They must be closed before the transaction goes on.
type rows struct {
	from   driver.Rows
	values []driver.Value // of the present row
	err    error
	closed bool
}

// Next goes to the next row. It is false after the last and after an error.
func (r *rows) Next() bool {
	if r.err != nil || r.closed {
		return false
	}
	err := r.from.Next(r.values)
	if err == io.EOF {
		r.err = r.Close()
		return false
	}
	r.err = err
	return err == nil
}

func (r *rows) Err() error { return r.err }

func (r *rows) Columns() []string { return r.from.Columns() }

func (r *rows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return r.from.Close()
}

// Scan copies the row's values to where the pointers lead: to texts, numbers, booleans or bytes.
func (r *rows) Scan(to ...any) error {
	if len(to) != len(r.values) {
		return fmt.Errorf("a row of %d columns is read into %d variables", len(r.values), len(to))
	}
	for i, v := range r.values {
		if !assign(to[i], v) {
			return fmt.Errorf("column %s holds a %T, which does not go into a %T", r.from.Columns()[i], v, to[i])
		}
	}
	return nil
}

func assign(to any, v driver.Value) bool {
	switch v := v.(type) {
	case string:
		switch to := to.(type) {
		case *string:
			*to = v
			return true
		case *[]byte:
			*to = []byte(v)
			return true
		}
	case int64:
		switch to := to.(type) {
		case *int64:
			*to = v
			return true
		case *int:
			*to = int(v)
			return true
		case *bool: // SQLite has no others
			*to = v != 0
			return true
		case *string:
			*to = strconv.FormatInt(v, 10)
			return true
		}
	case []byte:
		switch to := to.(type) {
		case *[]byte:
			*to = bytes.Clone(v)
			return true
		case *string:
			*to = string(v)
			return true
		}
	case bool:
		if to, ok := to.(*bool); ok {
			*to = v
			return true
		}
	}
	return false
}

// one scans the only row; without any the error is sql.ErrNoRows.
func (r *rows) one(to []any) error {
	defer r.Close()
	if !r.Next() {
		if r.err != nil {
			return r.err
		}
		return sql.ErrNoRows
	}
	if err := r.Scan(to...); err != nil {
		return err
	}
	return r.Close()
}
