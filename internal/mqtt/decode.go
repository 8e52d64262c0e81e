package mqtt

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A packet is what a client sent, decoded and checked: nothing in it refers to the buffer it came from, but for the payload
// of a PUBLISH, which owns that buffer.
type packet struct {
	kind    byte // packets.Connect …
	id      uint16
	message *Message       // PUBLISH
	life    time.Duration  // PUBLISH: message expiry interval, 0 for none
	alias   uint16         // PUBLISH: topic alias, 0 for none
	filters []subscription // SUBSCRIBE; UNSUBSCRIBE uses the filter alone
	connect *connectPacket // CONNECT
	code    byte           // DISCONNECT, PUBACK
	expiry  *uint32        // DISCONNECT: session expiry interval, if given
}

// A connectPacket is a decoded CONNECT.
type connectPacket struct {
	version    byte // 4 or 5
	clean      bool
	clientID   string
	username   string
	keepAlive  time.Duration // as asked for
	will       *Message      // QoS as sent, 2 included
	willLife   time.Duration // its message expiry interval, 0 for none
	expiry     uint32        // MQTT 5 session expiry interval, seconds
	receiveMax uint16        // 0: not given
	maxPacket  uint32        // 0: not given
	noProblems bool          // Request Problem Information is 0
	authMethod string
}

// readHeader reads a packet's first bytes: its type with flags, and how many bytes follow (MQTT 5.0 section 2.1).
func readHeader(r io.Reader, scratch *[2]byte) (first byte, length int, err error) {
	if _, err := io.ReadFull(r, scratch[:]); err != nil {
		return 0, 0, err
	}
	first, digit := scratch[0], scratch[1]
	for shift := 0; ; shift += 7 {
		length |= int(digit&0x7f) << shift
		if digit&0x80 == 0 {
			if digit == 0 && shift > 0 {
				return 0, 0, malformed("the remaining length is not in its shortest form")
			}
			return first, length, checkFlags(first)
		}
		if shift == 21 {
			return 0, 0, malformed("the remaining length has more than four bytes")
		}
		if _, err := io.ReadFull(r, scratch[:1]); err != nil {
			return 0, 0, err
		}
		digit = scratch[0]
	}
}

// checkFlags checks the four flag bits of a fixed header (MQTT 5.0 section 2.1.3).
func checkFlags(first byte) error {
	flags := first & 0x0f
	switch first >> 4 {
	case packets.Publish:
		if flags&0x06 == 0x06 {
			return malformed("a PUBLISH has QoS 0, 1 or 2")
		}
		if flags&0x08 != 0 && flags&0x06 == 0 {
			return malformed("a PUBLISH at QoS 0 is no duplicate")
		}
	case packets.Subscribe, packets.Unsubscribe, packets.Pubrel:
		if flags != 0x02 {
			return malformed("reserved flags of the fixed header are wrong")
		}
	default:
		if flags != 0 {
			return malformed("reserved flags of the fixed header are set")
		}
	}
	return nil
}

// decode decodes the body of a packet that a client of the given protocol version sent (0 before its CONNECT). A PUBLISH keeps
// body. Errors are an End.
func decode(first byte, body []byte, version byte) (*packet, error) {
	p := &packet{kind: first >> 4}
	c := &cursor{b: body, version: version}
	switch p.kind {
	case packets.Connect:
		p.connect = c.connect()
	case packets.Publish:
		c.publish(p, first)
	case packets.Puback:
		p.id = c.packetID()
		p.code = c.reason(packets.Puback, nil)
	case packets.Subscribe:
		p.id = c.packetID()
		c.subscribe(p)
	case packets.Unsubscribe:
		p.id = c.packetID()
		c.unsubscribe(p)
	case packets.Pingreq:
	case packets.Disconnect:
		var props properties
		p.code = c.reason(packets.Disconnect, &props)
		if props.has(packets.PropSessionExpiryInterval) {
			p.expiry = &props.sessionExpiry
		}
	case packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		return nil, clientError(codeProtocolError, "QoS 2 is not supported")
	case packets.Auth:
		return nil, clientError(codeProtocolError, "enhanced authentication is not supported")
	default:
		return nil, protocolError("a client does not send packets of type %d", p.kind)
	}
	if c.err == nil && len(c.b) > 0 {
		c.fail("%d bytes too many in the packet", len(c.b))
	}
	if c.err != nil {
		return nil, c.err
	}
	return p, nil
}

// A cursor walks through a packet. After the first error it yields zero values, so that decoding reads as a list.
type cursor struct {
	b       []byte
	version byte
	err     error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = malformed(format, args...)
	}
	c.b = nil
}

func (c *cursor) failWith(e End) {
	if c.err == nil {
		c.err = e
	}
	c.b = nil
}

func (c *cursor) take(n int) []byte {
	if len(c.b) < n {
		c.fail("the packet ends too early")
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable byte integer (MQTT 5.0 section 1.5.5).
func (c *cursor) varint() (n int) {
	for shift := 0; shift <= 21; shift += 7 {
		digit := c.byte()
		n |= int(digit&0x7f) << shift
		if digit&0x80 == 0 {
			if digit == 0 && shift > 0 {
				c.fail("a length is not in its shortest form")
			}
			return n
		}
	}
	c.fail("a length has more than four bytes")
	return 0
}

func (c *cursor) bytes() []byte { return c.take(int(c.uint16())) }

func (c *cursor) string() string {
	s := string(c.bytes())
	if !validText(s) {
		c.fail("a string is not UTF-8 or holds the null character")
	}
	return s
}

func (c *cursor) packetID() uint16 {
	id := c.uint16()
	if id == 0 && c.err == nil {
		c.failWith(protocolError("packet id 0"))
	}
	return id
}

func (c *cursor) connect() *connectPacket {
	p := &connectPacket{}
	name := string(c.bytes())
	if c.err == nil && name != "MQTT" && name != "MQIsdp" {
		c.failWith(protocolError("the protocol is not MQTT"))
	}
	p.version = c.byte()
	if c.err == nil && (name == "MQIsdp" || p.version != 4 && p.version != 5) {
		c.failWith(clientError(codeUnsupportedLevel, "protocol level %d: use MQTT 3.1.1 (4) or 5", p.version))
	}
	c.version = p.version
	flags := c.byte()
	p.clean = flags&0x02 != 0
	hasWill, willRetain, hasPassword, hasUsername := flags&0x04 != 0, flags&0x20 != 0, flags&0x40 != 0, flags&0x80 != 0
	willQoS := flags >> 3 & 3
	switch {
	case flags&0x01 != 0:
		c.fail("the reserved CONNECT flag is set")
	case !hasWill && (willRetain || willQoS != 0):
		c.fail("will flags without a will")
	case willQoS == 3:
		c.fail("will QoS 3")
	case p.version == 4 && hasPassword && !hasUsername:
		c.fail("a password without a user name")
	}
	p.keepAlive = time.Duration(c.uint16()) * time.Second
	if p.version == 5 {
		var props properties
		c.properties(packets.Connect, &props)
		p.expiry, p.receiveMax, p.maxPacket = props.sessionExpiry, props.receiveMax, props.maxPacket
		p.noProblems = props.has(packets.PropRequestProblemInfo) && props.problemInfo == 0
		p.authMethod = props.authMethod
	}
	p.clientID = c.string()
	if hasWill {
		p.will, p.willLife = c.will(willQoS, willRetain)
	}
	if hasUsername {
		p.username = c.string()
	}
	if hasPassword {
		c.bytes()
	}
	return p
}

func (c *cursor) will(qos byte, retain bool) (*Message, time.Duration) {
	m := &Message{QoS: qos, Retain: retain}
	var props properties
	if c.version == 5 {
		c.properties(packets.WillProperties, &props)
	}
	m.Topic = c.string()
	m.Payload = append([]byte(nil), c.bytes()...)
	m.Props = props.forwarded()
	return m, props.life()
}

func (c *cursor) publish(p *packet, first byte) {
	m := &Message{QoS: first >> 1 & 3, Retain: first&0x01 != 0, Topic: c.string()}
	if m.QoS > 0 {
		p.id = c.packetID()
	}
	if c.version == 5 {
		var props properties
		c.properties(packets.Publish, &props)
		p.alias = props.alias
		m.Props = props.forwarded()
		p.life = props.life()
	}
	m.Payload, c.b = c.b, nil
	p.message = m
}

func (c *cursor) subscribe(p *packet) {
	if c.version == 5 {
		var props properties
		c.properties(packets.Subscribe, &props)
	}
	for len(c.b) > 0 {
		s := subscription{filter: c.string()}
		opts := c.byte()
		s.qos = opts & 3
		if s.qos == 3 || c.version != 5 && opts > 2 {
			c.fail("subscription options %#x", opts)
		}
		if c.version == 5 {
			s.noLocal, s.asPublished, s.retainHandling = opts&0x04 != 0, opts&0x08 != 0, opts>>4&3
			if opts&0xc0 != 0 || s.retainHandling == 3 {
				c.fail("subscription options %#x", opts)
			}
		}
		if len(p.filters) == MaxFilters { // here, so that a packet of nothing else takes no memory
			c.failWith(End{Reason: Throttled, Code: codeQuota, Text: "a SUBSCRIBE has too many filters: eight are allowed"})
			return
		}
		p.filters = append(p.filters, s)
	}
	if c.err == nil && len(p.filters) == 0 {
		c.failWith(protocolError("a SUBSCRIBE without filters"))
	}
}

func (c *cursor) unsubscribe(p *packet) {
	if c.version == 5 {
		var props properties
		c.properties(packets.Unsubscribe, &props)
	}
	for len(c.b) > 0 {
		if len(p.filters) == maxUnsubscribe {
			c.failWith(End{Reason: Throttled, Code: codeQuota, Text: "an UNSUBSCRIBE has too many filters"})
			return
		}
		p.filters = append(p.filters, subscription{filter: c.string()})
	}
	if c.err == nil && len(p.filters) == 0 {
		c.failWith(protocolError("an UNSUBSCRIBE without filters"))
	}
}

// reason reads the reason code and properties that end a PUBACK or DISCONNECT of MQTT 5, each of which may be left out.
func (c *cursor) reason(kind byte, props *properties) (code byte) {
	if c.version != 5 || len(c.b) == 0 {
		return 0
	}
	code = c.byte()
	if len(c.b) > 0 {
		if props == nil {
			props = new(properties)
		}
		c.properties(kind, props)
	}
	return code
}
