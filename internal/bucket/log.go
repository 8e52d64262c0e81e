package bucket

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Log is an object that grows, for one writer. Whoever reads it gets what it was when they began.
type Log struct {
	file *os.File
	size int64
}

// OpenLog opens a growing object of the bucket Reports and cuts it to a size that was durable before.
func (f *Folder) OpenLog(s fleet.Scope, key string, size int64) (*Log, error) {
	rel, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(f.bucketPath(s, Reports), filepath.FromSlash(rel))
	if err := durable.MakeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.Truncate(size), durable.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Log{file, size}, nil
}

// Append adds to the log. What was added is durable after Sync.
func (l *Log) Append(text string) error {
	n, err := l.file.WriteAt([]byte(text), l.size)
	l.size += int64(n)
	return err
}

// Sync makes the log durable and returns its size.
func (l *Log) Sync() (size int64, err error) { return l.size, l.file.Sync() }

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }
