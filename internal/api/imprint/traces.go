package imprint

import (
	"context"

	"github.com/imprint-iot/imprint/internal/trace"
	"github.com/imprint-iot/imprint/internal/wire"
)

const defaultTraces = 10

func (a *api) listTraces(ctx context.Context, in *ListTracesInput) (*ListTracesOutput, error) {
	limit := wire.Value(in.MaxResults)
	if limit == 0 {
		limit = defaultTraces
	}
	records, err := a.Provision.Traces(ctx, scopeOf(ctx), wire.Value(in.Subject), limit)
	if err != nil {
		return nil, err
	}
	out := &ListTracesOutput{Traces: []Trace{}}
	for _, r := range records {
		out.Traces = append(out.Traces, traceOut(r))
	}
	return out, nil
}

func traceOut(r trace.Record) Trace {
	t := Trace{TraceId: r.ID, Kind: r.Kind, Start: r.Start, Microsecond: r.Took.Microseconds(), Outcome: r.Outcome,
		Code: r.Code, Cause: r.Cause, Cure: r.Cure, Facts: r.Facts, Steps: []Step{}}
	for _, s := range r.Steps {
		t.Steps = append(t.Steps, Step{s.At.Microseconds(), s.Name, s.Text})
	}
	return t
}
