package server

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// It runs alone: it looks at every goroutine of the process.
func TestAServerThatIsClosedLeavesNothingRunning(t *testing.T) {
	s := startServer(t, quick(folder(t)))
	c := api(t, s)
	made := newResidents(t, c, false)
	device(t, s, made.device).Connected("lamp")
	device(t, s, made.claim) // has not sent its CONNECT
	if _, err := whoami(t, c); err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("tcp", s.ports.https.Addr().String())
	noError(t, err)
	defer idle.Close()
	begin := time.Now()
	stopServer(t, s)
	if took := time.Since(begin); took > patience/2 { // not the whole time that it is given
		t.Errorf("closing took %v", took)
	}
	left := serverGoroutines()
	tick, late := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for ; left != ""; left = serverGoroutines() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("still running:\n%s", left)
		}
	}
}

// serverGoroutines are the stacks in which code of the server stands, that of tests apart.
func serverGoroutines() string {
	var b strings.Builder
	pprof.Lookup("goroutine").WriteTo(&b, 2)
	var left []string
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		for _, mark := range []string{"imprint/internal/gateway", "imprint/internal/mqtt.", "imprint/internal/store", "imprint/internal/trace", "imprint/internal/pki", "imprint/internal/userpool",
			"net/http.(*Server)", "net/http.(*conn)", "imprint/internal/server.(*Server)", "modernc.org/sqlite"} {
			if strings.Contains(stack, mark) && !strings.Contains(stack, "testing.tRunner") {
				left = append(left, stack)
				break
			}
		}
	}
	return strings.Join(left, "\n\n")
}

func TestTheDataFolderIsTheOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "data")
	s := startServer(t, quick(dir))
	newResidents(t, api(t, s), false)
	noError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		noError(t, err)
		info, err := e.Info()
		noError(t, err)
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
		return nil
	}))
}

func TestAFolderThatOthersCanReadIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0o755, 0o750, 0o701} {
		dir := t.TempDir()
		noError(t, os.Chmod(dir, mode))
		_, err := Start(t.Context(), quick(dir))
		contains(t, err, "others can read the data folder "+dir, "chmod 700")
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("something was written: %v %v", left, err)
		}
	}
}

func TestOneServerUsesAFolderAtATime(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	_, err := Start(t.Context(), quick(s.cfg.Data))
	contains(t, err, "another imprint serve uses "+s.cfg.Data+": stop it first")
	if _, err := whoami(t, api(t, s)); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
	stopServer(t, s)
	stopServer(t, startServer(t, quick(s.cfg.Data)))
}

func TestWhatWasFixedAtFirstStartCannotBeContradicted(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.Region, cfg.Account = "eu-west-1", "123456789012"
	s := startServer(t, cfg)
	https, mqtt := s.site.HTTPSPort, s.site.MQTTPort
	if want := (site{Scope: s.Scope(), Host: "localhost", HTTPSPort: https, MQTTPort: mqtt}); !reflect.DeepEqual(s.site, want) || s.Scope().Account != cfg.Account || s.Scope().Region != cfg.Region {
		t.Errorf("site %+v", s.site)
	}
	stopServer(t, s)
	for name, change := range map[string]func(*Config){
		"--host localhost":                    func(c *Config) { c.Host = "iot.lan" },
		"--region eu-west-1":                  func(c *Config) { c.Region = "us-east-1" },
		"--account 123456789":                 func(c *Config) { c.Account = "000000000000" },
		"--https-port " + strconv.Itoa(https): func(c *Config) { c.HTTPSPort = Port(https%60000 + 1025) },
		"--mqtt-port " + strconv.Itoa(mqtt):   func(c *Config) { c.MQTTPort = Port(mqtt%60000 + 1025) },
	} {
		other := quick(cfg.Data)
		change(&other)
		_, err := Start(t.Context(), other)
		contains(t, err, "this data folder was made for "+name, "start without --", "another --data")
	}
	for _, same := range []Config{{HTTPSPort: Port(https), MQTTPort: Port(mqtt), Host: "localhost"}, {}, {HTTPSPort: AnyPort, MQTTPort: AnyPort}} {
		same.Data, same.KeyPool = cfg.Data, -1
		s := startServer(t, same)
		if s.site.HTTPSPort != https || s.site.MQTTPort != mqtt || s.Scope().Region != "eu-west-1" {
			t.Errorf("%+v became %+v", same, s.site)
		}
		stopServer(t, s)
	}
}

func TestAPortThatIsTakenIsNamedAndNothingIsFixed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer l.Close()
	taken := Port(l.Addr().(*net.TCPAddr).Port)
	dir := folder(t)
	for _, change := range []func(*Config){func(c *Config) { c.MQTTPort = taken }, func(c *Config) { c.HTTPSPort = taken }} {
		cfg := quick(dir)
		change(&cfg)
		_, err = Start(t.Context(), cfg)
		contains(t, err, strconv.Itoa(int(taken)), "address already in use", "take any free ports")
	}
	startServer(t, quick(dir))
}

func TestNonsenseIsRefusedAtFirstStart(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"12 decimal digits":             func(c *Config) { c.Account = "12" },
		"a region looks like us-east-1": func(c *Config) { c.Region = "here" },
	} {
		cfg := quick(folder(t))
		change(&cfg)
		_, err := Start(t.Context(), cfg)
		contains(t, err, want)
	}
}

func TestTheEnvironmentFileIsAContract(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.EnvFile = filepath.Join(t.TempDir(), "elsewhere.env")
	s := startServer(t, cfg)
	want := []string{"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE", "IOT_ENDPOINT", "IOT_PORT", "IOT_ALPN_PORT", "IOT_WSS_PORT"}
	if !slices.Equal(EnvNames, want) {
		t.Errorf("EnvNames are %v", EnvNames)
	}
	port := strconv.Itoa(s.site.HTTPSPort)
	for _, path := range []string{cfg.EnvFile, filepath.Join(cfg.Data, "imprint.env")} {
		env, err := ReadEnv(path)
		noError(t, err)
		var names []string
		for _, v := range env {
			names = append(names, v.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s has %v", path, names)
		}
		for name, value := range map[string]string{"AWS_ENDPOINT_URL": "https://localhost:" + port, "AWS_REGION": "us-east-1", "AWS_CA_BUNDLE": filepath.Join(cfg.Data, "ca.pem"),
			"IOT_ENDPOINT": "localhost", "IOT_PORT": strconv.Itoa(s.site.MQTTPort), "IOT_ALPN_PORT": port, "IOT_WSS_PORT": port} {
			if env.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, env.Get(name), value)
			}
		}
		info, err := os.Stat(path)
		noError(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if arn, err := whoami(t, api(t, s)); err != nil || arn != "arn:aws:iam::000000000000:user/administrator" {
		t.Errorf("the key is of %q, %v", arn, err)
	}
}

func TestAwayFromLoopbackNoKeyIsWritten(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.Host, cfg.EnvFile = "iot.lan", filepath.Join(t.TempDir(), "imprint.env")
	s := startServer(t, cfg)
	for _, path := range []string{cfg.EnvFile, filepath.Join(cfg.Data, EnvFile)} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if s.Env().Get("AWS_ACCESS_KEY_ID") != "" || s.Env().Get("IOT_ENDPOINT") != "iot.lan" || !strings.HasPrefix(s.Env().Get("AWS_ENDPOINT_URL"), "https://iot.lan:") {
		t.Errorf("%v", s.Env())
	}
	for _, l := range []net.Listener{s.ports.https, s.ports.mqtt} {
		if a := l.Addr().(*net.TCPAddr); !a.IP.IsUnspecified() {
			t.Errorf("listens on %v only", a)
		}
	}
	if b := s.Banner(); !strings.Contains(b, "admin create-key") || strings.Contains(b, "imprint env") {
		t.Errorf("banner %s", b)
	}
	if key, err := CreateAdminKey(t.Context(), cfg.Data, ""); err != nil || key.ID == "" {
		t.Errorf("no key: %v", err)
	}
}

func TestLoopbackIsNotReachableFromOutside(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	for _, l := range []net.Listener{s.ports.https, s.ports.mqtt} {
		if a := l.Addr().(*net.TCPAddr); !a.IP.IsLoopback() {
			t.Errorf("listens on %v", a)
		}
	}
}

func TestAWrongMasterKeyIsSaidAndDoesNoDamage(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.MasterKeyCmd = "printf %064d 1 | tr 1 a"
	s := startServer(t, cfg)
	key := s.Env().Get("AWS_ACCESS_KEY_ID")
	stopServer(t, s)
	before := tree(t, cfg.Data)
	wrong := cfg
	wrong.MasterKeyCmd = "printf %064d 1 | tr 1 b"
	_, err := Start(t.Context(), wrong)
	contains(t, err, "give the master key of the earlier starts")
	none := quick(cfg.Data)
	_, err = Start(t.Context(), none)
	contains(t, err, "master.key is missing", "name the key's source as at earlier starts")
	after := tree(t, cfg.Data)
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s has changed", path)
		}
	}
	for path := range after {
		if _, was := before[path]; !was {
			t.Errorf("%s is new", path)
		}
	}
	s = startServer(t, cfg)
	if s.Env().Get("AWS_ACCESS_KEY_ID") != key {
		t.Error("another key")
	}
	if _, err := whoami(t, api(t, s)); err != nil {
		t.Error(err)
	}
}

// tree reads all files of a folder but the database's own.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	noError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.Contains(path, "imprint.db") {
			out[path] = string(mustRead(t, path))
		}
		return err
	}))
	return out
}

func TestAStartThatIsCancelledCleansUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := quick(folder(t))
	if _, err := Start(ctx, cfg); err == nil {
		t.Fatal("started")
	}
	startServer(t, cfg)
}
