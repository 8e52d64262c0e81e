package device

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// A disk is a file system in memory that can lose power. It keeps two states of everything: what programs see, and what has
// been synced. A cut goes back to the second, in one of several ways, for real disks differ.
type disk struct {
	root *node

	ops    []string // the operations so far, one line each
	syncs  []int    // which of them are syncs
	cutAt  cut
	failAt int     // the operation with this index fails, as on a full disk; -1: none
	deafTo int     // the sync with this index in syncs is not done; -1: all are
	gone   []*node // files without a name any more: their blocks are still there
}

// A cut is the moment at which the power goes: before or after operation n.
type cut struct {
	op    int
	after bool
}

var noCut = cut{op: -1}

// powerCut is what the disk panics with.
type powerCut struct{}

// A node is a file, folder or link.
type node struct {
	data, durable  []byte
	names, onDisk  map[string]*node // of a folder: as seen, and as synced
	target         string           // of a link
	mode           fs.FileMode
	dirtySinceSync bool
}

// A loss says what of the unsynced state a power cut takes.
type loss int

const (
	loseAll      loss = iota // everything that was not synced
	loseNothing              // the program died, the machine did not
	loseContents             // names survive, contents do not: metadata is journaled, data is not
	loseNames                // the other way round
	tearContents             // names survive, and half of each content
	losses
)

func (l loss) String() string {
	return [...]string{"all is lost", "nothing is lost", "contents are lost", "names are lost", "contents are torn"}[l]
}

func newDisk() *disk {
	return &disk{root: folder(), cutAt: noCut, deafTo: -1, failAt: -1}
}

func folder() *node {
	return &node{names: map[string]*node{}, onDisk: map[string]*node{}, mode: fs.ModeDir | 0o700}
}

var _ fileSystem = (*disk)(nil)

// op counts an operation, and is where the power goes. do is the operation itself.
func (d *disk) op(do func(), format string, args ...any) error {
	n := len(d.ops)
	d.ops = append(d.ops, fmt.Sprintf(format, args...))
	if d.cutAt == (cut{n, false}) {
		panic(powerCut{})
	}
	if d.failAt == n {
		return errDiskFull
	}
	do()
	if d.cutAt == (cut{n, true}) {
		panic(powerCut{})
	}
	return nil
}

var errDiskFull = errors.New("no space left on device")

func (d *disk) sync(do func(), format string, args ...any) error {
	deaf := d.deafTo == len(d.syncs)
	d.syncs = append(d.syncs, len(d.ops))
	return d.op(func() {
		if !deaf {
			do()
		}
	}, format, args...)
}

// crash turns what a power cut leaves into the state after the reboot.
func (d *disk) crash(l loss) {
	d.ops, d.syncs, d.cutAt, d.deafTo, d.failAt = nil, nil, noCut, -1, -1
	d.root.crash(l)
}

func (n *node) crash(l loss) {
	if l == loseAll || l == loseNames {
		n.names = maps.Clone(n.onDisk)
	}
	n.onDisk = maps.Clone(n.names)
	if n.dirtySinceSync {
		switch l {
		case loseAll, loseContents:
			n.data = slices.Clone(n.durable)
		case tearContents:
			n.data = n.data[:len(n.data)/2]
		}
	}
	n.durable, n.dirtySinceSync = slices.Clone(n.data), false
	for _, child := range n.names {
		child.crash(l)
	}
}

// contents returns everything that a reader of the disk finds, by path.
func (d *disk) contents() map[string]string {
	out := map[string]string{}
	var walk func(string, *node)
	walk = func(path string, n *node) {
		for name, c := range n.names {
			if c.names != nil {
				walk(path+"/"+name, c)
			} else {
				out[path+"/"+name] = string(c.data) + c.target
			}
		}
	}
	walk("", d.root)
	return out
}

// residue reports whether a thief who takes the disk apart finds a text in blocks that no file uses.
func (d *disk) residue(secret string) bool {
	return slices.ContainsFunc(d.gone, func(n *node) bool { return strings.Contains(string(n.durable), secret) })
}

func (d *disk) find(name string) (parent *node, base string, n *node, err error) {
	parent = d.root
	parts := strings.Split(strings.Trim(filepath.Clean(name), "/"), "/")
	if parts[0] == "" {
		return nil, "", d.root, nil
	}
	for _, p := range parts[:len(parts)-1] {
		if parent = parent.names[p]; parent == nil || parent.names == nil {
			return nil, "", nil, &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
		}
	}
	base = parts[len(parts)-1]
	if n = parent.names[base]; n == nil {
		err = &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
	}
	return parent, base, n, err
}

func (d *disk) Mkdir(name string, _ fs.FileMode) error {
	parent, base, n, err := d.find(name)
	switch {
	case n != nil:
		return fs.ErrExist
	case parent == nil:
		return err
	}
	return d.op(func() { parent.names[base] = folder() }, "mkdir %s", name)
}

func (d *disk) Mode(name string) (fs.FileMode, error) {
	_, _, n, err := d.find(name)
	if err != nil {
		return 0, err
	}
	return n.mode, nil
}

func (d *disk) ReadFile(name string) ([]byte, error) {
	_, _, n, err := d.find(name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(n.data), nil
}

func (d *disk) ReadDir(name string) ([]string, error) {
	_, _, n, err := d.find(name)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

func (d *disk) Create(name string) (file, error) {
	parent, base, n, _ := d.find(name)
	if parent == nil {
		return nil, fs.ErrNotExist
	}
	err := d.op(func() {
		if n == nil {
			n = &node{mode: 0o600}
			parent.names[base] = n
		}
		n.data, n.dirtySinceSync = nil, true
	}, "create %s", name)
	return &handle{d: d, n: n, name: name}, err
}

func (d *disk) Overwrite(name string) (file, error) {
	_, _, n, err := d.find(name)
	if err != nil {
		return nil, err
	}
	return &handle{d: d, n: n, name: name}, nil
}

func (d *disk) Rename(old, new string) error {
	from, oldBase, n, err := d.find(old)
	if err != nil {
		return err
	}
	to, newBase, _, _ := d.find(new)
	return d.op(func() { delete(from.names, oldBase); to.names[newBase] = n }, "rename %s", new)
}

func (d *disk) Remove(name string) error {
	parent, base, n, err := d.find(name)
	if err != nil {
		return err
	}
	return d.op(func() { delete(parent.names, base); d.gone = append(d.gone, n) }, "remove %s", name)
}

func (d *disk) SyncDir(name string) error {
	_, _, n, err := d.find(name)
	if err != nil {
		return err
	}
	return d.sync(func() { n.onDisk = maps.Clone(n.names) }, "sync folder %s", name)
}

func (d *disk) Symlink(target, name string) error {
	parent, base, _, _ := d.find(name)
	return d.op(func() { parent.names[base] = &node{target: target, mode: fs.ModeSymlink | 0o777} }, "link %s", name)
}

func (d *disk) Readlink(name string) (string, error) {
	_, _, n, err := d.find(name)
	if err != nil || n.target == "" {
		return "", errors.Join(err, fs.ErrInvalid)
	}
	return n.target, nil
}

func (d *disk) Lock(string) (func(), error) { return func() {}, nil }

// A handle is an open file.
type handle struct {
	d    *disk
	n    *node
	name string
	at   int
}

func (h *handle) Write(p []byte) (int, error) {
	err := h.d.op(func() {
		data := slices.Clone(h.n.data)
		data = append(data[:min(h.at, len(data))], append(slices.Clone(p), data[min(h.at+len(p), len(data)):]...)...)
		h.at += len(p)
		h.n.data, h.n.dirtySinceSync = data, true
	}, "write %s", h.name)
	return len(p), err
}

func (h *handle) Sync() error {
	return h.d.sync(func() { h.n.durable, h.n.dirtySinceSync = slices.Clone(h.n.data), false }, "sync %s", h.name)
}

func (h *handle) Close() error { return nil }
