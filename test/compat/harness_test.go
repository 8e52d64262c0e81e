// Package compat drives a running Imprint with clients that know nothing of it: AWS CLI, boto3, the AWS SDKs for Go and
// JavaScript, amazon-cognito-identity-js, the AWS IoT device SDK, mosquitto and paho. They are the judges of compatibility and
// live in a module of their own so that the product's module stays free of them.
//
// Begin with site in this file: a real server process and what its environment file says.
package compat

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/server"
)

// bin is where TestMain put the two binaries.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "imprint-compat-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = filepath.Join(dir, "bin")
		build := exec.Command("go", "build", "-o", bin+"/", "./cmd/...")
		build.Dir = filepath.Join("..", "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building: %v\n%s", err, out)
			return 1
		}
		defer shared.stop()
		return m.Run()
	}())
}

// A site is a running server.
type site struct {
	cmd    *exec.Cmd
	data   string // data folder
	log    string
	env    server.Env
	exited chan error
}

const startTimeout = 5 * time.Minute

// start runs a server on free ports with its data in dir/imprint-data. One that ran there before has its ports again: the kernel may have
// handed one of them to somebody else meanwhile, for a connection or a server of another test, who is waited for.
func start(dir string, args ...string) (s *site, err error) {
	for late := time.Now().Add(startTimeout); ; {
		if s, err = startOnce(dir, args...); !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(late) {
			return s, err
		}
	}
}

func startOnce(dir string, args ...string) (*site, error) {
	s := &site{data: filepath.Join(dir, "imprint-data"), log: filepath.Join(dir, "server.log"), exited: make(chan error, 1)}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	s.cmd = exec.Command(filepath.Join(bin, "imprint"), append([]string{"serve", "--data", s.data, "--https-port", "0", "--mqtt-port", "0"}, args...)...)
	s.cmd.Stderr = log
	envFile := filepath.Join(s.data, "imprint.env")
	if err := os.Remove(envFile); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.exited <- s.cmd.Wait() }()
	tick, late := time.NewTicker(20*time.Millisecond), time.After(startTimeout)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s.env, err = server.ReadEnv(envFile); err == nil {
				return s, nil
			}
		case err := <-s.exited:
			said, _ := os.ReadFile(s.log)
			if bytes.Contains(said[before:], []byte(syscall.EADDRINUSE.Error())) {
				err = errors.Join(err, syscall.EADDRINUSE)
			}
			return nil, fmt.Errorf("the server stopped (%w): %s", err, said)
		case <-late:
			s.stop()
			return nil, fmt.Errorf("the server was not ready within %v", startTimeout)
		}
	}
}

func (s *site) stop() error {
	if s == nil || s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return nil // gone already
	}
	select {
	case err := <-s.exited:
		return err
	case <-time.After(30 * time.Second):
		return s.cmd.Process.Kill()
	}
}

// sharedSite is one server for all tests that don't change what others rely on; names carry the test's own prefix.
type sharedSite struct {
	once sync.Once
	dir  string
	site *site
	err  error
}

var shared sharedSite

func (s *sharedSite) stop() {
	_ = s.site.stop()
	os.RemoveAll(s.dir)
}

func sharedServer(t *testing.T) *site {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "imprint-shared-"); shared.err == nil {
			shared.site, shared.err = start(shared.dir)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.site
}

// ownServer starts a server for this test alone.
func ownServer(t *testing.T, args ...string) *site {
	t.Helper()
	dir := t.TempDir()
	s, err := start(dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("stopping the server: %v", err)
		}
		if t.Failed() {
			said, _ := os.ReadFile(s.log)
			t.Logf("server log:\n%s", tail(said))
		}
	})
	return s
}

func tail(b []byte) []byte {
	const keep = 6000
	if len(b) > keep {
		return b[len(b)-keep:]
	}
	return b
}

func (s *site) get(name string) string { return s.env.Get(name) }

// anonymous is a plain unsigned client for preparing a test; what is judged goes through the foreign clients.
func (s *site) anonymous(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Endpoint: s.get("AWS_ENDPOINT_URL"), Region: s.get("AWS_REGION"), CAFile: s.get("AWS_CA_BUNDLE")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// adminClient signs as the administrator of the site.
func (s *site) adminClient() (*client.Client, error) {
	return client.New(client.Config{Endpoint: s.get("AWS_ENDPOINT_URL"), Region: s.get("AWS_REGION"), CAFile: s.get("AWS_CA_BUNDLE"),
		Creds: client.Credentials{AccessKeyID: s.get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(s.get("AWS_SECRET_ACCESS_KEY"))}})
}

func (s *site) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(s.get("AWS_CA_BUNDLE"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the CA bundle holds no certificate")
	}
	return pool
}

// httpClient trusts the site: the SDKs for Go take it.
func (s *site) httpClient(t *testing.T) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(t)}, ForceAttemptHTTP2: true}, Timeout: 5 * time.Minute}
}

// environ is the process environment of a foreign client: the site's variables and nothing of another AWS.
func (s *site) environ(extra ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	for _, v := range s.env {
		env = append(env, v.Name+"="+v.Value)
	}
	env = append(env, "AWS_DEFAULT_REGION="+s.get("AWS_REGION"), "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true",
		"NODE_EXTRA_CA_CERTS="+s.get("AWS_CA_BUNDLE"), "IMPRINT_DATA="+s.data, "PATH="+bin+":"+os.Getenv("PATH"))
	return append(env, extra...)
}

// run executes a foreign client in dir and returns what it printed; it fails the test if the client fails.
func (s *site) run(t *testing.T, dir string, extraEnv []string, name string, args ...string) string {
	t.Helper()
	out, err := s.try(t, dir, extraEnv, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

const clientTimeout = 20 * time.Minute // some are scripts of a page, with dozens of commands

func (s *site) try(t *testing.T, dir string, extraEnv []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, s.environ(extraEnv...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// must decodes JSON that a client printed.
func must[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return v
}

// highest is the most memory that the server has had, in MiB (proc(5)).
func (s *site) highest(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	check(t, err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib := 0
	fmt.Sscan(rest, &kib)
	return kib / 1024
}
