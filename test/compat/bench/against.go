package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// compare measures two builds side by side, in turns, so that whatever else the machine does meets both: the ratio of their CPU
// times is good to a few per cent where the times themselves are not.
func compare(ctx context.Context, o options, dir string) error {
	type side struct {
		w    *world
		cost map[string][]float64
	}
	var sides [2]side
	for i, bin := range []string{o.against, o.bin} {
		data := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(data, 0o700); err != nil {
			return err
		}
		s, err := startServer(ctx, bin, data)
		if err != nil {
			return err
		}
		defer s.stop()
		w, err := prepare(ctx, s, o.workers)
		if err != nil {
			return err
		}
		s.settle()
		sides[i] = side{w, map[string][]float64{}}
	}
	short := o
	short.rounds, short.seconds = 1, o.seconds/float64(o.rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tserver µs\tbefore\tratio\tbest µs\tbefore\tratio\t")
	for _, scenario := range scenarios {
		if !o.wants(scenario.name) {
			continue
		}
		var ratios []float64
		for range o.rounds {
			var cost [2]float64
			for i, s := range sides {
				f, err := scenario.run(ctx, short, s.w)
				if err != nil {
					return fmt.Errorf("%s: %w\n%s", scenario.name, err, s.w.server.said())
				}
				cost[i] = f.ServerMicros
				s.cost[scenario.name] = append(s.cost[scenario.name], f.ServerMicros)
			}
			ratios = append(ratios, cost[1]/cost[0])
		}
		before, after := sides[0].cost[scenario.name], sides[1].cost[scenario.name]
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.3f\t%.0f\t%.0f\t%.3f\t\n", scenario.name, median(after), median(before), median(ratios),
			best(after), best(before), best(after)/best(before))
	}
	return t.Flush()
}

// best is what a quarter of the rounds did not exceed: those that had the machine most to themselves.
func best(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/4]
}
