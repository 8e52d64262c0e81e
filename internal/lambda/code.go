package lambda

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
	for i, part := range slices.Collect(slices.Chunk(data, codePart)) {
		if err := s.Store.Tx(ctx, func(tx *store.Tx) error { return tx.PutCodePart(scope, c.Digest, i, part) }); err != nil {
			return c, err
		}
	}
	return c, nil
}

// load reads a zip file back.
func (s *Service) load(ctx context.Context, scope fleet.Scope, c fleet.FunctionCode) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(c.Size))
	for part := 0; int64(b.Len()) < c.Size; part++ {
		if err := s.Store.View(ctx, func(tx *store.Tx) error {
			content, err := tx.CodePart(scope, c.Digest, part)
			b.Write(content)
			return err
		}); err != nil {
			return nil, fmt.Errorf("reading the code %s: %w", c.Digest, err)
		}
	}
	if codeOf(b.Bytes()) != c {
		return nil, fmt.Errorf("the code %s in the store has another content", c.Digest)
	}
	return b.Bytes(), nil
}

// folders are the extracted zip files, by their digest. What a power cut left is of no use: the folder is emptied at each start.
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
		return nil, fmt.Errorf("emptying the folder of functions: %w", err)
	}
	return &folders{dir: dir, m: map[string]*folder{}}, os.MkdirAll(dir, 0o700)
}

// get returns the folder of a code; load gives its zip file if that was not extracted yet. It waits no longer than ctx lasts.
func (f *folders) get(ctx context.Context, c fleet.FunctionCode, now time.Time, load func(context.Context) ([]byte, error)) (string, error) {
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
func (f *folders) fill(one *folder, c fleet.FunctionCode, load func(context.Context) ([]byte, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), loadCodeTime)
	defer cancel()
	one.err = func() error {
		data, err := load(ctx)
		if err != nil {
			return err
		}
		tmp, err := os.MkdirTemp(f.dir, ".new-")
		if err != nil {
			return err
		}
		if err = os.Chmod(tmp, 0o755); err == nil {
			err = extract(data, tmp)
		}
		if err == nil {
			err = os.Rename(tmp, one.path)
		}
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
		return err
	}()
	if one.err != nil {
		f.mu.Lock()
		delete(f.m, c.Digest)
		f.mu.Unlock()
	}
	close(one.ready)
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
