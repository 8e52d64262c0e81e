package template

import "github.com/imprint-iot/imprint/internal/fleet"

// Desired is what a template asks for with one set of parameters. Names are valid, policy documents parse, and nothing in it
// depends on what exists.
type Desired struct {
	Kind        Kind
	Thing       *Thing       // nil: the template has no thing
	Certificate *Certificate // nil: the template has no certificate
	Policies    []Policy     // in the order of the template
	Serial      string       // the device's serial number, if that is what makes the thing's name; see Settings.SerialParameter

	// Configuration is DeviceConfiguration: what the device is answered with. Never nil.
	Configuration map[string]string
	Settings      Settings
}

// Thing is a desired AWS::IoT::Thing.
type Thing struct {
	Logical      string            // logical name in the template
	Name         string            // 1 to 128 characters
	Attributes   map[string]string // nil: the template says nothing about attributes
	Type         string            // "": nothing said
	Groups       []string          // without duplicates; nil: nothing said, empty: none
	BillingGroup string            // "": nothing said
	Override     ThingOverride
}

// ThingOverride says what happens to each part of a thing that exists already.
type ThingOverride struct {
	Attributes, Type, Groups Override // Type is never Merge
}

// An Override is a value of OverrideSettings (provisioning spec 4.4).
type Override string

const (
	DoNothing Override = "DO_NOTHING" // leave what exists
	Replace   Override = "REPLACE"    // make it equal to the template
	Merge     Override = "MERGE"      // union, the template wins
	Fail      Override = "FAIL"       // refuse if it differs
)

// Certificate is a desired AWS::IoT::Certificate. Exactly one of ID, CSR and PEM is set; fleet and JITP templates have ID only.
type Certificate struct {
	Logical string
	ID      string // 64 lower-case hex digits
	CSR     string
	PEM     string
	CAPEM   string                  // only beside PEM
	Status  fleet.CertificateStatus // Active or Inactive
	// Override is what happens to the status of a certificate that is no longer pending: DoNothing, Replace or Fail.
	Override      Override
	PrincipalType fleet.PrincipalType // ThingPrincipalType of either resource: it speaks about the attachment

	// Issued is set by the caller of Resolve where the certificate comes from a CSR or PEM: the record to store, its ID is
	// then the certificate's. A record that exists already wins.
	Issued *fleet.Certificate
}

// certificateID names the desired certificate, "" if there is none.
func (d *Desired) certificateID() string {
	switch c := d.Certificate; {
	case c == nil:
		return ""
	case c.ID == "" && c.Issued != nil:
		return c.Issued.ID
	default:
		return c.ID
	}
}

// Policy is a desired AWS::IoT::Policy: one that exists, by Name, or a Document whose Name is derived from its hash.
type Policy struct {
	Logical  string
	Name     string
	Document string // JSON text, ready for CreatePolicy; "": the policy must exist
}
