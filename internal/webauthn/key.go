package webauthn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"

	"github.com/fxamacker/cbor/v2"
)

// Algorithms of COSE (RFC 9053, RFC 8812), and what keys of them are.
const (
	ES256 = -7
	RS256 = -257

	typeEC2 = 2
	typeRSA = 3
	p256    = 1
)

// A publicKey verifies with its own algorithm, the one that was named at registration: no answer can choose another.
type publicKey struct {
	ec  *ecdsa.PublicKey
	rsa *rsa.PublicKey
}

// parseKey reads a COSE_Key (RFC 9052 section 7). The parameters -1 to -3 mean one thing in a key on a curve and another in one of RSA.
func parseKey(b []byte) (k publicKey, err error) {
	var c struct {
		Type      int             `cbor:"1,keyasint"`
		Algorithm int             `cbor:"3,keyasint"`
		First     cbor.RawMessage `cbor:"-1,keyasint"`
		Second    []byte          `cbor:"-2,keyasint"`
		Third     []byte          `cbor:"-3,keyasint"`
	}
	if err := decoder.Unmarshal(b, &c); err != nil {
		return k, malformed("the key is not a COSE_Key")
	}
	switch {
	case c.Algorithm == ES256 && c.Type == typeEC2:
		var curve int
		if decoder.Unmarshal(c.First, &curve) != nil || curve != p256 || len(c.Second) != 32 || len(c.Third) != 32 {
			return k, malformed("the key is not on the curve P-256")
		}
		point := append(append([]byte{4}, c.Second...), c.Third...)
		if k.ec, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
			return k, malformed("the key is not on the curve P-256")
		}
		return k, nil
	case c.Algorithm == RS256 && c.Type == typeRSA:
		var modulus []byte
		if decoder.Unmarshal(c.First, &modulus) != nil {
			return k, malformed("the key has no modulus")
		}
		n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(c.Second)
		if size := n.BitLen(); size < 2048 || size > 4096 || n.Bit(0) == 0 || e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
			return k, malformed("the key is not one of RSA with 2048 to 4096 bits")
		}
		k.rsa = &rsa.PublicKey{N: n, E: int(e.Int64())}
		return k, nil
	}
	return k, fmt.Errorf("the algorithm %d with a key of the type %d is neither ES256 (-7) nor RS256 (-257)", c.Algorithm, c.Type)
}

func (k publicKey) verify(message, signature []byte) error {
	sum := sha256.Sum256(message)
	good := false
	if k.ec != nil {
		good = ecdsa.VerifyASN1(k.ec, sum[:], signature)
	} else {
		good = rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, sum[:], signature) == nil
	}
	if !good {
		return ErrSignature
	}
	return nil
}
