package reserved

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/wire"
)

func TestSizesAreThoseOfRealPackets(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		for _, f := range Formats {
			for _, n := range []int{0, 50, 100, 2000, 16200, 40000} {
				p := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 7,
					TopicName: Register.Topic("lamps", f) + Accepted, Payload: make([]byte, n)}
				if version == 5 {
					p.Properties.ContentType = ContentTypePrefix + string(f)
					p.Properties.User = []packets.UserProperty{{Key: TraceProperty, Val: strings.Repeat("x", TraceIDLength)}}
				}
				var b bytes.Buffer
				if err := p.PublishEncode(&b); err != nil {
					t.Fatal(err)
				}
				if got := PacketSize(int(version), p.TopicName, f, p.Payload); got != b.Len() {
					t.Errorf("version %d, %s, %d bytes: %d, a real packet has %d", version, f, n, got, b.Len())
				}
			}
		}
	}
}

func TestAnswersGoBackToTheirRequests(t *testing.T) {
	t.Parallel()
	for _, o := range []Operation{Create, CreateFromCSR, Register} {
		topic := o.Topic("lamps", wire.CBOR)
		for _, suffix := range []string{"", Accepted, Rejected} {
			if got := Request(topic + suffix); got != topic {
				t.Errorf("%s goes back to %s", topic+suffix, got)
			}
		}
		if !strings.HasSuffix(topic, "/cbor") || o.String() == "" {
			t.Errorf("%v is at %s", o, topic)
		}
	}
}
