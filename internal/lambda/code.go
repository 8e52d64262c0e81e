package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// The store keeps zip files; what runs is a folder that one was extracted to, made when it is first needed.

const (
	codePart     = 256 << 10 // bytes in a transaction, so that a registration never waits long behind it
	maxCode      = 1 << 30   // bytes of all zip files of a scope
	codeKept     = time.Hour // that code stays in the store before a function must have it
	folderKept   = time.Hour // that a folder stays when no function has its code: workers may still read it
	loadCodeTime = time.Minute
)

func codeOf(data []byte) fleet.FunctionCode {
	sum := sha256.Sum256(data)
	return fleet.FunctionCode{Digest: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// upload stores a zip file in small transactions. It stays for codeKept without a function that has it.
func (s *Service) upload(ctx context.Context, scope fleet.Scope, data []byte) (fleet.FunctionCode, error) {
	c := codeOf(data)
	var complete bool
	if err := s.Store.Tx(ctx, func(tx *store.Tx) (err error) {
		if complete, err = tx.BeginCode(scope, c); err != nil || complete {
			return err
		}
		size, err := tx.CodeSize(scope)
		if err == nil && size > maxCode {
			err = fleet.OverLimit("", "", "Code storage limit exceeded: the functions of an account have %d bytes of code at most", int64(maxCode))
		}
		return err
	}); err != nil || complete {
		return c, err
	}
	i := 0
	for part := range slices.Chunk(data, codePart) {
		if err := s.Store.Tx(ctx, func(tx *store.Tx) error { return tx.PutCodePart(scope, c.Digest, i, part) }); err != nil {
			return c, err
		}
		i++
	}
	return c, nil
}

// load writes a zip file to w, part by part.
func (s *Service) load(ctx context.Context, scope fleet.Scope, c fleet.FunctionCode, w io.Writer) error {
	sum, size := sha256.New(), int64(0)
	for part := 0; size < c.Size; part++ {
		var content []byte
		err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
			content, err = tx.CodePart(scope, c.Digest, part)
			return err
		})
		if err == nil {
			sum.Write(content)
			size += int64(len(content))
			_, err = w.Write(content)
		}
		if err != nil {
			return fmt.Errorf("reading the code %s: %w", c.Digest, err)
		}
	}
	if size != c.Size || hex.EncodeToString(sum.Sum(nil)) != c.Digest {
		return fmt.Errorf("the code %s in the store has another content", c.Digest)
	}
	return nil
}

// folders are the extracted zip files, by their digest. What a power cut left is of no use: their folder is removed at each start, and
// made with the first one.
type folders struct {
	dir string
	mu  sync.Mutex
	m   map[string]*folder
}

type folder struct {
	path  string
	ready chan struct{} // closed when path is there, or err is set
	err   error
	used  time.Time
}

func openFolders(dir string) (*folders, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("removing the folder of functions: %w", err)
	}
	return &folders{dir: dir, m: map[string]*folder{}}, nil
}

// A loader writes the zip file of a code.
type loader func(context.Context, io.Writer) error

// get returns the folder of a code; load gives its zip file if that was not extracted yet. It waits no longer than ctx lasts.
func (f *folders) get(ctx context.Context, c fleet.FunctionCode, now time.Time, load loader) (string, error) {
	f.mu.Lock()
	one := f.m[c.Digest]
	if one == nil {
		one = &folder{path: filepath.Join(f.dir, c.Digest), ready: make(chan struct{})}
		f.m[c.Digest] = one
		go f.fill(one, c, load)
	}
	one.used = now
	f.mu.Unlock()
	select {
	case <-one.ready:
		return one.path, one.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// fill makes a folder. One that failed is tried again by whoever comes next.
func (f *folders) fill(one *folder, c fleet.FunctionCode, load loader) {
	ctx, cancel := context.WithTimeout(context.Background(), loadCodeTime)
	defer cancel()
	if one.err = f.make(ctx, one.path, c, load); one.err != nil {
		f.mu.Lock()
		delete(f.m, c.Digest)
		f.mu.Unlock()
	}
	close(one.ready)
}

// make makes a folder, from a zip file that lies beside it meanwhile and not in memory.
func (f *folders) make(ctx context.Context, path string, c fleet.FunctionCode, load loader) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	data, err := os.CreateTemp(f.dir, ".zip-")
	if err != nil {
		return err
	}
	defer func() {
		_ = data.Close()
		_ = os.Remove(data.Name())
	}()
	if err := load(ctx, data); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(f.dir, ".new-")
	if err != nil {
		return err
	}
	if err = os.Chmod(tmp, 0o755); err == nil {
		err = extract(data, c.Size, tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(tmp))
	}
	return err
}

// sweep removes the folders of code that is not in use and was not for a while.
func (f *folders) sweep(inUse []string, before time.Time) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for digest, one := range f.m {
		select {
		case <-one.ready:
		default:
			continue
		}
		if slices.Contains(inUse, digest) || !one.used.Before(before) {
			continue
		}
		delete(f.m, digest)
		err = errors.Join(err, os.RemoveAll(one.path))
	}
	return err
}

// Sweep removes code that no function has. The server calls it every minute or so.
func (s *Service) Sweep(ctx context.Context, now time.Time) error {
	for more := true; more; {
		if err := s.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			more, err = tx.SweepCode(now.Add(-codeKept))
			return err
		}); err != nil {
			return err
		}
	}
	var inUse []string
	if err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		inUse, err = tx.CodeInUse()
		return err
	}); err != nil {
		return err
	}
	return s.folders.sweep(inUse, now.Add(-folderKept))
}
