package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/trace"
)

var (
	here      = fleet.Scope{Account: "000000000000", Region: "us-east-1"}
	installer = &fleet.Caller{Scope: here, Kind: fleet.RoleSession, ARN: "arn:aws:sts::000000000000:assumed-role/installer/ann", RoleARN: here.IAM("role/installer"),
		Federation: &fleet.Federation{Username: "ann", UserSub: "sub-1"}}
	role = here.IAM("role/provisioner")
)

// iamFake decides by name: what is refused fails.
type iamFake struct {
	mu      sync.Mutex
	refused []string // "pass", "trust", "fired" or an action
	asked   []string // "action resource"
}

func (f *iamFake) refuse(what ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = what
}

func (f *iamFake) check(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.refused, what) {
		return fleet.Denied("%s is refused", what)
	}
	return nil
}

func (f *iamFake) PassRole(context.Context, *fleet.Caller, string, string) error {
	return f.check("pass")
}

func (f *iamFake) AssumeForService(_ *store.Tx, s fleet.Scope, role, service string, _ ...string) (*fleet.Caller, error) {
	return &fleet.Caller{Scope: s, ARN: role}, f.check("trust")
}

func (f *iamFake) AuthorizeTx(_ *store.Tx, _ *fleet.Caller, action, resource string, _ policy.Context) error {
	f.mu.Lock()
	f.asked = append(f.asked, action+" "+resource)
	f.mu.Unlock()
	return f.check(action)
}

func (f *iamFake) StillEntitled(*store.Tx, fleet.Scope, fleet.Installer, time.Time, string, string) error {
	return f.check("fired")
}

// hookFunc is a Hook.
type hookFunc func(context.Context, HookEvent) (HookAnswer, error)

func (f hookFunc) Invoke(ctx context.Context, e HookEvent) (HookAnswer, error) { return f(ctx, e) }

func (f hookFunc) Known(*store.Tx, fleet.Scope, string) error { return nil }

// fixture is a service on a real store and authority, with a clock that moves by hand.
type fixture struct {
	*Service
	t   testing.TB
	iam *iamFake

	mu  sync.Mutex
	now time.Time
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// keys are shared: making RSA keys is what takes time, on a busy machine more than a device would wait.
var keys = sync.OnceValue(func() *pki.KeyPool { return pki.NewKeyPool(pki.PoolConfig{Size: -1, Patience: time.Hour}) })

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOn(t, storetest.URL(t))
}

// newFixtureOn is newFixture on a PostgreSQL database, or on SQLite if url is "".
func newFixtureOn(t testing.TB, url string) *fixture {
	t.Helper()
	f := &fixture{t: t, iam: &iamFake{}, now: time.Date(2026, 5, 4, 12, 0, 0, 123e6, time.UTC)}
	clock := fleet.Clock(func() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.now })
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: url, Rehearse: true, MostRows: 1000, Clock: clock})
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	ca, err := pki.OpenAuthority(t.Context(), pki.Config{Dir: t.TempDir(), Keys: pki.NewMemoryKeys(), NoRSA: true, Clock: clock})
	check(t, err)
	f.Service = New(Config{Store: db, Authority: ca, Keys: keys(), Sealer: pki.NewSealer([32]byte{1}), Regions: []string{here.Region}, Permissions: f.iam, Clock: clock})
	f.containTime = time.Hour
	return f
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that err has the code, and returns what a device would be told.
func refused(t testing.TB, err error, code string) string {
	t.Helper()
	if err == nil {
		t.Fatalf("nothing was refused, want %s", code)
	}
	_, got, message := Refusal(err)
	var e *fleet.Error
	if got != code || !errors.As(err, &e) || e.Code != code {
		t.Fatalf("refused with %s (%v), want %s", got, err, code)
	}
	return message
}

// lamps is a template that every test can use: a thing by serial number, a policy of its own, a shared policy.
const lamps = `{
  "Parameters": {"Serial": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-", ["lamp", {"Ref": "Serial"}]]}, "AttributePayload": {"serial": {"Ref": "Serial"}}}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:Publish",
      "Resource": {"Fn::Sub": "arn:aws:iot:us-east-1:000000000000:topic/lamps/${Serial}/*"}}}}}
  },
  "DeviceConfiguration": {"url": "https://example.com", "serial": {"Ref": "Serial"}}
}`

func (f *fixture) template(name, body string) {
	f.t.Helper()
	_, err := f.CreateTemplate(f.t.Context(), installer, NewTemplate{Name: name, Body: body, RoleARN: role, Enabled: new(true)})
	check(f.t, err)
}

// claim makes a claim and returns who speaks with it.
func (f *fixture) claim(template string) Requester {
	f.t.Helper()
	c, err := f.CreateClaim(f.t.Context(), installer, template)
	check(f.t, err)
	return f.requester(c.Claim)
}

func (f *fixture) requester(c fleet.Claim) Requester {
	return Requester{Scope: here, PrincipalID: c.ID, IsClaim: true, Template: c.Template, Installer: c.Installer, ClientID: "client", SourceIP: "192.0.2.1", Protocol: "mqtts",
		Trace: trace.New(here, trace.Register, f.Clock)}
}

// bootstrap registers an active certificate that serves as a shared claim.
func (f *fixture) bootstrap() Requester {
	f.t.Helper()
	svc := registry.New(registry.Config{Store: f.Store, Authority: f.Authority, Keys: f.Keys})
	c, err := svc.CreateCertificateFromCSR(f.t.Context(), here, newCSR(f.t), true)
	check(f.t, err)
	return Requester{Scope: here, PrincipalID: c.ID, ClientID: "client"}
}

// again is r in a session of its own.
func (f *fixture) again(r Requester) Requester {
	r.Trace = trace.New(here, trace.Register, f.Clock)
	return r
}

func newCSR(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lamp"}}, key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (f *fixture) certificate(r Requester) *IssuedCertificate {
	f.t.Helper()
	c, err := f.CreateCertificateFromCSR(f.t.Context(), f.again(r), newCSR(f.t))
	check(f.t, err)
	return c
}

func (f *fixture) register(r Requester, template string, c *IssuedCertificate, serial string) (*Registered, error) {
	return f.Register(f.t.Context(), f.again(r), template, c.Token.Reveal(), map[string]string{"Serial": serial})
}

// view reads one thing from the store.
func view[T any](f *fixture, read func(*store.Tx) (T, error)) T {
	f.t.Helper()
	var out T
	check(f.t, f.Store.View(f.t.Context(), func(tx *store.Tx) (err error) {
		out, err = read(tx)
		return err
	}))
	return out
}

func (f *fixture) status(id string) fleet.CertificateStatus {
	f.t.Helper()
	return view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, id) }).Status
}

func (f *fixture) principals(thing string) []fleet.Attachment {
	f.t.Helper()
	return view(f, func(tx *store.Tx) ([]fleet.Attachment, error) {
		list, _, err := tx.PrincipalsOf(here, thing, "", fleet.Page{})
		return list, err
	})
}

func (f *fixture) write(body func(*store.Tx) error) {
	f.t.Helper()
	check(f.t, f.Store.Tx(f.t.Context(), body))
}
