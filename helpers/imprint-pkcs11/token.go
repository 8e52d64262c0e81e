package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/pki/keyhelper"
)

// A token has the keys whose labels begin with a prefix: key pairs by their name, and the secret keys of which master keys are made.
// Key pairs are made here, sign only, and cannot be read out; nothing here deletes one.
type token struct {
	ctx    *crypto11.Context
	prefix string
	about  string

	mu   sync.Mutex
	open map[string]crypto11.Signer
}

var _ keyhelper.Token = (*token)(nil)

const maxSessions = 32 // of the token that the helper uses; more than the server has requests

func openToken(module, label, prefix, pin string) (*token, error) {
	ctx, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: label, Pin: pin, MaxSessions: maxSessions})
	var refused pkcs11.Error
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused == pkcs11.CKR_PIN_LOCKED:
		return nil, fmt.Errorf("%w: the token %q is locked after too many wrong ones: its security officer can set a new one", errPIN, label)
	case errors.As(err, &refused) && (refused == pkcs11.CKR_PIN_INCORRECT || refused == pkcs11.CKR_PIN_LEN_RANGE || refused == pkcs11.CKR_PIN_INVALID):
		return nil, fmt.Errorf("%w: the token %q refuses it: correct it before you start again, since tokens lock after a few wrong ones", errPIN, label)
	default:
		return nil, fmt.Errorf("opening the token %q with %s (is the label right, and may this user use the token?): %w", label, module, err)
	}
	return &token{ctx: ctx, prefix: prefix, about: fmt.Sprintf("PKCS #11 token %q", label), open: map[string]crypto11.Signer{}}, nil
}

func (t *token) Close() error { return t.ctx.Close() }

func (t *token) About() string { return t.about }

// lost are the errors after which a session, or what was found in it, is of no use any more.
var lost = []pkcs11.Error{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED,
	pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
	pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID}

// told marks the errors that only another start of the helper mends.
func told(err error) error {
	var e pkcs11.Error
	if errors.As(err, &e) && slices.Contains(lost, e) {
		return fmt.Errorf("%w: %w", keyhelper.ErrTokenLost, err)
	}
	return err
}

func (t *token) label(name string) []byte { return []byte(t.prefix + name) }

func (t *token) Signer(_ context.Context, name string) (crypto.Signer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.find(name)
}

// find looks for a key pair. Callers hold mu.
func (t *token) find(name string) (crypto.Signer, error) {
	if !pki.ValidKeyName(name) {
		return nil, fmt.Errorf("key name %q: 1 to 64 characters of a-z, 0-9 and hyphen", name)
	}
	if key := t.open[name]; key != nil {
		return signer{key}, nil
	}
	keys, err := again(func() ([]crypto11.Signer, error) { return t.ctx.FindKeyPairs(nil, t.label(name)) })
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, fmt.Errorf("%q is not in the token: %w", t.label(name), fs.ErrNotExist)
	case len(keys) > 1:
		return nil, fmt.Errorf("%q is in the token %d times: delete those that do not belong to a certificate (imprint ca list)", t.label(name), len(keys))
	}
	t.open[name] = keys[0]
	return signer{keys[0]}, nil
}

// Create makes a key pair. Should another helper make the same one at the same time, at most one of them stays.
func (t *token) Create(_ context.Context, name string, kind pki.KeyType) (crypto.Signer, error) {
	if kind != pki.P256 && kind != pki.RSA2048 {
		return nil, fmt.Errorf("key type %q is neither %s nor %s", kind, pki.P256, pki.RSA2048)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch _, err := t.find(name); {
	case err == nil:
		return nil, fmt.Errorf("%q is in the token: %w", t.label(name), fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key, err := t.generate(name, kind)
	if err != nil {
		return nil, told(fmt.Errorf("making %q in the token: %w", t.label(name), err))
	}
	all, err := t.ctx.FindKeyPairs(nil, t.label(name))
	if err == nil && len(all) == 1 {
		err = t.checkSafe(key)
	} else if err == nil {
		err = fmt.Errorf("%q was made by another helper at the same time: %w", t.label(name), fs.ErrExist)
	}
	if err != nil {
		return nil, told(errors.Join(err, key.Delete()))
	}
	t.open[name] = key
	return signer{key}, nil
}

// generate makes a key pair that signs, and cannot be read, used otherwise or seen without the PIN.
func (t *token) generate(name string, kind pki.KeyType) (crypto11.Signer, error) {
	id := make([]byte, 16)
	rand.Read(id) // never fails
	public, err := crypto11.NewAttributeSetWithIDAndLabel(id, t.label(name))
	if err != nil {
		return nil, err
	}
	private := public.Copy()
	for attribute, value := range map[crypto11.AttributeType]bool{crypto11.CkaPrivate: true, crypto11.CkaSensitive: true,
		crypto11.CkaExtractable: false, crypto11.CkaSign: true, crypto11.CkaDecrypt: false} {
		if kind == pki.P256 && attribute == crypto11.CkaDecrypt {
			continue // not every token knows it of elliptic curves
		}
		if err := private.Set(attribute, value); err != nil {
			return nil, err
		}
	}
	if kind == pki.RSA2048 {
		if err := public.Set(crypto11.CkaEncrypt, false); err != nil {
			return nil, err
		}
		return t.ctx.GenerateRSAKeyPairWithAttributes(public, private, 2048)
	}
	return t.ctx.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P256())
}

// checkSafe refuses a key that a token made otherwise than it was told.
func (t *token) checkSafe(key crypto11.Signer) error {
	for attribute, want := range map[crypto11.AttributeType]byte{crypto11.CkaExtractable: 0, crypto11.CkaSensitive: 1} {
		got, err := t.ctx.GetAttribute(key, attribute)
		if err != nil {
			return err
		}
		if got == nil || len(got.Value) != 1 || got.Value[0] != want {
			return errors.New("the token made a key that can be read out: it is of no use here")
		}
	}
	return nil
}

// again looks once more when somebody has deleted what was found before all was asked of it: another helper, or an operator. That is no
// reason to think that the token is lost.
func again[T any](look func() (T, error)) (T, error) {
	const most = 20
	for tries := 1; ; tries++ {
		found, err := look()
		var e pkcs11.Error
		if tries == most || !errors.As(err, &e) || e != pkcs11.CKR_OBJECT_HANDLE_INVALID {
			return found, told(err)
		}
	}
}

// List returns the names of the key pairs.
func (t *token) List(context.Context) ([]string, error) { return again(t.names) }

func (t *token) names() ([]string, error) {
	keys, err := t.ctx.FindAllKeyPairs()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, key := range keys {
		label, err := t.ctx.GetAttribute(key, crypto11.CkaLabel)
		if err != nil {
			return nil, err
		}
		if name, ours := strings.CutPrefix(string(label.Value), t.prefix); ours && pki.ValidKeyName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// A signer passes on what a token says of itself.
type signer struct{ crypto11.Signer }

func (s signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if want := opts.HashFunc().Size(); len(digest) != want { // not every token looks
		return nil, fmt.Errorf("a digest has %d bytes, not %d", want, len(digest))
	}
	signature, err := s.Signer.Sign(random, digest, opts)
	return signature, told(err)
}

// Master keys are HMAC-SHA-256 of a text, under secret keys that stay in the token: nothing has to be kept beside it.
const (
	masterPrefix = "master-"
	masterText   = "imprint master key"
	masterBits   = 256
)

// A master is a secret key, and its number in its label: the highest is the newest.
type master struct {
	number int
	key    *crypto11.SecretKey
}

// masters returns the secret keys, the newest first.
func (t *token) masters() ([]master, error) { return again(t.secrets) }

func (t *token) secrets() (list []master, err error) {
	keys, err := t.ctx.FindAllKeys()
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		label, err := t.ctx.GetAttribute(key, crypto11.CkaLabel)
		if err != nil {
			return nil, err
		}
		text, ours := bytes.CutPrefix(label.Value, t.label(masterPrefix))
		if n, err := strconv.Atoi(string(text)); ours && err == nil && n > 0 {
			list = append(list, master{n, key})
		}
	}
	slices.SortFunc(list, func(a, b master) int { return cmp.Compare(b.number, a.number) })
	return list, nil
}

// MasterKeys derives the master keys. A token without any is an error: another one would have been put in its place.
func (t *token) MasterKeys(context.Context) ([]fleet.Secret, error) {
	list, err := t.masters()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there is no master key in the token (label %s1): imprint-pkcs11 new-master-key makes the first", t.label(masterPrefix))
	}
	var out []fleet.Secret
	for _, m := range list {
		key, err := m.derive()
		if err != nil {
			return nil, told(fmt.Errorf("deriving the master key %d: %w", m.number, err))
		}
		out = append(out, fleet.Secret(base64.StdEncoding.EncodeToString(key)))
	}
	return out, nil
}

// derive returns the 32 bytes of a master key.
func (m master) derive() (key []byte, err error) {
	defer func() { // Sum has no other way to say that the token failed
		if failed, ok := recover().(error); ok {
			err = failed
		}
	}()
	mac, err := m.key.NewHMAC(pkcs11.CKM_SHA256_HMAC, 0)
	if err != nil {
		return nil, err
	}
	_, err = mac.Write([]byte(masterText))
	return mac.Sum(nil), err // Sum gives the session back, whatever Write said
}

// newMasterKey makes a secret key and returns how many there are.
func (t *token) newMasterKey() (int, error) {
	list, err := t.masters()
	if err != nil {
		return 0, err
	}
	number := 1
	if len(list) > 0 {
		number = list[0].number + 1
	}
	id := make([]byte, 16)
	rand.Read(id) // never fails
	attributes, err := crypto11.NewAttributeSetWithIDAndLabel(id, t.label(masterPrefix+strconv.Itoa(number)))
	if err != nil {
		return 0, err
	}
	if err := attributes.Set(crypto11.CkaPrivate, true); err != nil {
		return 0, err
	}
	_, err = t.ctx.GenerateSecretKeyWithAttributes(attributes, masterBits, crypto11.CipherGeneric)
	return len(list) + 1, told(err)
}

// dropMasterKeys deletes all but the newest and returns how many these were.
func (t *token) dropMasterKeys() (n int, err error) {
	list, err := t.masters()
	if err != nil {
		return 0, err
	}
	for _, m := range list[min(1, len(list)):] {
		if err := m.key.Delete(); err != nil {
			return n, told(err)
		}
		n++
	}
	return n, nil
}
