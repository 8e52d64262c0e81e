package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// MaxCertificate is the longest certificate that may be registered, in characters of its PEM (provisioning spec 9.4).
const MaxCertificate = 65536

// registrable are the signature algorithms of certificates and CAs that may be registered (provisioning spec 9.5).
var registrable = map[x509.SignatureAlgorithm]bool{
	x509.SHA256WithRSA: true, x509.SHA384WithRSA: true, x509.SHA512WithRSA: true,
	x509.SHA256WithRSAPSS: true, x509.SHA384WithRSAPSS: true, x509.SHA512WithRSAPSS: true,
	x509.ECDSAWithSHA256: true, x509.ECDSAWithSHA384: true, x509.ECDSAWithSHA512: true,
	x509.DSAWithSHA256: true,
}

func badCertificate(format string, args ...any) *fleet.Error {
	return fleet.Invalid("", "", "certificate: "+format, args...).WithCode("CertificateValidationException")
}

// ParseCertificatePEM reads one PEM block CERTIFICATE of at most MaxCertificate characters. Errors, here and in the checks
// below, are of KindInvalid with the code CertificateValidationException.
func ParseCertificatePEM(text string) (*x509.Certificate, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, badCertificate("is empty; send one PEM block CERTIFICATE")
	case len(text) > MaxCertificate && utf8.RuneCountInString(text) > MaxCertificate:
		return nil, badCertificate("is longer than %d characters", MaxCertificate)
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, badCertificate("is not PEM; it begins with -----BEGIN CERTIFICATE-----")
	case block.Type != certificatePEM:
		return nil, badCertificate("is a PEM block %.40q; it must be CERTIFICATE", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, badCertificate("holds more than one PEM block; send the certificate alone")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, badCertificate("cannot be parsed: %v", err)
	}
	return cert, nil
}

// CheckRegistrable refuses a certificate whose signature algorithm or key may not be registered (provisioning spec 9.5).
func CheckRegistrable(cert *x509.Certificate) error {
	if !registrable[cert.SignatureAlgorithm] {
		return badCertificate("is signed with %v; use SHA-256, SHA-384 or SHA-512 with RSA or ECDSA", cert.SignatureAlgorithm)
	}
	if fault := keyFault(cert.PublicKey); fault != "" {
		return badCertificate("its public key %s", fault)
	}
	return nil
}
