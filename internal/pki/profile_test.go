package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/imprint-iot/imprint/internal/fleet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// describe decodes a certificate field by field, string types and order included, with what differs from run to run (key
// material, serial numbers, identifiers) replaced by what it is.
func describe(t *testing.T, cert, issuer *x509.Certificate) string {
	t.Helper()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	serial := cert.SerialNumber.Bytes()
	line("version %d, serial of %d bytes, positive: %v", cert.Version, len(serial), cert.SerialNumber.Sign() > 0)
	line("signature %v", cert.SignatureAlgorithm)
	line("issuer\n%s", describeName(t, cert.RawIssuer))
	line("subject\n%s", describeName(t, cert.RawSubject))
	line("valid from %s to %s", describeTime(cert.RawTBSCertificate, cert.NotBefore), describeTime(cert.RawTBSCertificate, cert.NotAfter))
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		line("key RSA-%d, exponent %d", k.N.BitLen(), k.E)
	case *ecdsa.PublicKey:
		line("key %s", k.Curve.Params().Name)
	}
	spki, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	line("extensions")
	names := map[string]string{"2.5.29.35": "authorityKeyIdentifier", "2.5.29.14": "subjectKeyIdentifier", "2.5.29.19": "basicConstraints",
		"2.5.29.15": "keyUsage", "2.5.29.37": "extKeyUsage", "2.5.29.17": "subjectAltName"}
	known := map[string]string{fmt.Sprintf("%x", issuer.SubjectKeyId): "(the issuer's key)", fmt.Sprintf("%x", keyIdentifier(spki)): "(this key)"}
	for _, e := range cert.Extensions {
		value := fmt.Sprintf("%x", e.Value)
		for id, what := range known {
			if id != "" {
				value = strings.ReplaceAll(value, id, what)
			}
		}
		critical := ""
		if e.Critical {
			critical = ", critical"
		}
		line("  %s%s: %s", names[e.Id.String()], critical, value)
	}
	return b.String()
}

func describeName(t *testing.T, der []byte) string {
	t.Helper()
	var out []string
	kinds := map[cbasn1.Tag]string{cbasn1.UTF8String: "UTF8String", cbasn1.PrintableString: "PrintableString"}
	s := cryptobyte.String(der)
	ok := s.ReadASN1(&s, cbasn1.SEQUENCE)
	for ok && !s.Empty() {
		var set, pair, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var tag cbasn1.Tag
		ok = s.ReadASN1(&set, cbasn1.SET)
		first := true
		for ok && !set.Empty() {
			ok = set.ReadASN1(&pair, cbasn1.SEQUENCE) && pair.ReadASN1ObjectIdentifier(&oid) && pair.ReadAnyASN1(&value, &tag)
			a, _ := attributeOf(oid)
			text := string(value)
			text = hexRun(text)
			mark := "  "
			if !first {
				mark = "  + "
			}
			out = append(out, fmt.Sprintf("%s%s=%s (%s)", mark, a.short, text, kinds[tag]))
			first = false
		}
	}
	if !ok {
		t.Fatalf("name %x is no name", der)
	}
	return strings.Join(out, "\n")
}

// hexRun replaces the identifier at the end of our own CAs' names.
func hexRun(text string) string {
	if head, tail, ok := strings.Cut(text, " "); ok {
		words := strings.Fields(head + " " + tail)
		last := words[len(words)-1]
		if len(last) == 8 && strings.Trim(last, "0123456789abcdef") == "" {
			return strings.TrimSuffix(text, last) + "(key)"
		}
	}
	return text
}

func describeTime(tbs []byte, t time.Time) string {
	if bytes.Contains(tbs, []byte("\x17\x0d"+t.Format("060102150405Z"))) {
		return stamp(t) + " (UTCTime)"
	}
	if bytes.Contains(tbs, []byte("\x18\x0f"+t.Format("20060102150405Z"))) {
		return stamp(t) + " (GeneralizedTime)"
	}
	return stamp(t) + " (unknown form)"
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the %s certificate is\n%s\nwant\n%s", name, got, want)
	}
}

// The golden files of device and claim are what provisioning spec 9.3 and 1.3 decode, but for the signature algorithm.
func TestCertificatesHaveTheirProfile(t *testing.T) {
	t.Parallel()
	a := openTest(t, func(c *Config) { c.NoRSA = false })
	leaf := func(l *Leaf, err error) *x509.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return parseLeaf(t, l.DER)
	}
	handle := strings.Repeat("0af1", 16)
	server := a.server.Load()
	for name, c := range map[string]struct{ cert, issuer *x509.Certificate }{
		"device":          {leaf(a.IssueDevice(DeviceRequest{PublicKey: rsaKey().Public()})), a.trust.Load().device.cert},
		"claim":           {leaf(a.IssueClaim(rsaKey().Public(), handle, testNow.Add(fleet.ClaimLifetime))), a.trust.Load().claim.cert},
		"server":          {server.ecdsa.Leaf, current(a.all(), roleServer).cert},
		"server-rsa":      {server.rsa.Leaf, current(a.all(), roleServerRSA).cert},
		"server-issuer":   {current(a.all(), roleServer).cert, current(a.all(), roleServerRoot).cert},
		"device-issuer":   {a.trust.Load().device.cert, current(a.all(), roleDeviceRoot).cert},
		"claim-issuer":    {a.trust.Load().claim.cert, current(a.all(), roleDeviceRoot).cert},
		"server-root":     {current(a.all(), roleServerRoot).cert, current(a.all(), roleServerRoot).cert},
		"server-root-rsa": {current(a.all(), roleServerRootRSA).cert, current(a.all(), roleServerRootRSA).cert},
		"device-root":     {current(a.all(), roleDeviceRoot).cert, current(a.all(), roleDeviceRoot).cert},
	} {
		golden(t, name, describe(t, c.cert, c.issuer))
		if err := c.cert.CheckSignatureFrom(c.issuer); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Our DER must be what crypto/x509 would make of the same content: two encoders that agree.
func TestOurEncodingAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	a := openTest(t, nil)
	for _, key := range []crypto.Signer{ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), ecKey(t, elliptic.P521()), rsaKey()} {
		l, err := a.IssueDevice(DeviceRequest{PublicKey: key.Public(), Subject: mustName("C=DE, O=Example, OU=Plant 7, CN=lamp")})
		if err != nil {
			t.Fatal(err)
		}
		ours := parseLeaf(t, l.DER)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: ours.SerialNumber, RawSubject: ours.RawSubject, NotBefore: l.NotBefore, NotAfter: l.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, SubjectKeyId: ours.SubjectKeyId,
		}, a.trust.Load().device.cert, key.Public(), a.trust.Load().device.signer)
		if err != nil {
			t.Fatal(err)
		}
		theirs := parseLeaf(t, der)
		if !bytes.Equal(tbsWithoutExtensions(t, ours), tbsWithoutExtensions(t, theirs)) {
			t.Errorf("%T: %x\nis not\n%x", key, ours.RawTBSCertificate, theirs.RawTBSCertificate)
		}
		if o, s := extensionSet(ours), extensionSet(theirs); !slices.Equal(o, s) {
			t.Errorf("%T: extensions %v\nare not\n%v", key, o, s)
		}
	}
}

// tbsWithoutExtensions cuts off the extensions, whose order differs.
func tbsWithoutExtensions(t *testing.T, cert *x509.Certificate) []byte {
	t.Helper()
	var content, part cryptobyte.String
	s := cryptobyte.String(cert.RawTBSCertificate)
	if !s.ReadASN1(&content, cbasn1.SEQUENCE) {
		t.Fatal("no sequence")
	}
	var out []byte
	for !content.Empty() {
		var tag cbasn1.Tag
		if !content.ReadAnyASN1Element(&part, &tag) {
			t.Fatal("no element")
		}
		if tag != cbasn1.Tag(3).ContextSpecific().Constructed() {
			out = append(out, part...)
		}
	}
	return out
}

func extensionSet(cert *x509.Certificate) (out []string) {
	for _, e := range cert.Extensions {
		out = append(out, fmt.Sprintf("%v %v %x", e.Id, e.Critical, e.Value))
	}
	slices.Sort(out)
	return out
}

// The CSR answer must fit 2048 bytes with a token of 512 (clients.md, provisioning spec 12).
func TestALeafIsSmallEnoughForEmbeddedClients(t *testing.T) {
	t.Parallel()
	a := openTest(t, nil)
	for name, key := range map[string]crypto.PublicKey{"P-256": ecKey(t, elliptic.P256()).Public(), "RSA-2048": rsaKey().Public()} {
		l, err := a.IssueDevice(DeviceRequest{PublicKey: key})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes of DER, %d of PEM", name, len(l.DER), len(l.PEM))
		if len(l.PEM) >= 1350 {
			t.Errorf("the PEM of a leaf for %s has %d bytes", name, len(l.PEM))
		}
	}
}

func TestSerialNumbersArePositiveFillTwentyBytesAndDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		s := newSerial()
		if len(s) != 20 || s[0]&0x80 != 0 || s[0] == 0 || seen[string(s)] {
			t.Fatalf("serial %x", s)
		}
		seen[string(s)] = true
	}
}

// A key that must not be used shows that every refusal comes first.
type untouchable struct{ crypto.Signer }

func (untouchable) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	panic("the issuer's key was used")
}

func TestEveryRefusalComesBeforeTheKeyIsUsed(t *testing.T) {
	t.Parallel()
	a := openTest(t, nil)
	good := a.trust.Load().device.issuer()
	good.signer = untouchable{good.signer}
	weak := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	base := request{key: ecKey(t, elliptic.P256()).Public(), subject: defaultSubject, notBefore: testNow, notAfter: testNow.Add(time.Hour)}
	for want, change := range map[string]func(r *request, by *issuer){
		"before it begins":   func(r *request, _ *issuer) { r.notAfter = r.notBefore },
		"after its issuer":   func(r *request, by *issuer) { r.notAfter = by.notAfter.Add(time.Second) },
		"has no subject":     func(r *request, _ *issuer) { r.subject = nil },
		"has 1024 bits":      func(r *request, _ *issuer) { r.key = weak },
		"is of an unknown":   func(r *request, _ *issuer) { r.key = nil },
		"curve P-224":        func(r *request, _ *issuer) { r.key = ecKey(t, elliptic.P224()).Public() },
		"an issuer's key mu": func(_ *request, by *issuer) { by.signer = untouchable{ecKey(t, elliptic.P384())} },
	} {
		r, by := base, good
		change(&r, &by)
		if der, err := deviceProfile.issue(r, by); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("issue = %x, %v; want %q", der, err, want)
		}
	}
}

func TestTheEndOfADeviceCertificate(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256()).Public()
	year := 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		now        time.Time
		configured time.Duration
		asked      time.Duration
		want       time.Time
	}{
		"is AWS's by default":                 {testNow, 0, 0, endOfTime},
		"is what the authority says":          {testNow, year, 0, testNow.Add(year)},
		"is what the request says":            {testNow, year, time.Hour, testNow.Add(time.Hour)},
		"never lies behind the issuer's":      {testNow, 100 * year, 0, endOfTime},
		"still has a default in a far future": {endOfTime.Add(year), 0, 0, endOfTime.Add(year).AddDate(25, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openTest(t, func(c *Config) {
				c.Clock = func() time.Time { return tc.now }
				c.DeviceValidity = tc.configured
			})
			l, err := a.IssueDevice(DeviceRequest{PublicKey: key, Validity: tc.asked})
			if err != nil {
				t.Fatal(err)
			}
			cert := parseLeaf(t, l.DER)
			if !cert.NotAfter.Equal(tc.want) || !l.NotAfter.Equal(tc.want) || !cert.NotBefore.Equal(tc.now.Add(-2*time.Minute)) {
				t.Errorf("valid from %v to %v; want to %v", cert.NotBefore, cert.NotAfter, tc.want)
			}
			if l.ID != fleet.CertificateID(l.DER) || !strings.HasSuffix(l.PEM, "-----END CERTIFICATE-----\n") {
				t.Errorf("id %s, PEM %s", l.ID, l.PEM)
			}
		})
	}
	a := openTest(t, nil)
	for name, d := range map[string]DeviceRequest{
		"a negative validity": {PublicKey: key, Validity: -1},
		"a broken subject":    {PublicKey: key, Subject: []byte{0x30, 1}},
		"a long subject":      {PublicKey: key, Subject: longName()},
		"no key":              {},
	} {
		if _, err := a.IssueDevice(d); err == nil || fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.IssueClaim(key, "short", testNow); err == nil || fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("a claim with a bad handle: %v", err)
	}
}

// longName is a well-formed name of more than maxName bytes.
func longName() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for range 20 {
			if err := addAttribute(b, "OU="+strings.Repeat("x", 60)); err != nil {
				panic(err)
			}
		}
	})
	return b.BytesOrPanic()
}

func TestPEMHasLinesOf64CharactersAndANewlineAtItsEnd(t *testing.T) {
	t.Parallel()
	ec := ecKey(t, elliptic.P256())
	for want, make := range map[string]func() (string, error){
		"RSA PRIVATE KEY": func() (string, error) { s, err := PrivateKeyPEM(rsaKey()); return s.Reveal(), err },
		"EC PRIVATE KEY":  func() (string, error) { s, err := PrivateKeyPEM(ec); return s.Reveal(), err },
		"PUBLIC KEY":      func() (string, error) { return PublicKeyPEM(rsaKey().Public()) },
		"CERTIFICATE":     func() (string, error) { return CertificatePEM(make([]byte, 700)), nil },
	} {
		text, err := make()
		if err != nil {
			t.Fatal(err)
		}
		block, rest := pem.Decode([]byte(text))
		lines := strings.Split(text, "\n")
		if block == nil || block.Type != want || len(rest) != 0 || lines[len(lines)-1] != "" || len(lines[1]) != 64 {
			t.Errorf("%s: %q", want, text)
		}
		switch want {
		case "RSA PRIVATE KEY":
			_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			_, err = x509.ParseECPrivateKey(block.Bytes)
		case "PUBLIC KEY":
			_, err = x509.ParsePKIXPublicKey(block.Bytes)
		}
		if err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := PrivateKeyPEM(nil); err == nil {
		t.Error("no key has a PEM form")
	}
	if _, err := PublicKeyPEM(nil); err == nil {
		t.Error("no public key has a PEM form")
	}
}
