package store

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// This file is what queries have in common: rows become values, values columns.

// scanner is what row and rows share.
type scanner interface{ Scan(...any) error }

// all runs a query and scans each of its rows.
func all[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) (out []T, err error) {
	err = each(tx, scan, func(v T) bool { out = append(out, v); return true }, query, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// each runs a query and hands its rows over, until visit wants no more.
func each[T any](tx *Tx, scan func(scanner) (T, error), visit func(T) (more bool), query string, args ...any) error {
	rows, err := tx.rows(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return err
		}
		if !visit(v) {
			return nil
		}
	}
	return tx.note(rows.Err())
}

// sift makes a page of the rows that a query marks, by a last column that is true. It looks at most at so many: a page may be short, or
// empty, and have a next one.
func sift[T any](tx *Tx, p fleet.Page, most int64, scan func(scanner) (T, error), key func(T) string, query string, args ...any) (page []T, next string, err error) {
	var last T
	var marked bool
	looked := int64(0)
	err = each(tx, func(s scanner) (T, error) { return scan(appendScan{s, []any{&marked}}) }, func(v T) bool {
		if p.Limit > 0 && len(page) == p.Limit {
			next = key(last)
			return false
		}
		if last = v; marked {
			page = append(page, v)
		}
		if looked++; looked == most {
			next = key(last)
		}
		return true
	}, query+` LIMIT ?`, append(args, most)...)
	return page, next, err
}

// one runs a query for a single row; found is false if there is none.
func one[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) (v T, found bool, err error) {
	v, err = scan(tx.row(query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// find is one that fails with KindNotFound if there is no row: of a kind of thing and the name that was looked for.
func find[T any](tx *Tx, kind, name string, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, found, err := one(tx, scan, query, args...)
	if err == nil && !found {
		err = fleet.NotFound(kind, name)
	}
	return v, err
}

func scanString(s scanner) (string, error) {
	var v string
	err := s.Scan(&v)
	return v, err
}

func scanInt(s scanner) (int64, error) {
	var v int64
	err := s.Scan(&v)
	return v, err
}

// scanChange scans account, region and key of a row whose change is to be told.
func scanChange(kind string) func(scanner) (Change, error) {
	return func(s scanner) (Change, error) {
		c := Change{Kind: kind}
		err := s.Scan(&c.Scope.Account, &c.Scope.Region, &c.Key)
		return c, err
	}
}

// changedRows reports whether a statement touched any row.
func changedRows(r driver.Result, err error) (bool, error) {
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
