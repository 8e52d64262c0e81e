//go:build !linux

package store

// logVFS: SQLite writes its log itself.
func logVFS() (string, error) { return "", nil }
