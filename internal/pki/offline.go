package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Keys of roots are needed only to make issuers. ExportRoots gives them out, ForgetRoots removes them once a copy is safe, and
// RestoreRoots puts them back; RotateIssuers takes them for one time.

const privateKeyPEM = "PRIVATE KEY"

// A remover is a KeyStore that can forget a key and put one back.
type remover interface {
	KeyStore
	Remove(ctx context.Context, name string) error
	Put(ctx context.Context, name string, key crypto.Signer) error
}

// removable returns the store whose keys may come and go, nil if there is none. A key helper's keys never leave it.
func (a *Authority) removable() remover {
	keys := a.cfg.Keys
	if s, ok := keys.(Succession); ok {
		keys = s.Old
	}
	store, _ := keys.(remover)
	return store
}

var errNoRemoval = errors.New("the key store gives no key out and takes none in: keep what holds the keys offline itself")

// ExportRoots returns the keys of all roots, former and next ones too, that are in the key store: PKCS#8 in PEM, each after a
// line that says which it is. It fails if there is none.
func (a *Authority) ExportRoots(ctx context.Context) (fleet.Secret, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	store := a.removable()
	if store == nil {
		return "", errNoRemoval
	}
	roots, err := a.rootsIn(ctx, store)
	if err != nil {
		return "", err
	}
	if len(roots) == 0 {
		return "", errors.New("no key of a root is in the data folder: they were taken offline before, or are in the key helper, which gives none out")
	}
	var b bytes.Buffer
	for _, c := range roots {
		der, err := x509.MarshalPKCS8PrivateKey(c.signer)
		if err != nil {
			return "", fmt.Errorf("the key of %s cannot leave its store: %w", c.key, err)
		}
		fmt.Fprintf(&b, "%s: %s\n", c.key, c.cert.Subject)
		b.Write(pem.EncodeToMemory(&pem.Block{Type: privateKeyPEM, Bytes: der}))
		clear(der)
	}
	return fleet.Secret(b.String()), nil
}

// rootsIn returns copies of the roots whose keys are in a store, with their signers.
func (a *Authority) rootsIn(ctx context.Context, store KeyStore) (list []*ca, err error) {
	for _, c := range a.all() {
		if !c.isRoot() {
			continue
		}
		here := *c
		here.signer = nil
		err := here.open(ctx, store)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, &here)
	}
	return list, nil
}

// ReadRoots reads what ExportRoots returned.
func ReadRoots(text fleet.Secret) (keys []crypto.Signer, err error) {
	rest := []byte(text.Reveal())
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != privateKeyPEM {
			return nil, fmt.Errorf("the file of the roots' keys holds a %q: it is not what imprint ca take-offline wrote", block.Type)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		clear(block.Bytes)
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, errors.New("the file of the roots' keys is damaged")
		}
		keys = append(keys, signer)
	}
	if len(keys) == 0 {
		return nil, errors.New("the file of the roots' keys holds no key: it is not what imprint ca take-offline wrote, or is damaged")
	}
	return keys, nil
}

// ForgetRoots removes the keys of the roots from the key store. copied is proof that a copy exists: the private key of each
// must be in it. It returns the names of those that it removed.
func (a *Authority) ForgetRoots(ctx context.Context, copied []crypto.Signer) (names []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	store := a.removable()
	if store == nil {
		return nil, errNoRemoval
	}
	roots, err := a.rootsIn(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, c := range roots {
		if find(copied, c) == nil {
			return nil, fmt.Errorf("the copy lacks the key of %s: nothing was removed", c.key)
		}
	}
	for _, c := range roots {
		if err := store.Remove(ctx, c.key); err != nil {
			return names, err
		}
		names = append(names, c.key)
	}
	closeRoots(a.all())
	return names, nil
}

// RestoreRoots puts keys of roots back into the key store and returns their names.
func (a *Authority) RestoreRoots(ctx context.Context, keys []crypto.Signer) (names []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	store := a.removable()
	if store == nil {
		return nil, errNoRemoval
	}
	var found int
	for _, c := range a.all() {
		key := find(keys, c)
		if key == nil || !c.isRoot() {
			continue
		}
		found++
		err := store.Put(ctx, c.key, key)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return names, err
		}
		names = append(names, c.key)
	}
	if found == 0 {
		return nil, errForeignRoots
	}
	return names, nil
}

var errForeignRoots = errors.New("none of these keys belongs to a root of this installation: the file is another one's")

// find returns the key of a CA, nil if it is not among keys.
func find(keys []crypto.Signer, c *ca) crypto.Signer {
	for _, k := range keys {
		if samePublicKey(k.Public(), c.cert.PublicKey) {
			return k
		}
	}
	return nil
}

// Remove deletes a key, durably.
func (f *FileKeys) Remove(_ context.Context, name string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing signing key: %w", err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("removing signing key: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// Put keeps a key that was made elsewhere. The error is an fs.ErrExist if the name is taken.
func (f *FileKeys) Put(_ context.Context, name string, key crypto.Signer) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	return f.keep(path, name, key, createFile)
}

// Remove forgets a key.
func (m *MemoryKeys) Remove(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, name)
	return nil
}

// Put keeps a key that was made elsewhere.
func (m *MemoryKeys) Put(_ context.Context, name string, key crypto.Signer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[name] != nil {
		return fmt.Errorf("signing key %q: %w", name, fs.ErrExist)
	}
	m.keys[name] = key
	return nil
}
