package hook

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/lambda"
)

// Functions are those that this server runs; *lambda.Service has them.
type Functions interface {
	// InvokeFor runs a function for a service that acts for a source. It fails with lambda.ErrNotPermitted and the errors of function.Runner.
	InvokeFor(ctx context.Context, s fleet.Scope, name string, event []byte, service, sourceARN string) (function.Result, error)
	// Forget ends the processes of a function that was deleted.
	Forget(s fleet.Scope, name string)
}

const iotService = "iot.amazonaws.com"

// callLocal has a function of this server run. wrote is the end of what it wrote, to be shown.
func (s *Service) callLocal(ctx context.Context, f fleet.Function, q request) (answer []byte, wrote string, err error) {
	res, err := s.Local.InvokeFor(ctx, q.scope, f.Name, q.body, q.service, q.source)
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case errors.Is(err, lambda.ErrNotPermitted):
		return nil, "", err
	case err != nil:
		return nil, "", noAnswer("it was not run: %w", err)
	}
	wrote = prefixed("; it wrote ", q.tail(res.Log))
	switch {
	case timedOut(res):
		return nil, "", noAnswer("it took longer than its timeout%s", wrote)
	case res.FunctionError != "":
		return nil, "", wrong("%w%s", functionError(res.Payload, q), wrote)
	case len(res.Payload) > maxAnswer:
		return nil, "", errAnswerTooLarge
	}
	return res.Payload, wrote, nil
}

// timedOut reports whether a function was ended for being slow, which is no answer.
func timedOut(r function.Result) bool {
	var raised struct{ ErrorType string }
	return r.FunctionError != "" && json.Unmarshal(r.Payload, &raised) == nil && raised.ErrorType == "Sandbox.Timedout"
}

// maxTail bounds what a trace shows of what a function wrote, in bytes.
const maxTail = 400

// tail is the end of what a function wrote, without the lines of the runner and the values that were sent. "" if it wrote nothing.
func (q request) tail(log []byte) string {
	var own strings.Builder
	for line := range strings.Lines(string(log)) {
		if bare := strings.TrimSpace(line); !strings.HasPrefix(bare, "START RequestId: ") && !strings.HasPrefix(bare, "END RequestId: ") && !strings.HasPrefix(bare, "REPORT RequestId: ") {
			own.WriteString(line)
		}
	}
	var lines []string
	for line := range strings.Lines(q.withoutValues(own.String())) { // a value may have several lines, and blanks around it
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, " | ")
	if len(text) > maxTail {
		text = "…" + strings.ToValidUTF8(text[len(text)-maxTail:], "")
	}
	if text == "" {
		return ""
	}
	return quoted(text)
}
