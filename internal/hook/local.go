package hook

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/provision"
)

// Functions are those that this server runs; *lambda.Service has them.
type Functions interface {
	// InvokeFor runs a function for a service that acts for a source. It fails with lambda.ErrNotPermitted and the errors of function.Runner.
	InvokeFor(ctx context.Context, s fleet.Scope, name string, event []byte, service, sourceARN string) (function.Result, error)
	// Forget ends the processes of a function that was deleted.
	Forget(s fleet.Scope, name string)
}

const iotService = "iot.amazonaws.com"

// callLocal has a function of this server run.
func (s *Service) callLocal(ctx context.Context, f fleet.Function, e provision.HookEvent) (provision.HookAnswer, error) {
	res, err := s.Local.InvokeFor(ctx, e.Scope, f.Name, payload(e), iotService, e.Scope.IoT("provisioningtemplate", e.TemplateName))
	switch {
	case ctx.Err() != nil:
		return provision.HookAnswer{}, ctx.Err()
	case errors.Is(err, lambda.ErrNotPermitted):
		return provision.HookAnswer{}, err
	case err != nil:
		return provision.HookAnswer{}, noAnswer("it was not run: %w", err)
	}
	wrote := prefixed("; it wrote ", tail(res.Log, e))
	switch {
	case timedOut(res):
		return provision.HookAnswer{}, noAnswer("it took longer than its timeout%s", wrote)
	case res.FunctionError != "":
		return provision.HookAnswer{}, wrong("%w%s", functionError(res.Payload, e), wrote)
	case len(res.Payload) > maxAnswer:
		return provision.HookAnswer{}, errAnswerTooLarge
	}
	a, err := decide(res.Payload)
	if err != nil {
		return a, wrong("%w%s", err, wrote)
	}
	a.Reason += wrote
	a.Reason = strings.TrimPrefix(a.Reason, "; ")
	return a, nil
}

// timedOut reports whether a function was ended for being slow, which is no answer.
func timedOut(r function.Result) bool {
	var raised struct{ ErrorType string }
	return r.FunctionError != "" && json.Unmarshal(r.Payload, &raised) == nil && raised.ErrorType == "Sandbox.Timedout"
}

// maxTail bounds what a trace shows of what a function wrote, in bytes.
const maxTail = 400

// tail is the end of what a function wrote, without the lines of the runner and the values that the device sent. "" if it wrote nothing.
func tail(log []byte, e provision.HookEvent) string {
	var own []string
	for line := range strings.Lines(string(log)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "START RequestId: ") && !strings.HasPrefix(line, "END RequestId: ") &&
			!strings.HasPrefix(line, "REPORT RequestId: ") {
			own = append(own, line)
		}
	}
	text := withoutValues(strings.Join(own, " | "), e)
	if len(text) > maxTail {
		text = "…" + strings.ToValidUTF8(text[len(text)-maxTail:], "")
	}
	if text == "" {
		return ""
	}
	return quoted(text)
}
