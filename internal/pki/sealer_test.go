package pki

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func testKey(n byte) (k [KeySize]byte) {
	copy(k[:], bytes.Repeat([]byte{n, ^n}, KeySize/2))
	return k
}

func TestSealedTextOpensOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	s := NewSealer(testKey(1))
	sealed := s.Seal("token", []byte("secret"), []byte("row 7"))
	if len(sealed) != len("secret")+SealOverhead {
		t.Errorf("sealed text has %d bytes", len(sealed))
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("the sealed text shows the secret")
	}
	plain, err := s.Open("token", sealed, []byte("row 7"))
	if err != nil || string(plain) != "secret" {
		t.Fatalf("Open = %q, %v", plain, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"another purpose":      func() ([]byte, error) { return s.Open("key", sealed, []byte("row 7")) },
		"other bound data":     func() ([]byte, error) { return s.Open("token", sealed, []byte("row 8")) },
		"a border moved":       func() ([]byte, error) { return s.Open("tokenr", sealed, []byte("ow 7")) },
		"another key":          func() ([]byte, error) { return NewSealer(testKey(2)).Open("token", sealed, []byte("row 7")) },
		"nothing":              func() ([]byte, error) { return s.Open("token", nil, []byte("row 7")) },
		"a cut text":           func() ([]byte, error) { return s.Open("token", sealed[:len(sealed)-1], []byte("row 7")) },
		"less than the header": func() ([]byte, error) { return s.Open("token", sealed[:SealOverhead-1], []byte("row 7")) },
	} {
		if plain, err := open(); err == nil || plain != nil {
			t.Errorf("%s: Open = %q, %v", name, plain, err)
		}
	}
}

func TestEveryByteOfASealedTextCounts(t *testing.T) {
	t.Parallel()
	s := NewSealer(testKey(1))
	sealed := s.Seal("token", []byte("secret"), nil)
	for i := range sealed {
		changed := slices.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open("token", changed, nil); err == nil {
			t.Errorf("a change of byte %d goes unnoticed", i)
		}
	}
}

func TestOlderKeysOpenAndTheCurrentOneSeals(t *testing.T) {
	t.Parallel()
	before := NewSealer(testKey(1))
	sealed := before.Seal("token", []byte("secret"), nil)
	after := NewSealer(testKey(2), testKey(1))
	if plain, err := after.Open("token", sealed, nil); err != nil || string(plain) != "secret" {
		t.Fatalf("Open = %q, %v", plain, err)
	}
	if before.Stale(sealed) || !after.Stale(sealed) {
		t.Error("Stale must be true under the new key only")
	}
	again := after.Seal("token", []byte("secret"), nil)
	if after.Stale(again) {
		t.Error("sealed again, the text is still stale")
	}
	_, err := before.Open("token", again, nil)
	if err == nil || !strings.Contains(err.Error(), "master key "+keyIDOf(testKey(2)).String()) {
		t.Errorf("the error does not name the missing key: %v", err)
	}
}

func TestSealingTwiceGivesDifferentTexts(t *testing.T) {
	t.Parallel()
	s := NewSealer(testKey(1))
	if bytes.Equal(s.Seal("token", []byte("x"), nil), s.Seal("token", []byte("x"), nil)) {
		t.Error("nonces repeat")
	}
}

// An embedded client keeps 512 characters for an ownership token (clients.md).
func TestATokenFitsAnEmbeddedClient(t *testing.T) {
	t.Parallel()
	payload := bytes.Repeat([]byte("x"), 300)
	if n := len(fmt.Sprintf("%x", NewSealer(testKey(1)).Seal("t", payload, nil))) / 2 * 4 / 3; n > 512 {
		t.Errorf("a payload of 300 bytes becomes %d characters", n)
	}
}

func FuzzSealerOpen(f *testing.F) {
	s := NewSealer(testKey(1))
	f.Add(s.Seal("token", []byte("secret"), nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := s.Open("other", sealed, nil)
		if err == nil {
			t.Fatalf("%x opens as %q", sealed, plain)
		}
		if fleet.KindOf(err) != fleet.KindInternal {
			t.Fatalf("%v would be shown to clients", err)
		}
	})
}
