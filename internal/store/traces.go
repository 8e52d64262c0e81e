package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

// PutTrace keeps the record of an attempt and files it under the values it is found by.
func (tx *Tx) PutTrace(s fleet.Scope, r trace.Record, subjects []string) error {
	return tx.putTraces([]trace.Finished{{Scope: s, Record: r, Subjects: subjects}})
}

// putTraces keeps records in as few statements as may be.
func (tx *Tx) putTraces(batch []trace.Finished) error {
	var rows []any
	for _, f := range batch {
		body, err := json.Marshal(f.Record)
		if err != nil {
			return fmt.Errorf("encoding trace %s: %w", f.Record.ID, err)
		}
		marks, subjects := filed(f.Scope, f.Subjects)
		rows = append(rows, f.Scope.Account, f.Scope.Region, f.Record.ID, millis(f.Record.Start), f.Record.Kind, f.Record.Outcome, string(body),
			traceBytes(body, subjects), marks, subjects)
	}
	return tx.insertRows(&traceInserts, 10, rows)
}

var traceInserts = insertsOf(`INSERT INTO traces (account, region, id, at, kind, outcome, body, bytes, marks, subjects) VALUES `, 10)

// filed is what traces of a scope are found by: of each subject 64 bits of a hash, in hex, and the marks of all.
func filed(s fleet.Scope, subjects []string) (marks int64, found string) {
	var b []byte
	for _, subject := range subjects {
		h := subjectHash(s, subject)
		marks |= marksOf(h)
		b = append(appendHash(b, h), ' ')
	}
	return marks, string(b)
}

// marksOf sets three of 64 bits. A trace has few subjects, so of those that have another subject's bits hardly one in a hundred has not the
// subject.
func marksOf(hash int64) int64 { return 1<<(hash&63) | 1<<(hash>>6&63) | 1<<(hash>>12&63) }

// appendHash appends a hash as it stands in traces.
func appendHash(b []byte, hash int64) []byte {
	return hex.AppendEncode(b, binary.BigEndian.AppendUint64(nil, uint64(hash)))
}

// subjectHash is under what traces of a scope are found by a subject.
func subjectHash(s fleet.Scope, subject string) int64 {
	h := sha256.Sum256([]byte(s.Account + "\x00" + s.Region + "\x00" + subject))
	return int64(binary.BigEndian.Uint64(h[:]))
}

// traceBytes is about what a trace takes on the disk: its text, and the index entries that lead to it.
func traceBytes(body []byte, subjects string) int {
	const row = 250
	return len(body) + row + len(subjects)
}

// Traces returns the newest records, at most limit, that have the id subject or are filed under it or, as a device's
// parameter, under its hash. The newest comes first. An empty subject finds all.
func (tx *Tx) Traces(s fleet.Scope, subject string, limit int) ([]trace.Record, error) {
	if subject == "" {
		return all(tx, scanTrace, `SELECT body FROM traces WHERE account = ? AND region = ? ORDER BY at DESC LIMIT ?`, s.Account, s.Region, limit)
	}
	hash, hashed := subjectHash(s, subject), subjectHash(s, trace.HashedSubject(subject))
	marks, hashedMarks := marksOf(hash), marksOf(hashed)
	return all(tx, scanTrace, `WITH RECURSIVE hours (hour) AS (
			SELECT MAX(hour) FROM trace_subjects UNION ALL SELECT hour - 1 FROM hours WHERE hour > (SELECT MIN(hour) FROM trace_subjects))
		SELECT body FROM traces WHERE account = ? AND region = ? AND id IN (
			SELECT ? AS id
			UNION ALL SELECT id FROM (SELECT id FROM traces WHERE (marks & ?) = ? AND subjects LIKE '%' || ? || '%'
				OR (marks & ?) = ? AND subjects LIKE '%' || ? || '%' ORDER BY at DESC LIMIT ?) AS marked
			UNION ALL SELECT id FROM (SELECT t.id FROM hours h JOIN trace_subjects t ON t.hour = h.hour AND t.subject IN (?, ?) ORDER BY h.hour DESC, t.id DESC LIMIT ?) AS hourly
			UNION ALL SELECT id FROM (SELECT id FROM trace_keys WHERE account = ? AND region = ? AND subject IN (?, ?) ORDER BY at DESC LIMIT ?) AS keyed)
		ORDER BY at DESC LIMIT ?`,
		s.Account, s.Region, subject, marks, marks, string(appendHash(nil, hash)), hashedMarks, hashedMarks, string(appendHash(nil, hashed)), limit,
		hash, hashed, limit, s.Account, s.Region, subject, trace.HashedSubject(subject), limit, limit)
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
		SELECT hour, subject, id FROM trace_subjects WHERE hour < ? ORDER BY hour LIMIT ?)`, t.Unix()/int64(time.Hour/time.Second), limit))
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
