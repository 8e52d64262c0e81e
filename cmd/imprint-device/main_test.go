package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

// A bench is a service, and a device on which the command runs.
type bench struct {
	t      *testing.T
	cloud  *fakecloud.Cloud
	broker *fakecloud.Broker
	dir    string // of the store
	ca     string
	env    map[string]string
	stdin  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	c := fakecloud.New(t, time.Now())
	b := &bench{t: t, cloud: c, broker: fakecloud.NewBroker(t, c), dir: filepath.Join(t.TempDir(), "store"), env: map[string]string{}}
	b.ca = b.file("ca.pem", []byte(b.broker.Roots))
	return b
}

func (b *bench) file(name string, text []byte) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// An outcome is what one run of the command left.
type outcome struct {
	status int
	lines  []map[string]any // standard output
	log    string           // standard error
}

// line returns a member of the first line; path names it from outside in.
func (o outcome) get(path ...string) any {
	var v any = map[string]any{}
	if len(o.lines) > 0 {
		v = o.lines[0]
	}
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (o outcome) events() (names []string) {
	for _, l := range o.lines {
		names = append(names, fmt.Sprint(l["event"]))
	}
	return names
}

// writer is a buffer that several goroutines may write to.
type writer struct {
	mu sync.Mutex
	bytes.Buffer
	wrote func(line string)
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrote != nil {
		w.wrote(string(p))
	}
	return w.Buffer.Write(p)
}

func (b *bench) run(args ...string) outcome {
	b.t.Helper()
	return b.runContext(b.t.Context(), nil, args...)
}

func (b *bench) runContext(ctx context.Context, wrote func(string), args ...string) outcome {
	b.t.Helper()
	stdout, stderr := &writer{wrote: wrote}, &writer{}
	p := &program{stdin: strings.NewReader(b.stdin), stdout: stdout, stderr: stderr,
		getenv:   func(name string) string { return b.env[name] },
		unsetenv: func(name string) error { delete(b.env, name); return nil }}
	b.env["IMPRINT_DEVICE_DIR"] = b.dir
	o := outcome{status: p.run(ctx, args), log: stderr.String()}
	for dec := json.NewDecoder(&stdout.Buffer); dec.More(); {
		var line map[string]any
		if err := dec.Decode(&line); err != nil {
			b.t.Fatalf("standard output: %v", err)
		}
		o.lines = append(o.lines, line)
	}
	for _, secret := range []string{"PRIVATE KEY", "token of"} {
		if strings.Contains(fmt.Sprint(o.lines)+o.log, secret) {
			b.t.Errorf("the output shows a %s:\n%v\n%s", secret, o.lines, o.log)
		}
	}
	return o
}

// provision runs `provision` with what it needs of the service, and more.
func (b *bench) provision(more ...string) outcome {
	b.t.Helper()
	return b.run(append([]string{"provision", "--endpoint", "localhost", "--port", fmt.Sprint(b.broker.Port), "--ca", b.ca,
		"--template", fakecloud.Template, "--param", fakecloud.SerialNumber + "=" + fakecloud.Thing}, more...)...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func TestTheStoryOfADevice(t *testing.T) {
	b := newBench(t)
	claim := b.file("claim.json", b.cloud.Claim(t))
	if o := b.run("status"); o.status != 9 || o.get("state") != "empty" {
		t.Errorf("before: %+v", o)
	}
	o := b.provision("--claim", claim, "--format", "cbor", "--mqtt", "5")
	if o.status != 0 || len(o.lines) != 1 || o.get("state") != "provisioned" || o.get("thingName") != fakecloud.Thing || o.get("claim") != "erased" ||
		o.get("already") != false || o.get("certificateId") != b.cloud.Things()[fakecloud.Thing] {
		t.Fatalf("%+v", o)
	}
	if exists(claim) || !exists(fmt.Sprint(o.get("files", "privateKey"))) {
		t.Error("the claim is there, or the key is not")
	}
	if o := b.run("status"); o.status != 0 || o.get("state") != "provisioned" || o.get("configuration", "site") != "plant 7" || o.get("pending") != nil {
		t.Errorf("status: %+v", o)
	}
	for _, version := range []string{"3.1.1", "5"} {
		o = b.run("run", "--once", "--mqtt", version, "--subscribe", "lamps/{thingName}", "--publish", "lamps/{thingName}=on", "--publish", "lamps/other={thingName}")
		if o.status != 0 || !slices.Contains(o.events(), "message") || !slices.Contains(o.events(), "published") || o.events()[len(o.lines)-1] != "stopped" {
			t.Errorf("run: %+v", o)
		}
		o = b.run("run", "--once", "--mqtt", version, "--publish", "foreign/1=x")
		if o.status != 7 || !slices.Equal(o.events(), []string{"connected", "refused", "stopped"}) {
			t.Errorf("a foreign topic: %+v", o)
		}
	}
	if o := b.provision("--claim", claim); o.status != 0 || o.get("already") != true {
		t.Errorf("again, with the claim gone: %+v", o)
	}
	if o := b.run("reset"); o.status != 2 {
		t.Errorf("reset without --yes: %+v", o)
	}
	if o := b.run("reset", "--yes"); o.status != 0 {
		t.Errorf("reset: %+v", o)
	}
	if o := b.run("run"); o.status != 9 || !strings.Contains(o.log, "provision") {
		t.Errorf("run after reset: %+v", o)
	}
}

func TestAClaimComesByStandardInputOrEnvironment(t *testing.T) {
	t.Parallel()
	t.Run("standard input", func(t *testing.T) {
		b := newBench(t)
		b.stdin = string(b.cloud.Claim(t))
		if o := b.provision("--claim", "-"); o.status != 0 || o.get("claim") != nil {
			t.Errorf("%+v", o)
		}
	})
	t.Run("environment", func(t *testing.T) {
		b := newBench(t)
		b.env[envClaim] = string(b.cloud.Claim(t))
		if o := b.provision("--key-type", "rsa2048"); o.status != 0 || b.env[envClaim] != "" {
			t.Errorf("%+v", o)
		}
	})
}

func TestACutWhileTheClaimsFileIsErasedIsSurvived(t *testing.T) {
	t.Parallel()
	for name, zeros := range map[string]func([]byte) []byte{
		"all zeros":  func(b []byte) []byte { return make([]byte, len(b)) },
		"torn":       func(b []byte) []byte { return append(b[:len(b)/2:len(b)/2], make([]byte, len(b)/2)...) },
		"torn early": func(b []byte) []byte { return append(make([]byte, 512), b[512:]...) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			text := b.cloud.Claim(t)
			if o := b.provision("--claim", b.file("claim.json", text)); o.status != 0 {
				t.Fatalf("%+v", o)
			}
			claim := b.file("claim.json", zeros(text)) // as a cut would have left it
			if o := b.provision("--claim", claim); o.status != 0 || o.get("already") != true || exists(claim) {
				t.Errorf("there: %v, %+v", exists(claim), o)
			}
			foreign := b.file("foreign", []byte("not a claim\x00"))
			if o := b.provision("--claim", foreign, "--dir", b.ca+"-empty"); o.status != 3 || !exists(foreign) {
				t.Errorf("a file that is not ours: there %v, %+v", exists(foreign), o)
			}
		})
	}
}

func TestOnlyATemporaryClaimIsErasedUnasked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		life time.Duration
		mode string
		left bool
	}{
		{"a temporary claim", 5 * time.Minute, "auto", false},
		{"a bootstrap certificate", 365 * 24 * time.Hour, "auto", true},
		{"a bootstrap certificate, on demand", 365 * 24 * time.Hour, "always", false},
		{"a temporary claim, kept on demand", 5 * time.Minute, "never", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			claim := b.file("claim.json", b.cloud.ClaimFor(t, tt.life))
			if o := b.provision("--claim", claim, "--erase-claim", tt.mode); o.status != 0 || exists(claim) != tt.left {
				t.Errorf("there: %v, %+v", exists(claim), o)
			}
		})
	}
}

func TestTheConfigurationIsHandedOverOncePerIdentity(t *testing.T) {
	b := newBench(t)
	out := filepath.Join(t.TempDir(), "out")
	command := `f() { cat >>` + out + `; echo " $IMPRINT_THING_NAME $(basename "$1")" >>` + out + `; test -e ` + out + `.ok; }; f`
	o := b.provision("--claim", b.file("claim.json", b.cloud.Claim(t)), "--on-config", command)
	if o.status != 8 || o.get("state") != "provisioned" || !strings.Contains(fmt.Sprint(o.get("error", "message")), "on-config") {
		t.Errorf("the command fails: %+v", o)
	}
	if err := os.WriteFile(out+".ok", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if o := b.run("provision", "--on-config", command); o.status != 0 || o.get("already") != true {
			t.Errorf("%+v", o)
		}
	}
	text, err := os.ReadFile(out)
	want := strings.Repeat(`{"site":"plant 7","url":"https://example.org/?a=b"} `+fakecloud.Thing+" config.json\n", 2)
	if err != nil || strings.ReplaceAll(string(text), `\u0026`, "&") != want {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestEveryFailureHasItsExitStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		code   string
		args   func(b *bench) []string
	}{
		{"an option that makes no sense", 2, "Usage", func(b *bench) []string { return []string{"--format", "xml"} }},
		{"roots that cannot be read", 2, "Usage", func(b *bench) []string { return []string{"--ca", "/nowhere"} }},
		{"a mode that there is not", 2, "Usage", func(b *bench) []string { return []string{"--erase-claim", "perhaps"} }},
		{"a claim that is none", 3, "ClaimMalformed", func(b *bench) []string { return []string{"--claim", b.file("c", []byte("{}"))} }},
		{"a dead claim", 3, "ClaimRefused", func(b *bench) []string {
			return []string{"--claim", b.file("c", fakecloud.New(b.t, time.Now()).Claim(b.t))}
		}},
		{"no claim", 3, "NoClaim", func(b *bench) []string { return []string{"--claim", "/nowhere"} }},
		{"a rejection", 4, "AccessDenied", func(b *bench) []string { return []string{"--param", fakecloud.SerialNumber + "=" + fakecloud.Stolen} }},
		{"no server", 5, "Unreachable", func(b *bench) []string {
			b.broker.Port = 1
			return []string{"--timeout", "50ms"}
		}},
		{"a server that is not trusted", 5, "UntrustedServer", func(b *bench) []string {
			return []string{"--ca", b.file("ca", []byte(fakecloud.NewBroker(b.t, b.cloud).Roots))}
		}},
		{"a folder that others can enter", 6, "Permissions", func(b *bench) []string {
			if err := os.MkdirAll(b.dir, 0o755); err != nil {
				b.t.Fatal(err)
			}
			return nil
		}},
		{"a folder that cannot be made", 6, "Storage", func(b *bench) []string { return []string{"--dir", b.ca + "/x"} }},
		{"an identity that is not accepted", 7, "IdentityRefused", func(b *bench) []string {
			b.broker.SetAlter(func(_ string, m map[string]any) {
				if m["thingName"] != nil {
					b.cloud.SetActive(b.cloud.Things()[fakecloud.Thing], false)
				}
			})
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			args := append([]string{"--claim", b.file("claim.json", b.cloud.Claim(t))}, tt.args(b)...)
			o := b.provision(args...)
			if o.status != tt.status || o.get("state") != "failed" || o.get("error", "code") != tt.code || o.get("error", "cure") == "" {
				t.Errorf("%+v", o)
			}
			if tt.status == 4 && (o.get("error", "statusCode") != 403.0 || o.get("error", "traceId") != "t-5") {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestWordsThatAreNoCommandOrOptionAreRefused(t *testing.T) {
	b := newBench(t)
	for _, args := range [][]string{{}, {"fly"}, {"provision", "claim.json"}, {"provision", "--nonsense"}, {"provision", "--param", "x"},
		{"provision", "--port", "0"}, {"run", "--publish", "x"}, {"reset"}} {
		if o := b.run(args...); o.status != 2 || o.log == "" {
			t.Errorf("%q: %+v", args, o)
		}
	}
	for _, args := range [][]string{{"--help"}, {"help"}, {"provision", "--help"}} {
		if o := b.runHelp(args); o != 0 {
			t.Errorf("%q: %d", args, o)
		}
	}
}

func (b *bench) runHelp(args []string) int {
	p := &program{stdout: &writer{}, stderr: &writer{}, getenv: func(string) string { return "" }}
	return p.run(b.t.Context(), args)
}

func TestAnInterruptionIsToldAndResumed(t *testing.T) {
	b := newBench(t)
	claim := b.file("claim.json", b.cloud.Claim(t))
	ctx, cancel := context.WithCancel(t.Context())
	b.broker.SetFault(func(_ int, event string) fakecloud.Fault {
		if strings.HasPrefix(event, "read Publish") {
			cancel()
			return fakecloud.Drop
		}
		return fakecloud.Obey
	})
	o := b.runContext(ctx, nil, "provision", "--endpoint", fmt.Sprint("localhost:", b.broker.Port), "--ca", b.ca, "--template", fakecloud.Template,
		"--param", fakecloud.SerialNumber+"="+fakecloud.Thing, "--claim", claim)
	if o.status != 10 || o.get("error", "code") != "Interrupted" || !exists(claim) {
		t.Errorf("%+v", o)
	}
	if o := b.run("status"); o.status != 9 || o.get("state") != "pending" || o.get("pending", "step") != "keyed" {
		t.Errorf("%+v", o)
	}
	b.broker.SetFault(nil)
	if o := b.run("provision"); o.status != 0 || o.get("resumed") != true || o.get("thingName") != fakecloud.Thing {
		t.Errorf("%+v", o)
	}
}

func TestRunStaysUntilItIsStopped(t *testing.T) {
	b := newBench(t)
	if o := b.provision("--claim", b.file("claim.json", b.cloud.Claim(t))); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	published := 0
	o := b.runContext(ctx, func(line string) {
		if strings.Contains(line, `"published"`) {
			if published++; published == 3 {
				cancel() // as SIGTERM does
			}
		}
	}, "run", "--publish", "lamps/1=on", "--every", "1ms", "--quiet")
	if o.status != 0 || published < 3 || o.events()[len(o.lines)-1] != "stopped" {
		t.Errorf("%d published, %+v", published, o)
	}
}

// The program runs on small machines, and its package in other people's programs: both bring nothing but the standard library.
func TestTheProgramNeedsTheStandardLibraryOnly(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if !strings.HasPrefix(dep, "github.com/imprint-iot/imprint/device") && dep != "github.com/imprint-iot/imprint/cmd/imprint-device" ||
			strings.HasSuffix(dep, "/fakecloud") {
			t.Errorf("it links %s", dep)
		}
	}
}
