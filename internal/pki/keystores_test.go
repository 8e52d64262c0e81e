package pki_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/pki/keystoretest"
)

func fileKeys(t *testing.T) *pki.FileKeys {
	t.Helper()
	s, err := pki.NewFileKeys(filepath.Join(t.TempDir(), "pki", "keys"), pki.NewSealer([pki.KeySize]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFileKeys(t *testing.T) {
	t.Parallel()
	s := fileKeys(t)
	keystoretest.Store(t, s)
	keystoretest.Leaves(t, s)
}

func TestMemoryKeys(t *testing.T) {
	t.Parallel()
	s := pki.NewMemoryKeys()
	keystoretest.Store(t, s)
	keystoretest.Leaves(t, s)
}

func TestASuccessionOpensOldKeysAndMakesNewOnes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := pki.Succession{New: pki.NewMemoryKeys(), Old: fileKeys(t)}
	keystoretest.Store(t, s)
	if _, err := s.Old.Signer(ctx, "issuer-ec"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a new key is in the old store too: %v", err)
	}
	old, err := s.Old.Create(ctx, "root-1", pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := s.Signer(ctx, "root-1"); err != nil || key.Public() == nil {
		t.Errorf("the old key %v: %v", old.Public(), err)
	}
	if _, err := s.Create(ctx, "root-1", pki.P256); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over an old key: %v", err)
	}
}
