package pki

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
