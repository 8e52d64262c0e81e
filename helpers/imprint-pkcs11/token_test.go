package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ThalesGroup/crypto11"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/pki/keyhelper"
	"github.com/imprint-iot/imprint/internal/pki/keystoretest"
)

// module is SoftHSM, as Debian's package softhsm2 installs it.
const (
	module  = "/usr/lib/softhsm/libsofthsm2.so"
	userPIN = "4711-secret"
)

// tokens are made before the first test, since SoftHSM looks for them once in a process.
var tokens = []string{"unit", "site", "moving"}

// bin is where TestMain put the binaries.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "pkcs11-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = prepare(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		// SoftHSM now and then refuses what it did before when it was ended and begun again in one process; a helper never does that.
		held, err := openToken(module, "unit", "held-", userPIN)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer held.Close()
		return m.Run()
	}())
}

func prepare(dir string) error {
	if _, err := os.Stat(module); err != nil {
		return fmt.Errorf("the tests need SoftHSM: make deps installs it: %w", err)
	}
	bin = filepath.Join(dir, "bin")
	if err := os.Chmod(dir, 0o755); err != nil { // some tests run a binary as somebody else
		return err
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	store := filepath.Join(dir, "tokens")
	if err := errors.Join(os.Mkdir(store, 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+store+"\nlog.level = ERROR\n"), 0o600),
		os.Setenv("SOFTHSM2_CONF", conf)); err != nil {
		return err
	}
	for _, label := range tokens {
		if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", userPIN, "--so-pin", "officer-1").CombinedOutput(); err != nil {
			return fmt.Errorf("softhsm2-util: %w: %s", err, out)
		}
	}
	for _, b := range []struct{ dir, pkg, cgo string }{{"../..", "./cmd/...", "0"}, {".", ".", "1"}} {
		cmd := exec.Command("go", "build", "-o", bin+"/", b.pkg)
		cmd.Dir, cmd.Env = b.dir, append(os.Environ(), "CGO_ENABLED="+b.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w: %s", b.pkg, err, out)
		}
	}
	return nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v; want %q", err, text)
	}
}

func open(t testing.TB, prefix string) *token {
	t.Helper()
	k, err := openToken(module, "unit", prefix, userPIN)
	check(t, err)
	t.Cleanup(func() { check(t, k.Close()) })
	return k
}

func TestATokenIsAKeyStore(t *testing.T) {
	t.Parallel()
	k := open(t, "direct-")
	keystoretest.Store(t, k)
	names, err := k.List(t.Context())
	if err != nil || !slices.Equal(names, []string{"issuer-ec", "issuer-race", "issuer-rsa"}) {
		t.Errorf("%q, %v", names, err)
	}
	other := open(t, "other-")
	if names, err := other.List(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("another prefix sees %q, %v", names, err)
	}
	if _, err := other.Signer(t.Context(), "issuer-ec"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another prefix: %v", err)
	}
}

func TestATokenBehindASocketIsAKeyStore(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	l, err := listen(socket)
	check(t, err)
	t.Parallel() // not before: listen changes the umask, which is that of the files and programs of all tests
	k := open(t, "socket-")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- keyhelper.Serve(ctx, l, keyhelper.ServeConfig{Token: k, Client: os.Geteuid(), Log: slog.New(slog.DiscardHandler)})
	}()
	keys, about, err := keyhelper.Dial(t.Context(), keyhelper.Config{Socket: socket})
	if err != nil || about != `PKCS #11 token "unit"` {
		t.Fatalf("%q, %v", about, err)
	}
	keystoretest.Store(t, keys)
	check(t, keys.Close())
	cancel()
	check(t, <-done)
}

// shortDir is a folder whose path fits into a socket's address.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestNoPrivateKeyLeavesTheToken(t *testing.T) {
	t.Parallel()
	k := open(t, "private-"+fleet.RandomString(6, fleet.AlphaLowerDigit))
	for name, part := range map[string]crypto11.AttributeType{"ec": crypto11.CkaValue, "rsa": crypto11.CkaPrivateExponent} {
		kind := map[string]pki.KeyType{"ec": pki.P256, "rsa": pki.RSA2048}[name]
		_, err := k.Create(t.Context(), name, kind)
		check(t, err)
		key := k.open[name]
		if got, err := k.ctx.GetAttribute(key, part); err == nil {
			t.Errorf("%s: the token gives out %d bytes of the private key", name, len(got.Value))
		}
		for attribute, want := range map[crypto11.AttributeType]byte{crypto11.CkaPrivate: 1, crypto11.CkaSensitive: 1, crypto11.CkaAlwaysSensitive: 1,
			crypto11.CkaExtractable: 0, crypto11.CkaNeverExtractable: 1, crypto11.CkaSign: 1, crypto11.CkaDecrypt: 0, crypto11.CkaUnwrap: 0} {
			got, err := k.ctx.GetAttribute(key, attribute)
			check(t, err)
			if attribute == crypto11.CkaUnwrap || name == "ec" && attribute == crypto11.CkaDecrypt {
				continue // SoftHSM lets these default to true; a key in the token cannot be read through them
			}
			if got.Value[0] != want {
				t.Errorf("%s: attribute %#x is %d", name, attribute, got.Value[0])
			}
		}
	}
}

func TestTwoKeysOfOneNameAreNeverUsed(t *testing.T) {
	t.Parallel()
	k := open(t, "twice-"+fleet.RandomString(6, fleet.AlphaLowerDigit))
	for range 2 {
		_, err := k.generate("device-1", pki.P256)
		check(t, err)
	}
	_, err := k.Signer(t.Context(), "device-1")
	wantError(t, err, "2 times")
	_, err = k.Create(t.Context(), "device-1", pki.P256)
	wantError(t, err, "2 times")
}

func TestMasterKeysStayInTheToken(t *testing.T) {
	t.Parallel()
	k := open(t, "seal-")
	_, err := k.MasterKeys(t.Context())
	wantError(t, err, "imprint-pkcs11 new-master-key makes the first")
	n, err := k.newMasterKey()
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	first, err := k.MasterKeys(t.Context())
	if err != nil || len(first) != 1 || len(first[0].Reveal()) != 44 {
		t.Fatalf("%d keys, %v", len(first), err)
	}
	n, err = k.newMasterKey()
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
	both, err := open(t, "seal-").MasterKeys(t.Context())
	if err != nil || len(both) != 2 || both[0] == first[0] || both[1] != first[0] {
		t.Fatalf("the new key is not before the old one: %v", err)
	}
	n, err = k.dropMasterKeys()
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	left, err := k.MasterKeys(t.Context())
	if err != nil || len(left) != 1 || left[0] != both[0] {
		t.Errorf("the wrong key went: %v", err)
	}
}

func TestAKeyThatIsGoneEndsTheHelper(t *testing.T) {
	t.Parallel()
	k := open(t, "gone-"+fleet.RandomString(6, fleet.AlphaLowerDigit))
	_, err := k.Create(t.Context(), "device-1", pki.P256)
	check(t, err)
	key, err := k.Signer(t.Context(), "device-1")
	check(t, err)
	digest := sha256.Sum256([]byte("x"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Fatal(err)
	}
	check(t, k.open["device-1"].Delete())
	_, err = key.Sign(nil, digest[:], crypto.SHA256)
	if !errors.Is(err, keyhelper.ErrTokenLost) {
		t.Errorf("signing with a key that is gone: %v", err)
	}
}

func TestKeysThatGoWhileOthersAreListedSpoilNothing(t *testing.T) {
	t.Parallel()
	k := open(t, "going-"+fleet.RandomString(6, fleet.AlphaLowerDigit))
	_, err := k.Create(t.Context(), "stays", pki.P256)
	check(t, err)
	var going []crypto11.Signer
	for range 8 { // each is met in part twice at most
		key, err := k.generate("goes", pki.P256)
		check(t, err)
		going = append(going, key)
	}
	gone := make(chan error, 1)
	go func() {
		var errs []error
		for _, key := range going {
			errs = append(errs, key.Delete())
		}
		gone <- errors.Join(errs...)
	}()
	for done := false; !done; {
		select {
		case err := <-gone:
			check(t, err)
			done = true
		default:
		}
		if names, err := k.List(t.Context()); err != nil || !slices.Contains(names, "stays") {
			t.Errorf("%q, %v", names, err)
		}
	}
}

func TestAWrongTokenOrModuleIsNamed(t *testing.T) {
	t.Parallel()
	_, err := openToken(module, "nobody", "imprint-", userPIN)
	wantError(t, err, `opening the token "nobody"`)
	_, err = openToken("/nowhere.so", "unit", "imprint-", userPIN)
	wantError(t, err, "/nowhere.so")
}

func TestThePINComesFromWhereOthersCannotRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pin")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, err := readPIN("")
	wantError(t, err, "there is none")
	t.Setenv(pinVariable, "from-env")
	if pin, err := readPIN(""); err != nil || pin != "from-env" || os.Getenv(pinVariable) != "" {
		t.Errorf("%q, %v, and %q is left", pin, err, os.Getenv(pinVariable))
	}
	check(t, os.WriteFile(file, []byte("from-file\n"), 0o644))
	_, err = readPIN(file)
	wantError(t, err, "chmod 600 "+file)
	check(t, os.Chmod(file, 0o600))
	if pin, err := readPIN(file); err != nil || pin != "from-file" {
		t.Errorf("%q, %v", pin, err)
	}
	check(t, os.WriteFile(file, []byte("two\nlines\n"), 0o600))
	_, err = readPIN(file)
	wantError(t, err, "one line")
	check(t, os.WriteFile(filepath.Join(dir, pinCredential), []byte("from-systemd"), 0o440))
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if pin, err := readPIN(file); err != nil || pin != "from-systemd" {
		t.Errorf("%q, %v", pin, err)
	}
	if !errors.Is(errors.Join(err, errPIN), errPIN) {
		t.Error("the error is not about the PIN")
	}
}

func TestTheSocketIsItsOwnersAlone(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	l, err := listen(path)
	check(t, err)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_, err = listen(path)
	wantError(t, err, "another helper listens")
	l.SetUnlinkOnClose(false) // what SIGKILL leaves
	check(t, l.Close())
	l, err = listen(path)
	check(t, err)
	check(t, l.Close())
	file := filepath.Join(dir, "f")
	check(t, os.WriteFile(file, nil, 0o600))
	_, err = listen(file)
	wantError(t, err, "no socket")
	_, err = listen("")
	wantError(t, err, "--socket")
}

func TestSystemdHandsOverTheSocket(t *testing.T) {
	dir := shortDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	check(t, err)
	f, err := l.File()
	check(t, err)
	// The helper begins with the socket as descriptor 3 and its own process id in LISTEN_PID, as sd_listen_fds(3) says.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve --module "$1" --token unit --prefix sd-`, filepath.Join(bin, "imprint-pkcs11"), module)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", pinVariable+"="+userPIN)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	keys, about, err := keyhelper.Dial(t.Context(), keyhelper.Config{Socket: filepath.Join(dir, "s")})
	check(t, err)
	if about == "" {
		t.Error("the helper says nothing about itself")
	}
	check(t, errors.Join(keys.Close(), f.Close(), l.Close()))
}

// BenchmarkSign is what a signature costs as the server sees it: through the socket, in SoftHSM.
func BenchmarkSign(b *testing.B) {
	k, err := openToken(module, "unit", "bench-"+fleet.RandomString(6, fleet.AlphaLowerDigit), userPIN)
	check(b, err)
	defer k.Close()
	l, err := listen(filepath.Join(shortDir(b), "s"))
	check(b, err)
	go func() {
		_ = keyhelper.Serve(b.Context(), l, keyhelper.ServeConfig{Token: k, Client: os.Geteuid(), Log: slog.New(slog.DiscardHandler)})
	}()
	keys, _, err := keyhelper.Dial(b.Context(), keyhelper.Config{Socket: l.Addr().String()})
	check(b, err)
	digest := sha256.Sum256([]byte("x"))
	for _, kind := range []pki.KeyType{pki.P256, pki.RSA2048} {
		key, err := keys.Create(b.Context(), strings.ToLower(string(kind)), kind)
		check(b, err)
		file, err := pki.GenerateKey(kind)
		check(b, err)
		for where, key := range map[string]crypto.Signer{"helper": key, "here": file} {
			b.Run(string(kind)+"/"+where, func(b *testing.B) {
				for b.Loop() {
					if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
