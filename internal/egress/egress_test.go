package egress

import (
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAddressesThatAreNotPublic(t *testing.T) {
	t.Parallel()
	for text, public := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "172.32.0.1": true, "100.128.0.1": true, "2606:4700::1111": true, "2a00::1": true, "::ffff:8.8.8.8": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "127.0.0.1": false, "127.255.0.9": false, "169.254.169.254": false, "172.16.0.1": false,
		"172.31.255.255": false, "192.168.1.1": false, "100.64.0.1": false, "100.127.255.255": false, "198.18.0.1": false, "192.0.2.1": false,
		"224.0.0.1": false, "239.1.1.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd12::1": false, "ff02::1": false, "2001:db8::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "::ffff:0:127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a00:1": false, "64:ff9b::808:808": false, "64:ff9b:1::1": false, // NAT64 may lead into the network
		"2002:7f00:1::": false, "2001::1": false,
	} {
		if got := Public(netip.MustParseAddr(text)); got != public {
			t.Errorf("%s: public is %v", text, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestDestinationsAreChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "hooks.lan:0", "hooks.lan:http", "*.lan", "https://hooks.lan", "10.0.0.0/33", "user@host"} {
		if _, err := New(Config{Allow: []string{bad}}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := New(Config{Proxy: "proxy.lan:3128"}); err == nil {
		t.Error("a proxy without a scheme was accepted")
	}
}

// trusting lets a client trust the test server, and wait for it on a busy machine.
func trusting(t *testing.T, c Config, s *httptest.Server) *http.Client {
	t.Helper()
	c.Timeout = time.Minute
	if s != nil && s.Certificate() != nil {
		c.Roots = x509.NewCertPool()
		c.Roots.AddCert(s.Certificate())
	}
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	tr := client.Transport.(*transport).next.(*http.Transport)
	tr.TLSHandshakeTimeout = time.Minute
	t.Cleanup(tr.CloseIdleConnections)
	return client
}

func get(t *testing.T, c *http.Client, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestOnlyListedServersOnLoopbackAreReached(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); io.WriteString(w, "hello") })
	s, plain := httptest.NewTLSServer(h), httptest.NewServer(h)
	defer s.Close()
	defer plain.Close()
	at, plainAt := s.Listener.Addr().String(), plain.Listener.Addr().String()
	for _, c := range []struct {
		name  string
		allow []string
		url   string
		ok    bool
	}{
		{"nothing is listed", nil, s.URL, false},
		{"address and port", []string{at}, s.URL, true},
		{"another port", []string{"127.0.0.1:1"}, s.URL, false},
		{"network", []string{"127.0.0.0/8"}, s.URL, true},
		{"another network", []string{"10.0.0.0/8"}, s.URL, false},
		{"IPv4 as IPv6", nil, strings.Replace(s.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1), false},
		{"decimal address", nil, strings.Replace(s.URL, "127.0.0.1", "2130706433", 1), false},
		{"unspecified address", nil, strings.Replace(s.URL, "127.0.0.1", "0.0.0.0", 1), false},
		{"plain HTTP to a listed address", []string{plainAt}, plain.URL, true},
		{"plain HTTP", nil, "http://example.com/", false},
		{"another scheme", []string{"example.com"}, "ftp://example.com/", false},
		{"user name", []string{at}, strings.Replace(s.URL, "https://", "https://ann:secret@", 1), false},
	} {
		calls.Store(0)
		body, err := get(t, trusting(t, Config{Allow: c.allow}, s), c.url)
		if (err == nil) != c.ok || c.ok != (body == "hello") || c.ok != (calls.Load() == 1) {
			t.Errorf("%s: %q, %v, %d calls", c.name, body, err, calls.Load())
		}
		if !c.ok && c.name != "decimal address" && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// nameserver answers every question of type A with the next of its addresses, as one does that rebinds names.
func nameserver(t *testing.T, addresses ...string) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 512)
		for n := 0; ; {
			size, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			q := b[:size]
			end := 12
			for q[end] != 0 {
				end += int(q[end]) + 1
			}
			a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end+5]...)
			if binary.BigEndian.Uint16(q[end+1:]) == 1 { // A
				ip := netip.MustParseAddr(addresses[min(n, len(addresses)-1)]).As4()
				n++
				a[7] = 1
				a = append(append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4), ip[:]...)
			}
			pc.WriteTo(a, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func TestANameIsJudgedByWhereItLeadsWhenItIsCalled(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "inside") }))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	c := trusting(t, Config{Resolver: nameserver(t, "127.0.0.1")}, nil)
	if _, err := get(t, c, "https://rebound.example:"+port); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("a name that leads to loopback: %v", err)
	}
	c = trusting(t, Config{Resolver: nameserver(t, "127.0.0.1"), Allow: []string{"Hooks.Example.:" + port}}, nil)
	if body, err := get(t, c, "http://hooks.example:"+port); err != nil || body != "inside" {
		t.Errorf("a listed name: %q, %v", body, err)
	}
	if _, err := get(t, c, "http://hooks.example:1"); !errors.Is(err, ErrRefused) {
		t.Errorf("a listed name at another port: %v", err)
	}
}

func TestRedirectsStayOnTheirOrigin(t *testing.T) {
	t.Parallel()
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer other.Close()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/down":
			http.Redirect(w, r, "http://"+r.Host+"/", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/", http.StatusFound)
		default:
			io.WriteString(w, "home")
		}
	}))
	defer s.Close()
	c := trusting(t, Config{Allow: []string{"127.0.0.1"}}, s)
	for _, path := range []string{"/away", "/down", "/loop"} {
		if _, err := get(t, c, s.URL+path); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if body, err := get(t, c, s.URL+"/here"); err != nil || body != "home" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exact":
			io.WriteString(w, strings.Repeat("x", 1000))
		case "/long":
			io.WriteString(w, strings.Repeat("x", 1001))
		case "/stream":
			for range 100 {
				io.WriteString(w, strings.Repeat("x", 100))
				w.(http.Flusher).Flush()
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, strings.Repeat("x", 1<<20))
			z.Close()
		case "/header":
			w.Header().Set("X-Large", strings.Repeat("x", 2*maxHeader))
		case "/slow":
			<-release
		}
	}))
	defer s.Close()
	defer close(release)
	c := trusting(t, Config{Allow: []string{"127.0.0.1"}, MaxBody: 1000}, s)
	if body, err := get(t, c, s.URL+"/exact"); err != nil || len(body) != 1000 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	for _, path := range []string{"/long", "/stream", "/bomb"} {
		body, err := get(t, c, s.URL+path)
		if !errors.As(err, &TooLarge{}) || len(body) > 1000 {
			t.Errorf("%s: %d bytes, %v", path, len(body), err)
		}
	}
	if _, err := get(t, c, s.URL+"/header"); err == nil {
		t.Error("a header without end was read")
	}
	c.Timeout = 100 * time.Millisecond
	if _, err := get(t, c, s.URL+"/slow"); err == nil {
		t.Error("an answer that never comes is waited for")
	}
}

func TestServersHaveToProveWhoTheyAre(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	c, err := New(Config{Allow: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, s.URL); err == nil {
		t.Error("a certificate that nobody vouches for was accepted")
	}
}

func TestTheEnvironmentNamesNoProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "by proxy to "+r.URL.Host) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "straight") }))
	defer s.Close()
	if body, err := get(t, trusting(t, Config{Allow: []string{"127.0.0.1"}}, nil), s.URL); err != nil || body != "straight" {
		t.Errorf("%q, %v", body, err)
	}
	c := trusting(t, Config{Allow: []string{"127.0.0.1", "hooks.example"}, Proxy: proxy.URL}, nil)
	if body, err := get(t, c, "http://hooks.example/"); err != nil || body != "by proxy to hooks.example" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := get(t, c, "https://10.0.0.1/"); !errors.Is(err, ErrRefused) {
		t.Errorf("by proxy into the network: %v", err)
	}
}
