package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"sync"

	"github.com/pressly/goose/v3"
)

// One set of numbered migrations serves both engines. The rules that make this work:
//
//   - A column is a line. Types are TEXT, BIGINT and BYTEA, all NOT NULL. Booleans are 0 and 1, times are milliseconds since 1970, JSON
//     is TEXT. SQLite takes these names as they are; PostgreSQL gets TEXT COLLATE "C", so that both compare and order text by its bytes.
//   - A table begins with account and region, and so does its primary key. A partial index says in its WHERE what a query says too.
//   - A migration that was released never changes. The next one adds: tables, indexes, columns with a DEFAULT. A node of the version
//     before goes on beside it, so nothing is renamed, dropped or given another meaning until no such node can be left.
//   - What SQLite alone runs stands in lines that begin with "-- sqlite: ".
//   - No data definition beyond what both engines run in a transaction, no triggers, no functions of one engine.
//   - In queries: `?` for values, ON CONFLICT, RETURNING, LIMIT ?. What may be there already is added with Tx.insert, never by an
//     INSERT that fails: PostgreSQL ends a transaction with its first failed statement.

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Each migration runs in a transaction. Those of a newer version than this are left alone.
func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, change func(sql []byte) []byte, options ...goose.ProviderOption) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if change != nil {
		dir = changed{dir, change}
	}
	p, err := goose.NewProvider(dialect, db, dir, options...)
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrating the schema: %w", err)
	}
	return nil
}

// upToDate reports whether every migration is noted as done, so that nothing has to be read, locked or changed: what a start finds
// but for the first of a version. Where it can't tell it is false.
func upToDate(ctx context.Context, s *session) bool {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return false
	}
	noted, err := s.query(ctx, "SELECT version_id FROM "+goose.DefaultTablename+" WHERE is_applied")
	if err != nil { // the database is new
		return false
	}
	defer noted.Close()
	done := map[int64]bool{}
	for noted.Next() {
		var version int64
		if err := noted.Scan(&version); err != nil {
			return false
		}
		done[version] = true
	}
	if noted.Err() != nil {
		return false
	}
	for _, file := range files {
		if version, err := goose.NumericComponent(file.Name()); err != nil || !done[version] {
			return false
		}
	}
	return true
}

var textColumn = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(  \w+ +|ALTER TABLE \w+ ADD COLUMN \w+ +)TEXT\b`)
})

// bytewise makes text columns of PostgreSQL compare by their bytes, as SQLite's do.
func bytewise(sql []byte) []byte { return textColumn().ReplaceAll(sql, []byte(`${1}TEXT COLLATE "C"`)) }

// sqliteLines makes statements of the lines that are for SQLite alone.
func sqliteLines(sql []byte) []byte {
	return bytes.ReplaceAll(sql, []byte("\n-- sqlite: "), []byte("\n"))
}

// changed is a folder whose files read as what change makes of them.
type changed struct {
	fs.FS
	change func([]byte) []byte
}

func (c changed) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	text, err := fs.ReadFile(c.FS, name)
	return changedFile{f, bytes.NewReader(c.change(text))}, err
}

type changedFile struct {
	fs.File
	text *bytes.Reader
}

func (f changedFile) Read(b []byte) (int, error) { return f.text.Read(b) }
