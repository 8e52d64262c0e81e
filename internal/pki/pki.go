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
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/imprint-iot/imprint/internal/durable"
)

// Folders below the data folder.
const (
	AuthorityDir = "pki"      // for Config.Dir
	KeysDir      = "pki/keys" // for NewFileKeys
)

// Files and folders of the authority survive a power cut once they are written.
var (
	writeFile  = durable.WriteFile
	createFile = durable.CreateFile
	makeDir    = durable.MakeDir
)

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
