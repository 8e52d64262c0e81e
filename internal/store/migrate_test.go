package store

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/imprint-iot/imprint/internal/store/storetest"
)

func TestOfSeveralNodesThatStartOneMigrates(t *testing.T) {
	t.Parallel()
	url := storetest.Fresh(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := Open(t.Context(), Config{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	db := openWith(t, Config{URL: url})
	var twice int
	err := direct(t, db).QueryRow(`SELECT COUNT(*) FROM (SELECT version_id FROM goose_db_version GROUP BY version_id HAVING COUNT(*) > 1) AS v`).Scan(&twice)
	if err != nil || twice != 0 {
		t.Errorf("%d migrations ran more than once, %v", twice, err)
	}
}

// A newer version adds columns and tables and leaves its number behind; see the rules in migrate.go.
func TestAnOlderVersionRunsBesideANewerSchema(t *testing.T) {
	t.Parallel()
	for applied, cfg := range map[string]Config{"1": {Path: filepath.Join(t.TempDir(), "imprint.db")}, "true": {URL: storetest.Fresh(t)}} {
		db := openWith(t, cfg)
		for _, statement := range []string{
			`ALTER TABLE things ADD COLUMN colour TEXT NOT NULL DEFAULT ''`,
			`CREATE TABLE colours (account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account, region, name))`,
			`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, ` + applied + `)`,
		} {
			if _, err := direct(t, db).Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		db = openWith(t, cfg) // the older version, which does not know
		must(t, db.Tx(t.Context(), func(tx *Tx) error { return populate(tx, scopeA) }))
		must(t, db.View(t.Context(), func(tx *Tx) error {
			_, err := tx.Thing(scopeA, shared)
			return err
		}))
	}
}

// TestMigrationsKeepTheRules that migrate.go has, so that nobody finds out by the other engine.
func TestMigrationsKeepTheRules(t *testing.T) {
	t.Parallel()
	created := regexp.MustCompile(`^CREATE TABLE (\w+)`)
	column := regexp.MustCompile(`^(?:  (\w+)|ALTER TABLE \w+ ADD COLUMN (\w+)) +([A-Z]+)\b`)
	files, err := migrations.ReadDir("migrations")
	must(t, err)
	for _, file := range files {
		text, err := migrations.ReadFile("migrations/" + file.Name())
		must(t, err)
		var table string
		var columns []string
		for n, line := range strings.Split(string(text), "\n") {
			if m := created.FindStringSubmatch(line); m != nil {
				table, columns = m[1], nil
			}
			if strings.HasPrefix(line, ");") && table != "" && !ofTheInstallation[table] && !strings.HasPrefix(strings.Join(columns, " "), "account region") {
				t.Errorf("%s: table %s begins with %v, not with account and region", file.Name(), table, columns)
			}
			m := column.FindStringSubmatch(line)
			if m == nil || m[1] == "PRIMARY" {
				continue
			}
			columns = append(columns, m[1])
			where := fmt.Sprintf("%s:%d: %s", file.Name(), n+1, strings.TrimSpace(line))
			if !slices.Contains([]string{"TEXT", "BIGINT", "BYTEA", "INTEGER"}, m[3]) {
				t.Errorf("%s: type %s", where, m[3])
			}
			if !strings.Contains(line, "NOT NULL") {
				t.Errorf("%s: may be NULL", where)
			}
			if m[2] != "" && !strings.Contains(line, "DEFAULT") {
				t.Errorf("%s: a node of the version before can't add rows", where)
			}
		}
	}
}

// ofTheInstallation are tables without a tenant; that of trace_subjects is in its hash.
var ofTheInstallation = map[string]bool{"accounts": true, "settings": true, "trace_subjects": true}

func TestPlaceholdersAreNumbered(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		`SELECT 1`: `SELECT 1`,
		`SELECT a FROM t WHERE b = ? AND c IN (?, ?) LIMIT ?`:   `SELECT a FROM t WHERE b = $1 AND c IN ($2, $3) LIMIT $4`,
		`SELECT '?', 'it''s ?' FROM t WHERE a = ? AND b <> '?'`: `SELECT '?', 'it''s ?' FROM t WHERE a = $1 AND b <> '?'`,
	} {
		if got := numbered(query); got != want {
			t.Errorf("numbered(%s) = %s", query, got)
		}
	}
}
