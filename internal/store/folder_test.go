package store

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// TestEverythingOfAnEarlierVersionIsThere reads all rows of a folder before this version has seen it and after.
func TestEverythingOfAnEarlierVersionIsThere(t *testing.T) {
	t.Parallel()
	for name, dir := range storetest.Folders(t) {
		path := filepath.Join(dir, "imprint.db")
		raw, err := sql.Open("sqlite", "file:"+path)
		must(t, err)
		columns := map[string][]string{} // of the version's own schema
		for _, row := range lines(t, raw, `SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE 'goose%'`) {
			table, column, _ := strings.Cut(row, "|")
			columns[table] = append(columns[table], column)
		}
		before := map[string][]string{}
		for table, list := range columns {
			if before[table] = lines(t, raw, "SELECT "+strings.Join(list, ", ")+" FROM "+table); len(before[table]) == 0 {
				t.Errorf("%s: table %s is empty and proves nothing", name, table)
			}
		}
		must(t, raw.Close())
		if len(columns) < 40 {
			t.Errorf("%s has %d tables", name, len(columns))
		}
		raw = direct(t, openWith(t, Config{Path: path}))
		for table, list := range columns {
			if table == "trace_keys" { // migration 8: older traces are found by their id alone
				continue
			}
			if after := lines(t, raw, "SELECT "+strings.Join(list, ", ")+" FROM "+table); !slices.Equal(after, before[table]) {
				t.Errorf("%s: table %s held %q, now %q", name, table, before[table], after)
			}
		}
	}
}

// lines returns the rows of a query as text, sorted.
func lines(t *testing.T, db *sql.DB, query string) (out []string) {
	t.Helper()
	rows, err := db.Query(query)
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		must(t, rows.Scan(values...))
		var text []string
		for _, v := range values {
			text = append(text, fmt.Sprint(*v.(*any)))
		}
		out = append(out, strings.Join(text, "|"))
	}
	must(t, rows.Err())
	slices.Sort(out)
	return out
}

func TestAFolderMayHaveAnyName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a#1", "b?x=1", "c%23", "d e", "ü"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "imprint.db")
		db, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the database is elsewhere: %v", err)
		}
		if err := CheckFile(t.Context(), path); err != nil {
			t.Error(err)
		}
	}
}
