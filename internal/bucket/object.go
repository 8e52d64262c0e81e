package bucket

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// objectPath is where an object of a bucket that there is would be.
func (f *Folder) objectPath(s fleet.Scope, bucket, key string) (dir, path string, err error) {
	if dir, err = f.bucketDir(s, bucket); err != nil {
		return "", "", err
	}
	rel, err := encodeKey(key)
	return dir, filepath.Join(dir, filepath.FromSlash(rel)), err
}

// File opens an object for reading. Whoever has it open reads what it was, even if it is replaced or deleted.
func (f *Folder) File(_ context.Context, s fleet.Scope, bucket, key string) (Object, *os.File, error) {
	_, path, err := f.objectPath(s, bucket, key)
	if err != nil {
		return Object{}, nil, err
	}
	// The description is read beside an open file: of one that took its place meanwhile it would not fit, and one more look helps.
	for try := 0; ; try++ {
		file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return Object{}, nil, orNoKey(err, key)
		}
		info, err := file.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return Object{}, nil, errors.Join(orNoKey(err, key), file.Close())
		}
		o := objectOf(key, path, info)
		if now, err := os.Lstat(path); err == nil && os.SameFile(now, info) || try == 2 {
			return o, file, nil
		}
		if err := file.Close(); err != nil {
			return Object{}, nil, err
		}
	}
}

// orNoKey is the error of a look-up: nil and what means that there is no such file become NoSuchKey.
func orNoKey(err error, key string) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return noKey(key)
	}
	return err
}

// Open implements Objects.
func (f *Folder) Open(ctx context.Context, s fleet.Scope, bucket, key string, from int64) (Object, io.ReadCloser, error) {
	o, file, err := f.File(ctx, s, bucket, key)
	if err == nil && from > 0 {
		if _, err = file.Seek(from, io.SeekStart); err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		return Object{}, nil, err
	}
	return o, file, nil
}

// Head returns what is known of an object.
func (f *Folder) Head(_ context.Context, s fleet.Scope, bucket, key string) (Object, error) {
	_, path, err := f.objectPath(s, bucket, key)
	if err != nil {
		return Object{}, err
	}
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return Object{}, orNoKey(err, key)
	}
	return objectOf(key, path, info), nil
}

// Put implements Objects.
func (f *Folder) Put(_ context.Context, s fleet.Scope, bucket, key string, content io.Reader, o PutOptions) (Object, error) {
	dir, path, err := f.objectPath(s, bucket, key)
	if err != nil {
		return Object{}, err
	}
	staging, err := makeIn(dir, stagingDir)
	if err != nil {
		return Object{}, orNoBucket(err, bucket)
	}
	staged, sum, err := f.stage(staging, content)
	if err != nil {
		return Object{}, orNoBucket(err, bucket)
	}
	defer os.Remove(staged)
	d := description{ETag: hex.EncodeToString(sum), Headers: o.Headers, Metadata: o.Metadata}
	if o.Checksum != nil {
		d.Checksum = o.Checksum()
	}
	placed, err := f.place(dir, path, key, staged, d, o)
	return placed, orNoBucket(err, bucket)
}

// stage writes content to a new file of a folder, durably, and returns its name and MD5.
func (f *Folder) stage(dir string, content io.Reader) (name string, sum []byte, err error) {
	if err := f.room(dir, 0); err != nil {
		return "", nil, err
	}
	file, err := os.CreateTemp(dir, "*")
	if err != nil {
		return "", nil, err
	}
	w := &staging{folder: f, dir: dir, file: file, sum: md5.New()}
	_, err = io.Copy(struct{ io.Writer }{w}, content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", nil, errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), w.sum.Sum(nil), nil
}

// staging is what is being received.
type staging struct {
	folder  *Folder
	dir     string
	file    *os.File
	sum     hash.Hash
	written int64
	checked int64 // bytes at which the room was last looked at
}

const roomEvery = 64 << 20 // bytes

// Write implements io.Writer.
func (w *staging) Write(p []byte) (int, error) {
	if w.written+int64(len(p)) > MaxPut {
		return 0, fleet.Invalid("object", "", "Your proposed upload exceeds the maximum allowed size").WithCode("EntityTooLarge")
	}
	if w.written-w.checked >= roomEvery {
		if err := w.folder.room(w.dir, 0); err != nil {
			return 0, err
		}
		w.checked = w.written
	}
	n, err := w.file.Write(p)
	w.written += int64(n)
	w.sum.Write(p[:n])
	return n, err
}

// orNoBucket tells of a bucket that was deleted meanwhile.
func orNoBucket(err error, bucket string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return noBucket(bucket)
	}
	return err
}

// place gives a staged file the name of its object.
func (f *Folder) place(dir, path, key, staged string, d description, o PutOptions) (Object, error) {
	defer f.lock(dir)()
	if err := check(path, key, o); err != nil {
		return Object{}, err
	}
	info, err := stamp(staged, path, f.clock.Now())
	if err != nil {
		return Object{}, err
	}
	d.Size, d.Modified = info.Size(), info.ModTime().UnixNano()
	if err := durable.MakeDir(filepath.Dir(path)); err != nil {
		return Object{}, besides(err, key)
	}
	if err := keepDescription(path, d); err != nil {
		return Object{}, besides(err, key)
	}
	if err := durable.Rename(staged, path); err != nil {
		return Object{}, besides(err, key)
	}
	return Object{Key: key, Size: d.Size, ETag: d.ETag, Modified: info.ModTime().UTC(), Headers: d.Headers, Metadata: d.Metadata, Checksum: d.Checksum}, nil
}

// check holds a put to its conditions.
func check(path, key string, o PutOptions) error {
	info, err := os.Lstat(path)
	there := err == nil && info.Mode().IsRegular()
	switch {
	case err == nil && info.IsDir():
		return besides(syscall.EISDIR, key)
	case o.IfAbsent && there:
		return preconditionFailed()
	case o.IfMatch != "" && !there:
		return noKey(key)
	case o.IfMatch != "" && objectOf(key, path, info).ETag != o.IfMatch:
		return preconditionFailed()
	}
	return nil
}

// besides explains what a folder cannot have, and S3 can: an object a beside an object a/b.
func besides(err error, key string) error {
	if errors.Is(err, syscall.ENAMETOOLONG) {
		return tooLong("Your key is too long: the name of the file that it becomes is")
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		return fleet.Invalid("key", key, "The key %s cannot be, since another one goes on behind it, or ends before, at a slash: in a folder a name is a file or a folder", key).
			WithCode("InvalidRequest")
	}
	return err
}

// Delete removes an object. One that is not there is removed as well.
func (f *Folder) Delete(_ context.Context, s fleet.Scope, bucket, key string) error {
	dir, path, err := f.objectPath(s, bucket, key)
	if err != nil {
		return err
	}
	defer f.lock(dir)()
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		if err = orNoKey(err, key); fleet.KindOf(err) == fleet.KindNotFound {
			return nil
		}
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.Remove(descriptionName(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	for strings.HasPrefix(parent, dir+string(filepath.Separator)) && os.Remove(parent) == nil { // fails when there is something left
		parent = filepath.Dir(parent)
	}
	return durable.SyncDir(parent)
}
