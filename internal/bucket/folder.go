package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// Hidden names in the folder of a bucket: nothing in them is an object.
const (
	birthFile  = ".bucket"
	stagingDir = ".staging" // what is being received
	uploadsDir = ".uploads" // parts of unfinished uploads
)

// Hidden names beside the buckets.
const (
	reportsDir = ".reports" // a folder of the bucket Reports for each scope
	beginning  = ".new."    // a bucket in the making
	ending     = ".gone."   // one that is being deleted
)

// A Folder keeps buckets as folders and objects as files. A name is one bucket's, whoever has it, as on AWS. It is safe for
// concurrent use by one process.
type Folder struct {
	dir     string
	home    fleet.Scope
	clock   fleet.Clock
	reserve int64 // bytes of the file system that stay free; < 0: a twentieth of it, at most 1 GiB

	mu    sync.Mutex
	locks map[string]*sync.Mutex // by path of the bucket; taken to change which names there are
}

// FolderConfig says where a Folder is.
type FolderConfig struct {
	Dir   string      // buckets in the data folder; made when it is first needed
	Home  fleet.Scope // has the buckets that somebody has made by hand
	Clock fleet.Clock // nil: the system's
}

// NewFolder returns a Folder, and forgets what was being received, made or deleted when the process before ended.
func NewFolder(c FolderConfig) (*Folder, error) {
	f := &Folder{dir: c.Dir, home: c.Home, clock: c.Clock, reserve: -1, locks: map[string]*sync.Mutex{}}
	left, err := f.inAll(stagingDir)
	entries, listErr := os.ReadDir(f.dir)
	if !errors.Is(listErr, fs.ErrNotExist) {
		err = errors.Join(err, listErr)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), beginning) || strings.HasPrefix(e.Name(), ending) {
			left = append(left, filepath.Join(f.dir, e.Name()))
		}
	}
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return f, err
}

// inAll lists what there is under a name, or a pattern of names, in all buckets.
func (f *Folder) inAll(name string) (paths []string, err error) {
	for _, pattern := range []string{"*", reportsDir + "/*/*"} {
		found, globErr := fs.Glob(os.DirFS(f.dir), pattern+"/"+name)
		err = errors.Join(err, globErr)
		for _, path := range found {
			paths = append(paths, filepath.Join(f.dir, path))
		}
	}
	return paths, err
}

// A Bucket is a name and since when there is one.
type Bucket struct {
	Name    string
	Created time.Time
}

// bucketPath is where a bucket of a scope is or would be.
func (f *Folder) bucketPath(s fleet.Scope, bucket string) string {
	if bucket == Reports {
		return filepath.Join(f.dir, reportsDir, s.Account, s.Region)
	}
	return filepath.Join(f.dir, bucket)
}

// bucketDir is the folder of a bucket that the scope has.
func (f *Folder) bucketDir(s fleet.Scope, bucket string) (string, error) {
	if CheckName(bucket) != nil {
		return "", noBucket(bucket)
	}
	dir := f.bucketPath(s, bucket)
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return "", noBucket(bucket)
	}
	if bucket == Reports {
		return dir, nil
	}
	b, err := f.birth(dir)
	if err == nil && b.Scope != s {
		err = noBucket(bucket)
	}
	return dir, err
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

// CreateBucket makes a bucket. Errors: InvalidBucketName, BucketAlreadyOwnedByYou, BucketAlreadyExists, TooManyBuckets.
func (f *Folder) CreateBucket(ctx context.Context, s fleet.Scope, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if name == Reports {
		return taken(name)
	}
	defer f.lock(f.dir)()
	dir := f.bucketPath(s, name)
	if _, err := os.Lstat(dir); err == nil {
		b, err := f.birth(dir)
		if err != nil {
			return err
		}
		if b.Scope != s {
			return taken(name)
		}
		return fleet.Exists("bucket", name, "Your previous request to create the named bucket succeeded and you already own it.").WithCode("BucketAlreadyOwnedByYou")
	}
	all, err := f.Buckets(ctx, s)
	if err == nil && len(all) >= MaxBuckets {
		err = fleet.OverLimit("bucket", name, "You have attempted to create more buckets than allowed").WithCode("TooManyBuckets")
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(birth{Created: f.clock.Now(), Scope: s})
	if err != nil {
		return err
	}
	begun := filepath.Join(f.dir, beginning+name) // a cut before its birth is told would make it a bucket of home
	if err := errors.Join(os.RemoveAll(begun), durable.MakeDir(begun)); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(begun, birthFile), text, 0o600); err != nil {
		return err
	}
	return durable.MoveDir(begun, dir)
}

func taken(name string) error {
	return fleet.Exists("bucket", name, "The requested bucket name is not available: all accounts share the names of buckets, and it is somebody's. "+
		"Choose another one").WithCode("BucketAlreadyExists")
}

// A birth is what a bucket's file birthFile says.
type birth struct {
	Created time.Time   `json:"created"`
	Scope   fleet.Scope `json:"scope"`
}

// birth tells whose a bucket is and since when. Of a folder that somebody has made by hand there is only the time of its last change. One
// whose file says nothing is nobody's.
func (f *Folder) birth(dir string) (b birth, err error) {
	text, err := readBounded(filepath.Join(dir, birthFile), 1024)
	switch {
	case err == nil:
		if json.Unmarshal(text, &b) != nil {
			b = birth{}
		}
		return b, nil
	case !errors.Is(err, fs.ErrNotExist):
		return b, err
	}
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
		return b, nil
	}
	if err != nil {
		return b, err
	}
	return birth{info.ModTime().UTC(), f.home}, nil
}

// Buckets lists the buckets of a scope by name.
func (f *Folder) Buckets(_ context.Context, s fleet.Scope) (list []Bucket, err error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil || e.Name() == Reports {
			continue
		}
		b, err := f.birth(f.bucketPath(s, e.Name()))
		if err != nil {
			return nil, err
		}
		if b.Scope == s {
			list = append(list, Bucket{e.Name(), b.Created})
		}
	}
	return list, err
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
	gone := filepath.Join(f.dir, ending+name) // at once: a folder without its birth would be a bucket of home
	if err := errors.Join(os.RemoveAll(gone), durable.MoveDir(dir, gone)); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// makeIn makes a folder in one that is there, and not that one: a bucket or an upload that has gone meanwhile must not come back.
func makeIn(dir, name string) (string, error) {
	made := filepath.Join(dir, name)
	if err := os.Mkdir(made, 0o700); errors.Is(err, fs.ErrExist) {
		return made, nil
	} else if err != nil {
		return "", err
	}
	return made, durable.SyncDir(dir)
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
	left, err := f.inAll(uploadsDir + "/*")
	for _, dir := range left {
		if info, statErr := os.Stat(dir); statErr == nil && f.clock.Now().Sub(info.ModTime()) > uploadsKept {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}
