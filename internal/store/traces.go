package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

// PutTrace keeps the record of an attempt and files it under the values it is found by.
func (tx *Tx) PutTrace(s fleet.Scope, r trace.Record, subjects []string) error {
	return tx.putTraces([]trace.Finished{{Scope: s, Record: r, Subjects: subjects}})
}

// A filed is one value that a trace is found by.
type filed struct {
	hour, subject int64
	id            string
}

func (f filed) compare(g filed) int {
	return cmp.Or(cmp.Compare(f.hour, g.hour), cmp.Compare(f.subject, g.subject), cmp.Compare(f.id, g.id))
}

// putTraces keeps records in as few statements as may be, each table in the order of its keys.
func (tx *Tx) putTraces(batch []trace.Finished) error {
	var rows []any
	var found []filed
	for _, f := range batch {
		body, err := json.Marshal(f.Record)
		if err != nil {
			return fmt.Errorf("encoding trace %s: %w", f.Record.ID, err)
		}
		rows = append(rows, f.Scope.Account, f.Scope.Region, f.Record.ID, millis(f.Record.Start), f.Record.Kind, f.Record.Outcome, string(body),
			traceBytes(body, f.Subjects))
		for _, subject := range f.Subjects {
			found = append(found, filed{hourOf(f.Record.Start), subjectHash(f.Scope, subject), f.Record.ID})
		}
	}
	if err := insertRows(tx, traceInserts, 8, rows); err != nil {
		return err
	}
	slices.SortFunc(found, filed.compare)
	rows = rows[:0]
	for _, f := range slices.Compact(found) {
		rows = append(rows, f.hour, f.subject, f.id)
	}
	return insertRows(tx, subjectInserts, 3, rows)
}

// insertRows inserts rows of so many columns, several with each statement: inserts[n] takes n+1 of them.
func insertRows(tx *Tx, inserts []string, columns int, rows []any) error {
	for chunk := range slices.Chunk(rows, len(inserts)*columns) {
		if _, err := tx.exec(inserts[len(chunk)/columns-1], chunk...); err != nil {
			return err
		}
	}
	return nil
}

// traceInserts and subjectInserts are statements for insertRows.
var (
	traceInserts   = inserts(8, `INSERT INTO traces (account, region, id, at, kind, outcome, body, bytes) VALUES `, `(?, ?, ?, ?, ?, ?, ?, ?)`)
	subjectInserts = inserts(16, `INSERT INTO trace_subjects (hour, subject, id) VALUES `, `(?, ?, ?)`)
)

func inserts(most int, words, row string) (statements []string) {
	for n := range most {
		statements = append(statements, words+row+strings.Repeat(", "+row, n))
	}
	return statements
}

func hourOf(t time.Time) int64 { return t.Unix() / int64(time.Hour/time.Second) }

// subjectHash is under what traces of a scope are found by a subject.
func subjectHash(s fleet.Scope, subject string) int64 {
	h := sha256.Sum256([]byte(s.Account + "\x00" + s.Region + "\x00" + subject))
	return int64(binary.BigEndian.Uint64(h[:]))
}

// traceBytes is about what a trace takes on the disk: its text, and the rows and index entries that lead to it.
func traceBytes(body []byte, subjects []string) int {
	const row, subject = 200, 120
	return len(body) + row + subject*len(subjects)
}

// TraceBytes returns the size of all traces.
func (tx *Tx) TraceBytes() (n int64, err error) {
	err = tx.row(`SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM traces`).Scan(&n)
	return n, err
}

// TraceCutoff returns the time before which traces are to be dropped so that those left take at most limit bytes, or the zero
// time if they all may stay.
func (tx *Tx) TraceCutoff(limit int64) (time.Time, error) {
	var at int64
	err := tx.row(`SELECT at FROM (SELECT at, CAST(SUM(bytes) OVER (ORDER BY at DESC ROWS UNBOUNDED PRECEDING) AS BIGINT) AS total FROM traces) AS newest
		WHERE total > ? ORDER BY at DESC LIMIT 1`, limit).Scan(&at)
	if noRows(err) {
		return time.Time{}, nil
	}
	return fromMillis(at + 1), err
}

// Traces returns the newest records, at most limit, that have the id subject or are filed under it or, as a device's
// parameter, under its hash. The newest comes first. An empty subject finds all.
func (tx *Tx) Traces(s fleet.Scope, subject string, limit int) ([]trace.Record, error) {
	if subject == "" {
		return all(tx, scanTrace, `SELECT body FROM traces WHERE account = ? AND region = ? ORDER BY at DESC LIMIT ?`, s.Account, s.Region, limit)
	}
	return all(tx, scanTrace, `WITH RECURSIVE hours (hour) AS (
			SELECT MAX(hour) FROM trace_subjects UNION ALL SELECT hour - 1 FROM hours WHERE hour > (SELECT MIN(hour) FROM trace_subjects))
		SELECT body FROM traces WHERE account = ? AND region = ? AND (id = ? OR id IN (
			SELECT t.id FROM hours h JOIN trace_subjects t ON t.hour = h.hour AND t.subject IN (?, ?) ORDER BY h.hour DESC, t.id DESC LIMIT ?)
			OR id IN (SELECT id FROM trace_keys WHERE account = ? AND region = ? AND subject IN (?, ?) ORDER BY at DESC LIMIT ?))
		ORDER BY at DESC LIMIT ?`,
		s.Account, s.Region, subject, subjectHash(s, subject), subjectHash(s, trace.HashedSubject(subject)), limit,
		s.Account, s.Region, subject, trace.HashedSubject(subject), limit, limit)
}

func scanTrace(s scanner) (r trace.Record, err error) {
	var body string
	if err := s.Scan(&body); err != nil {
		return r, err
	}
	return r, fromJSON(body, &r)
}

// DeleteTracesBefore drops old records and what they are found by, at most limit rows of each. It reports how many records it
// dropped and whether there may be more to drop.
func (tx *Tx) DeleteTracesBefore(t time.Time, limit int) (traces int, more bool, err error) {
	traces, err = affected(tx.exec(`DELETE FROM traces WHERE (account, region, id) IN (
		SELECT account, region, id FROM traces WHERE at < ? ORDER BY at LIMIT ?)`, millis(t), limit))
	if err != nil {
		return 0, false, err
	}
	subjects, err := affected(tx.exec(`DELETE FROM trace_subjects WHERE (hour, subject, id) IN (
		SELECT hour, subject, id FROM trace_subjects WHERE hour < ? ORDER BY hour LIMIT ?)`, hourOf(t), limit))
	if err != nil {
		return 0, false, err
	}
	keys, err := affected(tx.exec(`DELETE FROM trace_keys WHERE (account, region, subject, at, id) IN (
		SELECT account, region, subject, at, id FROM trace_keys WHERE at < ? ORDER BY at LIMIT ?)`, millis(t), limit))
	return traces, max(traces, subjects, keys) == limit, err
}

// SaveTraces stores a batch of finished traces: what trace.NewRecorder wants.
func (db *DB) SaveTraces(ctx context.Context, batch []trace.Finished) error {
	return db.Tx(ctx, func(tx *Tx) error { return tx.putTraces(batch) })
}
