package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// An engine is what differs between the two databases that the store runs on. Everything else is written once, in the SQL that
// both understand (migrate.go has the rules).
type engine struct {
	readers int           // connections that read at the same time; one writes
	timeout time.Duration // of a transaction, whose work takes milliseconds; 0: none

	begin func(ctx context.Context, s *session, write bool) (driver.Tx, error)
	turn  string // waits for the turn of this node to write; "" if there is no other

	migrate func(context.Context, *sql.DB) error // brings the schema up to date
	words   func(query string) string            // from the store's SQL to the engine's
	fault   func(err error) fault                // of a statement, begin or commit
}

// A fault is what an error of an engine means to a transaction.
type fault int

const (
	faultOther    fault = iota // of this statement, or not the engine's at all
	faultConflict              // lost to another transaction: the body has to run again
	faultGone                  // the connection or the database is gone; nothing was committed, unless by a commit
	faultText                  // a value is text that the engine can't hold
)

// bounded is the context of a transaction.
func (e *engine) bounded() (context.Context, context.CancelFunc) {
	if e.timeout == 0 {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), e.timeout)
}

// meaning turns an error of the engine into one that the rules understand, where there is one.
func (e *engine) meaning(err error) error {
	if err == nil {
		return nil
	}
	switch e.fault(err) {
	case faultConflict:
		return &fleet.Error{Kind: fleet.KindUnavailable, Msg: "too many others change the same; try again", Err: err}
	case faultGone:
		return &fleet.Error{Kind: fleet.KindUnavailable, Msg: "the database does not answer; try again", Err: err}
	case faultText:
		return &fleet.Error{Kind: fleet.KindInvalid, Msg: "a text holds a character that can't be stored (NUL or not UTF-8)", Err: err}
	}
	return err
}

// numbered gives PostgreSQL its placeholders: $1, $2 … in place of each ? outside a quoted text.
func numbered(query string) string {
	var b strings.Builder
	b.Grow(len(query) + 16)
	n, quoted := 0, false
	for _, c := range []byte(query) {
		switch {
		case c == '\'':
			quoted = !quoted
			b.WriteByte(c)
		case c == '?' && !quoted:
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
