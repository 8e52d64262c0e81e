package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// MaxCSR is the longest certificate signing request, in characters of its PEM (provisioning spec 9.6).
const MaxCSR = 4096

// A CSR is a certificate signing request that obeys the rules: what we take from it and nothing else.
type CSR struct {
	PublicKey crypto.PublicKey
	Subject   []byte // DER; nil if the request names no subject
	DER       []byte
	Hash      string // hex SHA-256 of the DER: a repeated request is recognised by it
}

func badCSR(format string, args ...any) *fleet.Error {
	return fleet.Invalid("", "", "certificate signing request: "+format, args...).WithCode("InvalidCertificateSigningRequest")
}

// ParseCSR reads one PEM block CERTIFICATE REQUEST or NEW CERTIFICATE REQUEST of at most MaxCSR characters. The signature
// must verify and the key must pass CheckPublicKey (provisioning spec 9.6); requested extensions and attributes are ignored.
// Errors are of KindInvalid with the code InvalidCertificateSigningRequest.
func ParseCSR(text string) (*CSR, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, badCSR("is empty; send one PEM block CERTIFICATE REQUEST")
	case len(text) > MaxCSR && utf8.RuneCountInString(text) > MaxCSR:
		return nil, badCSR("is longer than %d characters", MaxCSR)
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, badCSR("is not PEM; it begins with -----BEGIN CERTIFICATE REQUEST-----")
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, badCSR("is a PEM block %.40q; it must be CERTIFICATE REQUEST", block.Type)
	case len(strings.TrimSpace(string(rest))) > 0:
		return nil, badCSR("holds more than one PEM block; send the request alone")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, badCSR("cannot be parsed: %v", err)
	}
	if fault := keyFault(req.PublicKey); fault != "" {
		return nil, badCSR("its public key %s", fault)
	}
	// Proof of possession only, so Go's leniency about SHA-1 here does no harm.
	if err := req.CheckSignature(); err != nil {
		return nil, badCSR("its signature does not verify: it must be signed by the private key of the public key in it")
	}
	subject, err := subjectOf(req)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(block.Bytes)
	return &CSR{PublicKey: req.PublicKey, Subject: subject, DER: block.Bytes, Hash: hex.EncodeToString(sum[:])}, nil
}

// subjectOf returns the subject if it names anything at all.
func subjectOf(req *x509.CertificateRequest) ([]byte, error) {
	names, err := readName(req.RawSubject)
	if err != nil {
		return nil, badCSR("its subject %v", err)
	}
	for _, rdn := range names {
		for _, v := range rdn {
			if v.text != "" {
				return req.RawSubject, nil
			}
		}
	}
	return nil, nil
}

// Bounds of RSA keys. The upper one keeps a signature check below a millisecond.
const (
	minRSA = 2048
	maxRSA = 8192
	minE   = 65537
)

// CheckPublicKey refuses keys that a certificate of ours must not carry: it takes RSA of 2048 to 8192 bits with a sound
// modulus and exponent, and ECC on P-256, P-384 and P-521 (provisioning spec 9.6). Errors are of KindInvalid.
func CheckPublicKey(pub crypto.PublicKey) error {
	if fault := keyFault(pub); fault != "" {
		return fleet.Invalid("", "", "the public key %s", fault)
	}
	return nil
}

// keyFault says what is wrong with a key, "" if nothing is.
func keyFault(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return rsaFault(k)
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return "is on the curve " + k.Curve.Params().Name + "; use P-256, P-384 or P-521"
		}
		if _, err := k.ECDH(); err != nil {
			return "is no point on its curve " + k.Curve.Params().Name
		}
		return ""
	}
	return "is of an unknown kind; use RSA of at least 2048 bits or ECC on P-256, P-384 or P-521"
}

// smallPrimes is the product of the odd primes below 750: a modulus that shares a factor with it was made by broken code.
var smallPrimes = sync.OnceValue(func() *big.Int {
	product, p := big.NewInt(1), new(big.Int)
	for n := int64(3); n < 750; n += 2 {
		if p.SetInt64(n).ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
})

func rsaFault(k *rsa.PublicKey) string {
	switch n := k.N.BitLen(); {
	case n < minRSA:
		return fmt.Sprintf("has %d bits; use RSA of at least %d", n, minRSA)
	case n > maxRSA:
		return fmt.Sprintf("has %d bits; use RSA of at most %d", n, maxRSA)
	case k.E < minE || k.E%2 == 0:
		return fmt.Sprintf("has the RSA exponent %d; use 65537", k.E)
	case k.N.Bit(0) == 0:
		return "has an even RSA modulus: it is broken, make a new one"
	}
	if new(big.Int).GCD(nil, nil, smallPrimes(), new(big.Int).Mod(k.N, smallPrimes())).Cmp(big.NewInt(1)) != 0 {
		return "has an RSA modulus with a small factor: it is broken, make a new one"
	}
	return ""
}
