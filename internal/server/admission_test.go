package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/client"
)

// from is an HTTP client at an address of loopback.
func from(t testing.TB, s *Server, ip string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	tr := &http.Transport{DialContext: d.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots(t, s)}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func get(t testing.TB, s *Server, c *http.Client, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.site.baseURL()+path, nil)
	noError(t, err)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIANOBODY/20260101/us-east-1/iot/aws4_request, SignedHeaders=host;x-amz-date, Signature=00")
	res, err := c.Do(req)
	noError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	noError(t, err)
	return res, string(text)
}

// metric reads a metric by its name and labels, as text.
func metric(t testing.TB, s *Server, name string) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestRequestsInVainAreRefusedByAddress(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.RequestsPerAddress, cfg.RequestsTotal = 1, 1000
	s := startServer(t, cfg)
	stranger := from(t, s, "127.0.0.66")
	var res *http.Response
	var body string
	for n := range 20 {
		if res, body = get(t, s, stranger, "/things"); res.StatusCode == http.StatusTooManyRequests {
			if n < 10 {
				t.Errorf("refused after %d requests", n)
			}
			break
		}
	}
	if res.StatusCode != 429 || res.Header.Get("X-Amzn-Errortype") != "ThrottlingException" || res.Header.Get("Retry-After") != "1" || !res.Close {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	if n := metric(t, s, `imprint_refusals_total{budget="requests"}`); n != "1" {
		t.Errorf("%q refusals are counted", n)
	}
	if res, body := get(t, s, from(t, s, "127.0.0.67"), "/things"); res.StatusCode != 403 {
		t.Errorf("another address: %d %s", res.StatusCode, body)
	}
	for range 30 { // what is signed is not in vain
		if _, err := whoami(t, api(t, s)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAProxySaysWhoAsks(t *testing.T) {
	t.Parallel()
	a := &strangers{}
	a.proxies, _ = admission.ParseTrusted([]string{"127.0.0.1", "10.0.0.0/8", "::1"})
	for _, c := range []struct{ remote, forwarded, want string }{
		{"127.0.0.1:1000", "192.0.2.9", "192.0.2.9:1000"},
		{"127.0.0.1:1000", "192.0.2.9, 10.1.1.1", "192.0.2.9:1000"},
		{"127.0.0.1:1000", "203.0.113.5, 192.0.2.9,10.1.1.1", "192.0.2.9:1000"}, // what the client says of itself does not count
		{"[::1]:1000", "2001:db8::1", "[2001:db8::1]:1000"},
		{"127.0.0.1:1000", "::ffff:192.0.2.9", "192.0.2.9:1000"},
		{"127.0.0.1:1000", "", "127.0.0.1:1000"},
		{"127.0.0.1:1000", "192.0.2.9, unknown", "127.0.0.1:1000"},
		{"192.0.2.1:1000", "192.0.2.9", "192.0.2.1:1000"}, // no proxy of ours
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": {c.forwarded}}}
		if a.forwarded(r); r.RemoteAddr != c.want {
			t.Errorf("%s for %q: %s, want %s", c.remote, c.forwarded, r.RemoteAddr, c.want)
		}
	}
}

func TestNetworksAreCheckedAtTheStart(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.TrustedAddresses = []string{"factory"}
	_, err := Start(t.Context(), cfg)
	contains(t, err, "trusted addresses", "factory", "192.0.2.0/24")
	cfg.TrustedAddresses, cfg.EgressAllow = nil, []string{"hooks.lan:http"}
	_, err = Start(t.Context(), cfg)
	contains(t, err, "egress", "hooks.lan:http")
}

// hold opens a connection to the HTTPS port that does nothing after its handshake.
func hold(t testing.TB, s *Server) *tls.Conn {
	t.Helper()
	tc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.ports.https.Addr().String(), &tls.Config{RootCAs: roots(t, s), ServerName: "localhost"})
	noError(t, err)
	t.Cleanup(func() { tc.Close() })
	return tc
}

func TestPendingConnectionsMakeRoomAndProvenOnesStay(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.PendingConnections = 4
	s := startServer(t, cfg)
	admin := api(t, s) // keeps its connection
	_, err := whoami(t, admin)
	noError(t, err)
	proven := hold(t, s)
	fmt.Fprintf(proven, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	_, err = http.ReadResponse(bufio.NewReader(proven), nil) // which proves nothing
	noError(t, err)
	idle := []*tls.Conn{proven}
	for range 4 {
		idle = append(idle, hold(t, s))
	}
	noError(t, idle[0].SetReadDeadline(time.Now().Add(patience)))
	if _, err := idle[0].Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the oldest idle connection reads %v", err)
	}
	if n := metric(t, s, `imprint_refusals_total{budget="pending_connections"}`); n == "" {
		t.Error("it is not counted")
	}
	if n := metric(t, s, "imprint_pending_connections"); n != "4" {
		t.Errorf("%s are pending", n)
	}
	if _, err := whoami(t, admin); err != nil {
		t.Error(err)
	}
}

// No budget of memory holds for requests of S3, whose bodies are read part by part. Whoever says that a request is one gets no other service
// by it; and a bucket may be called like what is above the pages of user pools.
func TestWhatIsForS3IsServedByNobodyElse(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	for _, path := range []string{"/auth/plant/oauth2/idpresponse", "/login", "/imprint/user-imports/x/y", "/mqtt", "/"} {
		if res, body := answer(t, s, http.MethodPost, path+"?x=/s3/aws4_request", "RelayState=x", "Content-Type", "application/x-www-form-urlencoded"); !strings.HasPrefix(body, "<?xml") {
			t.Errorf("%s: %s %.200s", path, res.Status, body)
		}
	}
	admin := api(t, s)
	noError(t, admin.REST(t.Context(), "s3", http.MethodPut, "/auth", nil, nil))
	noError(t, admin.PutObject(t.Context(), "auth", "plant/login", strings.NewReader("x"), 1))
	noError(t, admin.REST(t.Context(), "s3", http.MethodDelete, "/auth/plant/login", nil, nil))
	noError(t, admin.REST(t.Context(), "s3", http.MethodDelete, "/auth", nil, nil))
}

func TestMQTTConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.Connections = 1
	s := startServer(t, cfg)
	pair := certificate(t, api(t, s))
	first := device(t, s, pair)
	if p := first.Connect("one"); p.ReasonCode != 0 {
		t.Fatalf("the first got %#x", p.ReasonCode)
	}
	second := device(t, s, pair)
	if p := second.Connect("two"); p.ReasonCode != 0x97 {
		t.Errorf("the second got %#x", p.ReasonCode)
	}
	if n := metric(t, s, `imprint_refusals_total{budget="connections"}`); n != "1" {
		t.Errorf("%q refusals are counted", n)
	}
}

// certificate makes an active certificate that may do everything.
func certificate(t testing.TB, c *client.Client) tls.Certificate {
	t.Helper()
	var out struct {
		CertificateArn, CertificatePem string
		KeyPair                        struct{ PrivateKey string }
	}
	noError(t, c.REST(t.Context(), "iot", "POST", "/keys-and-certificate?setAsActive=true", nil, &out))
	noError(t, c.REST(t.Context(), "iot", "POST", "/policies/all", object{"policyDocument": text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}})}, nil))
	noError(t, c.REST(t.Context(), "iot", "PUT", "/target-policies/all", object{"target": out.CertificateArn}, nil))
	return pairOf(t, out.CertificatePem, out.KeyPair.PrivateKey)
}

// FuzzForwarded gives requests of a proxy any header: what they are counted as is an address, and none of the proxy's.
func FuzzForwarded(f *testing.F) {
	for _, header := range []string{"", "203.0.113.9", "1.2.3.4, 203.0.113.9 ,10.0.0.2", "::ffff:203.0.113.9", "fe80::1%eth0", "2001:db8::1", "10.0.0.2,,", "unknown", "[2001:db8::1]:80"} {
		f.Add(header)
	}
	proxies, err := admission.ParseTrusted([]string{"10.0.0.0/8"})
	noError(f, err)
	const proxy = "10.0.0.1:80"
	f.Fuzz(func(t *testing.T, header string) {
		s := &strangers{proxies: proxies}
		r := &http.Request{RemoteAddr: proxy, Header: http.Header{"X-Forwarded-For": {header}}}
		if s.forwarded(r); r.RemoteAddr == proxy {
			return
		}
		at, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || at.Port() != 80 || at.Addr().Is4In6() || at.Addr().Zone() != "" || proxies[0].Contains(at.Addr()) {
			t.Errorf("%q: counted as %s", header, r.RemoteAddr)
		}
		if last := header[strings.LastIndex(header, ",")+1:]; !listed(proxies, strings.TrimSpace(last)) && netip.MustParseAddr(strings.TrimSpace(last)).Unmap() != at.Addr() {
			t.Errorf("%q: counted as %s, which the client wrote", header, r.RemoteAddr)
		}
		s.proxies = nil
		r.RemoteAddr = proxy
		if s.forwarded(r); r.RemoteAddr != proxy {
			t.Errorf("%q is believed though nobody trusts the proxy", header)
		}
	})
}
