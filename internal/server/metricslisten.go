package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// listenMetrics opens the listener for Prometheus, if there is to be one. It is plain HTTP: on loopback for whoever is on the
// machine, elsewhere for whoever has the token and whoever listens on the way.
func (s *Server) listenMetrics() error {
	if s.cfg.MetricsListen == "" {
		if s.cfg.MetricsTokenFile != "" {
			return errors.New("metrics-token-file goes with metrics-listen")
		}
		return nil
	}
	address, loopback, err := metricsAddress(s.cfg.MetricsListen)
	if err != nil {
		return err
	}
	token := ""
	switch {
	case s.cfg.MetricsTokenFile != "":
		if token, err = readToken(s.cfg.MetricsTokenFile); err != nil {
			return fmt.Errorf("metrics-token-file: %w", err)
		}
	case !loopback:
		return fmt.Errorf("metrics-listen %s: everybody who reaches it could read the metrics: name a file with a token by metrics-token-file, or listen on 127.0.0.1", s.cfg.MetricsListen)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("metrics-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", bearer(token, s.metrics.Handler()))
	s.healthRoutes(mux, false)
	s.ports.metrics = l
	s.scrape = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.wg.Go(func() { s.report(s.scrape.Serve(l)) })
	return nil
}

// metricsAddress reads a port or an address with a port. Without a host it is loopback.
func metricsAddress(text string) (address string, loopback bool, err error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = "", text
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", false, fmt.Errorf("metrics-listen %q: give a port, which is opened on loopback, or an address with a port", text)
	}
	ip := net.ParseIP(host)
	return net.JoinHostPort(host, port), host == "localhost" || ip != nil && ip.IsLoopback(), nil
}

// shortestToken is as long as 16 random bytes in base64 without padding.
const shortestToken = 22

func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < shortestToken || len(token) > 1024 || strings.ContainsAny(token, " \r\n\t") {
		return "", fmt.Errorf("%s must hold one word of %d to 1024 characters: openssl rand -base64 32", path, shortestToken)
	}
	return token, nil
}

// bearer asks for a token; an empty one asks for nothing.
func bearer(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte("Bearer " + token)) // hashed: the comparison tells not even the length
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
