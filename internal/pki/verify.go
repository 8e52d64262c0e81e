package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"
)

// LeafKind says which of our issuers signed a certificate.
type LeafKind string

const (
	DeviceLeaf  LeafKind = "device"
	ClaimLeaf   LeafKind = "claim"
	UnknownLeaf LeafKind = "unknown"
)

// A Verdict is what the authority has to say about a certificate that somebody presents. Whether the registry knows the
// certificate, and in which state, is another question.
type Verdict struct {
	Kind   LeafKind
	Valid  bool   // Kind is ours and now lies within the certificate's validity
	Reason string // a sentence for traces
}

// VerifyLeaf says whose a certificate is. It never fails: what cannot be parsed is of an unknown kind, with the reason.
func (a *Authority) VerifyLeaf(der []byte, now time.Time) Verdict {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Verdict{Kind: UnknownLeaf, Reason: "the certificate cannot be parsed: " + err.Error()}
	}
	c, named := a.signerOf(cert)
	switch {
	case c == nil && named:
		return Verdict{Kind: UnknownLeaf, Reason: fmt.Sprintf("the certificate names our issuer %q but was not signed by it: it comes from another installation or is forged", cert.Issuer)}
	case c == nil:
		return Verdict{Kind: UnknownLeaf, Reason: fmt.Sprintf("the certificate was issued by %q, which is none of our issuers", cert.Issuer)}
	}
	v := Verdict{Kind: LeafKind(c.role)}
	switch {
	case now.After(cert.NotAfter):
		v.Reason = fmt.Sprintf("the %s certificate expired at %s, %s before the server's time", v.Kind, stamp(cert.NotAfter), span(now.Sub(cert.NotAfter)))
	case now.Before(cert.NotBefore):
		v.Reason = fmt.Sprintf("the %s certificate is valid from %s, %s after the server's time: check the server's clock", v.Kind, stamp(cert.NotBefore), span(cert.NotBefore.Sub(now)))
	default:
		v.Valid = true
		v.Reason = fmt.Sprintf("the certificate was signed by our %s issuer and is valid until %s", v.Kind, stamp(cert.NotAfter))
	}
	return v
}

// signerOf returns the device or claim issuer, current or former, that signed cert; named says whether cert at least names
// one.
func (a *Authority) signerOf(cert *x509.Certificate) (by *ca, named bool) {
	for _, c := range a.all() {
		if c.role != roleDevice && c.role != roleClaim || !bytes.Equal(cert.RawIssuer, c.cert.RawSubject) {
			continue
		}
		named = true
		if cert.CheckSignatureFrom(c.cert) == nil {
			return c, true
		}
	}
	return nil, named
}

func span(d time.Duration) string { return d.Round(time.Second).String() }

// DevicePool returns the issuers of device certificates as trust anchors. Verify with ExtKeyUsageClientAuth.
func (a *Authority) DevicePool() *x509.CertPool { return a.pool(roleDevice) }

// ClaimPool returns the issuers of claim certificates as trust anchors. Verify with ExtKeyUsageClientAuth.
func (a *Authority) ClaimPool() *x509.CertPool { return a.pool(roleClaim) }

func (a *Authority) pool(r role) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range a.all() {
		if c.role == r {
			pool.AddCert(c.cert)
		}
	}
	return pool
}
