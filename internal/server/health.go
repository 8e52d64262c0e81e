package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

// /healthz says that the process answers: whoever gets no 200 starts it again. /readyz says whether to send it work. On ports that
// strangers reach both are a bare word; the administration socket tells more.

// A condition of readiness holds if it has no problem.
type condition struct{ name, problem string }

// readiness keeps the latest checks for a while, so that strangers can't have them made as often as they like: they write to the
// store and sign.
type readiness struct {
	mu     sync.Mutex
	at     time.Time
	checks []condition
}

const (
	readinessLasts   = 5 * time.Second
	readinessTimeout = 5 * time.Second
)

// ready makes the checks, or returns those of a moment ago.
func (s *Server) ready(ctx context.Context) []condition {
	serving := condition{"serving", ""}
	if s.stopping.Load() {
		serving.problem = "shutting down"
	}
	r := &s.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := s.clock.Now(); r.checks == nil || now.Before(r.at) || now.Sub(r.at) >= readinessLasts {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readinessTimeout) // the next one to ask may be patient
		defer cancel()
		r.checks = []condition{s.checkStore(ctx), s.checkAuthority(now)}
		r.at = s.clock.Now() // when they were done: those who have waited meanwhile get them, however long they took
	}
	return append([]condition{serving}, r.checks...)
}

// checkStore writes: a disk that is full or lost shows only so.
func (s *Server) checkStore(ctx context.Context) condition {
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.PutSetting("last-readiness-check", s.clock.Now().UTC().Format(time.RFC3339))
	})
	return condition{"store", problem(err)}
}

// checkAuthority has every issuer sign, and looks at what the server shows to clients.
func (s *Server) checkAuthority(now time.Time) condition {
	var problems []string
	for _, c := range s.authority.Standings() {
		if err := c.Check(now); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", c.Name, err))
		}
	}
	return condition{"authority", strings.Join(problems, "; ")}
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// healthRoutes adds both questions to a mux; details are for the administration socket alone.
func (s *Server) healthRoutes(mux *http.ServeMux, details bool) {
	mux.HandleFunc("GET /healthz", serveAlive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { s.serveReady(w, r, details) })
}

func serveAlive(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request, details bool) {
	checks := s.ready(r.Context())
	status, word := http.StatusOK, "ready"
	var lines strings.Builder
	for _, c := range checks {
		text := "ok"
		if c.problem != "" {
			text, status, word = c.problem, http.StatusServiceUnavailable, "not ready"
		}
		fmt.Fprintf(&lines, "%s: %s\n", c.name, text)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, word)
	if details {
		fmt.Fprint(w, lines.String())
	}
}
