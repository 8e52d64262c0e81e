package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figures are what a scenario yields.
type figures struct {
	Count        int     `json:"count"`
	PerSecond    float64 `json:"perSecond,omitempty"`
	ServerMicros float64 `json:"serverMicros,omitempty"` // CPU per operation, /proc
	ClientMicros float64 `json:"clientMicros,omitempty"`
	FloorMicros  float64 `json:"floorMicros,omitempty"` // of a flow, between the rounds of this scenario
	P50Millis    float64 `json:"p50Millis,omitempty"`
	P99Millis    float64 `json:"p99Millis,omitempty"`
	RSSKiB       int     `json:"rssKiB"`
	KiBEach      float64 `json:"kibEach,omitempty"` // resident memory per idle connection

	SlowerMillis    float64 `json:"slowerMillis,omitempty"` // at the 99th percentile than without something else
	Share           float64 `json:"share,omitempty"`        // of something else; the scenario says of what
	Left            float64 `json:"left,omitempty"`         // part of the CPU time left by others that went into keys
	Refused         int     `json:"refused,omitempty"`
	CommitP99Millis float64 `json:"commitP99Millis,omitempty"`
	Commits         float64 `json:"commits,omitempty"` // of the server's store, per operation
	Group           float64 `json:"group,omitempty"`   // transactions that shared one
}

// A report is build/bench.json.
type report struct {
	Taken     time.Time                `json:"taken"`
	Floor     floor                    `json:"floor"`
	Scenarios map[string]*figures      `json:"scenarios"` // by their names in scenarios
	Floods    map[string]*floodFigures `json:"floods,omitempty"`
	Rules     map[string]*figures      `json:"rules,omitempty"` // by what a message meets
	Hooks     map[string]*hookFigures  `json:"hooks,omitempty"` // by the kind of the hook
	Missing   []string                 `json:"missing"`
	Goals     []goal                   `json:"goals"`
}

// now is a part of the floor, measured at the start, as it was while f was measured.
func (r *report) now(floor float64, f *figures) float64 {
	if f.FloorMicros == 0 {
		return floor
	}
	return floor * f.FloorMicros / r.Floor.Flow
}

// possible is how many operations a second the machine could do if the server needed no more than the floor, with this client
// beside it.
func (r *report) possible(floor float64, f *figures) float64 {
	return float64(r.Floor.Cores) * 1e6 / (floor + f.ClientMicros)
}

func (r *report) print(out io.Writer) {
	fl := r.Floor
	fmt.Fprintf(out, "\nThe floor on these %d cores, µs of CPU: mutual TLS 1.3 handshake, server side %.0f; CSR %.0f; certificate %.0f; P-256 sign %.0f, verify %.0f;\n"+
		"RSA-2048 sign %.0f, key %.0f; power modulo 3072 bits %.0f, three for a sign-in %.0f; fdatasync of 4 KiB: p50 %.0f µs, p99 %.0f µs.\n\n", fl.Cores, fl.Handshake, fl.CSR, fl.Sign, fl.P256Sign, fl.P256Verify,
		fl.RSASign, fl.RSAKey, fl.Power, fl.SRP, fl.SyncP50, fl.SyncP99)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\t/s\tof possible\tserver µs\tfloor µs\tratio\tclient µs\tp50 ms\tp99 ms\tRSS MiB\t")
	for _, row := range []struct {
		name, scenario string
		floor          float64 // CPU of the bare cryptography
	}{
		{"provisioning flow", "flow", fl.Flow},
		{"connect cycle", "cycle", fl.Handshake},
		{"SRP sign-in", "signin", fl.SRP + 2*fl.RSASign},
		{"SRP sign-in beside its powers alone", "signin", fl.SRP},
		{"claim (RSA-2048)", "claim", fl.RSAKey + fl.Sign},
		{"trusted user, keys ready", "trusted-warm", fl.trusted()},
		{"trusted user, no keys", "trusted-cold", fl.trusted()},
		{"trusted user, P-256 claim, keys ready", "trusted-p256-warm", fl.trusted() - fl.RSAKey},
		{"trusted user, P-256 claim, no keys", "trusted-p256-cold", fl.trusted() - fl.RSAKey},
		{"flow, keys by the server", "rsa", fl.Flow + fl.RSAKey},
		{"connect cycle, mosquitto", "mosquitto", fl.Handshake},
	} {
		f := r.Scenarios[row.scenario]
		if f == nil {
			continue
		}
		floor := r.now(row.floor, f)
		fmt.Fprintf(t, "%s\t%.1f\t%.2f\t%.0f\t%.0f\t%.2f\t%.0f\t%.1f\t%.1f\t%.0f\t\n", row.name, f.PerSecond, f.PerSecond/r.possible(floor, f), f.ServerMicros,
			floor, f.ServerMicros/floor, f.ClientMicros, f.P50Millis, f.P99Millis, float64(f.RSSKiB)/1024)
	}
	t.Flush()
	if f := r.Scenarios["flow"]; f != nil {
		fmt.Fprintf(out, "\nA flow takes %.2f commits, each shared by %.2f transactions.\n", f.Commits, f.Group)
	}
	if f := r.Scenarios["bulk"]; f != nil {
		fmt.Fprintf(out, "Bulk: %.0f lines a second, %.0f µs each; signing and storing alone takes %.0f µs.\n", f.PerSecond, f.ServerMicros, f.ClientMicros)
	}
	if f := r.Scenarios["bulk-beside"]; f != nil {
		fmt.Fprintf(out, "Flows beside %.0f lines of bulk a second: p50 %.1f ms, p99 %.1f ms.\n", f.PerSecond, f.P50Millis, f.P99Millis)
	}
	printFloods(out, r.Floods)
	printRules(out, r.Rules)
	printHooks(out, r.Hooks)
	fmt.Fprintln(out)
	t = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "goal\tmeasured\tlimit\t")
	for _, g := range r.Goals {
		at, verdict := "at most", "not met"
		if g.AtLeast {
			at = "at least"
		}
		if g.Met {
			verdict = "met"
		}
		fmt.Fprintf(t, "%s\t%.2f\t%s %.2f\t%s\n", g.What, g.Measured, at, g.Limit, verdict)
	}
	t.Flush()
	for _, m := range r.Missing {
		fmt.Fprintf(out, "not measured: %s\n", m)
	}
}

// trusted is what a trusted-user flow takes at least: the signatures of two tokens, a key and certificate for the claim, a flow.
func (fl floor) trusted() float64 { return 2*fl.RSASign + fl.RSAKey + fl.Sign + fl.Flow }

// A goal is a promise of the design beside what was measured.
type goal struct {
	What     string  `json:"what"`
	Measured float64 `json:"measured"`
	Limit    float64 `json:"limit"`
	AtLeast  bool    `json:"atLeast"` // else at most
	Met      bool    `json:"met"`
}

// judge compares what was measured with the goals.
func (r *report) judge() (goals []goal) {
	most := func(what string, v, limit float64) {
		goals = append(goals, goal{what, v, limit, false, v <= limit})
	}
	least := func(what string, v, limit float64) {
		goals = append(goals, goal{what, v, limit, true, v >= limit})
	}
	fl := r.Floor
	for name, judge := range map[string]func(f *figures){
		"flow": func(f *figures) {
			most("flow: server CPU ÷ floor", f.ServerMicros/r.now(fl.Flow, f), 1.5)
			least("flow: rate ÷ what the cores could do with this client", f.PerSecond/r.possible(r.now(fl.Flow, f), f), 0.75)
		},
		"mosquitto": func(f *figures) { most("connect cycle: server CPU ÷ mosquitto's", f.Share, 0.6) },
		"rsa": func(f *figures) {
			least("keys by the server, none ready: rate ÷ limit of the CPU time left", f.Left, 0.9)
		},
		"rsa-beside": func(f *figures) {
			least("the same on a machine that flows with own keys use up", f.Left, 0.9)
			least("flows with own keys beside these: rate ÷ rate alone", f.Share, 0.9)
			most("keys by the server beside these: p99 in seconds", f.P99Millis/1000, 10)
		},
		"bulk": func(f *figures) { least("bulk: lines ÷ certificates signed and stored alone, a second", f.Share, 0.5) },
		"bulk-beside": func(f *figures) {
			most("flows beside bulk: milliseconds longer at p99", f.SlowerMillis, 50)
		},
		"idle": func(f *figures) {
			most(fmt.Sprintf("idle: KiB per connection at %d", f.Count), f.KiBEach, 30)
		},
		"growth": func(f *figures) {
			most(fmt.Sprintf("growth: server CPU of a flow at %d things ÷ at few", f.Count), f.Share, 1.2)
			most("growth: commits' p99 ÷ fdatasync's p99", f.CommitP99Millis*1000/fl.SyncP99, 20)
		},
		"start": func(f *figures) { most("start to ready ÷ that of an empty TLS server", f.Share, 2) },
	} {
		if f := r.Scenarios[name]; f != nil {
			judge(f)
		}
	}
	rss := 0
	for name, f := range r.Floods {
		rss = max(rss, f.RSSKiB)
		if name != "quiet" {
			most("flood, "+name+": p99 of a flow ÷ in the quiet", f.P99Ratio, 2)
		}
	}
	if rss > 0 {
		most("floods: MiB of memory at most", float64(rss)/1024, floodMiB)
	}
	slices.SortFunc(goals, func(a, b goal) int { return strings.Compare(a.What, b.What) })
	return goals
}
