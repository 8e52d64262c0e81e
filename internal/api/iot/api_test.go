package iot

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/rule"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/wire"
)

const (
	mine  = "000000000000"
	other = "999999999999"
)

// world is the API behind its frontend, on a store of its own. The header Account says who calls.
type world struct {
	t     *testing.T
	front *wire.Frontend
	known map[string]string // what $NAME in a request stands for

	mu    sync.Mutex
	now   time.Time
	asked []wire.Access
}

// permits lets everybody do everything, but counts on its service for the rules of provisioning.
type permits struct{}

func (permits) PassRole(_ context.Context, _ *fleet.Caller, role, _ string) error {
	if strings.HasSuffix(role, "/forbidden") {
		return fleet.Denied("User: x is not authorized to perform: iam:PassRole on resource: %s", role)
	}
	return nil
}

func (permits) AssumeForService(_ *store.Tx, s fleet.Scope, _, _ string, _ ...string) (*fleet.Caller, error) {
	return &fleet.Caller{Scope: s, Kind: fleet.Service}, nil
}

func (permits) AuthorizeTx(*store.Tx, *fleet.Caller, string, string, policy.Context) error {
	return nil
}

func (permits) StillEntitled(*store.Tx, fleet.Scope, fleet.Installer, time.Time, string, string) error {
	return nil
}

// keys are shared: making RSA keys is what takes time, on a busy machine more than a device would wait.
var keys = sync.OnceValue(func() *pki.KeyPool { return pki.NewKeyPool(pki.PoolConfig{Size: -1, Patience: time.Hour}) })

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, known: map[string]string{}, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.now = w.now.Add(time.Millisecond) // so that creation times differ
		return w.now
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: clock})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	ca, err := pki.OpenAuthority(t.Context(), pki.Config{Dir: t.TempDir(), Keys: pki.NewMemoryKeys(), NoRSA: true, Clock: clock})
	must(t, err)
	log := logs.New(logs.Config{Store: db, Permissions: permits{}, Clock: clock})
	t.Cleanup(log.Close)
	api := &API{Store: db, Logs: log,
		Registry:  registry.New(registry.Config{Store: db, Authority: ca, Keys: keys(), Host: "iot.lan", Names: []string{"iot.lan", "localhost"}}),
		Provision: provision.New(provision.Config{Store: db, Authority: ca, Keys: keys(), Sealer: pki.NewSealer([32]byte{1}), Permissions: permits{}, Clock: clock}),
		Roles:     permits{},
		Rules:     rule.New(rule.Config{Store: db, Permissions: permits{}, Clock: clock})}
	w.front = &wire.Frontend{Services: []*wire.Service{api.Service()}, Clock: clock, Log: slog.New(slog.DiscardHandler),
		Authenticate: func(_ context.Context, r *http.Request, _ []byte, _ *wire.Service) (*fleet.Caller, error) {
			s := fleet.Scope{Account: r.Header.Get("Account"), Region: "us-east-1"}
			return &fleet.Caller{Scope: s, Kind: fleet.IAMUser, ARN: s.IAM("user/installer"), Name: "installer"}, nil
		},
		Authorize: func(_ context.Context, _ *fleet.Caller, a wire.Access) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked = append(w.asked, a)
			return nil
		}}
	return w
}

// send makes a request. $NAME in target, body and headers is replaced by what is known under that name.
func (w *world) send(account, method, target, body string, headers ...string) (status int, code, text string) {
	w.t.Helper()
	path, query, _ := strings.Cut(target, "?")
	if query = strings.ReplaceAll(w.fill(query), "+", "%2B"); query != "" { // of markers
		query = "?" + query
	}
	r := httptest.NewRequest(method, w.fill(path)+query, strings.NewReader(w.fill(body)))
	r.Header.Set("Account", account)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], w.fill(headers[i+1]))
	}
	out := httptest.NewRecorder()
	w.front.ServeHTTP(out, r)
	return out.Code, out.Header().Get("x-amzn-ErrorType"), out.Body.String()
}

func (w *world) fill(s string) string {
	names := []string{}
	for name := range w.known {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	for _, name := range names {
		s = strings.ReplaceAll(s, "$"+name, w.known[name])
	}
	return s
}

// A step is one request and what must come back.
type step struct {
	do   string // "METHOD target"
	body string
	head []string // header names and values
	want string   // error code; "": success
	text string   // that the answer holds; each "…" stands for anything
	keep string   // "member=NAME other=NAME": what later steps call $NAME
}

// play sends each request twice: for one account, whose answer must be as wanted, and then for another that uses the same names.
// What the second does must neither show in the first's later answers nor let it see anything.
func (w *world) play(steps []step) {
	w.t.Helper()
	for _, s := range steps {
		method, target, _ := strings.Cut(s.do, " ")
		status, code, body := w.send(mine, method, target, s.body, s.head...)
		if status, _, seen := w.send(other, method, target, s.body, s.head...); status == 200 && strings.Contains(seen, mine) {
			w.t.Errorf("%s: another account sees\n%s", s.do, seen)
		} else if status >= 500 {
			w.t.Errorf("%s: another account gets %d %s", s.do, status, seen)
		}
		w.expect(s, status, code, body)
	}
}

// expect compares an answer with what a step wants, and keeps of it what later steps need.
func (w *world) expect(s step, status int, code, body string) {
	w.t.Helper()
	if code != s.want || (status == 200) != (s.want == "") {
		w.t.Errorf("%s: %d %s %s\nwant %q", s.do, status, code, body, s.want)
		return
	}
	rest := body
	for part := range strings.SplitSeq(w.fill(s.text), "…") {
		_, after, found := strings.Cut(rest, part)
		if !found {
			w.t.Errorf("%s: answers\n%s\nwithout %s", s.do, body, part)
			break
		}
		rest = after
	}
	var members map[string]any
	if s.keep != "" {
		must(w.t, json.Unmarshal([]byte(body), &members))
	}
	for pair := range strings.FieldsSeq(s.keep) {
		member, name, _ := strings.Cut(pair, "=")
		w.known[name] = fmt.Sprint(members[member])
	}
}
