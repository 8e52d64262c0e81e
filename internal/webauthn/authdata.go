package webauthn

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Flags of authenticator data (section 6.1).
const (
	userPresent    = 1 << 0
	userVerified   = 1 << 2
	backupEligible = 1 << 3
	backedUp       = 1 << 4
	hasCredential  = 1 << 6
	hasExtensions  = 1 << 7
)

// authenticatorData is what an authenticator itself says (section 6.1).
type authenticatorData struct {
	party [sha256.Size]byte // of the relying party's id
	flags byte
	count uint32

	// Of a registration.
	model    [16]byte // AAGUID
	id       []byte
	key      []byte // COSE_Key
	keyFault error  // why the key cannot be used
}

// decoder is strict: authenticators write CBOR of CTAP2's canonical form, which has no other way to say the same.
var decoder = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 16, MaxArrayElements: 1024, MaxMapPairs: 1024, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// parseAttestation reads an attestation object (section 6.5) and skips its statement.
func parseAttestation(object []byte) (d authenticatorData, err error) {
	var o struct {
		Data []byte `cbor:"authData"`
	}
	if err := decoder.Unmarshal(object, &o); err != nil {
		return d, malformed("attestationObject is not CBOR of the right form")
	}
	if d, err = parseAuthenticatorData(o.Data); err == nil && d.flags&hasCredential == 0 {
		err = malformed("attestationObject has no credential in it")
	}
	return d, err
}

func parseAuthenticatorData(b []byte) (d authenticatorData, err error) {
	const fixed = sha256.Size + 1 + 4
	if len(b) < fixed {
		return d, malformed("authenticator data is shorter than 37 bytes")
	}
	copy(d.party[:], b)
	d.flags, d.count = b[sha256.Size], binary.BigEndian.Uint32(b[sha256.Size+1:])
	rest := b[fixed:]
	if d.flags&hasCredential != 0 {
		if rest, err = d.credential(rest); err != nil {
			return d, err
		}
	}
	if d.flags&hasExtensions != 0 {
		var extensions map[string]cbor.RawMessage
		if rest, err = decoder.UnmarshalFirst(rest, &extensions); err != nil {
			return d, malformed("authenticator data has unreadable extensions")
		}
	}
	if len(rest) > 0 {
		return d, malformed("authenticator data goes on behind its end")
	}
	return d, nil
}

// credential reads attested credential data (section 6.5.1) and returns what is behind it.
func (d *authenticatorData) credential(b []byte) (rest []byte, err error) {
	const head = len(d.model) + 2
	if len(b) < head {
		return nil, malformed("its credential is cut off")
	}
	copy(d.model[:], b)
	n := int(binary.BigEndian.Uint16(b[head-2:]))
	if b = b[head:]; n == 0 || n > maxID || n > len(b) {
		return nil, malformed("the id of its credential is cut off, or longer than 1023 bytes")
	}
	d.id, b = b[:n:n], b[n:]
	var key cbor.RawMessage
	if rest, err = decoder.UnmarshalFirst(b, &key); err != nil {
		return nil, malformed("its key is not CBOR of the right form")
	}
	d.key = key
	_, d.keyFault = parseKey(key)
	return rest, nil
}

// check is steps 13 to 18 of section 7.1, 15 to 19 of section 7.2.
func (d *authenticatorData) check(e Expected) error {
	want := sha256.Sum256([]byte(e.RelyingParty))
	switch {
	case subtle.ConstantTimeCompare(d.party[:], want[:]) != 1:
		return ErrRelyingParty
	case d.flags&userPresent == 0:
		return fmt.Errorf("%w: nobody was present", ErrUnsupported)
	case e.Verified && d.flags&userVerified == 0:
		return fmt.Errorf("%w: it has not verified the person, which the user pool requires", ErrUnsupported)
	case d.flags&backedUp != 0 && d.flags&backupEligible == 0:
		return malformed("it is backed up and may not be")
	}
	return nil
}
