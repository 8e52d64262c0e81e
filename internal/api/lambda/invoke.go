package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) invoke(ctx context.Context, in *InvokeInput) (*InvokeOutput, error) {
	f, err := a.function(ctx, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	event := in.Payload
	if len(event) == 0 {
		event = []byte("{}")
	}
	var v any
	if err := json.Unmarshal(event, &v); err != nil {
		return nil, fleet.Invalid("", "", "Could not parse request body into json: %v", err).WithCode("InvalidRequestContentException")
	}
	switch wire.Value(in.InvocationType) {
	case "DryRun":
		return &InvokeOutput{StatusCode: new(http.StatusNoContent)}, nil
	case "Event":
		return nil, fleet.Invalid("", "", "InvocationType Event is not offered by this server: it would have to keep what it accepts. Use RequestResponse")
	}
	ctx, cancel := context.WithTimeout(ctx, function.MaxTimeout)
	defer cancel()
	res, err := a.functions.Invoke(ctx, scope(ctx), f.Name, event)
	if err != nil {
		return nil, refusal(err)
	}
	out := &InvokeOutput{StatusCode: new(http.StatusOK), ExecutedVersion: new(lambda.Latest), Payload: res.Payload}
	if res.FunctionError != "" {
		out.FunctionError = &res.FunctionError
	}
	if wire.Value(in.LogType) == "Tail" {
		out.LogResult = new(base64.StdEncoding.EncodeToString(res.Tail()))
	}
	return out, nil
}

// refusal translates why a function did not run. None but the first is worth a retry, so none is a 5xx.
func refusal(err error) error {
	switch {
	case errors.Is(err, function.ErrBusy):
		return &fleet.Error{Kind: fleet.KindThrottled, Msg: "Rate Exceeded. " + err.Error(), Err: err}
	case errors.Is(err, function.ErrRole):
		return &fleet.Error{Kind: fleet.KindDenied, Msg: "The role defined for the function cannot be assumed by Lambda. " + err.Error(), Err: err}
	case errors.Is(err, function.ErrUnavailable), errors.Is(err, function.ErrRuntime), errors.Is(err, function.ErrCode):
		return &fleet.Error{Kind: fleet.KindInvalid, Msg: "The function was not run: " + err.Error(), Err: err}
	}
	return err
}

func (a *api) addPermission(ctx context.Context, in *AddPermissionInput) (*AddPermissionOutput, error) {
	name, err := unqualified(ctx, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	statement, err := a.functions.AddPermission(ctx, name, fleet.FunctionPermission{ID: in.StatementId, Service: in.Principal, Action: in.Action,
		SourceARN: wire.Value(in.SourceArn), SourceAccount: wire.Value(in.SourceAccount)}, wire.Value(in.RevisionId))
	return &AddPermissionOutput{Statement: &statement}, err
}

// unqualified is named for policies, which versions have none of.
func unqualified(ctx context.Context, text string, qualifier *string) (string, error) {
	if strings.HasSuffix(text, ":"+lambda.Latest) || wire.Value(qualifier) == lambda.Latest {
		return "", fleet.Invalid("", "", "We currently do not support adding policies for $LATEST.")
	}
	return named(ctx, text, qualifier)
}

func (a *api) removePermission(ctx context.Context, in *RemovePermissionInput) (*RemovePermissionOutput, error) {
	name, err := named(ctx, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return nil, a.functions.RemovePermission(ctx, name, in.StatementId, wire.Value(in.RevisionId))
}

func (a *api) getPolicy(ctx context.Context, in *GetPolicyInput) (*GetPolicyOutput, error) {
	name, err := named(ctx, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	text, revision, err := a.functions.Policy(ctx, name)
	return &GetPolicyOutput{Policy: &text, RevisionId: &revision}, err
}
