package gateway

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
)

func withALPN(names ...string) func(*tls.Config) {
	return func(c *tls.Config) { c.NextProtos = names }
}

func withName(name string) func(*tls.Config) {
	return func(c *tls.Config) {
		c.ServerName = name
		if name == "" {
			c.ServerName, c.InsecureSkipVerify = "127.0.0.1", true // an address is not sent
		}
	}
}

func tls12(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }

func TestCertificatesThatMayNotConnectGetAnAlertAndATrace(t *testing.T) {
	t.Parallel()
	const disabled = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:DescribeThing","Resource":"*"}]}`
	for name, c := range map[string]struct {
		device      func(*site) device
		cause, cure string
	}{
		"of a stranger": {func(s *site) device { return s.stranger(s.now, s.now.Add(time.Hour)) }, "not registered", "register the certificate"},
		"of ours that was deleted": {func(s *site) device {
			d := s.device()
			s.status(d, fleet.Inactive)
			s.tx(func(tx *store.Tx) error { return registry.DeleteCertificate(tx, here, d.id, false) })
			return d
		}, "signed by our device issuer", "provision the device anew"},
		"inactive": {func(s *site) device { d := s.device(); s.status(d, fleet.Inactive); return d }, "is INACTIVE", "--new-status ACTIVE"},
		"revoked":  {func(s *site) device { d := s.device(); s.status(d, fleet.Revoked); return d }, "is REVOKED", "a new certificate"},
		"pending": {func(s *site) device {
			key := newKey(s.t)
			r := provision.Requester{Scope: here, PrincipalID: s.claim("lamps").id, IsClaim: true, Template: "lamps"}
			c, err := s.prov.CreateCertificateFromCSR(s.t.Context(), r, csr(s.t, key))
			check(s.t, err)
			return holder(c.PEM, key)
		}, "PENDING_ACTIVATION", "register the thing"},
		"expired": {func(s *site) device {
			d := s.short(time.Hour)
			s.pass(2 * time.Hour)
			return d
		}, "is valid from", "clock"},
		"not valid yet": {func(s *site) device {
			d := s.short(time.Hour)
			s.pass(-time.Hour)
			return d
		}, "is valid from", "clock"},
		"of an expired claim":   {func(s *site) device { d := s.claim("lamps"); s.pass(6 * time.Minute); return d }, "the claim expired", "new claim"},
		"of a withdrawn claim":  {func(s *site) device { d := s.claim("lamps"); s.withdraw(d); return d }, "was revoked", "new claim"},
		"of a deleted template": {func(s *site) device { d := s.claim("lamps"); s.dropTemplate("lamps"); return d }, "does not exist any more", "new claim"},
		"of a disabled template": {func(s *site) device {
			d := s.claim("lamps")
			s.disable("lamps")
			return d
		}, "is disabled", "enable the template"},
		"of an installer without the right": {func(s *site) device {
			d := s.claim("lamps")
			check(s.t, s.iam.PutInline(s.t.Context(), here, store.IAMUser, "ann", "claims", disabled))
			return d
		}, "may not provision with template", "new claim"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			d := c.device(s)
			for _, change := range []func(*tls.Config){func(*tls.Config) {}, tls12} {
				if alert := s.refusal(s.mqtt, s.config(d, change)); alert != "bad certificate" {
					t.Errorf("alert %q", alert)
				}
				s.wantTrace(c.cause, c.cure)
			}
		})
	}
}

// short is a device whose certificate is valid for d.
func (s *site) short(d time.Duration) device {
	key := newKey(s.t)
	leaf, err := s.ca.IssueDevice(pki.DeviceRequest{PublicKey: key.Public(), Validity: d})
	check(s.t, err)
	s.tx(func(tx *store.Tx) error {
		_, err := registry.RegisterWithoutCA(tx, here, leaf.PEM, fleet.Active)
		return err
	})
	return holder(leaf.PEM, key)
}

func (s *site) withdraw(claim device) { check(s.t, s.prov.RevokeClaim(s.t.Context(), here, claim.id)) }

func (s *site) dropTemplate(name string) {
	check(s.t, s.prov.DeleteTemplate(s.t.Context(), here, name))
}

func (s *site) disable(name string) {
	check(s.t, s.prov.UpdateTemplate(s.t.Context(), s.ann, name, provision.TemplateChange{Enabled: new(false)}))
}

func TestWithoutCertificateThereIsNoMQTT(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, c := range map[string]struct {
		address string
		alpn    func(*tls.Config)
	}{"on the MQTT port": {s.mqtt, withALPN()}, "by ALPN": {s.https, withALPN("x-amzn-mqtt-ca")}} {
		if alert := s.refusal(c.address, s.config(device{}, c.alpn)); alert != "certificate required" {
			t.Errorf("%s: alert %q", name, alert)
		}
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:*"))
	for _, address := range []string{s.mqtt, s.https} {
		alert := s.refusal(address, s.config(d, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }))
		if alert != "protocol version not supported" {
			t.Errorf("alert %q", alert)
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s.openWith(4, s.config(d, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })).Connected("a").Disconnect()
	}
}

func TestServerNamesOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:*"))
	for _, name := range []string{"example.com", "iot.lan.example.com", "a.b.iot.us-east-1.iot.lan"} {
		if alert := s.refusal(s.mqtt, s.config(d, withName(name))); alert != "unrecognized name" {
			t.Errorf("%s: alert %q", name, alert)
		}
		if alert := s.refusal(s.https, s.config(d, withName(name), withALPN("x-amzn-mqtt-ca"))); alert != "unrecognized name" {
			t.Errorf("%s by ALPN: alert %q", name, alert)
		}
	}
	for _, name := range []string{"iot.lan", "IOT.lan", "localhost", "abc-ats.iot.us-east-1.iot.lan", ""} {
		s.openWith(4, s.config(d, withName(name))).Connected("a").Disconnect()
	}
}

func TestTheHTTPSPortIsSharedByALPN(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:*"))
	for name, c := range map[string]struct {
		offer []string
		want  string
	}{
		"device SDK":            {[]string{"x-amzn-mqtt-ca"}, "x-amzn-mqtt-ca"},
		"mqtt":                  {[]string{"mqtt"}, "mqtt"},
		"MQTT and HTTP":         {[]string{"http/1.1", "x-amzn-mqtt-ca"}, "x-amzn-mqtt-ca"},
		"HTTP/1.1":              {[]string{"http/1.1"}, "HTTP/1.1"},
		"HTTP/2":                {[]string{"h2", "http/1.1"}, "HTTP/2.0"},
		"nothing":               {nil, "HTTP/1.1"},
		"something unheard of":  {[]string{"gopher"}, ""},
		"HTTP by certificate":   {[]string{"http/1.1", "x-amzn-http-ca"}, "HTTP/1.1"},
		"unheard of and h2 too": {[]string{"gopher", "h2"}, "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			config := s.config(d, withALPN(c.offer...))
			if c.want == "" {
				if alert := s.refusal(s.https, config); alert != "no application protocol" {
					t.Errorf("alert %q", alert)
				}
				return
			}
			tc, err := s.dial(s.https, config)
			check(t, err)
			if isMQTT(c.want) {
				if got := tc.ConnectionState().NegotiatedProtocol; got != c.want {
					t.Errorf("negotiated %q", got)
				}
				mqtttest.New(t, tc, 5).Connected("a").Disconnect()
				return
			}
			tc.Close()
			web := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: c.want == "HTTP/2.0"}}
			defer web.CloseIdleConnections()
			res, err := web.Get("https://" + s.https)
			check(t, err)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			check(t, err)
			if string(body) != c.want {
				t.Errorf("served %s, want %s", body, c.want)
			}
		})
	}
}

func TestTheMQTTPortNeedsNoALPN(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:*"))
	for _, offer := range [][]string{nil, {"x-amzn-mqtt-ca"}, {"mqtt"}} {
		s.openWith(4, s.config(d, withALPN(offer...))).Connected("a").Disconnect()
	}
	if alert := s.refusal(s.mqtt, s.config(d, withALPN("http/1.1"))); alert != "no application protocol" {
		t.Errorf("alert %q", alert)
	}
}

func TestACertificateOfSeveralAccountsIsToldApartByServerName(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	there := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	endpoint := map[fleet.Scope]string{}
	s.tx(func(tx *store.Tx) error { return tx.CreateAccount(there.Account, "other") })
	for _, scope := range []fleet.Scope{here, there} {
		prefix, err := s.reg.EndpointPrefix(t.Context(), scope)
		check(t, err)
		endpoint[scope] = prefix + "-ats.iot.us-east-1.iot.lan"
	}
	d := s.short(time.Hour) // registered here
	refusedByPolicy := func(name string) {
		t.Helper()
		if ack := s.openWith(5, s.config(d, withName(name))).Connect("a"); ack.ReasonCode != 0x87 {
			t.Errorf("%s: CONNACK %#x", name, ack.ReasonCode)
		}
		s.wantTrace("iot:Connect on client/a", "allow iot:Connect")
	}
	refusedByPolicy(endpoint[here])
	if alert := s.refusal(s.mqtt, s.config(d, withName(endpoint[there]))); alert != "bad certificate" {
		t.Errorf("the other account's name: %q", alert)
	}
	s.wantTrace("SNI", "DescribeEndpoint")
	if alert := s.refusal(s.mqtt, s.config(d, withName(""))); alert != "bad certificate" {
		t.Errorf("no name: %q", alert)
	}
	s.wantTrace("SNI", "DescribeEndpoint")
	refusedByPolicy("iot.lan") // the name of the whole host, and there is one registration only

	s.tx(func(tx *store.Tx) error {
		c, err := tx.Certificate(here, d.id)
		if err != nil {
			return err
		}
		_, err = registry.RegisterWithoutCA(tx, there, c.PEM, fleet.Active)
		return err
	})
	s.tx(func(tx *store.Tx) error {
		if _, err := registry.CreatePolicy(tx, there, "all", document(allow("iot:*")), nil); err != nil {
			return err
		}
		return registry.AttachPolicy(tx, there, "all", there.IoT("cert", d.id))
	})
	s.openWith(5, s.config(d, withName(endpoint[there]))).Connected("a").Disconnect() // only there it has a policy
	refusedByPolicy(endpoint[here])
	refusedByPolicy("iot.lan") // of several, whoever came first
}

func TestAStrangersRegistrationTakesNoDeviceAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tenant := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	for name, mode := range map[string]fleet.CertificateMode{"issued by the service": fleet.ModeDefault, "brought along": fleet.ModeSNIOnly} {
		t.Log(name)
		key := newKey(t)
		leaf, err := s.ca.IssueDevice(pki.DeviceRequest{PublicKey: key.Public()})
		check(t, err)
		register := func(scope fleet.Scope, mode fleet.CertificateMode) {
			s.pass(time.Second)
			s.tx(func(tx *store.Tx) error {
				return tx.CreateCertificate(scope, fleet.Certificate{ID: leaf.ID, PEM: leaf.PEM, Status: fleet.Active, Mode: mode, Version: 1,
					NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Created: tx.Now(), Modified: tx.Now()})
			})
		}
		register(tenant, mode)
		register(fleet.Scope{Account: "222222222222", Region: "us-east-1"}, fleet.ModeSNIOnly)
		s.tx(func(tx *store.Tx) error {
			if _, err := registry.CreatePolicy(tx, tenant, string(mode), document(allow("iot:*")), nil); err != nil {
				return err
			}
			return registry.AttachPolicy(tx, tenant, string(mode), tenant.IoT("cert", leaf.ID))
		})
		d := holder(leaf.PEM, key)
		s.openWith(5, s.config(d, withName("iot.lan"))).Connected("a").Disconnect() // only the tenant has a policy for it
		if mode == fleet.ModeDefault {
			s.openWith(5, s.config(d, withName(""))).Connected("a").Disconnect()
		}
	}
}
