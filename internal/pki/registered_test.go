package pki

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

const certCode = "CertificateValidationException"

// selfSigned makes a customer's CA.
func selfSigned(t testing.TB, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), RawSubject: mustName("O=Example, CN=Plant CA"), NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return parseLeaf(t, der)
}

func TestOnlyOneCertificateInPEMIsRead(t *testing.T) {
	t.Parallel()
	text := CertificatePEM(selfSigned(t, ecKey(t, elliptic.P256()), nil).Raw)
	for _, good := range []string{text, "Certificate:\n  Data:\n" + text, strings.ReplaceAll(text, "\n", "\r\n"), strings.TrimSpace(text)} {
		if _, err := ParseCertificatePEM(good); err != nil {
			t.Errorf("%.30q: %v", good, err)
		}
	}
	for want, bad := range map[string]string{
		"is empty":                        "",
		"is not PEM":                      "x",
		"more than one PEM block":         text + text,
		"longer than 65536":               text + strings.Repeat(" ", MaxCertificate),
		"cannot be parsed":                CertificatePEM([]byte("x")),
		`is a PEM block "CERTIFICATE REQ`: makeCSR(t, ecKey(t, elliptic.P256()), nil),
	} {
		_, err := ParseCertificatePEM(bad)
		wantInvalid(t, err, certCode, want)
	}
}

func TestWhichCertificatesMayBeRegistered(t *testing.T) {
	t.Parallel()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(a x509.SignatureAlgorithm) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.SignatureAlgorithm = a }
	}
	for name, cert := range map[string]*x509.Certificate{
		"RSA":         selfSigned(t, rsaKey(), nil),
		"RSA SHA-512": selfSigned(t, rsaKey(), with(x509.SHA512WithRSA)),
		"RSA-PSS":     selfSigned(t, rsaKey(), with(x509.SHA384WithRSAPSS)),
		"P-521":       selfSigned(t, ecKey(t, elliptic.P521()), nil),
	} {
		if err := CheckRegistrable(cert); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantInvalid(t, CheckRegistrable(selfSigned(t, edKey, nil)), certCode, "is signed with Ed25519")
	wantInvalid(t, CheckRegistrable(selfSigned(t, ecKey(t, elliptic.P224()), nil)), certCode, "curve P-224")
	sha1 := selfSigned(t, rsaKey(), nil)
	sha1.SignatureAlgorithm = x509.SHA1WithRSA // Go makes none any more
	wantInvalid(t, CheckRegistrable(sha1), certCode, "is signed with SHA1-RSA")
}
