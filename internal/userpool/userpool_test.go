package userpool

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

var scope = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

const (
	good  = "P@ssw0rd!1" // a password that every policy here accepts
	other = "An0ther-Passw0rd"
)

// testSealer is AES-GCM with the purpose in front of the additional data.
type testSealer struct{ aead cipher.AEAD }

func newTestSealer() testSealer {
	key := sha256.Sum256([]byte("test"))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return testSealer{aead}
}

func (s testSealer) Seal(purpose string, plaintext, aad []byte) []byte {
	return s.aead.Seal(nil, nil, plaintext, append([]byte(purpose+"\x00"), aad...))
}

func (s testSealer) Open(purpose string, sealed, aad []byte) ([]byte, error) {
	return s.aead.Open(nil, nil, sealed, append([]byte(purpose+"\x00"), aad...))
}

// testKeys hands out the same few keys again and again.
type testKeys struct {
	mu   sync.Mutex
	next int
}

var rsaKeys = sync.OnceValue(func() (keys [3]*rsa.PrivateKey) {
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

func (k *testKeys) Take(context.Context) (*rsa.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next++
	return rsaKeys()[k.next%3], nil
}

// testRoles refuses one role.
type testRoles struct{}

const forbiddenRole = "arn:aws:iam::000000000000:role/forbidden"

func (testRoles) PassRole(_ context.Context, _ *fleet.Caller, role, _ string) error {
	if role == forbiddenRole {
		return fleet.Denied("no PassRole").WithCode("AccessDeniedException")
	}
	return nil
}

// mailbox keeps messages, or fails.
type mailbox struct {
	mu   sync.Mutex
	sent []delivery.Message
	err  error
}

func (m *mailbox) Send(_ context.Context, msg delivery.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = append(m.sent, msg)
	return m.err
}

func (m *mailbox) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sent)
}

// last returns the newest message.
func (m *mailbox) last(t testing.TB) delivery.Message {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	return m.sent[len(m.sent)-1]
}

// world is a service with a clock that tests move.
type world struct {
	*Service
	t    testing.TB
	db   *store.DB
	mail *mailbox

	statements  atomic.Int64 // that went to the database
	onStatement atomic.Pointer[func(string)]

	mu   sync.Mutex
	time time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// newWorld opens a store that runs the body of each transaction twice, as it may have to (store.Config.Rehearse).
func newWorld(t testing.TB, options ...func(*Config)) *world {
	t.Helper()
	return newWorldOn(t, store.Config{Rehearse: true, MostRows: 1000}, options...)
}

func newWorldOn(t testing.TB, on store.Config, options ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, mail: &mailbox{}, time: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)}
	on.Path, on.URL, on.Clock = filepath.Join(t.TempDir(), "imprint.db"), storetest.URL(t), w.clock
	on.OnStatement = func(statement string) {
		w.statements.Add(1)
		if f := w.onStatement.Load(); f != nil {
			(*f)(statement)
		}
	}
	db, err := store.Open(context.Background(), on)
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	cfg := Config{Store: db, Sealer: newTestSealer(), Keys: &testKeys{}, Roles: testRoles{}, Delivery: w.mail, Issuer: "https://iot.lan:8443",
		Clock: w.clock, Arithmetic: 4}
	for _, o := range options {
		o(&cfg)
	}
	if w.Service, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Service.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// must stops the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// wantError checks code and text of an error; an empty text is not checked.
func wantError(t testing.TB, err error, code, text string) {
	t.Helper()
	var e *fleet.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want %s %q", err, code, text)
	}
	if e.Code != code || text != "" && e.Msg != text {
		t.Fatalf("got %s %q, want %s %q", e.Code, e.Msg, code, text)
	}
}

func (w *world) pool(settings Settings) *Pool {
	w.t.Helper()
	return must(w.CreatePool(context.Background(), scope, "installers", settings, nil))(w.t)
}

// allFlows lets a client do everything.
var allFlows = []string{"ALLOW_USER_SRP_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}

func (w *world) client(p *Pool, settings ClientSettings) *Client {
	w.t.Helper()
	if settings.AuthFlows == nil {
		settings.AuthFlows = allFlows
	}
	return must(w.CreateClient(context.Background(), scope, p.ID, NewClient{Name: "app", ClientSettings: settings}))(w.t)
}

// user makes a confirmed user with the password good.
func (w *world) user(p *Pool, name string, attributes map[string]string) User {
	w.t.Helper()
	ctx := context.Background()
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: name, Attributes: attributes, Suppress: true}))(w.t)
	ok(w.t, w.SetPassword(ctx, scope, p.ID, name, good, true))
	return must(w.User(ctx, scope, p.ID, name))(w.t)
}

func secrets(pairs ...string) map[string]fleet.Secret {
	m := map[string]fleet.Secret{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = fleet.Secret(pairs[i+1])
	}
	return m
}

// srp signs in by SRP and returns the outcome of the second step.
func (w *world) srp(c *Client, name, password string) (Outcome, error) {
	w.t.Helper()
	ctx := context.Background()
	app := newSRPClient(c.PoolID, password)
	first, err := w.InitiateAuth(ctx, SignIn{ClientID: c.ID, Flow: "USER_SRP_AUTH", Parameters: c.hashed(name, "USERNAME", name, "SRP_A", app.srpA())})
	if err != nil {
		return first, err
	}
	if first.Challenge != "PASSWORD_VERIFIER" || first.Session != "" || first.Tokens != nil {
		w.t.Fatalf("first step of SRP answers %+v", first)
	}
	answer := app.answer(first.Parameters, w.clock())
	responses := c.hashed(answer["USERNAME"])
	for k, v := range answer {
		responses[k] = fleet.Secret(v)
	}
	return w.Respond(ctx, Answer{ClientID: c.ID, Challenge: "PASSWORD_VERIFIER", Responses: responses})
}

// hashed adds the SECRET_HASH of a client that has a secret.
func (c *Client) hashed(name string, pairs ...string) map[string]fleet.Secret {
	m := secrets(pairs...)
	if c.Secret != "" {
		m["SECRET_HASH"] = fleet.Secret(secretHash(c.Secret, name, c.ID))
	}
	return m
}

// signIn signs in with the password.
func (w *world) signIn(c *Client, name, password string) (Outcome, error) {
	w.t.Helper()
	return w.InitiateAuth(context.Background(), SignIn{ClientID: c.ID, Flow: "USER_PASSWORD_AUTH",
		Parameters: c.hashed(name, "USERNAME", name, "PASSWORD", password)})
}

func (w *world) tokens(c *Client, name string) *Tokens {
	w.t.Helper()
	o := must(w.signIn(c, name, good))(w.t)
	if o.Tokens == nil || o.Challenge != "" || o.Parameters == nil {
		w.t.Fatalf("sign-in of %s answers %+v", name, o)
	}
	return o.Tokens
}

// cutOff reports whether credentials of a user that were issued at a time are dead.
func (w *world) cutOff(p *Pool, sub string, issued time.Time) (dead bool) {
	w.t.Helper()
	ok(w.t, w.db.View(context.Background(), func(tx *store.Tx) (err error) {
		dead, err = tx.CutoffAfter(p.Scope, issued, "user:"+p.ID+"/"+sub)
		return err
	}))
	return dead
}
