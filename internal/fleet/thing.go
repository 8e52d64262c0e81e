package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// A Thing is a device's entry in the registry.
type Thing struct {
	Name         string
	ID           string // UUID
	Type         string // name of its ThingType; empty for none
	Attributes   map[string]string
	BillingGroup string
	Version      int64 // starts at 1, +1 per update
	Created      time.Time
}

// A ThingType describes what things of a kind have in common.
type ThingType struct {
	Name, ID    string
	Description string
	Searchable  []string // at most 3 attribute names
	Propagating []PropagatingAttribute
	Deprecated  time.Time // zero: not deprecated
	Created     time.Time
}

// A PropagatingAttribute adds a user property to what things of a type publish (iot-core spec 6.12).
type PropagatingAttribute struct{ UserPropertyKey, ThingAttribute, ConnectionAttribute string }

// A ThingGroup is a static group; groups form a tree.
type ThingGroup struct {
	Name, ID    string
	Parent      string
	Path        []string // names of the ancestors, root first, without the group itself
	Description string
	Attributes  map[string]string
	Version     int64
	Created     time.Time
}

// A BillingGroup holds things for cost allocation; a thing is in at most one.
type BillingGroup struct {
	Name, ID    string
	Description string
	Version     int64
	Created     time.Time
}

// PrincipalType says whether a certificate may serve other things too.
type PrincipalType string

const (
	Exclusive    PrincipalType = "EXCLUSIVE_THING"
	NonExclusive PrincipalType = "NON_EXCLUSIVE_THING"
)

// An Attachment ties a principal to a thing.
type Attachment struct {
	Thing     string
	Principal string // certificate ARN or identity id
	Type      PrincipalType
}

// CertificateStatus is where a certificate is in its life (provisioning spec 9.1).
type CertificateStatus string

const (
	Active            CertificateStatus = "ACTIVE"
	Inactive          CertificateStatus = "INACTIVE"
	Revoked           CertificateStatus = "REVOKED"
	PendingActivation CertificateStatus = "PENDING_ACTIVATION"
	PendingTransfer   CertificateStatus = "PENDING_TRANSFER"
	RegisterInactive  CertificateStatus = "REGISTER_INACTIVE"
)

// CertificateMode says whether a connection must name its endpoint by SNI.
type CertificateMode string

const (
	ModeDefault CertificateMode = "DEFAULT"
	ModeSNIOnly CertificateMode = "SNI_ONLY"
)

// A Certificate is a device's certificate as registered in a scope.
type Certificate struct {
	ID         string // lower-case hex SHA-256 of the DER
	PEM        string // leaf only
	Status     CertificateStatus
	Mode       CertificateMode
	CAID       string // registered CA that signed it; empty when ours did
	NotBefore  time.Time
	NotAfter   time.Time
	Created    time.Time
	Modified   time.Time
	Version    int64 // customerVersion: +1 per status change
	Generation string

	Limited bool // there is a Bootstrap about it

	// Pending certificates of a provisioning flow only: who asked, with which request, and until when it may be registered.
	Origin CertificateOrigin
}

// CertificateOrigin records which claim asked for a certificate and who stood behind the claim. It is what containment
// follows when a claim turns out to be stolen.
type CertificateOrigin struct {
	ClaimID   string    // claim or bootstrap certificate id that asked; empty for the control plane
	Requester string    // ARN of the caller, or the installer behind the claim
	Template  string    // template that the claim is bound to, if it is
	CSRHash   string    // hex SHA-256 of the CSR's DER, so that a repeated CSR finds its certificate; empty for server-made keys
	Expires   time.Time // a pending certificate is deleted after this; zero: never
}

// CertificateID returns the id of a certificate: hex SHA-256 of its DER (provisioning spec 9.2).
func CertificateID(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}

// A Policy is an IoT policy with its default document.
type Policy struct {
	Name       string
	Default    int    // id of the default version
	Document   string // of the default version, exactly as submitted
	Created    time.Time
	Modified   time.Time
	Generation string
}

// A PolicyVersion is one of at most five documents of a policy.
type PolicyVersion struct {
	ID       int
	Document string
	Default  bool
	Created  time.Time
}

var (
	registryName   = NewPattern(`^[a-zA-Z0-9:_-]{1,128}$`)
	attributeName  = NewPattern(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`)
	attributeValue = NewPattern(`^[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}$`)
	policyName     = NewPattern(`^[\w+=,.@-]{1,128}$`)
	certificateID  = NewPattern(`^[a-f0-9]{64}$`)
)

// ValidRegistryName reports whether s may name a thing, thing type, thing group or billing group (iot-core spec 2.2).
func ValidRegistryName(s string) bool { return registryName.MatchString(s) }

// ValidAttribute reports whether a registry attribute may have this name and value.
func ValidAttribute(name, value string) bool {
	return attributeName.MatchString(name) && attributeValue.MatchString(value)
}

// ValidPolicyName reports whether s may name an IoT policy.
func ValidPolicyName(s string) bool { return policyName.MatchString(s) }

// ValidCertificateID reports whether s is 64 lower-case hex digits.
func ValidCertificateID(s string) bool { return certificateID.MatchString(s) }
