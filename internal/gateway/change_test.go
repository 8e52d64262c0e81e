package gateway

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
)

func newClock() time.Time { return time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC) }

func message(topic, payload string) *mqtt.Message {
	return &mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1}
}

func TestOpenConnectionsFollowEveryChangeWithTheirNextOperation(t *testing.T) {
	t.Parallel()
	tx := func(body func(*store.Tx) error) func(*site, device) {
		return func(s *site, _ device) { s.tx(body) }
	}
	for name, c := range map[string]struct {
		statements    []string
		setup, change func(*site, device)
		before, after byte // answers to a publish to t
	}{
		"policy version": {[]string{allow("iot:Publish", "topic/t")}, nil, func(s *site, d device) {
			s.tx(func(tx *store.Tx) error {
				_, err := registry.AddPolicyVersion(tx, here, policyOf(d), document(allow("iot:Connect")), true)
				return err
			})
		}, 0, 0x87},
		"policy attached": {nil, nil, func(s *site, d device) {
			s.policy("more", allow("iot:Publish"))
			s.attach("more", d.arn)
		}, 0x87, 0},
		"policy detached": {nil, func(s *site, d device) {
			s.policy("more", allow("iot:Publish"))
			s.attach("more", d.arn)
		}, func(s *site, d device) {
			s.tx(func(tx *store.Tx) error { return registry.DetachPolicy(tx, here, "more", d.arn) })
		}, 0, 0x87},
		"thing made and attached": {[]string{allow("iot:Publish", "topic/t${iot:Connection.Thing.Attributes[x]}"), when(allow("iot:Publish"), `{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`)}, nil,
			func(s *site, d device) {
				s.thing(registry.ThingSpec{Name: "lamp-1", Attributes: map[string]string{"x": "y"}}, d, fleet.NonExclusive)
			}, 0x87, 0},
		"thing detached": {[]string{when(allow("iot:Publish"), `{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`)}, lamp1, func(s *site, d device) {
			s.tx(func(tx *store.Tx) error { return registry.DetachPrincipal(tx, here, "lamp-1", d.arn) })
		}, 0, 0x87},
		"thing attribute": {[]string{allow("iot:Publish", "topic/${iot:Connection.Thing.Attributes[topic]}")}, lamp1, tx(func(tx *store.Tx) error {
			_, err := registry.UpdateThing(tx, here, "lamp-1", registry.ThingChange{Attributes: map[string]string{"topic": "t"}, Merge: true})
			return err
		}), 0x87, 0},
		"attribute of an exclusive thing": {[]string{allow("iot:Publish", "topic/${iot:Connection.Thing.Attributes[topic]}")}, func(s *site, d device) {
			s.thing(registry.ThingSpec{Name: "pump-9"}, d, fleet.Exclusive)
		}, tx(func(tx *store.Tx) error {
			_, err := registry.UpdateThing(tx, here, "pump-9", registry.ThingChange{Attributes: map[string]string{"topic": "t"}, Merge: true})
			return err
		}), 0x87, 0},
		"joins a group": {nil, func(s *site, d device) { lamp1(s, d); house(s, d) }, tx(func(tx *store.Tx) error {
			return registry.AddToGroup(tx, here, "lamp-1", "hall")
		}), 0x87, 0},
		"leaves a group": {nil, func(s *site, d device) {
			lamp1(s, d)
			house(s, d)
			s.tx(func(tx *store.Tx) error { return registry.AddToGroup(tx, here, "lamp-1", "hall") })
		}, tx(func(tx *store.Tx) error {
			return registry.RemoveFromGroup(tx, here, "lamp-1", "hall")
		}), 0, 0x87},
		"group deleted": {nil, func(s *site, d device) {
			lamp1(s, d)
			house(s, d)
			s.tx(func(tx *store.Tx) error { return registry.AddToGroup(tx, here, "lamp-1", "hall") })
		}, func(s *site, d device) { check(s.t, s.reg.DeleteGroup(s.t.Context(), here, "hall", nil)) }, 0, 0x87},
		"policy attached to an ancestor group": {nil, func(s *site, d device) {
			lamp1(s, d)
			s.groups("house", "hall")
			s.policy("group", allow("iot:Publish"))
			s.tx(func(tx *store.Tx) error { return registry.AddToGroup(tx, here, "lamp-1", "hall") })
		}, func(s *site, d device) { s.attach("group", here.IoT("thinggroup", "house")) }, 0x87, 0},
		"version of a group's policy": {nil, func(s *site, d device) {
			lamp1(s, d)
			house(s, d)
			s.tx(func(tx *store.Tx) error { return registry.AddToGroup(tx, here, "lamp-1", "hall") })
		}, tx(func(tx *store.Tx) error {
			_, err := registry.AddPolicyVersion(tx, here, "group", document(deny("iot:*")), true)
			return err
		}), 0, 0x87},
		"something else": {[]string{allow("iot:Publish")}, nil, func(s *site, d device) { s.device(deny("iot:*")) }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			d := s.device(append(c.statements, allow("iot:Connect"))...)
			if c.setup != nil {
				c.setup(s, d)
			}
			client := s.open(d, 5).Connected("lamp-1")
			if ack := client.Publish("t", "", 1); ack.ReasonCode != c.before {
				t.Fatalf("before: PUBACK %#x, want %#x: %s", ack.ReasonCode, c.before, ack.Properties.ReasonString)
			}
			c.change(s, d)
			if ack := client.Publish("t", "", 1); ack.ReasonCode != c.after {
				t.Errorf("after: PUBACK %#x, want %#x: %s", ack.ReasonCode, c.after, ack.Properties.ReasonString)
			}
		})
	}
}

func lamp1(s *site, d device) { s.thing(registry.ThingSpec{Name: "lamp-1"}, d, fleet.NonExclusive) }

// house makes the groups house and hall, whose members may publish.
func house(s *site, _ device) {
	s.groups("house", "hall")
	s.policy("group", allow("iot:Publish"))
	s.attach("group", here.IoT("thinggroup", "house"))
}

func TestDeliveryFollowsChangesToo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:*"))
	c := s.open(d, 4).Connected("a")
	c.Subscribe("t")
	check(t, s.gw.Broker().Announce(here, message("t", "1")))
	c.WantMessage("t", "1")
	s.policy("quiet", deny("iot:Receive"))
	s.attach("quiet", d.arn)
	check(t, s.gw.Broker().Announce(here, message("t", "2")))
	c.Quiet()
}

func TestACertificateThatLosesItsPowerLosesItsConnections(t *testing.T) {
	t.Parallel()
	for _, status := range []fleet.CertificateStatus{fleet.Inactive, fleet.Revoked} {
		s := newSite(t)
		d, other := s.device(allow("iot:*")), s.device(allow("iot:*"))
		watcher := s.open(other, 5).Connected("watcher")
		watcher.Subscribe("will", "$aws/events/presence/disconnected/#")
		five := s.open(d, 5).Connected("five", withWill("will"))
		three := s.open(d, 4).Connected("three")
		s.status(d, status)
		five.WantDisconnect(0x87)
		three.WantClosed()
		watcher.Message() // two events and a will, in any order
		watcher.Message()
		watcher.Message()
		watcher.Quiet()
		if n := s.gw.Broker().Connections(); n > 3 {
			t.Errorf("%d connections", n)
		}
		s.refusal(s.mqtt, s.config(d))
	}
}

func TestACertificateThatLosesItsPowerBeforeCONNECTIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:*"))
	c := s.open(d, 5)
	heard(t, s.handshakes) // it is over for the server, too
	s.status(d, fleet.Inactive)
	if ack := c.Connect("a"); ack.ReasonCode != 0x87 {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
}

// A change that comes while a connection is being made must find it: whatever the order, the connection does not outlive its
// certificate.
func TestNoConnectionSlipsThroughWhileItsCertificateIsWithdrawn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 20 {
		d := s.device(allow("iot:*"))
		c := s.open(d, 5)
		var wg sync.WaitGroup
		wg.Go(func() { s.status(d, fleet.Inactive) })
		c.Send(mqtttest.ConnectPacket(fmt.Sprint("a", i)))
		if ack, open := c.Next(); open && ack.ReasonCode == 0 {
			c.WantDisconnect(0x87)
		}
		wg.Wait()
	}
}
