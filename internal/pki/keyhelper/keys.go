package keyhelper

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
)

// Keys are the keys of a helper: a pki.KeyStore whose signers ask the helper. A helper that is started again is found again by
// itself; requests wait for it as long as Patience says. Errors because of a helper that does not answer are of
// fleet.KindUnavailable.
type Keys struct {
	socket   string
	patience time.Duration
	slots    chan struct{}      // one per connection that may be open
	idle     chan *net.UnixConn // open and not in use
}

var _ pki.KeyStore = (*Keys)(nil)

// Config is how to reach a helper.
type Config struct {
	Socket   string
	Patience time.Duration // how long a request waits for a helper that does not answer; 0: 5 s
}

const (
	defaultPatience = 5 * time.Second
	answerDeadline  = 30 * time.Second // of a helper that is there: a security module takes long to make an RSA key
	firstPause      = 10 * time.Millisecond
	longestPause    = 500 * time.Millisecond
	parallel        = 16 // connections
)

// Dial returns the keys of a helper after it has answered, and what it says about itself.
func Dial(ctx context.Context, c Config) (k *Keys, about string, err error) {
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	k = &Keys{socket: c.Socket, patience: c.Patience, slots: make(chan struct{}, parallel), idle: make(chan *net.UnixConn, parallel)}
	a, err := k.ask(ctx, request{Op: opAbout})
	if err != nil {
		return nil, "", err
	}
	return k, a.About, nil
}

// Close ends the connections that are not in use.
func (k *Keys) Close() error {
	var errs []error
	for {
		select {
		case conn := <-k.idle:
			errs = append(errs, conn.Close())
		default:
			return errors.Join(errs...)
		}
	}
}

func (k *Keys) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	return k.key(ctx, request{Op: opPublic, Key: name})
}

func (k *Keys) Create(ctx context.Context, name string, t pki.KeyType) (crypto.Signer, error) {
	return k.key(ctx, request{Op: opGenerate, Key: name, Type: t})
}

func (k *Keys) key(ctx context.Context, r request) (crypto.Signer, error) {
	r.Version = Version
	if err := r.check(); err != nil {
		return nil, err
	}
	a, err := k.ask(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: %w", r.Key, err)
	}
	public, err := x509.ParsePKIXPublicKey(a.Public)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: the key helper's answer: %w", r.Key, err)
	}
	switch public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
		return &signer{keys: k, name: r.Key, public: public}, nil
	}
	return nil, fmt.Errorf("signing key %q: the key helper has a %T, which is neither ECDSA nor RSA", r.Key, public)
}

// List returns the names of the helper's keys.
func (k *Keys) List(ctx context.Context) ([]string, error) {
	a, err := k.ask(ctx, request{Op: opList})
	return a.Keys, err
}

// MasterKeys returns the lines of a key file.
func (k *Keys) MasterKeys(ctx context.Context) ([]fleet.Secret, error) {
	a, err := k.ask(ctx, request{Op: opMasterKeys})
	return a.MasterKeys, err
}

// A signer is a key in the helper.
type signer struct {
	keys   *Keys
	name   string
	public crypto.PublicKey
}

func (s *signer) Public() crypto.PublicKey { return s.public }

// Where says to people where the key is.
func (s *signer) Where() string { return "key helper" }

// Sign asks the helper. The source of randomness is the helper's own.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	r := request{Version: Version, Op: opSign, Key: s.name, Digest: digest}
	for name, hash := range hashes {
		if hash == opts.HashFunc() {
			r.Hash = name
		}
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		if pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != opts.HashFunc().Size() {
			return nil, fmt.Errorf("signing key %q: a salt of %d bytes is not that of the digest", s.name, pss.SaltLength)
		}
		r.Padding = paddingPSS
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("signing key %q: %w", s.name, err)
	}
	a, err := s.keys.ask(context.Background(), r)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: %w", s.name, err)
	}
	return a.Signature, nil
}

// ask sends a request and returns its answer. While there is no helper it tries again until patience ends; a request that the
// helper may have got is repeated as well unless that could do harm, which is to make a key twice.
func (k *Keys) ask(ctx context.Context, r request) (answer, error) {
	r.Version = Version
	ctx, cancel := context.WithTimeout(ctx, k.patience+answerDeadline)
	defer cancel()
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return answer{}, unavailable(fmt.Errorf("the key helper at %s is too slow: %d requests wait for it", k.socket, parallel))
	}
	late := time.NewTimer(k.patience)
	defer late.Stop()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		a, sent, err := k.try(ctx, r)
		if err == nil && a.Error != nil {
			err = a.Error.err()
		}
		if err == nil || ctx.Err() == nil && !passing(err) {
			return a, err
		}
		if sent && r.Op == opGenerate {
			return a, unavailable(fmt.Errorf("the key helper at %s went away while it made a key: %w", k.socket, err))
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		again.Stop()
		return a, unavailable(fmt.Errorf("the key helper at %s does not answer: start it (imprint-pkcs11 serve) and see what it logs: %w", k.socket, err))
	}
}

// errConnection is whatever goes wrong with the connection. It doesn't unwrap: a socket that is not there must not look like a key that
// is not there.
type errConnection struct{ error }

// passing reports whether the next try may go better.
func passing(err error) bool {
	var broken errConnection
	return errors.As(err, &broken) || fleet.KindOf(err) == fleet.KindUnavailable
}

// try sends a request once, on a connection that is open or, if those turn out to be closed, on a new one. sent is true if the helper
// may have got it.
func (k *Keys) try(ctx context.Context, r request) (a answer, sent bool, err error) {
	for {
		conn, reused, err := k.connect(ctx)
		if err != nil {
			return a, false, err
		}
		a, err = exchange(ctx, conn, r)
		if err == nil {
			k.idle <- conn
			return a, true, nil
		}
		_ = conn.Close()
		var broken errConnection
		unsent := errors.As(err, &broken) && errors.Is(broken.error, syscall.EPIPE)
		if !reused || r.Op == opGenerate && !unsent {
			return a, true, err
		}
	}
}

// connect returns an open connection.
func (k *Keys) connect(ctx context.Context) (conn *net.UnixConn, reused bool, err error) {
	select {
	case conn := <-k.idle:
		return conn, true, nil
	default:
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", k.socket)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, false, fmt.Errorf("the key helper's socket %s belongs to another user: start the helper as user %d or hand it a socket of that user: %w", k.socket, os.Geteuid(), err)
		}
		return nil, false, errConnection{err}
	}
	conn = c.(*net.UnixConn)
	owner, err := peerUID(conn)
	if err == nil && owner != os.Geteuid() && owner != 0 {
		err = fmt.Errorf("the key helper's socket %s is served by user %d, not by user %d or root: whoever that is could give out keys of their own", k.socket, owner, os.Geteuid())
	}
	if err != nil {
		return nil, false, errors.Join(err, conn.Close())
	}
	return conn, false, nil
}

// exchange sends a request and reads its answer.
func exchange(ctx context.Context, conn *net.UnixConn, r request) (a answer, err error) {
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return a, errConnection{err}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := writeFrame(conn, r); err != nil {
		return a, errConnection{err}
	}
	body, err := readFrame(conn)
	if err != nil {
		return a, errConnection{err}
	}
	return parseAnswer(body)
}

// parseAnswer reads what a helper says.
func parseAnswer(body []byte) (a answer, err error) {
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("the key helper's answer: %w", err)
	}
	if a.Version != Version && a.Error == nil {
		return a, fmt.Errorf("the key helper speaks version %d of the protocol, this server version %d: install both of the same release", a.Version, Version)
	}
	return a, nil
}
