package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testKeyStore is what every KeyStore must do.
func testKeyStore(t *testing.T, s KeyStore) {
	t.Helper()
	ctx := t.Context()
	if _, err := s.Signer(ctx, "device-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Signer of no key: %v", err)
	}
	made, err := s.Create(ctx, "device-1", P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := made.Public().(*ecdsa.PublicKey); !ok {
		t.Errorf("Create(P256) made %T", made.Public())
	}
	opened, err := s.Signer(ctx, "device-1")
	if err != nil || !samePublicKey(opened.Public(), made.Public()) {
		t.Fatalf("Signer gives another key: %v", err)
	}
	if _, err := s.Create(ctx, "device-1", P256); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a key: %v", err)
	}
	replaced, err := s.Replace(ctx, "device-1", RSA2048)
	if err != nil || samePublicKey(replaced.Public(), made.Public()) {
		t.Fatalf("Replace keeps the key: %v", err)
	}
	opened, err = s.Signer(ctx, "device-1")
	if err != nil || !samePublicKey(opened.Public(), replaced.Public()) {
		t.Errorf("Signer after Replace: %v", err)
	}
	if _, ok := opened.Public().(*rsa.PublicKey); !ok {
		t.Errorf("Replace(RSA2048) made %T", opened.Public())
	}
	digest := sha256.Sum256([]byte("x"))
	if _, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Error(err)
	}
	if _, err := s.Create(ctx, "other", "DSA-1024"); err == nil {
		t.Error("a key of an unknown type was made")
	}
}

func TestFileKeys(t *testing.T) {
	t.Parallel()
	s, err := NewFileKeys(filepath.Join(t.TempDir(), "pki", "keys"), NewSealer(testKey(1)))
	if err != nil {
		t.Fatal(err)
	}
	testKeyStore(t, s)
}

func TestMemoryKeys(t *testing.T) {
	t.Parallel()
	testKeyStore(t, NewMemoryKeys())
}

func TestAKeyFileIsSealedAndBelongsToItsName(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s, err := NewFileKeys(dir, NewSealer(testKey(1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "root", P256); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "root.key")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if !bytes.HasPrefix(text, []byte("-----BEGIN IMPRINT SEALED PRIVATE KEY-----\n")) {
		t.Errorf("the key file begins %.60q", text)
	}

	write(t, filepath.Join(dir, "leaf.key"), string(text), 0o600)
	write(t, filepath.Join(dir, "damaged.key"), "-----BEGIN", 0o600)
	for name, want := range map[string]string{"leaf": "does not open", "damaged": "put it back from a backup", "../root": "1 to 64 characters"} {
		if _, err := s.Signer(ctx, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Signer(%q): %v; want %q", name, err, want)
		}
	}
	wrong := &FileKeys{dir: dir, sealer: NewSealer(testKey(2))}
	if _, err := wrong.Signer(ctx, "root"); err == nil || !strings.Contains(err.Error(), "sealed under master key "+keyIDOf(testKey(1)).String()) {
		t.Errorf("Signer with the wrong master key: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Signer(ctx, "root"); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("Signer of a file that everybody reads: %v", err)
	}
}
