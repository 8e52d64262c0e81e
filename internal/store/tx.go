package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Tx is one transaction. Its query methods, one file per subject, are all the SQL there is. A Tx must not be used after its
// body has returned, nor by two goroutines.
type Tx struct {
	ctx     context.Context
	tx      *sql.Tx
	db      *DB
	on      *session
	write   bool
	changes []Change
}

// maxGroup bounds how many transactions share one commit, so that none waits long for the others.
const maxGroup = 64

type job struct {
	ctx     context.Context
	body    func(*Tx) error
	result  chan error
	changes []Change
}

// Tx runs body in a write transaction and returns when what it wrote is durable. If body returns an error nothing of it is
// kept and Tx returns that error. body may run more than once: it holds SQL only, no I/O, and sets captured variables
// from scratch. Once begun it is free of ctx's cancellation.
func (db *DB) Tx(ctx context.Context, body func(*Tx) error) error {
	if db.onWrite == nil {
		return db.queue(ctx, body)
	}
	start := time.Now() // a duration; the clock may be moved
	err := db.queue(ctx, body)
	db.onWrite(time.Since(start), err)
	return err
}

func (db *DB) queue(ctx context.Context, body func(*Tx) error) error {
	j := &job{ctx: ctx, body: body, result: make(chan error, 1)}
	select {
	case db.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.closed:
		return errClosed
	}
	select {
	case err := <-j.result:
		if err == nil {
			db.notify(j.changes)
		}
		return err
	case <-db.done: // the writer has stopped; it may have answered first
		select {
		case err := <-j.result:
			return err
		default:
			return errClosed
		}
	}
}

var errClosed = &fleet.Error{Kind: fleet.KindUnavailable, Msg: "the store is closed"}

// View runs body in a read transaction: all its queries see one state.
func (db *DB) View(ctx context.Context, body func(*Tx) error) error {
	var on *session
	select {
	case on = <-db.readers:
	case <-ctx.Done():
		return fmt.Errorf("waiting to read: %w", ctx.Err())
	case <-db.drained:
		return errClosed
	}
	defer func() { db.readers <- on }()
	tx, err := on.begin(&sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("beginning to read: %w", err)
	}
	defer tx.Rollback()
	return body(&Tx{ctx: ctx, tx: tx, db: db, on: on})
}

// writer runs transactions one after the other and commits them in groups.
func (db *DB) writer() {
	defer close(db.done)
	for {
		select {
		case j := <-db.jobs:
			db.group(j)
		case <-db.closed:
			for { // whoever got in before Close is served
				select {
				case j := <-db.jobs:
					db.group(j)
				default:
					return
				}
			}
		}
	}
}

// group runs first and whatever else is waiting in one SQL transaction. There is no artificial delay: while one group
// syncs, the next gathers.
func (db *DB) group(first *job) {
	jobs, results, err := db.attempt(first, db.next)
	if err == nil {
		for i, j := range jobs {
			j.result <- results[i]
		}
		return
	}
	// The shared transaction was lost, perhaps through one body alone: give each its own.
	for _, j := range jobs {
		_, results, err := db.attempt(j, func() *job { return nil })
		if err == nil {
			err = results[0]
		}
		j.result <- err
	}
}

func (db *DB) next() *job {
	select {
	case j := <-db.jobs:
		return j
	default:
		return nil
	}
}

// attempt runs a group. results[i] is the outcome of jobs[i]; err is set if the shared transaction failed, and then no job
// has taken effect.
func (db *DB) attempt(first *job, next func() *job) (jobs []*job, results []error, err error) {
	if db.onCommit != nil {
		start := time.Now()
		defer func() { db.onCommit(len(jobs), time.Since(start), err) }()
	}
	sqlTx, err := db.writes.begin(nil)
	if err != nil {
		return []*job{first}, nil, fmt.Errorf("beginning to write: %w", err)
	}
	defer sqlTx.Rollback()
	for j := first; j != nil; j = next() {
		jobs = append(jobs, j)
		if err := j.ctx.Err(); err != nil { // gave up while waiting
			results = append(results, err)
		} else {
			tx := &Tx{ctx: context.WithoutCancel(j.ctx), tx: sqlTx, db: db, on: db.writes, write: true}
			bodyErr, fatal := tx.inSavepoint(j.body)
			if fatal != nil {
				return jobs, nil, fatal
			}
			j.changes = tx.changes
			results = append(results, bodyErr)
		}
		if len(jobs) == maxGroup {
			break
		}
	}
	if err := sqlTx.Commit(); err != nil {
		return jobs, nil, fmt.Errorf("committing: %w", err)
	}
	return jobs, results, nil
}

// inSavepoint runs body so that its failure undoes its own writes only. fatal means that the outer transaction is lost.
func (tx *Tx) inSavepoint(body func(*Tx) error) (bodyErr, fatal error) {
	if _, err := tx.exec("SAVEPOINT body"); err != nil {
		return nil, err
	}
	bodyErr = func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
			}
		}()
		return body(tx)
	}()
	if bodyErr != nil {
		tx.changes = nil
		if _, err := tx.exec("ROLLBACK TO body"); err != nil {
			return nil, errors.Join(bodyErr, err)
		}
	}
	_, err := tx.exec("RELEASE body")
	return bodyErr, err
}

// Now is the time by the store's clock.
func (tx *Tx) Now() time.Time { return tx.db.clock.Now() }

// Changed tells listeners after the commit that kind/key of scope was written.
func (tx *Tx) Changed(s fleet.Scope, kind, key string) {
	tx.changes = append(tx.changes, Change{s, kind, key})
}

// exec, rows and row run one statement with `?` placeholders.
func (tx *Tx) exec(query string, args ...any) (sql.Result, error) {
	if stmt := tx.on.prepared(tx.ctx, query); stmt != nil {
		return stmt.ExecContext(tx.ctx, args...)
	}
	return tx.tx.ExecContext(tx.ctx, query, args...)
}

func (tx *Tx) rows(query string, args ...any) (*sql.Rows, error) {
	if stmt := tx.on.prepared(tx.ctx, query); stmt != nil {
		return stmt.QueryContext(tx.ctx, args...)
	}
	return tx.tx.QueryContext(tx.ctx, query, args...)
}

func (tx *Tx) row(query string, args ...any) *sql.Row {
	if stmt := tx.on.prepared(tx.ctx, query); stmt != nil {
		return stmt.QueryRowContext(tx.ctx, args...)
	}
	return tx.tx.QueryRowContext(tx.ctx, query, args...)
}

// scanner is what *sql.Row and *sql.Rows share.
type scanner interface{ Scan(...any) error }

// all runs a query and scans each of its rows.
func all[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := tx.rows(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// one runs a query for a single row; found is false if there is none.
func one[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) (v T, found bool, err error) {
	v, err = scan(tx.row(query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

func scanString(s scanner) (string, error) {
	var v string
	err := s.Scan(&v)
	return v, err
}

// changedRows reports whether a statement touched any row.
func changedRows(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// millis and fromMillis convert times to the integers in which they are stored; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// toJSON and fromJSON keep small maps and lists in a text column. An empty or nil value is stored as "".
func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: value cannot be JSON: " + err.Error()) // only our own types come here
	}
	if s := string(b); s != "null" && s != "{}" && s != "[]" {
		return s
	}
	return ""
}

func fromJSON(text string, v any) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("reading a stored JSON value: %w", err)
	}
	return nil
}
