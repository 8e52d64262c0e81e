// Package reserved is the wire of device provisioning over MQTT: the reserved topics, the payloads on them, and how large the packet is
// that carries an answer (provisioning spec 3). It knows no rules: the gateway serves the topics, package provision makes the answers
// and the policies that let a claim use them.
//
// Begin with Operation. payload.go has what is sent, size.go what it takes.
package reserved

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/wire"
)

// An Operation is a request that devices make on a reserved topic (provisioning spec 3.1).
type Operation int

const (
	Create        Operation = iota // CreateKeysAndCertificate
	CreateFromCSR                  // CreateCertificateFromCsr
	Register                       // RegisterThing
)

// Prefixes of the topics, and what stands in a topic of Register between template and format.
const (
	PrefixCreate        = "$aws/certificates/create/"
	PrefixCreateFromCSR = "$aws/certificates/create-from-csr/"
	PrefixTemplates     = "$aws/provisioning-templates/"
	InfixProvision      = "/provision/"
)

// Suffixes of the topics on which answers come.
const (
	Accepted = "/accepted"
	Rejected = "/rejected"
)

// Formats are how payloads may be written.
var Formats = []wire.Format{wire.JSON, wire.CBOR}

// Topic is the topic of a request. template counts for Register alone.
func (o Operation) Topic(template string, f wire.Format) string {
	switch o {
	case Create:
		return PrefixCreate + string(f)
	case CreateFromCSR:
		return PrefixCreateFromCSR + string(f)
	}
	return PrefixTemplates + template + InfixProvision + string(f)
}

func (o Operation) String() string {
	return [...]string{"CreateKeysAndCertificate", "CreateCertificateFromCsr", "RegisterThing"}[o]
}

// Request takes an answer's topic back to that of its request; other topics stay as they are.
func Request(topic string) string {
	for _, suffix := range []string{Accepted, Rejected} {
		if t, ok := strings.CutSuffix(topic, suffix); ok {
			return t
		}
	}
	return topic
}
