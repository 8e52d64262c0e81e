package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// at connects to a port by a name with a certificate, until the server's certificate has that name if it shall.
func at(t *testing.T, s *Server, port, name string, pair *tls.Certificate, change func(*tls.Config)) (*tls.Conn, error) {
	t.Helper()
	cfg := &tls.Config{RootCAs: roots(t, s), ServerName: name}
	if pair != nil {
		cfg.Certificates = []tls.Certificate{*pair}
	}
	if change != nil {
		change(cfg)
	}
	nc, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", s.Env().Get(port)), cfg)
	if err == nil {
		t.Cleanup(func() { nc.Close() })
	}
	return nc, err
}

// until tries again while what a change of the server's names does is still being done.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatal(what)
}

func TestDomainsOfAccountsLeadToThem(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	admin, ctx := api(t, s), t.Context()
	rest := func(method, path string, in any) {
		t.Helper()
		noError(t, admin.REST(ctx, "iot", method, path, in, nil))
	}
	pair, id := furnishDevice(t, admin, "lamp", object{"Effect": "Allow", "Action": "iot:*", "Resource": "*",
		"Condition": object{"StringEquals": object{"iot:DomainName": []string{"iot.example.com", "mqtt.example.com", "https.example.com"}}}})
	offers := func(protocols ...string) func(*tls.Config) {
		return func(c *tls.Config) { c.NextProtos = protocols }
	}
	reaches := func(name string) bool {
		nc, err := at(t, s, "IOT_PORT", name, &pair, nil)
		return err == nil && nc.VerifyHostname(name) == nil
	}
	if reaches("iot.example.com") {
		t.Error("a name that nobody has configured is served")
	}
	rest("POST", "/domainConfigurations/own", object{"domainName": "iot.example.com", "tlsConfig": object{"securityPolicy": "IoTSecurityPolicy_TLS13_1_3_2022_10"}})
	rest("POST", "/domainConfigurations/mqtt", object{"domainName": "mqtt.example.com", "authenticationType": "AWS_X509", "applicationProtocol": "SECURE_MQTT",
		"tlsConfig": object{"securityPolicy": "IoTSecurityPolicy_TLS12_1_2_2022_10"}})
	rest("POST", "/domainConfigurations/https", object{"domainName": "https.example.com", "authenticationType": "AWS_X509", "applicationProtocol": "HTTPS"})
	for _, name := range []string{"iot.example.com", "mqtt.example.com"} {
		until(t, name+" is not served", func() bool { return reaches(name) })
	}

	// The certificate may connect by these names alone, and by them it is this account's.
	nc, err := at(t, s, "IOT_PORT", "iot.example.com", &pair, nil)
	noError(t, err)
	if v := nc.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("the domain for TLS 1.3 speaks %s", tls.VersionName(v))
	}
	mqtttest.New(t, nc, 5).Connected("lamp").Disconnect()
	if _, err := at(t, s, "IOT_PORT", "iot.example.com", &pair, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err == nil {
		t.Error("the domain for TLS 1.3 speaks 1.2")
	}
	if nc, err := at(t, s, "IOT_PORT", "mqtt.example.com", &pair, nil); err != nil || nc.ConnectionState().Version != tls.VersionTLS12 {
		t.Errorf("the domain for TLS 1.2: %v", err)
	}
	// MQTT on the port that all share, without ALPN: the domain is for that alone.
	nc, err = at(t, s, "IOT_ALPN_PORT", "mqtt.example.com", &pair, nil)
	noError(t, err)
	mqtttest.New(t, nc, 5).Connected("lamp").Disconnect()
	if _, err := at(t, s, "IOT_ALPN_PORT", "mqtt.example.com", &pair, offers("http/1.1")); err == nil {
		t.Error("HTTPS at the domain for MQTT")
	}
	if _, err := at(t, s, "IOT_PORT", "https.example.com", &pair, nil); err == nil {
		t.Error("MQTT at the domain for HTTPS")
	}
	// HTTPS with the certificate, without ALPN.
	web := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(t, s), ServerName: "https.example.com", Certificates: []tls.Certificate{pair}}}}
	defer web.CloseIdleConnections()
	until(t, "https.example.com is not served", func() bool {
		res, err := web.Post(s.site.baseURL()+"/topics/lamps/1?qos=1", "", nil)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("publishing: %d", res.StatusCode)
		}
		return true
	})

	rest("PUT", "/domainConfigurations/own", object{"domainConfigurationStatus": "DISABLED"})
	until(t, "a disabled domain is served", func() bool { return !reaches("iot.example.com") })
	rest("DELETE", "/domainConfigurations/own", nil)
	rest("PUT", "/certificates/"+id+"?newStatus=INACTIVE", nil)
}
