package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// leftOut are folders that are no part of a function's code.
var leftOut = []string{".git", "__pycache__"}

// zipFolder packs the files of a folder. The same files make the same bytes: they are sorted, and times and owners are left out. A link to
// a file becomes that file.
func zipFolder(dir string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && slices.Contains(leftOut, d.Name()):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		files++
		return addFile(z, dir, path)
	})
	if err == nil {
		err = z.Close()
	}
	if err == nil && files == 0 {
		err = fmt.Errorf("%s holds no files", dir)
	}
	return b.Bytes(), err
}

func addFile(z *zip.Writer, dir, path string) error {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file: only files and folders can be part of a function's code", path)
	}
	h := &zip.FileHeader{Name: filepath.ToSlash(name), Method: zip.Deflate}
	h.SetMode(0o644)
	if info.Mode()&0o111 != 0 {
		h.SetMode(0o755)
	}
	w, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
