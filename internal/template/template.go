// Package template is the provisioning-template language: it reads a template, works out what a device's parameters make of
// it, and plans what has to be written. It is pure: no SQL, no clock, no randomness.
//
// Every provisioning flow is the same three steps. Parse checks a body and gives a Template. Template.Evaluate puts parameters
// in and gives what is Desired. Resolve compares that with a Snapshot of what exists and gives a Plan, in which each decision
// is visible; somebody else (registry.Apply) writes it. The language is provisioning spec 4.
//
// Begin with the types in desired.go and plan.go, then parse.go (the grammar), function.go (Ref and Fn::…), evaluate.go,
// document.go (policy documents, where a device's values are made harmless), settings.go (Mappings.Imprint), resolve.go and
// guard.go (who may have a thing that somebody has).
package template

import "github.com/imprint-iot/imprint/internal/fleet"

// A Kind is the flow that a template serves. It decides which sections are legal, where a certificate may come from and what
// a missing parameter means (provisioning spec 4.1, 4.7).
type Kind int

const (
	Fleet  Kind = iota // stored, FLEET_PROVISIONING: MQTT RegisterThing
	JITP               // stored, JITP, or in a CA's registrationConfig: first connection of a certificate
	Inline             // body in an HTTPS RegisterThing call: its author gives the parameters, too
	Bulk               // body in StartThingRegistrationTask: parameters come from a file
)

// KindOf returns the kind of a stored template.
func KindOf(t fleet.TemplateType) Kind {
	if t == fleet.JITP {
		return JITP
	}
	return Fleet
}

// pseudoPrefix begins the names of parameters that the service supplies; CertificateID is the one that every fleet template
// gets (provisioning spec 4.6).
const (
	pseudoPrefix  = "AWS::"
	CertificateID = "AWS::IoT::Certificate::Id"
)
