package imprint

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/wire"
)

// GetUserImportLogInput asks what became of the lines of a user import job, which AWS writes to CloudWatch Logs; of those alone that were
// not imported with Troubles.
type GetUserImportLogInput struct {
	UserPoolId string  `wire:"userPoolId,required,uri" shape:"UserPoolId"`
	JobId      string  `wire:"jobId,required,uri" shape:"ImportJobId"`
	Troubles   *bool   `wire:"troubles,querystring"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxLines"`
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
}

type GetUserImportLogOutput struct {
	Lines     []UserImportLine `wire:"lines,required"`
	NextToken *string          `wire:"nextToken"`
}

// UserImportLine is a line of the file, by its number: the header's is 1.
type UserImportLine struct {
	Line    int64  `wire:"line,required"`
	Outcome string `wire:"outcome,required"`
	Message string `wire:"message,required"`
}

func (a *api) getUserImportLog(ctx context.Context, in *GetUserImportLogInput) (*GetUserImportLogOutput, error) {
	limit := 100
	if n := wire.Value(in.MaxResults); n > 0 {
		limit = n
	}
	lines, next, err := a.Pools.ImportLog(ctx, fleet.CallerFrom(ctx).Scope, in.UserPoolId, in.JobId, wire.Value(in.Troubles), wire.Value(in.NextToken), limit)
	out := &GetUserImportLogOutput{Lines: []UserImportLine{}, NextToken: wire.Optional(next)}
	for _, l := range lines {
		out.Lines = append(out.Lines, UserImportLine{l.Line, l.Outcome, l.Why})
	}
	return out, err
}
