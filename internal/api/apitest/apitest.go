// Package apitest gives tests of awsQuery services a world to act in: a temporary store, IAM's rules with an administrator, a
// clock that the test moves, and a frontend that takes signed requests as a server would.
//
// Begin with New and World.Call.
package apitest

import (
	"context"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Home is the account of a World.
var Home = fleet.Scope{Account: "111122223333", Region: "eu-central-1"}

// A World is one server without network.
type World struct {
	testing.TB
	Store *store.DB
	IAM   *iam.Service
	Admin sigv4.Credentials // of Home's administrator

	front    *wire.Frontend
	verifier sigv4.Verifier
	mu       sync.Mutex
	now      time.Time
}

// New makes a world that serves what services returns.
func New(t testing.TB, tokens iam.TokenVerifier, services func(*iam.Service) []*wire.Service) *World {
	t.Helper()
	w := &World{TB: t, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: w.Now})
	w.Must(err)
	t.Cleanup(func() { w.Must(db.Close()) })
	w.Store = db
	w.IAM = iam.New(iam.Config{Store: db, Sealer: pki.NewSealer([pki.KeySize]byte{1}), Tokens: tokens, Clock: w.Now, Log: slog.New(slog.DiscardHandler)})
	w.verifier.Region, w.verifier.Clock = Home.Region, w.Now
	w.front = &wire.Frontend{Services: services(w.IAM), Scope: Home, Clock: w.Now, Log: slog.New(slog.DiscardHandler),
		Authenticate: w.authenticate, Authorize: w.authorize}
	w.Admin = w.Account(Home)
	return w
}

// Account adds an account and returns a key of its administrator.
func (w *World) Account(s fleet.Scope) sigv4.Credentials {
	w.Helper()
	w.Must(w.Store.Tx(w.Context(), func(tx *store.Tx) error { return tx.CreateAccount(s.Account, "test") }))
	id, secret, err := w.IAM.Bootstrap(w.Context(), s)
	w.Must(err)
	return sigv4.Credentials{AccessKeyID: id, Secret: secret}
}

// Must ends the test on an error.
func (w *World) Must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// Now is the world's time: a millisecond passes with every look at it, so that one thing comes after the other.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

// Sleep lets time pass.
func (w *World) Sleep(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *World) authenticate(ctx context.Context, r *http.Request, body []byte, svc *wire.Service) (*fleet.Caller, error) {
	var caller *fleet.Caller
	_, err := w.verifier.Verify(r, body, svc.SigningNames, func(s *sigv4.Signature) (fleet.Secret, error) {
		c, err := w.IAM.Lookup(ctx, Home.Region, s.AccessKeyID, s.Token)
		caller = c.Caller
		return c.Secret, err
	})
	if err == nil {
		caller.SourceIP, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	return caller, err
}

func (w *World) authorize(ctx context.Context, c *fleet.Caller, a wire.Access) error {
	facts := policy.Context{}
	for k, v := range a.Conditions {
		facts.Set(k, v...)
	}
	if a.AnyOf {
		return w.IAM.AuthorizeAny(ctx, c, a.Action, a.Resources, facts)
	}
	return w.IAM.Authorize(ctx, c, a.Action, a.Resources, facts)
}

// User adds a user of Home with an inline policy of the given statements, JSON parted by commas, and returns a key of it.
func (w *World) User(name, statements string) sigv4.Credentials {
	w.Helper()
	if _, err := w.IAM.CreateUser(w.Context(), Home, iam.Entity{Name: name}); err != nil {
		w.Fatal(err)
	}
	if statements != "" {
		w.Must(w.IAM.PutInline(w.Context(), Home, store.IAMUser, name, "test", Policy(statements)))
	}
	k, err := w.IAM.CreateKey(w.Context(), Home, name)
	w.Must(err)
	return sigv4.Credentials{AccessKeyID: k.ID, Secret: k.Secret}
}

// Policy makes a document of statements.
func Policy(statements string) string {
	return `{"Version":"2012-10-17","Statement":[` + statements + `]}`
}

// Do makes a request to the service that speaks version: an action and its parameters as names and values. Without an access
// key the request is not signed.
func (w *World) Do(who sigv4.Credentials, version, action string, params ...string) Answer {
	w.Helper()
	form := url.Values{"Action": {action}, "Version": {version}}
	for i := 0; i+1 < len(params); i += 2 {
		form.Add(params[i], params[i+1])
	}
	body := []byte(form.Encode())
	r := httptest.NewRequest(http.MethodPost, "https://imprint.test/", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if who.AccessKeyID != "" {
		service := map[string]string{"2010-05-08": "iam", "2011-06-15": "sts"}[version]
		sigv4.Sign(r, body, who, "us-east-1", service, w.Now())
	}
	out := httptest.NewRecorder()
	w.front.ServeHTTP(out, r)
	a := Answer{Status: out.Code, Body: out.Body.String()}
	if err := xml.Unmarshal(out.Body.Bytes(), &a.root); err != nil {
		w.Fatalf("%s answered what is no XML: %v\n%s", action, err, a.Body)
	}
	a.Code, a.Message = a.Get("Error/Code"), a.Get("Error/Message")
	return a
}

// Call makes a request that must be answered with code; "" is success. call is the action and its parameters: "CreateUser
// UserName=bob". A value may not hold spaces; more holds names and values that do.
func (w *World) Call(who sigv4.Credentials, version, code, call string, more ...string) Answer {
	w.Helper()
	words := strings.Fields(call)
	var params []string
	for _, word := range words[1:] {
		k, v, _ := strings.Cut(word, "=")
		params = append(params, k, v)
	}
	a := w.Do(who, version, words[0], append(params, more...)...)
	if a.Code != code {
		w.Fatalf("%s: got %v, want code %q", call, a, code)
	}
	return a
}

// An Answer is what came back. Code and Message are empty unless it is an error.
type Answer struct {
	Status        int
	Code, Message string
	Body          string
	root          node
}

type node struct {
	XMLName xml.Name
	Nodes   []node `xml:",any"`
	Text    string `xml:",chardata"`
}

// Get returns the text of the first element at a path below the root, "" if there is none.
func (a Answer) Get(path string) string {
	if all := a.All(path); len(all) > 0 {
		return all[0]
	}
	return ""
}

// All returns the texts of all elements at a path below the root, for example "ListUsersResult/Users/member/UserName".
func (a Answer) All(path string) (texts []string) {
	nodes := []node{a.root}
	for _, name := range strings.Split(path, "/") {
		var next []node
		for _, n := range nodes {
			for _, child := range n.Nodes {
				if child.XMLName.Local == name {
					next = append(next, child)
				}
			}
		}
		nodes = next
	}
	for _, n := range nodes {
		texts = append(texts, n.Text)
	}
	return texts
}

// Has reports whether an element stands at a path.
func (a Answer) Has(path string) bool { return len(a.All(path)) > 0 }

func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }
