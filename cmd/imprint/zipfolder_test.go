package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAFolderIsZippedTheSameEachTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, perm os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), perm); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"z.py", "app.py", "lib/a.py", "__pycache__/app.pyc", "lib/__pycache__/a.pyc", ".git/HEAD"} {
		write(name, 0o600)
	}
	write("bootstrap", 0o755)
	if err := os.Symlink("app.py", filepath.Join(dir, "link.py")); err != nil {
		t.Fatal(err)
	}
	one, err := zipFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "app.py"), time.Now(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if two, err := zipFolder(dir); err != nil || !bytes.Equal(one, two) {
		t.Errorf("the second time it is another file, %v", err)
	}
	r, err := zip.NewReader(bytes.NewReader(one), int64(len(one)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range r.File {
		names = append(names, f.Name+" "+f.Mode().String())
	}
	if want := []string{"app.py -rw-r--r--", "bootstrap -rwxr-xr-x", "lib/a.py -rw-r--r--", "link.py -rw-r--r--", "z.py -rw-r--r--"}; !slices.Equal(names, want) {
		t.Errorf("it holds %q", names)
	}
	if err := os.Symlink("lib", filepath.Join(dir, "folder")); err != nil {
		t.Fatal(err)
	}
	if _, err := zipFolder(dir); err == nil || !strings.Contains(err.Error(), "folder is no file") {
		t.Errorf("a link to a folder: %v", err)
	}
	if _, err := zipFolder(t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no files") {
		t.Errorf("an empty folder: %v", err)
	}
}
