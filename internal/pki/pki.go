// Package pki is everything about keys and certificates that needs no registry: the authority that issues device, claim and
// server certificates, the keys it signs with, the master key that seals secrets at rest, the rules for requests (CSRs) and
// for certificates that customers bring, and the facts of a certificate that policies and templates may name.
//
// Begin with Authority in authority.go and the profiles in profile.go, which decide in one place what a certificate looks
// like. Issuing is pure: profile, public key, subject and issuer in, DER out, and every refusal happens before the key is
// used. Sealer and MasterKey protect what must be recoverable; KeyStore is where signing keys live. DESIGN.md says why the
// authority has the shape it has.
package pki

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Folders below the data folder.
const (
	AuthorityDir = "pki"      // for Config.Dir
	KeysDir      = "pki/keys" // for NewFileKeys
)

// writeFile puts data at path in one step: after a power cut there is the old content or the new, never a part. It returns
// when file and folder entry are on disk.
func writeFile(path string, data []byte, perm fs.FileMode) (err error) {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}

// createFile is writeFile for a path that must not exist: it fails with fs.ErrExist if it does.
func createFile(path string, data []byte, perm fs.FileMode) error {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
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
	return syncDir(filepath.Dir(path))
}

// writeTemp writes data, durably, to a new file beside path and returns its name.
func writeTemp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
	return f.Name(), err
}

// syncDir makes new and renamed entries of a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes a folder that only its owner can read, and those above it, durably.
func makeDir(dir string) error {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if _, err := os.Stat(dir); err == nil || parent == dir {
		return err
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// readBounded reads a whole file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}

// checkMode refuses a file that others than its owner may read or change; groupRead lets the file's group read it.
func checkMode(path string, groupRead bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	forbidden, fix := fs.FileMode(0o077), "600"
	if groupRead {
		forbidden, fix = 0o037, "400"
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return fmt.Errorf("%s holds a key and may be read or changed by others (mode %04o): run chmod %s %s", path, mode, fix, path)
	}
	return nil
}
