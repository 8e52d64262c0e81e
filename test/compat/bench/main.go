// Command bench measures a real server, started from the binary as a process of its own on loopback, beside what the same work
// costs at least on the same machine in the same run: `make bench`.
//
// Begin with run. floor.go measures the bare operations, server.go starts the server and reads its CPU time and memory, world.go
// makes what devices and installers need, flow.go, signin.go, bulk.go, floods.go and hooks.go are the scenarios, device.go is a lean MQTT client, report.go
// the table. CPU microseconds per operation are the figures to trust: they repeat within a few per cent, throughput depends on
// whatever else the machine does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are how much is measured.
type options struct {
	bin      string
	out      string
	seconds  float64 // per scenario
	workers  int
	idle     int
	idleWait time.Duration
	growth   int
	rounds   int
	only     string // names of scenarios; "" is all
	profile  string // folder for CPU profiles of the server
	floods   string // names of floods; "" is all
	flood    bool   // this is the process of a flood
	against  string // folder of another binary to compare with
	bare     *bare  // the floor, measured between the rounds
}

func (o options) wants(scenario string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), scenario)
}

// round is how long a round of a scenario lasts.
func (o options) round() time.Duration {
	return time.Duration(o.seconds / float64(o.rounds) * float64(time.Second))
}

// scenarios in the order in which they run: later ones need the devices of the first.
var scenarios = []struct {
	name string
	run  func(context.Context, options, *world) (*figures, error)
}{
	{"flow", measureFlows},
	{"cycle", measureCycles},
	{"mosquitto", measureMosquitto},
	{"trusted-warm", measureTrusted(templateName, true)},
	{"trusted-cold", measureTrusted(templateName, false)},
	{"trusted-p256-warm", measureTrusted(templateP256, true)},
	{"trusted-p256-cold", measureTrusted(templateP256, false)},
	{"signin", measureSignIns},
	{"claim", measureClaims},
	{"rsa", measureRSA},
	{"rsa-beside", measureRSABeside},
	{"bulk", measureBulk},
	{"bulk-beside", measureBesideBulk},
	{"growth", measureGrowth},
	{"start", measureStart},
	{"idle", measureIdle},
}

// errNotAsked leaves a scenario out.
var errNotAsked = errors.New("not asked for")

func main() {
	if addr := os.Getenv(emptyServer); addr != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveNothing(addr))
		os.Exit(1)
	}
	var o options
	flag.StringVar(&o.bin, "bin", "../../bin", "folder of the imprint binary")
	flag.StringVar(&o.out, "out", "", "file for the figures as JSON")
	flag.Float64Var(&o.seconds, "seconds", 10, "seconds per scenario")
	flag.IntVar(&o.workers, "workers", 16, "devices at once")
	flag.IntVar(&o.idle, "idle", 10000, "idle connections")
	flag.DurationVar(&o.idleWait, "idle-wait", time.Minute, "how long connections are idle before memory is measured")
	flag.IntVar(&o.growth, "growth", 0, "things of the large store, 1000000 for the goal; 0 leaves it out")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds per scenario, of which the median counts")
	flag.StringVar(&o.only, "only", "", "scenarios to run, as the table names them, with commas between")
	flag.StringVar(&o.profile, "profile", "", "folder for a CPU profile of the server during each scenario")
	flag.StringVar(&o.against, "against", "", "folder of another imprint binary: print the ratio of both in place of the table")
	flag.StringVar(&o.floods, "floods", "", "floods to measure, as the table names them, with semicolons between")
	flag.BoolVar(&o.flood, "flood", false, "be a flood, as standard input says (for the bench itself)")
	flag.Parse()
	if o.flood {
		if err := runFlood(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "imprint-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.bare, err = newBare(); err != nil {
		return err
	}
	defer o.bare.close()
	if o.against != "" {
		return compare(ctx, o, dir)
	}
	r := report{Scenarios: map[string]*figures{}}
	progress("the floor")
	if r.Floor, err = measureFloor(dir, o.bare); err != nil {
		return err
	}
	s, err := startServer(ctx, o.bin, dir)
	if err != nil {
		return err
	}
	defer s.stop()
	context.AfterFunc(ctx, func() { // interrupted: leave nothing running
		s.stop()
		os.RemoveAll(dir)
		os.Exit(1)
	})
	progress("preparing")
	w, err := prepare(ctx, s, o.workers)
	if err != nil {
		return fmt.Errorf("preparing: %w\n%s", err, s.said())
	}
	s.settle()                          // the pool of RSA keys is full again
	failed := r.measure(ctx, o, w, dir) // what was measured before is told all the same
	r.Goals = r.judge()
	r.Taken = time.Now().UTC().Truncate(time.Second)
	r.print(os.Stdout)
	if o.out == "" {
		return failed
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	return errors.Join(failed, os.WriteFile(o.out, append(b, '\n'), 0o644))
}

// measure runs all that is wanted, and goes on when a scenario fails.
func (r *report) measure(ctx context.Context, o options, w *world, dir string) error {
	var errs []error
	note := func(name string, err error) {
		if err == nil {
			return
		}
		r.Missing = append(r.Missing, name+": "+err.Error())
		if !errors.Is(err, errNotAsked) && !errors.Is(err, errNotInstalled) {
			errs = append(errs, fmt.Errorf("%s: %w\n%s", name, err, w.server.said()))
		}
	}
	for _, scenario := range scenarios {
		if !o.wants(scenario.name) {
			continue
		}
		progress("%s", scenario.name)
		stop := func() {}
		if o.profile != "" {
			stop = w.server.profile(filepath.Join(o.profile, scenario.name+".pprof"), o.seconds)
		}
		f, err := scenario.run(ctx, o, w)
		stop()
		if note(scenario.name, err); err == nil {
			r.Scenarios[scenario.name] = f
		}
	}
	var err error
	if o.wants("floods") {
		r.Floods, err = measureFloods(ctx, o, w)
		note("floods", err)
	}
	if o.wants("rules") {
		progress("rules")
		r.Rules, err = measureRules(ctx, o, w)
		note("rules", err)
	}
	if slices.Contains(strings.Split(o.only, ","), "hooks") { // asked for by name alone
		r.Hooks, err = measureHooks(ctx, o, dir)
		note("hooks", err)
	}
	return errors.Join(errs...)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+" …\n", args...)
}
