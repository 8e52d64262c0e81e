package trace

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Text tells the record to a person: the verdict first, with cause and cure, then who it was about, then the timeline.
func (r Record) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Start.Format("2006-01-02 15:04:05"), r.Kind)
	switch r.Outcome {
	case OK:
		fmt.Fprintf(&b, " succeeded in %v\n", r.Took.Round(time.Millisecond))
	default:
		if r.Kind == Disconnect || r.Kind == Rule {
			fmt.Fprintf(&b, ": %s\n", r.Cause)
		} else {
			fmt.Fprintf(&b, " was %s: %s\n", r.Outcome, r.Cause)
		}
		if r.Code != "" {
			fmt.Fprintf(&b, "  answered: %s\n", r.Code)
		}
		if r.Cure != "" {
			fmt.Fprintf(&b, "  what to do: %s\n", r.Cure)
		}
	}
	names := make([]string, 0, len(r.Facts))
	for name := range r.Facts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "  %-14s %s\n", name, r.Facts[name])
	}
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "  %8.1f ms  %-12s %s\n", float64(s.At)/float64(time.Millisecond), s.Name, s.Text)
	}
	fmt.Fprintf(&b, "  trace %s\n", r.ID)
	return b.String()
}
