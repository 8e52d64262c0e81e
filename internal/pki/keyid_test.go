package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"
)

func TestKeyIDIsThatOfTheKey(t *testing.T) {
	t.Parallel()
	a, err := OpenAuthority(t.Context(), Config{Dir: t.TempDir(), Keys: NewMemoryKeys(), NoRSA: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, kind := range []KeyType{P256, P256, RSA2048} {
		key, err := GenerateKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, request := range []DeviceRequest{{PublicKey: key.Public()}, {PublicKey: key.Public(), Validity: time.Hour, Subject: mustName("CN=lamp, O=ACME")}} {
			leaf, err := a.IssueDevice(request)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := ParseCertificatePEM(leaf.PEM)
			if err != nil {
				t.Fatal(err)
			}
			want := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
			got, err := KeyID(leaf.PEM)
			if err != nil || got != hex.EncodeToString(want[:]) {
				t.Errorf("%v: %q, %v, want %x", kind, got, err, want)
			}
			seen[got] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d keys", len(seen))
	}
}

func TestKeyIDOfNoCertificate(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "hello", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"} {
		if id, err := KeyID(text); err == nil {
			t.Errorf("%q has the key %s", text, id)
		}
	}
}
