package storetest

import (
	"archive/tar"
	"compress/gzip"
	"embed"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed folders/*.tar.gz
var folders embed.FS

// Folders unpacks the data folders that earlier versions left (folders/README.md) and returns their paths by name. Beside what the
// version wrote each has facts.json.
func Folders(t testing.TB) map[string]string {
	t.Helper()
	archives, err := folders.ReadDir("folders")
	if err != nil || len(archives) == 0 {
		t.Fatalf("there are no folders of earlier versions: %v", err)
	}
	out := map[string]string{}
	for _, a := range archives {
		dir := filepath.Join(t.TempDir(), "data")
		if err := unpack("folders/"+a.Name(), dir); err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		out[strings.TrimSuffix(a.Name(), ".tar.gz")] = dir
	}
	return out
}

func unpack(archive, dir string) error {
	f, err := folders.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var text []byte
			if text, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, text, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
}
