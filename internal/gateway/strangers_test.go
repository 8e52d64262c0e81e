package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"

	"github.com/imprint-iot/imprint/internal/trace"
)

// plain sends bytes without TLS and waits until the server has had enough.
func (s *site) plain(text string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.mqtt)
	check(s.t, err)
	defer c.Close()
	_, err = c.Write([]byte(text))
	check(s.t, err)
	_, _ = io.Copy(io.Discard, c)
}

func TestAHandshakeThatShowsNoCertificateLeavesATraceOfItsAddress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do          func(*site)
		cause, cure string
	}{
		"no certificate": {func(s *site) { s.refusal(s.mqtt, s.config(device{})) }, "showed no certificate", "its claim"},
		"the name of another server": {func(s *site) { s.refusal(s.mqtt, s.config(s.device(), withName("example.com"))) }, `"example.com"`,
			"DescribeEndpoint"},
		"a protocol that the port does not speak": {func(s *site) { s.refusal(s.mqtt, s.config(s.device(), withALPN("http/1.1"))) }, "http/1.1", "x-amzn-mqtt-ca"},
		"an old version": {func(s *site) {
			s.refusal(s.mqtt, s.config(s.device(), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }))
		}, "old version", "TLS 1.2"},
		"MQTT in plain text": {func(s *site) { s.plain("\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04lamp") }, "MQTT without TLS", "turn TLS on"},
		"HTTP in plain text": {func(s *site) { s.plain("GET / HTTP/1.1\r\nHost: iot.lan\r\n\r\n") }, "HTTP without TLS", "https://"},
		"something else":     {func(s *site) { s.plain("hello there") }, "no TLS", "8883"},
		"a client that does not know our root": {func(s *site) {
			_, err := tls.Dial("tcp", s.mqtt, &tls.Config{ServerName: "iot.lan", RootCAs: x509.NewCertPool()})
			if err == nil {
				s.t.Error("the client trusts anybody")
			}
		}, "refused the server's certificate", "imprint ca"},
		"the key of another certificate": {func(s *site) {
			d, other := s.device(), s.device()
			d.PrivateKey = other.PrivateKey
			s.refusal(s.mqtt, s.config(d))
		}, "does not hold the key", "one pair"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			c.do(s)
			s.wantTrace(c.cause, c.cure)
		})
	}
}

func TestAProbeLeavesNoTrace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c, err := net.Dial("tcp", s.mqtt)
	check(t, err)
	c.Close()
	if cause := heard(t, s.handshakes); cause != causeClosed {
		t.Errorf("the handshake ended by %s", cause)
	}
	s.refusal(s.mqtt, s.config(device{}))
	s.wantTrace("showed no certificate", "claim") // it would have come after the probe's
}

func TestTwoDevicesWithOneClientIdLeaveATrace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second := s.device(allow("iot:*")), s.device(allow("iot:*"))
	s.openWith(4, s.config(first)).Connected("lamp")
	s.openWith(4, s.config(second)).Connected("lamp")
	if r := s.trace(); r.Kind != trace.Disconnect || r.Code != "DUPLICATE_CLIENTID" || r.Facts["certificateId"] != first.id || r.Cure == "" {
		t.Errorf("%s", r.Text())
	}
}
