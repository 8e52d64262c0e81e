package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
)

// KeyType is an algorithm with its size.
type KeyType string

const (
	P256    KeyType = "P-256"
	P384    KeyType = "P-384" // for devices; no key of ours
	RSA2048 KeyType = "RSA-2048"
)

// GenerateKey makes a key. RSA-2048 costs about 60 ms of CPU; see KeyPool for keys that are wanted at once.
func GenerateKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("key type %q is none of %s, %s and %s", t, P256, P384, RSA2048)
}

// typeOf returns the type of a public key, "" if it is none of ours.
func typeOf(pub crypto.PublicKey) KeyType {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return P256
		}
	case *rsa.PublicKey:
		if k.N.BitLen() == 2048 {
			return RSA2048
		}
	}
	return ""
}

// A KeyStore keeps the authority's signing keys by name. Names are as ValidKeyName says. All methods may be called concurrently,
// and so may Sign of the signers. Nothing here takes a key away: that is for a LeafStore. Package keystoretest says the same as
// a test that every store passes.
type KeyStore interface {
	// Signer opens a key. The error is an fs.ErrNotExist if there is none of that name.
	Signer(ctx context.Context, name string) (crypto.Signer, error)
	// Create makes a key; it is durable when Create returns. The error is an fs.ErrExist if the name is taken.
	Create(ctx context.Context, name string, t KeyType) (crypto.Signer, error)
}

// A LeafStore keeps keys that may be replaced at any time: those of the server's own certificates.
type LeafStore interface {
	// Signer opens a key. The error is an fs.ErrNotExist if there is none of that name.
	Signer(ctx context.Context, name string) (crypto.Signer, error)
	// Replace makes a key in place of the one of that name, if there is one.
	Replace(ctx context.Context, name string, t KeyType) (crypto.Signer, error)
}

var (
	_ KeyStore  = (*FileKeys)(nil)
	_ LeafStore = (*FileKeys)(nil)
	_ KeyStore  = (*MemoryKeys)(nil)
	_ LeafStore = (*MemoryKeys)(nil)
	_ KeyStore  = Succession{}
)

// ValidKeyName reports whether a key may have that name: 1 to 64 characters of a-z, 0-9 and hyphen.
func ValidKeyName(name string) bool { return len(name) <= 64 && consistsOf(name, lettersAndDigits+"-") }

const lettersAndDigits = "abcdefghijklmnopqrstuvwxyz0123456789"

// consistsOf reports whether a text is not empty and has no other characters than these.
func consistsOf(text, characters string) bool {
	return text != "" && strings.Trim(text, characters) == ""
}

func badName(name string) error {
	return fmt.Errorf("key name %q: 1 to 64 characters of a-z, 0-9 and hyphen", name)
}

const (
	keySuffix  = ".key"
	keyPEM     = "IMPRINT SEALED PRIVATE KEY"
	keyPurpose = "signing key"
	maxKeyFile = 16 << 10 // bytes
)

// FileKeys keeps each key in a file of its own: PKCS#8, sealed under the master key and bound to its name, mode 0600.
type FileKeys struct {
	dir    string
	sealer *Sealer
	mu     sync.Mutex // writes
}

// NewFileKeys returns the store of the keys in dir, which is made if it does not exist.
func NewFileKeys(dir string, s *Sealer) (*FileKeys, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("key folder: %w", err)
	}
	return &FileKeys{dir: dir, sealer: s}, nil
}

func (f *FileKeys) path(name string) (string, error) {
	if !ValidKeyName(name) {
		return "", badName(name)
	}
	return filepath.Join(f.dir, name+keySuffix), nil
}

func (f *FileKeys) Signer(_ context.Context, name string) (crypto.Signer, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, err
	}
	text, err := readBounded(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if err := checkMode(path, false); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyPEM {
		return nil, fmt.Errorf("signing key %s: the file is damaged: put it back from a backup", path)
	}
	der, err := f.sealer.Open(keyPurpose, block.Bytes, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: give the master key of the earlier starts", path, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	clear(der)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, fmt.Errorf("signing key %s: holds no private key", path)
	}
	return signer, nil
}

// Check opens every key that there is.
func (f *FileKeys) Check(ctx context.Context) error {
	paths, err := filepath.Glob(filepath.Join(f.dir, "*"+keySuffix))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if _, err := f.Signer(ctx, strings.TrimSuffix(filepath.Base(path), keySuffix)); err != nil {
			return err
		}
	}
	return nil
}

func (f *FileKeys) Create(_ context.Context, name string, t KeyType) (crypto.Signer, error) {
	return f.put(name, t, createFile)
}

func (f *FileKeys) Replace(_ context.Context, name string, t KeyType) (crypto.Signer, error) {
	return f.put(name, t, writeFile)
}

func (f *FileKeys) put(name string, t KeyType, write func(string, []byte, fs.FileMode) error) (crypto.Signer, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, err
	}
	key, err := GenerateKey(t)
	if err != nil {
		return nil, err
	}
	if err := f.keep(path, name, key, write); err != nil {
		return nil, err
	}
	return key, nil
}

// keep seals a key and writes it.
func (f *FileKeys) keep(path, name string, key crypto.Signer, write func(string, []byte, fs.FileMode) error) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	f.mu.Lock() // from sealing to writing: a change of the master key must see one or neither
	defer f.mu.Unlock()
	sealed := pem.EncodeToMemory(&pem.Block{Type: keyPEM, Bytes: f.sealer.Seal(keyPurpose, der, []byte(name))})
	clear(der)
	if err := write(path, sealed, 0o600); err != nil {
		return fmt.Errorf("keeping signing key: %w", err)
	}
	return nil
}

// MemoryKeys is a KeyStore that forgets everything at the end: for tests and trials.
type MemoryKeys struct {
	mu   sync.Mutex
	keys map[string]crypto.Signer
}

// NewMemoryKeys returns an empty store.
func NewMemoryKeys() *MemoryKeys { return &MemoryKeys{keys: map[string]crypto.Signer{}} }

func (m *MemoryKeys) Signer(_ context.Context, name string) (crypto.Signer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.keys[name]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("signing key %q: %w", name, fs.ErrNotExist)
}

func (m *MemoryKeys) Create(_ context.Context, name string, t KeyType) (crypto.Signer, error) {
	return m.put(name, t, false)
}

func (m *MemoryKeys) Replace(_ context.Context, name string, t KeyType) (crypto.Signer, error) {
	return m.put(name, t, true)
}

func (m *MemoryKeys) put(name string, t KeyType, replace bool) (crypto.Signer, error) {
	if !ValidKeyName(name) {
		return nil, badName(name)
	}
	key, err := GenerateKey(t)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[name] != nil && !replace {
		return nil, fmt.Errorf("signing key %q: %w", name, fs.ErrExist)
	}
	m.keys[name] = key
	return key, nil
}

// Succession makes keys in New and still opens those of Old: so an installation moves to another store, rotation by rotation.
type Succession struct{ New, Old KeyStore }

func (s Succession) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	key, err := s.New.Signer(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return s.Old.Signer(ctx, name)
	}
	return key, err
}

// Create makes a key in New. A name that Old has is taken.
func (s Succession) Create(ctx context.Context, name string, t KeyType) (crypto.Signer, error) {
	switch _, err := s.Old.Signer(ctx, name); {
	case err == nil:
		return nil, fmt.Errorf("signing key %q: %w", name, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return s.New.Create(ctx, name, t)
}
