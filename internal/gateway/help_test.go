package gateway

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/trace"
)

var here = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A site is a gateway on real sockets with everything behind it real, and a clock that moves by hand.
type site struct {
	t     testing.TB
	db    *store.DB
	ca    *pki.Authority
	iam   *iam.Service
	reg   *registry.Service
	prov  *provision.Service
	gw    *Gateway
	hook  chan struct{} // a template with a hook waits for one
	asked chan string   // certificate ids that it is asked about

	mqtt, https string // addresses
	ann         *fleet.Caller
	traces      chan trace.Finished
	handshakes  chan string // what the hooks of Config heard
	requests    chan string
	ends        chan mqtt.Reason

	mu  sync.Mutex
	now time.Time
}

// keys are shared: making RSA keys is what takes time, on a busy machine more than a device would wait.
var keys = sync.OnceValue(func() *pki.KeyPool { return pki.NewKeyPool(pki.PoolConfig{Size: -1, Patience: time.Hour}) })

// newSite starts a gateway with a configuration that the test may change. Names other than these are none of ours.
func newSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	return newSiteOn(t, func(*store.Config) {}, change...)
}

// newSiteOn is newSite on a store that the test may change.
func newSiteOn(t testing.TB, stored func(*store.Config), change ...func(*Config)) *site {
	t.Helper()
	s := &site{t: t, now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), traces: make(chan trace.Finished, 10000), hook: make(chan struct{}), asked: make(chan string, 10000),
		handshakes: make(chan string, 10000), requests: make(chan string, 10000), ends: make(chan mqtt.Reason, 10000)}
	clock := fleet.Clock(func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now })
	var err error
	cfg := store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: clock}
	stored(&cfg)
	s.db, err = store.Open(t.Context(), cfg)
	check(t, err)
	t.Cleanup(func() { check(t, s.db.Close()) })
	s.ca, err = pki.OpenAuthority(t.Context(), pki.Config{Dir: t.TempDir(), Keys: pki.NewMemoryKeys(), NoRSA: true, Clock: clock,
		Names: []string{"iot.lan", "*.iot.us-east-1.iot.lan"}})
	check(t, err)
	_, err = s.ca.Renew(t.Context(), clock())
	check(t, err)
	recorder := trace.NewRecorder(trace.RecorderConfig{Save: s.saveTraces, Clock: clock})
	t.Cleanup(recorder.Close)
	s.iam = iam.New(iam.Config{Store: s.db, Sealer: pki.NewSealer([32]byte{2}), Clock: clock})
	s.reg = registry.New(registry.Config{Store: s.db, Authority: s.ca, Keys: keys(), Host: "iot.lan"})
	s.prov = provision.New(provision.Config{Store: s.db, Authority: s.ca, Keys: keys(), Sealer: pki.NewSealer([32]byte{1}), Regions: []string{here.Region}, Permissions: s.iam,
		Hook: s, Recorder: recorder, Clock: clock})
	config := Config{Store: s.db, Authority: s.ca, Provision: s.prov, Recorder: recorder, Home: here, HostNames: []string{"localhost", "iot.lan"}, Clock: clock,
		OnHandshake: func(cause string, _ time.Duration) { s.handshakes <- cause },
		OnRequest:   func(kind, code, _ string, _ time.Duration) { s.requests <- kind + " " + code },
		OnEnd:       func(r mqtt.Reason) { s.ends <- r }}
	for _, f := range change {
		f(&config)
	}
	s.gw = New(config)
	s.listen()
	s.people()
	return s
}

// Known implements provision.Hook.
func (s *site) Known(*store.Tx, fleet.Scope, string) error { return nil }

// Invoke implements provision.Hook: it waits until the test lets it go.
func (s *site) Invoke(ctx context.Context, e provision.HookEvent) (provision.HookAnswer, error) {
	s.asked <- e.CertificateID
	select {
	case <-s.hook:
		return provision.HookAnswer{Allow: true}, nil
	case <-ctx.Done():
		return provision.HookAnswer{}, ctx.Err()
	}
}

func (s *site) saveTraces(ctx context.Context, batch []trace.Finished) error {
	err := s.db.SaveTraces(ctx, batch)
	for _, f := range batch {
		s.traces <- f
	}
	return err
}

func (s *site) listen() {
	open := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(s.t, err)
		return l
	}
	mqtt, https := open(), open()
	s.mqtt, s.https = mqtt.Addr().String(), https.Addr().String()
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(r.Proto)) })}
	var wg sync.WaitGroup
	wg.Go(func() { s.gw.ServeMQTT(mqtt) })
	wg.Go(func() { web.Serve(s.gw.ServeHTTPS(https)) })
	s.t.Cleanup(func() {
		mqtt.Close()
		https.Close()
		web.Close()
		ctx, cancel := context.WithTimeout(context.Background(), mqtttest.Patience())
		defer cancel()
		check(s.t, s.gw.Close(ctx))
		wg.Wait()
		if n := len(s.gw.devices) + len(s.gw.claims); n != 0 {
			s.t.Errorf("%d connections are still on file", n)
		}
	})
}

const (
	trustIoT = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	mayClaim = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:CreateProvisioningClaim","iam:PassRole"],"Resource":"*"}]}`
	lamps    = `{"Parameters": {"Serial": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
		"Resources": {
			"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-", ["lamp", {"Ref": "Serial"}]]}}},
			"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}}},
		"DeviceConfiguration": {"serial": {"Ref": "Serial"}}}`
)

// people makes ann, who may make claims, the provisioning role, and the templates lamps and pumps.
func (s *site) people() {
	t := s.t
	s.tx(func(tx *store.Tx) error { return tx.CreateAccount(here.Account, "main") })
	_, err := s.iam.CreateUser(t.Context(), here, iam.Entity{Name: "ann", Path: "/"})
	check(t, err)
	check(t, s.iam.PutInline(t.Context(), here, store.IAMUser, "ann", "claims", mayClaim))
	_, err = s.iam.CreateRole(t.Context(), here, iam.Entity{Name: "provisioner", Path: "/", Body: iam.Body{Trust: trustIoT}})
	check(t, err)
	check(t, s.iam.Attach(t.Context(), here, store.IAMRole, "provisioner", "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"))
	s.ann = &fleet.Caller{Scope: here, Kind: fleet.IAMUser, ARN: here.IAM("user/ann"), Name: "ann", UserID: "AIDAANN"}
	for _, name := range []string{"lamps", "pumps"} {
		s.template(provision.NewTemplate{Name: name})
	}
}

func (s *site) template(n provision.NewTemplate) {
	s.t.Helper()
	n.Body, n.RoleARN, n.Enabled = lamps, here.IAM("role/provisioner"), new(true)
	_, err := s.prov.CreateTemplate(s.t.Context(), s.ann, n)
	check(s.t, err)
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) tx(body func(*store.Tx) error) {
	s.t.Helper()
	check(s.t, s.db.Tx(s.t.Context(), body))
}

// A device is a certificate with its key.
type device struct {
	tls.Certificate
	id, arn string
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func holder(text string, key crypto.PrivateKey) device {
	block, _ := pem.Decode([]byte(text))
	id := fleet.CertificateID(block.Bytes)
	return device{tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, id, here.IoT("cert", id)}
}

func csr(t testing.TB, key crypto.PrivateKey) string {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lamp", Organization: []string{"Acme"}}}, key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// device registers an active certificate and attaches policies made of statements to it.
func (s *site) device(statements ...string) device {
	s.t.Helper()
	key := newKey(s.t)
	c, err := s.reg.CreateCertificateFromCSR(s.t.Context(), here, csr(s.t, key), true)
	check(s.t, err)
	d := holder(c.PEM, key)
	if len(statements) > 0 {
		name := "policy-" + d.id[:8]
		s.policy(name, statements...)
		s.attach(name, d.arn)
	}
	return d
}

// policyOf is the policy that device made.
func policyOf(d device) string { return "policy-" + d.id[:8] }

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// allow and deny are statements; resources are kinds and names as in "topic/a/*".
func allow(action string, resources ...string) string { return statement("Allow", action, resources) }
func deny(action string, resources ...string) string  { return statement("Deny", action, resources) }

func statement(effect, action string, resources []string) string {
	all := `"*"`
	if len(resources) > 0 {
		all = `["` + here.ARN("iot", strings.Join(resources, `","`+here.ARN("iot", ""))) + `"]`
	}
	return `{"Effect":"` + effect + `","Action":"` + action + `","Resource":` + all + `}`
}

// when adds a condition to a statement.
func when(statement, condition string) string {
	return strings.TrimSuffix(statement, "}") + `,"Condition":` + condition + "}"
}

func (s *site) policy(name string, statements ...string) {
	s.t.Helper()
	s.tx(func(tx *store.Tx) error {
		_, err := registry.CreatePolicy(tx, here, name, document(statements...), nil)
		return err
	})
}

func (s *site) attach(policy, target string) {
	s.t.Helper()
	s.tx(func(tx *store.Tx) error { return registry.AttachPolicy(tx, here, policy, target) })
}

// thing makes a thing and attaches a device to it.
func (s *site) thing(spec registry.ThingSpec, d device, kind fleet.PrincipalType) {
	s.t.Helper()
	s.tx(func(tx *store.Tx) error {
		if spec.Type != "" {
			if _, err := registry.CreateThingType(tx, here, spec.Type, registry.ThingTypeSpec{}); err != nil {
				return err
			}
		}
		if _, err := registry.CreateThing(tx, here, spec); err != nil {
			return err
		}
		return registry.AttachPrincipal(tx, here, spec.Name, d.arn, kind)
	})
}

func (s *site) status(d device, status fleet.CertificateStatus) {
	s.t.Helper()
	s.tx(func(tx *store.Tx) error { return registry.SetCertificateStatus(tx, here, d.id, status) })
}

// claim makes a claim as ann.
func (s *site) claim(template string) device {
	s.t.Helper()
	c, err := s.prov.CreateClaim(s.t.Context(), s.ann, template)
	check(s.t, err)
	pair, err := tls.X509KeyPair([]byte(c.CertificatePEM), []byte(c.PrivateKeyPEM.Reveal()))
	check(s.t, err)
	return device{pair, c.ID, ""}
}

// stranger is a certificate that nobody registered; from and to say when it is valid.
func (s *site) stranger(from, to time.Time) device {
	key := newKey(s.t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(s.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "stranger"}, NotBefore: from, NotAfter: to},
		&x509.Certificate{Subject: pkix.Name{CommonName: "nobody"}}, key.Public(), key)
	check(s.t, err)
	return holder(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key)
}

// config is what a client connects with.
func (s *site) config(d device, change ...func(*tls.Config)) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.ca.RootsPEM()))
	c := &tls.Config{RootCAs: roots, ServerName: "iot.lan", Time: s.gw.Clock.Now}
	if d.id != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &d.Certificate, nil }
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func (s *site) dial(address string, c *tls.Config) (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: mqtttest.Patience()}, "tcp", address, c)
}

// open connects to the MQTT port.
func (s *site) open(d device, version byte) *mqtttest.Client {
	s.t.Helper()
	return s.openWith(version, s.config(d))
}

func (s *site) openWith(version byte, c *tls.Config) *mqtttest.Client {
	s.t.Helper()
	tc, err := s.dial(s.mqtt, c)
	check(s.t, err)
	return mqtttest.New(s.t, tc, version)
}

// refusal is the alert that a client gets instead of an MQTT byte.
func (s *site) refusal(address string, c *tls.Config) string {
	s.t.Helper()
	tc, err := s.dial(address, c)
	if err == nil { // in TLS 1.3 the client hears of it with its first read
		defer tc.Close()
		tc.SetReadDeadline(time.Now().Add(mqtttest.Patience()))
		tc.Write([]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 0})
		_, err = tc.Read(make([]byte, 1))
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		s.t.Fatalf("got %v, want a TLS alert", err)
	}
	_, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
	return alert
}

// trace waits for the next refusal that is kept, and returns it.
func (s *site) trace() trace.Record {
	s.t.Helper()
	for {
		select {
		case f := <-s.traces:
			if f.Record.Outcome != trace.OK {
				return f.Record
			}
		case <-time.After(mqtttest.Patience()):
			s.t.Fatal("no trace was kept")
		}
	}
}

func (s *site) wantTrace(cause, cure string) {
	s.t.Helper()
	r := s.trace()
	if !strings.Contains(r.Cause, cause) || !strings.Contains(r.Cure, cure) || cause == "" || cure == "" {
		s.t.Errorf("the trace says %q and %q, want %q and %q in it\n%s", r.Cause, r.Cure, cause, cure, r.Text())
	}
}

// heard is what a hook hears next.
func heard[T any](t testing.TB, from chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(mqtttest.Patience()):
		t.Fatal("the hook was not called")
	}
	return v
}
