package keyhelper

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/pki/keystoretest"
)

// memory is a token of the process; fail, if set, is what every operation on a key says.
type memory struct {
	*pki.MemoryKeys
	mu    sync.Mutex
	names []string
	fail  error
}

func newMemory() *memory { return &memory{MemoryKeys: pki.NewMemoryKeys()} }

func (m *memory) About() string { return "memory" }

func (m *memory) Create(ctx context.Context, name string, t pki.KeyType) (crypto.Signer, error) {
	key, err := m.MemoryKeys.Create(ctx, name, t)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.names = append(m.names, name)
	}
	return key, errors.Join(err, m.fail)
}

func (m *memory) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	return m.MemoryKeys.Signer(ctx, name)
}

func (m *memory) failWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memory) List(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(slices.Values(m.names)), nil
}

func (m *memory) MasterKeys(context.Context) ([]fleet.Secret, error) {
	return []fleet.Secret{"new", "old"}, nil
}

// A running is a helper at work.
type running struct {
	stop context.CancelFunc
	done chan error
	log  *bytes.Buffer // after done
}

func (r *running) kill() error {
	r.stop()
	return <-r.done
}

func listen(t testing.TB, socket string) *net.UnixListener {
	t.Helper()
	_ = os.Remove(socket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs a helper until the test ends.
func serve(t testing.TB, socket string, token Token, client int) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan error, 1), log: &bytes.Buffer{}}
	l := listen(t, socket)
	go func() {
		r.done <- Serve(ctx, l, ServeConfig{Token: token, Client: client, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	}()
	t.Cleanup(cancel)
	return r
}

func dial(t testing.TB, socket string, patience time.Duration) *Keys {
	t.Helper()
	k, about, err := Dial(t.Context(), Config{Socket: socket, Patience: patience})
	if err != nil || about != "memory" {
		t.Fatalf("%q, %v", about, err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// place is a path for a socket; those of t.TempDir may be too long.
func place(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v; want %q", err, text)
	}
}

func TestKeysOfAHelperAreAKeyStore(t *testing.T) {
	t.Parallel()
	socket := place(t)
	serve(t, socket, newMemory(), os.Geteuid())
	k := dial(t, socket, 0)
	keystoretest.Store(t, k)
	names, err := k.List(t.Context())
	if err != nil || !slices.Equal(names, []string{"issuer-ec", "issuer-race", "issuer-rsa"}) {
		t.Errorf("%q, %v", names, err)
	}
	keys, err := k.MasterKeys(t.Context())
	if err != nil || len(keys) != 2 || keys[0].Reveal() != "new" {
		t.Errorf("%d master keys, %v", len(keys), err)
	}
}

func TestATLSHandshakeMaySignWithAHelper(t *testing.T) {
	t.Parallel()
	socket := place(t)
	serve(t, socket, newMemory(), os.Geteuid())
	k := dial(t, socket, 0)
	key, err := k.Create(t.Context(), "rsa", pki.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	signature, err := key.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPSS(key.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], signature, nil); err != nil {
		t.Error(err)
	}
	_, err = key.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256})
	wantError(t, err, "is not that of the digest")
	_, err = key.Sign(rand.Reader, digest[:20], crypto.SHA1)
	wantError(t, err, "none of SHA-256")
	ec, err := k.Create(t.Context(), "ec", pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ec.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256})
	wantError(t, err, "not RSA: it knows no padding")
}

// TestAHelperThatIsStartedAgainIsFoundAgain signs without pause while the helper goes and comes back: nobody notices but for the wait.
func TestAHelperThatIsStartedAgainIsFoundAgain(t *testing.T) {
	t.Parallel()
	socket, token := place(t), newMemory()
	helper := serve(t, socket, token, os.Geteuid())
	k := dial(t, socket, time.Minute)
	key, err := k.Create(t.Context(), "device-1", pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	const signers, rounds = 4, 5
	signed := make(chan error)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range signers {
		wg.Go(func() {
			for {
				_, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
				select {
				case signed <- err:
				case <-stop:
					return
				}
			}
		})
	}
	for range rounds {
		for range 20 {
			if err := <-signed; err != nil {
				t.Error(err)
			}
		}
		if err := helper.kill(); err != nil {
			t.Error(err)
		}
		helper = serve(t, socket, token, os.Geteuid())
	}
	close(stop)
	wg.Wait()
}

func TestWithoutAHelperTheErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	socket := place(t)
	_, _, err := Dial(t.Context(), Config{Socket: socket, Patience: time.Nanosecond})
	wantError(t, err, "the key helper at "+socket+" does not answer: start it")
	if fleet.KindOf(err) != fleet.KindUnavailable {
		t.Errorf("%v is of kind %v", err, fleet.KindOf(err))
	}
	helper := serve(t, socket, newMemory(), os.Geteuid())
	k := dial(t, socket, 20*time.Millisecond)
	key, err := k.Create(t.Context(), "device-1", pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.kill(); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	_, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantError(t, err, "does not answer: start it")
	if fleet.KindOf(err) != fleet.KindUnavailable {
		t.Errorf("%v is of kind %v", err, fleet.KindOf(err))
	}
	if _, err := k.Signer(t.Context(), "device-1"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a helper that is gone looks like a key that is not there: %v", err)
	}
}

func TestALostTokenEndsTheHelper(t *testing.T) {
	t.Parallel()
	socket, token := place(t), newMemory()
	helper := serve(t, socket, token, os.Geteuid())
	k := dial(t, socket, time.Minute)
	key, err := k.Create(t.Context(), "device-1", pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	token.failWith(fmt.Errorf("%w: CKR_DEVICE_REMOVED", ErrTokenLost))
	signed := make(chan error)
	go func() {
		digest := sha256.Sum256([]byte("x"))
		_, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		signed <- err
	}()
	wantError(t, <-helper.done, "CKR_DEVICE_REMOVED")
	token.failWith(nil)
	serve(t, socket, token, os.Geteuid()) // as systemd does
	if err := <-signed; err != nil {
		t.Errorf("the signature that was cut: %v", err)
	}
	token.failWith(errors.New("the module says CKR_MECHANISM_INVALID"))
	digest := sha256.Sum256([]byte("x"))
	_, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantError(t, err, "CKR_MECHANISM_INVALID")
}

func TestAHelperAnswersItsUserAlone(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root is always answered; the test of imprint-pkcs11 asks as another user")
	}
	socket := place(t)
	helper := serve(t, socket, newMemory(), os.Geteuid()+1)
	_, _, err := Dial(t.Context(), Config{Socket: socket, Patience: 50 * time.Millisecond})
	wantError(t, err, "does not answer")
	if err := helper.kill(); err != nil || !strings.Contains(helper.log.String(), "refused a connection") {
		t.Errorf("%v, log: %s", err, helper.log)
	}
}

// raw sends bytes and returns what comes back until the helper closes or an answer is there.
func raw(t testing.TB, socket string, data []byte) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(data); err != nil {
		return err.Error() // a helper that refuses a connection may have hung up before it is written to
	}
	body, err := readFrame(c)
	if errors.Is(err, io.EOF) {
		return "closed"
	}
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

func TestAHelperRefusesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	socket := place(t)
	helper := serve(t, socket, newMemory(), os.Geteuid())
	digest := `"` + strings.Repeat("A", 43) + `="`
	for text, want := range map[string]string{
		`{"version":1,"op":"about"}`:                                                                  `"about":"memory"`,
		`{"version":2,"op":"about"}`:                                                                  "install server and helper of the same release",
		`{"version":1,"op":"delete","key":"k"}`:                                                       "unknown operation",
		`{"version":1,"op":"about","key":"k"}`:                                                        "belong to another",
		`{"version":1,"op":"public","key":"../k"}`:                                                    "1 to 64 characters",
		`{"version":1,"op":"public"}`:                                                                 "1 to 64 characters",
		`{"version":1,"op":"public","key":"k"}`:                                                       `"not-found"`,
		`{"version":1,"op":"public","key":"k","hash":"SHA-256"}`:                                      "belong to another",
		`{"version":1,"op":"generate","key":"k","type":"RSA-512"}`:                                    "neither P-256 nor RSA-2048",
		`{"version":1,"op":"sign","key":"k","hash":"MD5","digest":"AA=="}`:                            "none of SHA-256",
		`{"version":1,"op":"sign","key":"k","hash":"SHA-256","digest":"AA=="}`:                        "has 32 bytes, not 1",
		`{"version":1,"op":"sign","key":"k","hash":"SHA-256","padding":"x","digest":` + digest + `}`:  `padding \"x\"`,
		`{"version":1,"op":"sign","key":"k","hash":"SHA-256","type":"P-256","digest":` + digest + `}`: "belong to another",
		`{"version":1,"op":"about","pin":"1234"}`:                                                     "unknown field",
		`{"version":1,"op":"about"}{}`:                                                                "more than one",
		`[]`:                                                                                          "cannot unmarshal",
	} {
		if got := raw(t, socket, frame(text)); !strings.Contains(got, want) {
			t.Errorf("%s: %s; want %q", text, got, want)
		}
	}
	for name, data := range map[string][]byte{"no length": {0, 0, 0, 0}, "too long": {0, 1, 0, 1, '{'}, "far too long": {255, 255, 255, 255}} {
		if got := raw(t, socket, data); got != "closed" && !strings.Contains(got, "reset") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if err := helper.kill(); err != nil {
		t.Error(err)
	}
}

func TestAFloodOfConnectionsIsBounded(t *testing.T) {
	t.Parallel()
	socket := place(t)
	helper := serve(t, socket, newMemory(), os.Geteuid())
	var open []net.Conn
	for range maxConnections {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(frame(`{"version":1,"op":"about"}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := readFrame(c); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if got := raw(t, socket, frame(`{"version":1,"op":"about"}`)); strings.Contains(got, "memory") {
		t.Errorf("one connection more than allowed got %s", got)
	}
	if _, err := open[0].Write(frame(`{"version":1,"op":"list"}`)); err != nil {
		t.Error(err)
	}
	if _, err := readFrame(open[0]); err != nil {
		t.Errorf("one of the allowed: %v", err)
	}
	if err := helper.kill(); err != nil {
		t.Error(err)
	}
}

func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	socket := place(t)
	helper := serve(t, socket, newMemory(), os.Geteuid())
	k := dial(t, socket, 0)
	if _, err := k.MasterKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := helper.kill(); err != nil {
		t.Fatal(err)
	}
	if log := helper.log.String(); !strings.Contains(log, "master keys were asked for") || strings.Contains(log, "old") {
		t.Errorf("log: %s", log)
	}
}

func TestAnAnswerOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	_, err := parseAnswer([]byte(`{"version":2,"about":"x"}`))
	wantError(t, err, "install both of the same release")
	_, err = parseAnswer([]byte(`x`))
	wantError(t, err, "the key helper's answer")
}

// FuzzRequest: whatever arrives, a helper answers once or ends the connection, and what it does is within the protocol.
func FuzzRequest(f *testing.F) {
	token := newMemory()
	for name, kind := range map[string]pki.KeyType{"ec": pki.P256, "rsa": pki.RSA2048} {
		if _, err := token.Create(context.Background(), name, kind); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		s := &helper{ServeConfig: ServeConfig{Token: token, Log: slog.New(slog.DiscardHandler)}, cancel: func(error) {}}
		for {
			body, err := readFrame(in)
			if err != nil {
				return
			}
			r, wrong := parseRequest(body)
			if wrong == nil && (r.Version != Version || r.named() && !pki.ValidKeyName(r.Key) || len(r.Digest) > 64) {
				t.Fatalf("accepted %+v", r)
			}
			if r.Op == opGenerate && wrong == nil { // costly and endless
				continue
			}
			var out bytes.Buffer
			if err := writeFrame(&out, s.answer(t.Context(), body)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzAnswer: whatever a helper says, the server gets an answer or an error.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		a, err := parseAnswer(body)
		if err == nil && a.Error != nil && a.Error.err() == nil {
			t.Fatal("a refusal is no error")
		}
	})
}
