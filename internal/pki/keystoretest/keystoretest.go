// Package keystoretest says as tests what every store of signing keys must do. A new store's tests call Store, and Leaves if it
// can replace keys.
package keystoretest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/pki"
)

// Store tests a store that has no key named here yet ("issuer-…").
func Store(t *testing.T, s pki.KeyStore) {
	t.Run("a missing key", func(t *testing.T) {
		if _, err := s.Signer(t.Context(), "issuer-0"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Signer: %v", err)
		}
	})
	for name, kind := range map[string]pki.KeyType{"issuer-ec": pki.P256, "issuer-rsa": pki.RSA2048} {
		t.Run(string(kind), func(t *testing.T) {
			made, err := s.Create(t.Context(), name, kind)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := s.Signer(t.Context(), name)
			if err != nil || !same(opened.Public(), made.Public()) {
				t.Fatalf("Signer gives another key: %v", err)
			}
			if _, err := s.Create(t.Context(), name, kind); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Create over a key: %v", err)
			}
			if again, err := s.Signer(t.Context(), name); err != nil || !same(again.Public(), made.Public()) {
				t.Errorf("a refused Create changed the key: %v", err)
			}
			for _, key := range []crypto.Signer{made, opened} {
				signs(t, kind, key)
			}
		})
	}
	t.Run("one of many at once gets the name", func(t *testing.T) { race(t, s) })
	t.Run("what it refuses", func(t *testing.T) {
		if _, err := s.Create(t.Context(), "issuer-dsa", "DSA-1024"); err == nil || !strings.Contains(err.Error(), "DSA-1024") {
			t.Errorf("a key of an unknown type: %v", err)
		}
		for _, name := range []string{"", "../issuer", "Issuer", strings.Repeat("i", 65)} {
			if _, err := s.Create(t.Context(), name, pki.P256); err == nil || !strings.Contains(err.Error(), "1 to 64 characters") {
				t.Errorf("Create(%q): %v", name, err)
			}
			if _, err := s.Signer(t.Context(), name); err == nil {
				t.Errorf("Signer(%q) gives a key", name)
			}
		}
	})
}

// Leaves tests a store that has no key "leaf" yet.
func Leaves(t *testing.T, s pki.LeafStore) {
	first, err := s.Replace(t.Context(), "leaf", pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Replace(t.Context(), "leaf", pki.RSA2048)
	if err != nil || same(first.Public(), second.Public()) {
		t.Fatalf("Replace keeps the key: %v", err)
	}
	opened, err := s.Signer(t.Context(), "leaf")
	if err != nil || !same(opened.Public(), second.Public()) {
		t.Fatalf("Signer after Replace: %v", err)
	}
	signs(t, pki.RSA2048, opened)
}

// signs tests a key with what the authority does, a certificate, and with each way of signing of its algorithm.
func signs(t *testing.T, kind pki.KeyType, key crypto.Signer) {
	t.Helper()
	digest := sha256.Sum256([]byte("a certificate"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	switch pub := key.Public().(type) {
	case *ecdsa.PublicKey:
		if kind != pki.P256 || !ecdsa.VerifyASN1(pub, digest[:], signature) {
			t.Errorf("a %s key is P-256 and its signature does not verify", kind)
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], signature); kind != pki.RSA2048 || err != nil {
			t.Errorf("a %s key is RSA; its signature: %v", kind, err)
		}
	default:
		t.Fatalf("a key of type %T", pub)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "root"}, NotBefore: now, NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || cert.CheckSignatureFrom(cert) != nil {
		t.Errorf("a certificate that it signed: %v", err)
	}
	if _, err := key.Sign(rand.Reader, digest[:20], crypto.SHA256); err == nil && kind == pki.RSA2048 {
		t.Error("it signs a digest of the wrong length")
	}
}

// race lets several callers make the same key: one does, the others learn that it exists, and all open the same.
func race(t *testing.T, s pki.KeyStore) {
	const callers = 8
	var wg sync.WaitGroup
	made := make([]crypto.Signer, callers)
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() { made[i], errs[i] = s.Create(t.Context(), "issuer-race", pki.P256) })
	}
	wg.Wait()
	var winner crypto.Signer
	for i, err := range errs {
		switch {
		case err == nil && winner == nil:
			winner = made[i]
		case err == nil:
			t.Error("two callers made the same key")
		case !errors.Is(err, fs.ErrExist):
			t.Error(err)
		}
	}
	if winner == nil {
		t.Fatal("nobody made the key")
	}
	for range callers {
		wg.Go(func() {
			key, err := s.Signer(t.Context(), "issuer-race")
			if err != nil || !same(key.Public(), winner.Public()) {
				t.Errorf("another key: %v", err)
				return
			}
			digest := sha256.Sum256([]byte("x"))
			signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil || !ecdsa.VerifyASN1(winner.Public().(*ecdsa.PublicKey), digest[:], signature) {
				t.Errorf("signing at the same time: %v", err)
			}
		})
	}
	wg.Wait()
}

func same(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
