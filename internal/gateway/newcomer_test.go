package gateway

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
)

// A plant is a customer with a CA.
type plant struct {
	*site
	id   string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

const plantBody = `{"Parameters":{"AWS::IoT::Certificate::CommonName":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},"Resources":{
	"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"AWS::IoT::Certificate::CommonName"}}},
	"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
	"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"all"}}}}`

// plant registers a CA in mode DEFAULT, active and with auto-registration; a body provisions its devices.
func (s *site) plant(body string) *plant {
	s.t.Helper()
	p := &plant{site: s, key: newKey(s.t)}
	p.cert = p.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Plant CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, p.key)
	n := provision.NewCA{PEM: pki.CertificatePEM(p.cert.Raw), Active: true, Auto: true}
	if body != "" {
		n.Config = &fleet.RegistrationConfig{Body: body, RoleARN: here.IAM("role/provisioner")}
	}
	code := ""
	s.tx(func(tx *store.Tx) (err error) {
		code, err = registry.RegistrationCode(tx, here, strings.Repeat("c0de", 16))
		return err
	})
	n.Verification = pki.CertificatePEM(p.sign(&x509.Certificate{Subject: pkix.Name{CommonName: code}}, p.cert, newKey(s.t)).Raw)
	ca, err := s.prov.RegisterCA(s.t.Context(), s.ann, n)
	check(s.t, err)
	p.id = ca.ID
	return p
}

func (p *plant) sign(c, by *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	p.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(p.t, err)
	c.SerialNumber = serial
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = p.gw.Clock.Now().Add(-time.Hour), p.gw.Clock.Now().Add(24*time.Hour)
	}
	if by == nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), p.key)
	check(p.t, err)
	out, err := x509.ParseCertificate(der)
	check(p.t, err)
	return out
}

// made is a device with a certificate of the plant.
func (p *plant) made(name string) device {
	p.t.Helper()
	key := newKey(p.t)
	return holder(pki.CertificatePEM(p.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}}, p.cert, key).Raw), key)
}

// turnedAway connects, and wants the connection to end without a CONNACK.
func (p *plant) turnedAway(d device, change ...func(*tls.Config)) {
	p.t.Helper()
	c := p.openWith(5, p.config(d, change...))
	c.Raw(0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 3, 'a', 'b', 'c')
	if pk, ok := c.Next(); ok {
		p.t.Errorf("got a packet of type %d, want the end of the connection", pk.FixedHeader.Type)
	}
}

func TestTheFirstConnectionProvisionsAndEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.policy("all", allow("iot:*"))
	p := s.plant(plantBody)
	listener := s.open(s.device(allow("iot:*")), 5).Connected("listener#")
	listener.Subscribe("$aws/events/certificates/registered/#")
	for _, change := range []func(*tls.Config){func(*tls.Config) {}, tls12} {
		d := p.made("lamp-1")
		p.turnedAway(d, change)
		m := event(t, listener, "certificates/registered/"+p.id)
		want(t, m, map[string]any{"certificateId": d.id, "caCertificateId": p.id, "timestamp": float64(s.gw.Clock.Now().UnixMilli()), "certificateStatus": "PENDING_ACTIVATION",
			"awsAccountId": here.Account, "certificateRegistrationTimestamp": "1777896000000"})
		if len(m) != 6 {
			t.Errorf("the event has other members: %v", m)
		}
		s.openWith(5, s.config(d, change)).Connected("lamp-1").Disconnect()
	}
}

func TestHoldFirstConnectGoesOnWithTheFirstConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.HoldFirstConnect = true })
	s.policy("all", allow("iot:Connect", "client/lamp-*"), allow("iot:Publish"))
	p := s.plant(plantBody)
	c := s.open(p.made("lamp-1"), 4).Connected("lamp-1")
	c.Publish("a", "b", 1)
	c.Disconnect()
	if ack := s.open(p.made("lamp-2"), 5).Connect("other"); ack.ReasonCode != 0x87 {
		t.Errorf("its policy holds from the first moment: CONNACK %#x", ack.ReasonCode)
	}
}

func TestAWaitingCertificateTellsSoEachTime(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.HoldFirstConnect = true }) // which is for devices that are provisioned
	p := s.plant("")
	listener := s.open(s.device(allow("iot:*")), 5).Connected("listener#")
	listener.Subscribe("$aws/events/certificates/registered/" + p.id)
	d := p.made("lamp-1")
	var registered any
	for range 2 {
		p.turnedAway(d)
		m := event(t, listener, "certificates/registered/"+p.id)
		if registered != nil && m["certificateRegistrationTimestamp"] != registered {
			t.Errorf("another time of registration: %v", m)
		}
		registered = m["certificateRegistrationTimestamp"]
		s.pass(time.Minute)
	}
	s.status(d, fleet.Active) // whoever listens has decided
	s.tx(func(tx *store.Tx) error {
		if _, err := registry.CreatePolicy(tx, here, "all", document(allow("iot:*")), nil); err != nil {
			return err
		}
		return registry.AttachPolicy(tx, here, "all", d.arn)
	})
	s.open(d, 5).Connected("lamp-1").Disconnect()
	s.status(d, fleet.Revoked)
	if alert := s.refusal(s.mqtt, s.config(d)); alert != "bad certificate" {
		t.Errorf("alert %q", alert)
	}
}

func TestWhyANewcomerWaitsIsTraced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.plant(plantBody) // there is no policy "all"
	d := p.made("lamp-1")
	p.turnedAway(d)
	s.wantTrace(`policy "all": does not exist`, "imprint template lint")
	s.wantTrace(`policy "all": does not exist`, "imprint template lint") // of the connection
	if s.ready(d) {
		t.Error("it is active")
	}
	s.policy("all", allow("iot:*"))
	s.pass(2 * time.Second)
	p.turnedAway(d)
	s.open(d, 5).Connected("lamp-1").Disconnect()
}

func (s *site) ready(d device) (active bool) {
	s.t.Helper()
	check(s.t, s.db.View(s.t.Context(), func(tx *store.Tx) error {
		c, err := tx.Certificate(here, d.id)
		active = c.Status == fleet.Active
		return err
	}))
	return active
}

func TestWhoIsNotRegisteredByAConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.policy("all", allow("iot:*"))
	p := s.plant(plantBody)
	forged := p.made("lamp-1")
	forged.PrivateKey = newKey(t)
	inactive := func() {
		check(t, s.prov.UpdateCA(t.Context(), s.ann, p.id, provision.CAChange{Status: fleet.Inactive}))
	}
	for _, c := range []struct {
		name, alert, cause, cure string
		d                        device
		config                   func(*tls.Config)
		before                   func()
	}{
		{"without the key", "", "does not hold the key", "of one pair", forged, nil, nil},
		{"of a stranger", "bad certificate", "not registered", "register the certificate", s.stranger(s.now, s.now.Add(time.Hour)), nil, nil},
		{"without server name", "bad certificate", "names no account by SNI", "DescribeEndpoint", p.made("lamp-2"), withName(""), nil},
		{"of an inactive CA", "bad certificate", "is registered and INACTIVE", "--new-status ACTIVE", p.made("lamp-3"), nil, inactive},
	} {
		if c.before != nil {
			c.before()
		}
		config := s.config(c.d)
		if c.config != nil {
			config = s.config(c.d, c.config)
		}
		if alert := s.refusal(s.mqtt, config); c.alert != "" && alert != c.alert {
			t.Errorf("%s: alert %q", c.name, alert)
		}
		s.wantTrace(c.cause, c.cure)
		check(t, s.db.View(t.Context(), func(tx *store.Tx) error {
			if found, err := tx.CertificatesByID(c.d.id); err != nil || len(found) > 0 {
				t.Errorf("%s: registered (%v)", c.name, err)
			}
			return nil
		}))
	}
}

func TestOverHTTPSNobodyIsRegistered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.plant(plantBody)
	d := p.made("lamp-1")
	if alert := s.refusal(s.https, s.config(d, withALPN(alpnHTTPCert))); alert != "bad certificate" {
		t.Errorf("alert %q", alert)
	}
}

// register registers a device without a CA in an account that allows it everything.
func (s *site) register(scope fleet.Scope, d device) {
	s.t.Helper()
	s.pass(time.Second)
	s.tx(func(tx *store.Tx) error {
		if _, err := registry.RegisterWithoutCA(tx, scope, pki.CertificatePEM(d.Certificate.Certificate[0]), fleet.Active); err != nil {
			return err
		}
		if _, err := registry.CreatePolicy(tx, scope, "of-"+d.id[:8], document(allow("iot:*")), nil); err != nil {
			return err
		}
		return registry.AttachPolicy(tx, scope, "of-"+d.id[:8], scope.IoT("cert", d.id))
	})
}

// account is where the service has put a device that connects under a name.
func (s *site) account(d device, name string) string {
	s.t.Helper()
	c := s.openWith(5, s.config(d, withName(name))).Connected("a")
	defer c.Disconnect()
	for _, scope := range []fleet.Scope{here, tenant, stranger} {
		if state, err := s.gw.broker.Client(s.t.Context(), scope, "a"); err == nil && state.Connected {
			return scope.Account
		}
	}
	return "none"
}

var (
	tenant   = fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	stranger = fleet.Scope{Account: "222222222222", Region: "us-east-1"}
)

// TestWhoRegistersSomebodysCertificateFirstDoesNotGetItsDevice where all accounts share one name.
func TestWhoRegistersSomebodysCertificateFirstDoesNotGetItsDevice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.policy("all", allow("iot:*"))
	p := s.plant(plantBody)

	d := p.made("lamp-1") // its CA is proven to be here's
	s.register(stranger, d)
	p.turnedAway(d)
	if got := s.account(d, "iot.lan"); got != here.Account {
		t.Errorf("a device of a proven CA is in account %s", got)
	}

	own := s.stranger(s.now.Add(-time.Hour), s.now.Add(time.Hour)) // nothing is known of its CA
	s.register(stranger, own)
	if got := s.account(own, "iot.lan"); got != stranger.Account {
		t.Errorf("a device that one account alone has registered is in account %s", got)
	}
	s.register(here, own)
	if got := s.account(own, "iot.lan"); got != here.Account {
		t.Errorf("a device that the account of the name has registered, too, is in account %s", got)
	}
}

func TestWhereAccountsHaveNamesOfTheirOwnTheHostsNameIsTheFirstAccounts(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.OwnNames = true })
	prefix, err := s.reg.EndpointPrefix(t.Context(), tenant)
	check(t, err)
	d := s.stranger(s.now.Add(-time.Hour), s.now.Add(time.Hour))
	s.register(tenant, d)
	if alert := s.refusal(s.mqtt, s.config(d)); alert != "bad certificate" {
		t.Errorf("under the host's name: alert %q", alert)
	}
	s.wantTrace("SNI", "DescribeEndpoint")
	if got := s.account(d, prefix+"-ats.iot.us-east-1.iot.lan"); got != tenant.Account {
		t.Errorf("under the tenant's name it is in account %s", got)
	}
	s.register(here, d)
	if got := s.account(d, "iot.lan"); got != here.Account {
		t.Errorf("under the host's name it is in account %s", got)
	}
}

func TestOneCAInSeveralAccounts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := &plant{site: s, key: newKey(t)}
	p.cert = p.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Plant CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, p.key)
	names := map[fleet.Scope]string{}
	for _, scope := range []fleet.Scope{tenant, stranger} {
		s.tx(func(tx *store.Tx) error {
			ca, err := registry.NewCA(p.cert)
			check(t, err)
			ca.Mode, ca.Status, ca.Auto = fleet.ModeSNIOnly, fleet.Active, true
			_, err = registry.RegisterCA(tx, scope, ca, nil)
			return err
		})
		prefix, err := s.reg.EndpointPrefix(t.Context(), scope)
		check(t, err)
		names[scope] = prefix + "-ats.iot.us-east-1.iot.lan"
	}
	d := p.made("lamp-1")
	for scope, name := range names { // each account gets a registration of its own
		p.turnedAway(d, withName(name))
		check(t, s.db.View(t.Context(), func(tx *store.Tx) error {
			c, err := tx.Certificate(scope, d.id)
			if err == nil && (c.Status != fleet.PendingActivation || c.Mode != fleet.ModeSNIOnly) {
				t.Errorf("registered %s, %s", c.Status, c.Mode)
			}
			return err
		}))
	}
	other := p.made("lamp-2")
	if alert := s.refusal(s.mqtt, s.config(other)); alert != "bad certificate" {
		t.Errorf("under the host's name: alert %q", alert)
	}
	s.wantTrace("SNI_ONLY", "endpoint")
}
