package egress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for loopback or a name.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func issue(t *testing.T, by *authority, ca bool, names ...string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

func (a authority) thumbprint() string {
	sum := sha1.Sum(a.cert.Raw)
	return hex.EncodeToString(sum[:])
}

func TestThumbprintsVouchForChainsNotForCertificatesSentAlong(t *testing.T) {
	t.Parallel()
	ca := issue(t, nil, true)
	stranger := issue(t, nil, true)
	good, other, own, alone := issue(t, &ca, false, "127.0.0.1"), issue(t, &ca, false, "id.example"), issue(t, &stranger, false, "127.0.0.1"), issue(t, nil, false, "127.0.0.1")
	for _, c := range []struct {
		name  string
		leaf  authority
		chain []authority
		pins  []string
		ok    bool
	}{
		{"issued under the pinned one", good, []authority{ca}, []string{ca.thumbprint()}, true},
		{"in upper case, beside another", good, []authority{ca}, []string{stranger.thumbprint(), strings.ToUpper(ca.thumbprint())}, true},
		{"the pinned one itself", alone, nil, []string{alone.thumbprint()}, true},
		{"the leaf of a chain", good, []authority{ca}, []string{good.thumbprint()}, true},
		{"not pinned", good, []authority{ca}, []string{stranger.thumbprint()}, false},
		{"for another host", other, []authority{ca}, []string{ca.thumbprint()}, false},
		{"a stranger's with the pinned one sent along", own, []authority{stranger, ca}, []string{ca.thumbprint()}, false},
		{"without thumbprints", good, []authority{ca}, nil, false},
	} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
		pair := tls.Certificate{Certificate: [][]byte{c.leaf.cert.Raw}, PrivateKey: c.leaf.key}
		for _, a := range c.chain {
			pair.Certificate = append(pair.Certificate, a.cert.Raw)
		}
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		s.StartTLS()
		t.Cleanup(s.Close)
		plain := trusting(t, Config{Allow: []string{"127.0.0.1"}, Roots: x509.NewCertPool()}, nil)
		client, err := WithThumbprints(plain, c.pins)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.CloseIdleConnections)
		body, err := get(t, client, s.URL)
		if (err == nil) != c.ok || c.ok != (body == "hello") {
			t.Errorf("%s: %q, %v", c.name, body, err)
		}
		if _, err := get(t, plain, s.URL); err == nil {
			t.Errorf("%s: the client without thumbprints took the server", c.name)
		}
	}
}

// A proxy that is spoken to by HTTPS stands under the roots of everybody, and thumbprints are none of its business.
func TestThumbprintsBehindAProxyOfHTTPS(t *testing.T) {
	t.Parallel()
	trusted, pinned := issue(t, nil, true), issue(t, nil, true)
	serve := func(by authority, name string, h http.HandlerFunc) *httptest.Server {
		leaf := issue(t, &by, false, name)
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw, by.cert.Raw}, PrivateKey: leaf.key}}}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	target := serve(pinned, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	tunnel := func(w http.ResponseWriter, r *http.Request) {
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		go io.Copy(to, from)
		io.Copy(from, to)
	}
	for name, c := range map[string]struct {
		by authority
		ok bool
	}{"trusted": {trusted, true}, "under the pinned certificate": {pinned, false}} {
		proxy := serve(c.by, "localhost", tunnel)
		roots := x509.NewCertPool()
		roots.AddCert(trusted.cert)
		plain, err := New(Config{Allow: []string{"127.0.0.1", "localhost"}, Roots: roots, Proxy: strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)})
		if err != nil {
			t.Fatal(err)
		}
		client, err := WithThumbprints(plain, []string{pinned.thumbprint()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.CloseIdleConnections)
		if body, err := get(t, client, target.URL); (err == nil) != c.ok || c.ok != (body == "hello") {
			t.Errorf("a proxy %s: %q, %v", name, body, err)
		}
	}
}

func TestThumbprintsKeepTheBoundsOfTheirClient(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(s.Close)
	sum := sha1.Sum(s.Certificate().Raw)
	closed, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := WithThumbprints(closed, []string{hex.EncodeToString(sum[:])})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, s.URL); err == nil || !strings.Contains(err.Error(), ErrRefused.Error()) {
		t.Errorf("loopback, which is not listed: %v", err)
	}
	for _, bad := range []string{"", "abcd", strings.Repeat("g", 40), strings.Repeat("a", 64)} {
		if _, err := WithThumbprints(closed, []string{bad}); err == nil {
			t.Errorf("the thumbprint %q was taken", bad)
		}
	}
	if _, err := WithThumbprints(http.DefaultClient, []string{strings.Repeat("a", 40)}); err == nil {
		t.Error("a client without bounds was taken")
	}
}
