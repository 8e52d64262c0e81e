package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/hook"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// triggerCalls has the functions of hooks answer the triggers of user pools.
type triggerCalls struct{ *Server }

const poolService = "cognito-idp.amazonaws.com"

// CallTrigger implements userpool.FunctionCaller.
func (s triggerCalls) CallTrigger(ctx context.Context, scope fleet.Scope, function, poolARN string, event []byte, hide map[string]string) ([]byte, error) {
	answer, _, err := s.hooks.Call(ctx, hook.Call{Scope: scope, Function: function, Service: poolService, Source: poolARN, Event: event, Timeout: hook.DefaultTimeout, Hide: hide})
	var raised hook.Raised
	switch {
	case errors.As(err, &raised):
		return nil, userpool.RaisedError(raised.Message)
	case errors.Is(err, lambda.ErrNotPermitted):
		a, _ := fleet.ParseARN(function)
		return nil, fmt.Errorf("%w: aws lambda add-permission --function-name %s --statement-id cognito --action lambda:InvokeFunction --principal %s --source-arn %s",
			userpool.ErrNotPermitted, a.Name(), poolService, poolARN)
	}
	return answer, err
}
