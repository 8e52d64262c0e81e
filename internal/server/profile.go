package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"
)

// maxProfile bounds how long a CPU profile is taken.
const maxProfile = 10 * time.Minute

// serveProfile answers with a profile of the running process, for `go tool pprof`: cpu over some seconds, or what runtime/pprof
// calls heap, allocs, goroutine. Profiles name functions and sizes, never contents.
func (s *Server) serveProfile(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Query().Get("kind")
	if kind != "cpu" {
		p := pprof.Lookup(kind)
		if p == nil {
			http.Error(w, fmt.Sprintf("no profile %q: ask for cpu, heap, allocs, goroutine", kind), http.StatusBadRequest)
			return
		}
		if err := p.WriteTo(w, 0); err != nil {
			s.log.Debug("writing a profile", "error", err)
		}
		return
	}
	seconds, err := strconv.Atoi(r.URL.Query().Get("seconds"))
	took := time.Duration(seconds) * time.Second
	if err != nil || took <= 0 || took > maxProfile {
		http.Error(w, fmt.Sprintf("a CPU profile takes 1 to %.0f seconds", maxProfile.Seconds()), http.StatusBadRequest)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(took + time.Minute)) // the socket's usual deadline is for questions
	if err := pprof.StartCPUProfile(w); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer pprof.StopCPUProfile()
	select {
	case <-time.After(took):
	case <-r.Context().Done():
	}
}

// Profile asks the server that runs on a data folder for a profile of itself (serveProfile) and writes it to out. No server is
// os.ErrNotExist.
func Profile(ctx context.Context, data, kind string, seconds int, out io.Writer) error {
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	path, done, err := socketPath(data)
	if err != nil {
		return err
	}
	defer done()
	query := url.Values{"kind": {kind}, "seconds": {strconv.Itoa(seconds)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://imprint/profile?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := socketClient(path).Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) { // the socket outlives a server that was killed
		return os.ErrNotExist
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		const enough = 1 << 10
		text, _ := io.ReadAll(io.LimitReader(res.Body, enough))
		return errors.New(string(text))
	}
	_, err = io.Copy(out, res.Body)
	return err
}
