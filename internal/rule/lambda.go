package rule

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// callLambda has a function run, with the result as its event.
type callLambda struct {
	s        *Service
	function string
}

func (callLambda) name() string { return "LambdaAction" }

// functionName is the name in the ARN of a function, "" if it is none.
func functionName(a fleet.ARN) string {
	rest, _ := strings.CutPrefix(a.Resource, "function:")
	name, _, _ := strings.Cut(rest, ":")
	return name
}

func (s *Service) prepareLambda(scope fleet.Scope, a *fleet.LambdaAction) (action, error) {
	arn, ok := fleet.ParseARN(a.Function)
	if !ok || arn.Service != "lambda" || functionName(arn) == "" {
		return nil, fleet.Invalid("lambda action", a.Function, "is not the ARN of a function; one looks like %s", scope.ARN("lambda", "function:NAME"))
	}
	if !arn.In(scope, "lambda") {
		return nil, fleet.Invalid("lambda action", a.Function, "the function must be of this account and region: %s", scope.ARN("lambda", arn.Resource))
	}
	return callLambda{s, a.Function}, nil
}

func (a callLambda) do(ctx context.Context, j *job) (string, error) {
	if !j.result.JSON {
		return a.function, errors.New("the payload is no JSON object or array, which functions want: SELECT encode(*, 'base64') AS data makes one of it")
	}
	wrote, err := a.s.Functions.CallFunction(ctx, j.scope, a.function, j.arn, j.result.Payload)
	for _, wait := range a.s.Again {
		if err == nil || final(err) || !pause(ctx, wait) {
			break
		}
		wrote, err = a.s.Functions.CallFunction(ctx, j.scope, a.function, j.arn, j.result.Payload)
	}
	if err == nil {
		j.say("%s has handled it%s", a.function, cmp.Or(wrote, "; it wrote nothing"))
	}
	return a.function, err
}

// final reports whether another try would be told the same.
func final(err error) bool {
	return errors.Is(err, ErrNotPermitted) || errors.Is(err, &fleet.Error{Kind: fleet.KindInvalid}) || errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound})
}

// pause waits, and reports whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
