package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// testNow is the time of every test that does not say otherwise.
var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func testClock() time.Time { return testNow }

// rsaKey is one RSA-2048 key for all tests, since making one takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// openTest opens an authority without RSA in a folder of its own, with the test's clock, after change has had its way.
func openTest(t testing.TB, change func(*Config)) *Authority {
	t.Helper()
	c := Config{Dir: t.TempDir(), Keys: NewMemoryKeys(), NoRSA: true, Clock: testClock, Names: []string{"iot.example.com"}}
	if change != nil {
		change(&c)
	}
	a, err := OpenAuthority(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func parseLeaf(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// makeCSR returns a CSR in PEM with the subject's DER (nil for an empty one).
func makeCSR(t testing.TB, key crypto.Signer, change func(*x509.CertificateRequest)) string {
	t.Helper()
	req := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lamp-7"}}
	if change != nil {
		change(req)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, req, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func wantInvalid(t testing.TB, err error, code, text string) {
	t.Helper()
	e, ok := err.(*fleet.Error)
	if !ok || e.Kind != fleet.KindInvalid || e.Code != code || !strings.Contains(e.Error(), text) {
		t.Errorf("error is %v; want an invalid %s that says %q", err, code, text)
	}
}
