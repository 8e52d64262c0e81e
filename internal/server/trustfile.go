package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// keepRoots writes keys to a file that only its owner can read, durably. It never overwrites: what stands there may be the only
// copy of other keys. What an attempt that was cut has written is fine: it ends in the keys that were not removed yet.
func keepRoots(file string, keys fleet.Secret) error {
	err := durable.CreateFile(file, []byte(keys.Reveal()), 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	kept, err := ReadRootsFile(file)
	if err == nil && keys != "" && strings.HasSuffix(kept.Reveal(), keys.Reveal()) {
		return durable.SyncFile(file) // before the cut it may not have been
	}
	return fmt.Errorf("%s exists and holds something else: name a new file", file)
}

// ReadRootsFile reads a file of keys that others cannot read.
func ReadRootsFile(file string) (fleet.Secret, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("%s holds keys and may be read or changed by others (mode %04o): run chmod 600 %[1]s", file, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTrustBody/2))
	return fleet.Secret(text), err
}
