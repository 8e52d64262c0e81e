package gateway

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// TestEachWayToLeaveHasItsReason: iot-core spec 6.9 and 7.1. The ways that need a clock, a broken disk or the end of the
// service are in package mqtt, that of WebSockets in websocket_test.go.
func TestEachWayToLeaveHasItsReason(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	listener := s.open(s.device(allow("iot:*")), 5).Connected("listener#")
	listener.Subscribe("$aws/events/presence/disconnected/#", "wills/#")
	for i, way := range []struct {
		name    string
		version byte
		leave   func(c *mqtttest.Client, d device, id string)
		reason  string
		code    byte // of the DISCONNECT that the client gets; 0: none
		quiet   bool // there is no will
	}{
		{"DISCONNECT", 5, func(c *mqtttest.Client, _ device, _ string) { c.Disconnect() }, "CLIENT_INITIATED_DISCONNECT", 0, true},
		{"a broken connection", 4, func(c *mqtttest.Client, _ device, _ string) { c.Close() }, "CONNECTION_LOST", 0, false},
		{"a second CONNECT", 5, func(c *mqtttest.Client, _ device, _ string) {
			c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
				Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "x", Clean: true}})
		}, "CLIENT_ERROR", 0x82, false},
		{"a message too large", 5, func(c *mqtttest.Client, _ device, _ string) {
			c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "own/a", Payload: make([]byte, mqtt.MaxPayload+1)})
		}, "CLIENT_ERROR", 0x95, false},
		{"the same client elsewhere", 5, func(_ *mqtttest.Client, d device, id string) { s.open(d, 5).Connected(id).Close() }, "DUPLICATE_CLIENTID", 0x8e, false},
		{"what it may not publish", 4, func(c *mqtttest.Client, _ device, _ string) {
			c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "other/a"})
		}, "AUTH_ERROR", 0, false},
		{"an inactive certificate", 5, func(_ *mqtttest.Client, d device, _ string) { s.status(d, fleet.Inactive) }, "AUTH_ERROR", 0x87, false},
		{"DeleteConnection", 5, func(_ *mqtttest.Client, _ device, id string) {
			check(t, s.gw.Broker().DropClient(t.Context(), here, id, false, false))
		}, "API_INITIATED_DISCONNECT", 0x98, false},
		{"DeleteConnection without will", 5, func(_ *mqtttest.Client, _ device, id string) {
			check(t, s.gw.Broker().DropClient(t.Context(), here, id, false, true))
		}, "API_INITIATED_DISCONNECT", 0x98, true},
	} {
		id := "lamp-" + string(rune('a'+i))
		d := s.device(allow("iot:Connect", "client/*"), allow("iot:Publish", "topic/own/*", "topic/wills/*"))
		c := s.open(d, way.version).Connected(id, withWill("wills/"+id))
		way.leave(c, d, id)
		if way.code != 0 {
			c.WantDisconnect(way.code)
		}
		ended := false
		for told := way.quiet; !ended || !told; {
			m := listener.Message()
			if m.TopicName == "wills/"+id && !told {
				told = true
				continue
			}
			if m.TopicName != "$aws/events/presence/disconnected/"+id || ended {
				if way.reason != "DUPLICATE_CLIENTID" { // whose second connection ends too
					t.Fatalf("%s: %s %s", way.name, m.TopicName, m.Payload)
				}
				continue
			}
			ended = true
			want(t, decoded(t, m), map[string]any{"eventType": "disconnected", "disconnectReason": way.reason, "clientInitiatedDisconnect": way.reason == "CLIENT_INITIATED_DISCONNECT",
				"clientId": id, "principalIdentifier": d.id, "versionNumber": 0.0})
		}
		if way.reason == "DUPLICATE_CLIENTID" {
			want(t, event(t, listener, "presence/disconnected/"+id), map[string]any{"disconnectReason": "CONNECTION_LOST", "versionNumber": 1.0})
		}
	}
}

func TestAWillThatMayNotBePublishedIsAFailedConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	listener := s.open(s.device(allow("iot:*")), 5).Connected("listener#")
	listener.Subscribe("$aws/events/#")
	s.open(s.device(allow("iot:Connect", "client/*")), 5).Connect("lamp", withWill("wills/lamp"))
	want(t, event(t, listener, "presence/connect_failed/lamp"), map[string]any{"eventType": "connect_failed", "connectFailureReason": "AUTHORIZATION_FAILED"})
	listener.Quiet()
}
