package mqtt

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A Message is what is published and delivered. It must not change once it was published: many sessions share it.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool
	Props   *Properties // nil: none
	Expires time.Time   // zero: never (message expiry interval)
	Origin  *Origin     // for rules; nil: the service itself
}

// Properties are those of an MQTT 5 PUBLISH that travel with the message; towards 3.1.1 subscribers they are dropped.
type Properties struct {
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []UserProperty
	UTF8            bool // payload format indicator: the payload is text
	HasFormat       bool // the payload format indicator was given
}

// A UserProperty is one of a message's free pairs; order and repetition are kept.
type UserProperty struct{ Key, Value string }

// expired reports whether nobody is to get m any more.
func (m *Message) expired(now time.Time) bool { return !m.Expires.IsZero() && now.After(m.Expires) }

// Size is about what m occupies in memory, in bytes.
func (m *Message) Size() int64 {
	n := len(m.Topic) + len(m.Payload) + 128
	if p := m.Props; p != nil {
		n += len(p.ContentType) + len(p.ResponseTopic) + len(p.CorrelationData) + 128
		for _, u := range p.User {
			n += len(u.Key) + len(u.Value) + 64 // two strings, and what the slice has grown beyond them
		}
	}
	return int64(n)
}

// fill sets the properties of an outgoing PUBLISH from m.
func (m *Message) fill(p *packets.Properties, now time.Time) {
	if !m.Expires.IsZero() {
		// The floor of a remaining fraction would be 0, which a receiver reads as "expired already" or "never": say 1.
		p.MessageExpiryInterval = uint32(max(1, m.Expires.Sub(now)/time.Second))
	}
	if m.Props == nil {
		return
	}
	p.ContentType, p.ResponseTopic, p.CorrelationData = m.Props.ContentType, m.Props.ResponseTopic, m.Props.CorrelationData
	p.PayloadFormatFlag = m.Props.HasFormat
	if m.Props.UTF8 {
		p.PayloadFormat = 1
	}
	for _, u := range m.Props.User {
		p.User = append(p.User, packets.UserProperty{Key: u.Key, Val: u.Value})
	}
}
