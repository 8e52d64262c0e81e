package mqtt

import (
	"bytes"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// encoders is a pool of the library's packets: they are too large to be made for every message.
var encoders = sync.Pool{New: func() any { return new(packets.Packet) }}

// An encoder writes the packets that one connection gets: its protocol version, the largest packet that the client takes, and
// whether the client wants to hear of problems (MQTT 5.0 section 3.1.2.11).
type encoder struct {
	version    byte
	maxPacket  uint32 // 0: any size
	noProblems bool
}

// put encodes what fill describes into buf. It reports whether the packet fits the client; buf is unchanged if not.
func (e *encoder) put(buf *bytes.Buffer, kind byte, fill func(*packets.Packet)) bool {
	p := encoders.Get().(*packets.Packet)
	defer func() {
		*p = packets.Packet{}
		encoders.Put(p)
	}()
	p.FixedHeader.Type = kind
	p.ProtocolVersion = e.version
	p.Mods.DisallowProblemInfo = e.noProblems && kind != packets.Publish && kind != packets.Connack && kind != packets.Disconnect
	p.Mods.AllowResponseInfo = true // response topic and correlation data of a PUBLISH always travel
	if fill != nil {
		fill(p)
	}
	if e.tryPut(buf, p) {
		return true
	}
	// Reason strings and user properties of answers must not make them too large (MQTT-3.2.2-19 and its like).
	if kind == packets.Publish || p.Properties.ReasonString == "" && p.Properties.User == nil {
		return false
	}
	p.Properties.ReasonString, p.Properties.User = "", nil
	return e.tryPut(buf, p)
}

func (e *encoder) tryPut(buf *bytes.Buffer, p *packets.Packet) bool {
	before := buf.Len()
	if err := encode(buf, p); err != nil || e.maxPacket > 0 && uint32(buf.Len()-before) > e.maxPacket {
		buf.Truncate(before)
		return false
	}
	return true
}

// encode is the border to the library: the packets that a server sends.
func encode(buf *bytes.Buffer, p *packets.Packet) error {
	switch p.FixedHeader.Type {
	case packets.Connack:
		return p.ConnackEncode(buf)
	case packets.Publish:
		return p.PublishEncode(buf)
	case packets.Puback:
		return p.PubackEncode(buf)
	case packets.Suback:
		return p.SubackEncode(buf)
	case packets.Unsuback:
		return p.UnsubackEncode(buf)
	case packets.Pingresp:
		return p.PingrespEncode(buf)
	case packets.Disconnect:
		return p.DisconnectEncode(buf)
	}
	return packets.ErrNoValidPacketAvailable
}

// publish encodes a message as this client gets it.
func (e *encoder) publish(buf *bytes.Buffer, o *outgoing, now time.Time) bool {
	return e.put(buf, packets.Publish, func(p *packets.Packet) {
		p.FixedHeader.Qos, p.FixedHeader.Retain = o.qos, o.retain
		p.PacketID = o.id
		p.TopicName = o.message.Topic
		p.Payload = o.message.Payload
		if e.version == 5 {
			o.message.fill(&p.Properties, now)
		}
	})
}

// over returns how many bytes a message takes, if that is more than the client does; else 0.
func (e *encoder) over(o outgoing, now time.Time) int {
	if e.maxPacket == 0 {
		return 0
	}
	var buf bytes.Buffer
	whole := encoder{version: e.version, noProblems: e.noProblems}
	o.id = 1 // it gets its own when it is sent
	if whole.publish(&buf, &o, now); buf.Len() > int(e.maxPacket) {
		return buf.Len()
	}
	return 0
}
