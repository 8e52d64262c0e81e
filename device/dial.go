package device

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/device/internal/mqtt"
)

// DefaultPorts are tried if nobody names a port.
var DefaultPorts = []int{8883, 443}

const (
	plainPort = 8883             // MQTT over TLS and nothing else: no ALPN needed
	alpn      = "x-amzn-mqtt-ca" // elsewhere MQTT shares the port with HTTPS (iot-core spec 6.1)

	connectTimeout = 20 * time.Second // TCP, TLS and CONNECT together, per port
)

// A DialFunc opens TCP connections: net.Dialer.DialContext, or something that goes through a proxy.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// A dialer opens MQTT connections over mutual TLS.
type dialer struct {
	endpoint string
	ports    []int
	roots    *x509.CertPool // nil: the system's
	version  mqtt.Version
	now      func() time.Time
	dial     DialFunc
	log      *slog.Logger
	since    time.Time // when the certificate of the last server began
}

// connect tries the ports in order and returns the connection with the port that worked. Only a port that cannot be reached
// leads to the next: a server that refuses us on one would do so on all.
func (d *dialer) connect(ctx context.Context, pair tls.Certificate, o mqtt.Options, refused func(string, error) *Error) (*mqtt.Client, int, error) {
	o.Version = d.version
	var last *Error
	for _, port := range d.ports {
		address := net.JoinHostPort(d.endpoint, strconv.Itoa(port))
		c, err := d.try(ctx, address, port, pair, o)
		if err == nil {
			return c, port, nil
		}
		last = connectError(ctx, address, err, refused)
		if last.Code != CodeUnreachable || ctx.Err() != nil {
			break
		}
		d.log.Debug("no connection", "server", address, "reason", err)
	}
	return nil, 0, last
}

func (d *dialer) try(ctx context.Context, address string, port int, pair tls.Certificate, o mqtt.Options) (*mqtt.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	raw, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: d.endpoint, RootCAs: d.roots, Time: d.now, MinVersion: tls.VersionTLS12,
		// Not Certificates: that would send nothing if the server listed roots that the certificate does not come from.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	if port != plainPort {
		config.NextProtos = []string{alpn}
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	d.since = conn.ConnectionState().PeerCertificates[0].NotBefore
	return mqtt.Connect(ctx, conn, o)
}

// splitEndpoint takes a port off an endpoint that has one.
func splitEndpoint(endpoint string) (host string, port int, err error) {
	if strings.ContainsAny(endpoint, "/ @") {
		return "", 0, usage("give the bare host name that `aws iot describe-endpoint` tells", "%q is no host name", endpoint)
	}
	host, text, err := net.SplitHostPort(endpoint)
	if err != nil {
		return endpoint, 0, nil // without a port
	}
	if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 || host == "" {
		return "", 0, usage("HOST or HOST:PORT", "%q is no endpoint", endpoint)
	}
	return host, port, nil
}

// laterOf corrects a clock that is behind: whatever a trusted side has dated cannot lie in the future. Devices without a
// battery start in 1970, and would not trust any certificate.
func laterOf(clock func() time.Time, floors ...time.Time) func() time.Time {
	return func() time.Time {
		now := clock()
		for _, f := range floors {
			if f.After(now) {
				now = f
			}
		}
		return now
	}
}

// A risingClock is a clock that is behind, corrected by the newest time that a trusted side has dated something with. It goes on from
// there, until the clock itself has got so far.
type risingClock struct {
	base func() time.Time

	mu        sync.Mutex
	floor, at time.Time // it was at least floor when base said at
}

func (c *risingClock) atLeast(t time.Time) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(now) {
		c.floor, c.at = t, c.base()
	}
}

func (c *risingClock) now() time.Time {
	t := c.base()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.Before(c.floor) {
		return t
	}
	return c.floor.Add(max(0, t.Sub(c.at)))
}

func mqttVersion(s string) (mqtt.Version, error) {
	switch s {
	case "", MQTT311:
		return mqtt.V311, nil
	case MQTT5:
		return mqtt.V5, nil
	}
	return 0, usage("3.1.1 or 5", "%q is no version of MQTT", s)
}
