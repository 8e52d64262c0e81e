package store

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Traces and logs come in batches and are bounded: rows have a time (at) and a size (bytes), with an index on both, and the oldest go.

// A Bounded names such a table.
type Bounded string

const (
	BoundedTraces Bounded = "traces"
	BoundedLogs   Bounded = "log_entries"
)

// BytesIn returns the size of all rows.
func (tx *Tx) BytesIn(t Bounded) (n int64, err error) {
	err = tx.row(`SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM ` + string(t)).Scan(&n)
	return n, err
}

// CutoffIn returns the time before which rows are to be dropped so that those left take at most limit bytes, or the zero time if they all
// may stay.
func (tx *Tx) CutoffIn(t Bounded, limit int64) (time.Time, error) {
	var at int64
	err := tx.row(`SELECT at FROM (SELECT at, CAST(SUM(bytes) OVER (ORDER BY at DESC ROWS UNBOUNDED PRECEDING) AS BIGINT) AS total FROM `+string(t)+`) AS newest
		WHERE total > ? ORDER BY at DESC LIMIT 1`, limit).Scan(&at)
	if noRows(err) {
		return time.Time{}, nil
	}
	return fromMillis(at + 1), err
}

// inserts[n] inserts n+1 rows.
type inserts [8]string

// insertsOf makes the statements that begin with head, for rows of so many columns.
func insertsOf(head string, columns int) (statements inserts) {
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	for n := range statements {
		statements[n] = head + row + strings.Repeat(", "+row, n)
	}
	return statements
}

// insertRows inserts rows, given one after the other, in as few statements as may be.
func (tx *Tx) insertRows(statements *inserts, columns int, rows []any) error {
	if len(rows)%columns != 0 {
		return fmt.Errorf("%d values make no rows of %d columns", len(rows), columns)
	}
	for chunk := range slices.Chunk(rows, len(statements)*columns) {
		if _, err := tx.exec(statements[len(chunk)/columns-1], chunk...); err != nil {
			return err
		}
	}
	return nil
}
