package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Tx is one transaction. Its query methods, one file per subject, are all the SQL there is. A Tx must not be used after its
// body has returned, nor by two goroutines.
type Tx struct {
	ctx     context.Context
	db      *DB
	on      *session // nil in a view that has asked nothing yet
	end     func()   // of a view
	began   uint64   // generation of the memory before it began
	changes []Change
	looks   map[Change]look           // see again
	recall  map[Change]map[string]any // see recalled
	expects *expectation              // see ExpectDevice
	fresh   *expectation              // the certificate that this transaction knew to be just issued, see pending
	written int                       // rows that it has changed, counted in tests
	dirty   bool                      // a statement may have changed something, or failed
	lost    error                     // the transaction can't be saved any more: a conflict, or the connection is gone
}

// maxGroup and maxGroupTime bound how many transactions share one commit, so that none waits long for the others, nor another node
// for its turn.
const (
	maxGroup     = 64
	maxGroupTime = 25 * time.Millisecond
)

type job struct {
	ctx     context.Context
	body    func(*Tx) error
	result  chan error
	changes []Change
	expects *expectation
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

// Writes is how many times Tx was called so far: whoever can wait sees whether others write, too.
func (db *DB) Writes() uint64 { return db.writers.Load() }

func (db *DB) queue(ctx context.Context, body func(*Tx) error) error {
	db.writers.Add(1)
	if db.rehearse {
		body = rehearsed(body)
	}
	j := &job{ctx: ctx, body: body, result: make(chan error, 1)}
	select {
	case db.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.closed:
		return errClosed
	}
	var err error
	select {
	case err = <-j.result:
	case <-db.done: // the writer has stopped; it may have answered first
		select {
		case err = <-j.result:
		default:
			return errClosed
		}
	}
	if err == nil || errors.As(err, new(unsure)) { // whoever asks again may find nothing to change, and tell nobody
		db.notify(j.changes)
	}
	return err
}

// rehearsed runs body twice and keeps nothing of the first time.
func rehearsed(body func(*Tx) error) func(*Tx) error {
	return func(tx *Tx) error {
		_ = tx.inSavepoint(func(tx *Tx) error {
			_ = body(tx)
			return errors.New("a rehearsal")
		})
		if tx.lost != nil {
			return tx.lost
		}
		tx.written = 0
		return body(tx)
	}
}

var errClosed = &fleet.Error{Kind: fleet.KindUnavailable, Msg: "the store is closed"}

// View runs body in a read transaction: all its queries see one state. What the store remembers (memory.go) it may give as of the
// moment before.
func (db *DB) View(ctx context.Context, body func(*Tx) error) error {
	tx := &Tx{ctx: ctx, db: db, began: db.memory.now()}
	defer tx.leave()
	return body(tx)
}

// start begins the transaction of a view, when its first statement comes: most need none, since the store remembers the answer.
func (tx *Tx) start() error {
	if tx.on != nil {
		return nil
	}
	on, ok := tx.db.readers.take(tx.ctx.Done(), tx.db.drained)
	if !ok {
		if err := tx.ctx.Err(); err != nil {
			return fmt.Errorf("waiting to read: %w", err)
		}
		return errClosed
	}
	limited, cancel := tx.db.engine.bounded()
	begun, err := on.begin(limited, false)
	if err != nil {
		cancel()
		tx.db.readers.put(on)
		return fmt.Errorf("beginning to read: %w", tx.db.engine.meaning(err))
	}
	tx.on, tx.ctx = on, valuesOf{limited, tx.ctx}
	tx.end = func() {
		_ = begun.Rollback() // the next one to begin finds out what is wrong with the connection
		cancel()
		tx.db.readers.put(on)
	}
	return nil
}

// leave ends the transaction of a view.
func (tx *Tx) leave() {
	if tx.end != nil {
		tx.end()
	}
}

// writer runs transactions one after the other and commits them in groups.
func (db *DB) writer() {
	defer close(db.done)
	for {
		select {
		case j := <-db.jobs:
			db.group(j, db.next)
		case <-db.closed:
			for { // whoever got in before Close is served
				select {
				case j := <-db.jobs:
					db.group(j, db.next)
				default:
					return
				}
			}
		}
	}
}

// group runs first and whatever next gives in one SQL transaction. There is no artificial delay: while one group
// syncs, the next gathers.
func (db *DB) group(first *job, next func() *job) {
	jobs, results, err := db.attempt(first, next, false)
	if err == errSpoiled {
		db.carefully(jobs)
		return
	}
	db.answer(jobs, results, err)
}

// errSpoiled is the error of a group of which a body has failed after it had written: bodies have savepoints the second time only,
// since few fail so, and to keep what each page was before each body costs more than many bodies do.
var errSpoiled = errors.New("a body has failed and left something behind")

// carefully runs jobs whose group was spoiled.
func (db *DB) carefully(jobs []*job) {
	for len(jobs) > 0 {
		left := jobs[1:]
		done, results, err := db.attempt(jobs[0], func() (j *job) {
			if len(left) > 0 {
				j, left = left[0], left[1:]
			}
			return j
		}, true)
		db.answer(done, results, err)
		jobs = jobs[len(done):]
	}
}

func (db *DB) answer(jobs []*job, results []error, err error) {
	for i, j := range jobs {
		if err == nil {
			j.result <- results[i]
		} else { // the shared transaction was lost, perhaps through one body alone: give each its own
			j.result <- db.again(j, err)
		}
	}
}

// next is the next job that waits. Whoever could run and bring one gets the chance first, since all of a group share its commit; with
// nothing else to run that takes no time.
func (db *DB) next() *job {
	for range 2 {
		select {
		case j := <-db.jobs:
			return j
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// maxTries bounds how often a body runs that conflicts with others, and pauses how long it waits before: at most that long.
const maxTries = 20

var pauses = [...]time.Duration{0, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond}

// again runs a job alone after its transaction was lost.
func (db *DB) again(j *job, err error) error {
	for try := 1; try < maxTries && !errors.As(err, new(unsure)); try++ {
		if most := pauses[min(try, len(pauses))-1]; most > 0 {
			time.Sleep(rand.N(most)) // those that conflicted begin again at different times
		}
		var results []error
		if _, results, err = db.attempt(j, func() *job { return nil }, false); err == nil {
			return results[0]
		}
		if db.engine.fault(err) != faultConflict {
			break // once more was enough to find out
		}
	}
	return db.engine.meaning(err)
}

// unsure is the error of a commit that may have succeeded: its body must not run again.
type unsure struct{ error }

func (u unsure) Unwrap() error { return u.error }

// attempt runs a group, each body in a savepoint of its own if careful. results[i] is the outcome of jobs[i]; err is set if the shared
// transaction failed, and then no job has taken effect, unless err is unsure.
func (db *DB) attempt(first *job, next func() *job, careful bool) (jobs []*job, results []error, err error) {
	start := time.Now()
	if db.onCommit != nil {
		defer func() {
			if err != errSpoiled {
				db.onCommit(len(jobs), time.Since(start), err)
			}
		}()
	}
	ctx, cancel := db.engine.bounded()
	defer cancel()
	began := db.memory.now()
	db.writes.changed = false
	begun, err := db.writes.begin(ctx, true)
	if err != nil {
		return []*job{first}, nil, fmt.Errorf("beginning to write: %w", err)
	}
	kept := false
	defer func() {
		if kept {
			return
		}
		_ = begun.Rollback() // nothing is left of it if the commit has failed
		if ctx.Err() != nil {
			db.writes.drop()
		}
	}()
	if turn := db.engine.turn; turn != "" {
		if _, err := db.writes.exec(ctx, turn); err != nil {
			return []*job{first}, nil, fmt.Errorf("waiting to write: %w", err)
		}
	}
	for j := first; j != nil; j = next() {
		jobs = append(jobs, j)
		j.changes, j.expects = nil, nil
		err := j.ctx.Err() // gave up while waiting
		if err == nil {
			tx := &Tx{ctx: valuesOf{ctx, j.ctx}, db: db, on: db.writes, began: began}
			if careful && len(jobs) > 1 { // with somebody before it whose writes must stay
				err = tx.inSavepoint(j.body)
			} else {
				err = tx.guarded(j.body)
			}
			switch {
			case tx.lost != nil:
				return jobs, nil, tx.lost
			case err == nil:
				j.changes, j.expects = tx.changes, tx.expects
			case tx.dirty && len(jobs) > 1 && !careful:
				return jobs, nil, errSpoiled
			}
		}
		results = append(results, err)
		if len(jobs) == 1 && err != nil {
			return jobs, results, nil
		}
		if len(jobs) == maxGroup || time.Since(start) > maxGroupTime {
			break
		}
	}
	over := db.memory.commit(jobs)
	err = begun.Commit()
	over()
	if err != nil {
		err = fmt.Errorf("committing: %w", err)
		if db.engine.fault(err) == faultGone {
			err = unsure{err}
			for _, j := range jobs {
				db.undecided = append(db.undecided, j.changes...)
			}
		}
		return jobs, nil, err
	}
	db.expected.committed(jobs)
	kept = true
	db.notify(db.undecided) // it was the turn of this commit, so that theirs are over
	db.undecided = nil
	db.commitDone()
	return jobs, results, nil
}

// valuesOf is a context with the values of another one.
type valuesOf struct {
	context.Context
	values context.Context
}

func (c valuesOf) Value(key any) any { return c.values.Value(key) }

// guarded turns a panic into an error.
func (tx *Tx) guarded(body func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	return body(tx)
}

// inSavepoint runs body so that its failure undoes its own writes only. If that can't be done the outer transaction is lost.
func (tx *Tx) inSavepoint(body func(*Tx) error) error {
	if _, tx.lost = tx.exec("SAVEPOINT body"); tx.lost != nil {
		return tx.lost
	}
	bodyErr := tx.guarded(body)
	if tx.lost != nil {
		return tx.lost
	}
	if bodyErr != nil {
		tx.changes, tx.looks, tx.recall, tx.expects, tx.fresh = nil, nil, nil, nil, nil
		if _, tx.lost = tx.exec("ROLLBACK TO body"); tx.lost != nil {
			return errors.Join(bodyErr, tx.lost)
		}
	}
	_, tx.lost = tx.exec("RELEASE body")
	return bodyErr
}

// Now is the time by the store's clock.
func (tx *Tx) Now() time.Time { return tx.db.clock.Now() }

// Changed tells listeners after the commit that kind/key of scope was written.
func (tx *Tx) Changed(s fleet.Scope, kind, key string) {
	c := Change{s, kind, key}
	tx.changes = append(tx.changes, c)
	delete(tx.looks, c)
	delete(tx.recall, c)
	tx.db.expected.forget(c)
	tx.on.changed = tx.on.changed || c.keepable()
}

// exec, rows and row run one statement with `?` placeholders.
func (tx *Tx) exec(query string, args ...any) (r driver.Result, err error) {
	if err := tx.start(); err != nil {
		return nil, err
	}
	r, err = tx.on.exec(tx.ctx, query, args...)
	if err == nil {
		n, _ := r.RowsAffected()
		tx.dirty = tx.dirty || n > 0
		if tx.written += int(n); tx.db.mostRows > 0 && tx.written > tx.db.mostRows {
			err = fmt.Errorf("a transaction changes more than %d rows: work in chunks", tx.db.mostRows)
		}
	}
	return r, tx.note(err)
}

func (tx *Tx) rows(query string, args ...any) (*rows, error) {
	if err := tx.start(); err != nil {
		return nil, err
	}
	r, err := tx.on.query(tx.ctx, query, args...)
	tx.dirty = tx.dirty || err != nil || !strings.HasPrefix(query, "SELECT")
	return r, tx.note(err)
}

func (tx *Tx) row(query string, args ...any) row {
	r, err := tx.rows(query, args...)
	return row{tx, r, err}
}

// A row is the only row of a query, or its error.
type row struct {
	tx   *Tx
	rows *rows
	err  error
}

func (r row) Scan(to ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.tx.note(r.rows.one(to))
}

// note remembers an error that means the end of the whole transaction, whatever the body makes of it, and explains it.
func (tx *Tx) note(err error) error {
	if err == nil {
		return nil
	}
	tx.dirty = tx.dirty || !noRows(err)
	if f := tx.db.engine.fault(err); tx.lost == nil && (f == faultConflict || f == faultGone) {
		tx.lost = err
	}
	return tx.db.engine.meaning(err)
}

// insert runs an INSERT that leaves alone what is there already, and reports whether it added a row. An INSERT that fails would be the
// end of a PostgreSQL transaction, and the body could not go on.
func (tx *Tx) insert(query string, args ...any) (added bool, err error) {
	return changedRows(tx.exec(query+" ON CONFLICT DO NOTHING", args...))
}
