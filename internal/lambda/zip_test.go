package lambda

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A part is a file of a zip file.
type part struct {
	name, content string
	mode          fs.FileMode // 0: nothing is said
}

func zipped(t testing.TB, parts ...part) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, p := range parts {
		h := &zip.FileHeader{Name: p.name, Method: zip.Deflate}
		if p.mode != 0 {
			h.SetMode(p.mode)
		}
		w, err := z.CreateHeader(h)
		must(t, err)
		_, err = io.WriteString(w, p.content)
		must(t, err)
	}
	must(t, z.Close())
	return b.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestACodeIsExtracted(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "code")
	must(t, os.Mkdir(dir, 0o755))
	code := zipped(t, part{"lib/", "", fs.ModeDir | 0o755}, part{"./app.py", "app", 0}, part{"lib/deep/a.py", "a", 0o600}, part{"bootstrap", "#!", 0o755 | fs.ModeSetuid}, part{"lib/", "", fs.ModeDir | 0o755})
	must(t, extract(bytes.NewReader(code), int64(len(code)), dir))
	for name, want := range map[string]struct {
		content string
		mode    fs.FileMode
	}{"app.py": {"app", 0o444}, "lib/deep/a.py": {"a", 0o444}, "bootstrap": {"#!", 0o555}} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if string(content) != want.content || info.Mode() != want.mode {
			t.Errorf("%s: %q, %v", name, content, info.Mode())
		}
	}
	info, err := os.Stat(filepath.Join(dir, "lib/deep"))
	must(t, err)
	if info.Mode().Perm() != 0o755 {
		t.Errorf("folders are %v", info.Mode())
	}
}

func TestZipFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	wrongSum := zipped(t, part{"a", strings.Repeat("a", 100), 0})
	local := bytes.Index(wrongSum, []byte("PK\x07\x08"))
	binary.LittleEndian.PutUint32(wrongSum[local+4:], 1)
	central := bytes.Index(wrongSum, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(wrongSum[central+16:], 1)
	encrypted := zipped(t, part{"a", "a", 0})
	encrypted[bytes.Index(encrypted, []byte("PK\x01\x02"))+8] |= 1
	lying := bytes.Clone(zipped(t, part{"a", strings.Repeat("\x00", 1000), 0}))
	binary.LittleEndian.PutUint32(lying[bytes.Index(lying, []byte("PK\x01\x02"))+24:], 7)
	for name, tt := range map[string]struct {
		zip  []byte
		want string
	}{
		"text":                  {[]byte("print('hello')"), "it is no zip file"},
		"half of it":            {zipped(t, part{"a", "a", 0})[:60], "it is no zip file"},
		"no files":              {zipped(t), "non-empty zip"},
		"folders alone":         {zipped(t, part{"a/", "", fs.ModeDir | 0o755}), "non-empty zip"},
		"an absolute name":      {zipped(t, part{"/etc/passwd", "", 0}), "leads out of its folder"},
		"a way out":             {zipped(t, part{"a/../../b", "", 0}), "leads out of its folder"},
		"a way out by dots":     {zipped(t, part{"..", "", 0}), "leads out of its folder"},
		"two slashes":           {zipped(t, part{"a//b", "", 0}), "leads out of its folder"},
		"a backslash":           {zipped(t, part{`..\b`, "", 0}), "not in \\"},
		"a drive":               {zipped(t, part{`C:\b`, "", 0}), "not in \\"},
		"control characters":    {zipped(t, part{"a\x00b", "", 0}), "control characters"},
		"other bytes":           {zipped(t, part{"a\xff", "", 0}), "not UTF-8"},
		"a link":                {zipped(t, part{"a", "/etc/passwd", fs.ModeSymlink | 0o777}), "is a link"},
		"a device":              {zipped(t, part{"a", "", fs.ModeDevice | 0o666}), "neither file nor folder"},
		"a pipe":                {zipped(t, part{"a", "", fs.ModeNamedPipe | 0o666}), "neither file nor folder"},
		"a name twice":          {zipped(t, part{"a", "1", 0}, part{"a", "2", 0}), "twice"},
		"a name twice, by dots": {zipped(t, part{"a", "1", 0}, part{"./a", "2", 0}), "twice"},
		"a file and a folder":   {zipped(t, part{"a", "1", 0}, part{"a/b", "2", 0}), "is a file and a folder"},
		"a folder and a file":   {zipped(t, part{"a/b", "2", 0}, part{"a", "1", 0}), "twice"},
		"a long name":           {zipped(t, part{strings.Repeat("a", 300), "", 0}), "too long"},
		"a deep name":           {zipped(t, part{strings.Repeat("a/", maxDepth) + "b", "", 0}), "too deep"},
		"a wrong checksum":      {wrongSum, "checksum"},
		"encrypted":             {encrypted, "encrypted"},
		"a wrong size":          {lying, "Could not unzip"},
		"a large one":           {make([]byte, MaxZip+1), "at most"},
		"many names, apart":     {bytes.Repeat(append([]byte("PK\x01\x02"), make([]byte, 42)...), maxFiles+1), "more than 50000 files"},
		"many names":            {bytes.Repeat([]byte("PK\x01\x02"), maxFiles+1), "more than 50000 files"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := checkZip(tt.zip)
			if err == nil || fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A bomb: 300 MiB of zeros in two files, in a few hundred KiB.
func TestABombIsRefusedWhereItIsTooLarge(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("\x00", 150<<20)
	bomb := zipped(t, part{"a", zeros, 0}, part{"b", zeros, 0})
	for c := 0; ; c++ { // and the directory lies
		i := bytes.Index(bomb[c:], []byte("PK\x01\x02"))
		if i < 0 {
			break
		}
		c += i
		binary.LittleEndian.PutUint32(bomb[c+24:], 1)
	}
	if err := checkZip(bomb); err == nil || fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("got %v", err)
	}
	bomb = zipped(t, part{"a", zeros, 0}, part{"b", zeros, 0})
	if err := checkZip(bomb); !errors.Is(err, errTooLarge) {
		t.Errorf("got %v", err)
	}
}

func FuzzUnzip(f *testing.F) {
	f.Add(zipped(f, part{"app.py", "x", 0}, part{"lib/", "", fs.ModeDir | 0o755}, part{"lib/a", strings.Repeat("a", 1000), 0o755}))
	f.Add(zipped(f, part{"../a", "x", 0}))
	f.Add(zipped(f, part{"a", "/", fs.ModeSymlink | 0o777}))
	f.Add(zipped(f, part{"a", "1", 0}, part{"a/b", "2", 0}))
	f.Add(zipped(f, part{"a/b", "1", 0}, part{"a", "2", 0}))
	f.Add(zipped(f, part{"a", "1", 0}, part{"a", "2", 0}))
	f.Add(zipped(f, part{"a", "1", fs.ModeDevice | 0o600}))
	f.Add(zipped(f, part{"a/", "", fs.ModeDir | 0o755}))
	f.Add(zipped(f, part{"./", "", fs.ModeDir | 0o755}, part{"./a", "", 0}))
	f.Add(zipped(f, part{`a\b`, "1", 0}))
	f.Add(zipped(f, part{"a\x01", "1", 0}))
	f.Add(zipped(f, part{strings.Repeat("a", 300), "1", 0}))
	f.Add(zipped(f, part{strings.Repeat("a/", 70) + "a", "1", 0}))
	f.Add(zipped(f))
	encrypted := zipped(f, part{"a", "a", 0})
	encrypted[bytes.Index(encrypted, []byte("PK\x01\x02"))+8] |= 1
	f.Add(encrypted)
	method := zipped(f, part{"a", "a", 0})
	method[bytes.Index(method, []byte("PK\x01\x02"))+10] = 99
	f.Add(method)
	damaged := zipped(f, part{"a", strings.Repeat("ab", 500), 0})
	damaged[40] ^= 0xff
	f.Add(damaged)
	f.Fuzz(func(t *testing.T, data []byte) {
		seen := map[string]bool{}
		err := unzip(bytes.NewReader(data), int64(len(data)), func(name string, _ bool, r io.Reader) error {
			if !filepath.IsLocal(name) || strings.HasPrefix(name, "/") || filepath.Clean(name) != name || seen[name] {
				t.Errorf("%q is given", name)
			}
			for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
				if seen[dir] {
					t.Errorf("%q is a file", dir)
				}
			}
			seen[name] = true
			n, _ := io.Copy(io.Discard, r)
			if n > maxUnzipped {
				t.Errorf("%q has %d bytes", name, n)
			}
			return nil
		})
		if err == nil && len(seen) == 0 {
			t.Error("nothing is given")
		}
		if err != nil && fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%v", err)
		}
	})
}
