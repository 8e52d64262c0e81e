package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A browserHome is the home folder of a Chromium that trusts roots: what people do with `imprint ca` in theirs.
func browserHome(t *testing.T, roots ...string) string {
	t.Helper()
	home := t.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	check(t, os.MkdirAll(db, 0o700))
	certutil := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("certutil", append([]string{"-d", "sql:" + db}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	certutil("-N", "--empty-password")
	for i, file := range roots {
		text, err := os.ReadFile(file)
		check(t, err)
		for j, cert := range strings.SplitAfter(strings.TrimSpace(string(text)), "-----END CERTIFICATE-----\n") {
			one := filepath.Join(home, "root.pem")
			check(t, os.WriteFile(one, []byte(cert), 0o600))
			certutil("-A", "-t", "C,,", "-n", "root "+string(rune('a'+i))+string(rune('a'+j)), "-i", one)
		}
	}
	return home
}

// browserNode is the machine's node or, where that is too old for the browser's driver, the one that scripts/deps has got.
func browserNode(t *testing.T) string {
	t.Helper()
	own, err := filepath.Glob("runtime/node_modules/node-linux-*/bin/node") // npm of Debian 12 puts nothing into .bin for them
	check(t, err)
	if len(own) == 0 {
		return "node"
	}
	path, err := filepath.Abs(own[0])
	check(t, err)
	return path
}

// browse runs a script of apps with a browser that trusts the server's roots, and returns what it printed last.
func browse[T any](t *testing.T, s *site, home, script string, env ...string) T {
	t.Helper()
	// HOME is Chromium's; pictures are for people: SCREENSHOTS=/tmp/shots go test -run …
	env = append(env, "HOME="+home, "SCREENSHOTS="+os.Getenv("SCREENSHOTS"))
	out := s.run(t, "apps", env, browserNode(t), script)
	return must[T](t, out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
}

// servedApp serves an app of apps that a script bundles in dir, at home. Its page has the configuration in CONFIG.
func servedApp(t *testing.T, name string) (dir, home string, configure func(object)) {
	t.Helper()
	dir = t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "src"), os.DirFS(filepath.Join("apps", name, "src"))))
	var config []byte
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/app.js" {
			http.ServeFile(rw, r, filepath.Join(dir, "build", "app.js"))
			return
		}
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<!doctype html><title>app</title><div id="root"></div><script>window.CONFIG = %s</script><script src="/app.js"></script>`, config)
	}))
	t.Cleanup(server.Close)
	return dir, strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/", func(c object) {
		t.Helper()
		var err error
		config, err = json.Marshal(c)
		check(t, err)
	}
}
