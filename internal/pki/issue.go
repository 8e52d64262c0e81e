package pki

import (
	"crypto"
	"crypto/rsa"
	"io"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Leaf is a certificate that was just issued.
type Leaf struct {
	ID        string // certificate id: hex SHA-256 of DER
	PEM       string // the leaf alone; chains are not handed out (provisioning spec 9.3)
	DER       []byte
	NotBefore time.Time
	NotAfter  time.Time
}

func newLeaf(der []byte, r request) *Leaf {
	return &Leaf{ID: fleet.CertificateID(der), PEM: CertificatePEM(der), DER: der, NotBefore: r.notBefore, NotAfter: r.notAfter}
}

// defaultSubject names a device whose request does not (provisioning spec 9.3).
var defaultSubject = mustName("CN=AWS IoT Certificate")

// A DeviceRequest is what may differ between device certificates.
type DeviceRequest struct {
	PublicKey crypto.PublicKey
	Subject   []byte        // DER of a name, as CSR.Subject; nil: CN=AWS IoT Certificate
	Validity  time.Duration // from now; 0: as the authority is configured. No leaf outlives its issuer.
}

// IssueDevice issues a permanent device certificate (provisioning spec 9.3). Refusals are of KindInvalid.
func (a *Authority) IssueDevice(d DeviceRequest) (*Leaf, error) {
	return a.issueDevice(d, a.trust.Load().device.issuer())
}

// MeasureDevice makes what IssueDevice would, with zeros in place of a signature, as many as the longest one has: nobody takes it for a
// certificate, and no certificate for such a request is longer.
func (a *Authority) MeasureDevice(d DeviceRequest) (*Leaf, error) {
	by := a.trust.Load().device.issuer()
	by.signer = longestSigner{by.signer}
	return a.issueDevice(d, by)
}

// longestSigner signs with zeros.
type longestSigner struct{ crypto.Signer }

// Sign implements crypto.Signer.
func (s longestSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	if k, ok := s.Public().(*rsa.PublicKey); ok {
		return make([]byte, k.Size()), nil
	}
	const p256 = 72 // two integers of 33 bytes, a sequence around them
	return make([]byte, p256), nil
}

func (a *Authority) issueDevice(d DeviceRequest, by issuer) (*Leaf, error) {
	now := a.cfg.Clock.Now().Truncate(time.Second)
	r := request{key: d.PublicKey, subject: d.Subject, notBefore: now.Add(-deviceProfile.backdate), notAfter: endOfTime}
	if len(r.subject) == 0 {
		r.subject = defaultSubject
	} else if _, err := readName(r.subject); err != nil {
		return nil, fleet.Invalid("", "", "the subject %v", err)
	}
	validity := d.Validity
	if validity == 0 {
		validity = a.cfg.DeviceValidity
	}
	if validity < 0 {
		return nil, fleet.Invalid("", "", "the validity of a certificate must be positive")
	}
	switch {
	case validity > 0:
		r.notAfter = now.Add(validity).Truncate(time.Second)
	case now.After(endOfTime):
		r.notAfter = by.notAfter
	}
	r.notAfter = earlier(r.notAfter, by.notAfter)
	der, err := deviceProfile.issue(r, by)
	if err != nil {
		return nil, err
	}
	return newLeaf(der, r), nil
}

// IssueClaim issues a temporary certificate that ends at expires; it begins a claim's lifetime and two minutes before that
// (provisioning spec 1.3). handle becomes its subject: 64 hex digits that say nothing and by which the claim is found.
func (a *Authority) IssueClaim(key crypto.PublicKey, handle string, expires time.Time) (*Leaf, error) {
	if !fleet.ValidCertificateID(handle) {
		return nil, fleet.Invalid("", "", "a claim's handle is 64 lower-case hex digits")
	}
	subject, err := ParseName("CN=" + handle)
	if err != nil {
		return nil, err
	}
	expires = expires.UTC().Truncate(time.Second)
	r := request{key: key, subject: subject, notBefore: expires.Add(-fleet.ClaimLifetime - claimProfile.backdate), notAfter: expires}
	der, err := claimProfile.issue(r, a.trust.Load().claim.issuer())
	if err != nil {
		return nil, err
	}
	return newLeaf(der, r), nil
}
