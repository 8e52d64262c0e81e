package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
)

// A KeyType is the kind of key that a device makes for itself.
type KeyType string

const (
	P256    KeyType = "p256"    // ECDSA on NIST P-256: small, and made in a moment
	RSA2048 KeyType = "rsa2048" // seconds on a small machine; for services or policies that ask for it
)

// newKey makes a key and its PEM: SEC 1 and PKCS #1, the forms that every TLS library reads.
func newKey(t KeyType) ([]byte, error) {
	if t == RSA2048 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads a private key in any of the usual PEM forms.
func parseKey(keyPEM []byte) (crypto.Signer, bool) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, false
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, ok := key.(crypto.Signer)
	return signer, ok && err == nil
}

// keyTypeOf tells of what type a key is; "" for one that we would not have made.
func keyTypeOf(key crypto.Signer) KeyType {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			return P256
		}
	case *rsa.PrivateKey:
		if k.N.BitLen() == 2048 {
			return RSA2048
		}
	}
	return ""
}

// newCSR asks for a certificate for key. The common name helps the operator only: a service takes nothing but the key from a
// CSR, or the subject as it is. At most 64 characters (RFC 5280 ub-common-name).
func newCSR(key crypto.Signer, commonName string) (string, error) {
	subject := pkix.Name{CommonName: commonName[:min(len(commonName), 64)]}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// parseCertificate reads the first certificate of PEM text.
func parseCertificate(s string) (*x509.Certificate, bool) {
	block, _ := pem.Decode([]byte(s))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, false
	}
	c, err := x509.ParseCertificate(block.Bytes)
	return c, err == nil
}

// belongs reports whether cert certifies key.
func belongs(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// randomID returns a client id that no other device uses.
func randomID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return "imprint-" + hex.EncodeToString(b[:])
}
