package pki

import (
	"crypto/elliptic"
	"crypto/tls"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func BenchmarkIssueDevice(b *testing.B) {
	for _, key := range []KeyType{P256, RSA2048} {
		a := openTest(b, func(c *Config) { c.Device.Key = key })
		pub := ecKey(b, elliptic.P256()).Public()
		b.Run("issuer "+string(key), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.IssueDevice(DeviceRequest{PublicKey: pub}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkIssueClaim(b *testing.B) {
	a, pub := openTest(b, nil), rsaKey().Public()
	handle := fleet.RandomString(64, fleet.AlphaHex)
	for b.Loop() {
		if _, err := a.IssueClaim(pub, handle, testNow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseCSR(b *testing.B) {
	for name, text := range map[string]string{"P-256": makeCSR(b, ecKey(b, elliptic.P256()), nil), "RSA-2048": makeCSR(b, rsaKey(), nil)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseCSR(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFacts(b *testing.B) {
	a := openTest(b, nil)
	der := issueDevice(b, a, ecKey(b, elliptic.P256()).Public()).DER
	b.Run("parse and read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseFacts(der); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verdict", func(b *testing.B) {
		for b.Loop() {
			a.VerifyLeaf(der, testNow)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s, text := NewSealer(testKey(1)), make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open("token", s.Seal("token", text, nil), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetCertificate(b *testing.B) {
	a := openTest(b, nil)
	h := &tls.ClientHelloInfo{SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedVersions: []uint16{tls.VersionTLS13}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.GetCertificate(h); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGenerateKey(b *testing.B) {
	for _, t := range []KeyType{P256, RSA2048} {
		b.Run(string(t), func(b *testing.B) {
			for b.Loop() {
				if _, err := GenerateKey(t); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFirstStart(b *testing.B) {
	for b.Loop() {
		openTest(b, nil)
	}
}
