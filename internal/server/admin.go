package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// The administration socket lies in the data folder, which its owner alone can enter: whoever can open it owns the service
// already (docs/decisions/0002-administration-socket.md). It makes a key for an account's administrator and changes trust (trust.go).
const adminSocket = "admin.sock"

// socketPath returns a path to the socket in dir that fits into a socket address, which is short (unix(7): 108 bytes): a long
// one goes through the open folder.
func socketPath(dir string) (path string, done func() error, err error) {
	const longest = 100
	if path = filepath.Join(dir, adminSocket); len(path) <= longest {
		return path, func() error { return nil }, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) + "/" + adminSocket, f.Close, nil
}

// socketClient is an HTTP client of the socket at path, whatever host it is asked for. It keeps no connection.
func socketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
}

func (s *Server) listenAdmin() error {
	if err := s.removeAdminSocket(); err != nil { // of a start that was cut
		return err
	}
	path, done, err := socketPath(s.cfg.Data)
	if err != nil {
		return err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("opening the administration socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then the path may lead elsewhere; Close removes the socket
	if err := os.Chmod(filepath.Join(s.cfg.Data, adminSocket), 0o600); err != nil {
		return errors.Join(fmt.Errorf("opening the administration socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /keys", s.createKey)
	mux.Handle("GET /metrics", s.metrics.Handler())
	mux.HandleFunc("GET /profile", s.serveProfile)
	mux.HandleFunc("POST /fixed", adminOperation(s, s.serveFixed))
	s.healthRoutes(mux, true)
	s.trustRoutes(mux)
	s.admin = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	s.wg.Go(func() { s.report(s.admin.Serve(l)) })
	return nil
}

func (s *Server) removeAdminSocket() error {
	if err := os.Remove(filepath.Join(s.cfg.Data, adminSocket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the administration socket: %w", err)
	}
	return nil
}

// An AdminKey is a new key of an account's administrator.
type AdminKey struct {
	ID     string
	Secret fleet.Secret
}

type adminAnswer struct{ ID, Secret, Error string }

func (s *Server) createKey(w http.ResponseWriter, r *http.Request) {
	scope := s.site.Scope
	if a := r.URL.Query().Get("account"); a != "" {
		scope.Account = a
	}
	var out adminAnswer
	err := s.db.View(r.Context(), func(tx *store.Tx) error {
		exists, err := tx.AccountExists(scope.Account)
		if err == nil && !exists {
			err = fleet.NotFound("account", scope.Account)
		}
		return err
	})
	if err == nil {
		var secret fleet.Secret
		out.ID, secret, err = s.iam.Bootstrap(r.Context(), scope)
		out.Secret = secret.Reveal()
	}
	if err != nil {
		out = adminAnswer{Error: err.Error()}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.log.Debug("answering on the administration socket", "error", err)
	}
}

// CreateAdminKey asks the server that runs on a data folder for a key of an account's administrator; an empty account is
// the first. No server is os.ErrNotExist.
func CreateAdminKey(ctx context.Context, data, account string) (AdminKey, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return AdminKey{}, err
	}
	path, done, err := socketPath(data)
	if err != nil {
		return AdminKey{}, err
	}
	defer done()
	c := socketClient(path)
	c.Timeout = 10 * time.Second
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://imprint/keys?account="+url.QueryEscape(account), nil)
	if err != nil {
		return AdminKey{}, err
	}
	res, err := c.Do(req)
	if err != nil {
		return AdminKey{}, err
	}
	defer res.Body.Close()
	var out adminAnswer
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&out); err != nil {
		return AdminKey{}, err
	}
	if out.Error != "" {
		return AdminKey{}, errors.New(out.Error)
	}
	return AdminKey{out.ID, fleet.Secret(out.Secret)}, nil
}

// serveFixed tells what was fixed at the first start, by the names of the settings.
func (s *Server) serveFixed(context.Context, struct{}) (map[string]string, error) {
	return map[string]string{"host": s.site.Host, "region": s.site.Scope.Region, "account": s.site.Scope.Account,
		"https-port": strconv.Itoa(s.site.HTTPSPort), "mqtt-port": strconv.Itoa(s.site.MQTTPort)}, nil
}

// FixedSettings asks the server that runs on a data folder what was fixed at its first start. It returns false if none runs.
func FixedSettings(ctx context.Context, data string) (fixed map[string]string, running bool, err error) {
	fixed, err = askServer[map[string]string](ctx, data, "fixed", struct{}{})
	if errors.Is(err, errNoServer) {
		return nil, false, nil
	}
	return fixed, true, err
}

// Alive asks the server by its administration socket whether it still answers.
func (s *Server) Alive(ctx context.Context) error {
	path, done, err := socketPath(s.cfg.Data)
	if err != nil {
		return err
	}
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://imprint/healthz", nil)
	if err != nil {
		return err
	}
	res, err := socketClient(path).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}
