package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"
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
// validity of both, name constraints, critical extensions. What is cheap comes first, the signature last.
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

// NameID returns the hex SHA-256 of a name in DER, by which CAs are looked up for what they have signed.
func NameID(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}
