package pki

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestRootsAreTakenOfflineAndIssuersGoOn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	a := openTest(t, func(x *Config) { *x = c })
	pinned := a.RootsPEM()
	text, err := a.ExportRoots(ctx)
	if err != nil || strings.Count(text.Reveal(), "BEGIN PRIVATE KEY") != 2 || !strings.Contains(text.Reveal(), "server-root-1: CN=Imprint Root ") {
		t.Fatalf("ExportRoots: %v", err)
	}
	keys, err := ReadRoots(text)
	if err != nil || len(keys) != 2 {
		t.Fatalf("ReadRoots: %d keys, %v", len(keys), err)
	}
	if _, err := a.ForgetRoots(ctx, keys[:1]); err == nil || !strings.Contains(err.Error(), "lacks the key of device-root-1: nothing was removed") {
		t.Errorf("with half a copy: %v", err)
	}
	names, err := a.ForgetRoots(ctx, keys)
	if err != nil || !slices.Equal(names, []string{"server-root-1", "device-root-1"}) {
		t.Fatalf("ForgetRoots = %v, %v", names, err)
	}
	for _, n := range names {
		if _, err := os.Stat(filepath.Join(c.Dir, "keys", n+".key")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", n, err)
		}
	}
	a = checkWhole(t, c)
	for _, i := range a.CAs(ctx) {
		if want := map[bool]string{true: "offline", false: "here"}[strings.Contains(i.Role, "root")]; i.Key != want {
			t.Errorf("the key of %s is %s", i.Role, i.Key)
		}
	}
	if _, err := a.ExportRoots(ctx); err == nil || !strings.Contains(err.Error(), "taken offline before") {
		t.Errorf("ExportRoots again: %v", err)
	}

	// New issuers need the keys, for one time.
	if err := a.RotateIssuers(ctx, nil); err == nil || !strings.Contains(err.Error(), "key is missing: put it back") {
		t.Errorf("RotateIssuers without the keys: %v", err)
	}
	if err := a.RotateIssuers(ctx, keys); err != nil {
		t.Error(err)
	}
	if err := handshake(t, a, pinned, nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "keys", "server-root-1.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root is back: %v", err)
	}

	// New roots do not: their keys are made here and are the next to be taken offline.
	if begun, err := a.Rotate(ctx); !begun || err != nil {
		t.Fatalf("Rotate: %v, %v", begun, err)
	}
	if err := a.FinishRotation(ctx); err != nil {
		t.Fatal(err)
	}
	if text, err := a.ExportRoots(ctx); err != nil || strings.Contains(text.Reveal(), "root-1") || !strings.Contains(text.Reveal(), "server-root-2") {
		t.Errorf("the next export: %v", err)
	}

	if names, err = a.RestoreRoots(ctx, keys); err != nil || len(names) != 2 {
		t.Errorf("RestoreRoots = %v, %v", names, err)
	}
	if names, err = a.RestoreRoots(ctx, keys); err != nil || len(names) != 0 {
		t.Errorf("RestoreRoots again = %v, %v", names, err)
	}
	for _, i := range a.CAs(ctx) {
		if i.Key != "here" {
			t.Errorf("the key of %s is %s", i.Role, i.Key)
		}
	}
}

func TestKeysOfAnotherInstallationAreRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := openTest(t, nil), openTest(t, nil)
	text, err := b.ExportRoots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ReadRoots(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RotateIssuers(ctx, keys); !errors.Is(err, errForeignRoots) {
		t.Errorf("RotateIssuers: %v", err)
	}
	if _, err := a.RestoreRoots(ctx, keys); !errors.Is(err, errForeignRoots) {
		t.Errorf("RestoreRoots: %v", err)
	}
	if _, err := a.ForgetRoots(ctx, keys); err == nil {
		t.Error("roots were forgotten for a copy of others")
	}
	for name, text := range map[string]string{"nothing": "", "a certificate": a.RootsPEM(), "damage": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := ReadRoots(fleet.Secret(text)); err == nil || !strings.Contains(err.Error(), "the file of the roots' keys") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
