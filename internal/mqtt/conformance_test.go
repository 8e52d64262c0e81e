package mqtt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// A rig is what a normative statement is tried on: a broker, and clients of one protocol version.
type rig struct {
	*testing.T
	s *server
	v byte
	p *peer
}

func (r rig) dial() *mqtttest.Client { return r.s.dial(r.p, r.v) }

func (r rig) connected(id string, change ...func(*packets.Packet)) *mqtttest.Client {
	r.Helper()
	return r.dial().Connected(id, change...)
}

// refused connects and checks that the CONNACK refuses: with code in MQTT 5, with old in 3.1.1, where 0 is to be closed without
// CONNACK.
func (r rig) refused(code, old byte, id string, change ...func(*packets.Packet)) {
	r.Helper()
	c := r.dial()
	if r.v == 4 && old == 0 {
		c.Send(mqtttest.ConnectPacket(id, change...))
	} else {
		want(r, "CONNACK", c.Connect(id, change...).ReasonCode, map[byte]byte{4: old, 5: code}[r.v])
	}
	c.WantClosed()
}

// raw sends bytes on a connected client and checks that the connection is ended with code.
func (r rig) raw(code byte, b ...byte) {
	r.Helper()
	c := r.connected("raw")
	c.Raw(b...)
	c.WantDisconnect(code)
}

// What testdata/statements.txt names: statements of the standards, by their numbers (MQTT 5.0; those of 3.1.1 as 311-…), and of
// the gateway's own rules (iot-core spec, as §…), each with the test that shows that we keep it. Decoding has its own table in
// decode_test.go, time in time_test.go.
var conformance = []struct {
	rule, says string
	versions   []byte
	try        func(r rig)
}{
	{"1.5.4-1", "strings are well-formed UTF-8", v3and5, func(r rig) { r.raw(codeMalformed, 0x30, 3, 0, 1, 0xc0) }},
	{"1.5.4-3", "a BOM in a string is kept", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("\ufefft")
		c.Publish("\ufefft", "x", 1)
		c.WantMessage("\ufefft", "x")
	}},
	{"1.5.7-1", "both strings of a pair are well-formed", v5, func(r rig) {
		r.raw(codeMalformed, 0x30, 10, 0, 1, 't', 6, packets.PropUser, 0, 1, 'k', 0, 1, 0xff)
		r.raw(codeMalformed, 0x30, 10, 0, 1, 't', 6, packets.PropUser, 0, 1, 0xff, 0, 1, 'v')
	}},
	{"2.1.3-1", "reserved flags end the connection", v3and5, func(r rig) {
		for _, first := range []byte{0x11, 0x41, 0x80, 0x83, 0xa0, 0xa3, 0xc1, 0xe1} { // CONNECT, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT
			r.raw(codeMalformed, first, 2, 0, 1)
		}
	}},
	{"2.2.1-2", "a PUBLISH at QoS 0 has no packet id", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		c.Raw(map[byte][]byte{4: {0x30, 5, 0, 1, 't', 0, 7}, 5: {0x30, 6, 0, 1, 't', 0, 0, 7}}[r.v]...)
		want(r, "packet id", c.WantMessage("t", "\x00\x07").PacketID, 0) // what is in its place is payload
	}},
	{"2.2.1-3", "a SUBSCRIBE, an UNSUBSCRIBE and a PUBLISH at QoS 1 have a packet id", v3and5, func(r rig) {
		r.raw(codeProtocolError, 0x32, 5, 0, 1, 't', 0, 0)
		r.raw(codeProtocolError, 0xa2, 2, 0, 0)
	}},
	{"2.2.1-4", "each unacknowledged message has a packet id of its own", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		seen := map[uint16]bool{}
		for range 50 {
			c.Publish("t", "x", 1)
			pk := c.Want(packets.Publish)
			if pk.PacketID == 0 || seen[pk.PacketID] {
				r.Errorf("packet id %d", pk.PacketID)
			}
			seen[pk.PacketID] = true
		}
	}},
	{"2.2.1-5", "an acknowledgement has the packet id of what it acknowledges", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t") // checked by the client
		c.Publish("other", "x", 1)
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 77, Filters: packets.Subscriptions{{Filter: "t"}}})
		want(r, "UNSUBACK", c.Want(packets.Unsuback).PacketID, 77)
	}},
	{"3.1.0-1", "the first packet is CONNECT", v3and5, func(r rig) {
		for _, b := range [][]byte{{0xc0, 0}, {0x30, 3, 0, 1, 't'}, {0x82, 6, 0, 1, 0, 1, 't', 1}, []byte("GET / HTTP/1.1\r\n")} {
			c := r.dial()
			c.Raw(b...)
			c.WantClosed()
		}
	}},
	{"3.1.0-2", "a second CONNECT ends the connection", v3and5, func(r rig) {
		c := r.connected("c")
		c.Send(mqtttest.ConnectPacket("c"))
		c.WantDisconnect(codeProtocolError)
		want(r, "end", r.s.gone().Reason, ClientError)
	}},
	{"3.1.2-1", "another protocol is closed without an answer", v3and5, func(r rig) {
		c := r.dial()
		c.Raw(0x10, 12, 0, 4, 'M', 'Q', 'X', 'X', 4, 2, 0, 60, 0, 0)
		c.WantClosed()
	}},
	{"311-3.1.2-2", "an unknown protocol level gets CONNACK 1", v3, func(r rig) {
		c := r.dial()
		c.Raw(0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 9, 2, 0, 60, 0, 0)
		want(r, "CONNACK", c.Want(packets.Connack).ReasonCode, 1)
		c.WantClosed()
	}},
	{"3.1.2-28", "no response information is returned, asked for or not", v5, func(r rig) {
		ack := r.dial().Connect("c", func(pk *packets.Packet) { pk.Properties.RequestResponseInfo = 1 })
		want(r, "response information", ack.Properties.ResponseInfo, "")
	}},
	{"3.1.3-4", "a client id is UTF-8", v3and5, func(r rig) {
		c := r.dial()
		c.Raw(map[byte][]byte{4: {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 0xff}, 5: {0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, 0xff}}[r.v]...)
		c.WantClosed()
	}},
	{"3.1.3-5", "letters, digits and other characters are fine in a client id of at most 128 bytes", v3and5, func(r rig) {
		for _, id := range []string{"a", strings.Repeat("x", 128), "Straße/ü+#", "with space"} {
			r.connected(id).Disconnect()
		}
		r.refused(codeClientID, 2, strings.Repeat("x", 129))
	}},
	{"3.1.3-6", "an empty client id is replaced by one of ours", v3and5, func(r rig) {
		a, b := r.dial(), r.dial()
		first, second := a.Connect(""), b.Connect("")
		if r.v == 5 && (first.Properties.AssignedClientID == "" || first.Properties.AssignedClientID == second.Properties.AssignedClientID) {
			r.Errorf("assigned %q and %q", first.Properties.AssignedClientID, second.Properties.AssignedClientID)
		}
		a.Quiet() // still there
	}},
	{"311-3.1.3-8", "an empty client id needs a clean session", v3, func(r rig) {
		r.refused(0, 2, "", func(pk *packets.Packet) { pk.Connect.Clean = false })
	}},
	{"§6.4.3", "client ids that begin with $ are refused", v3and5, func(r rig) { r.refused(codeClientID, 2, "$x") }},
	{"§6.4.4", "a will at QoS 2 is refused", v3and5, func(r rig) {
		r.refused(codeQoS, 0, "c", func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillQos = true, "w", 2
		})
	}},
	{"3.1.4-6", "nothing behind a CONNECT that is refused is acted on", v3and5, func(r rig) {
		watch := r.connected("watch")
		watch.Subscribe("t")
		r.p.mu.Lock()
		r.p.connect = denied("no")
		r.p.mu.Unlock()
		c := r.dial()
		all := append(mqtttest.Encode(r, mqtttest.ConnectPacket("c"), r.v), mqtttest.Encode(r, c.PublishPacket("t", "x", 0), r.v)...)
		c.Raw(all...)
		c.Want(packets.Connack)
		c.WantClosed()
		r.s.gone()
		watch.Quiet()
	}},
	{"3.2.2-19", "a CONNACK is not larger than its client takes", v5, func(r rig) {
		r.p.connect = denied("a reason that is far too long for a client as small as this one")
		ack := r.dial().Connect("c", func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 30 })
		want(r, "CONNACK", ack.ReasonCode, codeNotAuthorized)
		want(r, "reason string", ack.Properties.ReasonString, "")
	}},
	{"§6.9 will delay", "a will delay is accepted and ignored: the will is sent at once, and a new connection does not take it back", v5, func(r rig) {
		watch := r.connected("watch")
		watch.Subscribe("w")
		will := func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "w", []byte("gone")
			pk.Connect.WillProperties.WillDelayInterval = 3600
			pk.Connect.Clean = false
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
		}
		c := r.connected("c", will)
		c.Close()
		watch.WantMessage("w", "gone")
		r.connected("c", will).Disconnect()
		watch.Quiet()
	}},
	{"§6.4.8", "packets that follow CONNECT at once are not lost", v3and5, func(r rig) {
		c := r.dial()
		all := mqtttest.Encode(r, mqtttest.ConnectPacket("c"), r.v)
		all = append(all, mqtttest.Encode(r, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "t"}}}, r.v)...)
		all = append(all, mqtttest.Encode(r, c.PublishPacket("t", "x", 0), r.v)...)
		c.Raw(all...)
		c.Want(packets.Connack)
		c.Want(packets.Suback)
		c.WantMessage("t", "x")
	}},
	{"§6.4.9", "enhanced authentication is refused", v5, func(r rig) {
		r.refused(codeAuthMethod, 0, "c", func(pk *packets.Packet) { pk.Properties.AuthenticationMethod = "SCRAM-SHA-1" })
		r.raw(codeProtocolError, 0xf0, 2, 0x18, 0)
	}},
	{"3.1.4-5", "the CONNACK accepts with success", v3and5, func(r rig) { want(r, "code", r.dial().Connect("c").ReasonCode, 0) }},
	{"3.2.2-2", "session present is not set for a clean start", v3and5, func(r rig) {
		r.connected("c", func(pk *packets.Packet) { pk.Connect.Clean = false }).Disconnect()
		want(r, "session present", r.dial().Connect("c").SessionPresent, false)
	}},
	{"3.2.2-6", "session present is not set in a CONNACK that refuses", v3and5, func(r rig) {
		keep := func(pk *packets.Packet) { pk.Connect.Clean = false }
		r.connected("c", keep).Disconnect()
		r.p.mu.Lock()
		r.p.connect = denied("no")
		r.p.mu.Unlock()
		want(r, "session present", r.dial().Connect("c", keep).SessionPresent, false)
	}},
	{"§6.4 CONNACK", "MQTT 5 clients are told what we offer", v5, func(r rig) {
		p := r.dial().Connect("c").Properties
		want(r, "receive maximum", p.ReceiveMaximum, 100)
		want(r, "maximum QoS", p.MaximumQosFlag && p.MaximumQos == 1, true)
		want(r, "retain available", p.RetainAvailableFlag && p.RetainAvailable == 1, true)
		want(r, "maximum packet size", p.MaximumPacketSize, 149504)
		want(r, "topic alias maximum", p.TopicAliasMaximum, 8)
		want(r, "wildcards", p.WildcardSubAvailableFlag && p.WildcardSubAvailable == 1, true)
		want(r, "subscription identifiers", p.SubIDAvailableFlag && p.SubIDAvailable == 0, true)
		want(r, "server keep alive", p.ServerKeepAliveFlag && p.ServerKeepAlive == 60, true)
		want(r, "session expiry is not repeated", p.SessionExpiryIntervalFlag, false)
		want(r, "assigned client id", p.AssignedClientID, "")
	}},
	{"3.3.1-4", "a PUBLISH with both QoS bits ends the connection", v3and5, func(r rig) { r.raw(codeMalformed, 0x36, 5, 0, 1, 't', 0, 1) }},
	{"§6.7 QoS 2", "a PUBLISH at QoS 2 ends the connection", v3and5, func(r rig) {
		c := r.connected("c")
		c.Send(c.PublishPacket("t", "x", 2))
		c.WantDisconnect(codeQoS)
		want(r, "end", r.s.gone().Reason, ClientError)
	}},
	{"§6.7 QoS 2 packets", "packets of QoS 2 end the connection", v3and5, func(r rig) {
		r.raw(codeProtocolError, 0x50, 2, 0, 1)
		r.raw(codeProtocolError, 0x62, 2, 0, 1)
		r.raw(codeProtocolError, 0x70, 2, 0, 1)
	}},
	{"3.3.1-3", "DUP of what arrives is not passed on", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		c.Publish("t", "x", 1, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
		want(r, "DUP", c.WantMessage("t", "x").FixedHeader.Dup, false)
	}},
	{"3.3.2-2", "a topic name has no wildcards", v3and5, func(r rig) { r.badTopic("a/+") }},
	{"4.7.3-1", "a topic has at least one character", v3, func(r rig) { r.badTopic("") }},
	{"§6.7 length", "a topic has at most 256 bytes", v3and5, func(r rig) {
		c := r.connected("c")
		c.Publish(strings.Repeat("x", 256), "", 1)
		r.badTopic(strings.Repeat("x", 257))
	}},
	{"§6.7 slashes", "a topic has at most seven slashes", v3and5, func(r rig) {
		c := r.connected("c")
		c.Publish("1/2/3/4/5/6/7/8", "", 1)
		r.badTopic("1/2/3/4/5/6/7/8/9")
	}},
	{"§6.7 payload", "a payload has at most 128 KiB", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		big := strings.Repeat("x", MaxPayload)
		c.Publish("t", big, 1)
		c.WantMessage("t", big)
		c.Send(c.PublishPacket("t", big+"x", 1))
		c.WantDisconnect(codeTooLarge)
	}},
	{"§6.4.1", "a packet that is announced as larger than any may be ends the connection before it is read", v3and5, func(r rig) {
		r.raw(codeTooLarge, 0x30, 0xff, 0xff, 0xff, 0x7f)
		c := r.dial()
		c.Raw(0x10, 0xff, 0xff, 0xff, 0x7f)
		c.WantClosed()
	}},
	{"3.3.1-7", "a retained message at QoS 0 replaces the one before", v3and5, func(r rig) {
		c := r.connected("c")
		c.Publish("t", "old", 1, retain)
		c.Publish("t", "new", 0, retain)
		c.Subscribe("t")
		want(r, "QoS", c.WantMessage("t", "new").FixedHeader.Qos, 0)
	}},
	{"3.3.2-13", "content type and response topic are UTF-8", v5, func(r rig) {
		r.raw(codeMalformed, 0x30, 8, 0, 1, 't', 4, packets.PropContentType, 0, 1, 0xff)
		r.raw(codeMalformed, 0x30, 8, 0, 1, 't', 4, packets.PropResponseTopic, 0, 1, 0xff)
	}},
	{"3.3.4-2", "delivery is at the lower of both QoS", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		c.Publish("t", "x", 0)
		want(r, "QoS", c.WantMessage("t", "x").FixedHeader.Qos, 0)
	}},
	{"4.6.0-5", "messages of one publisher on one topic keep their order", v3and5, func(r rig) {
		c, pub := r.connected("c"), r.connected("pub")
		c.Subscribe("t", "+")
		for i := range 300 {
			pub.Send(pub.PublishPacket("t", fmt.Sprint(i), 1))
		}
		for i := range 300 {
			c.WantMessage("t", fmt.Sprint(i))
		}
	}},
	{"4.3.2-4", "a message at QoS 1 is acknowledged when it was taken on, subscribers or not", v3and5, func(r rig) {
		want(r, "PUBACK", r.connected("c").Publish("nobody/listens", "x", 1).ReasonCode, 0)
	}},
	{"4.3.2-5", "a packet id that was acknowledged may come again with another message", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		for _, payload := range []string{"1", "2"} {
			pk := c.PublishPacket("t", payload, 1)
			pk.PacketID, pk.FixedHeader.Dup = 7, true
			c.Send(pk)
			c.WantMessage("t", payload)
			want(r, "PUBACK", c.Want(packets.Puback).PacketID, 7)
		}
	}},
	{"4.4.0-2", "a message that is refused by its PUBACK is done with", v5, func(r rig) {
		c := r.connected("c", persistent)
		c.Subscribe("t")
		c.Send(c.PublishPacket("t", "x", 1))
		m := c.Want(packets.Publish)
		c.Want(packets.Puback)
		c.Raw(0x40, 3, byte(m.PacketID>>8), byte(m.PacketID), 0x83)
		c.Disconnect()
		r.connected("c", persistent).Quiet()
	}},
	{"4.8.2-3", "a member of a group gets messages at the QoS that it was granted", v3and5, func(r rig) {
		c := r.connected("c")
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "$share/g/t", Qos: 0}}})
		c.Want(packets.Suback)
		c.Send(c.PublishPacket("t", "x", 1))
		want(r, "QoS", c.WantMessage("t", "x").FixedHeader.Qos, 0)
	}},
	{"4.8.2-6", "a message that a member refuses by its PUBACK goes to nobody else", v5, func(r rig) {
		a, b := r.connected("a"), r.connected("b")
		a.Subscribe("$share/g/t")
		r.connected("pub").Publish("t", "x", 1)
		m := a.Want(packets.Publish)
		b.Subscribe("$share/g/t")
		a.Raw(0x40, 3, byte(m.PacketID>>8), byte(m.PacketID), 0x80)
		a.Quiet()
		a.Close()
		r.s.gone()
		b.Quiet()
	}},
	{"3.8.3-1", "filters are UTF-8", v3and5, func(r rig) {
		r.raw(codeMalformed, map[byte][]byte{4: {0x82, 6, 0, 1, 0, 1, 0xff, 1}, 5: {0x82, 7, 0, 1, 0, 0, 1, 0xff, 1}}[r.v]...)
	}},
	{"3.8.3-2", "a SUBSCRIBE has a filter", v3and5, func(r rig) {
		r.raw(codeProtocolError, map[byte][]byte{4: {0x82, 2, 0, 1}, 5: {0x82, 3, 0, 1, 0}}[r.v]...)
	}},
	{"3.8.3-4", "a shared subscription has no No Local", v5, func(r rig) {
		c := r.connected("c")
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "$share/g/t", NoLocal: true}}})
		c.WantDisconnect(codeProtocolError)
	}},
	{"3.8.4-3", "a second subscription to a filter replaces the first", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		c.Subscribe("t")
		c.Publish("t", "x", 1)
		c.WantMessage("t", "x")
		c.Quiet()
	}},
	{"3.8.4-6", "the SUBACK has a code per filter, in order", v3and5, func(r rig) {
		bad := map[byte]byte{4: 0x80, 5: codeFilterInvalid}[r.v]
		wantList(r, "SUBACK", r.connected("c").Subscribe("a", "b#", "c/#/d", "e+", "$share/x", "$share/+/y", "", "z"),
			1, bad, bad, bad, bad, bad, bad, 1)
	}},
	{"§6.8 QoS 2", "QoS 2 is granted as QoS 1", v3and5, func(r rig) {
		c := r.connected("c")
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "t", Qos: 2}}})
		wantList(r, "SUBACK", c.Want(packets.Suback).ReasonCodes, 1)
	}},
	{"§6.8 filters", "a SUBSCRIBE has at most eight filters", v3and5, func(r rig) {
		c := r.connected("c")
		wantList(r, "SUBACK", c.Subscribe(strings.Split("abcdefgh", "")...), 1, 1, 1, 1, 1, 1, 1, 1)
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1}
		for _, f := range strings.Split("abcdefghi", "") {
			pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
		}
		c.Send(pk)
		c.WantDisconnect(codeQuota)
		want(r, "end", r.s.gone().Reason, Throttled)
	}},
	{"§6.8 subscriptions", "a connection has at most fifty subscriptions, and the others stay", v3and5, func(r rig) {
		c := r.connected("c")
		for i := range 50 {
			wantList(r, "SUBACK", c.Subscribe(fmt.Sprint(i)), 1)
		}
		wantList(r, "SUBACK", c.Subscribe("0", "50"), 1, map[byte]byte{4: 0x80, 5: codeQuota}[r.v])
		c.Publish("49", "x", 1)
		c.WantMessage("49", "x")
	}},
	{"§6.8 length", "a filter has at most 256 bytes and seven slashes, its share name not counted", v3and5, func(r rig) {
		bad := map[byte]byte{4: 0x80, 5: codeFilterInvalid}[r.v]
		wantList(r, "SUBACK", r.connected("c").Subscribe(strings.Repeat("x", 257), "1/2/3/4/5/6/7/8/9", "$share/g/1/2/3/4/5/6/7/8",
			"$share/"+strings.Repeat("g", 128)+"/x", "$share/"+strings.Repeat("g", 129)+"/x"), bad, bad, 1, 1, bad)
	}},
	{"§6.8 subscription identifiers", "a subscription identifier ends the connection", v5, func(r rig) {
		r.raw(codeSubscriptionID, 0x82, 9, 0, 1, 2, packets.PropSubscriptionIdentifier, 1, 0, 1, 't', 1)
	}},
	{"§6.8 #", "# stands for what follows, but not for the level above it", v3and5, func(r rig) {
		r.selects("sport/tennis/#", []string{"sport/tennis/p", "sport/tennis/p/r", "sport/tennis/"}, []string{"sport/tennis", "sport/x"})
	}},
	{"4.7.1-2", "+ stands for one level, an empty one too", v3and5, func(r rig) {
		r.selects("a/+/b", []string{"a/x/b", "a//b"}, []string{"a/b", "a/x/y/b", "a/x"})
		r.selects("+", []string{"x"}, []string{"/x", "x/"})
		r.selects("+/+", []string{"/x", "x/", "a/b"}, []string{"x"})
	}},
	{"4.7.2-1", "wildcards do not stand for a first level that begins with $", v3and5, func(r rig) {
		r.selects("$aws/events/#", []string{"$aws/events/x"}, []string{"$aws/other"})
		r.selects("+/events/x", nil, []string{"$aws/events/x"})
		r.selects("#", []string{"x"}, []string{"$aws/events/x"})
	}},
	{"4.7.3-4", "topics differ by case and by leading and trailing slashes", v3and5, func(r rig) {
		r.selects("a/B", []string{"a/B"}, []string{"a/b", "/a/B", "a/B/"})
	}},
	{"3.10.4-1", "UNSUBSCRIBE removes exactly the filters that it names", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t/+", "t/a")
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 5, Filters: packets.Subscriptions{{Filter: "t/+"}, {Filter: "t/b"}}})
		ack := c.Want(packets.Unsuback)
		if r.v == 5 {
			wantList(r, "UNSUBACK", ack.ReasonCodes, 0, codeNoSubscription)
		}
		c.Publish("t/b", "x", 1)
		c.Quiet()
		c.Publish("t/a", "x", 1)
		c.WantMessage("t/a", "x")
	}},
	{"3.10.3-1", "filters of UNSUBSCRIBE are UTF-8", v3and5, func(r rig) {
		r.raw(codeMalformed, map[byte][]byte{4: {0xa2, 5, 0, 1, 0, 1, 0xff}, 5: {0xa2, 6, 0, 1, 0, 0, 1, 0xff}}[r.v]...)
	}},
	{"3.10.4-3", "a message that is on its way when its filter goes is delivered to its end", v3and5, func(r rig) {
		c := r.connected("c", persistent)
		c.Subscribe("t")
		r.connected("pub").Publish("t", "x", 1)
		c.Want(packets.Publish)
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 5, Filters: packets.Subscriptions{{Filter: "t"}}})
		c.Want(packets.Unsuback)
		c.Disconnect()
		r.s.gone()
		r.connected("c", persistent).WantMessage("t", "x")
	}},
	{"3.12.4-1", "PINGREQ is answered by PINGRESP", v3and5, func(r rig) { r.connected("c").Quiet() }},
	{"3.14.4-3", "after DISCONNECT the will is not sent", v3and5, func(r rig) {
		c := r.connected("watch")
		c.Subscribe("w")
		r.connected("c", func(pk *packets.Packet) { pk.Connect.WillFlag, pk.Connect.WillTopic = true, "w" }).Disconnect()
		c.Quiet()
		want(r, "end", r.s.gone().Reason, ClientInitiated)
	}},
	{"§6.6 DISCONNECT", "a session that was to end cannot be kept on DISCONNECT", v5, func(r rig) {
		r.raw(codeProtocolError, 0xe0, 7, 0, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 9)
	}},
	{"3.1.2-27", "no topic alias is sent to a client", v5, func(r rig) {
		c := r.connected("c", func(pk *packets.Packet) { pk.Properties.TopicAliasMaximum = 10 })
		c.Subscribe("t")
		c.Publish("t", "x", 1, func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true })
		want(r, "alias", c.WantMessage("t", "x").Properties.TopicAlias, 0)
	}},
	{"3.3.2-7", "a topic alias dies with its connection", v5, func(r rig) {
		keep := func(pk *packets.Packet) { pk.Connect.Clean = false }
		c := r.connected("c", keep)
		c.Publish("t", "x", 1, func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true })
		c.Disconnect()
		c = r.connected("c", keep)
		c.Raw(0x30, 6, 0, 0, 3, packets.PropTopicAlias, 0, 1)
		c.WantDisconnect(codeProtocolError)
	}},
	{"§6.7 aliases", "a topic that is refused is not kept for its alias", v5, func(r rig) {
		c := r.connected("c")
		c.Publish(strings.Repeat("x", 60_000), "x", 1, func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true })
		c.Raw(0x32, 8, 0, 0, 0, 7, 3, packets.PropTopicAlias, 0, 1)
		c.WantDisconnect(codeProtocolError)
	}},
	{"3.3.1-6", "a retained message without payload removes what is retained", v3and5, func(r rig) {
		c := r.connected("c")
		retain := func(pk *packets.Packet) { pk.FixedHeader.Retain = true }
		c.Publish("t", "x", 1, retain)
		c.Publish("t", "", 1, retain)
		c.Subscribe("t")
		c.Quiet()
	}},
	{"3.3.1-12", "messages are forwarded without the retain flag", v3and5, func(r rig) {
		c := r.connected("c")
		c.Subscribe("t")
		c.Publish("t", "x", 1, func(pk *packets.Packet) { pk.FixedHeader.Retain = true })
		want(r, "retain", c.WantMessage("t", "x").FixedHeader.Retain, false)
	}},
	{"4.13.1-1", "a protocol violation ends that connection and no other", v3and5, func(r rig) {
		other := r.connected("other")
		r.raw(codeMalformed, 0xc0, 1, 0)
		other.Quiet()
	}},
}

var (
	v3     = []byte{4}
	v5     = []byte{5}
	v3and5 = []byte{4, 5}
)

// badTopic checks that a PUBLISH is refused for its topic: with a PUBACK in MQTT 5 at QoS 1, by the end of the connection else
// (iot-core spec 6.7).
func (r rig) badTopic(topic string) {
	r.Helper()
	c := r.connected("bad")
	if r.v == 5 {
		want(r, "PUBACK", c.Publish(topic, "x", 1).ReasonCode, codeTopicInvalid)
		c.Send(c.PublishPacket(topic, "x", 0))
	} else {
		c.Send(c.PublishPacket(topic, "x", 1))
	}
	c.WantDisconnect(codeTopicInvalid)
}

// selects checks which topics a filter selects; those that begin with $ are published by the service.
func (r rig) selects(filter string, yes, no []string) {
	r.Helper()
	c := r.connected("selects")
	c.Subscribe(filter)
	for i, topic := range append(append([]string{}, yes...), no...) {
		if err := r.s.Announce(testScope, &Message{Topic: topic, Payload: []byte(topic)}); err != nil {
			r.Fatal(err)
		}
		if i < len(yes) {
			c.WantMessage(topic, topic)
		} else {
			c.Quiet()
		}
		if got := fleet.TopicMatches(filter, topic); got != (i < len(yes)) {
			r.Errorf("TopicMatches(%q, %q) = %v", filter, topic, got)
		}
	}
	c.Disconnect()
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, c := range conformance {
		for _, v := range c.versions {
			t.Run(fmt.Sprintf("%s %s (MQTT %s)", c.rule, c.says, map[byte]string{4: "3.1.1", 5: "5"}[v]), func(t *testing.T) {
				t.Parallel()
				c.try(rig{T: t, s: serve(t, Config{}), v: v, p: &peer{}})
			})
		}
	}
}

// A slow or dripping client is understood all the same.
func TestPacketsMayArriveByteByByte(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		c := s.dial(&peer{}, v)
		var all bytes.Buffer
		all.Write(mqtttest.Encode(t, mqtttest.ConnectPacket("c"), v))
		all.Write(mqtttest.Encode(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "t"}}}, v))
		all.Write(mqtttest.Encode(t, c.PublishPacket("t", strings.Repeat("x", 200), 0), v))
		for _, b := range all.Bytes() {
			c.Raw(b)
		}
		c.Want(packets.Connack)
		c.Want(packets.Suback)
		c.WantMessage("t", strings.Repeat("x", 200))
	})
}

// What ends a connection from outside, and when: before its CONNECT and after, by its principal.
func TestConnectionsAreEndedFromOutside(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	bad, good := &peer{principal: "bad"}, &peer{principal: "good"}
	silent, one, two, other := s.dial(bad, 5), s.dial(bad, 5).Connected("one"), s.dial(bad, 4).Connected("two"), s.dial(good, 5).Connected("other")
	silent.Raw(0x10) // is served: its first byte is read
	n := s.Disconnect(func(id *Identity, _ *Client) bool { return id.Principal == "bad" }, Unauthorized("the certificate was revoked"))
	want(t, "connections ended", n, 3)
	silent.WantClosed()
	want(t, "reason string", one.WantDisconnect(codeNotAuthorized).Properties.ReasonString, "the certificate was revoked")
	two.WantDisconnect(0)
	other.Quiet()
	wantList(t, "ends", bad.ends(), AuthError, AuthError)
}
