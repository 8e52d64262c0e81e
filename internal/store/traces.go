package store

import (
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
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding trace %s: %w", r.ID, err)
	}
	_, err = tx.exec(`INSERT INTO traces (account, region, id, at, kind, outcome, body, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, r.ID, millis(r.Start), r.Kind, r.Outcome, string(body), traceBytes(body, subjects))
	if err != nil {
		return err
	}
	hashes := make([]int64, len(subjects))
	for i, subject := range subjects {
		hashes[i] = subjectHash(s, subject)
	}
	slices.Sort(hashes)
	for chunk := range slices.Chunk(slices.Compact(hashes), maxSubjectRows) {
		args := make([]any, 0, 3*len(chunk))
		for _, h := range chunk {
			args = append(args, hourOf(r.Start), h, r.ID)
		}
		if _, err := tx.exec(subjectInserts[len(chunk)], args...); err != nil {
			return err
		}
	}
	return nil
}

// subjectInserts[n] files a trace under n subjects.
var subjectInserts = func() (inserts [maxSubjectRows + 1]string) {
	for n := range inserts {
		inserts[n] = `INSERT INTO trace_subjects (hour, subject, id) VALUES (?, ?, ?)` + strings.Repeat(`, (?, ?, ?)`, max(n-1, 0))
	}
	return inserts
}()

const maxSubjectRows = 8

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
	return db.Tx(ctx, func(tx *Tx) error {
		for _, f := range batch {
			if err := tx.PutTrace(f.Scope, f.Record, f.Subjects); err != nil {
				return err
			}
		}
		return nil
	})
}
