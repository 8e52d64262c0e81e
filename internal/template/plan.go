package template

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Snapshot is what exists of the resources that a Desired names, read in one transaction. A resource that doesn't exist is
// nil, or absent from its map.
type Snapshot struct {
	Thing        *ThingState                 // the desired thing
	ThingType    *fleet.ThingType            // the desired thing type
	ThingGroups  map[string]fleet.ThingGroup // those of the desired groups that exist, by name
	BillingGroup bool                        // whether the desired billing group exists
	Certificate  *CertificateState           // the desired certificate, by its ID or that of Issued
	Policies     map[string]bool             // those of the desired policy names that exist

	// Requester is the ARN of the certificate (or claim) whose holder asks, for the guard against takeover. Empty for callers
	// whom IAM has authorised: they may do with their registry what they please.
	Requester string
	// RequesterThings are the things that Requester, a certificate, was registered for or is attached to: it is a device's. Empty for
	// claims, bootstrap certificates and callers whom IAM has authorised.
	RequesterThings []string

	// HookAllowed: a hook has allowed what is desired. Vouched: the CA of the certificate's customer stands for what is desired, since all of it
	// is made of what the CA has signed. SameKey and Approval are for whoever is Contested: whether the certificate's
	// public key is that of a certificate that the thing has or had, and what an operator said of thing and key.
	// ClaimSerials are serial numbers or thing names that the requester's claim is bound to; nil: it is bound to none.
	HookAllowed  bool
	Vouched      bool
	ClaimSerials []string
	SameKey      bool
	Approval     *Approval
}

// ThingState is a thing with all that hangs on it.
type ThingState struct {
	fleet.Thing
	Groups     []fleet.ThingGroup // static groups that it is directly in
	Principals []fleet.Attachment
}

// CertificateState is a certificate with all that hangs on it.
type CertificateState struct {
	fleet.Certificate
	Policies []string           // names of the policies attached to it
	Things   []fleet.Attachment // things that it is attached to
}

// A Plan is what has to be written, and why. Whoever applies it writes its parts in the order of the fields; every part may
// be absent. All names exist, or are created by an earlier part.
type Plan struct {
	Thing       string // name of the thing in question; "": none
	Certificate string // id of the certificate in question; "": none

	CreateThing *fleet.Thing // name, type, attributes and billing group; the writer fills in the id
	UpdateThing *ThingUpdate
	AddGroups   []string // put the thing into these groups
	LeaveGroups []string // take the thing out of these groups
	// JoinBilling is the billing group that an existing thing, which has none, is put into. "": leave.
	JoinBilling string

	CreateCertificate *fleet.Certificate // Desired.Certificate.Issued, not there yet
	CreatePolicies    []NewPolicy
	AttachPolicies    []string            // names, to the certificate
	AttachThing       fleet.PrincipalType // attach the certificate to the thing in this way; "": leave
	// Supersede are ids of certificates that go when Certificate has connected, Overlap later: they become INACTIVE and are detached.
	Supersede []string
	Overlap   time.Duration
	Approval  string // id of the operator's approval that the plan uses up; "": none
	// Status is set last, so that nothing half provisioned can connect. "": leave.
	Status fleet.CertificateStatus

	// Decisions tells the story in order, refusals and what is left alone included.
	Decisions []Decision
}

// ThingUpdate changes a thing that exists. Its version is Version now.
type ThingUpdate struct {
	Version    int64
	Attributes map[string]string // all attributes that the thing shall have; nil: leave
	Type       *string           // nil: leave
}

// NewPolicy is a policy to create.
type NewPolicy struct{ Name, Document string }

// A Verb says what a Decision does.
type Verb string

const (
	Create Verb = "create"
	Change Verb = "change"
	Attach Verb = "attach"
	Leave  Verb = "leave"
	Refuse Verb = "refuse"
)

// A Decision is one line of a plan, for example {Leave, "thing", "lamp", "attributes", "OverrideSettings say DO_NOTHING"}.
type Decision struct {
	Verb     Verb
	Resource string // "thing", "certificate", "policy", "thing group", "billing group"
	Name     string
	Part     string // "attributes", "type", "status", …; "": the whole
	Reason   string
}

// A Need is permission that the plan's writer must hold: an IAM action on a resource.
type Need struct {
	Action   string // for example iot:CreateThing
	Resource string // ARN
}
