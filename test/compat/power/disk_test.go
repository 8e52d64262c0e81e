package power

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A disk is the history of a folder as a recording tells it: which state it had, and what of that was synced, at every moment.
type disk struct {
	root    string // the folder; it is taken to be durable itself
	top     *node
	changes int              // operations on the folder
	at      []int            // when each of them ended
	cursor  map[string]int64 // where in a file a descriptor stands
	mapped  []string         // files that were shared by mmap for writing
	forgets bool             // how it came to what is durable by now: it can be restored at its end alone, and told no lie
}

// A node is a file or folder; its names are in the folders that hold it.
type node struct {
	dir    bool
	mode   fs.FileMode
	was    []byte           // of a file: its content before all writes
	writes []write          // of a file
	stamps []stamp          // of a file
	moves  []move           // of a folder
	now    map[string]*node // of a folder: its entries at the end of what has been read so far
	syncs  []synced         // when it was synced
}

// A write changes a file's content, or its length if data is nil.
type write struct {
	begin, end int
	offset     int64
	data       []byte
}

// A stamp sets the time of a file's last change. A file that has none gets that of its restoring.
type stamp struct {
	begin, end int
	at         time.Time
}

// A move changes entries of a folder in one step; a nil node takes a name away.
type move struct {
	begin, end int
	entries    map[string]*node
}

// A synced is an fsync: what had ended before it began is durable when it has ended.
type synced struct {
	begin, end int
	name       string // that the file had then, below the root
}

// A lie is a fault of server or disk that a test must see. The zero lie is none.
type lie struct {
	deaf func(name string) bool // these syncs are not done
	late bool                   // each sync of a file is done when the next one is, as if nobody waited for it
}

// durable is the moment before which everything on n is durable when the power goes at cut.
func (n *node) durable(cut int, l lie) int {
	until := 0
	for i, s := range n.syncs {
		if l.late && i+1 < len(n.syncs) {
			s.end = n.syncs[i+1].end
		}
		if s.end < cut && (l.deaf == nil || !l.deaf(s.name)) {
			until = max(until, s.begin)
		}
	}
	return until
}

// A loss decides what becomes of the operations that were not synced.
type loss struct {
	name   string
	moves  func(n int) int           // how many of n operations on a folder survive: journals keep their order
	write  func(w write) (keep fate) // what becomes of a write
	sector func() bool               // whether a sector of a torn write survives
}

type fate int

const (
	lost  fate = iota
	zeros      // the file has become longer, but the content is not there
	torn
	kept
)

// losses are the ways in which power may go: real disks do something between the first two.
func losses(r *rand.Rand) []loss {
	always := func(f fate) func(write) fate { return func(write) fate { return f } }
	none, all := func(int) int { return 0 }, func(n int) int { return n }
	return []loss{
		{name: "everything unsynced is lost", moves: none, write: always(lost)},
		{name: "some of the unsynced is lost, some torn", moves: func(n int) int { return r.IntN(n + 1) },
			write: func(write) fate { return fate(r.IntN(int(kept) + 1)) }, sector: func() bool { return r.IntN(2) == 0 }},
		{name: "names survive, contents do not", moves: all, write: always(lost)},
		{name: "contents are torn", moves: all, write: always(torn), sector: func() bool { return r.IntN(4) > 0 }},
		{name: "nothing is lost", moves: all, write: always(kept)},
	}
}

const sectorSize = 512

// restore writes to dir what the folder is after the power has gone at cut.
func (d *disk) restore(dir string, cut int, l loss, told lie) error {
	return d.top.restore(dir, cut, l, told)
}

func (n *node) restore(path string, cut int, l loss, told lie) error {
	until := n.durable(cut, told)
	if !n.dir {
		return errors.Join(os.WriteFile(path, n.content(cut, until, l), n.mode), n.restamp(path, cut, until, l))
	}
	if err := os.Mkdir(path, n.mode|0o700); err != nil && !os.IsExist(err) {
		return err
	}
	entries := n.entries(cut, until, l)
	for _, name := range sorted(entries) {
		if err := entries[name].restore(filepath.Join(path, name), cut, l, told); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) restamp(path string, cut, until int, l loss) (err error) {
	for _, s := range n.stamps {
		if s.end < until || s.begin < cut && l.moves(1) > 0 {
			err = errors.Join(err, os.Chtimes(path, s.at, s.at))
		}
	}
	return err
}

func sorted(m map[string]*node) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (n *node) entries(cut, until int, l loss) map[string]*node {
	entries := map[string]*node{}
	var pending []move
	for _, m := range n.moves {
		switch {
		case m.end < until:
			m.apply(entries)
		case m.begin < cut:
			pending = append(pending, m)
		}
	}
	for _, m := range pending[:l.moves(len(pending))] {
		m.apply(entries)
	}
	return entries
}

func (m move) apply(entries map[string]*node) {
	for name, n := range m.entries {
		if n == nil {
			delete(entries, name)
		} else {
			entries[name] = n
		}
	}
}

func (n *node) content(cut, until int, l loss) []byte {
	if len(n.writes) == 0 {
		return n.was
	}
	b := bytes.Clone(n.was)
	for _, w := range n.writes {
		switch {
		case w.end < until:
			b = w.apply(b, kept, nil)
		case w.begin < cut:
			b = w.apply(b, l.write(w), l.sector)
		}
	}
	return b
}

func (w write) apply(b []byte, f fate, sector func() bool) []byte {
	switch {
	case f == lost:
		return b
	case w.data == nil && (f == kept || sector == nil || sector()):
		return resize(b, int(w.offset))
	case w.data == nil:
		return b
	}
	if end := int(w.offset) + len(w.data); end > len(b) {
		b = resize(b, end)
	}
	for i := 0; i < len(w.data); {
		at := int(w.offset) + i
		n := min(sectorSize-at%sectorSize, len(w.data)-i)
		if f == kept || f == torn && sector() {
			copy(b[at:], w.data[i:i+n])
		}
		i += n
	}
	return b
}

func resize(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

// fingerprint tells states apart.
func fingerprint(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			fmt.Fprintln(h, strings.TrimPrefix(path, dir))
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintln(h, strings.TrimPrefix(path, dir), sha256.Sum256(b))
		return err
	})
	return string(h.Sum(nil)), err
}

// newDisk returns the history of root, which has the content before.
func newDisk(root string, before *node) *disk {
	return &disk{root: root, top: before, cursor: map[string]int64{}}
}

// next goes on with the history.
func (d *disk) next(e event) error {
	before := d.changes
	if err := d.replay(e); err != nil {
		return err
	}
	if d.changes > before {
		d.at = append(d.at, e.end)
	}
	return nil
}

func newFolder(mode fs.FileMode) *node { return &node{dir: true, mode: mode, now: map[string]*node{}} }

// load reads what a folder has. All of it is durable.
func load(path string) (*node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	const long = -1 // ago
	if info.Mode().IsRegular() {
		b, err := os.ReadFile(path)
		return &node{mode: info.Mode().Perm(), was: b, stamps: []stamp{{long, long, info.ModTime()}}}, err // an object's tag depends on its time
	}
	n := newFolder(info.Mode().Perm())
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue // a socket
		}
		if n.now[e.Name()], err = load(filepath.Join(path, e.Name())); err != nil {
			return nil, err
		}
	}
	n.moves = []move{{long, long, maps.Clone(n.now)}}
	return n, nil
}

// inside returns the name below the root, and whether it is there. The root itself is ".".
func (d *disk) inside(name string) (string, bool) {
	rel, err := filepath.Rel(d.root, name)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// find returns the node of a name, nil if there is none, and the folder that holds it.
func (d *disk) find(rel string) (n, folder *node, base string) {
	if rel == "." {
		return d.top, nil, ""
	}
	n = d.top
	for part := range strings.SplitSeq(rel, "/") {
		if n == nil || !n.dir {
			return nil, nil, ""
		}
		folder, base, n = n, part, n.now[part]
	}
	return n, folder, base
}

// put records that entries of a folder changed.
func (d *disk) put(folder *node, e event, entries map[string]*node) {
	m := move{e.begin, e.end, entries}
	m.apply(folder.now)
	folder.moves = append(folder.moves, m)
	d.changes++
}

// sync records that a file was synced.
func (d *disk) sync(n *node, s synced) {
	d.changes++
	if !d.forgets {
		n.syncs = append(n.syncs, s)
		return
	}
	n.syncs = []synced{{max(s.begin, n.durable(math.MaxInt, lie{})), s.end, s.name}}
	done := 0
	for until := n.syncs[0].begin; done < len(n.writes) && n.writes[done].end < until; done++ {
		n.was = n.writes[done].apply(n.was, kept, nil)
	}
	n.writes = slices.Delete(n.writes, 0, done)
}

func (d *disk) write(n *node, e event, offset int64, data []byte) {
	n.writes = append(n.writes, write{e.begin, e.end, offset, bytes.Clone(data)})
	d.changes++
}
