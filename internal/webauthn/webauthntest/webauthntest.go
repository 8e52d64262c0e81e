// Package webauthntest is an authenticator and the browser around it, for tests: it answers the options of a ceremony as both would, and
// wrongly where it is told to. Begin with New.
package webauthntest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"

	"github.com/fxamacker/cbor/v2"
)

// Flags of authenticator data (W3C Web Authentication Level 3, section 6.1).
const (
	Present        = 1 << 0
	Verified       = 1 << 2
	BackupEligible = 1 << 3
	BackedUp       = 1 << 4
	Attested       = 1 << 6
)

// An Authenticator has one credential. Its fields are what it does next.
type Authenticator struct {
	ID     []byte
	Key    crypto.Signer
	Count  uint32
	Counts bool // Count grows with each signature
	Flags  byte

	Origin      string // of the page
	CrossOrigin bool
	Party       string // "" is the one of the options
	Challenge   string // "" is the one of the options
	Type        string // of the ceremony; "" is the right one
	Algorithm   int    // that the key is said to be of; 0 is the right one
	Model       [16]byte
	UserHandle  []byte // with assertions
	Spoil       func(authenticatorData []byte) []byte
}

// New makes an authenticator with a credential on P-256 that verifies its owner.
func New(origin string) *Authenticator {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return with(key, origin)
}

// NewRSA makes one with an RSA key.
func NewRSA(key *rsa.PrivateKey, origin string) *Authenticator { return with(key, origin) }

func with(key crypto.Signer, origin string) *Authenticator {
	a := &Authenticator{ID: make([]byte, 20), Key: key, Counts: true, Flags: Present | Verified, Origin: origin}
	rand.Read(a.ID)
	return a
}

// options are those of both ceremonies, as far as they matter here.
type options struct {
	Challenge string
	RP        struct{ ID string }
	RPID      string `json:"rpId"`
}

func (a *Authenticator) begin(text []byte) options {
	var o options
	if err := json.Unmarshal(text, &o); err != nil {
		panic(err)
	}
	if o.RPID == "" {
		o.RPID = o.RP.ID
	}
	if a.Party != "" {
		o.RPID = a.Party
	}
	if a.Challenge != "" {
		o.Challenge = a.Challenge
	}
	return o
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (a *Authenticator) clientData(kind string, o options) []byte {
	if a.Type != "" {
		kind = a.Type
	}
	return marshal(map[string]any{"type": kind, "challenge": o.Challenge, "origin": a.Origin, "crossOrigin": a.CrossOrigin})
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (a *Authenticator) data(o options, flags byte, rest []byte) []byte {
	if a.Counts {
		a.Count++
	}
	party := sha256.Sum256([]byte(o.RPID))
	b := binary.BigEndian.AppendUint32(append(party[:], flags), a.Count)
	if b = append(b, rest...); a.Spoil != nil {
		b = a.Spoil(b)
	}
	return b
}

// COSE is the public key as authenticators write it.
func (a *Authenticator) COSE() []byte {
	key := map[int]any{}
	switch k := a.Key.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		key = map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}
	case *rsa.PublicKey:
		key = map[int]any{1: 3, 3: -257, -1: k.N.Bytes(), -2: big.NewInt(int64(k.E)).Bytes()}
	}
	if a.Algorithm != 0 {
		key[3] = a.Algorithm
	}
	return encode(key)
}

func encode(v any) []byte {
	m, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	b, err := m.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Create answers creation options with a RegistrationResponseJSON.
func (a *Authenticator) Create(creation []byte) []byte {
	o := a.begin(creation)
	attested := append(a.Model[:], byte(len(a.ID)>>8), byte(len(a.ID)))
	attested = append(append(attested, a.ID...), a.COSE()...)
	object := encode(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(o, a.Flags|Attested, attested)})
	return marshal(map[string]any{"id": text(a.ID), "rawId": text(a.ID), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{}, "response": map[string]any{"clientDataJSON": text(a.clientData("webauthn.create", o)),
			"attestationObject": text(object), "transports": []string{"internal", "hybrid"}}})
}

// Get answers request options with an AuthenticationResponseJSON.
func (a *Authenticator) Get(request []byte) []byte {
	o := a.begin(request)
	client := a.clientData("webauthn.get", o)
	data := a.data(o, a.Flags, nil)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := a.Key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	response := map[string]any{"clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature)}
	if len(a.UserHandle) > 0 {
		response["userHandle"] = text(a.UserHandle)
	}
	return marshal(map[string]any{"id": text(a.ID), "rawId": text(a.ID), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{}, "response": response})
}
