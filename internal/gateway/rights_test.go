package gateway

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

func persistent(p *packets.Packet) { p.Connect.Clean = false }

func withWill(topic string) func(*packets.Packet) {
	return func(p *packets.Packet) {
		p.Connect.WillFlag, p.Connect.WillTopic, p.Connect.WillPayload = true, topic, []byte("gone")
	}
}

func retained(p *packets.Packet) { p.FixedHeader.Retain = true }

// A device here has the client id lamp-1; unless a case says otherwise it is attached to the thing lamp-1 of type lamp with the
// attribute room=hall.
func TestPoliciesDependOnTheConnection(t *testing.T) {
	t.Parallel()
	const connect = `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}`
	asked := func(statement, condition string) string { return when(statement, condition) }
	for name, c := range map[string]struct {
		statements []string
		setup      func(*site, device)
		yes, no    []string // topics that may be published to, and not
	}{
		"client id": {statements: []string{connect, allow("iot:Publish", "topic/${iot:ClientId}/*")}, yes: []string{"lamp-1/a"}, no: []string{"lamp-2/a", "x"}},
		"thing": {statements: []string{connect, allow("iot:Publish", "topic/${iot:Connection.Thing.ThingName}/${iot:Connection.Thing.ThingTypeName}/${iot:Connection.Thing.Attributes[room]}")},
			yes: []string{"lamp-1/lamp/hall"}, no: []string{"lamp-1/lamp/cellar", "lamp-2/lamp/hall"}},
		"attribute that is not there": {statements: []string{connect, allow("iot:Publish", "topic/${iot:Connection.Thing.Attributes[floor]}")},
			no: []string{"x", "${iot:Connection.Thing.Attributes[floor]}"}},
		"deny with a variable without value": {statements: []string{connect, allow("iot:Publish"), deny("iot:Publish", "topic/${iot:Connection.Thing.Attributes[floor]}")},
			yes: []string{"x", "floor"}},
		"attached": {statements: []string{connect, asked(allow("iot:Publish"), `{"Bool":{"iot:Connection.Thing.IsAttached":["true"]}}`)}, yes: []string{"x"}},
		"not attached": {statements: []string{connect, asked(allow("iot:Publish", "topic/a"), `{"Bool":{"iot:Connection.Thing.IsAttached":["true"]}}`),
			allow("iot:Publish", "topic/${iot:Connection.Thing.ThingName}")},
			setup: func(s *site, d device) {
				s.tx(func(tx *store.Tx) error { return registry.DetachPrincipal(tx, here, "lamp-1", d.arn) })
			}, no: []string{"a", "lamp-1"}},
		"exclusive thing of another name": {statements: []string{connect, allow("iot:Publish", "topic/${iot:Connection.Thing.ThingName}")},
			setup: func(s *site, d device) {
				s.tx(func(tx *store.Tx) error { return registry.DetachPrincipal(tx, here, "lamp-1", d.arn) })
				s.thing(registry.ThingSpec{Name: "pump-9"}, d, fleet.Exclusive)
			}, yes: []string{"pump-9"}, no: []string{"lamp-1"}},
		"subject": {statements: []string{connect, allow("iot:Publish", "topic/${iot:Certificate.Subject.Organization}/${iot:Certificate.Subject.CommonName}")},
			yes: []string{"Acme/lamp"}, no: []string{"Acme/pump"}},
		"certificate id": {statements: []string{connect, allow("iot:Publish", "topic/${iot:CertificateId}")}, yes: []string{"ID"}, no: []string{"x"}},
		"here":           {statements: []string{connect, asked(allow("iot:Publish"), `{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`)}, yes: []string{"x"}},
		"elsewhere":      {statements: []string{connect, asked(allow("iot:Publish"), `{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`)}, no: []string{"x"}},
		"server name":    {statements: []string{connect, asked(allow("iot:Publish"), `{"StringEquals":{"iot:DomainName":"iot.lan"}}`)}, yes: []string{"x"}},
		"policy of an ancestor group": {statements: []string{connect}, setup: func(s *site, d device) {
			s.groups("house", "hall")
			s.policy("group", allow("iot:Publish", "topic/group/*"))
			s.attach("group", here.IoT("thinggroup", "house"))
			s.tx(func(tx *store.Tx) error { return registry.AddToGroup(tx, here, "lamp-1", "hall") })
		}, yes: []string{"group/a"}, no: []string{"x"}},
		"denied by a group": {statements: []string{connect, allow("iot:Publish")}, setup: func(s *site, d device) {
			s.groups("house", "hall")
			s.policy("group", deny("iot:Publish", "topic/secret/*"))
			s.attach("group", here.IoT("thinggroup", "hall"))
			s.tx(func(tx *store.Tx) error { return registry.AddToGroup(tx, here, "lamp-1", "hall") })
		}, yes: []string{"x"}, no: []string{"secret/a"}},
		"events":           {statements: []string{connect, allow("iot:*")}, yes: []string{"x"}, no: []string{"$aws/events/presence/connected/lamp-1"}},
		"wildcard in MQTT": {statements: []string{connect, allow("iot:Publish", "topic/a/+/b")}, no: []string{"a/x/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			d := s.device(c.statements...)
			s.thing(registry.ThingSpec{Name: "lamp-1", Type: "lamp", Attributes: map[string]string{"room": "hall"}}, d, fleet.NonExclusive)
			if c.setup != nil {
				c.setup(s, d)
			}
			client := s.open(d, 5).Connected("lamp-1")
			for _, topic := range c.yes {
				if ack := client.Publish(strings.Replace(topic, "ID", d.id, 1), "", 1); ack.ReasonCode != 0 {
					t.Errorf("%s is refused: %#x %s", topic, ack.ReasonCode, ack.Properties.ReasonString)
				}
			}
			for _, topic := range c.no {
				if ack := client.Publish(topic, "", 1); ack.ReasonCode != 0x87 {
					t.Errorf("%s is answered with %#x", topic, ack.ReasonCode)
				}
			}
		})
	}
}

// While nobody can tell what a device may do it is not refused: its messages wait for it, and it comes again.
func TestAStoreThatDoesNotAnswerRefusesNobody(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, func(c *store.Config) { c.URL = storetest.Postgres(t) }) // where nothing is remembered
	s.open(s.device(allow("iot:*")), 5).Connected("lamp-1")
	claim := s.open(s.claim("lamps"), 5).Connected("newcomer")
	var access *deviceAccess
	s.gw.mu.Lock()
	for _, live := range s.gw.devices {
		for access = range live {
		}
	}
	s.gw.mu.Unlock()
	check(t, s.db.Close())
	access.stale.Store(true)
	if err := access.Receive("t"); err == nil || fleet.KindOf(err) == fleet.KindDenied {
		t.Errorf("a message for the device: %v", err)
	}
	s.gw.recheckClaims(func(*arrival) bool { return true })
	claim.Ping()
	claim.Want(packets.Pingresp)
}

// groups makes a chain of groups, the root first.
func (s *site) groups(names ...string) {
	s.tx(func(tx *store.Tx) error {
		parent := ""
		for _, name := range names {
			if _, err := registry.CreateGroup(tx, here, registry.GroupSpec{Name: name, Parent: parent}); err != nil {
				return err
			}
			parent = name
		}
		return nil
	})
}

func TestPoliciesDecideOnConnectAttributes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	anything := s.device(allow("iot:Connect"), allow("iot:Publish"))
	clean := s.device(when(allow("iot:Connect"), `{"ForAllValues:StringEquals":{"iot:ConnectAttributes":[]}}`), allow("iot:Publish"))
	noWill := s.device(allow("iot:Connect"), when(deny("iot:Connect"), `{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":["LastWill"]}}`), allow("iot:Publish"))
	oneWill := s.device(when(allow("iot:Connect"), `{"ArnEquals":{"iot:LastWillTopic":"`+here.IoT("topic", "wills/a")+`"}}`), allow("iot:Publish", "topic/wills/a"))
	mute := s.device(allow("iot:Connect"))
	noRetain := s.device(allow("iot:Connect"), allow("iot:Publish"))
	yes := s.device(allow("iot:Connect", "client/lamp-?"))
	for name, c := range map[string]struct {
		d      device
		client string
		change func(*packets.Packet)
		denied bool
	}{
		"no condition allows a session":         {anything, "a", persistent, false},
		"no condition allows a will":            {anything, "b", withWill("w"), false},
		"clean only, clean":                     {clean, "c", func(*packets.Packet) {}, false},
		"clean only, session":                   {clean, "d", persistent, true},
		"clean only, will":                      {clean, "e", withWill("w"), true},
		"will denied, session":                  {noWill, "f", persistent, false},
		"will denied, will":                     {noWill, "g", withWill("w"), true},
		"one will topic, that":                  {oneWill, "h", withWill("wills/a"), false},
		"one will topic, another":               {oneWill, "i", withWill("wills/b"), true},
		"one will topic, none":                  {oneWill, "j", func(*packets.Packet) {}, true},
		"a will that may not be published":      {mute, "k", withWill("w"), true},
		"a retained will without RetainPublish": {noRetain, "l", func(p *packets.Packet) { withWill("w")(p); p.Connect.WillRetain = true }, true},
		"another client id":                     {yes, "lamp-10", func(*packets.Packet) {}, true},
		"its client id":                         {yes, "lamp-1", func(*packets.Packet) {}, false},
	} {
		for version, code := range map[byte]byte{4: 5, 5: 0x87} {
			if !c.denied {
				code = 0
			}
			client := s.open(c.d, version)
			if ack := client.Connect(c.client, c.change); ack.ReasonCode != code {
				t.Errorf("%s, version %d: CONNACK %#x, want %#x", name, version, ack.ReasonCode, code)
			} else if c.denied {
				client.WantClosed()
			}
		}
	}
}

func TestARefusedConnectLeavesOneTraceThatNamesTheStatement(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:Connect", "client/${iot:Connection.Thing.ThingName}"), deny("iot:Connect", "client/bad"))
	s.open(d, 5).Connect("lamp-1")
	s.wantTrace("iot:Connect on client/lamp-1 is not allowed", "iot:Connection.Thing.ThingName have no value")
	s.open(d, 5).Connect("bad")
	s.wantTrace("explicit deny by policy", policyOf(d)+" denies it")
	select {
	case f := <-s.traces:
		t.Errorf("another trace: %s", f.Record.Text())
	default:
	}
}

func TestDenialsAreAnsweredAsEachVersionOfMQTTDemands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:Connect"), allow("iot:Publish", "topic/ok", "topic/$aws/*"), allow("iot:Subscribe", "topicfilter/ok", "topicfilter/all/#"),
		allow("iot:Receive"), deny("iot:Receive", "topic/all/secret"))

	t.Run("publish", func(t *testing.T) {
		for _, qos := range []byte{0, 1} {
			c := s.open(d, 4).Connected("a")
			c.Send(c.PublishPacket("no", "", qos))
			c.WantClosed()
		}
		c := s.open(d, 5).Connected("a")
		if ack := c.Publish("no", "", 1); ack.ReasonCode != 0x87 || !strings.Contains(ack.Properties.ReasonString, "iot:Publish on topic/no") {
			t.Errorf("PUBACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
		}
		if ack := c.Publish("ok", "", 1); ack.ReasonCode != 0 {
			t.Errorf("the connection does not stay: %#x", ack.ReasonCode)
		}
		if ack := c.Publish("ok", "", 1, retained); ack.ReasonCode != 0x87 {
			t.Errorf("retained without iot:RetainPublish: PUBACK %#x", ack.ReasonCode)
		}
		c.Publish("no", "", 0)
		c.WantDisconnect(0x87)
	})
	t.Run("subscribe", func(t *testing.T) {
		c := s.open(d, 4).Connected("b")
		if codes := c.Subscribe("ok", "no"); string(codes) != "\x01\x80" {
			t.Errorf("SUBACK %x", codes)
		}
		c.WantClosed()
		c = s.open(d, 5).Connected("b")
		if codes := c.Subscribe("no", "ok", "all/#", "#"); string(codes) != "\x87\x01\x01\x87" {
			t.Errorf("SUBACK %x", codes)
		}
		c.Quiet()
	})
	t.Run("receive", func(t *testing.T) {
		for _, version := range []byte{4, 5} {
			c := s.open(d, version).Connected("c")
			c.Subscribe("all/#")
			for _, topic := range []string{"all/secret", "all/a"} {
				check(t, s.gw.Broker().Announce(here, message(topic, "x")))
			}
			c.WantMessage("all/a", "x")
			c.Quiet()
		}
	})
	t.Run("reserved topics that nothing serves", func(t *testing.T) {
		for _, topic := range []string{"$aws/certificates/create/yaml", "$aws/certificates/create/x/json", "$aws/certificates/create/", "$aws/certificates/create-from-csr/JSON",
			"$aws/provisioning-templates/lamps/json", "$aws/provisioning-templates/lamps/provision", "$aws/provisioning-templates/lamps/provision/json/x",
			"$aws/certificates/create/json/accepted", "$aws/provisioning-templates/lamps/deprovision/json", "$aws/things/a/shadow/get", "$aws/x"} {
			for _, version := range []byte{4, 5} {
				c := s.open(d, version).Connected("d")
				c.Send(c.PublishPacket(topic, "{}", 0))
				c.WantDisconnect(0x90)
			}
		}
	})
	t.Run("events", func(t *testing.T) {
		c := s.open(d, 4).Connected("e")
		c.Send(c.PublishPacket("$aws/events/presence/connected/a", "{}", 1))
		c.WantClosed()
	})
}

func TestSharedSubscriptionsMayBeNamedEitherWay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:Connect"), allow("iot:Subscribe", "topicfilter/bare", "topicfilter/$share/g/full", "topicfilter/$share/*/denied"), deny("iot:Subscribe", "topicfilter/denied"))
	if codes := s.open(d, 5).Connected("a").Subscribe("$share/g/bare", "$share/g/full", "$share/h/full", "$share/g/denied"); string(codes) != "\x01\x01\x87\x87" {
		t.Errorf("SUBACK %x", codes)
	}
}

func TestRefusalsOfOneConnectionDoNotFillTheStore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open(s.device(allow("iot:Connect")), 5).Connected("a")
	for range 2 * toldPerConnection {
		c.Publish("x", "", 1)
	}
	refusals := 0
	s.open(s.device(), 5).Connect("last") // the traces come in order
	for r := s.trace(); r.Facts["clientId"] != "last"; r = s.trace() {
		refusals++
	}
	if refusals != toldPerConnection {
		t.Errorf("%d traces", refusals)
	}
}
