package bucket

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A ListQuery says which part of a bucket's list is wanted.
type ListQuery struct {
	Prefix    string
	Delimiter string // keys that have it behind the prefix are listed by what comes before
	After     string // list what comes behind this key or common prefix
	Limit     int    // keys and common prefixes together; at least 1
}

// A ListPage is part of a bucket's list, in the order of keys by their bytes.
type ListPage struct {
	Objects  []Object
	Prefixes []string // common ones
	Next     string   // After of the next page; "": this is the last one
}

// List returns part of a bucket's list.
func (f *Folder) List(ctx context.Context, s fleet.Scope, bucket string, q ListQuery) (page ListPage, err error) {
	dir, err := f.bucketDir(s, bucket)
	if err != nil {
		return page, err
	}
	w := walk{ctx: ctx, prefix: q.Prefix, after: q.After, visit: func(w *walk, key, path string) error {
		full := len(page.Objects)+len(page.Prefixes) >= q.Limit
		if common, ok := commonPrefix(key, q); ok {
			if common == q.After { // of the page before
				w.skip(common)
				return nil
			}
			if full {
				return errFull
			}
			page.Prefixes, page.Next = append(page.Prefixes, common), common
			w.skip(common)
			return nil
		}
		if full {
			return errFull
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			return nil
		}
		if err == nil {
			page.Objects, page.Next = append(page.Objects, objectOf(key, path, info)), key
		}
		return err
	}}
	switch err = w.dir(dir, ""); {
	case errors.Is(err, errFull):
		err = nil
	default:
		page.Next = ""
	}
	return page, err
}

var errFull = errors.New("the page is full")

func commonPrefix(key string, q ListQuery) (common string, ok bool) {
	if q.Delimiter == "" {
		return "", false
	}
	i := strings.Index(key[len(q.Prefix):], q.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(q.Prefix)+i+len(q.Delimiter)], true
}

// A walk visits the keys of a bucket that begin with prefix and come behind after.
type walk struct {
	ctx           context.Context
	prefix, after string
	visit         func(w *walk, key, path string) error
}

// skip leaves out what begins with common. No key has the byte 0xff: it is not in UTF-8.
func (w *walk) skip(common string) { w.after = common + "\xff" }

// dir visits the folder of all keys that begin with stem, which is "" or ends in a slash.
func (w *walk) dir(path, stem string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) && stem != "" { // deleted meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	type entry struct {
		key  string // of a folder: what its keys begin with
		name string
		dir  bool
	}
	var list []entry
	for _, e := range entries {
		seg, ok := decodeSegment(e.Name())
		if !ok || !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		key := stem + seg
		if e.IsDir() {
			key += "/"
		}
		if w.wanted(key, e.IsDir()) {
			list = append(list, entry{key, e.Name(), e.IsDir()})
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range list {
		if !w.wanted(e.key, e.dir) { // since something was skipped
			continue
		}
		below := filepath.Join(path, e.name)
		if e.dir {
			err = w.dir(below, e.key)
		} else {
			err = w.visit(w, e.key, below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether a key, or any key in a folder, may be in the list.
func (w *walk) wanted(key string, dir bool) bool {
	if !dir {
		return strings.HasPrefix(key, w.prefix) && key > w.after
	}
	return (strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)) && (key > w.after || strings.HasPrefix(w.after, key))
}
