package power

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheseTestsSeeAServerThatDoesNotSync builds the server with one sync less, records it, and takes the power away after the
// last answer: each time something must be missed.
func TestTheseTestsSeeAServerThatDoesNotSync(t *testing.T) {
	for _, c := range []struct{ what, folder, old, new string }{
		{"synchronous is off", "internal/store", `"synchronous(FULL)"`, `"synchronous(OFF)"`},
		{"synchronous is normal", "internal/store", `"synchronous(FULL)"`, `"synchronous(NORMAL)"`},
		{"files are not synced", "internal/durable", "f.Sync(), ", ""},
		{"folders are not synced", "internal/durable", "d.Sync(), ", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			lying := buildWith(t, dir, c.folder, c.old, c.new)
			rec, p, err := observe(lying, dir)
			if err != nil {
				t.Fatal(err)
			}
			err = rec.missed(func(cut int) error {
				return p.survive(rec, cut, losses(newRand(t))[0], lie{}, filepath.Join(dir, "left"))
			})
			if err == nil {
				t.Error("nobody missed it")
			}
			t.Logf("%.400v", err)
			if c.folder != "internal/store" {
				return
			}
			rnd := newRand(t)
			if _, err = rage(lying, t.TempDir(), rnd, 24, 1, losses(rnd)[:1]); err == nil {
				t.Error("nobody missed it in the chaos")
			}
			t.Logf("%.400v", err)
		})
	}
}

// TestTheseTestsSeeAPubackBeforeItsCommit has publishers told before their message is kept: some cut must show it.
func TestTheseTestsSeeAPubackBeforeItsCommit(t *testing.T) {
	dir := t.TempDir()
	rec, p, err := observe(buildWith(t, dir, "internal/mqtt", `c.pubackAfter(p, w.t)`, `c.puback(p, codeSuccess, "")`), dir)
	if err != nil {
		t.Fatal(err)
	}
	all := losses(newRand(t))[0]
	for _, cut := range append(rec.behind("published "), rec.behind("retained ")...) {
		if err := p.survive(rec, cut, all, lie{}, filepath.Join(dir, "left")); err != nil {
			t.Logf("%.400v", err)
			return
		}
	}
	t.Error("nobody missed a message")
}

// buildWith builds the server with one text of one of its files replaced, and returns the binary. The source stays as it is.
func buildWith(t *testing.T, dir, folder, old, new string) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") || !strings.Contains(string(source), old) {
			continue
		}
		replace[file] = filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(replace[file], []byte(strings.ReplaceAll(string(source), old, new)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(replace) != 1 {
		t.Fatalf("%q is in %d files of %s, not in one", old, len(replace), folder)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path, lying := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "imprint")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := build(lying, "-overlay", path).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return lying
}

// build is the command that builds the server.
func build(to string, args ...string) *exec.Cmd {
	c := exec.Command("go", append(append([]string{"build"}, args...), "-o", to, "./cmd/imprint")...)
	c.Dir = filepath.Join("..", "..", "..")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	return c
}
