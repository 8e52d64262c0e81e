package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// A session is one connection with its compiled statements: compiling takes SQLite longer than running what we ask, and PostgreSQL
// a round trip. It is used by one transaction at a time. (Statements of sql.DB would ask the pool for a connection while a
// transaction holds the last one.)
type session struct {
	pool   *sql.DB
	engine *engine
	conn   *sql.Conn // nil until first used
	stmts  map[string]*sql.Stmt

	changed bool // the transaction has changed what a memory may keep
}

// maxStatements bounds what a session keeps. The statements of the product are fewer, but for lists of varying length.
const maxStatements = 400

// begin starts a transaction. A connection that cannot is given up for another one, as after a restart of the database.
func (s *session) begin(ctx context.Context, o *sql.TxOptions) (*sql.Tx, error) {
	for {
		fresh := s.conn == nil
		if fresh {
			conn, err := s.pool.Conn(ctx)
			if err != nil {
				return nil, err
			}
			s.conn, s.stmts = conn, map[string]*sql.Stmt{}
		}
		tx, err := s.conn.BeginTx(ctx, o)
		if err == nil {
			return tx, nil
		}
		s.drop()
		if fresh {
			return nil, err
		}
	}
}

// drop gives up the connection: its state is not known.
func (s *session) drop() {
	if s.conn != nil {
		_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // its error is this one
		s.conn = nil
	}
}

// prepared returns a compiled statement that runs on the session's connection and hence in its transaction, or what to run if
// enough others are kept.
func (s *session) prepared(ctx context.Context, query string) (*sql.Stmt, string, error) {
	if stmt := s.stmts[query]; stmt != nil {
		return stmt, "", nil
	}
	words := s.engine.words(query)
	if len(s.stmts) >= maxStatements {
		return nil, words, nil
	}
	stmt, err := s.conn.PrepareContext(ctx, words)
	if err != nil {
		return nil, "", err
	}
	s.stmts[query] = stmt
	return stmt, "", nil
}

// close gives the connection back to its pool.
func (s *session) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
