// Package storetest gives tests real PostgreSQL servers, each in a temporary folder, on a Unix socket, with nothing of the machine's
// own cluster. Begin with Postgres; a test that stops its server uses Start.
//
// With IMPRINT_TEST_DATABASE=postgres the tests of the rules run on PostgreSQL too: they open what URL returns.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// URL returns a database without a row if IMPRINT_TEST_DATABASE asks for PostgreSQL, else "", which means SQLite.
func URL(t testing.TB) string {
	t.Helper()
	switch name := os.Getenv("IMPRINT_TEST_DATABASE"); name {
	case "", "sqlite":
		return ""
	case "postgres":
		return Postgres(t)
	default:
		t.Fatalf("IMPRINT_TEST_DATABASE is %q; it can be sqlite or postgres", name)
		return ""
	}
}

// Postgres returns the URL of a database without a row, on a server that all tests of this binary share. Another test may have had it
// before, and its schema stays: making both is what takes time.
func Postgres(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	select {
	case name = <-used:
	default:
		name = s.create(t)
	}
	t.Cleanup(func() { // after the store was closed, which was opened later
		s.Exec(t, name, empty)
		used <- name
	})
	return s.URL(name)
}

// used holds the names of databases that nobody uses any more.
var used = make(chan string, 1000)

const empty = `DO $$ DECLARE name text; BEGIN
	FOR name IN SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version' LOOP
		EXECUTE 'DELETE FROM ' || name;
	END LOOP; END $$`

// Fresh returns the URL of a new database without a table, on the server of Postgres.
func Fresh(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

var shared = sync.OnceValues(func() (*Server, error) { return start("max_connections=500") })

// Start starts a server for this test alone, with settings of postgresql.conf such as "max_connections=20". It doesn't sync unless
// "fsync=on" is among them: what it has committed survives Stop, but no power cut of the machine.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := start(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.alive.Close() // the keeper ends it and removes its folder
		<-s.gone
	})
	return s
}

// A Server is a running PostgreSQL.
type Server struct {
	bin, dir  string
	settings  []string
	databases atomic.Int64

	alive io.Closer     // the keeper's standard input
	gone  chan struct{} // closed when it has ended
}

// Password is that of the user "imprint", for connections that ask for one: those to a port.
const Password = "test-only"

func start(settings ...string) (_ *Server, err error) {
	s := &Server{settings: settings}
	if s.bin, err = binaries(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "imprint-pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting PostgreSQL: %w", err), os.RemoveAll(s.dir))
		}
	}()
	if id := unprivileged(); id != nil {
		if err := os.Chown(s.dir, int(id.Uid), int(id.Gid)); err != nil {
			return nil, err
		}
	}
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(Password), 0o644); err != nil {
		return nil, err
	}
	// An order of text that is not that of bytes: the store must bring its own.
	init := s.command("initdb", "-D", filepath.Join(s.dir, "data"), "-U", "imprint", "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile="+secret,
		"-E", "UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync", "--no-instructions")
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if err := s.keep(); err != nil {
		return nil, err
	}
	return s, s.Restart()
}

// keep starts the keeper: it ends the server and removes the folder when this process is gone, however that happens.
func (s *Server) keep() error {
	keeper := s.command("/bin/sh", "-c", `cat >/dev/null; "$1/pg_ctl" -D "$2/data" -m immediate stop >/dev/null 2>&1; cd /; rm -rf "$2"`, "keeper", s.bin, s.dir)
	in, err := keeper.StdinPipe()
	if err != nil {
		return err
	}
	keeper.SysProcAttr.Setpgid = true // an interrupt at the keyboard is not for it
	if err := keeper.Start(); err != nil {
		return err
	}
	s.alive, s.gone = in, make(chan struct{})
	go func() {
		_ = keeper.Wait()
		_ = os.RemoveAll(s.dir)
		close(s.gone)
	}()
	return nil
}

// Stop ends the server as a power cut would: connections break, nothing is written any more.
func (s *Server) Stop() error { return s.control("stop", "-m", "immediate") }

// Restart starts a server that was stopped.
func (s *Server) Restart() error {
	options := []string{"-c", "listen_addresses=''", "-c", "unix_socket_directories=" + s.dir, "-c", "fsync=off"}
	for _, setting := range s.settings {
		options = append(options, "-c", setting)
	}
	return s.control("start", "-w", "-l", filepath.Join(s.dir, "log"), "-o", strings.Join(options, " "))
}

func (s *Server) control(args ...string) error {
	var out bytes.Buffer
	// It would give up after a minute.
	c := s.command("pg_ctl", append([]string{"-D", filepath.Join(s.dir, "data"), "-t", "600"}, args...)...)
	f, err := os.CreateTemp(s.dir, "ctl") // a pipe would stay open in the server
	if err != nil {
		return err
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	if err := c.Run(); err != nil {
		text, _ := os.ReadFile(f.Name())
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("pg_ctl %s: %w\n%s%s%s", args[0], err, out.String(), text, log)
	}
	return nil
}

// Database makes a new, empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return s.URL(s.create(t))
}

func (s *Server) create(t testing.TB) (name string) {
	t.Helper()
	name = fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(t, "postgres", "CREATE DATABASE "+name)
	return name
}

// URL is that of a database on this server, with more time than the product gives: a busy machine may be late to connect, or to
// go on with a transaction.
func (s *Server) URL(database string) string {
	return "postgres://imprint@/" + database + "?" + url.Values{"host": {s.dir}, "port": {s.port()}, "connect_timeout": {"60"},
		"idle_in_transaction_session_timeout": {"60s"}}.Encode()
}

// TCP is the URL of a database on a server that was started with listen_addresses=127.0.0.1 and a port.
func (s *Server) TCP(database, password string) string {
	return "postgres://imprint:" + password + "@127.0.0.1:" + s.port() + "/" + database
}

func (s *Server) port() string {
	for _, setting := range s.settings {
		if port, ok := strings.CutPrefix(setting, "port="); ok {
			return port
		}
	}
	return "5432" // only part of the socket's name
}

// FreePort returns a port of the loopback that nobody listens on. It is none of those that the system gives to whoever asks for
// any port (Linux: from 32768): there are many such tests, and one of them could have it before its server does.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(10_000 + rand.N(20_000))
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Exec runs a statement in a database and returns what it prints, a line for each row.
func (s *Server) Exec(t testing.TB, database, statement string) string {
	t.Helper()
	out, err := s.command("psql", "-h", s.dir, "-p", s.port(), "-U", "imprint", "-d", database, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", statement, err, out)
	}
	return strings.TrimSpace(string(out))
}

// command runs one of the server's programs, as another user if we are root, which they refuse to be.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.bin, name)
	}
	c := exec.Command(name, args...)
	c.Dir, c.SysProcAttr = s.dir, &syscall.SysProcAttr{}
	if id := unprivileged(); id != nil {
		c.SysProcAttr.Credential = id
	}
	return c
}

// unprivileged is who runs the server if we are root.
func unprivileged() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil // initdb will say what it thinks of root
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// binaries finds the folder of PostgreSQL's programs: Debian keeps them off the path, one folder for each version.
func binaries() (string, error) {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return majorVersion(a) - majorVersion(b) })), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("PostgreSQL is not installed: the Debian package is postgresql (scripts/deps installs it)")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}

func majorVersion(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}
