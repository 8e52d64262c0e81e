package device

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A fileSystem is the part of an operating system's files that the store needs. Tests put one in its place that loses power.
//
// Nothing is durable until it is synced: the content of a file by file.Sync, its name by SyncDir of the folder. A Rename is
// atomic for other processes and, on a file system with a journal, for a power cut.
type fileSystem interface {
	Mkdir(name string, perm fs.FileMode) error // fs.ErrExist if it is there
	Mode(name string) (fs.FileMode, error)     // fs.ErrNotExist if it is not there; links are not followed
	ReadFile(name string) ([]byte, error)      // fs.ErrNotExist; at most maxFile bytes
	ReadDir(name string) ([]string, error)
	Create(name string) (file, error)    // mode 0600, emptied if it is there
	Overwrite(name string) (file, error) // writes begin at offset 0, nothing is cut off
	Rename(old, new string) error        // replaces new
	Remove(name string) error
	SyncDir(name string) error
	Symlink(target, name string) error // an error where the file system has no links
	Readlink(name string) (string, error)
	Lock(name string) (unlock func(), err error) // errBusy if another process holds it
}

type file interface {
	io.WriteCloser
	Sync() error
}

var errBusy = errors.New("locked by another process")

// maxFile bounds what is read of any file of the store, in bytes.
const maxFile = 1 << 20

// osFiles is the real thing.
type osFiles struct{}

var _ fileSystem = osFiles{}

func (osFiles) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }
func (osFiles) Rename(old, new string) error              { return os.Rename(old, new) }
func (osFiles) Remove(name string) error                  { return os.Remove(name) }
func (osFiles) Symlink(target, name string) error         { return os.Symlink(target, name) }
func (osFiles) Readlink(name string) (string, error)      { return os.Readlink(name) }
func (osFiles) Lock(name string) (func(), error)          { return lockFile(name) }

func (osFiles) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (osFiles) Overwrite(name string) (file, error) {
	return os.OpenFile(name, os.O_WRONLY, 0)
}

func (osFiles) Mode(name string) (fs.FileMode, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

func (osFiles) ReadFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errors.New("file is too large")
	}
	return b, err
}

func (osFiles) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// SyncDir makes the names in a folder durable. File systems that cannot do it on a folder (some network ones) say EINVAL.
func (osFiles) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !cannotSyncDir(err) {
		return err
	}
	return nil
}

// tmpSuffix marks a file that was being written when the power went. What it holds may be half a key, so it is erased.
const tmpSuffix = ".tmp"

// writeFile replaces a file as a whole: after a power cut at any point there is the old content or the new one. The new one is
// there to stay once the folder has been synced, which is the caller's to do: several files need it only once.
func writeFile(fsys fileSystem, name string, data []byte) error {
	tmp := name + tmpSuffix
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // the content before the name: else the name may survive with nothing behind it
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		eraseFile(fsys, tmp) // as well as it goes: the disk may be full or gone
	}
	return err
}

// eraseFile overwrites a file with zeros before it removes it. On flash memory and on journaling or copying file systems the
// old content may live on in spare blocks: it is the best that a program can do, not a guarantee. A missing file is no error.
func eraseFile(fsys fileSystem, name string) error {
	if _, err := fsys.Mode(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	overwrite(fsys, name)
	return fsys.Remove(name)
}

func overwrite(fsys fileSystem, name string) {
	old, err := fsys.ReadFile(name)
	if err != nil || len(old) == 0 {
		return
	}
	f, err := fsys.Overwrite(name)
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, len(old))); err == nil {
		f.Sync() // the zeros must reach the disk before the name goes, or they never do
	}
}

// EraseFile overwrites a file with zeros as well as the file system lets it, then removes it: what to do with the file that
// brought a claim. A missing file is no error, and what is no regular file (a pipe) is left alone.
func EraseFile(name string) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err := eraseFile(osFiles{}, name); err != nil {
		return storage(err, "cannot erase %s", name)
	}
	return osFiles{}.SyncDir(filepath.Dir(name))
}
