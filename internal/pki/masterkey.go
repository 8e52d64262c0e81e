package pki

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// MasterKeyConfig says where the master key may come from. LoadMasterKey takes the first that applies, in the order of the
// fields below Dir; the last resort is a file in Dir.
type MasterKeyConfig struct {
	Dir            string // data folder
	CredentialsDir string // systemd's $CREDENTIALS_DIRECTORY; applies if it holds a file "imprint-master-key"
	File           string // key file, for example a mounted secret
	Command        string // run by /bin/sh; prints the key
}

// Source is where the master key came from.
type Source string

const (
	SourceCredential Source = "systemd credential"
	SourceFile       Source = "key file"
	SourceCommand    Source = "command"
	SourceDataFolder Source = "data folder"
)

// A MasterKey is the key that seals every recoverable secret, with the older keys that still open.
type MasterKey struct {
	Source Source
	From   string // path of the file, or the command

	mu     sync.Mutex
	keys   [][KeySize]byte // the first one seals
	sealer *Sealer
}

// MasterKeyFile is the master key's file in a data folder, if it isn't elsewhere.
const MasterKeyFile = "master.key"

const (
	credentialName  = "imprint-master-key"
	maxMasterKey    = 16 << 10 // bytes of a key file
	commandDeadline = 30 * time.Second
)

// LoadMasterKey finds the master key: systemd credential, key file, command, else the data folder's own file, which is made
// at first start. A source that is configured but unusable is an error, never a reason to take the next one: the secrets
// sealed under it would be lost.
func LoadMasterKey(ctx context.Context, c MasterKeyConfig) (*MasterKey, error) {
	if c.CredentialsDir != "" {
		// The manager protects this folder; credentials may show group bits that stand for an ACL, so modes say nothing.
		path := filepath.Join(c.CredentialsDir, credentialName)
		text, err := readBounded(path, maxMasterKey)
		if err == nil {
			return newMasterKey(SourceCredential, path, text)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("master key from systemd: %w", err)
		}
	}
	if c.File != "" {
		if err := checkMode(c.File, true); err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		text, err := readBounded(c.File, maxMasterKey)
		if err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		return newMasterKey(SourceFile, c.File, text)
	}
	if c.Command != "" {
		text, err := runForKey(ctx, c.Command)
		if err != nil {
			return nil, fmt.Errorf("master key command %q: %w", c.Command, err)
		}
		return newMasterKey(SourceCommand, c.Command, text)
	}
	return masterKeyInFolder(c.Dir)
}

// masterKeyInFolder reads the data folder's own key file. It makes one only in a folder without an authority: beside keys
// that were sealed before, a new master key would hide that the right one is missing.
func masterKeyInFolder(dir string) (*MasterKey, error) {
	path := filepath.Join(dir, MasterKeyFile)
	text, err := readBounded(path, maxMasterKey)
	if errors.Is(err, fs.ErrNotExist) {
		if sealed := sealedKeysIn(dir); sealed != "" {
			return nil, fmt.Errorf("the master key %s is missing but %s was sealed under it: put the file back from a backup, or name the key's source as at earlier starts", path, sealed)
		}
		if err := createMasterKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("making the master key: %w", err)
		}
		text, err = readBounded(path, maxMasterKey)
	}
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	if err := checkMode(path, false); err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return newMasterKey(SourceDataFolder, path, text)
}

// sealedKeysIn returns a file under dir that was sealed under a master key, or "". There is one from the first start on: the
// keys of the server's own certificates are files wherever those of the authority are.
func sealedKeysIn(dir string) string {
	found, err := filepath.Glob(filepath.Join(dir, KeysDir, "*"+keySuffix))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0]
}

func createMasterKey(path string) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	text := masterKeyHeader + NewMasterKeyText().Reveal() + "\n"
	return createFile(path, []byte(text), 0o600)
}

// NewMasterKeyText returns the text of a fresh key for a key file.
func NewMasterKeyText() fleet.Secret {
	var k [KeySize]byte
	rand.Read(k[:]) // never fails: crypto/rand aborts the program instead
	return fleet.Secret(base64.StdEncoding.EncodeToString(k[:]))
}

// newMasterKey parses the text of a key source: one key a line, in base64 or hex, with empty lines and lines that begin
// with # left out. The first key seals; all of them open.
func newMasterKey(src Source, from string, text []byte) (*MasterKey, error) {
	m := &MasterKey{Source: src, From: from}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		k, ok := parseKey(line)
		if !ok {
			return nil, fmt.Errorf("master key from %s %s: line %d is not a key of 32 bytes in base64 (44 characters) or hex (64); openssl rand -base64 32 makes one", src, from, n)
		}
		m.keys = append(m.keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("master key from %s %s: %w", src, from, err)
	}
	if len(m.keys) == 0 {
		return nil, fmt.Errorf("master key from %s %s: there is no key in it; openssl rand -base64 32 makes one", src, from)
	}
	m.sealer = NewSealer(m.keys[0], m.keys[1:]...)
	return m, nil
}

func parseKey(s string) (k [KeySize]byte, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if len(s) == hex.EncodedLen(KeySize) {
		b, err = hex.DecodeString(s)
	}
	if err != nil || len(b) != KeySize {
		return k, false
	}
	copy(k[:], b)
	// A key of one repeated byte is a placeholder that somebody forgot to replace.
	return k, bytes.Count(b, b[:1]) < KeySize
}

// runForKey runs a command of the operator and returns what it prints.
func runForKey(ctx context.Context, command string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandDeadline)
	defer cancel()
	var out, complaint bounded
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &complaint, time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", commandDeadline)
		}
		if text := strings.TrimSpace(string(complaint)); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, err
	}
	return out, nil
}

// bounded keeps the first maxMasterKey bytes written to it.
type bounded []byte

func (b *bounded) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), maxMasterKey-len(*b))]...)
	return len(p), nil
}

// Sealer returns the key's Sealer, the same one for everybody: it follows changes of the key.
func (m *MasterKey) Sealer() *Sealer { return m.sealer }

// Meaning says in a sentence what the key's source means for whoever runs the service, and that a change of it is not finished.
func (m *MasterKey) Meaning() string {
	text := m.source()
	if m.Older() > 0 {
		text += " An older key opens too: imprint rekey --finish takes it out."
	}
	return text
}

func (m *MasterKey) source() string {
	switch m.Source {
	case SourceDataFolder:
		return fmt.Sprintf("The master key lies beside the data in %s: whoever copies the data folder can read every secret in it. Use a systemd credential, --master-key-file or a command to keep it apart.", m.From)
	case SourceCommand:
		return "The master key came from a command; a copy of the data folder alone reveals no secrets. The service cannot start when the command fails."
	default:
		return fmt.Sprintf("The master key came from %s (%s); a copy of the data folder alone reveals no secrets. Without this key they are lost: keep a copy of it.", m.From, m.Source)
	}
}
