package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// PrivateKeyPEM returns a private key the way devices expect it (provisioning spec 1.2, 9.4): RSA as PKCS#1 "RSA PRIVATE
// KEY", ECC as SEC 1 "EC PRIVATE KEY"; lines of 64 characters and a newline at the end.
func PrivateKeyPEM(key crypto.Signer) (fleet.Secret, error) {
	block := &pem.Block{}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		block.Type, block.Bytes = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k)
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return "", err
		}
		block.Type, block.Bytes = "EC PRIVATE KEY", der
	default:
		return "", fmt.Errorf("a private key of type %T has no PEM form here", key)
	}
	defer clear(block.Bytes)
	return fleet.Secret(pem.EncodeToMemory(block)), nil
}

// PublicKeyPEM returns a public key as SubjectPublicKeyInfo, "PUBLIC KEY".
func PublicKeyPEM(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// CertificatePEM returns a certificate as PEM: lines of 64 characters and a newline at the end.
func CertificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: certificatePEM, Bytes: der}))
}

const certificatePEM = "CERTIFICATE"
