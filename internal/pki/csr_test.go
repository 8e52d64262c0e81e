package pki

//lint:file-ignore SA1019 obsolete and broken keys are what is tested here

import (
	"bytes"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // to see that it is refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const csrCode = "InvalidCertificateSigningRequest"

func TestAGoodRequestGivesKeyAndSubjectAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]crypto.Signer{"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()),
		"P-521": ecKey(t, elliptic.P521()), "RSA-2048": rsaKey()} {
		text := makeCSR(t, key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"iot.example.com"} })
		csr, err := ParseCSR(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sum := sha256.Sum256(csr.DER)
		if !samePublicKey(csr.PublicKey, key.Public()) || !bytes.Equal(csr.Subject, mustRaw(t, csr.DER).RawSubject) || csr.Hash != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %+v", name, csr)
		}
		old := strings.ReplaceAll(text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
		for _, form := range []string{old, strings.ReplaceAll(text, "\n", "\r\n"), strings.TrimSpace(text), "\n\n" + text + "\n \n"} {
			if again, err := ParseCSR(form); err != nil || again.Hash != csr.Hash {
				t.Errorf("%s: %.60q: %v", name, form, err)
			}
		}
	}
}

func mustRaw(t *testing.T, der []byte) *x509.CertificateRequest {
	t.Helper()
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASubjectIsKeptAndAnEmptyOneIsNot(t *testing.T) {
	t.Parallel()
	a, key := openTest(t, nil), ecKey(t, elliptic.P256())
	for name, tc := range map[string]struct {
		subject pkix.Name
		want    string
	}{
		"a full subject":       {pkix.Name{CommonName: "AWS IoT Certificate", Organization: []string{"Infineon"}, Country: []string{"DE"}, Province: []string{"Germany"}}, "CN=AWS IoT Certificate,O=Infineon,ST=Germany,C=DE"},
		"no subject":           {pkix.Name{}, "CN=AWS IoT Certificate"},
		"an empty common name": {pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: ""}}}, "CN=AWS IoT Certificate"},
	} {
		csr, err := ParseCSR(makeCSR(t, key, func(r *x509.CertificateRequest) { r.Subject = tc.subject }))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := parseLeaf(t, issueFor(t, a, csr).DER).Subject.String(); got != tc.want {
			t.Errorf("%s: the certificate's subject is %s; want %s", name, got, tc.want)
		}
	}
}

func TestOneRequestTwiceGivesTwoCertificates(t *testing.T) {
	t.Parallel()
	a := openTest(t, nil)
	csr, err := ParseCSR(makeCSR(t, ecKey(t, elliptic.P256()), nil))
	if err != nil {
		t.Fatal(err)
	}
	if one, two := issueFor(t, a, csr), issueFor(t, a, csr); one.ID == two.ID {
		t.Error("both certificates have one id")
	}
}

func TestABadRequestIsRefusedWithItsReason(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	good := makeCSR(t, key, nil)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // to see that it is refused
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(good))
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	trailing := append(bytes.Clone(block.Bytes), 0)
	form := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":           {" \n", "is empty"},
		"no PEM":            {"hello", "is not PEM"},
		"a cut PEM":         {good[:len(good)-30], "is not PEM"},
		"a private key":     {form("EC PRIVATE KEY", []byte{1}), `is a PEM block "EC PRIVATE KEY"`},
		"two requests":      {good + good, "more than one PEM block"},
		"text behind":       {good + "x", "more than one PEM block"},
		"too long":          {good + strings.Repeat(" ", MaxCSR), "longer than 4096 characters"},
		"no DER":            {form("CERTIFICATE REQUEST", []byte("hello")), "cannot be parsed"},
		"trailing bytes":    {form("CERTIFICATE REQUEST", trailing), "cannot be parsed"},
		"a wrong signature": {form("CERTIFICATE REQUEST", forged), "signature does not verify"},
		"RSA of 1024 bits":  {makeCSR(t, weak, nil), "its public key has 1024 bits; use RSA of at least 2048"},
		"P-224":             {makeCSR(t, ecKey(t, elliptic.P224()), nil), "is on the curve P-224"},
		"Ed25519":           {makeCSR(t, edKey, nil), "is of an unknown kind"},
		"an endless subject": {makeCSR(t, key, func(r *x509.CertificateRequest) {
			r.Subject.OrganizationalUnit = strings.Fields(strings.Repeat(strings.Repeat("u", 60)+" ", 20))
		}), "its subject is longer than 1024 bytes"},
	} {
		_, err := ParseCSR(tc.text)
		t.Run(name, func(t *testing.T) { wantInvalid(t, err, csrCode, tc.want) })
	}
}

func TestBrokenKeysAreRefused(t *testing.T) {
	t.Parallel()
	n := rsaKey().N
	timesThree := new(big.Int).Mul(big.NewInt(3), new(big.Int).Rsh(n, 1))
	timesThree.SetBit(timesThree, 0, 1)
	for new(big.Int).Mod(timesThree, big.NewInt(3)).Sign() != 0 {
		timesThree.Add(timesThree, big.NewInt(2))
	}
	for name, tc := range map[string]struct {
		key  crypto.PublicKey
		want string
	}{
		"2047 bits":         {&rsa.PublicKey{N: new(big.Int).Rsh(n, 1), E: 65537}, "has 2047 bits"},
		"8193 bits":         {&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8192), E: 65537}, "use RSA of at most 8192"},
		"an even modulus":   {&rsa.PublicKey{N: new(big.Int).Sub(n, big.NewInt(1)), E: 65537}, "even RSA modulus"},
		"a multiple of 3":   {&rsa.PublicKey{N: timesThree, E: 65537}, "small factor"},
		"exponent 3":        {&rsa.PublicKey{N: n, E: 3}, "exponent 3"},
		"an even exponent":  {&rsa.PublicKey{N: n, E: 65538}, "exponent 65538"},
		"no point":          {&ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}, "is no point"},
		"the point at zero": {&ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)}, "is no point"},
		"DSA":               {&dsa.PublicKey{}, "unknown kind"},
		"nothing":           {nil, "unknown kind"},
	} {
		err := CheckPublicKey(tc.key)
		t.Run(name, func(t *testing.T) { wantInvalid(t, err, "", tc.want) })
	}
	if err := CheckPublicKey(rsaKey().Public()); err != nil {
		t.Error(err)
	}
}

// Whatever request is taken, its certificate can be read, verifies, and has our extensions only; whatever is not, is refused
// as the caller's fault.
func FuzzParseCSR(f *testing.F) {
	a := openTest(f, nil)
	for _, key := range []crypto.Signer{ecKey(f, elliptic.P256()), rsaKey()} {
		text := makeCSR(f, key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"x"} })
		f.Add(text)
		f.Add(text[:len(text)/2])
	}
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n")
	text := makeCSR(f, ecKey(f, elliptic.P256()), nil)
	f.Add(text + text)
	f.Add(strings.ReplaceAll(text, "CERTIFICATE REQUEST", "CERTIFICATE"))
	f.Add("  ")
	f.Add(strings.Repeat("x", MaxCSR+1))
	f.Add("no PEM at all")
	f.Add(makeCSR(f, ecKey(f, elliptic.P224()), nil))
	f.Add(makeCSR(f, ecKey(f, elliptic.P256()), func(r *x509.CertificateRequest) { r.Subject = pkix.Name{} }))
	f.Add(makeCSR(f, ecKey(f, elliptic.P256()), func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: "a\x00b"} }))
	_, odd, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(makeCSR(f, odd, nil))
	block, _ := pem.Decode([]byte(text))
	block.Bytes[len(block.Bytes)-1] ^= 1 // the signature
	f.Add(string(pem.EncodeToMemory(block)))
	f.Fuzz(func(t *testing.T, text string) {
		csr, err := ParseCSR(text)
		if err != nil {
			if e, ok := err.(*fleet.Error); !ok || e.Kind != fleet.KindInvalid || e.Code != csrCode {
				t.Fatalf("%v", err)
			}
			return
		}
		cert := parseLeaf(t, issueFor(t, a, csr).DER)
		if err := cert.CheckSignatureFrom(a.trust.Load().device.cert); err != nil || cert.IsCA || len(cert.Extensions) != 4 {
			t.Fatalf("%v, %v", cert.Extensions, err)
		}
		if _, err := NewFacts(cert); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzCSRSubject reaches deeper than FuzzParseCSR: the request is signed after the fuzzer changed it.
func FuzzCSRSubject(f *testing.F) {
	a, key := openTest(f, nil), ecKey(f, elliptic.P256())
	f.Add(mustName("C=US, CN=lamp"))
	f.Add([]byte{0x30, 0})
	// 2.5.4.3 with each kind of string that names are made of, readable and not.
	for _, v := range []string{"\x0ca\xc3\xa4", "\x0c\xff", "\x13lamp 7*&", "\x13lamp_7", "\x16a@b", "\x16\xff", "\x1212 3", "\x12x", "\x14\xe4", "\x1e\x00a\x01\x02",
		"\x1e\xd8\x00\xdc\x00", "\x1e\x00a\x00", "\x04\x00", "\x0ca\x00b"} {
		value := v[:1] + string(rune(len(v)-1)) + v[1:]
		attribute := "\x06\x03\x55\x04\x03" + value
		pair := "\x30" + string(rune(len(attribute))) + attribute
		set := "\x31" + string(rune(len(pair))) + pair
		f.Add([]byte("\x30" + string(rune(len(set))) + set))
	}
	f.Fuzz(func(t *testing.T, subject []byte) {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject}, key)
		if err != nil {
			return
		}
		csr, err := ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
		if err != nil {
			return
		}
		cert := parseLeaf(t, issueFor(t, a, csr).DER)
		if csr.Subject != nil && !bytes.Equal(cert.RawSubject, csr.Subject) {
			t.Fatalf("subject %x became %x", csr.Subject, cert.RawSubject)
		}
		facts, err := NewFacts(cert)
		if err != nil {
			t.Fatal(err)
		}
		if len(facts.Parameters()) == 0 {
			t.Fatal("no parameters")
		}
	})
}
