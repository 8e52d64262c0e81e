package hook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/lambda"
)

// trigger is a call of a user pool's.
func trigger(event string) Call {
	return Call{Scope: here, Function: here.ARN("lambda", "function:check"), Service: "cognito-idp.amazonaws.com", Source: here.ARN("cognito-idp", "userpool/us-east-1_A"),
		Event: []byte(event), Timeout: patient, Hide: map[string]string{"email": "ada@example.com"}}
}

func TestOtherServicesCallFunctions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
	for _, kind := range []fleet.FunctionKind{fleet.Webhook, fleet.Lambda} {
		f.register(kind, 0)
		answer, _, err := f.Call(t.Context(), trigger(`{"a":1}`))
		if string(answer) != `{"a":1}` || err != nil {
			t.Errorf("%s: %s, %v", kind, answer, err)
		}
	}
	f.answer = answering(200, `{"errorType":"Error","errorMessage":"no ada@example.com here"}`, "X-Amz-Function-Error", "Unhandled")
	_, _, err := f.Call(t.Context(), trigger(`{}`))
	var raised Raised
	if !errors.As(err, &raised) || raised.Message != "no ada@example.com here" || strings.Contains(err.Error(), "ada@") {
		t.Errorf("%v, %+v", err, raised)
	}
	f.put(NewFunction{Function: fleet.Function{Name: "rule", Kind: fleet.Rule, Rule: "true"}})
	c := trigger(`{}`)
	c.Function = here.ARN("lambda", "function:rule")
	if _, _, err := f.Call(t.Context(), c); err == nil || !strings.Contains(err.Error(), "cannot be asked this") {
		t.Errorf("a rule: %v", err)
	}
	c.Function = here.ARN("lambda", "function:none")
	if _, _, err := f.Call(t.Context(), c); fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("no such function: %v", err)
	}
	f.answer = func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }
	c = trigger(`{}`)
	c.Timeout = 50 * time.Millisecond
	if _, _, err := f.Call(t.Context(), c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow function: %v", err)
	}
	for range opensAfter {
		_, _, err = f.Call(t.Context(), c)
	}
	if !strings.Contains(err.Error(), "not called") {
		t.Errorf("after %d calls without an answer: %v", opensAfter, err)
	}
}

func TestAFunctionOfThisServerHasToPermitThePool(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.python(`event["seen"] = serial or "none"
return event`, patient)
	if _, _, err := f.Call(t.Context(), trigger(`{"parameters":{}}`)); !errors.Is(err, lambda.ErrNotPermitted) {
		t.Errorf("without a permission: %v", err)
	}
	ctx := fleet.WithCaller(t.Context(), &fleet.Caller{Scope: here})
	_, err := f.local.AddPermission(ctx, "check", fleet.FunctionPermission{ID: "pool", Service: "cognito-idp.amazonaws.com", Action: "lambda:InvokeFunction",
		SourceARN: here.ARN("cognito-idp", "userpool/us-east-1_A")}, "")
	must(t, err)
	f.wait()
	answer, _, err := f.Call(t.Context(), trigger(`{"parameters":{}}`))
	if err != nil || string(answer) != `{"parameters": {}, "seen": "none"}` {
		t.Errorf("%s, %v", answer, err)
	}
	other := trigger(`{"parameters":{}}`)
	other.Source = here.ARN("cognito-idp", "userpool/us-east-1_B")
	if _, _, err := f.Call(t.Context(), other); !errors.Is(err, lambda.ErrNotPermitted) {
		t.Errorf("for another pool: %v", err)
	}
}
