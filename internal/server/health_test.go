package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

// getURL returns status and body.
func getURL(t testing.TB, c *http.Client, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	noError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	noError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	noError(t, err)
	return res.StatusCode, string(body)
}

// askAdmin asks the administration socket.
func askAdmin(t testing.TB, s *Server, path string) (int, string) {
	t.Helper()
	socket, done, err := socketPath(s.cfg.Data)
	noError(t, err)
	defer done()
	return getURL(t, socketClient(socket), "http://imprint"+path)
}

func TestReadinessSaysWhatIsWrongToTheOwnerAlone(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	want := func(status int, lines ...string) {
		t.Helper()
		s.readiness.checks = nil // or a moment would have to pass
		got, body := askAdmin(t, s, "/readyz")
		for _, line := range lines {
			if !strings.Contains(body, line) {
				t.Errorf("no %q in %q", line, body)
			}
		}
		word := map[int]string{200: "ready\n", 503: "not ready\n"}[status]
		if got != status || !strings.HasPrefix(body, word) {
			t.Errorf("on the socket: %d %q", got, body)
		}
		if res, body := answer(t, s, http.MethodGet, "/readyz", ""); res.StatusCode != status || body != word {
			t.Errorf("to a stranger: %d %q", res.StatusCode, body)
		}
	}
	want(200, "serving: ok\n", "store: ok\n", "authority: ok\n")
	if res, body := answer(t, s, http.MethodGet, "/healthz", ""); res.StatusCode != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", res.StatusCode, body)
	}
	noError(t, s.Alive(t.Context()))
	// Not by a clock that leaps: the background might look at it before the checks do, and renew the certificates.
	if got := s.checkAuthority(time.Now().Add(100 * day)).problem; !strings.Contains(got, "server: it expired on") || !strings.Contains(got, "server-rsa: it expired on") || strings.Contains(got, "issuer") {
		t.Errorf("with expired certificates: %q", got)
	}

	// A store that takes no more writes; closing it is how a test gets one.
	noError(t, s.db.Close())
	want(503, "serving: ok\n", "store: the store is closed\n", "authority: ok\n")
}

func TestStrangersCannotHaveChecksMadeAsOftenAsTheyLike(t *testing.T) {
	t.Parallel()
	clock := shifted{from: time.Now()}
	cfg := quick(folder(t))
	cfg.Clock = clock.now
	s := startServer(t, cfg)
	first := s.ready(t.Context())
	made := s.readiness.at
	for range 100 {
		s.ready(t.Context())
	}
	if s.readiness.at != made || len(first) != 3 {
		t.Errorf("checked again at %v, not %v", s.readiness.at, made)
	}
	clock.by.Store(int64(readinessLasts))
	if s.ready(t.Context()); s.readiness.at == made {
		t.Error("never checked again")
	}
	// A check that takes longer than it lasts is not made for each of those who have waited meanwhile.
	clock.by.Add(int64(readinessLasts))
	var busy sync.WaitGroup
	blocked, release := make(chan struct{}), make(chan struct{})
	busy.Go(func() {
		if err := s.db.Tx(context.Background(), func(*store.Tx) error {
			close(blocked)
			<-release
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-blocked
	busy.Go(func() { s.ready(context.Background()) })
	for begun := time.Now(); time.Since(begun) < patience && s.readiness.mu.TryLock(); { // until it is being checked
		s.readiness.mu.Unlock()
		runtime.Gosched()
	}
	clock.by.Add(int64(readinessLasts))
	close(release)
	busy.Wait()
	made = s.readiness.at
	clock.by.Add(int64(time.Second))
	if s.ready(t.Context()); s.readiness.at != made {
		t.Error("checked again a second after a check that took long")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.readiness.checks = nil
	if c := s.ready(ctx); c[1].problem != "" {
		t.Errorf("somebody who hung up spoils the answer of others: %v", c)
	}
}

func TestMetricsHaveAListenerOfTheirOwn(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.MetricsListen = "0"
	s := startServer(t, cfg)
	if address := s.ports.metrics.Addr().String(); !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("a port alone listens on %s", address)
	}
	base := "http://" + s.ports.metrics.Addr().String()
	if status, body := getURL(t, http.DefaultClient, base+"/metrics"); status != 200 || !strings.Contains(body, "imprint_build_info") {
		t.Errorf("%d %s", status, body)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 404, "/keys": 404, "/profile": 404} {
		if status, body := getURL(t, http.DefaultClient, base+path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	res, err := http.Post(base+"/keys", "", nil)
	noError(t, err)
	res.Body.Close()
	if res.StatusCode != 404 {
		t.Errorf("the administration is served: %s", res.Status)
	}
}

func TestMetricsAwayFromLoopbackNeedAToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		noError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer taken.Close()
	const token = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6"
	for want, change := range map[string]func(*Config){
		"everybody who reaches it could read the metrics": func(c *Config) { c.MetricsListen = "0.0.0.0:0" },
		"give a port":                 func(c *Config) { c.MetricsListen = "localhost:http" },
		"goes with metrics-listen":    func(c *Config) { c.MetricsTokenFile = file("good", token) },
		"must hold one word of 22":    func(c *Config) { c.MetricsListen, c.MetricsTokenFile = "0.0.0.0:0", file("short", "hunter2\n") },
		"no such file":                func(c *Config) { c.MetricsListen, c.MetricsTokenFile = "0", filepath.Join(dir, "none") },
		"metrics-listen: listen tcp ": func(c *Config) { c.MetricsListen, c.MetricsTokenFile = taken.Addr().String(), file("good", token) },
	} {
		cfg := quick(folder(t))
		change(&cfg)
		_, err := Start(t.Context(), cfg)
		contains(t, err, want)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the token is told: %v", err)
		}
	}
	cfg := quick(folder(t))
	cfg.MetricsListen, cfg.MetricsTokenFile = "127.0.0.1:0", file("good", token+"\n")
	s := startServer(t, cfg)
	base := "http://" + s.ports.metrics.Addr().String()
	for header, want := range map[string]int{"": 401, "Bearer " + token + "x": 401, token: 401, "Bearer " + token: 200} {
		if status, _ := getURL(t, http.DefaultClient, base+"/metrics", "Authorization", header); status != want {
			t.Errorf("%q: %d, want %d", header, status, want)
		}
	}
	if status, _ := getURL(t, http.DefaultClient, base+"/readyz"); status != 200 {
		t.Errorf("readiness needs a token: %d", status)
	}
}
