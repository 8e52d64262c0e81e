package egress

import (
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// WithThumbprints returns a client with the bounds of c that takes further servers: those whose chain is not trusted otherwise but
// stands under a certificate, sent along, whose SHA-1 is among the thumbprints (40 hexadecimal digits, as IAM writes them). That a
// certificate of that thumbprint was sent along says nothing by itself, since certificates are public: the server's own must have
// been issued under it, or be it, and must name the host.
//
// The client has connections of its own, so that nobody else uses one that a thumbprint opened. Without thumbprints it is c.
func WithThumbprints(c *Client, thumbprints []string) (*Client, error) {
	if len(thumbprints) == 0 {
		return c, nil
	}
	p := &pinned{hosts: map[string]*http.Transport{}}
	for _, text := range thumbprints {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != sha1.Size {
			return nil, fmt.Errorf("egress: the thumbprint %q is not the SHA-1 of a certificate in 40 hexadecimal digits", text)
		}
		p.pins = append(p.pins, [sha1.Size]byte(b))
	}
	t, ok := c.Transport.(*transport)
	if ok {
		p.base, ok = t.next.(*http.Transport)
	}
	if !ok {
		return nil, fmt.Errorf("egress: a client with a transport of type %T is none of New", c.Transport)
	}
	if p.base.Proxy != nil {
		if u, err := p.base.Proxy(&http.Request{}); err == nil && u.Scheme == "https" { // one for all requests, see New
			p.proxy = u.Hostname()
		}
	}
	out := *c
	out.Transport = &transport{t.policy, p, t.max}
	return &out, nil
}

// pinned has a transport for each host: what a host must be called is not part of what crypto/tls tells VerifyConnection, if it
// is called by its address.
type pinned struct {
	base  *http.Transport
	proxy string // host of a proxy that is spoken to by HTTPS, whose handshakes come before those of the host
	pins  [][sha1.Size]byte

	mu    sync.Mutex
	hosts map[string]*http.Transport
}

const maxPinnedHosts = 16 // of one client; a provider's documents name two or three

// RoundTrip implements http.RoundTripper.
func (p *pinned) RoundTrip(r *http.Request) (*http.Response, error) {
	return p.to(r.URL.Hostname()).RoundTrip(r)
}

// CloseIdleConnections is what http.Client looks for.
func (p *pinned) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.hosts {
		t.CloseIdleConnections()
	}
}

func (p *pinned) to(host string) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.hosts[host]; t != nil {
		return t
	}
	if len(p.hosts) >= maxPinnedHosts {
		for _, t := range p.hosts {
			t.CloseIdleConnections()
		}
		clear(p.hosts)
	}
	t := p.base.Clone()
	roots := t.TLSClientConfig.RootCAs
	t.TLSClientConfig.InsecureSkipVerify = true // VerifyConnection, which comes after each handshake, does it
	t.TLSClientConfig.VerifyConnection = func(s tls.ConnectionState) error { return p.verify(s, host, roots) }
	p.hosts[host] = t
	return t
}

// verify does what crypto/tls does by default, and after that once more with the pinned certificates of the chain as roots.
func (p *pinned) verify(s tls.ConnectionState, host string, roots *x509.CertPool) error {
	chain := s.PeerCertificates
	if len(chain) == 0 {
		return fmt.Errorf("%s sent no certificate", host)
	}
	o := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	toProxy := p.proxy != "" && s.ServerName == asked(p.proxy) && s.ServerName != asked(host)
	if toProxy {
		o.DNSName = p.proxy
	}
	_, err := chain[0].Verify(o)
	if err == nil || toProxy { // for which no thumbprint counts
		return err
	}
	o.Roots = x509.NewCertPool()
	for _, c := range chain {
		if slices.Contains(p.pins, sha1.Sum(c.Raw)) {
			o.Roots.AddCert(c)
		}
	}
	if _, pinned := chain[0].Verify(o); pinned != nil {
		return fmt.Errorf("%w; nor is it under a certificate whose thumbprint is listed: %w", err, pinned)
	}
	return nil
}

// asked is the name that crypto/tls asks a host for: none of an address.
func asked(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return strings.TrimRight(host, ".")
}
