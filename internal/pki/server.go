package pki

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Server certificates live 90 days and are renewed after two thirds of that, with a new key.
const (
	serverLife  = 90 * 24 * time.Hour
	serverRenew = serverLife * 2 / 3
)

// serverCerts are the certificates that the server shows at present.
type serverCerts struct {
	ecdsa *tls.Certificate
	rsa   *tls.Certificate // nil without RSA
	aws   *tls.Certificate // for host names of AWS; nil without them
	renew time.Time
}

// always are the names that the server's certificate has in any case.
var always = []string{"localhost", "127.0.0.1", "::1"}

// GetCertificate picks the server's certificate for a client: P-256, which costs a third of RSA (performance.md), unless the
// client cannot do ECDSA. It is for tls.Config.
func (a *Authority) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := a.server.Load()
	if s.aws != nil && s.aws.Leaf.VerifyHostname(h.ServerName) == nil {
		return s.aws, nil
	}
	if s.rsa != nil && !takesECDSA(h) {
		return s.rsa, nil
	}
	return s.ecdsa, nil
}

// takesECDSA reports whether the client can verify a P-256 signature in a version that both sides speak.
func takesECDSA(h *tls.ClientHelloInfo) bool {
	if !slices.Contains(h.SignatureSchemes, tls.ECDSAWithP256AndSHA256) {
		return false
	}
	if slices.Contains(h.SupportedVersions, tls.VersionTLS13) {
		return true
	}
	return slices.Contains(h.SupportedCurves, tls.CurveP256) && slices.ContainsFunc(h.CipherSuites, func(id uint16) bool {
		return slices.Contains(ecdsaSuites, id)
	})
}

// ecdsaSuites are the suites of TLS 1.2 with ECDSA that crypto/tls speaks.
var ecdsaSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
}

// SetNames replaces Config.Names. If the server's certificate has other names, a new one is made at once; open connections
// are not disturbed.
func (a *Authority) SetNames(ctx context.Context, names []string) error {
	names, err := checkNames(names)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names = names
	_, err = a.renew(ctx, a.cfg.Clock.Now())
	return err
}

// Renew replaces the server's certificates when two thirds of their life have passed at now, and returns when that will be
// the case next. New connections get the new certificates; open ones are not disturbed. Call it at least once a day, since a
// clock may be set while a timer runs. After an error the old certificates stay in use.
func (a *Authority) Renew(ctx context.Context, now time.Time) (next time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.renew(ctx, now)
}

func (a *Authority) renew(ctx context.Context, now time.Time) (time.Time, error) {
	var s serverCerts
	var err error
	if s.ecdsa, err = a.serverLeaf(ctx, roleServer, a.names, now); err != nil {
		return time.Time{}, fmt.Errorf("server certificate: %w", err)
	}
	s.renew = renewAt(s.ecdsa.Leaf)
	if !a.cfg.NoRSA {
		if s.rsa, err = a.serverLeaf(ctx, roleServerRSA, a.names, now); err != nil {
			return time.Time{}, fmt.Errorf("server certificate (RSA): %w", err)
		}
		s.renew = earlier(s.renew, renewAt(s.rsa.Leaf))
	}
	if len(a.cfg.AWSNames) > 0 {
		if s.aws, err = a.serverLeaf(ctx, roleAWSNames, a.cfg.AWSNames, now); err != nil {
			return time.Time{}, fmt.Errorf("server certificate (names of AWS): %w", err)
		}
		s.renew = earlier(s.renew, renewAt(s.aws.Leaf))
	}
	a.server.Store(&s)
	return s.renew, nil
}

func renewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(serverRenew - serverLife)
}

// serves reports whether a certificate may stay in use at now: its renewal is not due, and it was not made while the clock was ahead,
// so that nobody would accept it for long. A clock that stands before its issuer was made is wrong itself, and changes nothing.
func serves(leaf, by *x509.Certificate, now time.Time) bool {
	ahead := now.Before(leaf.NotBefore) && !now.Before(by.NotBefore)
	return !ahead && now.Before(renewAt(leaf))
}

// serverLeaf returns the kept certificate if it still serves, else a new one.
func (a *Authority) serverLeaf(ctx context.Context, r role, names []string, now time.Time) (*tls.Certificate, error) {
	by := current(a.all(), r)
	if kept := a.keptLeaf(ctx, by); kept != nil && serves(kept.Leaf, by.cert, now) && slices.Equal(namesOf(kept.Leaf), names) {
		return kept, nil
	}
	key, err := a.cfg.Leaves.Replace(ctx, leafKey(r), typeOf(by.cert.PublicKey))
	if err != nil {
		return nil, err
	}
	p := &serverProfile
	if r == roleServerRSA {
		p = &serverRSAProfile
	}
	now = now.UTC().Truncate(time.Second)
	req := request{key: key.Public(), notBefore: now.Add(-p.backdate), notAfter: earlier(now.Add(serverLife), by.cert.NotAfter)}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			req.ips = append(req.ips, ip)
		} else {
			req.dnsNames = append(req.dnsNames, name)
		}
	}
	if req.subject, err = ParseName("CN=" + commonName(names)); err != nil {
		return nil, err
	}
	der, err := p.issue(req, by.issuer())
	if err != nil {
		return nil, err
	}
	if err := writeFile(a.leafFile(r), []byte(CertificatePEM(der)), 0o600); err != nil {
		return nil, err
	}
	return tlsCertificate(der, by, key)
}

// keptLeaf returns the certificate that an earlier start left, nil if there is none that belongs to the current issuer and to
// its key. Whatever is wrong with it, a new one takes its place.
func (a *Authority) keptLeaf(ctx context.Context, by *ca) *tls.Certificate {
	if s := a.server.Load(); s != nil {
		for _, c := range []*tls.Certificate{s.ecdsa, s.rsa, s.aws} {
			if c != nil && slices.Equal(c.Certificate[1], by.cert.Raw) {
				return c
			}
		}
	}
	text, err := readBounded(a.leafFile(by.role), maxKeyFile)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	key, err := a.cfg.Leaves.Signer(ctx, leafKey(by.role))
	if err != nil {
		return nil
	}
	c, err := tlsCertificate(block.Bytes, by, key)
	if err != nil {
		return nil
	}
	return c
}

func tlsCertificate(der []byte, by *ca, key crypto.Signer) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := leaf.CheckSignatureFrom(by.cert); err != nil {
		return nil, err
	}
	if !samePublicKey(key.Public(), leaf.PublicKey) {
		return nil, fmt.Errorf("the key is not the certificate's")
	}
	return &tls.Certificate{Certificate: [][]byte{der, by.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func leafKey(r role) string { return string(r) + "-leaf" }

func (a *Authority) leafFile(r role) string { return filepath.Join(a.cfg.Dir, string(r)+".pem") }

// commonName is the first DNS name that fits into a common name (64 characters), for people who look at the certificate.
func commonName(names []string) string {
	for _, n := range names {
		if net.ParseIP(n) == nil && len(n) <= 64 {
			return n
		}
	}
	return "localhost"
}

// namesOf returns the names of a certificate in the order of checkNames.
func namesOf(cert *x509.Certificate) []string {
	var ips []string
	for _, ip := range cert.IPAddresses {
		ips = append(ips, ip.String())
	}
	return append(slices.Clone(cert.DNSNames), ips...)
}

// isDNSName reports whether a name consists of labels of 1 to 63 characters of a-z, 0-9 and _, with hyphens inside, of which a star may
// stand in front. A regular expression that says so takes a start a tenth of a millisecond to compile.
func isDNSName(name string) bool {
	for label := range strings.SplitSeq(strings.TrimPrefix(name, "*."), ".") {
		if len(label) > 63 || !consistsOf(label, lettersAndDigits+"_-") || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// checkNames returns the names in their normal form, those that are always there added, DNS names first.
func checkNames(names []string) ([]string, error) {
	var dns, ips []string
	for _, n := range slices.Concat(names, always) {
		if ip := net.ParseIP(strings.Trim(n, "[]")); ip != nil {
			if s := ip.String(); !slices.Contains(ips, s) {
				ips = append(ips, s)
			}
			continue
		}
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if len(n) > 253 || !isDNSName(n) {
			return nil, fmt.Errorf("server name %q is neither a DNS name (in its ASCII form) nor an IP address", n)
		}
		if !slices.Contains(dns, n) {
			dns = append(dns, n)
		}
	}
	return append(dns, ips...), nil
}
