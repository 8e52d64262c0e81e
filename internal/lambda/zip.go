package lambda

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Limits of the code of a function. Those of size are AWS's.
const (
	MaxZip      = 50 << 20  // bytes that are uploaded
	maxUnzipped = 262144000 // bytes of all files
	maxFiles    = 50_000
	maxPath     = 1024 // bytes
	maxDepth    = 64   // folders within each other
)

// unzip gives every file of a zip file to file, in the order of its directory, after it has checked the whole directory. It refuses
// whatever does not lead to a plain file inside a folder, and whatever two programs could read differently. file gets a name with
// slashes and may leave r unread. Errors are of KindInvalid, or file's.
func unzip(data io.ReaderAt, size int64, file func(name string, executable bool, r io.Reader) error) error {
	if size > MaxZip {
		return fleet.Invalid("", "", "The zip file has %d bytes: at most %d are allowed", size, MaxZip)
	}
	// The reader allocates for each entry: 22 bytes of a zip file for some hundred of memory.
	if n, err := count(io.NewSectionReader(data, 0, size), []byte("PK\x01\x02")); err != nil {
		return err
	} else if n > maxFiles {
		return fleet.Invalid("", "", "The zip file holds more than %d files", maxFiles)
	}
	r, err := zip.NewReader(data, size)
	if err != nil {
		return unreadable("it is no zip file")
	}
	names, err := entries(r.File)
	if err != nil {
		return err
	}
	left := int64(maxUnzipped)
	for i, f := range r.File {
		if names[i] == "" {
			continue
		}
		if err := extracted(f, &left, func(r io.Reader) error { return file(names[i], f.Mode()&0o111 != 0, r) }); err != nil {
			return err
		}
	}
	return nil
}

// count counts how often what r gives holds mark.
func count(r io.Reader, mark []byte) (n int, err error) {
	b := bufio.NewReaderSize(r, 64<<10)
	for {
		part, err := b.Peek(b.Size())
		n += bytes.Count(part, mark)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if _, err := b.Discard(len(part) - len(mark) + 1); err != nil { // a mark may lie across the border; a whole one counts once
			return n, err
		}
	}
}

func unreadable(format string, args ...any) error {
	return fleet.Invalid("", "", "Could not unzip uploaded file. Please check your file, then try to upload again: %s", fmt.Sprintf(format, args...))
}

// entries returns the name of each file, "" for a folder.
func entries(files []*zip.File) ([]string, error) {
	names := make([]string, len(files))
	seen := map[string]bool{} // name → is a file
	some := false
	for i, f := range files {
		name, err := entryName(f)
		if err != nil {
			return nil, err
		}
		isFile := !f.Mode().IsDir()
		if was, twice := seen[name]; twice && (was || isFile) {
			return nil, unreadable("it holds %.200q twice", name)
		}
		seen[name] = isFile
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return nil, unreadable("%.200q is a file and a folder in it", dir)
			}
			seen[dir] = false
		}
		if isFile {
			names[i], some = name, true
		}
	}
	if !some {
		return nil, fleet.Invalid("", "", "Uploaded file must be a non-empty zip")
	}
	return names, nil
}

// entryName checks an entry and returns its clean name.
func entryName(f *zip.File) (string, error) {
	mode := f.Mode()
	name := strings.TrimPrefix(f.Name, "./")
	if mode.IsDir() {
		name = strings.TrimSuffix(name, "/")
	}
	switch {
	case mode.IsDir() && (name == "" || name == "."):
		return ".", nil
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "", unreadable("it holds the name %.200q, which is not UTF-8 or has control characters", f.Name)
	case strings.Contains(name, `\`):
		return "", unreadable(`%.200q: names of folders end in /, not in \`, f.Name)
	case !fs.ValidPath(name) || name == ".":
		return "", unreadable("%.200q leads out of its folder", f.Name)
	case len(name) > maxPath || strings.Count(name, "/") >= maxDepth:
		return "", unreadable("%.200q is too long or too deep", f.Name)
	case mode&fs.ModeSymlink != 0:
		return "", unreadable("%.200q is a link: put the file itself into the zip file", f.Name)
	case mode.Type() != 0 && !mode.IsDir():
		return "", unreadable("%.200q is neither file nor folder", f.Name)
	case f.Flags&1 != 0:
		return "", unreadable("%.200q is encrypted", f.Name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 255 {
			return "", unreadable("%.200q is too long", f.Name)
		}
	}
	return name, nil
}

var errTooLarge = fleet.Invalid("", "", "Unzipped size must be smaller than %d bytes", maxUnzipped)

// extracted unpacks one file and takes its size from left. What the directory says of sizes is not believed.
func extracted(f *zip.File, left *int64, use func(io.Reader) error) error {
	if f.UncompressedSize64 > uint64(*left) {
		return errTooLarge
	}
	content, err := f.Open()
	if err != nil {
		return unreadable("%.200q: %v", f.Name, err)
	}
	defer content.Close()
	r := &bounded{r: content, left: left}
	if err := use(r); err != nil && r.err == nil {
		return err
	}
	if r.err == nil {
		_, _ = io.Copy(io.Discard, r) // its checksum is at its end
	}
	switch {
	case r.err == nil || errors.Is(r.err, io.EOF):
		return nil
	case errors.Is(r.err, errTooLarge):
		return errTooLarge
	}
	return unreadable("%.200q: %v", f.Name, r.err)
}

// bounded reads until nothing is left, and remembers how it ended.
type bounded struct {
	r    io.Reader
	left *int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if *b.left -= int64(n); *b.left < 0 {
		n, err = 0, errTooLarge
	}
	b.err = err
	return n, err
}

// checkZip reads all of a zip file.
func checkZip(data []byte) error {
	return unzip(bytes.NewReader(data), int64(len(data)), func(string, bool, io.Reader) error { return nil })
}

// extract puts the files of a zip file into dir, which is empty. Everybody can read them, since functions may have user ids of their own,
// and nobody write; folders stay the server's, so that its user can remove them.
func extract(data io.ReaderAt, size int64, dir string) error {
	folders := map[string]bool{".": true}
	return unzip(data, size, func(name string, executable bool, r io.Reader) error {
		if parent := path.Dir(name); !folders[parent] {
			if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(parent)), 0o755); err != nil {
				return err
			}
			folders[parent] = true
		}
		perm := fs.FileMode(0o444)
		if executable {
			perm = 0o555
		}
		f, err := os.OpenFile(filepath.Join(dir, filepath.FromSlash(name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Chmod(perm), f.Close()) // the umask may have taken bits away
	})
}
