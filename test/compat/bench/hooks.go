package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// What a hook costs is what it adds to a registration: the device's request is timed from its PUBLISH to the answer, on a connection that is
// there, with each kind of hook and with none. A call is cold when nothing is left of the call before: the code of a function must be loaded
// by a new process, the connection to another server be made. All hooks allow, and do nothing else.

// hookFigures are times of registrations, in milliseconds. Of few, the 99th percentile is the longest.
type hookFigures struct {
	ColdP50 float64 `json:"coldP50Millis,omitempty"`
	ColdP99 float64 `json:"coldP99Millis,omitempty"`
	Cold    int     `json:"cold,omitempty"`
	WarmP50 float64 `json:"warmP50Millis"`
	WarmP99 float64 `json:"warmP99Millis"`
	Warm    int     `json:"warm"`
}

// A benchHook is one kind of hook. add makes it under its name; chill makes its next call a cold one, nil if there are none.
type benchHook struct {
	name  string
	add   func(name string) error
	chill func(name string) error
	rests bool // one process for each event: it takes a while until the next one waits
}

const (
	coldCalls = 30
	warmCalls = 300
	restCalls = 60 // warm ones, where each is waited for
)

// hookBench is a server of its own: it may call this process.
type hookBench struct {
	*world
	bin, dir string
	other    *httptest.Server // the webhook, and the endpoint that has a function
	count    int
}

func measureHooks(ctx context.Context, o options, dir string) (map[string]*hookFigures, error) {
	dir = filepath.Join(dir, "hooks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &hookBench{bin: filepath.Join(o.bin, "imprint"), dir: dir}
	b.other = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"allowProvisioning":true}`)
	}))
	defer b.other.Close()
	roots := filepath.Join(dir, "other.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.other.Certificate().Raw}), 0o600); err != nil {
		return nil, err
	}
	s, err := startServer(ctx, o.bin, dir, "--egress-allow", "127.0.0.1", "--egress-ca", roots)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if b.world, err = prepare(ctx, s, 1); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.said())
	}
	out := map[string]*hookFigures{}
	for _, h := range b.kinds(ctx) {
		progress("hooks: %s", h.name)
		if out[h.name], err = b.measure(ctx, h); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", h.name, err, s.said())
		}
	}
	return out, nil
}

func (b *hookBench) kinds(ctx context.Context) []benchHook {
	again := func(string) error { b.other.CloseClientConnections(); return nil }
	loaded := func(name string) error { // other settings are another function: nothing that is loaded is of use
		b.count++
		return b.admin.REST(ctx, "lambda", http.MethodPut, "/2015-03-31/functions/"+name+"/configuration",
			object{"Environment": object{"Variables": object{"COUNT": strconv.Itoa(b.count)}}}, nil)
	}
	local := func(runtime, handler, file, text string) func(string) error {
		return func(name string) error {
			folder := filepath.Join(b.dir, name)
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
			if file == "bootstrap" {
				build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(folder, file), "./bench/allow")
				build.Env = append(os.Environ(), "CGO_ENABLED=0")
				if out, err := build.CombinedOutput(); err != nil {
					return fmt.Errorf("building a handler: %w\n%s", err, out)
				}
			} else if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
				return err
			}
			return b.verb(ctx, "create", name, "--folder", folder, "--runtime", runtime, "--handler", handler)
		}
	}
	put := func(args ...string) func(string) error {
		return func(name string) error { return b.verb(ctx, append([]string{"put", name}, args...)...) }
	}
	return []benchHook{
		{name: "none"},
		{name: "rule", add: put("--rule", "SerialNumber <> ''")},
		{name: "webhook", add: put("--webhook", b.other.URL), chill: again},
		{name: "lambda", add: put("--lambda", b.other.URL), chill: again},
		{name: "python", add: local("python3.12", "app.handler", "app.py", "def handler(event, context):\n    return {'allowProvisioning': True}\n"), chill: loaded},
		{name: "node", add: local("nodejs20.x", "index.handler", "index.js", "exports.handler = async () => ({allowProvisioning: true})\n"), chill: loaded, rests: true},
		{name: "provided", add: local("provided.al2023", "bootstrap", "bootstrap", ""), chill: loaded, rests: true},
	}
}

// verb runs imprint function.
func (b *hookBench) verb(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, b.bin, append([]string{"function"}, args...)...)
	cmd.Env = append(os.Environ(), "IMPRINT_DATA="+b.server.data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("imprint function %v: %w\n%s", args, err, out)
	}
	return nil
}

func (b *hookBench) measure(ctx context.Context, h benchHook) (*hookFigures, error) {
	template := templateName
	if h.add != nil {
		template = templateName + "-" + h.name
		if err := h.add(template); err != nil {
			return nil, err
		}
		target := "arn:aws:lambda:" + b.server.env.Get("AWS_REGION") + ":000000000000:function:" + template
		if err := b.addTemplate(ctx, template, nil, object{"payloadVersion": "2020-04-01", "targetArn": target}); err != nil {
			return nil, err
		}
	}
	f := &hookFigures{}
	pause, calls := time.Duration(0), warmCalls
	if h.chill != nil {
		cold, err := b.calls(ctx, template, coldCalls, func() error { return h.chill(template) })
		if err != nil {
			return nil, err
		}
		f.ColdP50, f.ColdP99, f.Cold = percentiles(cold)
		if h.rests {
			pause, calls = time.Duration(4*f.ColdP50*float64(time.Millisecond)), restCalls
		}
	}
	warm, err := b.calls(ctx, template, calls, func() error { time.Sleep(pause); return nil })
	if err != nil {
		return nil, err
	}
	f.WarmP50, f.WarmP99, f.Warm = percentiles(warm[len(warm)/10:]) // the first ones fill caches
	return f, nil
}

// calls registers devices one after the other and returns how long each registration took.
func (b *hookBench) calls(ctx context.Context, template string, n int, before func() error) (took []time.Duration, err error) {
	for i := range n {
		if i%20 == 0 { // claims live for five minutes
			if b.claims[0], err = b.claimAs(ctx, template, b.admin); err != nil {
				return nil, err
			}
		}
		if err := before(); err != nil {
			return nil, err
		}
		c, err := newCandidate()
		if err != nil {
			return nil, err
		}
		if err := b.flowTimed(template, b.claims[0], c, func(d time.Duration) { took = append(took, d) }); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// percentiles are p50 and p99 in milliseconds, and of how many.
func percentiles(took []time.Duration) (p50, p99 float64, n int) {
	slices.Sort(took)
	n = len(took)
	return micros(took[n/2]) / 1000, micros(took[n*99/100]) / 1000, n
}

func printHooks(out io.Writer, hooks map[string]*hookFigures) {
	if len(hooks) == 0 {
		return
	}
	fmt.Fprintln(out, "\nA registration with each kind of hook, ms from the request to the answer:")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "hook\tcold p50\tcold p99\tof\twarm p50\twarm p99\tof\t")
	for _, name := range []string{"none", "rule", "webhook", "lambda", "python", "node", "provided"} {
		f := hooks[name]
		if f == nil {
			continue
		}
		cold := [3]string{"", "", ""}
		if f.Cold > 0 {
			cold = [3]string{fmt.Sprintf("%.1f", f.ColdP50), fmt.Sprintf("%.1f", f.ColdP99), strconv.Itoa(f.Cold)}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f\t%.1f\t%d\t\n", name, cold[0], cold[1], cold[2], f.WarmP50, f.WarmP99, f.Warm)
	}
	t.Flush()
}
