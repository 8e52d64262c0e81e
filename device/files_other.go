//go:build !unix

package device

import "os"

// lockFile only makes sure of the file: elsewhere than on Unix the caller sees to it that one process provisions at a time.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// cannotSyncDir is always true where folders are not files.
func cannotSyncDir(error) bool { return true }
