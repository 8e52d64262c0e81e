package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/bits"
	"net"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A profile is the fixed shape of one kind of certificate. Nothing else decides which extensions a certificate of ours has,
// and nothing is copied from a request but its key and, for devices, its subject.
//
// There are no name constraints, but for host names of AWS (awsnames.go): they must be critical (RFC 5280 section 4.2.1.10),
// and mbedTLS refuses a critical extension that it does not know. Extended key usage of the issuer, which OpenSSL, Go and
// browsers apply to all that it signs, and a path length of 0 hold an issuer to its purpose instead.
type profile struct {
	name           string
	ca             bool
	leafsOnly      bool // pathLenConstraint 0: the CA signs no further CA
	keyUsage       x509.KeyUsage
	extKeyUsage    asn1.ObjectIdentifier // nil: any
	subjectKeyID   bool
	authorityKeyID bool
	backdate       time.Duration // notBefore lies so much before the time of issue, for clocks that run behind
}

var (
	oidServerAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

var (
	rootProfile = profile{name: "root", ca: true, keyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		subjectKeyID: true, backdate: 24 * time.Hour}

	serverIssuerProfile = profile{name: "server issuer", ca: true, leafsOnly: true, keyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		extKeyUsage: oidServerAuth, subjectKeyID: true, authorityKeyID: true, backdate: 24 * time.Hour}

	clientIssuerProfile = profile{name: "device issuer", ca: true, leafsOnly: true, keyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		extKeyUsage: oidClientAuth, subjectKeyID: true, authorityKeyID: true, backdate: 24 * time.Hour}

	serverProfile = profile{name: "server", keyUsage: x509.KeyUsageDigitalSignature, extKeyUsage: oidServerAuth,
		subjectKeyID: true, authorityKeyID: true, backdate: time.Hour}

	// The static-RSA suites of TLS 1.2 encrypt to the server's key.
	serverRSAProfile = profile{name: "server (RSA)", keyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		extKeyUsage: oidServerAuth, subjectKeyID: true, authorityKeyID: true, backdate: time.Hour}

	// deviceProfile is the permanent certificate as decoded in provisioning spec 9.3.
	deviceProfile = profile{name: "device", keyUsage: x509.KeyUsageDigitalSignature, subjectKeyID: true, authorityKeyID: true,
		backdate: 2 * time.Minute}

	// claimProfile is the temporary certificate as decoded in provisioning spec 1.3: no key identifiers.
	claimProfile = profile{name: "claim", keyUsage: x509.KeyUsageDigitalSignature, backdate: 2 * time.Minute}
)

// A request is what differs between certificates of one profile.
type request struct {
	key       crypto.PublicKey
	subject   []byte // DER
	dnsNames  []string
	ips       []net.IP
	notBefore time.Time
	notAfter  time.Time
	permit    []string // name constraints of a CA: these DNS names and those below them, and no address; nil: none
	serial    []byte   // nil: 20 random bytes
}

// An issuer is who signs: its name, key identifier and end of life, and the key. A root signs itself.
type issuer struct {
	subject  []byte // DER
	keyID    []byte // nil: a certificate that is about to sign itself
	notAfter time.Time
	signer   crypto.Signer
}

// newSerial returns a positive serial number that fills 20 bytes, the most that RFC 5280 section 4.1.2.2 allows.
func newSerial() []byte {
	b := make([]byte, 20)
	rand.Read(b) // never fails: crypto/rand aborts the program instead
	b[0] = b[0]&0x3f | 0x40
	return b
}

// issue makes the certificate: everything is decided and refused before the issuer's key is used.
func (p *profile) issue(r request, by issuer) ([]byte, error) {
	alg, err := signatureAlgorithm(by.signer.Public())
	if err != nil {
		return nil, err
	}
	tbs, err := p.template(r, by, alg)
	if err != nil {
		return nil, fmt.Errorf("%s certificate: %w", p.name, err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := by.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing %s certificate: %w", p.name, err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(signature)+32))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(alg)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// signatureAlgorithm returns the AlgorithmIdentifier of a signature with SHA-256 (RFC 5758 section 3.2, RFC 4055 section 5).
func signatureAlgorithm(key crypto.PublicKey) ([]byte, error) {
	switch typeOf(key) {
	case P256:
		return []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}, nil
	case RSA2048:
		return []byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00}, nil
	}
	return nil, fmt.Errorf("an issuer's key must be %s or %s", P256, RSA2048)
}

// template returns the DER of the TBSCertificate (RFC 5280 section 4.1). It is pure but for the serial number.
func (p *profile) template(r request, by issuer, alg []byte) ([]byte, error) {
	switch {
	case !r.notBefore.Before(r.notAfter):
		return nil, fmt.Errorf("would end at %s, before it begins at %s", stamp(r.notAfter), stamp(r.notBefore))
	case r.notAfter.After(by.notAfter):
		return nil, fmt.Errorf("would end at %s, after its issuer at %s", stamp(r.notAfter), stamp(by.notAfter))
	case len(r.subject) == 0:
		return nil, fmt.Errorf("has no subject")
	}
	if err := CheckPublicKey(r.key); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(r.key)
	if err != nil {
		return nil, err
	}
	serial := r.serial
	if serial == nil {
		serial = newSerial()
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // version 3
		b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(serial) })
		b.AddBytes(alg)
		b.AddBytes(by.subject)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, r.notBefore)
			addTime(b, r.notAfter)
		})
		b.AddBytes(r.subject)
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { p.addExtensions(b, r, by, spki) })
		})
	})
	return b.Bytes()
}

func (p *profile) addExtensions(b *cryptobyte.Builder, r request, by issuer, spki []byte) {
	if p.authorityKeyID {
		addExtension(b, 35, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(by.keyID) })
			})
		})
	}
	if p.subjectKeyID {
		addExtension(b, 14, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyIdentifier(spki)) })
	}
	addExtension(b, 19, true, func(b *cryptobyte.Builder) { // basicConstraints; FALSE is the default and so left out
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if p.ca {
				b.AddASN1Boolean(true)
			}
			if p.leafsOnly {
				b.AddASN1Int64(0)
			}
		})
	})
	addExtension(b, 15, true, func(b *cryptobyte.Builder) {
		// Go counts the usages from the lowest bit, the BIT STRING from the highest.
		usage := bits.Reverse8(uint8(p.keyUsage))
		b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
			b.AddUint8(uint8(bits.TrailingZeros8(usage)))
			b.AddUint8(usage)
		})
	})
	if len(r.permit) > 0 {
		addExtension(b, 30, true, func(b *cryptobyte.Builder) { addNameConstraints(b, r.permit) })
	}
	if p.extKeyUsage != nil {
		addExtension(b, 37, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(p.extKeyUsage) })
		})
	}
	if len(r.dnsNames)+len(r.ips) > 0 {
		addExtension(b, 17, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, name := range r.dnsNames {
					b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
				}
				for _, ip := range r.ips {
					if v4 := ip.To4(); v4 != nil {
						ip = v4
					}
					b.AddASN1(cbasn1.Tag(7).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(ip) })
				}
			})
		})
	}
}

// addExtension adds the extension 2.5.29 and the number.
func addExtension(b *cryptobyte.Builder, number int, critical bool, value cryptobyte.BuilderContinuation) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 29, number})
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// keyIdentifier is the leftmost 160 bits of the SHA-256 of the key's bits (RFC 7093 section 2, method 1).
func keyIdentifier(spki []byte) []byte {
	var key cryptobyte.String
	s := cryptobyte.String(spki)
	if s.ReadASN1(&s, cbasn1.SEQUENCE) && s.SkipASN1(cbasn1.SEQUENCE) && s.ReadASN1(&key, cbasn1.BIT_STRING) && len(key) > 1 {
		key = key[1:] // number of unused bits
	}
	h := sha256.Sum256(key)
	return h[:20]
}

// addTime adds a UTCTime through 2049 and a GeneralizedTime after it (RFC 5280 section 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	t = t.UTC()
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
