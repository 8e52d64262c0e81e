package store

import (
	"context"
	"encoding/json"
	"fmt"
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
	_, err = tx.exec(`INSERT INTO traces (account, region, id, at, kind, outcome, body) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, r.ID, millis(r.Start), r.Kind, r.Outcome, string(body))
	if err != nil {
		return err
	}
	for _, subject := range subjects {
		_, err := tx.exec(`INSERT INTO trace_keys (account, region, subject, at, id) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			s.Account, s.Region, subject, millis(r.Start), r.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// Traces returns the newest records, at most limit, that have the id subject or are filed under it or, as a device's
// parameter, under its hash. The newest comes first. An empty subject finds all.
func (tx *Tx) Traces(s fleet.Scope, subject string, limit int) ([]trace.Record, error) {
	if subject == "" {
		return all(tx, scanTrace, `SELECT body FROM traces WHERE account = ? AND region = ? ORDER BY at DESC LIMIT ?`, s.Account, s.Region, limit)
	}
	return all(tx, scanTrace, `SELECT body FROM traces WHERE account = ? AND region = ? AND (id = ? OR id IN (
			SELECT id FROM trace_keys WHERE account = ? AND region = ? AND subject IN (?, ?) ORDER BY at DESC LIMIT ?))
		ORDER BY at DESC LIMIT ?`,
		s.Account, s.Region, subject, s.Account, s.Region, subject, trace.HashedSubject(subject), limit, limit)
}

func scanTrace(s scanner) (r trace.Record, err error) {
	var body string
	if err := s.Scan(&body); err != nil {
		return r, err
	}
	return r, fromJSON(body, &r)
}

// DeleteTracesBefore drops old records, at most limit of them, and reports how many it dropped.
func (tx *Tx) DeleteTracesBefore(t time.Time, limit int) (int64, error) {
	r, err := tx.exec(`DELETE FROM traces WHERE id IN (SELECT id FROM traces WHERE at < ? ORDER BY at LIMIT ?)`, millis(t), limit)
	if err != nil {
		return 0, err
	}
	if _, err := tx.exec(`DELETE FROM trace_keys WHERE at < ? AND id NOT IN (SELECT id FROM traces WHERE at < ?)`, millis(t), millis(t)); err != nil {
		return 0, err
	}
	return r.RowsAffected()
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
