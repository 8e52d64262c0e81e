// Package durable writes small files and makes folders so that they survive a power cut: when a function here returns without
// an error, content and names are on disk. Whatever the product keeps beside its database goes through it.
//
// Begin with WriteFile.
package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile puts data at path in one step: after a power cut there is the old content or the new, never a part, and nobody
// ever reads a part. Until then it has a name that begins with a dot.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// KeepFile is WriteFile for a file that may hold data already: then nothing is written.
func KeepFile(path string, data []byte, perm fs.FileMode) error {
	if info, err := os.Lstat(path); err == nil && info.Mode() == perm && info.Size() == int64(len(data)) {
		if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, data) {
			return nil
		}
	}
	return WriteFile(path, data, perm)
}

// CreateFile is WriteFile for a path that must not exist: it fails with fs.ErrExist if it does.
func CreateFile(path string, data []byte, perm fs.FileMode) error {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
	return place(tmp, path)
}

// CreateFrom is CreateFile for content that write writes. If write fails nothing is left.
func CreateFrom(path string, perm fs.FileMode, write func(io.Writer) error) error {
	tmp, err := tempFrom(path, perm, write)
	if err != nil {
		return err
	}
	return place(tmp, path)
}

// place gives a temporary file its name, unless there is a file of that name.
func place(tmp, path string) error {
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); errors.Is(err, fs.ErrExist) {
		return err
	} else if err != nil { // a file system without hard links
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: %w", path, fs.ErrExist)
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return SyncDir(filepath.Dir(path))
}

// MoveDir gives a folder, whose files are durable, another name beside its own. A folder of that name must be empty.
func MoveDir(from, to string) error {
	if err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = SyncDir(path)
		}
		return err
	}); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // os.Rename replaces no folder
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// writeTemp writes data, durably, to a new file beside path and returns its name.
func writeTemp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	return tempFrom(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func tempFrom(path string, perm fs.FileMode, write func(io.Writer) error) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = errors.Join(write(f), f.Chmod(perm), f.Sync(), f.Close())
	return f.Name(), err
}

// Rename gives a durable file another name, perhaps in another folder of the same file system, in place of a file that has it.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// SyncDir makes new, renamed and removed entries of a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SyncFile makes durable what somebody has written to a file, and its name.
func SyncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MakeDir makes a folder that only its owner can read, and those above it. One that is there stays as it is.
func MakeDir(dir string) error {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if _, err := os.Stat(dir); err == nil || parent == dir {
		return err
	}
	if err := MakeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}
