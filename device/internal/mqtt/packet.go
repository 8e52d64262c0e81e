// Package mqtt is a small MQTT client for devices: versions 3.1.1 and 5, QoS 0 and 1, one connection at a time, on any
// net.Conn. It knows no TLS and does not reconnect: package device does both. Begin with Connect and Client in client.go;
// this file holds the packets.
//
// It has a codec of its own because a device needs only nine of the fifteen packets, and never more than the two properties
// of MQTT 5 read here; the codec that the server uses brings its test tables along into the binary.
package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Version is the protocol level that CONNECT states.
type Version byte

const (
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5.0
)

func (v Version) String() string {
	if v == V5 {
		return "5"
	}
	return "3.1.1"
}

// Packet types: the upper half of the first byte (MQTT 5.0 section 2.1.2).
const (
	typeConnect    = 1 << 4
	typeConnack    = 2 << 4
	typePublish    = 3 << 4
	typePuback     = 4 << 4
	typeSubscribe  = 8<<4 | 2 // the lower half is fixed
	typeSuback     = 9 << 4
	typePingreq    = 12 << 4
	typePingresp   = 13 << 4
	typeDisconnect = 14 << 4
)

// MaxPacket is the longest packet that a Client reads, in bytes: the largest payload that AWS IoT Core carries, its topic and
// some room (iot-core spec 6.4 names 149504).
const MaxPacket = 149504

var errMalformed = errors.New("malformed packet")

// A Message is what a publisher sent to a topic.
type Message struct {
	Topic   string
	Payload []byte // the receiver's to keep
	QoS     byte   // 0 or 1
}

// readPacket reads one packet: its first byte and what follows the length.
func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, nil, unexpected(err)
		}
		if shift > 21 {
			return 0, nil, fmt.Errorf("%w: length of more than four bytes", errMalformed)
		}
		n |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	if n > MaxPacket {
		return 0, nil, fmt.Errorf("%w: %d bytes, more than %d", errMalformed, n, MaxPacket)
	}
	body = make([]byte, n)
	if _, err = io.ReadFull(r, body); err != nil {
		return 0, nil, unexpected(err)
	}
	return first, body, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// packet puts the fixed header before body.
func packet(first byte, body []byte) []byte {
	p := make([]byte, 0, len(body)+5)
	p = append(p, first)
	return append(appendVarint(p, len(body)), body...)
}

func appendVarint(p []byte, n int) []byte {
	for n >= 0x80 {
		p = append(p, byte(n)|0x80)
		n >>= 7
	}
	return append(p, byte(n))
}

func appendString(p []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(p, uint16(len(s))), s...)
}

// receiveMaximum bounds the QoS 1 messages that an MQTT 5 server may have under way to us.
const receiveMaximum = 16

// connectPacket always asks for a clean session: nothing of a device's state lives in the broker.
func connectPacket(v Version, clientID string, keepAliveSeconds uint16) []byte {
	b := appendString(nil, "MQTT")
	b = append(b, byte(v), 0x02)
	b = binary.BigEndian.AppendUint16(b, keepAliveSeconds)
	if v == V5 {
		props := binary.BigEndian.AppendUint16([]byte{propReceiveMaximum}, receiveMaximum)
		props = append(props, propMaximumPacketSize)
		props = binary.BigEndian.AppendUint32(props, MaxPacket)
		b = append(appendVarint(b, len(props)), props...)
	}
	return packet(typeConnect, appendString(b, clientID))
}

func publishPacket(v Version, id uint16, m Message) []byte {
	b := appendString(make([]byte, 0, len(m.Topic)+len(m.Payload)+5), m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if v == V5 {
		b = append(b, 0)
	}
	return packet(typePublish|m.QoS<<1, append(b, m.Payload...))
}

func subscribePacket(v Version, id uint16, qos byte, filters []string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	if v == V5 {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = append(appendString(b, f), qos)
	}
	return packet(typeSubscribe, b)
}

func pubackPacket(id uint16) []byte {
	return packet(typePuback, binary.BigEndian.AppendUint16(nil, id))
}

// disconnectPacket says goodbye normally. In MQTT 5 a length of zero means reason 0x00 (section 3.14.2.1).
func disconnectPacket() []byte { return packet(typeDisconnect, nil) }
func pingreqPacket() []byte    { return packet(typePingreq, nil) }

// A connack is the server's answer to CONNECT.
type connack struct {
	code  byte
	props properties
}

func parseConnack(v Version, body []byte) (c connack, err error) {
	r := reader{b: body}
	r.byte() // session present: we always ask for a clean session
	c.code = r.byte()
	if v == V5 && len(r.b) > 0 { // a server that refuses the version answers in the old form
		c.props = r.properties()
	}
	return c, r.err
}

// parsePublish reads a PUBLISH; id is 0 at QoS 0.
func parsePublish(v Version, first byte, body []byte) (m Message, id uint16, err error) {
	r := reader{b: body}
	m.QoS = first >> 1 & 3
	m.Topic = r.string()
	if m.QoS > 1 {
		return m, 0, fmt.Errorf("%w: PUBLISH of a QoS that nobody asked for", errMalformed)
	}
	if m.QoS == 1 {
		id = r.uint16()
	}
	if v == V5 {
		r.properties()
	}
	if r.err == nil && (m.Topic == "" || !utf8.ValidString(m.Topic) || m.QoS == 1 && id == 0) {
		r.err = errMalformed // also an alias without a topic: we allowed none
	}
	m.Payload = r.b
	return m, id, r.err
}

// An ack is a PUBACK or SUBACK: one code per filter, exactly one for a PUBACK.
type ack struct {
	codes  []byte
	reason string
}

func parsePuback(v Version, body []byte) (id uint16, a ack, err error) {
	r := reader{b: body}
	id = r.uint16()
	a.codes = []byte{0}
	if v == V5 && len(r.b) > 0 {
		a.codes[0] = r.byte()
		if len(r.b) > 0 {
			a.reason = r.properties().reason
		}
	}
	return id, a, r.err
}

func parseSuback(v Version, body []byte) (id uint16, a ack, err error) {
	r := reader{b: body}
	id = r.uint16()
	if v == V5 {
		a.reason = r.properties().reason
	}
	if a.codes = r.b; r.err == nil && len(a.codes) == 0 {
		r.err = errMalformed
	}
	return id, a, r.err
}

func parseDisconnect(v Version, body []byte) (code byte, reason string, err error) {
	r := reader{b: body}
	if v == V5 && len(body) > 0 {
		code = r.byte()
		if len(r.b) > 0 {
			reason = r.properties().reason
		}
	}
	return code, reason, r.err
}

// A reader takes fields off the front of a packet. After the first error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.err = errMalformed
		return make([]byte, min(n, 4))
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

func (r *reader) string() string {
	n := int(r.uint16())
	if p := r.take(n); r.err == nil {
		return string(p)
	}
	return ""
}

func (r *reader) varint() (n int) {
	for shift := 0; shift <= 21; shift += 7 {
		b := r.byte()
		n |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			return n
		}
	}
	r.err = errMalformed
	return 0
}

// properties holds what a device wants to know of an MQTT 5 packet.
type properties struct {
	reason    string // Reason String
	keepAlive int    // Server Keep Alive in seconds; -1 if absent
	clientID  string // Assigned Client Identifier
	maxPacket int    // Maximum Packet Size; 0 if absent
}

const (
	propAssignedClientID  = 0x12
	propServerKeepAlive   = 0x13
	propReasonString      = 0x1f
	propReceiveMaximum    = 0x21
	propUserProperty      = 0x26
	propMaximumPacketSize = 0x27
)

// propertyShape tells how long each property is (MQTT 5.0 section 2.2.2.2): its bytes, or one of the shapes below.
var propertyShape = map[byte]int{
	0x01: 1, 0x02: 4, 0x03: shapeString, 0x08: shapeString, 0x09: shapeString, 0x0b: shapeVarint, 0x11: 4,
	propAssignedClientID: shapeString, propServerKeepAlive: 2, 0x15: shapeString, 0x16: shapeString, 0x17: 1, 0x18: 4, 0x19: 1,
	0x1a: shapeString, 0x1c: shapeString, propReasonString: shapeString, propReceiveMaximum: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1,
	propUserProperty: shapePair, propMaximumPacketSize: 4, 0x28: 1, 0x29: 1, 0x2a: 1,
}

const (
	shapeString = -1 - iota // two bytes of length, then so many bytes
	shapePair               // two of those
	shapeVarint
)

func (r *reader) properties() properties {
	out := properties{keepAlive: -1}
	p := reader{b: r.take(r.varint())}
	if r.err != nil {
		return out
	}
	for len(p.b) > 0 && p.err == nil {
		id := p.byte()
		shape, known := propertyShape[id]
		switch {
		case !known:
			p.err = errMalformed
		case id == propServerKeepAlive:
			out.keepAlive = int(p.uint16())
		case id == propMaximumPacketSize:
			out.maxPacket = int(p.uint32())
		case id == propReasonString:
			out.reason = p.string()
		case id == propAssignedClientID:
			out.clientID = p.string()
		case shape == shapeString:
			p.string()
		case shape == shapePair:
			p.string()
			p.string()
		case shape == shapeVarint:
			p.varint()
		default:
			p.take(shape)
		}
	}
	r.err = p.err
	return out
}
