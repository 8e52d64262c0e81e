package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// CheckCA refuses what may not be registered as a customer's CA (provisioning spec 7.1): no CA, not valid at now, or not registrable.
// Errors, here and below, are of KindInvalid with the code CertificateValidationException.
func CheckCA(cert *x509.Certificate, now time.Time) error {
	if fault := caFault(cert, now); fault != "" {
		return badCertificate("%s", fault)
	}
	return CheckRegistrable(cert)
}

// caFault says why a certificate cannot stand for a CA at a time, "" if it can.
func caFault(cert *x509.Certificate, now time.Time) string {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return "is not a CA: its basicConstraints must say CA:TRUE"
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return "is not a CA: its keyUsage lacks keyCertSign"
	case len(cert.UnhandledCriticalExtensions) > 0:
		return "has the critical extension " + cert.UnhandledCriticalExtensions[0].String() + ", which is not understood here"
	}
	return validityFault(cert, now)
}

func validityFault(cert *x509.Certificate, now time.Time) string {
	switch {
	case now.After(cert.NotAfter):
		return "expired at " + stamp(cert.NotAfter)
	case now.Before(cert.NotBefore):
		return "is not valid before " + stamp(cert.NotBefore)
	}
	return ""
}

// ErrOtherCode is the error of CheckVerification for a certificate that proves the CA's key, but not for this registration code.
var ErrOtherCode = errors.New("the verification certificate does not carry the registration code as its common name")

// CheckVerification checks the proof that somebody holds the key of a CA: a certificate that the CA has signed, whose subject has the
// registration code as its only common name. The error is ErrOtherCode if that alone is wrong.
func CheckVerification(cert, ca *x509.Certificate, code string, now time.Time) error {
	if fault := validityFault(cert, now); fault != "" {
		return badCertificate("%s", fault)
	}
	if err := CheckRegistrable(cert); err != nil {
		return err
	}
	if err := CheckSignedBy(cert, ca); err != nil {
		return err
	}
	names := attributesOf(cert.Subject)["CommonName"]
	if len(names) != 1 || subtle.ConstantTimeCompare([]byte(names[0]), []byte(code)) != 1 {
		return ErrOtherCode
	}
	return nil
}

// CheckSignedBy refuses a certificate that ca did not sign. Neither validity nor the CA's own standing is looked at.
func CheckSignedBy(cert, ca *x509.Certificate) error {
	if !bytes.Equal(cert.RawIssuer, ca.RawSubject) {
		return badCertificate("its issuer is %q, not the CA %q", cert.Issuer, ca.Subject)
	}
	if err := ca.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return badCertificate("is not signed by the CA %q: %v", ca.Subject, err)
	}
	return nil
}

// CheckPath checks the path from a device's certificate to its CA as RFC 5280 section 6 does with the CA as trust anchor: signature,
// validity of both, name constraints, critical extensions. What is cheap comes first, the signature last. A certificate must have the one
// form that DER gives it: crypto/x509 reads over what stands after the signature and over its unused bits, so that a device could make
// certificates of any number out of its own.
func CheckPath(leaf, ca *x509.Certificate, now time.Time) error {
	if !MayHaveSigned(ca, leaf) {
		return badCertificate("does not name the CA %q as its issuer", ca.Subject)
	}
	if leaf.IsCA {
		return badCertificate("is a CA itself; a device's own certificate must not say CA:TRUE")
	}
	if fault := caFault(ca, now); fault != "" {
		return badCertificate("its CA %q %s", ca.Subject, fault)
	}
	if fault := validityFault(leaf, now); fault != "" {
		return badCertificate("%s", fault)
	}
	if err := CheckRegistrable(leaf); err != nil {
		return err
	}
	if der, err := withSignature(leaf, leaf.Signature); err != nil || !bytes.Equal(der, leaf.Raw) {
		return badCertificate("is not in DER: it holds more than what is signed and the signature")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return badCertificate("no path leads to the CA %q: %v", ca.Subject, err)
	}
	return nil
}

// MayHaveSigned reports whether names and key identifiers (RFC 5280 section 4.2.1.1) allow that ca signed a certificate. It is cheap.
func MayHaveSigned(ca, cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, ca.RawSubject) &&
		(len(cert.AuthorityKeyId) == 0 || len(ca.SubjectKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, ca.SubjectKeyId))
}

// Mirrored returns the id that a certificate has with the other signature that everybody can make of one by ECDSA, "" for other
// algorithms: where (r, s) is valid, (r, -s) is too. A certificate that was revoked must not come again by the other id.
func Mirrored(cert, ca *x509.Certificate) (id string, err error) {
	key, ok := ca.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return "", nil
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(cert.Signature, &sig); err != nil {
		return "", badCertificate("its signature cannot be parsed: %v", err)
	}
	sig.S.Sub(key.Params().N, sig.S)
	other, err := asn1.Marshal(sig)
	if err != nil {
		return "", err
	}
	der, err := withSignature(cert, other)
	if err != nil {
		return "", err
	}
	return fleet.CertificateID(der), nil
}

// withSignature is the certificate in DER with a signature in place of its own.
func withSignature(cert *x509.Certificate, signature []byte) ([]byte, error) {
	var c struct { // RFC 5280 section 4.1
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.Raw, &c); err != nil {
		return nil, err
	}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(c)
}

// NameID returns the hex SHA-256 of a name in DER, by which CAs are looked up for what they have signed.
func NameID(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}
