package function

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

var languages = []string{"python", "node", "go"}

// Every language does the same for the same event.
func TestFunctionsAnswer(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			c := subject(t, lang)
			for _, step := range []struct{ event, want string }{
				{`{"case":"allow"}`, `{"allowProvisioning":true}`},
				{`{"case":"deny"}`, `{"allowProvisioning":false}`},
				{`{"case":"override","room":"7"}`, `{"allowProvisioning":true,"parameterOverrides":{"Room":"7"}}`},
				{`{"case":"text"}`, `"yes"`},
				{`{"case":"count"}`, `1`},
				{`{"case":"count"}`, `1`}, // nothing of the first one is left
				{`{"case":"closed"}`, `{"allowProvisioning":true}`},
			} {
				res := ask(t, r, c, step.event)
				if got := strings.ReplaceAll(string(res.Payload), " ", ""); got != step.want || res.FunctionError != "" {
					t.Errorf("%s: %q %s, want %s\n%s", step.event, res.FunctionError, res.Payload, step.want, res.Log)
				}
			}
		})
	}
}

func TestFunctionsFail(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	any := func(string) bool { return true }
	for lang, steps := range map[string][]struct {
		event, kind string
		says        func(string) bool
	}{
		"python": {
			{`{"case":"raise"}`, "ValueError", is("boom")},
			{`{"case":"exit"}`, "Runtime.ExitError", has("Runtime exited with error: exit status 3")},
			{`{"case":"crash"}`, "Runtime.ExitError", has("signal: segmentation fault")},
			{`{"case":"unserialisable"}`, "Runtime.MarshalError", is("Unable to marshal response: Object of type set is not JSON serializable")},
			{`{"case":"huge"}`, "Function.ResponseSizeTooLarge", any},
			{`{"case":"loop"}`, "Sandbox.Timedout", has("Task timed out after 1.00 seconds")},
			{`{}`, "KeyError", is("'case'")},
		},
		"node": {
			{`{"case":"raise"}`, "RangeError", is("boom")},
			{`{"case":"exit"}`, "Runtime.ExitError", has("Runtime exited with error: exit status 3")},
			{`{"case":"crash"}`, "Runtime.ExitError", has("signal:")},
			{`{"case":"unserialisable"}`, "Runtime.MarshalError", has("circular")},
			{`{"case":"huge"}`, "Function.ResponseSizeTooLarge", any},
			{`{"case":"loop"}`, "Sandbox.Timedout", has("Task timed out after 1.00 seconds")},
			{`{"case":"rejected later"}`, "Runtime.UnhandledPromiseRejection", is("later")},
		},
		"go": {
			{`{"case":"raise"}`, "errorString", is("boom")},
			{`{"case":"exit"}`, "Runtime.ExitError", has("Runtime exited with error: exit status 3")},
			{`{"case":"crash"}`, "Runtime.ExitError", has("Runtime exited with error: exit status 2")},
			{`{"case":"huge"}`, "Function.ResponseSizeTooLarge", any},
			{`{"case":"loop"}`, "Sandbox.Timedout", has("Task timed out after 1.00 seconds")},
		},
	} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			c := subject(t, lang)
			for _, step := range steps {
				if c.Timeout = longTimeout; strings.Contains(step.event, "loop") {
					c.Timeout = time.Second
				}
				res := ask(t, r, c, step.event)
				var e struct{ ErrorType, ErrorMessage string }
				if err := json.Unmarshal(res.Payload, &e); err != nil {
					t.Errorf("%s: %s: %v", step.event, res.Payload, err)
				}
				if res.FunctionError != "Unhandled" || e.ErrorType != step.kind || !step.says(e.ErrorMessage) {
					t.Errorf("%s: %q %s, want %s\n%s", step.event, res.FunctionError, res.Payload, step.kind, res.Log)
				}
			}
			c.Timeout = longTimeout
			if res := ask(t, r, c, `{"case":"allow"}`); res.FunctionError != "" {
				t.Errorf("after all that: %s", res.Payload)
			}
		})
	}
}

func is(want string) func(string) bool { return func(s string) bool { return s == want } }
func has(want string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, want) }
}

// What AWS says about code that cannot be loaded, it says in the payload.
func TestCodeThatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	python := map[string]string{
		"app.py": "def handler(e, c): pass", "needs.py": "import nothing_of_this_name", "broken.py": "def handler(:", "raises.py": "1/0",
		"exits.py": "import sys; sys.exit(4)", "sub/app.py": "def handler(e, c): return 'sub'",
	}
	node := map[string]string{
		"index.js": "exports.handler = 1", "needs.js": "require('nothing-of-this-name')", "broken.js": "exports.handler = (", "raises.js": "throw new RangeError('boom')",
		"esm.mjs": "export const handler = async () => 'esm'", "old.cjs": "exports.handler = async () => 'old'",
	}
	for _, c := range []struct {
		files                  map[string]string
		runtime, handler, want string
	}{
		{python, "python3.11", "sub/app.handler", `"sub"`},
		{python, "python3.11", "app.other", "Runtime.HandlerNotFound: Handler 'other' missing on module 'app'"},
		{python, "python3.11", "handler", "Runtime.MalformedHandlerName: Bad handler 'handler': not enough values to unpack (expected 2, got 1)"},
		{python, "python3.11", "", "Runtime.MalformedHandlerName: Bad handler ''"},
		{python, "python3.11", "none.handler", "Runtime.ImportModuleError: Unable to import module 'none': No module named 'none'"},
		{python, "python3.11", "needs.handler", "Runtime.ImportModuleError: Unable to import module 'needs': No module named 'nothing_of_this_name'"},
		{python, "python3.11", "broken.handler", "Runtime.UserCodeSyntaxError: Syntax error in module 'broken': invalid syntax"},
		{python, "python3.11", "raises.handler", "ZeroDivisionError: division by zero"},
		{python, "python3.11", "exits.handler", "Runtime.ExitError: Error: Runtime exited with error: exit status 4"},
		{node, "nodejs20.x", "esm.handler", `"esm"`},
		{node, "nodejs20.x", "old.handler", `"old"`},
		{node, "nodejs20.x", "index.handler", "Runtime.HandlerNotFound: index.handler is not a function"},
		{node, "nodejs20.x", "index.other", "Runtime.HandlerNotFound: index.other is undefined or not exported"},
		{node, "nodejs20.x", "index", "Runtime.MalformedHandlerName: Bad handler"},
		{node, "nodejs20.x", "../x.handler", "Runtime.MalformedHandlerName: Bad handler"},
		{node, "nodejs20.x", "none.handler", "Runtime.ImportModuleError: Error: Cannot find module 'none'"},
		{node, "nodejs20.x", "needs.handler", "Runtime.ImportModuleError: Error: Cannot find module 'nothing-of-this-name'"},
		{node, "nodejs20.x", "broken.handler", "Runtime.UserCodeSyntaxError: SyntaxError:"},
		{node, "nodejs20.x", "raises.handler", "RangeError: boom"},
		{map[string]string{"other": ""}, "provided.al2023", "x", "Runtime.InvalidEntrypoint: "},
		{map[string]string{"bootstrap": "#!/bin/sh\nexit 5"}, "provided.al2023", "x", "Runtime.ExitError: Error: Runtime exited with error: exit status 5"},
	} {
		res := ask(t, r, Code{Name: "f", Dir: write(t, c.files), Runtime: c.runtime, Handler: c.handler}, `{}`)
		got := string(res.Payload)
		if res.FunctionError != "" {
			var e struct{ ErrorType, ErrorMessage string }
			_ = json.Unmarshal(res.Payload, &e)
			got = e.ErrorType + ": " + e.ErrorMessage
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s: %s, want %s\n%s", c.runtime, c.handler, got, c.want, res.Log)
		}
	}
	c := subject(t, "go")
	c.Environment["TEST_HANDLER"] = "init"
	if res := ask(t, r, c, `{}`); string(res.Payload) != `{"errorType":"Own.Init","errorMessage":"not today"}` {
		t.Errorf("init error: %s", res.Payload)
	}
}

func TestTheContextOfAHandler(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			res := ask(t, r, subject(t, lang), `{"case":"context"}`)
			var got, want map[string]any
			_ = json.Unmarshal(res.Payload, &got)
			want = map[string]any{
				"id": res.RequestID, "name": "check", "arn": testARN + "-" + lang, "memory": "128", "left": true, "region": "eu-central-1", "own": "mine",
				"version": "$LATEST", "root": "/var/task",
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v\nwant %v\n%s", got, want, res.Log)
			}
		})
	}
}

func TestCallbacksOfNode(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	dir := write(t, map[string]string{"index.js": file(t, "index.js")})
	for handler, want := range map[string]string{
		"index.callback": `{"called":"x"}`, "index.early": `"early"`, "index.deep.down.handler": `"deep"`,
		"index.callbackError": `TypeError`, "index.handler": "null",
	} {
		res := ask(t, r, Code{Name: handler, Dir: dir, Runtime: "nodejs20.x", Handler: handler}, `{"case":"x"}`)
		if !strings.Contains(string(res.Payload), want) || (res.FunctionError != "") != (want == "TypeError") {
			t.Errorf("%s: %s %s", handler, res.FunctionError, res.Payload)
		}
	}
	c := Code{Name: "n", Dir: dir, Runtime: "nodejs20.x", Handler: "index.handler"}
	if res := ask(t, r, c, `{"case":"nothing to do"}`); string(res.Payload) != "null" {
		t.Errorf("a promise that nothing will keep: %s", res.Payload)
	}
}

func TestTheLogOfAnInvocationIsItsOwnAndBounded(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			c := subject(t, lang)
			for _, lines := range []int{3, 0, 100_000} {
				res := ask(t, r, c, fmt.Sprintf(`{"case":"log","lines":%d}`, lines))
				if res.FunctionError != "" {
					t.Fatalf("%s\n%s", res.Payload, res.Log)
				}
				got := strings.Split(strings.TrimSuffix(string(res.Log), "\n"), "\n")
				first, last := got[0], got[len(got)-1]
				if first != "START RequestId: "+res.RequestID+" Version: $LATEST" || !strings.HasPrefix(last, "REPORT RequestId: "+res.RequestID+"\tDuration: ") {
					t.Errorf("%d lines: first %q, last %q", lines, first, last)
				}
				story := got[1 : len(got)-2]
				switch {
				case lines <= 3:
					if len(story) != lines {
						t.Errorf("%d lines: %q", lines, story)
					}
				case len(res.Log) > MaxLog+512:
					t.Errorf("%d bytes of log", len(res.Log))
				case story[len(story)-1] != fmt.Sprintf("line %06d of a long story", lines-1) || !strings.HasSuffix(story[0], "bytes before this are not kept]"):
					t.Errorf("%d lines: %q … %q", lines, story[0], story[len(story)-1])
				}
			}
		})
	}
	res := ask(t, r, subject(t, "python"), `{"case":"logging"}`)
	if want := "[INFO]\t"; !strings.Contains(string(res.Log), want) || !strings.Contains(string(res.Log), res.RequestID+"\tan info\n") {
		t.Errorf("logging: %s", res.Log)
	}
	if res := ask(t, r, subject(t, "python"), `{"case":"raise"}`); !strings.Contains(string(res.Payload), "in handler") || !strings.Contains(string(res.Log), "[ERROR] ValueError: boom\nTraceback") {
		t.Errorf("a trace names the line: %s\n%s", res.Payload, res.Log)
	}
}

func TestInvocationsOfAFunctionRunSideBySide(t *testing.T) {
	t.Parallel()
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			r := world(t, Config{Concurrent: 4})
			c := subject(t, lang)
			c.Timeout = MaxTimeout
			ctx, cancel := context.WithCancel(context.Background())
			var all sync.WaitGroup
			defer all.Wait()
			defer cancel()
			for range 3 {
				all.Go(func() {
					if res, err := r.Invoke(ctx, c, []byte(`{"case":"sleep","seconds":800}`)); !errors.Is(err, context.Canceled) {
						t.Errorf("%s, %v", res.Payload, err)
					}
				})
			}
			until(t, func() bool { return r.working() == 3 })
		})
	}
}

// working counts the processes that have an event and have not answered it yet.
func (r *Runner) working() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.all {
		w.mu.Lock()
		if w.current != nil {
			n++
		}
		w.mu.Unlock()
	}
	return n
}

func TestOneProcessAnswersManyEventsIfTheFunctionAllowsIt(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			c := subject(t, lang)
			c.Reuse = true
			for i := range 3 {
				res := ask(t, r, c, `{"case":"count"}`)
				if string(res.Payload) != fmt.Sprint(i+1) || res.Cold != (i == 0) {
					t.Errorf("event %d: %s, cold %v", i, res.Payload, res.Cold)
				}
				if strings.Count(string(res.Log), "START") != 1 {
					t.Errorf("event %d has the log of another one: %s", i, res.Log)
				}
			}
		})
	}
}

// A fork would lose threads and children, so such a module gets a process for each event.
func TestModulesThatCannotBeForkedGetAProcessForEachEvent(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for name, start := range map[string]string{
		"thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
		"child":  "import subprocess\nsubprocess.Popen(['sleep', '600'])",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Code{Name: name, ARN: name, Dir: write(t, map[string]string{"app.py": start + `
seen = []
def handler(event, context):
    import threading, os
    seen.append(1)
    return [len(seen), threading.active_count(), os.getpid()]
`}), Runtime: "python3.11", Handler: "app.handler"}
			want := "[1, 1, 1]"
			if name == "thread" {
				want = "[1, 2, 1]"
			}
			for range 3 {
				if res := ask(t, r, c, `{}`); string(res.Payload) != want {
					t.Errorf("%s, want %s\n%s", res.Payload, want, res.Log)
				}
			}
		})
	}
}

func TestForksDrawNumbersOfTheirOwn(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	c := subject(t, "python")
	if a, b := ask(t, r, c, `{"case":"random"}`), ask(t, r, c, `{"case":"random"}`); string(a.Payload) == string(b.Payload) {
		t.Errorf("twice %s", a.Payload)
	}
}

func TestCodeCanBeLoadedBeforeItsFirstEvent(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	c := subject(t, "python")
	for range 2 {
		if err := r.Warm(c); err != nil {
			t.Fatal(err)
		}
		until(t, r.ready)
	}
	if n := r.count(); n != 1 {
		t.Errorf("%d processes", n)
	}
	if res := ask(t, r, c, `{"case":"allow"}`); res.Cold {
		t.Error("the first event still waited for it")
	}
	if err := r.Warm(Code{Runtime: "go1.x"}); !errors.Is(err, ErrRuntime) {
		t.Errorf("a runtime that is none: %v", err)
	}
}

func TestChangedCodeIsLoaded(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for i, source := range []string{"def handler(e, c): return 1", "def handler(e, c): return 2"} {
		c := Code{Name: "f", ARN: testARN, Dir: write(t, map[string]string{"app.py": source}), Runtime: "python3.11", Handler: "app.handler"}
		if res := ask(t, r, c, `{}`); string(res.Payload) != fmt.Sprint(i+1) {
			t.Errorf("version %d: %s", i+1, res.Payload)
		}
		if n := r.count(); n != 1 {
			t.Errorf("version %d: %d processes, the old code stays loaded", i+1, n)
		}
	}
	r.Forget(testARN)
	if n := r.count(); n != 0 {
		t.Errorf("%d processes of a function that is gone", n)
	}
}

func (r *Runner) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// brief is a context whose time is over when the test says so.
type brief struct {
	context.Context
	over chan struct{}
}

func (b *brief) Done() <-chan struct{} { return b.over }

func (b *brief) Err() error {
	select {
	case <-b.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestWhoComesTooManyIsTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	outcomes := map[string]int{}
	r := world(t, Config{Concurrent: 1, Queue: 1, OnInvoke: func(outcome string, _ bool, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		outcomes[outcome]++
	}})
	c := subject(t, "python")
	c.Timeout = MaxTimeout
	running, stop := context.WithCancel(context.Background())
	first := make(chan error)
	go func() {
		_, err := r.Invoke(running, c, []byte(`{"case":"sleep","seconds":800}`))
		first <- err
	}()
	until(t, func() bool { return len(r.slots) > 0 })
	second := make(chan error)
	brief := &brief{Context: context.Background(), over: make(chan struct{})}
	go func() {
		_, err := r.Invoke(brief, c, []byte(`{}`))
		second <- err
	}()
	until(t, func() bool { return r.waiting.Load() > 0 })
	if _, err := r.Invoke(context.Background(), c, []byte(`{}`)); !errors.Is(err, ErrBusy) {
		t.Errorf("the third: %v", err)
	}
	close(brief.over)
	if err := <-second; !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second: %v", err)
	}
	stop()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	if n := r.count(); n != 0 {
		t.Errorf("%d processes after the caller has left", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if outcomes[Refused] != 2 || outcomes[Canceled] != 1 {
		t.Errorf("outcomes %v", outcomes)
	}
}

func TestWhatCannotRunIsRefused(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for _, c := range []struct {
		code    Code
		payload int
		kind    error
		says    string
	}{
		{Code{Runtime: "go1.x"}, 2, ErrRuntime, "use provided.al2023"},
		{Code{Runtime: "java21"}, 2, ErrRuntime, "none of python3.*, nodejs*.x and provided.al2023"},
		{Code{Runtime: "python2.7"}, 2, ErrRuntime, "none of"},
		{Code{Runtime: "provided.al2023"}, MaxPayload + 1, ErrCode, "larger than"},
		{Code{Runtime: "provided.al2023", Memory: 64}, 2, ErrCode, "64 MiB"},
		{Code{Runtime: "provided.al2023", Timeout: time.Hour}, 2, ErrCode, "1h0m0s"},
	} {
		if _, err := r.Invoke(context.Background(), c.code, make([]byte, c.payload)); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.code, err)
		}
	}
	if c, err := r.check(Code{Runtime: "provided.al2023"}, nil); err != nil || c.Timeout != 3*time.Second || c.Memory != MinMemory {
		t.Errorf("what is left out is as in AWS: %v, %+v", err, c)
	}
	none := world(t, Config{Path: []string{t.TempDir()}})
	if _, err := none.Invoke(context.Background(), subject(t, "python"), []byte(`{}`)); !errors.Is(err, ErrRuntime) || !strings.Contains(err.Error(), "install it") {
		t.Errorf("without an interpreter: %v", err)
	}
}
