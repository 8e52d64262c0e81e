package hosted

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/userpool"
)

const (
	good     = "P@ssw0rd!1"
	callback = "https://app.example/back"
	verifier = "0123456789012345678901234567890123456789012"
)

var hashed = func() string { // verifier's challenge
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}()

var scope = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

// world is a user pool with its pages, on a store of its own, behind TLS.
type world struct {
	t      testing.TB
	pools  *userpool.Service
	pool   *userpool.Pool
	client *userpool.Client
	server *httptest.Server

	codes chan string // of messages

	mu  sync.Mutex
	now time.Time
}

// keys hands out the same two keys again and again: a pool needs two.
type keys struct{ next atomic.Int32 }

var made = sync.OnceValues(func() (keys [2]*rsa.PrivateKey, err error) {
	for i := range keys {
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return keys, err
		}
	}
	return keys, nil
})

func (k *keys) Take(context.Context) (*rsa.PrivateKey, error) {
	both, err := made()
	return both[k.next.Add(1)%2], err
}

type permits struct{}

func (permits) PassRole(context.Context, *fleet.Caller, string, string) error { return nil }

// Send keeps the codes of messages.
func (w *world) Send(_ context.Context, m delivery.Message) error {
	w.codes <- m.Code.Reveal()
	return nil
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		noError(t, err)
		return v
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld has the pool "installers" at the prefix plant, a client and the user ada.
func newWorld(t testing.TB, settings userpool.Settings, options ...func(*userpool.Config)) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, codes: make(chan string, 16), now: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)}
	db := must(store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: w.clock}))(t)
	cfg := userpool.Config{Store: db, Sealer: pki.NewSealer([pki.KeySize]byte{1}), Keys: &keys{}, Roles: permits{}, Delivery: w,
		Issuer: "https://iot.lan:8443", Clock: w.clock, FailuresPerMinute: -1, SignUpsPerMinute: -1}
	for _, o := range options {
		o(&cfg)
	}
	w.pools = must(userpool.New(cfg))(t)
	h := New(Config{Pools: w.pools})
	w.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !h.Serves(r) {
			http.NotFound(rw, r)
			return
		}
		h.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() { w.server.Close(); w.pools.Close(); db.Close() })
	w.pool = must(w.pools.CreatePool(ctx, scope, "installers", settings, nil))(t)
	noError(t, w.pools.CreateDomain(ctx, userpool.Domain{Scope: scope, Name: "plant", PoolID: w.pool.ID}))
	w.client = w.app(userpool.NewClient{Name: "app"})
	must(w.pools.CreateUser(ctx, scope, w.pool.ID, userpool.NewUser{Username: "ada", Suppress: true}))(t)
	noError(t, w.pools.SetPassword(ctx, scope, w.pool.ID, "ada", good, true))
	return w
}

// app makes a client that may sign people in at the pages.
func (w *world) app(n userpool.NewClient) *userpool.Client {
	w.t.Helper()
	n.OAuth, n.OAuthFlows, n.OAuthScopes = true, []string{"code", "implicit"}, []string{"openid", "email"}
	n.CallbackURLs, n.LogoutURLs = []string{callback, callback + "?x=y"}, []string{"https://app.example/bye"}
	return must(w.pools.CreateClient(context.Background(), scope, w.pool.ID, n))(w.t)
}

// asks is the query of an app's request, with changes.
func (w *world) asks(change ...string) string {
	q := url.Values{"client_id": {w.client.ID}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid"}, "state": {"a b&c"},
		"code_challenge": {hashed}, "code_challenge_method": {"S256"}}
	for i := 0; i < len(change); i += 2 {
		q.Set(change[i], change[i+1])
	}
	return "?" + q.Encode()
}

// A person has a browser that follows no redirect out of the pages.
type person struct {
	w      *world
	http   *http.Client
	at     string // address of the page
	page   string
	status int
	header http.Header
	left   *url.URL // where the browser was sent to, away from the pages
}

func (w *world) person() *person {
	jar := must(cookiejar.New(nil))(w.t)
	c := *w.server.Client()
	c.Jar = jar
	p := &person{w: w, http: &c}
	c.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), w.server.URL) {
			p.left = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	return p
}

func (p *person) do(method, address, body string, header ...string) {
	p.w.t.Helper()
	req := must(http.NewRequestWithContext(context.Background(), method, address, strings.NewReader(body)))(p.w.t)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	p.left = nil
	res := must(p.http.Do(req))(p.w.t)
	defer res.Body.Close()
	p.page = string(must(io.ReadAll(res.Body))(p.w.t))
	p.at, p.status, p.header = res.Request.URL.String(), res.StatusCode, res.Header
}

func (p *person) open(path string) {
	p.w.t.Helper()
	p.do(http.MethodGet, p.w.server.URL+"/auth/plant"+path, "")
}

var (
	formTag  = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)".*?</form>`)
	inputTag = regexp.MustCompile(`<input [^>]*?name="([^"]*)"[^>]*?value="([^"]*)"`)
	titleTag = regexp.MustCompile(`<h1>([^<]*)</h1>`)
	errorTag = regexp.MustCompile(`id="error"[^>]*>([^<]*)<`)
)

// form returns the nth form of the page as it would be sent.
func (p *person) form(n int) (action string, values url.Values) {
	p.w.t.Helper()
	all := formTag.FindAllStringSubmatch(p.page, -1)
	if len(all) <= n {
		p.w.t.Fatalf("there is no form %d on %s (%d):\n%s", n, p.at, p.status, p.page)
	}
	values = url.Values{}
	for _, in := range inputTag.FindAllStringSubmatch(all[n][0], -1) {
		values.Set(html.UnescapeString(in[1]), html.UnescapeString(in[2]))
	}
	return p.w.server.URL + html.UnescapeString(all[n][1]), values
}

// send fills in the first form and sends it.
func (p *person) send(pairs ...string) {
	p.w.t.Helper()
	action, values := p.form(0)
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	p.do(http.MethodPost, action, values.Encode())
}

func (p *person) title() string {
	m := titleTag.FindStringSubmatch(p.page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func (p *person) told() string {
	m := errorTag.FindStringSubmatch(p.page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// sees checks which page is shown, and what is wrong on it.
func (p *person) sees(title, told string) {
	p.w.t.Helper()
	if p.left != nil {
		p.w.t.Fatalf("the browser was sent to %s, want the page %q", p.left, title)
	}
	if p.title() != title || !strings.Contains(p.told(), told) || told == "" && p.told() != "" {
		p.w.t.Fatalf("%s shows %q with the error %q, want %q with %q", p.at, p.title(), p.told(), title, told)
	}
}

// returned checks that the browser is back at the app, and returns what it brings.
func (p *person) returned() url.Values {
	p.w.t.Helper()
	if p.left == nil || !strings.HasPrefix(p.left.String(), callback+"?") {
		p.w.t.Fatalf("the browser is at %s (%v, %q, %q), not at the app", p.at, p.left, p.title(), p.told())
	}
	return p.left.Query()
}

// call is what an app sends by itself; the answer is in page, status and header.
func (p *person) call(path string, form url.Values, header ...string) {
	p.w.t.Helper()
	p.do(http.MethodPost, p.w.server.URL+"/auth/plant"+path, form.Encode(), header...)
}

func basic(id, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(id + ":" + secret))
}
