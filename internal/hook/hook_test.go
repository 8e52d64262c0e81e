package hook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

var here = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

const secret = "a secret of thirty-two characters"

// fixture is a service on a real store, with an HTTPS server that answers as the test says.
type fixture struct {
	*Service
	local  *lambda.Service
	t      testing.TB
	url    string
	answer http.HandlerFunc // set before the first call

	mu    sync.Mutex
	now   time.Time
	calls []string // "kind outcome"
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
	clock := fleet.Clock(func() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.now })
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, Clock: clock})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.answer(w, r) }))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	f.url = server.URL
	calls, err := egress.New(egress.Config{Allow: []string{"127.0.0.1"}, Roots: roots, Timeout: patient})
	must(t, err)
	runner := function.New(function.Config{Unsafe: true}) // what is tested here is what hooks make of them, on any machine
	t.Cleanup(runner.Close)
	sealer := pki.NewSealer([pki.KeySize]byte{1})
	f.local, err = lambda.New(lambda.Config{Store: db, Sealer: sealer, Roles: anyRole{}, Runner: runner, Dir: filepath.Join(t.TempDir(), "functions"), Clock: clock})
	must(t, err)
	f.Service = New(Config{Store: db, Sealer: sealer, Clock: clock, Local: f.local, HTTP: calls,
		OnCall: func(kind fleet.FunctionKind, outcome string, _ time.Duration) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.calls = append(f.calls, string(kind)+" "+outcome)
		}})
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := f.calls
	f.calls = nil
	return told
}

func (f *fixture) put(n NewFunction) fleet.Secret {
	f.t.Helper()
	_, made, err := f.PutFunction(f.t.Context(), here, n)
	must(f.t, err)
	return made
}

// patient is how long a function may take that has an answer: more than any may, since a busy machine takes its time to shake
// hands and to start an interpreter.
const patient = time.Minute

// register makes the function "check" of a kind that calls the fixture's server; timeout 0: patient.
func (f *fixture) register(kind fleet.FunctionKind, timeout time.Duration) {
	f.t.Helper()
	n := NewFunction{Secret: secret, Function: fleet.Function{Name: "check", Kind: kind, URL: f.url + "/provision", Timeout: timeout}}
	if kind == fleet.Lambda {
		n.URL, n.AccessKeyID, n.Remote, n.Region = f.url, "AKIAIOSFODNN7EXAMPLE", "real", "eu-west-1"
	}
	f.put(n)
	if timeout == 0 {
		f.wait()
	}
}

// wait lets the function "check" be patient.
func (f *fixture) wait() {
	f.t.Helper()
	must(f.t, f.Store.Tx(f.t.Context(), func(tx *store.Tx) error {
		check, err := tx.Function(here, "check")
		if err != nil {
			return err
		}
		check.Timeout = patient
		return tx.PutFunction(here, check)
	}))
}

func asked(params map[string]string) provision.HookEvent {
	return provision.HookEvent{Scope: here, TemplateName: "lamps", TargetARN: here.ARN("lambda", "function:check"), PayloadVersion: "2020-04-01",
		ClaimCertificateID: "claim", CertificateID: "new", CertificatePEM: "PEM\n", ClientID: "client", Parameters: params}
}

func answering(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Every kind that is called must pass.
func TestAnswersOfFunctionsThatAreCalled(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer    http.HandlerFunc
		allow     bool
		overrides map[string]string
		err       string // part of it
		only      fleet.FunctionKind
	}{
		"allowed":                     {answer: answering(200, `{"allowProvisioning":true}`), allow: true},
		"allowed by text":             {answer: answering(200, `{"allowProvisioning":"True","parameterOverrides":null}`), allow: true},
		"allowed with overrides":      {answer: answering(200, `{"allowProvisioning":true,"parameterOverrides":{"Serial":"9","Region":"x"},"more":[1]}`), allow: true, overrides: map[string]string{"Serial": "9", "Region": "x"}},
		"denied":                      {answer: answering(200, `{"allowProvisioning":false}`)},
		"denied with overrides":       {answer: answering(200, `{"allowProvisioning":false,"parameterOverrides":{"Serial":7}}`)},
		"denied by another word":      {answer: answering(200, `{"allowProvisioning":"SUCCEED"}`)},
		"denied by a number":          {answer: answering(200, `{"allowProvisioning":1}`)},
		"denied by null":              {answer: answering(200, `{"allowProvisioning":null}`)},
		"no decision":                 {answer: answering(200, `{}`), err: "has no allowProvisioning"},
		"a decision spelled wrong":    {answer: answering(200, `{"AllowProvisioning":true}`), err: "has no allowProvisioning"},
		"two decisions":               {answer: answering(200, `{"allowProvisioning":false,"allowProvisioning":true}`), err: "allowProvisioning twice"},
		"an override that is no text": {answer: answering(200, `{"allowProvisioning":true,"parameterOverrides":{"Serial":9}}`), err: "the override Serial is not text"},
		"an override that is null":    {answer: answering(200, `{"allowProvisioning":true,"parameterOverrides":{"Serial":null}}`), err: "the override Serial is not text"},
		"overrides that are a list":   {answer: answering(200, `{"allowProvisioning":true,"parameterOverrides":["Serial"]}`), err: "parameterOverrides is not a JSON object"},
		"a list":                      {answer: answering(200, `[true]`), err: "is not a JSON object"},
		"nothing":                     {answer: answering(200, ``), err: "is not a JSON object"},
		"half of it":                  {answer: answering(200, `{"allowProvisioning":true`), err: "is not JSON"},
		"more behind it":              {answer: answering(200, `{"allowProvisioning":true}{}`), err: "goes on"},
		"bytes":                       {answer: answering(200, "{\"allowProvisioning\":true,\"x\":\"\xff\"}"), err: "not UTF-8"},
		"huge":                        {answer: answering(200, `{"allowProvisioning":true,"x":"`+strings.Repeat("x", maxAnswer)+`"}`), err: "larger than 64 KiB"},
		"an error of the server":      {answer: answering(500, `serial 4711-secret broke me`), err: `500 Internal Server Error: "serial … broke me"`},
		"not found":                   {answer: answering(404, `{"allowProvisioning":true}`), err: "404"},
		"another success":             {answer: answering(202, `{"allowProvisioning":true}`), err: "202"},
		"a redirect":                  {answer: answering(307, ``, "Location", "/elsewhere"), err: "307"},
		"a connection that is cut":    {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, err: "cannot be reached"},
		"an exception": {answer: answering(200, `{"errorMessage":"no 4711-secret here","errorType":"KeyError","stackTrace":[]}`, "X-Amz-Function-Error", "Unhandled"),
			err: `the function failed: "KeyError": "no … here"`, only: fleet.Lambda},
		"an exception that allows": {answer: answering(200, `{"allowProvisioning":true}`, "X-Amz-Function-Error", "Unhandled"), err: "the function failed", only: fleet.Lambda},
	}
	for _, kind := range []fleet.FunctionKind{fleet.Webhook, fleet.Lambda} {
		for name, tt := range tests {
			if tt.only != "" && tt.only != kind {
				continue
			}
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				f.answer = tt.answer
				f.register(kind, 0)
				a, err := f.Invoke(t.Context(), asked(map[string]string{"Serial": "4711-secret"}))
				outcome := map[bool]string{true: Allowed, false: Denied}[tt.allow]
				switch {
				case tt.err != "":
					outcome = Failed
					if err == nil || !strings.Contains(err.Error(), tt.err) || a.Allow {
						t.Fatalf("%+v, %v; want %q", a, err, tt.err)
					}
				case err != nil || a.Allow != tt.allow || !maps.Equal(a.Overrides, tt.overrides) || !strings.Contains(a.Reason, "check at https://127.0.0.1:"):
					t.Fatalf("%+v, %v", a, err)
				}
				if text := fmt.Sprint(a, err); strings.Contains(text, "4711-secret") || strings.Contains(text, "/provision") {
					t.Errorf("the trace would show what it should not: %s", text)
				}
				if told := f.told(); len(told) != 1 || told[0] != string(kind)+" "+outcome {
					t.Errorf("counted %v, want %s", told, outcome)
				}
			})
		}
	}
}

const eventJSON = `{"claimCertificateId":"claim","certificateId":"new","certificatePem":"PEM\n","templateArn":"arn:aws:iot:us-east-1:000000000000:provisioningtemplate/lamps",` +
	`"clientId":"client","parameters":{"Serial":"4711"}}`

func TestAWebhookGetsTheEventAndAProofOfItsOrigin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := make(chan error, 1)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%d.%s", f.Clock.Now().Unix(), body)
		want := "v1=" + hex.EncodeToString(mac.Sum(nil))
		switch {
		case string(body) != eventJSON:
			got <- fmt.Errorf("the event is %s", body)
		case r.Method != "POST" || r.URL.Path != "/provision" || r.Header.Get("Content-Type") != "application/json":
			got <- fmt.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		case r.Header.Get("Imprint-Timestamp") != fmt.Sprint(f.Clock.Now().Unix()) || r.Header.Get("Imprint-Signature") != want:
			got <- fmt.Errorf("signed %v, want %s", r.Header, want)
		default:
			got <- nil
		}
		_, _ = io.WriteString(w, `{"allowProvisioning":true}`)
	}
	f.register(fleet.Webhook, 0)
	if a, err := f.Invoke(t.Context(), asked(map[string]string{"Serial": "4711"})); err != nil || !a.Allow {
		t.Errorf("%+v, %v", a, err)
	}
	must(t, <-got)
}

func TestALambdaEndpointGetsASignedInvocation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := make(chan error, 1)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		v := sigv4.Verifier{Region: "eu-west-1", Clock: f.Clock}
		_, err := v.Verify(r, body, []string{"lambda"}, func(s *sigv4.Signature) (fleet.Secret, error) {
			if s.AccessKeyID != "AKIAIOSFODNN7EXAMPLE" {
				return "", errors.New("another key")
			}
			return secret, nil
		})
		switch {
		case err != nil:
		case string(body) != eventJSON:
			err = fmt.Errorf("the event is %s", body)
		case r.URL.EscapedPath() != "/2015-03-31/functions/real/invocations" || r.URL.RawQuery != "Qualifier=live" || r.Header.Get("X-Amz-Invocation-Type") != "RequestResponse":
			err = fmt.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		got <- err
		_, _ = io.WriteString(w, `{"allowProvisioning":true}`)
	}
	f.register(fleet.Lambda, 0)
	e := asked(map[string]string{"Serial": "4711"})
	e.TargetARN += ":live"
	if a, err := f.Invoke(t.Context(), e); err != nil || !a.Allow {
		t.Errorf("%+v, %v", a, err)
	}
	must(t, <-got)
}

func TestASlowFunctionIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, kind := range []fleet.FunctionKind{fleet.Webhook, fleet.Lambda} {
		f := newFixture(t)
		came, gone := make(chan struct{}, 100), make(chan struct{}, 100)
		f.answer = func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client has gone
			if r.URL.Path == "/provision" {    // a webhook begins to answer
				_, _ = io.WriteString(w, `{"allowProv`)
				w.(http.Flusher).Flush()
			}
			came <- struct{}{}
			<-r.Context().Done()
			gone <- struct{}{}
		}
		for timeout := MinTimeout; len(came) == 0; timeout *= 2 { // a busy machine may not have asked by then
			f.pass(time.Millisecond)
			f.register(kind, timeout)
			a, err := f.Invoke(t.Context(), asked(nil))
			if err == nil || a.Allow || !strings.Contains(err.Error(), "gave no answer within "+timeout.String()) || !strings.Contains(a.Cure, "--timeout") {
				t.Fatalf("%s: %+v, %v", kind, a, err)
			}
		}
		<-gone

		// A device that goes says nothing about the function.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.Invoke(ctx, asked(nil)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestManyAreAskedAtTheSameTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		var e event
		if json.NewDecoder(r.Body).Decode(&e) != nil {
			w.WriteHeader(400)
			return
		}
		fmt.Fprintf(w, `{"allowProvisioning":%v,"parameterOverrides":{"Echo":%q}}`, e.Parameters["Serial"] != "7", e.Parameters["Serial"])
	}
	f.register(fleet.Webhook, 0)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			serial := fmt.Sprint(i)
			a, err := f.Invoke(t.Context(), asked(map[string]string{"Serial": serial}))
			if err != nil || a.Allow != (serial != "7") || a.Allow && a.Overrides["Echo"] != serial {
				t.Errorf("%s: %+v, %v", serial, a, err)
			}
		})
	}
	wg.Wait()
}

func TestOnlyListedAddressesAreCalled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var err error
	f.HTTP, err = egress.New(egress.Config{})
	must(t, err)
	f.register(fleet.Webhook, 0)
	a, err := f.Invoke(t.Context(), asked(nil))
	if err == nil || !strings.Contains(err.Error(), "is no public address") || !strings.Contains(a.Cure, "under egress-allow") {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestABrokenFunctionIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	status := make(chan int, 100)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(<-status)
		_, _ = io.WriteString(w, `{"allowProvisioning":true}`)
	}
	f.register(fleet.Webhook, 0)
	ask := func(answer int, want string) {
		t.Helper()
		if answer != 0 {
			status <- answer
		}
		_, _ = f.Invoke(t.Context(), asked(nil))
		if told := f.told(); told[0] != "webhook "+want || len(status) != 0 {
			t.Fatalf("got %v, want %s", told, want)
		}
	}
	states := func(want string) {
		t.Helper()
		if got := f.Circuits(); got[want] != 1 || got[Open]+got[Closed]+got[HalfOpen] != 1 {
			t.Fatalf("circuits %v, want %s", got, want)
		}
	}
	for range 20 { // what it answers, however wrong, is an answer
		ask(400, Failed)
	}
	for range opensAfter - 1 {
		ask(503, Failed)
	}
	ask(200, Allowed)
	for range opensAfter {
		ask(503, Failed)
	}
	states(Open)
	ask(0, Broken)
	if _, err := f.Invoke(t.Context(), asked(nil)); err == nil || !strings.Contains(err.Error(), "5 times in a row, the last time because: it answered 503") {
		t.Errorf("a broken function: %v", err)
	}
	f.told()
	f.pass(opensFor)
	states(HalfOpen)
	ask(500, Failed) // the one that tries
	ask(0, Broken)
	f.pass(opensFor)
	ask(200, Allowed)
	states(Closed)
	for range opensAfter {
		ask(429, Failed)
	}
	ask(0, Broken)
	f.pass(time.Millisecond)
	f.register(fleet.Webhook, 0) // somebody has mended it
	ask(200, Allowed)
}

func TestOneCallTriesWhetherAFunctionIsBack(t *testing.T) {
	t.Parallel()
	c := &circuit{}
	now := time.Now()
	for range opensAfter {
		must(t, c.enter(now))
		c.leave(now, noAnswer("x"))
	}
	now = now.Add(opensFor)
	must(t, c.enter(now))
	if c.enter(now) == nil {
		t.Error("two try")
	}
	c.leave(now, context.Canceled) // it has gone: the next one tries
	must(t, c.enter(now))
	c.leave(now, nil)
	must(t, c.enter(now))
	must(t, c.enter(now))
}

func TestRulesAskTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	if _, _, err := f.PutFunction(ctx, here, NewFunction{Function: fleet.Function{Name: "check", Kind: fleet.Rule, Rule: "in_table('serials', Serial)"}}); err == nil ||
		!strings.Contains(err.Error(), "the table serials, which does not exist") {
		t.Errorf("a rule without its table: %v", err)
	}
	for _, name := range []string{"serials", "blocked"} {
		if created, err := f.CreateTable(ctx, here, name); err != nil || !created {
			t.Fatal(created, err)
		}
	}
	if n, err := f.AddKeys(ctx, here, "serials", []string{"L-1", "L-2", "L-3"}); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := f.AddKeys(ctx, here, "blocked", []string{"L-3"}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.put(NewFunction{Function: fleet.Function{Name: "check", Kind: fleet.Rule, Rule: "in_table('serials', Serial) AND NOT in_table('blocked', Serial)"}})
	for serial, want := range map[string]struct {
		allow        bool
		reason, cure string
	}{
		"L-1": {true, "the rule is true; the table serials has the value of Serial; the table blocked lacks the value of Serial", ""},
		"L-3": {false, "the rule is not true; the table serials has the value of Serial; the table blocked has the value of Serial", ""},
		"L-9": {false, "the rule is not true; the table serials lacks the value of Serial", "imprint table put serials VALUE"},
		"":    {false, "the device sent no Serial", ""},
	} {
		params := map[string]string{"Serial": serial}
		if serial == "" {
			params = nil
		}
		a, err := f.Invoke(ctx, asked(params))
		if err != nil || a.Allow != want.allow || !strings.Contains(a.Reason, want.reason) || !strings.Contains(a.Cure, want.cure) || len(a.Overrides) != 0 ||
			serial != "" && strings.Contains(a.Reason+a.Cure, serial) {
			t.Errorf("%s: %+v, %v", serial, a, err)
		}
	}
	if n, err := f.RemoveKeys(ctx, here, "serials", []string{"L-1"}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if a, err := f.Invoke(ctx, asked(map[string]string{"Serial": "L-1"})); err != nil || a.Allow {
		t.Errorf("a key that was removed: %+v, %v", a, err)
	}
	must(t, f.DeleteTable(ctx, here, "serials"))
	must(t, f.Sweep(ctx, f.Clock.Now()))
	if a, err := f.Invoke(ctx, asked(map[string]string{"Serial": "L-2"})); err == nil || a.Allow || !strings.Contains(err.Error(), "in_table('serials')") {
		t.Errorf("a table that was deleted: %+v, %v", a, err)
	}
	if got := f.told(); got[len(got)-1] != "rule "+Failed {
		t.Errorf("counted %v", got)
	}
}

func TestKeysAndTablesAreChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	if _, err := f.CreateTable(ctx, here, "no spaces"); err == nil || fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("a name with a space: %v", err)
	}
	if created, err := f.CreateTable(ctx, here, "t"); !created || err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]string{{""}, {"a\x00"}, {"a\n"}, {"\xff"}, {strings.Repeat("a", maxKey+1)}, make([]string, MaxKeys+1)} {
		if _, err := f.AddKeys(ctx, here, "t", keys); err == nil || fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%.20q: %v", keys, err)
		}
	}
	if _, err := f.AddKeys(ctx, here, "none", []string{"a"}); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("no such table: %v", err)
	}
}
