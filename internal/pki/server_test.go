package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// handshake connects a client, configured by change, that trusts the roots, and returns what the client says.
func handshake(t testing.TB, a *Authority, roots string, change func(*tls.Config)) error {
	t.Helper()
	_, err := dial(t, a, roots, change)
	return err
}

func dial(t testing.TB, a *Authority, roots string, change func(*tls.Config)) (*x509.Certificate, error) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(roots)) {
		t.Fatal("no roots")
	}
	c := &tls.Config{RootCAs: pool, ServerName: "localhost", Time: func() time.Time { return testNow.Add(time.Minute) }}
	if change != nil {
		change(c)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go func() {
		// The client sees what goes wrong; the server's view adds nothing.
		_ = tls.Server(far, &tls.Config{GetCertificate: a.GetCertificate}).HandshakeContext(context.Background())
	}()
	client := tls.Client(near, c)
	if err := client.HandshakeContext(t.Context()); err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates[0], nil
}

func TestEachClientGetsACertificateThatItUnderstands(t *testing.T) {
	t.Parallel()
	a := openTest(t, func(c *Config) {
		c.NoRSA = false
		c.Names = []string{"iot.example.com", "*.iot.example.com", "192.0.2.7"}
	})
	old := func(suites ...uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, suites }
	}
	for name, tc := range map[string]struct {
		change func(*tls.Config)
		want   x509.PublicKeyAlgorithm
	}{
		"TLS 1.3":                       {nil, x509.ECDSA},
		"TLS 1.2":                       {old(), x509.ECDSA},
		"TLS 1.2 with RSA suites only":  {old(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), x509.RSA},
		"by a name":                     {func(c *tls.Config) { c.ServerName = "iot.example.com" }, x509.ECDSA},
		"by a name under the wildcard":  {func(c *tls.Config) { c.ServerName = "abc-ats.iot.example.com" }, x509.ECDSA},
		"by an address":                 {func(c *tls.Config) { c.ServerName = "192.0.2.7" }, x509.ECDSA},
		"by the loopback address":       {func(c *tls.Config) { c.ServerName = "::1" }, x509.ECDSA},
		"by an address with RSA suites": {func(c *tls.Config) { old(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)(c); c.ServerName = "127.0.0.1" }, x509.RSA},
	} {
		cert, err := dial(t, a, a.RootsPEM(), tc.change)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if cert.PublicKeyAlgorithm != tc.want {
			t.Errorf("%s: got a certificate with %v", name, cert.PublicKeyAlgorithm)
		}
	}
	if err := handshake(t, a, a.RootsPEM(), func(c *tls.Config) { c.ServerName = "example.org" }); err == nil {
		t.Error("a foreign name was accepted")
	}
	if err := handshake(t, a, a.DeviceRootsPEM(), nil); err == nil {
		t.Error("the device root vouches for the server")
	}
}

func TestOnlyClientsWithoutECDSAGetRSA(t *testing.T) {
	t.Parallel()
	ecdsa, rsa := []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.ECDSAWithP256AndSHA256}, []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PSSWithSHA256}
	p256, x25519 := []tls.CurveID{tls.CurveP256}, []tls.CurveID{tls.X25519}
	v12, v13 := []uint16{tls.VersionTLS12}, []uint16{tls.VersionTLS13, tls.VersionTLS12}
	ec, nonEC := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	for name, tc := range map[string]struct {
		hello tls.ClientHelloInfo
		want  bool
	}{
		"TLS 1.3":                           {tls.ClientHelloInfo{SignatureSchemes: ecdsa, SupportedVersions: v13, SupportedCurves: x25519}, true},
		"TLS 1.3 without ECDSA":             {tls.ClientHelloInfo{SignatureSchemes: rsa, SupportedVersions: v13, SupportedCurves: p256}, false},
		"TLS 1.2":                           {tls.ClientHelloInfo{SignatureSchemes: ecdsa, SupportedVersions: v12, SupportedCurves: p256, CipherSuites: ec}, true},
		"TLS 1.2 without suites of ECDSA":   {tls.ClientHelloInfo{SignatureSchemes: ecdsa, SupportedVersions: v12, SupportedCurves: p256, CipherSuites: nonEC}, false},
		"TLS 1.2 without P-256":             {tls.ClientHelloInfo{SignatureSchemes: ecdsa, SupportedVersions: v12, SupportedCurves: x25519, CipherSuites: ec}, false},
		"TLS 1.2 without signature schemes": {tls.ClientHelloInfo{SupportedVersions: v12, SupportedCurves: p256, CipherSuites: ec}, false},
	} {
		if got := takesECDSA(&tc.hello); got != tc.want {
			t.Errorf("%s: takesECDSA = %v", name, got)
		}
	}
	a := openTest(t, nil) // no RSA: whoever asks gets what there is
	if c, err := a.GetCertificate(&tls.ClientHelloInfo{}); err != nil || c != a.server.Load().ecdsa {
		t.Errorf("GetCertificate = %v, %v", c, err)
	}
}

func TestTheServerCertificateIsRenewedAfterTwoThirdsOfItsLife(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := openTest(t, nil)
	first := a.server.Load().ecdsa.Leaf
	due := testNow.Add(60 * 24 * time.Hour)
	next, err := a.Renew(ctx, due.Add(-time.Second))
	if err != nil || !next.Equal(due) || a.server.Load().ecdsa.Leaf != first {
		t.Fatalf("a second too early: next renewal %v, %v", next, err)
	}
	next, err = a.Renew(ctx, due)
	second := a.server.Load().ecdsa.Leaf
	if err != nil || !next.Equal(due.Add(60*24*time.Hour)) || second.Equal(first) {
		t.Fatalf("in time: next renewal %v, %v", next, err)
	}
	if samePublicKey(first.PublicKey, second.PublicKey) {
		t.Error("the new certificate has the old key")
	}
	if err := handshake(t, a, a.RootsPEM(), func(c *tls.Config) { c.Time = func() time.Time { return due.Add(89 * 24 * time.Hour) } }); err != nil {
		t.Error(err)
	}
	// A clock that was set back must not take away a certificate that clients with the right time accept.
	if _, err := a.Renew(ctx, time.Unix(0, 0)); err != nil || a.server.Load().ecdsa.Leaf != second {
		t.Errorf("with the clock set back: %v", err)
	}
}

// A machine without a clock of its own may begin years ahead, until it hears the time.
func TestACertificateFromTheFutureIsReplaced(t *testing.T) {
	t.Parallel()
	ctx, ahead := t.Context(), testNow.AddDate(10, 0, 0)
	a := openTest(t, nil)
	if _, err := a.Renew(ctx, ahead); err != nil {
		t.Fatal(err)
	}
	if next, err := a.Renew(ctx, testNow); err != nil || !next.Equal(testNow.Add(60*24*time.Hour)) {
		t.Errorf("next renewal %v, %v", next, err)
	}
	if err := handshake(t, a, a.RootsPEM(), nil); err != nil {
		t.Error(err)
	}

	now := ahead
	s, err := NewStandIn(func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	now = now.AddDate(1, 0, 0)
	if _, err := s.Certificate(awsHost); err != nil {
		t.Fatal(err)
	}
	now = ahead
	if c, err := s.Certificate(awsHost); err != nil || now.Before(c.Leaf.NotBefore) {
		t.Errorf("a stand-in is not valid yet (%v)", err)
	}
}

func TestAFailedRenewalKeepsTheOldCertificate(t *testing.T) {
	t.Parallel()
	keys := &cutKeys{KeyStore: NewMemoryKeys(), left: 6}
	a := openTest(t, func(c *Config) { c.Keys = keys })
	first := a.server.Load()
	if _, err := a.Renew(t.Context(), testNow.Add(80*24*time.Hour)); !errors.Is(err, errCut) {
		t.Errorf("Renew: %v", err)
	}
	if a.server.Load() != first {
		t.Error("the certificate is gone")
	}
	keys.left = 1
	if _, err := a.Renew(t.Context(), testNow.Add(80*24*time.Hour)); err != nil || a.server.Load() == first {
		t.Errorf("the next attempt: %v", err)
	}
}

func TestNewNamesMakeANewServerCertificate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := openTest(t, nil)
	first := a.server.Load().ecdsa.Leaf
	if err := a.SetNames(ctx, []string{"IOT.example.com.", "localhost"}); err != nil || a.server.Load().ecdsa.Leaf != first {
		t.Errorf("the same names in another spelling: %v", err)
	}
	names := []string{strings.Repeat("long-label.", 10) + "example.com", "new.example.com", "[2001:db8::7]"}
	if err := a.SetNames(ctx, names); err != nil {
		t.Fatal(err)
	}
	leaf := a.server.Load().ecdsa.Leaf
	want := []string{names[0], names[1], "localhost", "2001:db8::7", "127.0.0.1", "::1"}
	if got := namesOf(leaf); !slices.Equal(got, want) {
		t.Errorf("names are %q; want %q", got, want)
	}
	if leaf.Subject.CommonName != "new.example.com" {
		t.Errorf("common name is %q", leaf.Subject.CommonName)
	}
	if err := a.SetNames(ctx, []string{"a..b"}); err == nil {
		t.Error("a bad name was accepted")
	}
	if err := handshake(t, a, a.RootsPEM(), func(c *tls.Config) { c.ServerName = "new.example.com" }); err != nil {
		t.Error(err)
	}
}
