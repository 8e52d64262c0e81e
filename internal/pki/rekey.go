package pki

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A change of the master key takes two steps. AddKey puts a new key before the old one in the key file: the new one seals, both
// open. When everything that lasts has been sealed again (FileKeys.Reseal and its like for the store), DropOlder takes the old
// one out. At whatever point the power fails between, the file holds each key that something is sealed under.

// ID names the key that seals. It is no secret.
func (m *MasterKey) ID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return keyIDOf(m.keys[0]).String()
}

// Older returns how many older keys still open.
func (m *MasterKey) Older() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.keys) - 1
}

// InFile reports whether the key comes from a file, so that AddKey and DropOlder can change it.
func (m *MasterKey) InFile() bool { return m.Source == SourceFile || m.Source == SourceDataFolder }

// AddKey makes a new key and seals with it from now on. It is durable before anything is sealed under it. A key that comes from
// a command or from systemd cannot be changed here: the error says what to do.
func (m *MasterKey) AddKey() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, _ := parseKey(NewMasterKeyText().Reveal())
	return m.write(append([][KeySize]byte{key}, m.keys...))
}

// DropOlder removes all keys but the current one: whatever is still sealed under an older one is lost.
func (m *MasterKey) DropOlder() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.keys) == 1 {
		return nil
	}
	return m.write(m.keys[:1:1])
}

// write replaces the keys in the file and then in the Sealer.
func (m *MasterKey) write(keys [][KeySize]byte) error {
	if !m.InFile() {
		return fmt.Errorf("the master key comes from a %s (%s), which only you can change: put a new key (openssl rand -base64 32) on a line before the old one and start the server again, then run imprint rekey; when imprint rekey --finish says so, take the old line out", m.Source, m.From)
	}
	path, err := filepath.EvalSymlinks(m.From)
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	if err := m.unchanged(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	if err := writeFile(path, keyFileText(keys), info.Mode().Perm()); err != nil {
		return fmt.Errorf("writing the master key (its folder must be writable): %w", err)
	}
	m.keys = keys
	m.sealer.use(keys)
	return nil
}

// unchanged refuses to overwrite a file that somebody changed since it was read: their key would be lost.
func (m *MasterKey) unchanged(path string) error {
	text, err := readBounded(path, maxMasterKey)
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	now, err := newMasterKey(m.Source, m.From, text)
	if err != nil {
		return err
	}
	same := len(now.keys) == len(m.keys)
	for i := 0; same && i < len(m.keys); i++ {
		same = now.keys[i] == m.keys[i]
	}
	if !same {
		return fmt.Errorf("the master key in %s was changed since it was read: start the server again first", path)
	}
	return nil
}

const masterKeyHeader = "# Imprint master key: opens every secret of this data folder. Keep a copy apart from the backups of the folder.\n"

func keyFileText(keys [][KeySize]byte) []byte {
	var b bytes.Buffer
	b.WriteString(masterKeyHeader)
	for i, k := range keys {
		if i == 1 {
			b.WriteString("# Older, opens only: imprint rekey --finish removes it.\n")
		}
		b.WriteString(base64.StdEncoding.EncodeToString(k[:]) + "\n")
	}
	return b.Bytes()
}

// Reseal seals each key again that is sealed under an older master key, and returns how many it were. before is called before
// each write and may end it with an error.
func (f *FileKeys) Reseal(ctx context.Context, before func(what string) error) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	paths, err := filepath.Glob(filepath.Join(f.dir, "*"+keySuffix))
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		again, err := f.resealed(path)
		if err != nil {
			return n, err
		}
		if again == nil {
			continue
		}
		if err := before("signing key " + filepath.Base(path)); err != nil {
			return n, err
		}
		if err := writeFile(path, again, 0o600); err != nil {
			return n, fmt.Errorf("keeping signing key: %w", err)
		}
		n++
	}
	return n, nil
}

// resealed returns the new content of a key file, nil if it may stay.
func (f *FileKeys) resealed(path string) ([]byte, error) {
	text, err := readBounded(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) { // taken away meanwhile
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyPEM {
		return nil, fmt.Errorf("signing key %s: the file is damaged: put it back from a backup", path)
	}
	name := strings.TrimSuffix(filepath.Base(path), keySuffix)
	again, err := f.sealer.Reseal(keyPurpose, block.Bytes, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: give the master key of the earlier starts", path, err)
	}
	if again == nil {
		return nil, nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyPEM, Bytes: again}), nil
}
