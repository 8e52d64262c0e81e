package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// What lasts longer than a process, keys and roots, is changed through the administration socket, so that it happens in a running
// server: trustrekey.go changes the master key, trustca.go the roots. An operation takes as long as it takes.

// trustRoutes adds the operations to the administration socket.
func (s *Server) trustRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /master-key", adminOperation(s, oneAtATime(&s.trust, s.serveRekey)))
	mux.HandleFunc("POST /backup", s.serveBackup)
	mux.HandleFunc("POST /roots", adminOperation(s, oneAtATime(&s.trust, s.serveRoots)))
}

// maxTrustBody bounds what an operation reads: PEM of some keys.
const maxTrustBody = 256 << 10

func oneAtATime[In, Out any](mu *sync.Mutex, f func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (Out, error) {
		mu.Lock()
		defer mu.Unlock()
		return f(ctx, in)
	}
}

// adminOperation turns a function into a handler.
func adminOperation[In, Out any](s *Server, f func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var answer struct {
			Out   Out
			Error string
		}
		var in In
		err := json.NewDecoder(io.LimitReader(r.Body, maxTrustBody)).Decode(&in)
		if err == nil { // the socket's usual deadlines are for questions
			rc := http.NewResponseController(w)
			err = errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}))
		}
		if err == nil {
			answer.Out, err = f(r.Context(), in)
		}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			s.log.Warn("answering on the administration socket", "error", err)
		}
	}
}

// errNoServer is the answer when nobody listens on a data folder's administration socket.
var errNoServer = errors.New("no server runs on this data folder")

// askServer runs an operation in the server that runs on a data folder; without one the error is errNoServer.
func askServer[Out any](ctx context.Context, data, operation string, in any) (out Out, err error) {
	if data, err = filepath.Abs(data); err != nil {
		return out, err
	}
	path, done, err := socketPath(data)
	if errors.Is(err, os.ErrNotExist) {
		return out, errNoServer
	}
	if err != nil {
		return out, err
	}
	defer done()
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	c := socketClient(path)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://imprint/"+operation, bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	res, err := c.Do(req)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) { // the socket outlives a server that was killed
		return out, errNoServer
	}
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return out, errors.New("the server that runs on this data folder is of an earlier version: start it again with this one")
	}
	var answer struct {
		Out   *Out
		Error string
	}
	answer.Out = &out
	if err := json.NewDecoder(io.LimitReader(res.Body, maxTrustBody)).Decode(&answer); err != nil {
		return out, fmt.Errorf("the server's answer: %w", err)
	}
	if answer.Error != "" {
		return out, errors.New(answer.Error)
	}
	return out, nil
}

// lockExisting takes the lock of a data folder in which a server has run. Whoever works on it must own it: files of another
// owner would keep the server out.
func lockExisting(dir string) (unlock func() error, err error) {
	info, err := hasData(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is no data folder of a server: name it with --data", dir)
	}
	if err != nil {
		return nil, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s belongs to user %d: run this as that user", dir, st.Uid)
	}
	return openData(dir)
}
