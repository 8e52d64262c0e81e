// Package egress is the way out: every call that the service makes because somebody else named a URL (webhooks, confirmation URLs,
// metadata of identity providers, endpoints of functions) goes through one Client. It keeps the service from being used against
// the network that it stands in.
//
// Begin with New; Dialer is for what is not HTTP, Sign for receivers who must know that it is us. What counts is the address
// that a connection is made to, looked at when it is made: a name may lead elsewhere by then than when it was last resolved.
// Addresses that aren't public are refused unless the operator has listed them.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Config says where calls may go. The zero value: to public addresses, by HTTPS, without a proxy.
type Config struct {
	// Allow lists what may be called although it isn't public, or by plain HTTP: networks (10.1.0.0/16), addresses and host names,
	// each with or without a port (hooks.lan:8080, [fd00::1]:443). A listed host may be at any address.
	Allow []string

	Proxy   string         // URL of an HTTP proxy for all calls; it has to be listed, too, unless it is public. The environment does not count.
	Roots   *x509.CertPool // that servers must stand under; nil: those of the system
	Timeout time.Duration  // of a whole call, its answer included; 0: 10 s
	MaxBody int64          // bytes of an answer, uncompressed; 0: 1 MiB

	Resolver *net.Resolver // nil: the system's
}

// ErrRefused is in every error about a destination that may not be called.
var ErrRefused = errors.New("the destination is not allowed")

// A TooLarge error ends the reading of an answer that is larger than Config.MaxBody.
type TooLarge struct{ Max int64 }

func (e TooLarge) Error() string { return fmt.Sprintf("the answer is larger than %d bytes", e.Max) }

// destination is a line of Config.Allow.
type destination struct {
	network netip.Prefix // invalid: a host
	host    string       // in lower case
	port    uint16       // 0: any
}

type policy struct {
	allow []destination
}

const (
	defaultTimeout = 10 * time.Second
	defaultBody    = 1 << 20
	maxHeader      = 64 << 10
	maxRedirects   = 3
	connectTimeout = 5 * time.Second
)

// A Client makes calls within the bounds of its Config. It is safe for concurrent use.
type Client = http.Client

// Dialer returns a function that connects as a client's does, for what is not HTTP. It knows of no proxy.
func Dialer(c Config) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	p, err := newPolicy(c)
	if err != nil {
		return nil, err
	}
	return p.dial(c.Resolver), nil
}

func newPolicy(c Config) (*policy, error) {
	p := &policy{}
	for _, text := range c.Allow {
		d, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("egress: %w", err)
		}
		p.allow = append(p.allow, d)
	}
	return p, nil
}

// New checks c and returns a client. Its redirects stay on the origin that was asked.
func New(c Config) (*Client, error) {
	p, err := newPolicy(c)
	if err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.MaxBody <= 0 {
		c.MaxBody = defaultBody
	}
	tr := &http.Transport{DialContext: p.dial(c.Resolver), ForceAttemptHTTP2: true, TLSHandshakeTimeout: connectTimeout, TLSClientConfig: &tls.Config{RootCAs: c.Roots}, MaxIdleConns: 64,
		MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxHeader}
	if c.Proxy != "" {
		u, err := url.Parse(c.Proxy)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("egress: the proxy %q is not a URL like http://proxy.lan:3128", c.Proxy)
		}
		tr.Proxy = http.ProxyURL(u)
	}
	return &Client{Transport: &transport{p, tr, c.MaxBody}, CheckRedirect: sameOrigin, Timeout: c.Timeout}, nil
}

// parse reads a line of Config.Allow.
func parse(text string) (d destination, err error) {
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return d, fmt.Errorf("%q: the port is not a number from 1 to 65535", text)
		}
		host, d.port = h, uint16(n)
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if d.network, err = netip.ParsePrefix(host); err == nil {
		d.network = d.network.Masked()
		return d, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		d.network = netip.PrefixFrom(ip, ip.BitLen())
		return d, nil
	}
	if d.host = normal(host); d.host == "" || strings.ContainsAny(d.host, "/:*@ ") {
		return d, fmt.Errorf("%q is no destination: write a network, an address or a host name, like 10.1.0.0/16 or hooks.lan:8080", text)
	}
	return d, nil
}

func normal(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// listed reports whether the operator allows the address, or the host that it was resolved from.
func (p *policy) listed(host string, ip netip.Addr, port uint16) bool {
	return slices.ContainsFunc(p.allow, func(d destination) bool {
		if d.port != 0 && d.port != port {
			return false
		}
		return d.host != "" && d.host == normal(host) || d.network.IsValid() && d.network.Contains(ip)
	})
}

type hostKey struct{}

// dial connects to where the name leads, one address after the other. Each is looked at when the system is about to connect.
func (p *policy) dial(r *net.Resolver) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: connectTimeout, Resolver: r}
	d.ControlContext = func(ctx context.Context, network, addr string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(addr)
		if err != nil || !strings.HasPrefix(network, "tcp") {
			return fmt.Errorf("%w: %s %s", ErrRefused, network, addr)
		}
		host, _ := ctx.Value(hostKey{}).(string)
		if ip := at.Addr(); !Public(ip) && !p.listed(host, ip.Unmap().WithZone(""), at.Port()) {
			return fmt.Errorf("%w: %s leads to %s, which is no public address; list it under egress-allow if it is yours", ErrRefused, host, at)
		}
		return nil
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return d.DialContext(context.WithValue(ctx, hostKey{}, host), network, addr)
	}
}

// Networks that are not the public Internet, or lead into such: IANA's registries of special-purpose addresses (RFC 6890). 6to4,
// Teredo and NAT64 carry IPv4 addresses within.
var special = func() (out []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24",
		"192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",
		"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	} {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}()

// Public reports whether an address belongs to the public Internet.
func Public(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	ip = ip.Unmap()
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// transport checks each request and bounds each answer.
type transport struct {
	policy *policy
	next   http.RoundTripper
	max    int64
}

// CloseIdleConnections is what http.Client looks for.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.policy.check(r.URL); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	res, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.ContentLength > t.max {
		res.Body.Close()
		return nil, TooLarge{t.max}
	}
	res.Body = &bounded{res.Body, t.max, t.max}
	return res, nil
}

// check refuses what no connection is needed for to see. Plain HTTP is for listed destinations.
func (p *policy) check(u *url.URL) error {
	port, _ := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.User != nil:
		return fmt.Errorf("%w: a URL with a user name", ErrRefused)
	case u.Scheme == "http" && port == 0:
		port = 80
	case u.Scheme == "https" && port == 0:
		port = 443
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	listed := p.listed(u.Hostname(), ip.Unmap().WithZone(""), uint16(port))
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%w: a URL of scheme %q", ErrRefused, u.Scheme)
	case u.Scheme == "http" && !listed:
		return fmt.Errorf("%w: %s is plain HTTP; use https, or list the host under egress-allow", ErrRefused, u.Host)
	case ip.IsValid() && !Public(ip) && !listed: // also behind a proxy, which connects for us
		return fmt.Errorf("%w: %s is no public address; list it under egress-allow if it is yours", ErrRefused, u.Hostname())
	}
	return nil
}

// sameOrigin lets redirects stay where they are.
func sameOrigin(r *http.Request, via []*http.Request) error {
	switch first := via[0].URL; {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d redirects", ErrRefused, maxRedirects)
	case r.URL.Scheme != first.Scheme || !strings.EqualFold(r.URL.Host, first.Host):
		return fmt.Errorf("%w: a redirect from %s to %s", ErrRefused, first.Host, r.URL.Host)
	}
	return nil
}

// bounded is an answer's body of which at most left bytes may still be read.
type bounded struct {
	io.ReadCloser
	left, max int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, TooLarge{b.max}
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n + int(b.left), TooLarge{b.max}
	}
	return n, err
}
