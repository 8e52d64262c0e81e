package pki

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestANewMasterKeySealsWhileTheOldOneStillOpens(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "secrets")
	path := write(t, filepath.Join(elsewhere, "key"), "# mine\n"+NewMasterKeyText().Reveal()+"\n", 0o440)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	c := MasterKeyConfig{File: link}
	m := load(t, c)
	s, first := m.Sealer(), m.ID()
	old := s.Seal("p", []byte("x"), nil)
	if err := m.AddKey(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.Meaning(), "imprint rekey --finish") {
		t.Errorf("the meaning is %q", m.Meaning())
	}
	if m.Older() != 1 || m.ID() == first || !s.Stale(old) {
		t.Errorf("%d older keys; the key is %s, was %s", m.Older(), m.ID(), first)
	}
	again, err := s.Reseal("p", old, nil)
	if err != nil || s.Stale(again) {
		t.Fatalf("Reseal: %v", err)
	}
	if same, err := s.Reseal("p", again, nil); same != nil || err != nil {
		t.Errorf("Reseal of what is under the new key: %v, %v", same, err)
	}
	if _, err := s.Reseal("other", old, nil); err == nil {
		t.Error("Reseal for another purpose")
	}
	next := load(t, c) // a new start reads the same two
	for name, sealed := range map[string][]byte{"old": old, "new": again} {
		if _, err := next.Sealer().Open("p", sealed, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := next.DropOlder(); err != nil {
		t.Fatal(err)
	}
	if _, err := next.Sealer().Open("p", old, nil); err == nil {
		t.Error("the old key still opens")
	}
	if last := load(t, c); last.Older() != 0 || last.ID() != m.ID() {
		t.Errorf("%d older keys are left, the key is %s; want %s", last.Older(), last.ID(), m.ID())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o440 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
}

func TestAKeyFileThatSomebodyChangedIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := load(t, MasterKeyConfig{Dir: dir})
	other := "# by hand\n" + NewMasterKeyText().Reveal() + "\n"
	write(t, m.From, other, 0o600)
	if err := m.AddKey(); err == nil || !strings.Contains(err.Error(), "was changed since it was read") {
		t.Errorf("AddKey: %v", err)
	}
	if text, err := os.ReadFile(m.From); err != nil || string(text) != other || m.Older() != 0 {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if err := os.Remove(m.From); err != nil {
		t.Fatal(err)
	}
	if err := m.AddKey(); err == nil {
		t.Error("a key was added to a file that is gone")
	}
}
