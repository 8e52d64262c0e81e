package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// That all this survives a power cut is proven with the whole server, in test/compat/power.

func TestWriteFileReplacesAndCreateFileDoesNot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := CreateFile(path, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("2"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateFile over a file: %v", err)
	}
	if err := WriteFile(path, []byte("3"), 0o640); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "3" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file has %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("temporary files remain: %v, %v", entries, err)
	}
}

func TestKeepFileWritesOnlyWhatIsNotThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	keep := func(data string, perm fs.FileMode) fs.FileInfo {
		t.Helper()
		if err := KeepFile(path, []byte(data), perm); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != data || info.Mode() != perm {
			t.Errorf("the file holds %q with %v, %v", text, info.Mode(), err)
		}
		return info
	}
	first := keep("12", 0o600)
	if !os.SameFile(first, keep("12", 0o600)) {
		t.Error("the same was written again")
	}
	keep("13", 0o600)
	keep("13", 0o640)
	other := path + ".other"
	if err := errors.Join(os.Rename(path, other), os.Symlink(other, path)); err != nil {
		t.Fatal(err)
	}
	keep("13", 0o640) // a file, not a link to one
}

func TestAFailedWriteLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "taken"), nil, 0o600); err == nil {
		t.Error("WriteFile over a folder succeeds")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("temporary files remain: %v, %v", entries, err)
	}
}

func TestMakeDirMakesThoseAboveToo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		if err := MakeDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if info, err := os.Stat(d); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s has %v, %v", d, info.Mode(), err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(filepath.Join(file, "below")); err == nil {
		t.Error("a folder below a file was made")
	}
}

func TestCreateFromKeepsNothingOfAFailure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cut := errors.New("cut")
	err := CreateFrom(filepath.Join(dir, "f"), 0o600, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, cut)
	})
	if left, _ := os.ReadDir(dir); !errors.Is(err, cut) || len(left) > 0 {
		t.Errorf("%v, left %v", err, left)
	}
	if err := CreateFrom(filepath.Join(dir, "f"), 0o600, func(w io.Writer) error { _, err := io.WriteString(w, "all"); return err }); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(text) != "all" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

func TestMoveDirReplacesAnEmptyFolderOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, path := range []string{filepath.Join(from, "sub"), to} {
		if err := MakeDir(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := MoveDir(from, to); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(to, "sub")); err != nil {
		t.Error(err)
	}
	if err := MakeDir(from); err != nil {
		t.Fatal(err)
	}
	if err := MoveDir(from, to); err == nil {
		t.Error("a folder with something in it was replaced")
	}
}
