package server

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imprint-iot/imprint/internal/store/storetest"
)

func backup(t testing.TB, data string, d DatabaseURL) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Backup(t.Context(), data, d, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestABackupHasWhatWasAnsweredBeforeAndNothingInPart takes one while clients write without pause. What each client writes are pairs: a
// thing and, in one transaction with it, its attribute; and things one after the other, so that a later one implies the earlier.
func TestABackupHasWhatWasAnsweredBeforeAndNothingInPart(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	c := api(t, s)
	made := newResidents(t, c, true)
	const clients, first, last = 4, 10, 200
	create := func(client, n int) {
		err := c.REST(t.Context(), "iot", http.MethodPost, fmt.Sprintf("/things/c%d-%d", client, n), object{"attributePayload": object{"attributes": object{"n": fmt.Sprint(n)}}}, &object{})
		if err != nil {
			t.Error(err)
		}
	}
	taken := make(chan struct{})
	var ready, wg sync.WaitGroup
	ready.Add(clients)
	for client := range clients {
		wg.Go(func() {
			for n := range last {
				if n == first {
					ready.Done()
				}
				select {
				case <-taken:
					return
				default:
					create(client, n)
				}
			}
		})
	}
	ready.Wait()
	text := backup(t, s.cfg.Data, DatabaseURL{})
	close(taken)
	wg.Wait()
	stopServer(t, s)

	dir := folder(t)
	m, err := Restore(t.Context(), bytes.NewReader(text), dir)
	noError(t, err)
	if !m.MasterKey || m.Database != "sqlite" {
		t.Errorf("manifest %+v", m)
	}
	noError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if info, _ := d.Info(); err == nil && info.Mode().Perm() != map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()] {
			t.Errorf("%s has %v", path, info.Mode())
		}
		return err
	}))
	s = startServer(t, Config{Data: dir, KeyPool: -1})
	made.use(t, s, c)
	var got struct {
		Things []struct {
			ThingName  string
			Attributes map[string]string
		}
		NextToken string
	}
	seen := map[string]bool{}
	for path := "/things?maxResults=250"; ; path = "/things?maxResults=250&nextToken=" + got.NextToken {
		got.NextToken, got.Things = "", nil
		noError(t, c.REST(t.Context(), "iot", http.MethodGet, path, nil, &got))
		for _, thing := range got.Things {
			seen[thing.ThingName] = true
			if _, n, _ := strings.Cut(thing.ThingName, "-"); thing.Attributes["n"] != n {
				t.Errorf("%s has %v", thing.ThingName, thing.Attributes)
			}
		}
		if got.NextToken == "" {
			break
		}
	}
	for client := range clients {
		end := 0
		for n := range last {
			there := seen[fmt.Sprintf("c%d-%d", client, n)]
			if there && end != n || !there && n < first {
				t.Errorf("client %d: thing %d is there: %v; there are %d before", client, n, there, end)
			}
			if there {
				end = n + 1
			}
		}
	}
}

func TestABackupOfAStoppedServerRestores(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	c := api(t, s)
	made := newResidents(t, c, true)
	stopServer(t, s)
	noError(t, os.WriteFile(filepath.Join(s.cfg.Data, snapshotPrefix+"1"), nil, 0o600)) // of a backup that was cut
	text := backup(t, s.cfg.Data, DatabaseURL{})
	dir := folder(t)
	noError(t, os.Mkdir(dir, 0o755)) // empty, and for others to read
	_, err := Restore(t.Context(), bytes.NewReader(text), dir)
	noError(t, err)
	s = startServer(t, Config{Data: dir, KeyPool: -1})
	made.use(t, s, c)
	_, err = Restore(t.Context(), bytes.NewReader(text), dir)
	contains(t, err, "is not empty")
	stopServer(t, s)
}

func TestABackupOnPostgreSQLHasTheFolder(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	s := startServer(t, onPostgres(folder(t), url))
	c := api(t, s)
	made := newResidents(t, c, true)
	running := backup(t, s.cfg.Data, DatabaseURL{url})
	stopServer(t, s)
	for _, text := range [][]byte{running, backup(t, s.cfg.Data, DatabaseURL{url})} {
		dir := folder(t)
		m, err := Restore(t.Context(), bytes.NewReader(text), dir)
		if err != nil || m.Database != "postgresql" {
			t.Fatalf("%+v, %v", m, err)
		}
		s := startServer(t, onPostgres(dir, url))
		made.use(t, s, c)
		stopServer(t, s)
	}
}

func TestADamagedBackupRestoresNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	whole := backup(t, s.cfg.Data, DatabaseURL{})
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"empty":                {nil, "ends too early"},
		"cut in the middle":    {whole[:len(whole)/2], "complete"},
		"cut before its list":  {whole[:len(whole)-8192], "complete"},
		"no tar":               {bytes.Repeat([]byte("imprint "), 1000), "complete"},
		"a damaged database":   {flipped(whole, 100<<10), "damaged"},
		"a changed key":        {rewritten(t, whole, "pki/keys/device-1.key", []byte("x")), "damaged"},
		"a missing key":        {rewritten(t, whole, "pki/keys/device-1.key", nil), "lacks pki/keys/device-1.key"},
		"a way out":            {with(t, "../x", tar.TypeReg), "does not belong"},
		"an absolute name":     {with(t, "/etc/passwd", tar.TypeReg), "does not belong"},
		"a hidden file":        {with(t, "pki/.x", tar.TypeReg), "does not belong"},
		"a link":               {with(t, "master.key", tar.TypeSymlink), "is no file"},
		"a server that failed": {with(t, failureName, tar.TypeReg), "the backup failed: x"},
	} {
		dir := folder(t)
		_, err := Restore(t.Context(), bytes.NewReader(c.text), dir)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
			t.Errorf("%s left %v, %v", name, left, err)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// rewritten changes a file of a backup, or leaves it out.
func rewritten(t *testing.T, b []byte, name string, to []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		noError(t, err)
		text, err := io.ReadAll(r)
		noError(t, err)
		if h.Name == name {
			if to == nil {
				continue
			}
			text = to
		}
		h.Size = int64(len(text))
		noError(t, w.WriteHeader(h))
		_, err = w.Write(text)
		noError(t, err)
	}
	noError(t, w.Close())
	return out.Bytes()
}

func with(t testing.TB, name string, kind byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	size := int64(0)
	if kind == tar.TypeReg {
		size = 1
	}
	noError(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Linkname: "/etc/passwd", Size: size, Mode: 0o600}))
	if size > 0 {
		_, err := w.Write([]byte("x"))
		noError(t, err)
	}
	noError(t, w.Close())
	return out.Bytes()
}

func FuzzBackup(f *testing.F) {
	var whole bytes.Buffer
	a := newArchiver(&whole, BackupManifest{Database: "postgresql"})
	path := filepath.Join(f.TempDir(), "x")
	noError(f, os.WriteFile(path, []byte("text"), 0o600))
	noError(f, a.add("master.key", path))
	noError(f, a.add("pki/keys/device-1.key", path))
	noError(f, a.close(nil))
	f.Add(whole.Bytes())
	f.Add(with(f, "../x", tar.TypeReg))
	f.Add(with(f, failureName, tar.TypeReg))
	f.Add(with(f, manifestName, tar.TypeReg))
	f.Add(with(f, "pki", tar.TypeDir))
	for _, was := range []string{`"format":1`, `"format": 1`, `"Format":1`, `"Format": 1`} { // of another format
		f.Add(bytes.Replace(whole.Bytes(), []byte(was), []byte(was[:len(was)-1]+"9"), 1))
	}
	f.Add(append(bytes.Clone(whole.Bytes()[:1024]), make([]byte, 1024)...))                    // ends too early
	f.Add(append(bytes.Clone(whole.Bytes()[:1024]), whole.Bytes()...))                         // a file twice
	f.Add(append(bytes.Clone(whole.Bytes()[:whole.Len()-1024]), whole.Bytes()...))             // goes on behind its end
	f.Add(whole.Bytes()[:700])                                                                 // ends in a file
	f.Add(bytes.Replace(whole.Bytes(), []byte("text"), []byte("next"), 1))                     // a damaged file
	f.Add(bytes.ReplaceAll(whole.Bytes(), []byte("postgresql"), []byte("sqlite\",\"x\":\"")))  // without its database
	f.Add(bytes.ReplaceAll(whole.Bytes(), []byte("\"master.key\""), []byte("\"pki/x.key\" "))) // a list of other files
	f.Fuzz(func(t *testing.T, b []byte) {
		var names []string
		m, err := readBackup(bytes.NewReader(b), func(name string, size int64, r io.Reader) error {
			if names = append(names, name); !filepath.IsLocal(name) || strings.HasPrefix(filepath.Base(name), ".") {
				t.Errorf("name %q", name)
			}
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != size {
				t.Errorf("%s has %d bytes, said %d", name, n, size)
			}
			return err
		})
		if err == nil && len(names) != len(m.Files) {
			t.Errorf("%d files, %d in the list", len(names), len(m.Files))
		}
	})
}
