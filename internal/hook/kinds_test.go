package hook

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/provision"
)

func TestMain(m *testing.M) {
	function.Main()
	os.Exit(m.Run())
}

// anyRole stands for IAM.
type anyRole struct{}

func (anyRole) PassRole(context.Context, *fleet.Caller, string, string) error { return nil }

// python makes the local function "check" of a handler's body. Its parameters are e, a helper, and serial.
func (f *fixture) python(body string, timeout time.Duration) {
	f.t.Helper()
	var code bytes.Buffer
	z := zip.NewWriter(&code)
	w, err := z.Create("app.py")
	must(f.t, err)
	fmt.Fprintf(w, "import json, os, sys, time\ndef handler(event, context):\n    serial = event['parameters'].get('Serial', '')\n    %s\n", strings.ReplaceAll(body, "\n", "\n    "))
	must(f.t, z.Close())
	ctx := fleet.WithCaller(f.t.Context(), &fleet.Caller{Scope: here})
	_, err = f.local.Create(ctx, "check", code.Bytes(), lambda.Change{Runtime: new("python3.12"), Handler: new("app.handler"), Role: new(here.IAM("role/r")), Timeout: &timeout}, nil)
	must(f.t, err)
	f.wait()
}

func (f *fixture) permit(source string) {
	f.t.Helper()
	ctx := fleet.WithCaller(f.t.Context(), &fleet.Caller{Scope: here})
	_, err := f.local.AddPermission(ctx, "check", fleet.FunctionPermission{ID: "iot", Service: "iot.amazonaws.com", Action: "lambda:InvokeFunction", SourceARN: source,
		SourceAccount: here.Account}, "")
	must(f.t, err)
	f.wait() // a change puts the time of hooks back
}

// A demand is what every kind of hook must do alike. A kind that cannot get into the situation has "" or nil.
type demand struct {
	server http.HandlerFunc // webhook and lambda
	python string           // local
	rule   string
	broken func(*fixture) // makes the rule fail

	allow     bool
	overrides map[string]string
	err       string // part of it, for those that are called
	slow      bool   // it never answers: it is not waited for long
}

var demands = map[string]demand{
	"allow": {server: answering(200, `{"allowProvisioning":true}`), python: `return {"allowProvisioning": True}`, rule: "Serial = '4711-secret'", allow: true},
	"deny":  {server: answering(200, `{"allowProvisioning":false}`), python: `return {"allowProvisioning": False}`, rule: "Serial = 'another'"},
	"override": {server: answering(200, `{"allowProvisioning":"true","parameterOverrides":{"Serial":"9","Site":"x"}}`),
		python: `return {"allowProvisioning": "true", "parameterOverrides": {"Serial": "9", "Site": "x"}}`, allow: true, overrides: map[string]string{"Serial": "9", "Site": "x"}},
	"a denial with overrides": {server: answering(200, `{"allowProvisioning":null,"parameterOverrides":{"Serial":9}}`),
		python: `return {"allowProvisioning": None, "parameterOverrides": {"Serial": 9}}`},
	"a number for a decision": {server: answering(200, `{"allowProvisioning":1}`), python: `return {"allowProvisioning": 1}`, rule: "1"},
	"overrides that are a list": {server: answering(200, `{"allowProvisioning":true,"parameterOverrides":["Serial"]}`),
		python: `return {"allowProvisioning": True, "parameterOverrides": ["Serial"]}`, err: "parameterOverrides is not a JSON object"},
	"an override that is no text": {server: answering(200, `{"allowProvisioning":true,"parameterOverrides":{"Serial":9}}`),
		python: `return {"allowProvisioning": True, "parameterOverrides": {"Serial": 9}}`, err: "the override Serial is not text"},
	"a list":  {server: answering(200, `[true]`), python: `return [True]`, err: "is not a JSON object"},
	"nothing": {server: answering(200, ``), python: `return`, err: "is not a JSON object"},
	"slow": {server: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		python: "print(serial)\ntime.sleep(60)", err: "gave no answer", slow: true},
	"crash": {server: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, python: "os._exit(3)", rule: "in_table('gone', Serial)",
		broken: func(f *fixture) { must(f.t, f.DeleteTable(f.t.Context(), here, "gone")) }, err: "check"},
	"an exception": {server: answering(500, `KeyError: 4711-secret`), python: `print("looking for", json.dumps(event))
raise KeyError(serial)`, err: "KeyError"},
	"a huge answer": {server: answering(200, `{"allowProvisioning":true,"x":"`+strings.Repeat("x", maxAnswer)+`"}`),
		python: `return {"allowProvisioning": True, "x": "x" * (64 << 10)}`, err: "larger than 64 KiB"},
	"huge output": {python: `print("4711-secret" * 200000)
return {"allowProvisioning": True}`, allow: true},
}

// register makes the function "check" of a kind; ok is false if it can't get into the situation.
func (d demand) register(f *fixture, kind fleet.FunctionKind) (ok bool) {
	f.t.Helper()
	switch {
	case kind == fleet.Local && d.python != "":
		limit := patient
		if d.slow {
			limit = time.Second
		}
		f.python(d.python, limit)
		f.permit("")
		return true
	case kind == fleet.Rule && d.rule != "":
		_, err := f.CreateTable(f.t.Context(), here, "gone")
		must(f.t, err)
		f.put(NewFunction{Function: fleet.Function{Name: "check", Kind: kind, Rule: d.rule}})
		if d.broken != nil {
			d.broken(f)
		}
		return true
	case (kind == fleet.Webhook || kind == fleet.Lambda) && d.server != nil:
		f.answer = d.server
		limit := time.Duration(0)
		if d.slow {
			limit = 500 * time.Millisecond
		}
		f.register(kind, limit)
		return true
	}
	return false
}

var everyKind = []fleet.FunctionKind{fleet.Webhook, fleet.Lambda, fleet.Rule, fleet.Local}

func TestEveryKindOfHookMeetsTheSameDemands(t *testing.T) {
	t.Parallel()
	for name, d := range demands {
		for _, kind := range everyKind {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				if !d.register(f, kind) {
					return
				}
				a, err := f.Invoke(t.Context(), asked(map[string]string{"Serial": "4711-secret"}))
				switch {
				case d.err != "" && (err == nil || a.Allow || !strings.Contains(err.Error(), d.err) && !strings.Contains(err.Error(), "took longer")):
					t.Errorf("%+v, %v; want %q", a, err, d.err)
				case d.err == "" && (err != nil || a.Allow != d.allow || !maps.Equal(a.Overrides, d.overrides)):
					t.Errorf("%+v, %v", a, err)
				}
				if text := fmt.Sprint(a.Reason, a.Cure, err); strings.Contains(text, "4711-secret") || len(text) > 2000 {
					t.Errorf("the trace would show what it should not: %s", text)
				}
			})
		}
	}
}

// Every device gets the decision about itself, and what one leaves behind in its process is of no use to another.
func TestEveryKindOfHookIsAskedByManyAtOnce(t *testing.T) {
	t.Parallel()
	d := demand{
		server: func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"allowProvisioning":%v}`, !bytes.Contains(body, []byte(`"Serial":"7"`)))
		},
		python: "global answer\nanswer = globals().get('answer', {'allowProvisioning': True})\nif serial == '7':\n    answer['allowProvisioning'] = False\nreturn answer",
		rule:   "Serial <> '7'",
	}
	for _, kind := range everyKind {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			d.register(f, kind)
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					serial := fmt.Sprint(i % 9)
					if a, err := f.Invoke(t.Context(), asked(map[string]string{"Serial": serial})); err != nil || a.Allow != (serial != "7") {
						t.Errorf("%s: %+v, %v", serial, a, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestALocalFunctionMustLetTheServiceInvokeIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.python(`return {"allowProvisioning": True}`, patient)
	ask := func() (provision.HookAnswer, error) { return f.Invoke(t.Context(), asked(nil)) }
	refused := func() {
		t.Helper()
		a, err := ask()
		if err == nil || a.Allow || !errors.Is(err, lambda.ErrNotPermitted) || !strings.Contains(a.Cure, "aws lambda add-permission --function-name check") {
			t.Errorf("%+v, %v", a, err)
		}
	}
	refused()
	ctx := fleet.WithCaller(t.Context(), &fleet.Caller{Scope: here})
	f.permit(here.IoT("provisioningtemplate", "other"))
	refused()
	must(t, f.local.RemovePermission(ctx, "check", "iot", ""))
	f.permit(here.ARN("iot", "*"))
	if a, err := ask(); err != nil || !a.Allow {
		t.Errorf("%+v, %v", a, err)
	}
	if err := f.DeleteFunction(t.Context(), here, "check"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.local.Function(ctx, "check"); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("a function that was deleted: %v", err)
	}
	if _, err := ask(); err == nil {
		t.Error("a function that was deleted answers")
	}
}

func TestALocalFunctionIsNotReplacedByAnotherKind(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.python("return", patient)
	_, _, err := f.PutFunction(t.Context(), here, NewFunction{Function: fleet.Function{Name: "check", Kind: fleet.Rule, Rule: "true"}})
	if err == nil || fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), "imprint function delete check") {
		t.Errorf("%v", err)
	}
}
