package gateway

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// renewing makes a template whose devices may do everything that a policy can allow, with settings.
func (s *site) renewing(name, settings string) {
	s.t.Helper()
	body := strings.Replace(lamps, "{", `{"Mappings": {"Imprint": {"Settings": {`+settings+`}}}, `, 1)
	body = strings.Replace(body, `"certificate":`, `"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "everything"}}, "certificate":`, 1)
	_, err := s.prov.CreateTemplate(s.t.Context(), s.ann, provision.NewTemplate{Name: name, Body: body, RoleARN: here.IAM("role/provisioner"), Enabled: new(true)})
	check(s.t, err)
}

// shortLived is a device that was registered with a template for the thing lamp-SERIAL; its certificate lives so long.
func (s *site) shortLived(template, serial string, life time.Duration) device {
	s.t.Helper()
	d := s.short(life)
	s.thing(registry.ThingSpec{Name: "lamp-" + serial}, d, fleet.NonExclusive)
	s.attach("everything", d.arn)
	s.tx(func(tx *store.Tx) error {
		return tx.PutRegistration(here, store.Registration{Certificate: d.id, Thing: "lamp-" + serial, Template: template, Version: 1, Principal: strings.Repeat("c", 64),
			Parameters: "of another time", Created: tx.Now()})
	})
	return d
}

// renew gets a device its next certificate over its connection.
func (s *site) renew(c *mqtttest.Client, template, serial string) device {
	s.t.Helper()
	key := newKey(s.t)
	topic := "$aws/certificates/create-from-csr/json"
	created := answer(s.t, exchange(c, topic, body(s.t, "json", map[string]any{"certificateSigningRequest": csr(s.t, key)})), topic+"/accepted")
	topic = "$aws/provisioning-templates/" + template + "/provision/json"
	m := answer(s.t, exchange(c, topic, body(s.t, "json", map[string]any{"certificateOwnershipToken": created["certificateOwnershipToken"],
		"parameters": map[string]string{"Serial": serial}})), topic+"/accepted")
	if m["thingName"] != "lamp-"+serial {
		s.t.Errorf("renewed as %v", m["thingName"])
	}
	return holder(created["certificatePem"].(string), key)
}

func TestAnExpiredCertificateMayRenewItselfAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.policy("everything", allow("iot:*"))
			s.renewing("strict", `"RenewalParameters": "any"`)
			s.renewing("kind", `"ExpiredGrace": "2d", "RenewalOverlap": "0s", "RenewalParameters": "any"`)
			d, strict, late := s.shortLived("kind", "1", time.Hour), s.shortLived("strict", "2", time.Hour), s.shortLived("kind", "3", time.Hour)
			s.pass(24 * time.Hour)
			if alert := s.refusal(s.mqtt, s.config(strict)); alert != "bad certificate" {
				t.Errorf("without a setting: alert %q", alert)
			}
			s.wantTrace("is valid from", "clock")

			c := s.open(d, version).Connected("lamp-1")
			if version == 5 { // in 3.1.1 a refusal ends the connection
				for _, filter := range []string{"lamps/1", "#", "$aws/things/lamp-1/shadow/get/accepted", "$aws/provisioning-templates/strict/provision/json/accepted", "$aws/certificates/#"} {
					if codes := c.Subscribe(filter); codes[0] < 0x80 {
						t.Errorf("an expired certificate subscribes to %s", filter)
					}
				}
			}
			next := s.renew(c, "kind", "1")
			s.open(next, version).Connected("another client").Disconnect()
			if version == 5 {
				c.WantDisconnect(0x87)
			} else {
				c.WantClosed()
			}
			if alert := s.refusal(s.mqtt, s.config(d)); alert != "bad certificate" {
				t.Errorf("after its successor has connected: alert %q", alert)
			}
			s.pass(25 * time.Hour)
			if alert := s.refusal(s.mqtt, s.config(late)); alert != "bad certificate" {
				t.Errorf("after the grace: alert %q", alert)
			}
		})
	}
}

func TestAnExpiredCertificatePublishesNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.policy("everything", allow("iot:*"))
	s.renewing("kind", `"ExpiredGrace": "2d"`)
	d := s.shortLived("kind", "1", time.Hour)
	s.pass(24 * time.Hour)
	for _, topic := range []string{"lamps/1", "$aws/provisioning-templates/lamps/provision/json", "$aws/rules/x/y"} {
		c := s.open(d, 5).Connected("lamp-1")
		if ack := c.Publish(topic, "x", 1); ack.ReasonCode != 0x87 {
			t.Errorf("%s: answered with %#x", topic, ack.ReasonCode)
		}
		c.Close()
	}
	will := func(p *packets.Packet) {
		p.Connect.WillFlag, p.Connect.WillTopic, p.Connect.WillPayload = true, "lamps/1", []byte("gone")
	}
	if ack := s.open(d, 5).Connect("lamp-1", will); ack.ReasonCode != 0x87 {
		t.Errorf("a last will: answered with %#x", ack.ReasonCode)
	}
}

// A session that was open when its certificate expired goes on, but does not renew what there is no grace for.
func TestARenewalOverAnOpenConnectionHeedsTheEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.policy("everything", allow("iot:*"))
	s.renewing("strict", "")
	d := s.shortLived("strict", "1", time.Hour)
	c := s.open(d, 4).Connected("lamp-1")
	s.pass(2 * time.Hour)
	topic := "$aws/certificates/create-from-csr/json"
	wantRejected(t, exchange(c, topic, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, newKey(t))})), topic, 403, provision.CodeAccessDenied)
}

// The certificate that a device had before ends, with its session, once the new one has connected.
func TestTheFirstConnectionOfANewCertificateEndsTheOldOne(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.policy("everything", allow("iot:*"))
	s.renewing("kind", `"RenewalOverlap": "0s", "RenewalParameters": "any"`)
	d := s.shortLived("kind", "1", time.Hour)
	c := s.open(d, 4).Connected("lamp-1")
	next := s.renew(c, "kind", "1")
	s.open(next, 4).Connected("another client").Ping()
	c.WantClosed()
	use := s.used(next)
	if !use.First.Equal(s.gw.Clock.Now()) {
		t.Errorf("first seen %v", use.First)
	}
	r := <-s.retired()
	if r != d.id {
		t.Errorf("the trace is about %s", r)
	}
}

func (s *site) used(d device) (u store.CertificateUse) {
	s.t.Helper()
	check(s.t, s.db.View(s.t.Context(), func(tx *store.Tx) (err error) {
		u, _, err = tx.CertificateUse(here, d.id)
		return err
	}))
	return u
}

// retired gives the certificate of the newest trace of a retirement.
func (s *site) retired() chan string {
	out := make(chan string, 1)
	check(s.t, s.db.View(s.t.Context(), func(tx *store.Tx) error {
		list, err := tx.Traces(here, "lamp-1", 100)
		for _, r := range list {
			if r.Kind == "retire" {
				out <- r.Facts["certificateId"]
				break
			}
		}
		close(out)
		return err
	}))
	return out
}

// A connection over HTTPS lives as long as requests come, and its certificate was looked at when it began.
func TestACertificateThatExpiresIsRefusedOnAnOpenHTTPSConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.short(time.Hour)
	s.policy("everything", allow("iot:*"))
	s.attach("everything", d.arn)
	leaf, err := x509.ParseCertificate(d.Certificate.Certificate[0])
	check(t, err)
	facts, err := pki.NewFacts(leaf)
	check(t, err)
	https := &HTTPSDevice{g: s.gw, a: &arrival{address: "192.0.2.1", who: identity{scope: here, principal: d.id, facts: facts}}}
	alias := fleet.RoleAlias{Name: "lamp"}
	for _, expired := range []bool{false, true} {
		if expired {
			s.pass(2 * time.Hour)
		}
		err := https.Authorize(t.Context(), "iot:Publish", []string{here.IoT("topic", "lamps/1")})
		if err != nil != expired || expired && fleet.KindOf(err) != fleet.KindDenied {
			t.Errorf("expired: %v, it publishes: %v", expired, err)
		}
		_, err = https.mayAssume(trace.New(here, trace.Assume, s.gw.Clock), alias, "")
		if err != nil != expired || expired && fleet.KindOf(err) != fleet.KindDenied {
			t.Errorf("expired: %v, it gets credentials: %v", expired, err)
		}
	}
}
