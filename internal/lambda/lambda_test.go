package lambda

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

var (
	here  = fleet.Scope{Account: "000000000000", Region: "us-east-1"}
	there = fleet.Scope{Account: "111122223333", Region: "us-east-1"}
)

// fixture is a service on a real store. Its functions run in the test: what package function does with them is tested there.
type fixture struct {
	*Service
	t   testing.TB
	ctx context.Context // of a caller here

	mu        sync.Mutex
	now       time.Time
	forgotten []string
	run       func(function.Code, []byte) (function.Result, error)
	roleError error
}

func (f *fixture) Invoke(_ context.Context, c function.Code, event []byte) (function.Result, error) {
	return f.run(c, event)
}

func (f *fixture) CheckRuntime(name string) error {
	if !strings.HasPrefix(name, "python3.") {
		return fmt.Errorf("%w: %q is none", function.ErrRuntime, name)
	}
	return nil
}

func (f *fixture) Forget(arn string) { f.forgotten = append(f.forgotten, arn) }

func (f *fixture) PassRole(context.Context, *fleet.Caller, string, string) error { return f.roleError }

// fake keeps the methods of the fixture that are borders apart from those of the service.
type fake struct{ *fixture }

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), ctx: fleet.WithCaller(t.Context(), &fleet.Caller{Scope: here})}
	clock := fleet.Clock(func() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.now })
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, Clock: clock})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	f.Service = f.open(db, filepath.Join(t.TempDir(), "functions"), clock)
	f.run = func(c function.Code, event []byte) (function.Result, error) {
		app, err := os.ReadFile(filepath.Join(c.Dir, "app.py"))
		return function.Result{Payload: fmt.Appendf(nil, "%q", string(app)+" "+c.Environment["COLOR"]+" "+string(event)), RequestID: "id"}, err
	}
	return f
}

func (f *fixture) open(db *store.DB, dir string, clock fleet.Clock) *Service {
	f.t.Helper()
	s, err := New(Config{Store: db, Sealer: pki.NewSealer([pki.KeySize]byte{1}), Roles: fake{f}, Runner: fake{f}, Dir: dir, Clock: clock})
	must(f.t, err)
	return s
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) code(content string) []byte { return zipped(f.t, part{"app.py", content, 0}) }

func full(environment map[string]string) Change {
	return Change{Runtime: new("python3.12"), Handler: new("app.handler"), Role: new(here.IAM("role/r")), Environment: environment}
}

func (f *fixture) create(name, content string) fleet.LocalFunction {
	f.t.Helper()
	fn, err := f.Create(f.ctx, name, f.code(content), full(map[string]string{"COLOR": "blue"}), map[string]string{"of": "me"})
	must(f.t, err)
	return fn
}

func (f *fixture) says(name, want string) {
	f.t.Helper()
	res, err := f.Service.Invoke(f.t.Context(), here, name, []byte("{}"))
	if err != nil || string(res.Payload) != fmt.Sprintf("%q", want) {
		f.t.Errorf("%s, %v; want %q", res.Payload, err, want)
	}
}

func (f *fixture) wantError(err error, kind fleet.Kind, text string) {
	f.t.Helper()
	if err == nil || fleet.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		f.t.Errorf("got %v, want %v: %q", err, kind, text)
	}
}

func TestTheLifeOfAFunction(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made := f.create("check", "one")
	if made.Timeout != 3*time.Second || made.Memory != 128 || made.Storage != 512 || made.Architecture != "x86_64" || made.Revision == "" || !made.Modified.Equal(f.now) {
		t.Errorf("%+v", made)
	}
	f.says("check", "one blue {}")
	_, err := f.Create(f.ctx, "check", f.code("x"), full(nil), nil)
	f.wantError(err, fleet.KindExists, "Function already exist: check")

	// A change holds for the next invocation, and each is another revision.
	f.pass(time.Second)
	two, err := f.UpdateCode(f.ctx, "check", f.code("two"), nil, made.Revision, false)
	must(t, err)
	f.says("check", "two blue {}")
	_, err = f.UpdateCode(f.ctx, "check", f.code("three"), nil, made.Revision, false)
	f.wantError(err, fleet.KindVersion, "does not match the latest RevisionId")
	_, err = f.UpdateConfiguration(f.ctx, "check", Change{Revision: made.Revision})
	f.wantError(err, fleet.KindVersion, "")
	f.says("check", "two blue {}")
	dry, err := f.UpdateCode(f.ctx, "check", f.code("three"), nil, "", true)
	if err != nil || dry.Code == two.Code || dry.Revision != two.Revision {
		t.Errorf("a dry run: %+v, %v", dry, err)
	}
	f.says("check", "two blue {}")
	changed, err := f.UpdateConfiguration(f.ctx, "check", Change{Environment: map[string]string{"COLOR": "red"}, Timeout: new(time.Minute), Memory: new(256), Description: new("d")})
	must(t, err)
	f.says("check", "two red {}")
	if changed.Timeout != time.Minute || changed.Memory != 256 || changed.Handler != "app.handler" || changed.Revision == two.Revision || changed.Modified.Equal(made.Modified) {
		t.Errorf("%+v", changed)
	}
	must(t, f.View(t.Context(), func(tx *store.Tx) error {
		hook, err := tx.Function(here, "check")
		if hook.Kind != fleet.Local || hook.Timeout != 5*time.Second {
			t.Errorf("as a hook: %+v", hook)
		}
		return err
	}))
	if _, err := f.UpdateConfiguration(f.ctx, "check", Change{Environment: map[string]string{}}); err != nil {
		t.Error(err)
	}
	f.says("check", "two  {}")

	// Other accounts know nothing of it, and may have one of that name.
	stranger := fleet.WithCaller(t.Context(), &fleet.Caller{Scope: there})
	_, err = f.Function(stranger, "check")
	f.wantError(err, fleet.KindNotFound, "Function not found: arn:aws:lambda:us-east-1:111122223333:function:check")
	_, err = f.Create(stranger, "check", f.code("theirs"), full(nil), nil)
	must(t, err)
	f.says("check", "two  {}")

	must(t, f.Delete(f.ctx, "check"))
	if want := ARN(here, "check"); len(f.forgotten) != 1 || f.forgotten[0] != want {
		t.Errorf("forgotten: %v", f.forgotten)
	}
	_, err = f.Service.Invoke(t.Context(), here, "check", nil)
	f.wantError(err, fleet.KindNotFound, "")
	f.wantError(f.Delete(f.ctx, "check"), fleet.KindNotFound, "")
	again := f.create("check", "again")
	if tags, err := f.Tags(f.ctx, "check"); err != nil || !maps.Equal(tags, map[string]string{"of": "me"}) || len(again.Permissions) != 0 {
		t.Errorf("%v, %v, %+v", tags, err, again)
	}
}

func TestWhatIsWrongWithAFunctionIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	zip := f.code("x")
	try := func(name string, zip []byte, change func(*Change)) error {
		c := full(nil)
		change(&c)
		_, err := f.Create(f.ctx, name, zip, c, nil)
		return err
	}
	same := func(*Change) {}
	f.wantError(try("a b", zip, same), fleet.KindInvalid, "1 to 64 letters")
	f.wantError(try("a", nil, same), fleet.KindInvalid, "ZipFile")
	f.wantError(try("a", []byte("text"), same), fleet.KindInvalid, "Could not unzip")
	f.wantError(try("a", zip, func(c *Change) { c.Handler = nil }), fleet.KindInvalid, "mandatory")
	f.wantError(try("a", zip, func(c *Change) { c.Runtime = nil }), fleet.KindInvalid, "mandatory")
	f.wantError(try("a", zip, func(c *Change) { c.Runtime = new("java21") }), fleet.KindInvalid, `"java21" is none`)
	f.wantError(try("a", zip, func(c *Change) { c.Timeout = new(901 * time.Second) }), fleet.KindInvalid, "less than or equal to 900")
	f.wantError(try("a", zip, func(c *Change) { c.Environment = map[string]string{"AWS_REGION": "x", "_HANDLER": "y"} }), fleet.KindInvalid, "in this request: AWS_REGION, _HANDLER")
	large := try("a", zip, func(c *Change) { c.Environment = map[string]string{"A": strings.Repeat("secret", 700)} })
	f.wantError(large, fleet.KindInvalid, "4KB limit")
	if strings.Contains(large.Error(), "secret") {
		t.Errorf("a value is told: %v", large)
	}
	f.roleError = fleet.Denied("not yours")
	f.wantError(try("a", zip, same), fleet.KindDenied, "not yours")
	f.roleError = fleet.Invalid("role", "r", "no trust")
	f.wantError(try("a", zip, same), fleet.KindInvalid, "cannot be assumed by Lambda")
	f.roleError = nil
	_, err := f.Create(f.ctx, "a", zip, full(nil), map[string]string{"aws:x": "y"})
	f.wantError(err, fleet.KindInvalid, "aws:x")
	if _, err := f.Function(f.ctx, "a"); err == nil {
		t.Error("one was made all the same")
	}
	must(t, f.Store.Tx(t.Context(), func(tx *store.Tx) error {
		return tx.PutFunction(here, fleet.Function{Name: "a", Kind: fleet.Rule, Rule: "true", Timeout: time.Second})
	}))
	f.wantError(try("a", zip, same), fleet.KindExists, "It is a rule: imprint function delete a")
	_, err = f.UpdateCode(f.ctx, "a", zip, nil, "", false)
	f.wantError(err, fleet.KindNotFound, "")
}

func TestVariablesAreSealed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create("check", "x")
	stored := func() fleet.LocalFunction {
		fn, err := f.Function(f.ctx, "check")
		must(t, err)
		return fn
	}
	if bytes.Contains(stored().Environment, []byte("blue")) {
		t.Error("a value lies open in the store")
	}
	moved := stored()
	moved.Name = "other"
	if _, err := f.Environment(here, moved); err == nil {
		t.Error("variables open for another function")
	}
	newer := pki.NewSealer([pki.KeySize]byte{2}, [pki.KeySize]byte{1})
	if n, err := Reseal(t.Context(), f.Store, newer); n != 1 || err != nil {
		t.Errorf("sealed %d again, %v", n, err)
	}
	f.Sealer = pki.NewSealer([pki.KeySize]byte{2})
	f.says("check", "x blue {}")
}

func TestCodeIsKeptOnceAndForAsLongAsItIsUsed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	noise := make([]byte, 3*codePart+1000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	large := zipped(t, part{"app.py", "large", 0}, part{"noise", string(noise), 0})
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} { // at once
		wg.Go(func() {
			_, err := f.Create(f.ctx, name, large, full(nil), nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	size := func() (n int64) {
		t.Helper()
		must(t, f.View(t.Context(), func(tx *store.Tx) (err error) {
			n, err = tx.CodeSize(here)
			return err
		}))
		return n
	}
	if size() != int64(len(large)) {
		t.Errorf("%d bytes are kept of %d", size(), len(large))
	}
	f.says("a", "large  {}")
	f.create("small", "small")
	f.says("small", "small blue {}")
	for _, name := range []string{"a", "b", "c"} {
		must(t, f.Delete(f.ctx, name))
	}
	f.pass(2 * time.Hour)
	must(t, f.Sweep(t.Context(), f.now))
	f.says("d", "large  {}")
	must(t, f.Delete(f.ctx, "d"))
	must(t, f.Sweep(t.Context(), f.now))
	if sum := sha256.Sum256(large); !exists(filepath.Join(f.Dir, hex.EncodeToString(sum[:]))) {
		t.Error("the folder is gone while workers may still read it")
	}
	f.pass(2 * time.Hour)
	must(t, f.Sweep(t.Context(), f.now))
	left, err := os.ReadDir(f.Dir)
	must(t, err)
	if len(left) != 1 || size() != int64(len(f.code("small"))) {
		t.Errorf("left are %v and %d bytes", left, size())
	}

	// A new start extracts it anew, whatever lies about.
	must(t, os.WriteFile(filepath.Join(f.Dir, "litter"), nil, 0o600))
	f.Service = f.open(f.Store, f.Dir, f.Clock)
	if exists(filepath.Join(f.Dir, "litter")) {
		t.Error("what was left is still there")
	}
	f.says("small", "small blue {}")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestAnUploadThatWasCutIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	code := f.code("whole")
	must(t, f.Store.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := tx.BeginCode(here, codeOf(code))
		return err
	}))
	f.create("check", "whole")
	f.says("check", "whole blue {}")
	must(t, f.Store.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := tx.BeginCode(here, codeOf(f.code("part")))
		return err
	}))
	f.pass(2 * time.Hour)
	must(t, f.Sweep(t.Context(), f.now))
	must(t, f.View(t.Context(), func(tx *store.Tx) error {
		n, err := tx.CodeSize(here)
		if n != int64(len(code)) {
			t.Errorf("%d bytes are left", n)
		}
		return err
	}))
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create("check", "x")
	_, _, err := f.Policy(f.ctx, "check")
	f.wantError(err, fleet.KindNotFound, "The resource you requested does not exist.")
	iot := fleet.FunctionPermission{ID: "iot", Service: "iot.amazonaws.com", Action: "lambda:InvokeFunction", SourceARN: here.ARN("iot", "*"), SourceAccount: here.Account}
	const statement = `{"Sid":"iot","Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:000000000000:function:check",` +
		`"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:iot:us-east-1:000000000000:*"},"StringEquals":{"AWS:SourceAccount":"000000000000"}}}`
	if got, err := f.AddPermission(f.ctx, "check", iot, ""); err != nil || got != statement {
		t.Errorf("%s, %v", got, err)
	}
	text, revision, err := f.Policy(f.ctx, "check")
	if err != nil || text != `{"Version":"2012-10-17","Id":"default","Statement":[`+statement+`]}` || revision == "" {
		t.Errorf("%s, %v", text, err)
	}
	_, err = f.AddPermission(f.ctx, "check", iot, "")
	f.wantError(err, fleet.KindExists, "The statement id (iot) provided already exists")
	for text, p := range map[string]fleet.FunctionPermission{
		"principal was invalid": {ID: "a", Service: "111122223333", Action: "lambda:InvokeFunction"},
		"is not valid":          {ID: "b", Service: "iot.amazonaws.com", Action: "s3:GetObject"},
		"makes no policy":       {ID: "c.d", Service: "iot.amazonaws.com", Action: "lambda:InvokeFunction"},
	} {
		_, err := f.AddPermission(f.ctx, "check", p, "")
		f.wantError(err, fleet.KindInvalid, text)
	}
	iot.ID = "more"
	_, err = f.AddPermission(f.ctx, "check", iot, "another")
	f.wantError(err, fleet.KindVersion, "")

	ask := func(service, source string) error {
		_, err := f.InvokeFor(t.Context(), here, "check", []byte("{}"), service, source)
		return err
	}
	must(t, ask("iot.amazonaws.com", here.IoT("provisioningtemplate", "lamps")))
	for service, source := range map[string]string{"s3.amazonaws.com": here.IoT("provisioningtemplate", "lamps"), "iot.amazonaws.com": there.IoT("provisioningtemplate", "lamps")} {
		if err := ask(service, source); !errors.Is(err, ErrNotPermitted) {
			t.Errorf("%s for %s: %v", service, source, err)
		}
	}
	f.wantError(f.RemovePermission(f.ctx, "check", "none", ""), fleet.KindNotFound, "Statement none is not found")
	must(t, f.RemovePermission(f.ctx, "check", "iot", ""))
	if err := ask("iot.amazonaws.com", here.IoT("provisioningtemplate", "lamps")); !errors.Is(err, ErrNotPermitted) {
		t.Errorf("%v", err)
	}
	var last error
	for i := 0; i < 200 && last == nil; i++ {
		iot.ID = fmt.Sprint("s", i)
		_, last = f.AddPermission(f.ctx, "check", iot, "")
	}
	f.wantError(last, fleet.KindLimit, "20480")
}

func TestOutputIsKeptOfTheLastInvocations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create("loud", "x")
	f.create("quiet", "x")
	n := 0
	f.run = func(c function.Code, _ []byte) (function.Result, error) {
		n++
		return function.Result{RequestID: fmt.Sprint(n), Log: bytes.Repeat([]byte{byte('a' + n%26)}, 2*outputSize)}, nil
	}
	_, err := f.Service.Invoke(t.Context(), here, "quiet", nil)
	must(t, err)
	for range 3 * outputsEach {
		_, err := f.Service.Invoke(t.Context(), here, "loud", nil)
		must(t, err)
	}
	for name, want := range map[string]int{"quiet": 1, "loud": outputsEach} {
		list, err := f.Outputs(f.ctx, name)
		if err != nil || len(list) != want || len(list[0].Log) != outputSize || name == "loud" && list[0].RequestID != fmt.Sprint(n) {
			t.Errorf("%s: %d, %v", name, len(list), err)
		}
	}
	must(t, f.Delete(f.ctx, "loud"))
	f.create("loud", "x")
	if list, err := f.Outputs(f.ctx, "loud"); err != nil || len(list) != 0 || f.outputs.size != outputSize {
		t.Errorf("of another function: %v, %v", list, err)
	}
	_, err = f.Outputs(f.ctx, "none")
	f.wantError(err, fleet.KindNotFound, "")
	for i := range 2 * outputsAll / outputSize / outputsEach {
		for range outputsEach {
			f.outputs.add(outputKey{there, fmt.Sprint(i)}, Output{Log: make([]byte, outputSize)})
		}
	}
	if f.outputs.size > outputsAll {
		t.Errorf("%d bytes are kept", f.outputs.size)
	}
}

func TestNobodyWaitsLongerThanTheyWantForCode(t *testing.T) {
	t.Parallel()
	folders, err := openFolders(filepath.Join(t.TempDir(), "functions"))
	must(t, err)
	free := make(chan struct{})
	calls := make(chan struct{}, 10)
	code := zipped(t, part{"a", "a", 0})
	load := func(_ context.Context, w io.Writer) error {
		calls <- struct{}{}
		<-free
		if len(calls) == 1 {
			return errors.New("broken")
		}
		_, err := w.Write(code)
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := folders.get(ctx, codeOf(code), time.Now(), load); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(free)
	for range 3 { // the first one fails, whoever comes then tries again
		dir, err := folders.get(t.Context(), codeOf(code), time.Now(), load)
		if err == nil && !exists(filepath.Join(dir, "a")) {
			t.Error("nothing is there")
		}
	}
	if _, err := folders.get(t.Context(), codeOf(code), time.Now(), load); err != nil || len(calls) != 2 {
		t.Errorf("loaded %d times, %v", len(calls), err)
	}
}
