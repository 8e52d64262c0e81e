package mqtt

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// properties are what a client may say beside a packet in MQTT 5 (MQTT 5.0 section 2.2.2), as far as anybody asks for it.
type properties struct {
	seen uint64 // bit per identifier

	sessionExpiry, maxPacket, messageExpiry uint32
	receiveMax, alias                       uint16
	problemInfo, format                     byte
	contentType, responseTopic, authMethod  string
	correlation                             []byte
	user                                    []UserProperty
	userBytes                               int
}

func (p *properties) has(id byte) bool { return p.seen>>id&1 != 0 }

// life is the message expiry interval, 0 if there is none. 0 is sent for 1, and seven days are the most (iot-core spec 6.12).
func (p *properties) life() time.Duration {
	if !p.has(packets.PropMessageExpiryInterval) {
		return 0
	}
	return min(max(1, time.Duration(p.messageExpiry))*time.Second, maxMessageLife)
}

// forwarded returns those that go to the subscribers, nil if there are none.
func (p *properties) forwarded() *Properties {
	const any = 1<<packets.PropContentType | 1<<packets.PropResponseTopic | 1<<packets.PropCorrelationData | 1<<packets.PropUser | 1<<packets.PropPayloadFormat
	if p.seen&any == 0 {
		return nil
	}
	return &Properties{ContentType: p.contentType, ResponseTopic: p.responseTopic, CorrelationData: p.correlation, User: p.user,
		UTF8: p.format == 1, HasFormat: p.has(packets.PropPayloadFormat)}
}

// allowed says which properties a client may put into which packet (MQTT 5.0 table 2-4). Subscription identifiers have an error
// of their own.
var allowed = func() (t [100]uint64) {
	bits := func(ids ...byte) (m uint64) {
		for _, id := range ids {
			m |= 1 << id
		}
		return m
	}
	message := bits(packets.PropPayloadFormat, packets.PropMessageExpiryInterval, packets.PropContentType, packets.PropResponseTopic,
		packets.PropCorrelationData, packets.PropUser)
	t[packets.Connect] = bits(packets.PropSessionExpiryInterval, packets.PropAuthenticationMethod, packets.PropAuthenticationData,
		packets.PropRequestProblemInfo, packets.PropRequestResponseInfo, packets.PropReceiveMaximum, packets.PropTopicAliasMaximum,
		packets.PropUser, packets.PropMaximumPacketSize)
	t[packets.WillProperties] = message | bits(packets.PropWillDelayInterval)
	t[packets.Publish] = message | bits(packets.PropTopicAlias)
	t[packets.Puback] = bits(packets.PropReasonString, packets.PropUser)
	t[packets.Subscribe] = bits(packets.PropSubscriptionIdentifier, packets.PropUser)
	t[packets.Unsubscribe] = bits(packets.PropUser)
	t[packets.Disconnect] = bits(packets.PropSessionExpiryInterval, packets.PropReasonString, packets.PropUser)
	return t
}()

// properties reads the property section of a packet of the given kind.
func (c *cursor) properties(kind byte, p *properties) {
	n := c.varint()
	section := cursor{b: c.take(n), version: c.version}
	for len(section.b) > 0 {
		section.property(kind, p)
	}
	if section.err != nil && c.err == nil {
		c.err, c.b = section.err, nil
	}
}

func (c *cursor) property(kind byte, p *properties) {
	id := c.byte()
	if id >= 64 || allowed[kind]>>id&1 == 0 {
		c.failWith(protocolError("property %d does not belong here", id))
		return
	}
	if p.has(id) && id != packets.PropUser {
		c.failWith(protocolError("property %d is given twice", id))
		return
	}
	p.seen |= 1 << id
	switch id {
	case packets.PropPayloadFormat:
		p.format = c.bit()
	case packets.PropRequestProblemInfo:
		p.problemInfo = c.bit()
	case packets.PropRequestResponseInfo:
		c.bit()
	case packets.PropMessageExpiryInterval:
		p.messageExpiry = c.uint32()
	case packets.PropSessionExpiryInterval:
		p.sessionExpiry = c.uint32()
	case packets.PropWillDelayInterval:
		c.uint32() // not supported: the will is sent at once (iot-core spec 6.9)
	case packets.PropMaximumPacketSize:
		p.maxPacket = c.uint32()
		c.notZero(p.maxPacket, "maximum packet size")
	case packets.PropReceiveMaximum:
		p.receiveMax = c.uint16()
		c.notZero(uint32(p.receiveMax), "receive maximum")
	case packets.PropTopicAliasMaximum:
		c.uint16() // we send no aliases
	case packets.PropTopicAlias:
		p.alias = c.uint16()
		if c.err == nil && (p.alias == 0 || p.alias > MaxAliases) {
			c.failWith(clientError(codeAliasInvalid, "topic alias %d: 1 to %d are allowed", p.alias, MaxAliases))
		}
	case packets.PropContentType:
		p.contentType = c.string()
		c.atMost(len(p.contentType), maxContentType, "content type")
	case packets.PropResponseTopic:
		p.responseTopic = c.string()
		if c.err == nil && fleet.CheckTopic(p.responseTopic) != nil {
			c.failWith(clientError(codeTopicInvalid, "the response topic is not a topic name"))
		}
	case packets.PropCorrelationData:
		p.correlation = append([]byte{}, c.bytes()...)
		c.atMost(len(p.correlation), maxCorrelation, "correlation data")
	case packets.PropUser:
		u := UserProperty{c.string(), c.string()}
		p.user = append(p.user, u)
		p.userBytes += 4 + len(u.Key) + len(u.Value) // as they are sent: empty pairs must not be free
		c.atMost(p.userBytes, maxUserProps, "user properties")
	case packets.PropSubscriptionIdentifier:
		if c.notZero(uint32(c.varint()), "subscription identifier"); c.err == nil {
			c.failWith(clientError(codeSubscriptionID, "subscription identifiers are not supported"))
		}
	case packets.PropAuthenticationMethod:
		p.authMethod = c.string()
		if p.authMethod == "" {
			p.authMethod = "(empty)"
		}
	case packets.PropAuthenticationData:
		c.bytes()
	case packets.PropReasonString:
		_ = c.string()
	}
}

func (c *cursor) bit() byte {
	b := c.byte()
	if b > 1 {
		c.failWith(protocolError("a property that is 0 or 1 is %d", b))
	}
	return b
}

func (c *cursor) notZero(n uint32, what string) {
	if n == 0 && c.err == nil {
		c.failWith(protocolError("%s 0", what))
	}
}

func (c *cursor) atMost(n, most int, what string) {
	if n > most && c.err == nil {
		c.failWith(clientError(codeTooLarge, "%s of more than %d bytes", what, most))
	}
}
