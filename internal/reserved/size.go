package reserved

import (
	"github.com/imprint-iot/imprint/internal/wire"
)

// Property names and values that every answer to an MQTT 5 client carries.
const (
	ContentTypePrefix = "application/" // and the format
	TraceProperty     = "traceId"      // a user property whose value has TraceIDLength characters
	TraceIDLength     = 36
)

// PacketSize is the size in bytes of the PUBLISH packet, fixed header included, that brings payload to a client at QoS 1: what a device's
// receive buffer must hold. version is 4 for MQTT 3.1.1, or 5.
func PacketSize(version int, topic string, f wire.Format, payload []byte) int {
	remaining := 2 + len(topic) + 2 + len(payload) // topic and packet id before the payload (MQTT 3.1.1 section 3.3)
	if version == 5 {
		properties := 1 + 2 + len(ContentTypePrefix) + len(f) + 1 + 2 + len(TraceProperty) + 2 + TraceIDLength
		remaining += varintSize(properties) + properties
	}
	return 1 + varintSize(remaining) + remaining
}

// varintSize is how many bytes the variable byte integer n takes (MQTT 5.0 section 1.5.5).
func varintSize(n int) int {
	size := 1
	for n >>= 7; n > 0; n >>= 7 {
		size++
	}
	return size
}

// AnswerSize is the PacketSize of an accepted answer.
func AnswerSize(version int, o Operation, template string, f wire.Format, answer any) (int, error) {
	payload, err := wire.EncodeTopic(f, answer)
	if err != nil {
		return 0, err
	}
	return PacketSize(version, o.Topic(template, f)+Accepted, f, payload), nil
}
