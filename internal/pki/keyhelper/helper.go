package keyhelper

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
)

// A Token is what a helper has its keys in. Its methods may be called concurrently. An error that wraps ErrTokenLost means that
// nothing will work until the helper is started again.
type Token interface {
	pki.KeyStore
	// About says in a few words what the token is, for people.
	About() string
	// List returns the names of all keys.
	List(ctx context.Context) ([]string, error)
	// MasterKeys returns the keys that seal the server's secrets, the newest first, each in the form of a line of a key file.
	MasterKeys(ctx context.Context) ([]fleet.Secret, error)
}

// ErrTokenLost means that the token is gone: taken out, reset, or its session ended.
var ErrTokenLost = errors.New("the token is lost")

// ServeConfig is how a helper serves.
type ServeConfig struct {
	Token Token
	// Client is the only user id, beside root, whose processes are answered.
	Client int
	Log    *slog.Logger
}

const (
	maxConnections = 64
	frameDeadline  = 10 * time.Second // from the first byte of a request to its last, and for writing an answer
	idleDeadline   = 10 * time.Minute // between requests
)

// Serve answers on l until ctx ends or the token is lost, which is an error. It closes l.
func Serve(ctx context.Context, l *net.UnixListener, c ServeConfig) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &helper{ServeConfig: c, cancel: cancel, slots: make(chan struct{}, maxConnections)}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			cause := context.Cause(ctx)
			cancel(nil)
			switch {
			case errors.Is(cause, ErrTokenLost):
				return cause
			case cause != nil && errors.Is(err, net.ErrClosed):
				return nil
			}
			return err
		}
		select {
		case s.slots <- struct{}{}:
			wg.Go(func() { defer func() { <-s.slots }(); s.talk(ctx, conn) })
		default:
			s.Log.Warn("too many connections", "limit", maxConnections)
			_ = conn.Close()
		}
	}
}

type helper struct {
	ServeConfig
	cancel context.CancelCauseFunc
	slots  chan struct{}
}

// talk answers one connection until it ends.
func (s *helper) talk(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	peer, err := peerUID(conn)
	if err != nil || peer != s.Client && peer != 0 {
		s.Log.Warn("refused a connection", "uid", peer, "allowed", s.Client, "error", err)
		return
	}
	for {
		if err := s.exchange(ctx, conn); err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.Log.Debug("a connection ended", "error", err)
			}
			return
		}
	}
}

// exchange reads a request and writes its answer.
func (s *helper) exchange(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(idleDeadline)); err != nil {
		return err
	}
	body, err := readFrame(&hurried{conn})
	if err != nil {
		return err
	}
	a := s.answer(ctx, body)
	a.Version = Version
	if err := conn.SetDeadline(time.Now().Add(frameDeadline)); err != nil {
		return err
	}
	return writeFrame(conn, a)
}

// hurried gives whoever has begun a request a short time for the rest.
type hurried struct{ net.Conn }

func (h *hurried) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if err == nil {
		err = h.SetReadDeadline(time.Now().Add(frameDeadline))
	}
	return n, err
}

func (s *helper) answer(ctx context.Context, body []byte) (a answer) {
	r, wrong := parseRequest(body)
	if wrong != nil {
		return answer{Error: wrong}
	}
	err := s.do(ctx, r, &a)
	if err == nil {
		return a
	}
	if errors.Is(err, ErrTokenLost) {
		s.cancel(err)
	}
	s.Log.Warn("refused", "op", r.Op, "key", r.Key, "error", err)
	return answer{Error: &refusal{codeOf(err), err.Error()}}
}

func codeOf(err error) code {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return codeNotFound
	case errors.Is(err, fs.ErrExist):
		return codeExists
	case errors.Is(err, ErrTokenLost), errors.Is(err, context.Canceled):
		return codeUnavailable
	}
	return codeFailed
}

// do does what a request asks for. The request is checked.
func (s *helper) do(ctx context.Context, r request, a *answer) (err error) {
	switch r.Op {
	case opAbout:
		a.About = s.Token.About()
		return nil
	case opList:
		a.Keys, err = s.Token.List(ctx)
		return err
	case opMasterKeys:
		s.Log.Info("master keys were asked for")
		a.MasterKeys, err = s.Token.MasterKeys(ctx)
		return err
	case opGenerate:
		key, err := s.Token.Create(ctx, r.Key, r.Type)
		if err != nil {
			return err
		}
		s.Log.Info("made a key", "key", r.Key, "type", r.Type)
		a.Public, err = x509.MarshalPKIXPublicKey(key.Public())
		return err
	}
	key, err := s.Token.Signer(ctx, r.Key)
	if err != nil {
		return err
	}
	if r.Op == opPublic {
		a.Public, err = x509.MarshalPKIXPublicKey(key.Public())
		return err
	}
	if _, ok := key.Public().(*rsa.PublicKey); !ok && r.Padding != "" {
		return fmt.Errorf("key %q is not RSA: it knows no padding", r.Key)
	}
	a.Signature, err = key.Sign(rand.Reader, r.Digest, r.options())
	return err
}
