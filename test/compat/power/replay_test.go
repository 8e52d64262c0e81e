package power

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// umask is what the recorded server runs with.
const umask = 0o022

// sockets are names below the root that are not files: nothing of them survives, and the server does not expect it.
func socket(rel string) bool { return strings.HasSuffix(rel, ".sock") }

// replay applies one system call. Whatever could change a file in a way that the disk does not know is an error: a test that
// overlooks writes would prove nothing.
func (d *disk) replay(e event) error {
	switch e.name {
	case "open", "creat", "openat":
		return d.open(e)
	case "sync_file_range", "msync": // neither makes anything durable that fsync would not have to
		return nil
	case "write", "pwrite64", "lseek", "ftruncate", "fsync", "fdatasync", "fchmod":
		return d.onFile(e)
	case "mmap":
		return d.mmap(e)
	case "mkdir", "mkdirat":
		return d.mkdir(e)
	case "rename", "renameat", "renameat2", "link", "linkat":
		return d.rename(e)
	case "unlink", "unlinkat", "rmdir":
		return d.unlink(e)
	case "chmod", "fchmodat":
		return d.chmod(e)
	case "utimensat":
		return d.stamp(e)
	}
	for i := range e.args { // any other way to change a file
		if _, name := e.file(i); name != "" {
			if _, in := d.inside(name); in {
				return fmt.Errorf("%s of %s: the test does not know this way to change a file", e.name, name)
			}
		}
	}
	switch e.name {
	case "io_uring_setup", "openat2", "truncate", "symlink", "symlinkat":
		return fmt.Errorf("the test does not know %s", e.name)
	}
	return nil
}

// at drops the folder arguments of openat, renameat and their like, so that they read as open and rename do. Names are
// absolute; text and path see to that.
func at(e event, folders ...int) event {
	if e.name == "creat" || !strings.HasSuffix(strings.TrimSuffix(e.name, "2"), "at") {
		return e
	}
	var args []string
	for i, a := range e.args {
		skip := false
		for _, f := range folders {
			skip = skip || i == f
		}
		if !skip {
			args = append(args, a)
		}
	}
	e.args = args
	return e
}

func octal(s string) (fs.FileMode, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	return fs.FileMode(m), err
}

func (d *disk) open(e event) error {
	e = at(e, 0)
	name, err := e.text(0)
	if err != nil {
		return err
	}
	rel, in := d.inside(path.Clean(name))
	if !path.IsAbs(name) || !in {
		return nil
	}
	flags := ""
	if e.name == "creat" {
		flags = "O_CREAT|O_TRUNC"
	} else {
		flags = e.args[1]
	}
	if strings.Contains(flags, "O_APPEND") {
		return fmt.Errorf("the test does not know O_APPEND (%s)", rel)
	}
	n, folder, base := d.find(rel)
	switch {
	case n == nil && !strings.Contains(flags, "O_CREAT"):
		return fmt.Errorf("%s was opened but never made", rel)
	case n == nil:
		mode, err := octal(e.args[len(e.args)-1])
		if err != nil {
			return err
		}
		d.put(folder, e, map[string]*node{base: {mode: mode &^ umask}})
	case strings.Contains(flags, "O_TRUNC"):
		d.write(n, e, 0, nil)
	}
	d.cursor[strconv.FormatInt(e.result, 10)] = 0
	return nil
}

// onFile handles the calls whose first argument is an open file.
func (d *disk) onFile(e event) error {
	fd, name := e.file(0)
	rel, in := d.inside(name)
	if name == "" || !in || socket(rel) {
		return nil
	}
	if strings.HasSuffix(e.args[0], "(deleted)") {
		return nil // nobody finds it again
	}
	n, _, _ := d.find(rel)
	if n == nil {
		return fmt.Errorf("%s of %s, which was never made", e.name, rel)
	}
	switch e.name {
	case "lseek":
		d.cursor[fd] = e.result
	case "fsync", "fdatasync":
		d.sync(n, synced{e.begin, e.end, rel})
	case "fchmod":
		mode, err := octal(e.args[1])
		n.mode = mode
		return err
	case "ftruncate":
		size, err := e.number(1)
		d.write(n, e, size, nil)
		return err
	case "write", "pwrite64":
		return d.writeTo(n, fd, e)
	}
	return nil
}

func (d *disk) writeTo(n *node, fd string, e event) error {
	data, err := e.text(1)
	if err != nil {
		return err
	}
	if e.result == 0 || int64(len(data)) < e.result {
		return fmt.Errorf("%s of %d bytes, of which the recording has %d", e.name, e.result, len(data))
	}
	offset := d.cursor[fd]
	if e.name == "write" {
		d.cursor[fd] += e.result
	} else if offset, err = e.number(3); err != nil {
		return err
	}
	d.write(n, e, offset, []byte(data[:e.result]))
	return nil
}

// mmap notes which files are written through memory: no recording sees those writes.
func (d *disk) mmap(e event) error {
	_, name := e.file(4)
	if rel, in := d.inside(name); name != "" && in && strings.Contains(e.args[2], "PROT_WRITE") && strings.Contains(e.args[3], "MAP_SHARED") {
		d.mapped = append(d.mapped, rel)
	}
	return nil
}

func (d *disk) mkdir(e event) error {
	e = at(e, 0)
	name, err := e.path(0)
	if err != nil {
		return err
	}
	rel, in := d.inside(name)
	if !in {
		return nil
	}
	mode, err := octal(e.args[1])
	if err != nil {
		return err
	}
	_, folder, base := d.find(rel)
	if folder == nil {
		return fmt.Errorf("mkdir of %s: the folder above was never made", rel)
	}
	d.put(folder, e, map[string]*node{base: newFolder(mode &^ umask)})
	return nil
}

// rename handles link too: both give a node a name, one takes the old name away. Of two folders each may keep what happened to it or lose
// that, without the other.
func (d *disk) rename(e event) error {
	e = at(e, 0, 2)
	from, err := e.path(0)
	if err != nil {
		return err
	}
	to, err := e.path(1)
	if err != nil {
		return err
	}
	relFrom, in := d.inside(from)
	relTo, inTo := d.inside(to)
	if !in && !inTo {
		return nil
	}
	n, folder, base := d.find(relFrom)
	_, folderTo, baseTo := d.find(relTo)
	if n == nil || folderTo == nil {
		return fmt.Errorf("%s of %s to %s: one of them was never made", e.name, relFrom, relTo)
	}
	entries := map[string]*node{baseTo: n}
	if strings.HasPrefix(e.name, "rename") {
		if folder != folderTo {
			d.put(folder, e, map[string]*node{base: nil})
		} else {
			entries[base] = nil
		}
	}
	d.put(folderTo, e, entries)
	return nil
}

func (d *disk) unlink(e event) error {
	e = at(e, 0)
	name, err := e.path(0)
	if err != nil {
		return err
	}
	rel, in := d.inside(name)
	if !in || socket(rel) {
		return nil
	}
	n, folder, base := d.find(rel)
	if n == nil {
		return fmt.Errorf("%s of %s, which was never made", e.name, rel)
	}
	d.put(folder, e, map[string]*node{base: nil})
	return nil
}

var timeForm = regexp.MustCompile(`tv_sec=(\d+), tv_nsec=(\d+)`)

// stamp notes the time of the last change that a file is given: the second of two.
func (d *disk) stamp(e event) error {
	e = at(e, 0)
	name, err := e.path(0)
	if err != nil {
		return err
	}
	rel, in := d.inside(name)
	n, _, _ := d.find(rel)
	if !in || n == nil {
		return nil
	}
	found := timeForm.FindAllStringSubmatch(strings.Join(e.args[1:], ", "), -1)
	if len(found) != 2 {
		return fmt.Errorf("the times of %s are %q", rel, e.args[1:])
	}
	seconds, err := strconv.ParseInt(found[1][1], 10, 64)
	if err != nil {
		return err
	}
	nanos, err := strconv.ParseInt(found[1][2], 10, 64)
	n.stamps = append(n.stamps, stamp{e.begin, e.end, time.Unix(seconds, nanos)})
	d.changes++
	return err
}

// chmod is taken to be durable at once: the product makes its files with the mode that they need.
func (d *disk) chmod(e event) error {
	e = at(e, 0)
	name, err := e.path(0)
	if err != nil {
		return err
	}
	rel, in := d.inside(name)
	if n, _, _ := d.find(rel); in && n != nil {
		n.mode, err = octal(e.args[1])
	}
	return err
}
