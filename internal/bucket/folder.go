package bucket

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// Hidden names in the folder of a bucket: nothing in them is an object.
const (
	birthFile  = ".created"
	stagingDir = ".staging" // what is being received
	uploadsDir = ".uploads" // parts of unfinished uploads
)

// A Folder keeps buckets as folders and objects as files. It is safe for concurrent use by one process.
type Folder struct {
	dir     string
	clock   fleet.Clock
	reserve int64 // bytes of the file system that stay free; < 0: a twentieth of it, at most 1 GiB

	mu    sync.Mutex
	locks map[string]*sync.Mutex // by path of the bucket; taken to change which names there are
}

// FolderConfig says where a Folder is.
type FolderConfig struct {
	Dir   string      // buckets in the data folder; made when it is first needed
	Clock fleet.Clock // nil: the system's
}

// NewFolder returns a Folder, and forgets what was being received when the process before ended.
func NewFolder(c FolderConfig) (*Folder, error) {
	f := &Folder{dir: c.Dir, clock: c.Clock, reserve: -1, locks: map[string]*sync.Mutex{}}
	left, err := fs.Glob(os.DirFS(c.Dir), "*/*/*/"+stagingDir)
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(c.Dir, dir)))
	}
	return f, err
}

// A Bucket is a name and since when there is one.
type Bucket struct {
	Name    string
	Created time.Time
}

func (f *Folder) scopeDir(s fleet.Scope) string { return filepath.Join(f.dir, s.Account, s.Region) }

// bucketDir is the folder of a bucket that there is.
func (f *Folder) bucketDir(s fleet.Scope, bucket string) (string, error) {
	if CheckName(bucket) != nil {
		return "", noBucket(bucket)
	}
	dir := filepath.Join(f.scopeDir(s), bucket)
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return "", noBucket(bucket)
	}
	return dir, nil
}

// lock takes the right to change what names there are in a bucket.
func (f *Folder) lock(dir string) (unlock func()) {
	f.mu.Lock()
	l := f.locks[dir]
	if l == nil {
		l = new(sync.Mutex)
		f.locks[dir] = l
	}
	f.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// CreateBucket makes a bucket. Errors: InvalidBucketName, BucketAlreadyOwnedByYou, TooManyBuckets.
func (f *Folder) CreateBucket(ctx context.Context, s fleet.Scope, name string) error {
	if name == Reports {
		return fleet.Exists("bucket", name, "The bucket is the service's own").WithCode("BucketAlreadyExists")
	}
	all, err := f.Buckets(ctx, s)
	if err == nil && len(all) >= MaxBuckets {
		err = fleet.OverLimit("bucket", name, "You have attempted to create more buckets than allowed").WithCode("TooManyBuckets")
	}
	if err != nil {
		return err
	}
	return f.makeBucket(s, name)
}

func (f *Folder) makeBucket(s fleet.Scope, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	dir := filepath.Join(f.scopeDir(s), name)
	defer f.lock(f.scopeDir(s))()
	if _, err := os.Lstat(dir); err == nil {
		return fleet.Exists("bucket", name, "Your previous request to create the named bucket succeeded and you already own it.").WithCode("BucketAlreadyOwnedByYou")
	}
	if err := durable.MakeDir(dir); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, birthFile), []byte(f.clock.Now().Format(time.RFC3339)), 0o600)
}

// Buckets lists the buckets of a scope by name.
func (f *Folder) Buckets(_ context.Context, s fleet.Scope) (list []Bucket, err error) {
	entries, err := os.ReadDir(f.scopeDir(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil || e.Name() == Reports {
			continue
		}
		list = append(list, Bucket{e.Name(), birth(filepath.Join(f.scopeDir(s), e.Name()))})
	}
	return list, err
}

// birth is when a bucket was made. Of a folder that somebody has made by hand there is only the time of its last change.
func birth(dir string) time.Time {
	text, err := readBounded(filepath.Join(dir, birthFile), 64)
	if err == nil {
		if t, err := time.Parse(time.RFC3339, string(text)); err == nil {
			return t
		}
	}
	info, err := os.Lstat(dir)
	if err != nil { // removed meanwhile
		return time.Time{}
	}
	return info.ModTime().UTC()
}

// HeadBucket fails with NoSuchBucket if there is none.
func (f *Folder) HeadBucket(_ context.Context, s fleet.Scope, name string) error {
	_, err := f.bucketDir(s, name)
	return err
}

// DeleteBucket removes a bucket without objects, with its unfinished uploads. Errors: NoSuchBucket, BucketNotEmpty.
func (f *Folder) DeleteBucket(ctx context.Context, s fleet.Scope, name string) error {
	dir, err := f.bucketDir(s, name)
	if err != nil {
		return err
	}
	defer f.lock(dir)()
	page, err := f.List(ctx, s, name, ListQuery{Limit: 1})
	if err != nil {
		return err
	}
	if len(page.Objects) > 0 || name == Reports {
		return fleet.InUse("bucket", name, "The bucket you tried to delete is not empty").WithCode("BucketNotEmpty")
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// room refuses to fill the file system, on which the database is, too.
func (f *Folder) room(dir string, more int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	reserve := f.reserve
	if reserve < 0 {
		reserve = min(int64(st.Blocks)*int64(st.Bsize)/20, 1<<30)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free-more < reserve {
		return &fleet.Error{Kind: fleet.KindUnavailable, Code: "InsufficientStorage",
			Msg: "There is not enough room left on the disk of the data folder: delete objects, or give it a larger disk"}
	}
	return nil
}

// Sweep removes unfinished uploads that nobody has gone on with for a week.
func (f *Folder) Sweep(context.Context) error {
	left, err := fs.Glob(os.DirFS(f.dir), "*/*/*/"+uploadsDir+"/*")
	for _, dir := range left {
		dir = filepath.Join(f.dir, dir)
		if info, statErr := os.Stat(dir); statErr == nil && f.clock.Now().Sub(info.ModTime()) > uploadsKept {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}
