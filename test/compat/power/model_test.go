package power

import (
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// trace writes a recording as strace does: in $name$ is a string, in <name> the name of an open file; both are below the root.
func trace(root, lines string) string {
	var b strings.Builder
	for i, part := range strings.Split(lines, "$") {
		if i%2 == 1 {
			if strings.HasPrefix(part, "/") {
				part = root + part
			}
			part = `"` + escape(part) + `"`
		}
		b.WriteString(part)
	}
	text := b.String()
	for _, name := range []string{"", "/a", "/b", "/d"} {
		text = strings.ReplaceAll(text, "<"+name+">", "<"+escape(root+name)+">")
	}
	return text
}

func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteString(`\x` + hex.EncodeToString([]byte{c}))
	}
	return b.String()
}

func TestADiskKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	const (
		makeA    = "7 openat(AT_FDCWD<>, $/a$, O_RDWR|O_CREAT, 0600) = 3</a>\n"
		writeOne = "7 write(3</a>, $one$, 3) = 3\n"
		writeTwo = "8 pwrite64(3</a>, $TWO$, 3, 1) = 3\n"
		syncA    = "7 fsync(3</a>) = 0 (DELAYED)\n"
		syncRoot = "7 fsync(4<>) = 0\n"
		moveA    = "7 renameat(AT_FDCWD<>, $/a$, AT_FDCWD<>, $/b$) = 0\n"
		makeD    = "7 mkdirat(AT_FDCWD<>, $/d$, 0700) = 0\n"
		moveToD  = "7 renameat(AT_FDCWD<>, $/a$, AT_FDCWD<>, $/d/b$) = 0\n"
	)
	for _, c := range []struct{ what, trace, lost, kept string }{
		{"a name that was not synced is lost with its content", makeA + writeOne + syncA, "", "a:one"},
		{"content that was not synced is lost", makeA + writeOne + syncRoot, "a:", "a:one"},
		{"what is synced is there", makeA + writeOne + syncA + syncRoot, "a:one", "a:one"},
		{"a write after the sync is lost", makeA + writeOne + syncA + syncRoot + writeTwo, "a:one", "a:oTWO"},
		{"a write that ends while a sync runs is not synced by it",
			makeA + writeOne + syncRoot + "8 pwrite64(3</a>, $TWO$, 3, 1 <unfinished ...>\n7 fsync(3</a> <unfinished ...>\n8 <... pwrite64 resumed>) = 3\n7 <... fsync resumed>) = 0\n",
			"a:one", "a:oTWO"},
		{"a sync that has not ended is none", makeA + writeOne + syncRoot + "7 fsync(3</a> <unfinished ...>\n", "a:", "a:one"},
		{"a sync that failed is none", makeA + writeOne + syncRoot + "7 fsync(3</a>) = -1 EIO (Input/output error)\n", "a:", "a:one"},
		{"a rename that was not synced is undone", makeA + writeOne + syncA + syncRoot + moveA, "a:one", "b:one"},
		{"a rename that was synced stays", makeA + writeOne + syncA + syncRoot + moveA + syncRoot, "b:one", "b:one"},
		{"a rename to another folder that was not synced is undone", makeD + makeA + writeOne + syncA + syncRoot + moveToD, "a:one", "d/b:one"},
		{"of a rename to another folder each folder keeps its own", makeD + makeA + writeOne + syncA + syncRoot + moveToD + "7 fsync(5</d>) = 0\n", "a:one d/b:one", "d/b:one"},
		{"a link is a second name", makeA + writeOne + syncA + "7 linkat(AT_FDCWD<>, $/a$, AT_FDCWD<>, $/b$, 0) = 0\n" + syncRoot, "a:one b:one", "a:one b:one"},
		{"an unlink that was not synced is undone", makeA + writeOne + syncA + syncRoot + "7 unlink($/a$) = 0\n", "a:one", ""},
		{"a truncation that was not synced is undone", makeA + writeOne + syncA + syncRoot + "7 ftruncate(3</a>, 1) = 0\n", "a:one", "a:o"},
		{"O_TRUNC truncates", makeA + writeOne + syncA + syncRoot + "7 open($/a$, O_WRONLY|O_CREAT|O_TRUNC, 0600) = 3</a>\n" + writeTwo, "a:one", "a:\x00TWO"},
		{"a folder's sync is for its own entries", makeD + "7 openat(AT_FDCWD<>, $/d/a$, O_WRONLY|O_CREAT, 0600) = 3\n7 fsync(5</d>) = 0\n", "", "d/a:"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, forgets := range []bool{false, true} {
				d := newDisk(root, newFolder(0o700))
				d.forgets = forgets
				if err := readTrace(strings.NewReader(trace(root, c.trace)), d.next); err != nil {
					t.Fatal(err)
				}
				wantLeft(t, d, c.lost, c.kept)
			}
		})
	}
}

// A recording that begins on what an earlier cut left knows that as durable.
func TestADiskKeepsWhatItHadBefore(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"a": "one", "d/b": "kept"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700), os.WriteFile(filepath.Join(root, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	const lines = "7 open($/a$, O_RDWR) = 3</a>\n8 pwrite64(3</a>, $TWO$, 3, 1) = 3\n7 unlink($/d/b$) = 0\n"
	d := newDisk(root, before)
	if err := readTrace(strings.NewReader(trace(root, lines)), d.next); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, d, "a:one d/b:kept", "a:oTWO")
}

// A recording that keeps the last moment alone does not grow with what is written and synced again and again.
func TestADiskForgetsHowItCameToWhatIsDurable(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := newDisk(root, newFolder(0o700))
	d.forgets = true
	lines := "7 open($/a$, O_RDWR|O_CREAT, 0600) = 3</a>\n7 fsync(4<>) = 0\n" + strings.Repeat("8 pwrite64(3</a>, $TWO$, 3, 1) = 3\n7 fsync(3</a>) = 0\n", 100) + "8 pwrite64(3</a>, $x$, 1, 0) = 1\n"
	if err := readTrace(strings.NewReader(trace(root, lines)), d.next); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := d.find("a"); len(n.writes) != 1 || len(n.syncs) != 1 {
		t.Errorf("%d writes and %d syncs are kept", len(n.writes), len(n.syncs))
	}
	wantLeft(t, d, "a:\x00TWO", "a:xTWO")
}

// wantLeft looks at what is left at the end if everything unsynced is lost, and if nothing is.
func wantLeft(t *testing.T, d *disk, lost, kept string) {
	t.Helper()
	ways := losses(rand.New(rand.NewPCG(1, 1)))
	for way, want := range map[int]string{0: lost, len(ways) - 1: kept} {
		dir := filepath.Join(t.TempDir(), "left")
		if err := d.restore(dir, math.MaxInt, ways[way], lie{}); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, dir); got != want {
			t.Errorf("%s: %q is left, want %q", ways[way].name, got, want)
		}
	}
}

// listing is name:content of each file.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*", "*/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil {
				all = append(all, strings.TrimPrefix(name, dir+"/")+":"+string(b))
			}
		}
	}
	return strings.Join(all, " ")
}

func TestATornWriteKeepsWholeSectors(t *testing.T) {
	t.Parallel()
	w := write{offset: 500, data: []byte(strings.Repeat("x", 1024))}
	n := 0
	b := w.apply(nil, torn, func() bool { n++; return n != 2 })
	want := strings.Repeat("\x00", 500) + strings.Repeat("x", 12) + strings.Repeat("\x00", 512) + strings.Repeat("x", 500)
	if string(b) != want {
		t.Errorf("%q", b)
	}
}

func TestAWriteThatTheRecordingDoesNotUnderstandIsAnError(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, line := range []string{
		"7 pwritev(3</a>, [{iov_base=$x$, iov_len=1}], 1, 0) = 1\n",
		"7 fallocate(3</a>, 0, 0, 4096) = 0\n",
		"7 write(3</a>, $on$..., 3) = 3\n",
		"7 write(3</b>, $one$, 3) = 3\n",
		"7 renameat(AT_FDCWD<>, $/none$, AT_FDCWD<>, $/d/b$) = 0\n",
		"7 io_uring_setup(8, {}) = 5\n",
		"7 nonsense\n",
	} {
		d := newDisk(root, newFolder(0o700))
		if readTrace(strings.NewReader(trace(root, "7 open($/a$, O_RDWR|O_CREAT, 0600) = 3</a>\n7 mkdir($/d$, 0700) = 0\n"+line)), d.next) == nil {
			t.Errorf("%q was read", line)
		}
	}
}
