package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/wire"
)

// GetFunctionLogsInput names a function that this server runs.
type GetFunctionLogsInput struct {
	Name string `wire:"name,required,uri" shape:"Name"`
}

type GetFunctionLogsOutput struct {
	Invocations []Invocation `wire:"invocations,required"`
}

// Invocation is one of the last ones, newest first, and the end of what it wrote. They are kept in memory.
type Invocation struct {
	RequestId     string    `wire:"requestId,required"`
	StartDate     time.Time `wire:"startDate,required"`
	FunctionError *string   `wire:"functionError"`
	Log           string    `wire:"log,required"`
}

func (a *api) getFunctionLogs(ctx context.Context, in *GetFunctionLogsInput) (*GetFunctionLogsOutput, error) {
	list, err := a.Functions.Outputs(ctx, in.Name)
	out := &GetFunctionLogsOutput{Invocations: []Invocation{}}
	for _, o := range list {
		out.Invocations = append(out.Invocations, Invocation{o.RequestID, o.Start, wire.Optional(o.FunctionError), string(o.Log)})
	}
	return out, err
}
