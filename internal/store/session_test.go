package store

import (
	"database/sql/driver"
	"path/filepath"
	"testing"

	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// A connection reads the schema first, so views that come one after the other must share one, and a start must not look at what
// was done long ago.
func TestViewsThatDoNotOverlapShareAConnection(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Path: filepath.Join(t.TempDir(), "imprint.db")}, {URL: storetest.Fresh(t)}} {
		db := openWith(t, cfg)
		ask := func(tx *Tx) error {
			_, err := tx.Setting("any")
			return err
		}
		for range 3 * db.engine.readers {
			must(t, db.View(t.Context(), ask))
		}
		if warm := len(db.readers.warm); warm != 1 {
			t.Fatalf("one view at a time left %d connections", warm)
		}
		var cold []*session // they may still be on their way, beside the first views
		for range db.engine.readers - 1 {
			cold = append(cold, <-db.readers.cold)
		}
		for _, s := range cold {
			db.readers.put(s)
		}
		must(t, db.View(t.Context(), func(tx *Tx) error {
			if err := ask(tx); err != nil {
				return err
			}
			return db.View(t.Context(), ask)
		}))
		if warm := len(db.readers.warm); warm != 2 {
			t.Errorf("two views at a time left %d connections", warm)
		}
	}
}

// Also by whoever waits for either while both come, as the first views do beside a start.
func TestASessionWithAConnectionIsTakenFirst(t *testing.T) {
	t.Parallel()
	for range 20_000 {
		f := newFree(2)
		warm := &session{conn: struct{ driver.Conn }{}}
		go func() {
			f.put(warm)
			f.put(&session{})
		}()
		if s, ok := f.take(nil, nil); s != warm || !ok {
			t.Fatal("a connection is made while there is one")
		}
	}
}

func TestASchemaIsUpToDateWhenAllMigrationsAreNoted(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Path: filepath.Join(t.TempDir(), "imprint.db")}, {URL: storetest.Fresh(t)}} {
		db := openWith(t, cfg)
		fresh := func() bool {
			s := &session{connector: db.reading, engine: db.engine}
			must(t, s.connect(t.Context()))
			defer s.close()
			return upToDate(t.Context(), s)
		}
		if !fresh() {
			t.Error("a store that has just been opened is not")
		}
		if _, err := direct(t, db).Exec(`DELETE FROM goose_db_version WHERE version_id = 2`); err != nil {
			t.Fatal(err)
		}
		if fresh() {
			t.Error("one without its second migration is")
		}
		if _, err := direct(t, db).Exec(`DROP TABLE goose_db_version`); err != nil {
			t.Fatal(err)
		}
		if fresh() {
			t.Error("one that notes none is")
		}
	}
}
