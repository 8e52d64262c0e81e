package server

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/server/porttest"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// onPostgres are settings of a quick server on a database.
func onPostgres(data, url string) Config {
	c := quick(data)
	c.Database = url
	return c
}

func TestARestartOnPostgreSQLInvalidatesNothing(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	s := startServer(t, onPostgres(folder(t), url))
	old := api(t, s)
	made := newResidents(t, old, true)
	made.use(t, s, old)
	stopServer(t, s)
	s = startServer(t, onPostgres(s.cfg.Data, url))
	made.use(t, s, old)
	if _, err := os.Stat(filepath.Join(s.cfg.Data, databaseFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a SQLite file: %v", err)
	}
	stopServer(t, s)
	r, err := Rekey(t.Context(), RekeyConfig{Data: s.cfg.Data, DatabaseURL: DatabaseURL{url}})
	if err != nil || r.Resealed == 0 {
		t.Errorf("rekey of the stopped server: %+v, %v", r, err)
	}
	s = startServer(t, onPostgres(s.cfg.Data, url))
	made.use(t, s, old)
}

func TestFolderAndDatabaseBelongTogether(t *testing.T) {
	t.Parallel()
	url, other := storetest.Postgres(t), storetest.Postgres(t)
	mine, onFile := folder(t), folder(t)
	stopServer(t, startServer(t, onPostgres(mine, url)))
	stopServer(t, startServer(t, quick(onFile)))
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"the database forgotten":       {quick(mine), "name it with --database"},
		"another, empty database":      {onPostgres(mine, other), "the database is empty"},
		"the database, a new folder":   {onPostgres(folder(t), url), "keys are not in"},
		"a database for a SQLite file": {onPostgres(onFile, other), "start without --database"},
	} {
		_, err := Start(t.Context(), c.cfg)
		if t.Logf("%s: %v", name, err); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	elsewhere := folder(t)
	stopServer(t, startServer(t, onPostgres(elsewhere, other)))
	_, err := Start(t.Context(), onPostgres(elsewhere, url))
	contains(t, err, "belongs to another installation")
	stopServer(t, startServer(t, onPostgres(mine, url))) // nothing of that did any harm
}

// TestAFirstStartThatWasCutGoesOn: the folder has its id, the database does not know it yet.
func TestAFirstStartThatWasCutGoesOn(t *testing.T) {
	t.Parallel()
	data := folder(t)
	noError(t, os.Mkdir(data, 0o700))
	noError(t, os.WriteFile(filepath.Join(data, databaseIDFile), []byte("0123\n"), 0o600))
	cfg := onPostgres(data, storetest.Postgres(t))
	cfg.HTTPSPort, cfg.MQTTPort = Port(porttest.Hold(t)), Port(porttest.Hold(t))
	stopServer(t, startServer(t, cfg))
	stopServer(t, startServer(t, cfg))
}

func TestTheDatabaseOfSystemdIsTaken(t *testing.T) { // changes the environment, hence not parallel
	dir := t.TempDir()
	noError(t, os.WriteFile(filepath.Join(dir, databaseCredential), []byte(" postgres://a@b/c\n"), 0o600))
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for setting, want := range map[string]string{"": "postgres://a@b/c", "postgres://said": "postgres://said"} {
		if got, err := (DatabaseURL{setting}).url(); err != nil || got != want {
			t.Errorf("%q is %q, %v", setting, got, err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if got, err := (DatabaseURL{}).url(); err != nil || got != "" {
		t.Errorf("without a credential %q, %v", got, err)
	}
}

// TestAServerOutlivesItsDatabase: while it is away everybody is told to come back, nobody that they may not; then all is well.
func TestAServerOutlivesItsDatabase(t *testing.T) {
	t.Parallel()
	server := storetest.Start(t)
	cfg := onPostgres(folder(t), server.Database(t))
	var log lockedBuffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	var mu sync.Mutex
	now := time.Now()
	cfg.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	later := func() { mu.Lock(); defer mu.Unlock(); now = now.Add(readinessLasts) }
	s := startServer(t, cfg)
	c := api(t, s)
	made := newResidents(t, c, true)
	if res, _ := answer(t, s, http.MethodGet, "/readyz", ""); res.StatusCode != http.StatusOK {
		t.Fatalf("not ready at first: %d", res.StatusCode)
	}
	noError(t, server.Stop())
	later()
	if res, _ := answer(t, s, http.MethodGet, "/readyz", ""); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a database readiness says %d", res.StatusCode)
	}
	err := c.REST(t.Context(), "iot", http.MethodGet, "/things", nil, &object{})
	var e *client.Error
	if !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || strings.Contains(e.Message, "SQLSTATE") || strings.Contains(e.Message, "imprint-pg") {
		t.Errorf("without a database: %+v", err)
	}
	noError(t, server.Restart())
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		later()
		if res, _ := answer(t, s, http.MethodGet, "/readyz", ""); res.StatusCode == http.StatusOK {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the database is back and the server is not ready")
		}
	}
	made.use(t, s, c)
	if text := log.String(); strings.Count(text, "can't be reached") != 1 || strings.Count(text, "can be reached again") != 1 {
		t.Errorf("the log says\n%s", text)
	}
}

// A server that stood still while another one had its database ends, so that it is started again.
func TestAServerThatWasOvertakenFails(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	s := startServer(t, onPostgres(folder(t), url))
	raw, err := sql.Open("pgx", url)
	noError(t, err)
	defer raw.Close()
	for another := (*store.DB)(nil); another == nil; { // it may have written, and be there again
		_, err := raw.ExecContext(t.Context(), `SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE l.locktype = 'advisory' AND d.datname = current_database()`)
		noError(t, err)
		if another, err = store.Open(t.Context(), store.Config{URL: url + "&lock_timeout=1s", Alone: true}); err == nil {
			noError(t, another.Close())
		}
	}
	s.ready(t.Context()) // asks the store to write
	select {
	case err := <-s.Failed():
		contains(t, err, "start this one again")
	case <-time.After(patience):
		t.Error("the server goes on")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
