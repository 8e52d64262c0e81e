package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
)

// A session is one connection with its compiled statements: compiling takes SQLite longer than running what we ask. It is used
// by one transaction at a time. (Statements of sql.DB would ask the pool for a connection while a transaction holds the last one.)
type session struct {
	pool  *sql.DB
	conn  *sql.Conn // nil until first used
	stmts map[string]*sql.Stmt
}

// maxStatements bounds what a session keeps. The statements of the product are fewer, but for lists of varying length.
const maxStatements = 400

// begin starts a transaction. A connection that cannot is given up; the next begin opens another.
func (s *session) begin(o *sql.TxOptions) (*sql.Tx, error) {
	// Without a deadline: database/sql would roll back in its own time, perhaps when the next transaction has begun.
	ctx := context.Background()
	if s.conn == nil {
		conn, err := s.pool.Conn(ctx)
		if err != nil {
			return nil, err
		}
		s.conn, s.stmts = conn, map[string]*sql.Stmt{}
	}
	tx, err := s.conn.BeginTx(ctx, o)
	if err != nil {
		_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // its error is this one
		s.conn = nil
	}
	return tx, err
}

// prepared returns a compiled statement that runs on the session's connection and hence in its transaction; nil if the
// statement is better run as it is: it has an error to show, or enough others are kept.
func (s *session) prepared(ctx context.Context, query string) *sql.Stmt {
	if stmt := s.stmts[query]; stmt != nil {
		return stmt
	}
	if len(s.stmts) >= maxStatements {
		return nil
	}
	stmt, err := s.conn.PrepareContext(ctx, keepPlan(query))
	if err != nil {
		return nil
	}
	s.stmts[query] = stmt
	return stmt
}

// keepPlan hides a bound LIMIT from SQLite's planner, which would take the value into its plan and therefore compile the
// statement again each time a value is bound.
func keepPlan(query string) string { return strings.ReplaceAll(query, "LIMIT ?", "LIMIT ? + 0") }

// close gives the connection back to its pool.
func (s *session) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
