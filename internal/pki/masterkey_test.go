package pki

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string, mode fs.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// sameKey reports whether two sources gave the same key.
func sameKey(t *testing.T, a, b *MasterKey) bool {
	t.Helper()
	_, err := b.Sealer().Open("test", a.Sealer().Seal("test", nil, nil), nil)
	return err == nil
}

func load(t *testing.T, c MasterKeyConfig) *MasterKey {
	t.Helper()
	m, err := LoadMasterKey(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheFirstStartMakesAMasterKeyForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data")
	first := load(t, MasterKeyConfig{Dir: dir})
	second := load(t, MasterKeyConfig{Dir: dir})
	if !sameKey(t, first, second) {
		t.Error("the second start has another key")
	}
	if first.Source != SourceDataFolder || first.From != filepath.Join(dir, "master.key") {
		t.Errorf("source is %s, %s", first.Source, first.From)
	}
	for path, want := range map[string]fs.FileMode{first.From: 0o600, dir: 0o700 | fs.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files remain: %v, %v", left, err)
	}
	if !strings.Contains(first.Meaning(), "whoever copies the data folder") {
		t.Errorf("Meaning does not warn: %s", first.Meaning())
	}
}

func TestSourcesOfTheMasterKeyComeInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := func() string { return NewMasterKeyText().Reveal() + "\n" }
	write(t, filepath.Join(dir, "master.key"), key(), 0o600)
	file := write(t, filepath.Join(dir, "file"), key(), 0o400)
	write(t, filepath.Join(dir, "cred", "imprint-master-key"), key(), 0o440)
	c := MasterKeyConfig{Dir: dir, File: file, CredentialsDir: filepath.Join(dir, "cred"), Command: "printf %s " + strings.TrimSpace(key())}

	for _, want := range []Source{SourceCredential, SourceFile, SourceCommand, SourceDataFolder} {
		m := load(t, c)
		if m.Source != want {
			t.Errorf("the key came from the %s; want %s", m.Source, want)
		}
		if m.Meaning() == "" {
			t.Errorf("nothing is said about %s", want)
		}
		switch want {
		case SourceCredential:
			c.CredentialsDir = filepath.Join(dir, "empty") // systemd gave other credentials only
		case SourceFile:
			c.File = ""
		case SourceCommand:
			c.Command = ""
		}
	}
}

func TestAKeyFileHoldsOneKeyALine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, current := NewMasterKeyText().Reveal(), NewMasterKeyText().Reveal()
	before := load(t, MasterKeyConfig{File: write(t, filepath.Join(dir, "old"), old, 0o600)})
	both := load(t, MasterKeyConfig{File: write(t, filepath.Join(dir, "both"), "# new key first\r\n\n"+current+"\r\n"+old+"\n", 0o600)})
	after := load(t, MasterKeyConfig{File: write(t, filepath.Join(dir, "new"), current, 0o600)})
	if !sameKey(t, before, both) || !sameKey(t, both, after) || sameKey(t, before, after) {
		t.Error("the first key must seal and every key open")
	}
	hexKey := strings.Repeat("0123456789abcdef", 4)
	load(t, MasterKeyConfig{File: write(t, filepath.Join(dir, "hex"), hexKey, 0o600)})
}

func TestAnUnusableMasterKeyIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := NewMasterKeyText().Reveal()
	file := func(name, text string, mode fs.FileMode) MasterKeyConfig {
		return MasterKeyConfig{Dir: dir, File: write(t, filepath.Join(dir, name), text, mode)}
	}
	own := filepath.Join(dir, "own")
	write(t, filepath.Join(own, "master.key"), good, 0o640)
	lost := filepath.Join(dir, "lost")
	write(t, filepath.Join(lost, KeysDir, "server-1.key"), "sealed", 0o600)
	cut := filepath.Join(dir, "cut")
	write(t, filepath.Join(cut, "master.key"), "", 0o600)

	for name, tc := range map[string]struct {
		config MasterKeyConfig
		want   string
	}{
		"a file that everybody reads":          {file("open", good, 0o644), "chmod 400"},
		"a file that the group writes":         {file("group", good, 0o660), "chmod 400"},
		"an own file that the group reads":     {MasterKeyConfig{Dir: own}, "chmod 600"},
		"an empty file":                        {file("empty", "\n# nothing\n", 0o600), "no key in it"},
		"an own file cut short":                {MasterKeyConfig{Dir: cut}, "no key in it"},
		"a short key":                          {file("short", good[:40], 0o600), "line 1 is not a key of 32 bytes"},
		"a password":                           {file("password", good+"\nhunter2\n", 0o600), "line 2 is not a key"},
		"a placeholder":                        {file("zeros", strings.Repeat("0", 64), 0o600), "not a key"},
		"a huge file":                          {file("huge", strings.Repeat("#\n", maxMasterKey), 0o600), "larger than"},
		"a file that is not there":             {MasterKeyConfig{Dir: dir, File: filepath.Join(dir, "none")}, "no such file"},
		"a folder":                             {MasterKeyConfig{Dir: dir, File: own}, "not a regular file"},
		"a command that fails":                 {MasterKeyConfig{Dir: dir, Command: "echo vault is sealed >&2; exit 3"}, "exit status 3: vault is sealed"},
		"a command that prints nothing":        {MasterKeyConfig{Dir: dir, Command: "true"}, "no key in it"},
		"a lost key beside keys of its making": {MasterKeyConfig{Dir: lost}, "is missing but"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := LoadMasterKey(t.Context(), tc.config)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("LoadMasterKey = %v, %v; want %q", m, err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), good[:10]) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(lost, "master.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a new key was made beside keys sealed under a lost one")
	}
}

func TestAnEndlessKeyCommandIsBounded(t *testing.T) {
	t.Parallel()
	_, err := LoadMasterKey(t.Context(), MasterKeyConfig{Command: "yes | head -c 1000000"})
	if err == nil || !strings.Contains(err.Error(), "not a key") {
		t.Errorf("LoadMasterKey: %v", err)
	}
}
