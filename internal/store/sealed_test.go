package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestEverySealedColumnOfTheSchemaIsKnown(t *testing.T) {
	t.Parallel()
	table, column := regexp.MustCompile(`^CREATE TABLE (\w+)`), regexp.MustCompile(`^\s+(\w+)\s+BYTEA\b.*--\s*sealed`)
	var inSchema []string
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(migrations, file)
		if err != nil {
			t.Fatal(err)
		}
		var in string
		for line := range strings.Lines(string(text)) {
			if m := table.FindStringSubmatch(line); m != nil {
				in = m[1]
			} else if m := column.FindStringSubmatch(line); m != nil {
				inSchema = append(inSchema, in+"."+m[1])
			}
		}
	}
	var known []string
	for _, c := range sealedColumnsKnown {
		known = append(known, c.String())
	}
	slices.Sort(inSchema)
	slices.Sort(known)
	if !slices.Equal(inSchema, known) {
		t.Errorf("the schema says that these columns are sealed: %v\nknown are: %v", inSchema, known)
	}
}

// addKeys fills iam_keys with n values in two accounts, in an order that is not that of the keys.
func addKeys(t *testing.T, db *DB, n int) {
	t.Helper()
	if err := db.Tx(t.Context(), func(tx *Tx) error {
		for i := range n {
			s := fleet.Scope{Account: fmt.Sprintf("%012d", i%2), Region: "us-east-1"}
			k := AccessKey{Account: s.Account, ID: fmt.Sprintf("AKIA%d", (i*7919)%n), User: "u", Secret: []byte("old"), Active: true}
			if err := tx.CreateAccessKey(s, k); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func secrets(t *testing.T, db *DB) map[string]int {
	t.Helper()
	got := map[string]int{}
	if _, err := db.ReplaceSealed(t.Context(), SealedAccessKeys, func(v SealedValue) ([]byte, error) {
		got[string(v.Value)]++
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSealedValuesAreReplacedOnceEach(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		const rows = 2*sealedChunk + 3
		addKeys(t, db, rows)
		seen := map[string]bool{}
		n, err := db.ReplaceSealed(t.Context(), SealedAccessKeys, func(v SealedValue) ([]byte, error) {
			if seen[v.Keys[0]] {
				t.Errorf("%s comes twice", v.Keys[0])
			}
			seen[v.Keys[0]] = true
			return []byte("new"), nil
		})
		if err != nil || n != rows || len(seen) != rows {
			t.Errorf("replaced %d of %d, saw %d: %v", n, rows, len(seen), err)
		}
		if got := secrets(t, db); got["new"] != rows || len(got) != 1 {
			t.Errorf("the column holds %v", got)
		}
	})
}

func TestAValueThatChangedMeanwhileIsLeftAlone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		addKeys(t, db, 2)
		n, err := db.ReplaceSealed(t.Context(), SealedAccessKeys, func(v SealedValue) ([]byte, error) {
			if v.Keys[0] == "AKIA1" {
				other := func(tx *Tx) error {
					_, err := tx.exec(`UPDATE iam_keys SET secret = ? WHERE id = 'AKIA1'`, []byte("newer"))
					return err
				}
				if err := db.Tx(context.Background(), other); err != nil {
					return nil, err
				}
			}
			return []byte("new"), nil
		})
		if got := secrets(t, db); err != nil || n != 1 || got["newer"] != 1 || got["new"] != 1 {
			t.Errorf("replaced %d, the column holds %v: %v", n, got, err)
		}
	})
}

func TestAnErrorKeepsTheChunksBefore(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		addKeys(t, db, sealedChunk+10)
		cut, left := errors.New("cut"), sealedChunk+5
		n, err := db.ReplaceSealed(t.Context(), SealedAccessKeys, func(SealedValue) ([]byte, error) {
			if left--; left < 0 {
				return nil, cut
			}
			return []byte("new"), nil
		})
		if got := secrets(t, db); !errors.Is(err, cut) || n != sealedChunk || got["new"] != sealedChunk || got["old"] != 10 {
			t.Errorf("replaced %d, the column holds %v: %v", n, got, err)
		}
	})
}

func TestEverySealedColumnCanBeWalked(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		for _, c := range sealedColumnsKnown {
			err := db.View(t.Context(), func(tx *Tx) error {
				_, err := tx.sealedValues(c, &SealedValue{Keys: make([]string, len(c.keys))})
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", c, err)
			}
			if err := db.Tx(t.Context(), func(tx *Tx) error {
				_, err := tx.replaceSealed(c, SealedValue{Keys: make([]string, len(c.keys))}, []byte("x"))
				return err
			}); err != nil {
				t.Errorf("%s: %v", c, err)
			}
		}
	})
}
