// Package mqtttest is a raw MQTT client for tests: it sends whatever it is told to, well-formed or not, and shows every packet
// that comes back. It shares no code with the server's decoder.
//
// Begin with New, then Connect, Subscribe, Publish and Next. Quiet tells that nothing came, without waiting for it.
package mqtttest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Patience is how long to wait for what must come: long in the made-up time of testing/synctest, where waiting is free and
// time runs when everybody waits.
func Patience() time.Duration {
	if time.Now().Year() < 2020 {
		return 30 * 24 * time.Hour
	}
	return time.Minute
}

// A Client is one end of a connection. Its methods fail the test when something else happens than was asked for.
type Client struct {
	Version byte // 4 or 5

	t    testing.TB
	nc   net.Conn
	in   chan packets.Packet
	once sync.Once
	id   uint16
	held []packets.Packet // messages that came while Publish waited for its PUBACK
}

// New returns a client on an open connection, which is closed at the end of the test.
func New(t testing.TB, nc net.Conn, version byte) *Client {
	c := &Client{Version: version, t: t, nc: nc, in: make(chan packets.Packet, 4096)}
	go c.read()
	t.Cleanup(c.Close)
	return c
}

// Close breaks the connection without a DISCONNECT.
func (c *Client) Close() { c.once.Do(func() { c.nc.Close() }) }

func (c *Client) read() {
	defer close(c.in)
	r := bufio.NewReader(c.nc)
	for {
		pk, err := readPacket(r, c.Version)
		if err != nil {
			return
		}
		c.in <- pk
	}
}

func readPacket(r *bufio.Reader, version byte) (packets.Packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return packets.Packet{}, err
	}
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	if pk.FixedHeader.Remaining, _, err = packets.DecodeLength(r); err != nil {
		return pk, err
	}
	body := make([]byte, pk.FixedHeader.Remaining)
	if _, err := io.ReadFull(r, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Pingresp:
	case packets.Disconnect:
		if err = pk.DisconnectDecode(body); err == nil && len(body) == 1 {
			pk.ReasonCode = body[0] // the library overlooks a reason code without properties
		}
	default:
		err = fmt.Errorf("a server does not send packets of type %d", pk.FixedHeader.Type)
	}
	return pk, err
}

// Raw sends bytes as they are.
func (c *Client) Raw(b ...byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Logf("mqtttest: write: %v", err) // the server may have closed already: what is asked for next will tell
	}
}

// Send encodes and sends a packet.
func (c *Client) Send(pk packets.Packet) {
	c.t.Helper()
	c.Raw(Encode(c.t, pk, c.Version)...)
}

// Encode returns the bytes of a packet that a client sends.
func Encode(t testing.TB, pk packets.Packet, version byte) []byte {
	t.Helper()
	pk.ProtocolVersion = version
	pk.Mods.AllowResponseInfo = true
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Pubrec, packets.Pubcomp:
		err = pk.PubrecEncode(&buf)
	case packets.Pubrel:
		pk.FixedHeader.Qos = 1
		err = pk.PubrelEncode(&buf)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		pk.FixedHeader.Qos = 1
		err = pk.UnsubscribeEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	case packets.Auth:
		err = pk.AuthEncode(&buf)
	}
	if err != nil {
		t.Fatalf("mqtttest: encode: %v", err)
	}
	return buf.Bytes()
}

// ConnectPacket is a CONNECT with a clean session and a keep-alive of a minute, changed by change.
func ConnectPacket(clientID string, change ...func(*packets.Packet)) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: clientID, Clean: true, Keepalive: 60}}
	for _, f := range change {
		f(&pk)
	}
	return pk
}

// Connect connects and returns the CONNACK, whatever it says.
func (c *Client) Connect(clientID string, change ...func(*packets.Packet)) packets.Packet {
	c.t.Helper()
	c.Send(ConnectPacket(clientID, change...))
	return c.Want(packets.Connack)
}

// Connected connects and returns the client; the CONNACK must accept.
func (c *Client) Connected(clientID string, change ...func(*packets.Packet)) *Client {
	c.t.Helper()
	if ack := c.Connect(clientID, change...); ack.ReasonCode != 0 {
		c.t.Fatalf("mqtttest: CONNACK %#x %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	return c
}

// NextID returns a packet id that was not used before.
func (c *Client) NextID() uint16 { c.id++; return c.id }

// Subscribe subscribes at QoS 1 and returns the codes of the SUBACK.
func (c *Client) Subscribe(filters ...string) []byte {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: c.NextID()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	c.Send(pk)
	ack := c.Want(packets.Suback)
	if ack.PacketID != pk.PacketID {
		c.t.Fatalf("mqtttest: SUBACK for packet %d, want %d", ack.PacketID, pk.PacketID)
	}
	return ack.ReasonCodes
}

// PublishPacket is a PUBLISH with a packet id if its QoS needs one.
func (c *Client) PublishPacket(topic, payload string, qos byte) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload)}
	if qos > 0 {
		pk.PacketID = c.NextID()
	}
	return pk
}

// Publish publishes; at QoS 1 it waits for the PUBACK and returns it.
func (c *Client) Publish(topic, payload string, qos byte, change ...func(*packets.Packet)) packets.Packet {
	c.t.Helper()
	pk := c.PublishPacket(topic, payload, qos)
	for _, f := range change {
		f(&pk)
	}
	c.Send(pk)
	if qos == 0 {
		return packets.Packet{}
	}
	var held []packets.Packet
	ack, ok := c.Next()
	for ; ok && ack.FixedHeader.Type == packets.Publish; ack, ok = c.Next() {
		held = append(held, ack)
	}
	c.held = held
	if !ok || ack.FixedHeader.Type != packets.Puback {
		c.t.Fatalf("mqtttest: got %s, want a PUBACK", packets.PacketNames[ack.FixedHeader.Type])
	}
	if ack.PacketID != pk.PacketID {
		c.t.Fatalf("mqtttest: PUBACK for packet %d, want %d", ack.PacketID, pk.PacketID)
	}
	return ack
}

// Next returns the next packet; ok is false when the server has closed the connection.
func (c *Client) Next() (pk packets.Packet, ok bool) {
	c.t.Helper()
	if len(c.held) > 0 {
		pk, c.held = c.held[0], c.held[1:]
		return pk, true
	}
	select {
	case pk, ok = <-c.in:
		return pk, ok
	case <-time.After(Patience()):
		c.t.Fatal("mqtttest: nothing came")
	}
	return
}

// Want returns the next packet, which must be of the given type.
func (c *Client) Want(kind byte) packets.Packet {
	c.t.Helper()
	pk, ok := c.Next()
	if !ok {
		c.t.Fatalf("mqtttest: the connection was closed, want %s", packets.PacketNames[kind])
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("mqtttest: got %s, want %s", describe(pk), packets.PacketNames[kind])
	}
	return pk
}

// Message returns the next packet, which must be a PUBLISH, and acknowledges it.
func (c *Client) Message() packets.Packet {
	c.t.Helper()
	pk := c.Want(packets.Publish)
	if pk.FixedHeader.Qos > 0 {
		c.Ack(pk.PacketID)
	}
	return pk
}

// Ack sends a PUBACK.
func (c *Client) Ack(id uint16) {
	c.t.Helper()
	c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
}

// WantMessage returns the next packet, which must be a message with this topic and payload.
func (c *Client) WantMessage(topic, payload string) packets.Packet {
	c.t.Helper()
	pk := c.Message()
	if pk.TopicName != topic || string(pk.Payload) != payload {
		c.t.Fatalf("mqtttest: got %q on %s, want %q on %s", pk.Payload, pk.TopicName, payload, topic)
	}
	return pk
}

// Ping asks for a PINGRESP.
func (c *Client) Ping() { c.t.Helper(); c.Raw(0xc0, 0) }

// Quiet checks that nothing has been sent to the client: everything that the server had to say before comes before the answer
// to a ping.
func (c *Client) Quiet() {
	c.t.Helper()
	c.Ping()
	c.Want(packets.Pingresp)
}

// Disconnect ends the connection as a client should.
func (c *Client) Disconnect() {
	c.t.Helper()
	c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.WantClosed()
}

// WantClosed checks that the server closes without another packet.
func (c *Client) WantClosed() {
	c.t.Helper()
	if pk, ok := c.Next(); ok {
		c.t.Fatalf("mqtttest: got %s, want the end of the connection", describe(pk))
	}
	c.Close()
}

// WantDisconnect checks that the server sends DISCONNECT with a reason code and closes; in 3.1.1 it just closes.
func (c *Client) WantDisconnect(code byte) packets.Packet {
	c.t.Helper()
	var pk packets.Packet
	if c.Version == 5 {
		if pk = c.Want(packets.Disconnect); pk.ReasonCode != code {
			c.t.Fatalf("mqtttest: DISCONNECT %#x (%s), want %#x", pk.ReasonCode, pk.Properties.ReasonString, code)
		}
	}
	c.WantClosed()
	return pk
}

func describe(pk packets.Packet) string {
	return fmt.Sprintf("%s id %d code %#x %q %s %q", packets.PacketNames[pk.FixedHeader.Type], pk.PacketID, pk.ReasonCode,
		pk.Properties.ReasonString, pk.TopicName, pk.Payload)
}
