package template

import "github.com/imprint-iot/imprint/internal/fleet"

// Needs lists the permissions that writing the plan takes, in the order of its parts. The provisioning role must have them all
// (provisioning spec 4.9, 14.3). What a plan merely looks at needs none.
func (p *Plan) Needs(s fleet.Scope) []Need {
	var out []Need
	need := func(action string, resources ...string) {
		for _, r := range resources {
			out = append(out, Need{"iot:" + action, r})
		}
	}
	thing, cert := s.IoT("thing", p.Thing), s.IoT("cert", p.Certificate)
	if p.CreateThing != nil {
		need("CreateThing", thing)
	}
	if p.UpdateThing != nil {
		need("UpdateThing", thing)
	}
	for _, g := range p.AddGroups {
		need("AddThingToThingGroup", s.IoT("thinggroup", g), thing)
	}
	for _, g := range p.LeaveGroups {
		need("RemoveThingFromThingGroup", s.IoT("thinggroup", g), thing)
	}
	if p.JoinBilling != "" {
		need("AddThingToBillingGroup", s.IoT("billinggroup", p.JoinBilling), thing)
	}
	if p.CreateThing != nil && p.CreateThing.BillingGroup != "" {
		need("AddThingToBillingGroup", s.IoT("billinggroup", p.CreateThing.BillingGroup), thing)
	}
	switch c := p.CreateCertificate; {
	case c == nil:
	case c.CAID == "": // of a CSR, and signed by this service
		need("CreateCertificateFromCsr", "*")
	default:
		need("RegisterCertificate", "*")
	}
	for _, n := range p.CreatePolicies {
		need("CreatePolicy", s.IoT("policy", n.Name))
	}
	if len(p.AttachPolicies) > 0 {
		need("AttachPolicy", cert)
	}
	if p.AttachThing != "" {
		need("AttachThingPrincipal", cert)
	}
	for _, id := range p.Supersede {
		need("DetachThingPrincipal", s.IoT("cert", id))
		need("UpdateCertificate", s.IoT("cert", id))
	}
	if p.Status != "" {
		need("UpdateCertificate", cert)
	}
	return out
}
