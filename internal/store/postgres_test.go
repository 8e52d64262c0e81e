package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

func TestADatabaseThatIsWantedAloneIsHadOnce(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	first := openWith(t, Config{URL: url, Alone: true})
	quick := url + "&lock_timeout=20ms"
	_, err := Open(t.Context(), Config{URL: quick, Alone: true})
	if !errors.Is(err, errNotAlone) {
		t.Errorf("a second store: %v", err)
	}
	must(t, first.Close())
	openWith(t, Config{URL: url, Alone: true})
	openWith(t, Config{URL: url}) // who does not mind
}

// A process that stood still may find that another one has had the database meanwhile, and has ended: then what it knows is old.
func TestAStoreThatWasOvertakenWritesNoMore(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	first := openWith(t, Config{URL: url, Alone: true})
	raw := direct(t, first)
	disconnect := func() {
		t.Helper()
		_, err := raw.Exec(`SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE l.locktype = 'advisory' AND d.datname = current_database()`)
		must(t, err)
	}
	must(t, first.Tx(t.Context(), increment))
	disconnect()
	must(t, first.Tx(t.Context(), increment)) // nobody was there
	disconnect()
	second := openWith(t, Config{URL: url, Alone: true})
	must(t, second.Tx(t.Context(), increment))
	must(t, second.Close())
	err := first.Tx(t.Context(), increment)
	if fleet.KindOf(errOr(err)) != fleet.KindUnavailable || !errors.Is(err, ErrOvertaken) {
		t.Errorf("the first store again: %v", err)
	}
	wantSetting(t, openWith(t, Config{URL: url, Alone: true}), "count", "3")
}

func TestAWrongURLIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	for _, url := range []string{
		"postgres://ada:hunter2@localhost:port/db",
		"postgres://ada:hunter2@localhost:99999/db",
		"postgres://ada:hunter2@localhost/db?sslmode=hunter2",
		"postgres://ada:hunter2@localhost/db?connect_timeout=hunter2",
		"postgres://ada:hunter2@localhost/db?sslrootcert=/nowhere",
		"postgres://ada:hunter2@local host/db",
		"mysql://ada:hunter2@localhost/db",
		"host=localhost password=hunter2",
		"ada:hunter2@localhost/db",
		"postgres://ada:hunter2@127.0.0.1:1/db",
		"postgres://ada:hunter2@127.0.0.1:1,127.0.0.1:2/db?target_session_attrs=hunter2",
	} {
		_, err := Open(t.Context(), Config{URL: url, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			t.Errorf("%s opens", url)
		}
		if text := fmt.Sprintf("%v %+v %#v", err, err, err) + log.String(); strings.Contains(text, "hunter2") {
			t.Errorf("%s: %s", url, text)
		}
	}
}

func TestADatabaseElsewhereIsAskedForItsCertificate(t *testing.T) {
	t.Parallel()
	services := filepath.Join(t.TempDir(), "pg_service.conf")
	must(t, os.WriteFile(services, []byte("[there]\nhost=db.example.com\n[plain]\nhost=db.example.com\nsslmode=disable\n[here]\nhost=localhost\n"), 0o600))
	for url, verified := range map[string]bool{
		"postgres:///imprint?service=there&servicefile=" + services:      true,
		"postgres:///imprint?service=plain&servicefile=" + services:      false,
		"postgres:///imprint?service=here&servicefile=" + services:       false,
		"postgres://ada@localhost,db.example.com/imprint":                true,
		"postgres://ada@db.example.com/imprint":                          true,
		"postgres://ada@192.0.2.1/imprint?application_name=x":            true,
		"postgres:///imprint?host=db.example.com":                        true,
		"postgres://ada@db.example.com/imprint?sslmode=disable":          false,
		"postgres://ada@localhost/imprint":                               false,
		"postgres://ada@127.0.0.1:5433/imprint":                          false,
		"postgres://ada@[::1]/imprint":                                   false,
		"postgres:///imprint?host=/run/postgresql":                       false,
		"postgres:///imprint":                                            false,
		"postgres://ada@localhost/imprint?sslmode=verify-full":           true,
		"postgresql://ada@db.example.com/imprint?sslmode=disable&port=1": false,
	} {
		cfg, err := postgresConfig(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := cfg.TLSConfig != nil && !cfg.TLSConfig.InsecureSkipVerify && cfg.TLSConfig.ServerName != ""
		for _, f := range cfg.Fallbacks {
			got = got && f.TLSConfig != nil && !f.TLSConfig.InsecureSkipVerify
		}
		if got != verified {
			t.Errorf("%s: the certificate is verified: %v", url, got)
		}
	}
}

func TestADatabaseThatDoesNotServeIsNamedWithItsCure(t *testing.T) {
	t.Parallel()
	server := storetest.Start(t, "listen_addresses=127.0.0.1", "port="+storetest.FreePort(t))
	server.Exec(t, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc TEMPLATE template0")
	for url, want := range map[string]string{
		server.URL("nobody-made-it"):                                        "createdb -E UTF8",
		server.URL("latin"):                                                 "ENCODING 'UTF8'",
		server.TCP("postgres", "wrong") + "?sslmode=disable":                "password authentication failed",
		server.TCP("postgres", storetest.Password) + "?sslmode=verify-full": "sslmode=disable does without TLS",
		"postgres://imprint:hunter2@127.0.0.1:1/imprint":                    "127.0.0.1:1",
	} {
		_, err := Open(t.Context(), Config{URL: url})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	openWith(t, Config{URL: server.TCP("postgres", storetest.Password)})
}
