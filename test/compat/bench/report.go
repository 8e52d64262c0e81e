package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// figures are what a scenario yields.
type figures struct {
	Count        int     `json:"count"`
	PerSecond    float64 `json:"perSecond,omitempty"`
	ServerMicros float64 `json:"serverMicros,omitempty"` // CPU per operation, /proc
	ClientMicros float64 `json:"clientMicros,omitempty"`
	P50Millis    float64 `json:"p50Millis,omitempty"`
	P99Millis    float64 `json:"p99Millis,omitempty"`
	RSSKiB       int     `json:"rssKiB"`
	KiBEach      float64 `json:"kibEach,omitempty"` // resident memory per idle connection
}

// A report is build/bench.json.
type report struct {
	Taken     time.Time                `json:"taken"`
	Floor     floor                    `json:"floor"`
	Scenarios map[string]*figures      `json:"scenarios"` // by their names in scenarios
	Floods    map[string]*floodFigures `json:"floods,omitempty"`
}

// possible is how many operations a second the machine could do if the server needed no more than the floor, with this client
// beside it.
func (r *report) possible(floor float64, f *figures) float64 {
	return float64(r.Floor.Cores) * 1e6 / (floor + f.ClientMicros)
}

func (r *report) print(out io.Writer) {
	fl := r.Floor
	fmt.Fprintf(out, "\nThe floor on these %d cores, µs of CPU: mutual TLS 1.3 handshake, server side %.0f; CSR %.0f; certificate %.0f; P-256 sign %.0f, verify %.0f;\n"+
		"RSA-2048 sign %.0f, key %.0f; fdatasync of 4 KiB: p50 %.0f µs, p99 %.0f µs.\n\n", fl.Cores, fl.Handshake, fl.CSR, fl.Sign, fl.P256Sign, fl.P256Verify,
		fl.RSASign, fl.RSAKey, fl.SyncP50, fl.SyncP99)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\t/s\tof possible\tserver µs\tfloor µs\tratio\tclient µs\tp50 ms\tp99 ms\tRSS MiB\t")
	for _, row := range []struct {
		name, scenario string
		floor          float64 // CPU of the bare cryptography; of a sign-in: its two token signatures
	}{
		{"provisioning flow", "flow", fl.Flow},
		{"connect cycle", "cycle", fl.Handshake},
		{"SRP sign-in", "signin", 2 * fl.RSASign},
		{"claim (RSA-2048)", "claim", fl.RSAKey + fl.Sign},
	} {
		f := r.Scenarios[row.scenario]
		if f == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%.1f\t%.2f\t%.0f\t%.0f\t%.2f\t%.0f\t%.1f\t%.1f\t%.0f\t\n", row.name, f.PerSecond, f.PerSecond/r.possible(row.floor, f), f.ServerMicros,
			row.floor, f.ServerMicros/row.floor, f.ClientMicros, f.P50Millis, f.P99Millis, float64(f.RSSKiB)/1024)
	}
	t.Flush()
	printFloods(out, r.Floods)
	idle := r.Scenarios["idle"]
	if idle == nil {
		return
	}
	fmt.Fprintf(out, "\n%d idle connections: %.1f KiB each, %.0f MiB in all\n", idle.Count, idle.KiBEach, float64(idle.RSSKiB)/1024)
}
