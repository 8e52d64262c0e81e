package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// KeyID returns the hex SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7): the same for all certificates of a
// key. It reads that one field, since registrations ask for it and parsing the whole takes ten times as long.
func KeyID(certificate string) (string, error) {
	block, _ := pem.Decode([]byte(certificate))
	if block == nil || block.Type != certificatePEM {
		return "", errors.New("the certificate is no PEM block CERTIFICATE")
	}
	der, outer, tbs, key := cryptobyte.String(block.Bytes), cryptobyte.String(nil), cryptobyte.String(nil), cryptobyte.String(nil)
	version := asn1.Tag(0).Constructed().ContextSpecific()
	if !der.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(version) || !tbs.SkipASN1(asn1.INTEGER) || // serial number
		!tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) || // signature algorithm, issuer
		!tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) || // validity, subject
		!tbs.ReadASN1Element(&key, asn1.SEQUENCE) {
		return "", errors.New("the certificate has no public key where one belongs")
	}
	h := sha256.Sum256(key)
	return hex.EncodeToString(h[:]), nil
}
