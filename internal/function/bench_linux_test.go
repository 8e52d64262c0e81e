package function

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkInvoke tells how long a caller waits, by language: cold starts a process and loads the code, warm finds one that waits (a fork of
// it for Python, a process that has loaded the code meanwhile for the others), reuse hands a process one event after another. p50 and p95
// are in milliseconds.
func BenchmarkInvoke(b *testing.B) {
	for _, lang := range languages {
		for _, kind := range []string{"cold", "warm", "reuse"} {
			b.Run(lang+"/"+kind, func(b *testing.B) {
				r := world(b, Config{})
				c := subject(b, lang)
				c.Reuse = kind == "reuse"
				ask(b, r, c, `{"case":"allow"}`)
				var took []time.Duration
				for b.Loop() {
					b.StopTimer()
					if kind == "cold" {
						r.Forget(c.ARN)
					}
					until(b, func() bool { return kind == "cold" || r.ready() })
					b.StartTimer()
					began := time.Now()
					res := ask(b, r, c, `{"case":"allow"}`)
					took = append(took, time.Since(began))
					if res.FunctionError != "" || res.Cold != (kind == "cold") {
						b.Fatalf("cold %v: %s", res.Cold, res.Payload)
					}
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
			})
		}
	}
}

// ready tells whether a worker waits for an event.
func (r *Runner) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.idle) > 0
}
