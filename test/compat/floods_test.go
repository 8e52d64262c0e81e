package compat

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	devices "github.com/imprint-iot/imprint/device"
	"github.com/imprint-iot/imprint/test/compat/flood"
)

// A floodCase is a flood and what must be seen of it.
type floodCase struct {
	kind     string
	attempts int64         // of the short test
	many     int64         // of the long one
	length   time.Duration // at most; floods that hold connections last so long
	counted  []string      // metrics that must have grown, one of them at least
	within   bool          // the long one stays within the budget that ships: it need not grow
}

const refusedBy = "imprint_refusals_total"

var floodCases = []floodCase{
	{"silent", 400, 10_000, 3 * time.Second, []string{refusedBy + `{budget="pending_connections"}`}, true},
	{"slow-tls", 300, 5000, 3 * time.Second, []string{refusedBy + `{budget="pending_connections"}`}, true},
	{"slow-http", 200, 2000, 4 * time.Second, []string{refusedBy + `{budget="pending_connections"}`}, true},
	{"slow-connect", 200, 2000, 4 * time.Second, []string{refusedBy + `{budget="pending_connections"}`}, true},
	{"handshakes", 300, 10_000, time.Minute, []string{`imprint_slowed_total{budget="handshakes"}`}, false},
	{"strangers", 300, 10_000, time.Minute, []string{`imprint_slowed_total{budget="handshakes"}`}, false},
	{"requests", 30, 3000, time.Minute, []string{refusedBy + `{budget="requests"}`}, false},
	{"bodies", 64, 2000, 4 * time.Second, []string{refusedBy + `{budget="bodies"}`, refusedBy + `{budget="requests"}`}, true},
	{"logins", 60, 5000, time.Minute, []string{refusedBy + `{budget="guesses"}`, refusedBy + `{budget="requests"}`}, false},
	{"sign-ups", 20, 2000, time.Minute, []string{refusedBy + `{budget="sign_ups"}`, refusedBy + `{budget="requests"}`}, false},
	{"packets", 60, 5000, time.Minute, []string{`imprint_mqtt_disconnections_total{reason="CLIENT_ERROR"}`}, false},
	{"subscriptions", 16, 16, 3 * time.Second, []string{`imprint_mqtt_disconnections_total{reason="CONNECTION_LOST"}`}, false},
	{"keys", 32, 32, 3 * time.Second, []string{"imprint_keypool_refused_total"}, false},
}

// TestDevicesAreProvisionedUnderFloods plays each flood against a server with small budgets while devices are provisioned from
// another address: all of them get through, refusals are counted, and what the flood took comes back.
func TestDevicesAreProvisionedUnderFloods(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--limit-pending", "100", "--limit-handshakes", "10", "--limit-requests", "5", "--limit-body-memory", "8", "--limit-keys-waiting", "16")
	playFloods(t, s, func(c floodCase) int64 { return c.attempts }, 200)
}

// TestSoakFloods plays the large form against a server with the settings that it ships with.
func TestSoakFloods(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	playFloods(t, ownServer(t), func(c floodCase) int64 { return c.many }, 600)
}

func playFloods(t *testing.T, s *site, attempts func(floodCase) int64, memoryMiB int) {
	w := newFloodWorld(t, s)
	w.provision(t, "before")
	quiet := w.metrics(t)
	for i, c := range floodCases {
		// From an address of its own: the server remembers how a party behaved before.
		w.target.From = []string{fmt.Sprintf("127.0.0.%d", 66+i)}
		before := w.metrics(t)
		length := c.length
		if attempts(c) > c.attempts {
			length *= 4
		}
		ctx, cancel := context.WithTimeout(t.Context(), length)
		var over atomic.Bool
		var wg sync.WaitGroup
		var tally flood.Tally
		wg.Go(func() {
			defer over.Store(true)
			kind, known := flood.Named(c.kind)
			if !known {
				t.Errorf("there is no flood %q", c.kind)
				return
			}
			tally = kind.Run(ctx, w.target, attempts(c))
		})
		provisioned := 0
		for ; provisioned < 2 || !over.Load(); provisioned++ {
			w.provision(t, fmt.Sprintf("%s-%d", c.kind, provisioned))
		}
		wg.Wait()
		cancel()
		within := c.within && attempts(c) > c.attempts
		if !w.settled(t, quiet, func(after map[string]float64) bool {
			return within || slices.ContainsFunc(c.counted, func(name string) bool { return after[name] > before[name] })
		}) {
			t.Errorf("%s: none of %q has grown: %v", c.kind, c.counted, tally)
		}
		t.Logf("%s: %v; %d devices provisioned; highest memory so far %d MiB", c.kind, tally, provisioned, w.site.highest(t))
	}
	if got := w.site.highest(t); got > memoryMiB {
		t.Errorf("the server took %d MiB, at most %d are expected", got, memoryMiB)
	}
}

// A floodWorld is a prepared server and what floods need.
type floodWorld struct {
	*world
	target flood.Target
	claim  []byte
	made   time.Time // the claim
	admin  *http.Client
}

func newFloodWorld(t *testing.T, s *site) *floodWorld {
	t.Helper()
	w := &floodWorld{world: newWorld(t, s, "floods")}
	socket := filepath.Join(s.data, "admin.sock")
	w.admin = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	c, err := s.adminClient()
	check(t, err)
	var cert struct {
		CertificateArn, CertificatePem string
		KeyPair                        struct{ PrivateKey string }
	}
	call := func(err error) { t.Helper(); check(t, err) }
	call(c.REST(t.Context(), "iot", http.MethodPost, "/keys-and-certificate?setAsActive=true", nil, &cert))
	call(c.REST(t.Context(), "iot", http.MethodPost, "/policies/flood", object{"policyDocument": text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}})}, nil))
	call(c.REST(t.Context(), "iot", http.MethodPut, "/target-policies/flood", object{"target": cert.CertificateArn}, nil))
	var pool struct{ UserPool struct{ Id string } }
	var app struct{ UserPoolClient struct{ ClientId string } }
	idp := func(operation string, in object, out any) {
		t.Helper()
		check(t, c.JSON(t.Context(), "cognito-idp", "AWSCognitoIdentityProviderService."+operation, in, out))
	}
	idp("CreateUserPool", object{"PoolName": "flood", "AdminCreateUserConfig": object{"AllowAdminCreateUserOnly": false}}, &pool)
	idp("CreateUserPoolClient", object{"UserPoolId": pool.UserPool.Id, "ClientName": "flood"}, &app)
	w.target = flood.Target{MQTT: net.JoinHostPort("127.0.0.1", s.get("IOT_PORT")), HTTPS: net.JoinHostPort("127.0.0.1", s.get("IOT_ALPN_PORT")),
		TLS: &tls.Config{RootCAs: s.roots(t), ServerName: "localhost"}, AppID: app.UserPoolClient.ClientId, Stranger: stranger(t)}
	w.target.Device, err = tls.X509KeyPair([]byte(cert.CertificatePem), []byte(cert.KeyPair.PrivateKey))
	check(t, err)
	return w
}

func stranger(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// provision takes a device through everything. It may try again, as devices do.
func (w *floodWorld) provision(t *testing.T, serial string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if time.Since(w.made) > 2*time.Minute {
		c, err := w.site.adminClient()
		check(t, err)
		var raw json.RawMessage
		check(t, c.REST(ctx, "iot", http.MethodPost, "/provisioning-templates/"+w.template+"/provisioning-claim", nil, &raw))
		w.claim, w.made = raw, time.Now()
	}
	claim, err := devices.ParseClaim(w.claim)
	check(t, err)
	roots, err := os.ReadFile(w.site.get("AWS_CA_BUNDLE"))
	check(t, err)
	_, err = devices.Provision(ctx, devices.Config{Dir: filepath.Join(t.TempDir(), "device"), Claim: claim, Template: w.template, Roots: string(roots),
		Endpoint: net.JoinHostPort(w.site.get("IOT_ENDPOINT"), w.site.get("IOT_PORT")), Parameters: map[string]string{"SerialNumber": serial}})
	if err != nil {
		t.Fatalf("device %s: %v", serial, err)
	}
}

// metrics reads the server's counters and gauges.
func (w *floodWorld) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	res, err := w.admin.Get("http://imprint/metrics")
	check(t, err)
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	check(t, err)
	out := map[string]float64{}
	for line := range bytes.Lines(page) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
			out[name] = n
		}
	}
	return out
}

// settled waits until goroutines, connections and open files are about as many as in the quiet. What is pending has ten seconds
// for its handshake, ten for its CONNECT, and a second to be told of its end. It reports whether all that was to be counted has been:
// the server may hear late of connections that have gone.
func (w *floodWorld) settled(t *testing.T, quiet map[string]float64, counted func(map[string]float64) bool) bool {
	t.Helper()
	const spare = 40 // connections of this test, and what the runtime keeps
	tick, late := time.NewTicker(200*time.Millisecond), time.After(5*time.Minute)
	defer tick.Stop()
	for {
		m := w.metrics(t)
		high, all := "", counted(m)
		for _, name := range []string{"go_goroutines", "process_open_fds", "imprint_mqtt_connections", "imprint_pending_connections"} {
			if m[name] > quiet[name]+spare {
				high += fmt.Sprintf(" %s %v, was %v;", name, m[name], quiet[name])
			}
		}
		if high == "" && all {
			return true
		}
		select {
		case <-tick.C:
		case <-late:
			if high != "" {
				t.Errorf("after the flood there are still%s", high)
			}
			return all
		}
	}
}
