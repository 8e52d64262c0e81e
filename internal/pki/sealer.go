package pki

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the size of a master key in bytes.
const KeySize = chacha20poly1305.KeySize

// A Sealer encrypts and authenticates small secrets under a master key: signing keys, SRP verifiers, access-key secrets,
// ownership tokens. Each ciphertext names its key, so that older keys can still open while the current one seals.
//
// The cipher is XChaCha20-Poly1305: its random nonces of 24 bytes need no counting, however many tokens one key seals. A
// Sealer may be used concurrently, also while its master key is changed.
type Sealer struct{ ring atomic.Pointer[keyring] }

// A keyring is the keys of a Sealer at one time.
type keyring struct {
	current keyID
	keys    map[keyID]cipher.AEAD
}

// A keyID is four bytes derived from a master key. It is no secret.
type keyID [4]byte

func (id keyID) String() string { return hex.EncodeToString(id[:]) }

// A sealed text is: version (1 byte), key id (4), nonce (24), ciphertext, tag (16).
const (
	sealVersion  = 1
	sealHeader   = 1 + len(keyID{}) + chacha20poly1305.NonceSizeX
	SealOverhead = sealHeader + chacha20poly1305.Overhead // bytes that sealing adds
)

// errSealed is all that is said about a text that does not open: which of key, purpose, bound data or content is wrong
// cannot be told apart.
var errSealed = errors.New("does not open: it was sealed for something else, under another key, or was changed")

// NewSealer returns a Sealer that seals under current and opens what was sealed under current or any of older.
func NewSealer(current [KeySize]byte, older ...[KeySize]byte) *Sealer {
	s := &Sealer{}
	s.use(append([][KeySize]byte{current}, older...))
	return s
}

// use replaces the keys; the first one seals.
func (s *Sealer) use(keys [][KeySize]byte) {
	r := &keyring{current: keyIDOf(keys[0]), keys: make(map[keyID]cipher.AEAD, len(keys))}
	for _, k := range keys {
		aead, err := chacha20poly1305.NewX(k[:])
		if err != nil {
			panic(err) // the key's size is right by its type
		}
		r.keys[keyIDOf(k)] = aead
	}
	s.ring.Store(r)
}

func keyIDOf(key [KeySize]byte) (id keyID) {
	b, err := hkdf.Key(sha256.New, key[:], nil, "imprint master key id", len(id))
	if err != nil {
		panic(err) // only for lengths above 255 hashes
	}
	copy(id[:], b)
	return id
}

// Seal encrypts plaintext. purpose says what kind of secret it is ("ownership token", "access key"); aad binds it to its
// place, for example to the row that it is stored in. Open needs the same two.
func (s *Sealer) Seal(purpose string, plaintext, aad []byte) []byte {
	ring := s.ring.Load()
	out := make([]byte, sealHeader, SealOverhead+len(plaintext))
	out[0] = sealVersion
	copy(out[1:], ring.current[:])
	nonce := out[sealHeader-chacha20poly1305.NonceSizeX : sealHeader]
	rand.Read(nonce) // never fails: crypto/rand aborts the program instead
	return ring.keys[ring.current].Seal(out, nonce, plaintext, bound(out[:1+len(keyID{})], purpose, aad))
}

// Open decrypts what Seal returned for the same purpose and aad. The error says whether the key is missing or the text does
// not open; it holds nothing secret.
func (s *Sealer) Open(purpose string, sealed, aad []byte) ([]byte, error) {
	id, err := sealedUnder(sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", purpose, err)
	}
	ring := s.ring.Load()
	aead := ring.keys[id]
	if aead == nil {
		return nil, fmt.Errorf("%s: sealed under master key %s, which is not among those given (current: %s)", purpose, id, ring.current)
	}
	nonce := sealed[sealHeader-chacha20poly1305.NonceSizeX : sealHeader]
	plain, err := aead.Open(nil, nonce, sealed[sealHeader:], bound(sealed[:1+len(keyID{})], purpose, aad))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", purpose, errSealed)
	}
	return plain, nil
}

// Stale reports whether sealed was sealed under another key than the current one, so that a change of the master key should
// seal it again.
func (s *Sealer) Stale(sealed []byte) bool {
	id, err := sealedUnder(sealed)
	return err != nil || id != s.ring.Load().current
}

// Reseal returns what sealed holds, sealed under the current key; nil if that is the case already or there is nothing.
func (s *Sealer) Reseal(purpose string, sealed, aad []byte) ([]byte, error) {
	if len(sealed) == 0 || !s.Stale(sealed) {
		return nil, nil
	}
	plain, err := s.Open(purpose, sealed, aad)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return s.Seal(purpose, plain, aad), nil
}

func sealedUnder(sealed []byte) (id keyID, err error) {
	if len(sealed) < SealOverhead || sealed[0] != sealVersion {
		return id, errSealed
	}
	copy(id[:], sealed[1:])
	return id, nil
}

// bound is the additional data of the cipher. The length before the purpose keeps purpose and aad apart.
func bound(header []byte, purpose string, aad []byte) []byte {
	b := make([]byte, 0, len(header)+4+len(purpose)+len(aad))
	b = append(b, header...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(purpose)))
	b = append(b, purpose...)
	return append(b, aad...)
}
