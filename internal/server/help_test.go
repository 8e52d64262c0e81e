package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/server/porttest"
)

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long to wait for what must come: on a machine that is busy it comes late.
const patience = time.Minute

// folder is a place for a data folder, which is not there yet.
func folder(t testing.TB) string { return filepath.Join(t.TempDir(), "data") }

// quick are settings with which a server starts fast, on free ports.
func quick(data string) Config {
	return Config{Data: data, HTTPSPort: AnyPort, MQTTPort: AnyPort, KeyPool: -1, KeyWait: patience}
}

// startServer starts a server and stops it at the end of the test, if that has not been done.
func startServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	cfg.KeyWait = patience
	s, err := Start(t.Context(), heldPorts(t, cfg))
	noError(t, err)
	t.Cleanup(func() { stopServer(t, s) })
	return s
}

// heldPorts has the first start in a folder take ports that nobody else is given while the server is stopped: the next start asks for
// them again.
func heldPorts(t testing.TB, cfg Config) Config {
	t.Helper()
	if _, err := hasData(cfg.Data); err == nil {
		return cfg
	}
	for _, p := range []*Port{&cfg.HTTPSPort, &cfg.MQTTPort} {
		if *p == AnyPort {
			*p = Port(porttest.Hold(t))
		}
	}
	return cfg
}

var stopped sync.Map // *Server

func stopServer(t testing.TB, s *Server) {
	t.Helper()
	if _, done := stopped.LoadOrStore(s, true); done {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	noError(t, s.Close(ctx))
}

// shared is a server for tests that leave it as it is.
var shared struct {
	once sync.Once
	*Server
	err error
}

func sharedServer(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "imprint-server-")
		if err == nil {
			shared.Server, err = Start(context.Background(), quick(dir))
		}
		shared.err = err
	})
	noError(t, shared.err)
	return shared.Server
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.Server != nil {
		if err := shared.Close(context.Background()); err != nil {
			code = 1
		}
		os.RemoveAll(shared.cfg.Data)
	}
	os.Exit(code)
}

// roots are those of the file that clients are told to trust.
func roots(t testing.TB, s *Server) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(s.Env().Get("AWS_CA_BUNDLE"))
	noError(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("there are no roots")
	}
	return pool
}

// web is an HTTP client that trusts the server and keeps no connection.
func web(t testing.TB, s *Server) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(t, s)}, ForceAttemptHTTP2: true, DisableKeepAlives: true}, Timeout: patience}
}

// answer does a request and returns status, header and body.
func answer(t testing.TB, s *Server, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.site.baseURL()+path, strings.NewReader(body))
	noError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(t, s, req)
}

func do(t testing.TB, s *Server, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := web(t, s).Do(req)
	noError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	noError(t, err)
	return res, string(text)
}

// api is a client that signs with the key of the environment file.
func api(t testing.TB, s *Server) *client.Client {
	t.Helper()
	return as(t, s, administrator(s))
}

func administrator(s *Server) client.Credentials {
	return client.Credentials{AccessKeyID: s.Env().Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(s.Env().Get("AWS_SECRET_ACCESS_KEY"))}
}

func as(t testing.TB, s *Server, c client.Credentials) *client.Client {
	t.Helper()
	return in(t, s, s.Env().Get("AWS_REGION"), c)
}

// in is a client that signs for a region.
func in(t testing.TB, s *Server, region string, c client.Credentials) *client.Client {
	t.Helper()
	out, err := client.New(client.Config{Endpoint: s.Env().Get("AWS_ENDPOINT_URL"), Region: region, CAFile: s.Env().Get("AWS_CA_BUNDLE"), Creds: c})
	noError(t, err)
	return out
}

type object = map[string]any

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// pool calls an operation of user pools and returns its answer.
func pool(t testing.TB, c *client.Client, operation string, in object) object {
	t.Helper()
	var out object
	noError(t, c.JSON(t.Context(), "cognito-idp", "AWSCognitoIdentityProviderService."+operation, in, &out))
	return out
}

// whoami returns the ARN of whoever signs.
func whoami(t testing.TB, c *client.Client) (string, error) {
	var out struct {
		Result struct{ Arn string } `xml:"GetCallerIdentityResult"`
	}
	err := c.Query(t.Context(), "sts", "2011-06-15", "GetCallerIdentity", nil, &out)
	return out.Result.Arn, err
}

// device connects to the MQTT port.
func device(t testing.TB, s *Server, pair tls.Certificate) *mqtttest.Client {
	t.Helper()
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.ports.mqtt.Addr().String(),
		&tls.Config{RootCAs: roots(t, s), ServerName: "localhost", Certificates: []tls.Certificate{pair}})
	noError(t, err)
	return mqtttest.New(t, nc, 5)
}

func pairOf(t testing.TB, certificate, key any) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(certificate.(string)), []byte(key.(string)))
	noError(t, err)
	return pair
}

func contains(t testing.TB, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want %q in it", err, w)
		}
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	noError(t, err)
	return bytes.Clone(b)
}

// persistentSession asks for a session that outlives its connection by ten minutes.
func persistentSession(pk *packets.Packet) {
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
}

func will(topic, payload string) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, topic, []byte(payload)
	}
}

// waitFor asks again and again, as a client would.
func waitFor(t testing.TB, what string, ask func() bool) {
	t.Helper()
	tick, late := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !ask() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s did not come", what)
		}
	}
}
