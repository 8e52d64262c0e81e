package template

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// The guard against takeover: a shared claim is in many hands, so whoever holds one must not get a thing that belongs to a device
// already. A thing belongs to its principals. One of them may always add a certificate (rotation); what others may, the template's
// setting Reprovision says.

// Reprovision is a rule for things that have a principal already.
type Reprovision string

const (
	ReprovisionDeny    Reprovision = "deny"             // refused
	ReprovisionSameKey Reprovision = "require-same-key" // allowed with the public key of a certificate that the thing has or had
	ReprovisionReplace Reprovision = "replace"          // allowed; the thing's other certificates end when the new one has connected
	ReprovisionApprove Reprovision = "approve"          // allowed when an operator has approved this thing with this key
	ReprovisionAWS     Reprovision = "aws"              // allowed: the new certificate is attached in addition
)

// Reasons of refusals by the guard (fleet.Error.Reason).
const (
	ReasonTaken    = "thing_taken"       // deny
	ReasonOtherKey = "other_key"         // require-same-key
	ReasonWaits    = "approval_pending"  // approve: an operator has not decided yet
	ReasonRejected = "approval_denied"   // approve: an operator has said no
	ReasonSerial   = "serial_not_listed" // AllowedSerials, or a claim that is bound to serial numbers
)

// An Approval is what an operator has decided about a thing and a key, if anything.
type Approval struct {
	ID      string
	State   fleet.ApprovalState
	Replace bool // the thing's other certificates end when the new one has connected
}

// rule is the rule that holds: without a word in the template, AWS's where a hook has decided, since hooks are AWS's way to
// keep strangers off, or a CA vouches for the device; else none gets a thing that is taken.
func (s Settings) rule(snap Snapshot) Reprovision {
	switch {
	case s.Reprovision != "":
		return s.Reprovision
	case snap.HookAllowed || snap.Vouched:
		return ReprovisionAWS
	}
	return ReprovisionDeny
}

// Contested reports whether the desired thing belongs to others than the requester, and the rule that decides then. The caller
// gives the snapshot what the rule asks for: SameKey or Approval.
func Contested(snap Snapshot, d *Desired) (rule Reprovision, contested bool) {
	if d.Thing == nil || snap.Thing == nil || snap.Requester == "" || len(snap.Thing.Principals) == 0 {
		return "", false
	}
	own := d.certificateID()
	for _, p := range snap.Thing.Principals {
		if p.Principal == snap.Requester || own != "" && certificateOf(p.Principal) == own { // nothing is taken over
			return "", false
		}
	}
	return d.Settings.rule(snap), true
}

// Renews reports whether the requester is a principal of the desired thing: a device that renews its certificate.
func Renews(snap Snapshot) bool {
	return snap.Thing != nil && snap.Requester != "" &&
		slices.ContainsFunc(snap.Thing.Principals, func(p fleet.Attachment) bool { return p.Principal == snap.Requester })
}

// certificateOf returns the id of a principal that is a certificate, "" for others.
func certificateOf(principal string) string {
	if a, ok := fleet.ParseARN(principal); ok && a.Kind() == "cert" {
		return a.Name()
	}
	return ""
}

func (r *resolver) guard() error {
	t := r.d.Thing
	if t == nil {
		return nil
	}
	r.plan.Thing = t.Name
	rule, contested := Contested(r.snap, r.d)
	if !contested {
		if Renews(r.snap) {
			r.decide(Leave, "thing", t.Name, "principals", "the requester is a principal of the thing and may add a certificate")
		}
		return nil
	}
	n := len(r.snap.Thing.Principals)
	switch rule {
	case ReprovisionAWS:
		r.decide(Leave, "thing", t.Name, "principals", "has %d, and stays open to others: %s", n, r.whyAWS())
		return nil
	case ReprovisionSameKey:
		if !r.snap.SameKey {
			return r.taken(ReasonOtherKey, "already belongs to another device, whose key is not the one of this certificate: the template's setting Reprovision is require-same-key")
		}
		r.decide(Leave, "thing", t.Name, "principals", "has %d, and the new certificate has the key of one that the thing has or had", n)
		return nil
	case ReprovisionReplace:
		r.replace("the template's setting Reprovision is replace")
		return nil
	case ReprovisionApprove:
		return r.approved()
	}
	return r.taken(ReasonTaken,
		"already belongs to another device. To allow this, detach its certificate, provision with that certificate, or choose another rule with Mappings.Imprint.Settings.Reprovision in the template")
}

func (r *resolver) whyAWS() string {
	if r.d.Settings.Reprovision == "" && r.snap.Vouched {
		return "the CA that has signed the certificate vouches for the device, and the template says nothing else"
	}
	if r.d.Settings.Reprovision == "" {
		return "a hook has allowed the device, and the template says nothing else"
	}
	return "the template's setting Reprovision is aws"
}

// taken refuses a thing that belongs to somebody else.
func (r *resolver) taken(reason, format string, args ...any) error {
	err := conflict("thing", r.d.Thing.Name, format, args...)
	err.Reason = reason
	return r.refuse("principals", err)
}

// replace plans the end of the thing's other certificates. It comes with the first connection of the new one: until then the device
// may still have to use the old one, should the power fail before it has stored the new.
func (r *resolver) replace(why string) {
	for _, p := range r.snap.Thing.Principals {
		if id := certificateOf(p.Principal); id != "" {
			r.plan.Supersede = append(r.plan.Supersede, id)
			r.decide(Change, "certificate", id, "", "ends when the new one has connected: %s", why)
		}
	}
}

// approved asks what an operator has said.
func (r *resolver) approved() error {
	a := r.snap.Approval
	switch {
	case a == nil || a.State == fleet.ApprovalPending:
		return r.taken(ReasonWaits, "already belongs to another device, and an operator has to approve this one: ask again later with the same certificate or request")
	case a.State == fleet.ApprovalDenied:
		return r.refuse("principals", &fleet.Error{Kind: fleet.KindDenied, Resource: "thing", Name: r.d.Thing.Name, Reason: ReasonRejected,
			Msg: "already belongs to another device, and an operator has denied this one"})
	}
	r.plan.Approval = a.ID
	r.decide(Leave, "thing", r.d.Thing.Name, "principals", "an operator has approved this certificate (%s)", a.ID)
	if a.Replace {
		r.replace("an operator has said so")
	}
	return nil
}

// serials keeps what is registered among the serial numbers or thing names that the template lists.
func (r *resolver) serials() error {
	switch {
	case !r.d.isOf(r.d.Settings.AllowedSerials):
		return r.unlisted("the template's setting AllowedSerials does not list it")
	case !r.d.isOf(r.snap.ClaimSerials):
		return r.unlisted("the claim is bound to other serial numbers")
	}
	return nil
}

// isOf reports whether the device is on a list of serial numbers or thing names; nil lists all. A serial number counts only if it
// makes the thing's name: else a stranger could send a listed one beside any name.
func (d *Desired) isOf(list []string) bool {
	return list == nil || d.Thing != nil && (slices.Contains(list, d.Thing.Name) || d.Serial != "" && slices.Contains(list, d.Serial))
}

func (r *resolver) unlisted(why string) error {
	err := fleet.Denied("may not be registered: %s", why)
	err.Resource, err.Reason = "thing", ReasonSerial
	if r.d.Thing != nil {
		err.Name = r.d.Thing.Name
	}
	return r.refuse("serial", err)
}

// checkSettings refuses settings that contradict the template they stand in.
func (t *Template) checkSettings() error {
	s := t.settings
	switch {
	case t.kind != Fleet && (s.ClaimDevices != 0 || s.ClaimSeconds != 0 || s.ClaimAddresses != nil || s.BootstrapDevices != 0):
		return errors.New("Settings: limits of claims and bootstrap certificates are for templates of type FLEET_PROVISIONING")
	case s.SerialParameter != "" && !t.declares(s.SerialParameter):
		return fmt.Errorf("Settings.SerialParameter: the template declares no parameter %q", clip(s.SerialParameter))
	case s.AllowedSerials != nil && t.thing == nil:
		return errors.New("Settings.AllowedSerials: the template has no resource of type AWS::IoT::Thing that could have one of the serial numbers")
	}
	switch s.Reprovision {
	case ReprovisionSameKey, ReprovisionReplace, ReprovisionApprove:
	default:
		return nil
	}
	switch {
	case t.thing == nil:
		return fmt.Errorf("Settings.Reprovision: %s is about things that exist already, and the template has no resource of type AWS::IoT::Thing", s.Reprovision)
	case t.cert == nil:
		return fmt.Errorf("Settings.Reprovision: %s is about a thing's certificates, and the template has no resource of type AWS::IoT::Certificate", s.Reprovision)
	case s.Reprovision == ReprovisionReplace && t.alwaysInactive():
		return errors.New("Settings.Reprovision: replace ends the old certificates when the new one connects, and with Status INACTIVE the new one never does")
	}
	return nil
}

func (t *Template) declares(parameter string) bool { _, ok := t.parameters[parameter]; return ok }

// alwaysInactive reports whether the template says in so many words that new certificates are INACTIVE.
func (t *Template) alwaysInactive() bool {
	c, ok := t.cert.props["Status"].(constant)
	status, err := certificateStatus(c.v.text.String())
	return ok && err == nil && status == fleet.Inactive
}

// serialIn returns the device's serial number if it is what makes the name: the one parameter of which the name has parts.
func serialIn(name text, parameter string, sc *scope) string {
	parameter = cmp.Or(parameter, defaultSerialParameter)
	for _, used := range name.params() {
		if used != parameter {
			return ""
		}
	}
	if len(name.params()) == 0 {
		return ""
	}
	v, err := sc.ref(parameter)
	if err != nil || v.kind != textValue {
		return ""
	}
	return v.text.String()
}
