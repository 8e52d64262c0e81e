package storetest

import (
	"database/sql"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

func TestAServerComesBackAfterAStopAndLeavesNothingAtTheEnd(t *testing.T) {
	t.Parallel()
	var dir string
	t.Run("server", func(t *testing.T) {
		s := Start(t, "max_connections=20")
		dir = s.dir
		db, err := sql.Open("pgx", s.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Ping(); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := db.Ping(); err == nil {
			t.Error("a stopped server answers")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		var n string
		if err := db.QueryRow("SHOW max_connections").Scan(&n); err != nil || n != "20" {
			t.Errorf("max_connections is %q, %v", n, err)
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}
