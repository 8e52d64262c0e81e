package iam

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

const (
	home   = "111111111111"
	abroad = "222222222222"
)

var (
	here  = fleet.Scope{Account: home, Region: "us-east-1"}
	there = fleet.Scope{Account: abroad, Region: "us-east-1"}
)

// world is a service on a store of its own, with a clock that moves only when a test says so.
type world struct {
	*testing.T
	*Service
	db    *store.DB
	clock time.Time
	token map[string]WebIdentity // what the verifier makes of a token
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), token: map[string]WebIdentity{}}
	now := func() time.Time { return w.clock }
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "store"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w.db = db
	w.Service = New(Config{Store: db, Sealer: pki.NewSealer([pki.KeySize]byte{1}), Clock: now, Tokens: w})
	return w
}

// VerifyWebIdentity implements TokenVerifier.
func (w *world) VerifyWebIdentity(_ context.Context, token string) (WebIdentity, bool, error) {
	id, ok := w.token[token]
	if id.StillHolds == nil {
		id.StillHolds = func(context.Context) error { return nil }
	}
	return id, ok, nil
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// wait moves the clock: a cut-off ends what was issued up to its own millisecond.
func (w *world) wait(d time.Duration) { w.clock = w.clock.Add(d) }

// document makes a policy of statements like "Allow iot:* *", each an effect, an action and a resource.
func document(statements ...string) string {
	var list []string
	for _, s := range statements {
		p := strings.Fields(s)
		list = append(list, `{"Effect":"`+p[0]+`","Action":"`+p[1]+`","Resource":"`+p[2]+`"}`)
	}
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(list, ",") + `]}`
}

// trust makes a trust policy; principal is JSON, condition may be "".
func trust(action, principal, condition string) string {
	s := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":` + principal + `,"Action":` + action
	if condition != "" {
		s += `,"Condition":` + condition
	}
	return s + `}]}`
}

func trustAWS(who string) string { return trust(`["sts:AssumeRole"]`, `{"AWS":"`+who+`"}`, "") }

// user makes a user with an inline policy and a key, and returns its caller as a request would have it.
func (w *world) user(scope fleet.Scope, name string, statements ...string) *fleet.Caller {
	w.Helper()
	_, err := w.CreateUser(w.Context(), scope, Entity{Name: name})
	w.ok(err)
	if len(statements) > 0 {
		w.ok(w.PutInline(w.Context(), scope, store.IAMUser, name, "p", document(statements...)))
	}
	k, err := w.CreateKey(w.Context(), scope, name)
	w.ok(err)
	return w.caller(k.ID, "")
}

func (w *world) role(scope fleet.Scope, name, trust string, statements ...string) string {
	w.Helper()
	e, err := w.CreateRole(w.Context(), scope, Entity{Name: name, Body: Body{Trust: trust, MaxSession: 7200}})
	w.ok(err)
	if len(statements) > 0 {
		w.ok(w.PutInline(w.Context(), scope, store.IAMRole, name, "p", document(statements...)))
	}
	return e.ARN(scope)
}

func (w *world) caller(key, token string) *fleet.Caller {
	w.Helper()
	c, err := w.Lookup(w.Context(), here.Region, key, token)
	w.ok(err)
	return c.Caller
}

func (w *world) assume(caller *fleet.Caller, role string) *fleet.Caller {
	w.Helper()
	s, err := w.AssumeRole(w.Context(), caller, AssumeRequest{RoleARN: role, Name: "session"})
	w.ok(err)
	return w.caller(s.AccessKeyID, s.Token.Reveal())
}

// can asks on all three ways: with the cache, for alternatives, and in a transaction. They must agree.
func (w *world) can(c *fleet.Caller, action, resource string) error {
	w.Helper()
	err := w.Authorize(w.Context(), c, action, []string{resource}, nil)
	either := w.AuthorizeAny(w.Context(), c, action, []string{resource}, nil)
	inside := w.db.Tx(w.Context(), func(tx *store.Tx) error { return w.AuthorizeTx(tx, c, action, resource, nil) })
	if text(err) != text(either) || text(err) != text(inside) {
		w.Errorf("Authorize: %q, AuthorizeAny: %q, AuthorizeTx: %q", text(err), text(either), text(inside))
	}
	return err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	var e *fleet.Error
	if errors.As(err, &e) {
		return e.Msg
	}
	return err.Error()
}

// refused checks that err is of a kind and says something.
func (w *world) refused(err error, kind fleet.Kind, says string) {
	w.Helper()
	if !errors.Is(err, &fleet.Error{Kind: kind}) || !strings.Contains(text(err), says) {
		w.Errorf("got %v, want %v that says %q", err, kind, says)
	}
}

func (w *world) dead(err error) { w.Helper(); w.refused(err, fleet.KindUnauthenticated, "") }

// tx runs one change of the store.
func (w *world) tx(f func(tx *store.Tx) error) { w.Helper(); w.ok(w.db.Tx(w.Context(), f)) }

func signOut(w *world, scope fleet.Scope, subject string) {
	w.tx(func(tx *store.Tx) error { return tx.CutOff(scope, subject, w.clock) })
}

// person is somebody of a user pool, seen through an identity pool.
func person() *fleet.Federation {
	return &fleet.Federation{Provider: fleet.IdentityPools, Audience: "us-east-1:pool", Subject: "us-east-1:ida", AMR: []string{"authenticated"},
		PoolID: "us-east-1_Pool", UserSub: "sub-1", Username: "ida"}
}

const federatedTrust = `{"Federated":"cognito-identity.amazonaws.com"}`

// signedIn gives a person credentials of a role, as an identity pool does.
func (w *world) signedIn(scope fleet.Scope, role string) *fleet.Caller {
	w.Helper()
	s, err := w.IssueSession(w.Context(), SessionRequest{Scope: scope, RoleARN: role, Name: "CognitoIdentityCredentials",
		Principal: policy.Principal{Federated: fleet.IdentityPools}, Action: "sts:AssumeRoleWithWebIdentity", Federation: person()})
	w.ok(err)
	return w.caller(s.AccessKeyID, s.Token.Reveal())
}

var errTest = errors.New("does not open")

// kindOf is fleet.KindOf that takes nil; -1 then.
func kindOf(err error) fleet.Kind {
	if err == nil {
		return -1
	}
	return fleet.KindOf(err)
}
