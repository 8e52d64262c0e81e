package pki

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestWhichCAsMayBeRegistered(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	if err := CheckCA(selfSigned(t, key, nil), testNow); err != nil {
		t.Error(err)
	}
	if err := CheckCA(selfSigned(t, key, func(c *x509.Certificate) { c.KeyUsage = 0 }), testNow); err != nil {
		t.Error(err)
	}
	wantInvalid(t, CheckCA(selfSigned(t, key, func(c *x509.Certificate) { c.IsCA = false }), testNow), certCode, "CA:TRUE")
	wantInvalid(t, CheckCA(selfSigned(t, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), testNow), certCode, "lacks keyCertSign")
	wantInvalid(t, CheckCA(selfSigned(t, key, nil), testNow.Add(2*time.Hour)), certCode, "expired at 2026-11-21T13:00:00Z")
	wantInvalid(t, CheckCA(selfSigned(t, key, nil), testNow.Add(-2*time.Hour)), certCode, "not valid before")
	wantInvalid(t, CheckCA(selfSigned(t, ecKey(t, elliptic.P224()), nil), testNow), certCode, "curve P-224")
}

func TestACertificateIsSignedByItsCA(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	ca, namesake := selfSigned(t, key, nil), selfSigned(t, ecKey(t, elliptic.P256()), nil)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(8), RawSubject: defaultSubject, NotAfter: testNow}, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parseLeaf(t, der)
	if err := CheckSignedBy(leaf, ca); err != nil {
		t.Error(err)
	}
	wantInvalid(t, CheckSignedBy(leaf, namesake), certCode, `is not signed by the CA "CN=Plant CA,O=Example"`)
	wantInvalid(t, CheckSignedBy(ca, leaf), certCode, "its issuer is")
}

// signed is a certificate that a customer's CA has signed.
func signed(t testing.TB, ca *x509.Certificate, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: "lamp-1"}, NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour)}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, ecKey(t, elliptic.P256()).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return parseLeaf(t, der)
}

// forged is a certificate of another CA with the same name and key identifier.
func forged(t testing.TB, ca *x509.Certificate, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	return signed(t, selfSigned(t, key, func(c *x509.Certificate) { c.SubjectKeyId = ca.SubjectKeyId }), key, change)
}

func TestTheProofOfACA(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	ca, code := selfSigned(t, key, nil), strings.Repeat("a1", 32)
	named := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject = pkix.Name{}
			for _, n := range names {
				c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: n})
			}
		}
	}
	if err := CheckVerification(signed(t, ca, key, named(code)), ca, code, testNow); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]*x509.Certificate{
		"another code": signed(t, ca, key, named("b")), "no name": signed(t, ca, key, named()), "two names": signed(t, ca, key, named("b", code)),
		"the code and more": signed(t, ca, key, named(code+" ")),
	} {
		if err := CheckVerification(c, ca, code, testNow); !errors.Is(err, ErrOtherCode) {
			t.Errorf("%s: %v", name, err)
		}
	}
	proof := signed(t, ca, key, named(code))
	wantInvalid(t, CheckVerification(proof, ca, code, testNow.Add(2*time.Hour)), certCode, "expired at")
	wantInvalid(t, CheckVerification(proof, ca, code, testNow.Add(-2*time.Hour)), certCode, "not valid before")
	wantInvalid(t, CheckVerification(forged(t, ca, named(code)), ca, code, testNow), certCode, "is not signed by the CA")
	wantInvalid(t, CheckVerification(selfSigned(t, key, nil), signed(t, ca, key, nil), code, testNow), certCode, "its issuer is")
}

func TestThePathFromADeviceToItsCA(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	ca := selfSigned(t, key, nil)
	if err := CheckPath(signed(t, ca, key, nil), ca, testNow); err != nil {
		t.Error(err)
	}
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	}
	narrow := selfSigned(t, key, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"plant.example"}
	})
	for name, c := range map[string]struct {
		leaf, ca *x509.Certificate
		at       time.Duration
		want     string
	}{
		"another CA of the same name": {forged(t, ca, nil), ca, 0, "no path leads to"},
		"another name":                {signed(t, ca, key, nil), selfSigned(t, key, func(c *x509.Certificate) { c.RawSubject = mustName("CN=other") }), 0, "does not name the CA"},
		"another key identifier": {signed(t, selfSigned(t, key, func(c *x509.Certificate) { c.SubjectKeyId = []byte("one") }), key, nil),
			selfSigned(t, key, func(c *x509.Certificate) { c.SubjectKeyId = []byte("two") }), 0, "does not name the CA"},
		"a CA in place of a device": {signed(t, ca, key, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), ca, 0, "is a CA itself"},
		"an expired device":         {signed(t, ca, key, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Minute) }), ca, 0, "expired at"},
		"a device before its time":  {signed(t, ca, key, func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Minute) }), ca, 0, "not valid before"},
		"an expired CA":             {signed(t, ca, key, func(c *x509.Certificate) { c.NotAfter = testNow.Add(5 * time.Hour) }), ca, 2 * time.Hour, `its CA "CN=Plant CA,O=Example" expired`},
		"a CA that may not sign":    {signed(t, ca, key, nil), selfSigned(t, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), 0, "lacks keyCertSign"},
		"what is not understood":    {signed(t, ca, key, critical), ca, 0, "unhandled critical extension"},
		"a CA nobody understands":   {signed(t, ca, key, nil), selfSigned(t, key, critical), 0, "critical extension 1.2.3.4"},
		"a name outside the CA's":   {signed(t, narrow, key, func(c *x509.Certificate) { c.DNSNames = []string{"lamp.other.example"} }), narrow, 0, "not permitted"},
	} {
		t.Run(name, func(t *testing.T) { wantInvalid(t, CheckPath(c.leaf, c.ca, testNow.Add(c.at)), certCode, c.want) })
	}
}

func TestOurOwnCAsAreKnown(t *testing.T) {
	t.Parallel()
	a := openTest(t, nil)
	for _, c := range a.all() {
		if !a.Holds(c.cert.PublicKey) {
			t.Errorf("%s is not known", c.cert.Subject)
		}
	}
	if a.Holds(ecKey(t, elliptic.P256()).Public()) || a.Holds(rsaKey().Public()) {
		t.Error("a stranger's key is ours")
	}
}

// FuzzCustomerCA reads what strangers send as a CA, as its proof and as a device's certificate.
func FuzzCustomerCA(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	ca := selfSigned(f, key, func(c *x509.Certificate) { c.SubjectKeyId = []byte("one") })
	byRSA, code := selfSigned(f, rsaKey(), nil), strings.Repeat("0", 64)
	for _, c := range []*x509.Certificate{ca, signed(f, ca, key, nil), signed(f, ca, key, func(c *x509.Certificate) { c.Subject.CommonName = code }),
		signed(f, ca, key, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Minute) }), byRSA,
		signed(f, ca, key, func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Minute) }),
		selfSigned(f, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), forged(f, ca, nil)} {
		f.Add(CertificatePEM(c.Raw))
	}
	f.Add("")
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		cert, err := ParseCertificatePEM(text)
		errs := []error{err}
		if err == nil {
			errs = []error{CheckCA(cert, testNow), CheckPath(cert, ca, testNow), CheckSignedBy(cert, ca), CheckPath(ca, cert, testNow)}
			proof := CheckVerification(cert, ca, code, testNow)
			if path := errs[1]; path == nil && !MayHaveSigned(ca, cert) {
				t.Fatal("a path without a signer")
			}
			if (proof == nil || errors.Is(proof, ErrOtherCode)) && errs[2] != nil {
				t.Fatal("a proof that the CA has not signed")
			}
			if proof == nil && cert.Subject.CommonName != code {
				t.Fatalf("a proof for %q", cert.Subject.CommonName)
			}
			_ = NameID(cert.RawIssuer)
			id, err := Mirrored(cert, ca)
			if errs[1] == nil && (err != nil || id == "" || id == fleet.CertificateID(cert.Raw)) {
				t.Fatalf("the other form of a certificate by ECDSA: %q, %v", id, err)
			}
			errs = append(errs, err)
			if id, err := Mirrored(cert, byRSA); id != "" || err != nil {
				t.Fatalf("the other form of one by RSA: %q, %v", id, err)
			}
		}
		for _, err := range errs {
			if err != nil && fleet.KindOf(err) != fleet.KindInvalid {
				t.Fatal(err)
			}
		}
	})
}
