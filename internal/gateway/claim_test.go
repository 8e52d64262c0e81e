package gateway

import (
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/store"
)

const (
	createJSON    = "$aws/certificates/create/json"
	createCSRJSON = "$aws/certificates/create-from-csr/json"
	registerJSON  = "$aws/provisioning-templates/lamps/provision/json"
)

func TestAClaimReachesTheTopicsOfItsTemplateAndNoOther(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.claim("lamps")
	requests := []string{createJSON, "$aws/certificates/create/cbor", createCSRJSON, "$aws/certificates/create-from-csr/cbor", registerJSON,
		"$aws/provisioning-templates/lamps/provision/cbor"}

	t.Run("subscribe", func(t *testing.T) {
		c := s.open(d, 5).Connected("any client id")
		for _, topic := range requests {
			for _, suffix := range []string{"/accepted", "/rejected"} {
				if codes := c.Subscribe(topic + suffix); codes[0] != 1 {
					t.Errorf("%s: SUBACK %#x", topic+suffix, codes)
				}
			}
		}
		for _, filter := range []string{"#", "+", "a", "$aws/#", "$aws/certificates/#", "$aws/certificates/create/+/accepted", "$aws/certificates/create/json/+",
			"$aws/provisioning-templates/pumps/provision/json/accepted", "$aws/provisioning-templates/+/provision/json/accepted", "$aws/events/#",
			"$aws/events/presence/connected/a", "$share/g/" + createJSON + "/accepted", createJSON + "/accepted/x"} {
			if codes := c.Subscribe(filter); codes[0] != 0x87 {
				t.Errorf("%s: SUBACK %#x", filter, codes)
			}
		}
	})
	t.Run("publish", func(t *testing.T) {
		c := s.open(d, 5).Connected("a")
		for _, topic := range []string{"a", createJSON + "/accepted", "$aws/certificates/create/yaml", "$aws/provisioning-templates/pumps/provision/json",
			"$aws/provisioning-templates/lamps/provision/json/x", "$aws/events/presence/connected/a", "$aws/things/lamp-1/shadow/update", "$aws/rules/x"} {
			if ack := c.Publish(topic, "{}", 1); ack.ReasonCode != 0x87 {
				t.Errorf("%s: PUBACK %#x", topic, ack.ReasonCode)
			}
		}
		for _, topic := range requests {
			if ack := c.Publish(topic, "{}", 1, retained); ack.ReasonCode != 0x87 {
				t.Errorf("%s retained: PUBACK %#x", topic, ack.ReasonCode)
			}
			if ack := c.Publish(topic, "{}", 1); ack.ReasonCode != 0 {
				t.Errorf("%s: PUBACK %#x", topic, ack.ReasonCode)
			}
		}
	})
	t.Run("will", func(t *testing.T) {
		if ack := s.open(d, 5).Connect("a", withWill("a")); ack.ReasonCode != 0x87 {
			t.Errorf("CONNACK %#x", ack.ReasonCode)
		}
		if ack := s.open(d, 5).Connect("a", withWill(createJSON)); ack.ReasonCode != 0x90 {
			t.Errorf("to a reserved topic: CONNACK %#x", ack.ReasonCode)
		}
		if ack := s.open(d, 4).Connect("a", withWill("a")); ack.ReasonCode != 5 {
			t.Errorf("3.1.1: CONNACK %#x", ack.ReasonCode)
		}
	})
	t.Run("3.1.1 is closed", func(t *testing.T) {
		c := s.open(d, 4).Connected("a")
		c.Send(c.PublishPacket("a", "", 1))
		c.WantClosed()
		c = s.open(d, 4).Connected("a")
		if codes := c.Subscribe("a"); codes[0] != 0x80 {
			t.Errorf("SUBACK %#x", codes)
		}
		c.WantClosed()
	})
}

func TestWhatAClaimMayNotDoLeavesATraceWithTheCure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.open(s.claim("lamps"), 5).Connected("a").Publish("$aws/provisioning-templates/pumps/provision/json", "{}", 1)
	s.wantTrace("a claim for template lamps may not publish to", registerJSON)
}

// With MQTT 5 whoever is refused hears why, in the reason string of whatever answers them, unless they asked not to.
func TestRefusedClaimsAreToldWhy(t *testing.T) {
	t.Parallel()
	const pumps = "$aws/provisioning-templates/pumps/provision/json"
	for _, silent := range []bool{false, true} {
		want := func(why string) string {
			if silent {
				return ""
			}
			return why
		}
		asking := func(p *packets.Packet) {
			if silent {
				p.Properties.RequestProblemInfo, p.Properties.RequestProblemInfoFlag = 0, true
			}
		}
		s := newSite(t)
		d := s.claim("lamps")
		c := s.open(d, 5).Connected("a", asking)
		if ack := c.Publish(pumps, "{}", 1); ack.ReasonCode != 0x87 || ack.Properties.ReasonString != want("a claim for template lamps may not publish to "+pumps) {
			t.Errorf("PUBACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
		}
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: c.NextID(), Filters: packets.Subscriptions{{Filter: pumps + "/accepted", Qos: 1}}})
		if ack := c.Want(packets.Suback); string(ack.ReasonCodes) != "\x87" || ack.Properties.ReasonString != want("a claim for template lamps may not subscribe to "+pumps+"/accepted") {
			t.Errorf("SUBACK %#x %q", ack.ReasonCodes, ack.Properties.ReasonString)
		}
		// A request is acknowledged when it has come; what became of it comes as a message, which may always have user properties.
		p := exchange(c, registerJSON, `{"certificateOwnershipToken":""}`)
		if m := answer(t, p, registerJSON+"/rejected"); len(p.Properties.User) != 1 || p.Properties.User[0].Key != "traceId" || p.Properties.User[0].Val != m["traceId"] ||
			m["errorMessage"] != "Certificate ownership token cannot be empty." {
			t.Errorf("rejected with %v, %v", p.Properties.User, m)
		}
		// CONNACK and DISCONNECT may have a reason whatever was asked for (MQTT 5 section 3.1.2.11.7).
		if ack := s.open(d, 5).Connect("b", asking, withWill("a")); ack.ReasonCode != 0x87 || ack.Properties.ReasonString != "will: a claim for template lamps may not publish to a" {
			t.Errorf("CONNACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
		}
		s.withdraw(d)
		if said := c.WantDisconnect(0x87).Properties.ReasonString; said != "the claim is not valid any more" {
			t.Errorf("DISCONNECT %q", said)
		}
	}
}

// exchange subscribes to the answers of a request, makes it, and returns what comes.
func exchange(c *mqtttest.Client, topic, payload string) packets.Packet {
	c.Subscribe(topic+"/accepted", topic+"/rejected")
	c.Publish(topic, payload, 1)
	return c.Message()
}

func TestAClaimThatExpiresOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.claim("lamps")
	c, late := s.open(d, 5).Connected("a"), s.open(d, 4).Connected("b")
	key := newKey(t)
	issued := answer(t, exchange(c, createCSRJSON, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, key)})), createCSRJSON+"/accepted")

	s.pass(6 * time.Minute) // expired, in its grace
	for _, topic := range []string{createJSON, createCSRJSON} {
		wantRejected(t, exchange(c, topic, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, key)})), topic, 403, "AccessDenied")
	}
	answer(t, exchange(c, registerJSON, body(t, "json", map[string]any{"certificateOwnershipToken": issued["certificateOwnershipToken"],
		"parameters": map[string]string{"Serial": "1"}})), registerJSON+"/accepted")
	if alert := s.refusal(s.mqtt, s.config(d)); alert != "bad certificate" {
		t.Errorf("alert %q", alert)
	}
	s.pass(5 * time.Minute)
	c.WantDisconnect(0x87)
	late.WantClosed()
}

func TestSessionsOfAClaimEndAtOnceWithItsPower(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*site, device){
		"revoked":           (*site).withdraw,
		"template disabled": func(s *site, _ device) { s.disable("lamps") },
		"template deleted":  func(s *site, _ device) { s.dropTemplate("lamps") },
		"installer without the right": func(s *site, _ device) {
			check(s.t, s.iam.DeleteInline(s.t.Context(), here, store.IAMUser, "ann", "claims"))
		},
		"installer cut off": func(s *site, _ device) {
			s.tx(func(tx *store.Tx) error { return tx.CutOff(here.Global(), "key:AKIAANN", tx.Now()) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.ann.AccessKeyID = "AKIAANN"
			d := s.claim("lamps")
			s.pass(time.Second)
			_, err := s.iam.CreateUser(t.Context(), here, iam.Entity{Name: "bob", Path: "/"})
			check(t, err)
			s.policy("all", allow("iot:*"))
			other := s.open(s.claim("pumps"), 5).Connected("other")
			five, three := s.open(d, 5).Connected("five"), s.open(d, 4).Connected("three")
			before := s.open(d, 5) // not connected yet
			end(s, d)
			five.WantDisconnect(0x87)
			three.WantClosed()
			before.Send(mqtttest.ConnectPacket("before"))
			if ack, open := before.Next(); open && ack.ReasonCode == 0 {
				t.Error("a session without CONNECT is let in")
			}
			if name == "revoked" || name == "template disabled" || name == "template deleted" {
				other.Quiet()
			} else {
				other.WantDisconnect(0x87) // the same installer
			}
		})
	}
}

// A claim may connect with any client id: if its sessions were kept, whoever has one could fill the store.
func TestSessionsOfClaimsEndWithTheirConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.claim("lamps")
	for _, version := range []byte{4, 5} {
		for range 2 {
			c := s.open(d, version)
			ack := c.Connect("new", func(p *packets.Packet) {
				p.Connect.Clean = false
				p.Properties.SessionExpiryInterval, p.Properties.SessionExpiryIntervalFlag = 600, true
			})
			if ack.SessionPresent || version == 5 && (!ack.Properties.SessionExpiryIntervalFlag || ack.Properties.SessionExpiryInterval != 0) {
				t.Errorf("CONNACK %+v", ack)
			}
			c.Subscribe("$aws/certificates/create/json/accepted")
			c.Disconnect()
			heard(t, s.ends)
		}
	}
	check(t, s.db.View(t.Context(), func(tx *store.Tx) error {
		kept, err := tx.MessageSessions(here, "", 10)
		if len(kept) != 0 {
			t.Errorf("kept: %v", kept)
		}
		return err
	}))
}
