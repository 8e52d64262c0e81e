package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/registry"
)

// event is the next message, which must be an event on topic.
func event(t *testing.T, c *mqtttest.Client, topic string) map[string]any {
	t.Helper()
	p := c.Message()
	if p.TopicName != "$aws/events/"+topic {
		t.Fatalf("%s: %s, want %s", p.TopicName, p.Payload, topic)
	}
	return decoded(t, p)
}

func want(t *testing.T, m map[string]any, members map[string]any) {
	t.Helper()
	for name, v := range members {
		if m[name] != v {
			t.Errorf("%v: %s is %v, want %v", m["eventType"], name, m[name], v)
		}
	}
}

func TestTheFleetHearsWhoComesAndGoes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:Connect", "client/lamp"), allow("iot:*", "topic/*", "topicfilter/*"))
	s.thing(registry.ThingSpec{Name: "thing-1"}, d, fleet.Exclusive)
	listener := s.open(s.device(allow("iot:*")), 5).Connected("listener#") // its id keeps it out of the events
	listener.Subscribe("$aws/events/#")

	var session any
	for n := range 2 {
		c := s.open(d, 4).Connected("lamp")
		m := event(t, listener, "presence/connected/lamp")
		want(t, m, map[string]any{"clientId": "lamp", "eventType": "connected", "principalIdentifier": d.id, "ipAddress": "127.0.0.1", "versionNumber": float64(n),
			"timestamp": float64(newClock().UnixMilli()), "thingName": "thing-1"})
		if len(m) != 8 || m["sessionIdentifier"] == session {
			t.Errorf("%v", m)
		}
		session = m["sessionIdentifier"]
		c.Subscribe("a", "b")
		want(t, event(t, listener, "subscriptions/subscribed/lamp"), map[string]any{"eventType": "subscribed", "sessionIdentifier": session})
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 99, Filters: packets.Subscriptions{{Filter: "a"}}})
		want(t, event(t, listener, "subscriptions/unsubscribed/lamp"), map[string]any{"eventType": "unsubscribed"})
		initiated, reason := true, "CLIENT_INITIATED_DISCONNECT"
		if n == 0 {
			c.Want(packets.Unsuback)
			c.Disconnect()
		} else {
			c.Close()
			initiated, reason = false, "CONNECTION_LOST"
		}
		want(t, event(t, listener, "presence/disconnected/lamp"), map[string]any{"eventType": "disconnected", "clientInitiatedDisconnect": initiated,
			"disconnectReason": reason, "versionNumber": float64(n), "sessionIdentifier": session})
	}
	s.open(d, 5).Connect("pump")
	want(t, event(t, listener, "presence/connect_failed/pump"), map[string]any{"eventType": "connect_failed", "connectFailureReason": "AUTHORIZATION_FAILED", "ipAddress": "127.0.0.1"})
	s.open(d, 5).Connect("lamp", withWill("x"), func(p *packets.Packet) { p.Connect.WillRetain = true })
	event(t, listener, "presence/connected/lamp") // its policy allows that
	listener.Quiet()
}

func TestEventsReachNobodyWhoMayNotReceiveThem(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	deaf := s.open(s.device(allow("iot:*"), deny("iot:Receive", "topic/$aws/events/*")), 5).Connected("deaf")
	deaf.Subscribe("$aws/events/#")
	s.open(s.device(allow("iot:*")), 5).Connected("a").Disconnect()
	deaf.Quiet()
}

func TestCountsOfConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.gw.mu.Lock()
	for i := range maxVersions {
		s.gw.versions[versionKey{here, fmt.Sprint(i)}] = count{next: 1}
	}
	s.gw.mu.Unlock()
	s.open(s.device(allow("iot:*")), 5).Connected("a").Disconnect()
	s.gw.mu.Lock()
	defer s.gw.mu.Unlock()
	if n := len(s.gw.versions); n > 1 {
		t.Errorf("%d are kept", n)
	}
}

func TestCountsOfConnectionsBeginAnewAfterAnHour(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.device(allow("iot:*"))
	listener := s.open(d, 5).Connected("listener#")
	listener.Subscribe("$aws/events/presence/connected/#", "$aws/events/presence/disconnected/#")
	visit := func(n int, change ...func(*packets.Packet)) {
		t.Helper()
		s.open(d, 5).Connected("lamp", change...).Disconnect()
		for _, topic := range []string{"connected", "disconnected"} {
			want(t, event(t, listener, "presence/"+topic+"/lamp"), map[string]any{"versionNumber": float64(n)})
		}
	}
	session := func(p *packets.Packet) {
		p.Properties.SessionExpiryInterval, p.Properties.SessionExpiryIntervalFlag = 3600, true
	}
	visit(0)
	visit(1)
	s.pass(59 * time.Minute)
	visit(2)
	s.pass(61 * time.Minute)
	visit(0, session)
	s.pass(30 * time.Minute)
	visit(1, session)
}

func TestConnectionsThatEndInAViolationAreHeldAgainstTheirAddress(t *testing.T) {
	t.Parallel()
	meter := admission.NewMeter(admission.Rate{PerSecond: 0.0001, Burst: 3}, admission.Rate{}, nil, nil)
	s := newSite(t, func(c *Config) {
		c.Door = &admission.Door{Room: admission.NewRoom(100, nil), Queue: admission.NewQueue(admission.QueueConfig{Meter: meter, Slow: 0.5})}
	})
	d := s.device(allow("iot:*"))
	standing := func() admission.Standing {
		got, _ := meter.Standing(admission.AddressOf("127.0.0.1"))
		return got
	}
	for range 5 {
		s.open(d, 5).Connected("lamp").Disconnect()
		if r := <-s.ends; r != mqtt.ClientInitiated || standing() != admission.Known {
			t.Fatalf("after a connection that ended with %v its address is in standing %v", r, standing())
		}
	}
	for range 3 {
		c := s.open(d, 5).Connected("lamp")
		c.Raw(0x30, 0xff, 0xff, 0xff, 0xff)
		if r := <-s.ends; r != mqtt.ClientError {
			t.Fatalf("it ended with %v", r)
		}
	}
	if got := standing(); got != admission.Bad {
		t.Errorf("after three violations the address is in standing %v", got)
	}
}
