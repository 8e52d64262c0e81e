package registry

import (
	"cmp"
	"fmt"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// Snapshot reads what exists of the resources that a template desires.
func Snapshot(tx *store.Tx, s fleet.Scope, d *template.Desired) (template.Snapshot, error) {
	var snap template.Snapshot
	var err error
	if d.Thing != nil {
		if err := snapshotThing(tx, s, d.Thing, &snap); err != nil {
			return snap, err
		}
	}
	if d.Certificate != nil {
		if snap.Certificate, err = snapshotCertificate(tx, s, d.Certificate); err != nil {
			return snap, err
		}
	}
	snap.Policies = map[string]bool{}
	for _, p := range d.Policies {
		_, err := tx.Policy(s, p.Name)
		if err != nil && !missing(err) {
			return snap, err
		}
		if err == nil {
			snap.Policies[p.Name] = true
		}
	}
	return snap, nil
}

func snapshotThing(tx *store.Tx, s fleet.Scope, d *template.Thing, snap *template.Snapshot) error {
	if d.Type != "" {
		switch tt, err := tx.ThingType(s, d.Type); {
		case err == nil:
			snap.ThingType = &tt
		case !missing(err):
			return err
		}
	}
	snap.ThingGroups = map[string]fleet.ThingGroup{}
	for _, name := range d.Groups {
		switch g, err := tx.Group(s, name); {
		case err == nil:
			snap.ThingGroups[name] = g
		case !missing(err):
			return err
		}
	}
	if d.BillingGroup != "" {
		_, err := tx.BillingGroup(s, d.BillingGroup)
		if err != nil && !missing(err) {
			return err
		}
		snap.BillingGroup = err == nil
	}
	t, err := tx.Thing(s, d.Name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	state := template.ThingState{Thing: t}
	if state.Groups, _, err = tx.GroupsOf(s, t.Name, fleet.Page{}); err != nil {
		return err
	}
	state.Principals, _, err = tx.PrincipalsOf(s, t.Name, "", fleet.Page{})
	snap.Thing = &state
	return err
}

func snapshotCertificate(tx *store.Tx, s fleet.Scope, d *template.Certificate) (*template.CertificateState, error) {
	id := d.ID
	if d.CSR != "" { // it was just issued, and is nowhere yet
		return nil, nil
	}
	if id == "" && d.Issued != nil {
		id = d.Issued.ID
	}
	c, err := tx.Certificate(s, id)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	state := template.CertificateState{Certificate: c}
	if a, all, err := tx.TiesOf(s, s.IoT("cert", id)); err != nil || all {
		state.Policies, state.Things = a.Policies, a.Things
		return &state, err
	}
	if state.Policies, _, err = tx.PoliciesOf(s, s.IoT("cert", id), fleet.Page{}); err != nil {
		return nil, err
	}
	state.Things, _, err = tx.ThingsOf(s, s.IoT("cert", id), "", fleet.Page{})
	return &state, err
}

// Apply writes a plan in its order, the certificate's status last, so that nothing half provisioned can connect. The plan comes
// from a Snapshot of the same transaction; the rules of the operations that it is made of hold all the same. A thing that it creates
// gets its id in the plan.
func Apply(tx *store.Tx, s fleet.Scope, p *template.Plan) error {
	if err := applyThing(tx, s, p); err != nil {
		return err
	}
	if p.CreateCertificate != nil {
		c := completed(tx, *p.CreateCertificate)
		c.Status = cmp.Or(p.Status, c.Status) // nobody sees it before all else is there, too
		if err := tx.CreateCertificate(s, c); err != nil {
			return err
		}
	}
	for _, n := range p.CreatePolicies {
		if _, err := CreatePolicy(tx, s, n.Name, n.Document, nil); err != nil {
			return err
		}
	}
	if p.Certificate == "" {
		return nil
	}
	arn := s.IoT("cert", p.Certificate)
	for _, name := range p.AttachPolicies {
		if err := AttachPolicy(tx, s, name, arn); err != nil {
			return err
		}
	}
	if p.AttachThing != "" {
		if err := AttachPrincipal(tx, s, p.Thing, arn, p.AttachThing); err != nil {
			return err
		}
	}
	for _, old := range p.Supersede {
		if err := Supersede(tx, s, p.Thing, old, p.Certificate, p.Overlap); err != nil {
			return err
		}
	}
	if p.Status == "" {
		return nil
	}
	c, err := tx.Certificate(s, p.Certificate)
	if err != nil {
		return err
	}
	return changeStatus(tx, s, c, p.Status)
}

func applyThing(tx *store.Tx, s fleet.Scope, p *template.Plan) error {
	if n := p.CreateThing; n != nil {
		made, err := CreateThing(tx, s, ThingSpec{Name: n.Name, Type: n.Type, Attributes: n.Attributes, BillingGroup: n.BillingGroup})
		if err != nil {
			return err
		}
		n.ID = made.ID
	}
	if u := p.UpdateThing; u != nil {
		change := ThingChange{Attributes: u.Attributes, Expected: &u.Version}
		if u.Type != nil && *u.Type == "" {
			change.RemoveType = true
		} else {
			change.Type = u.Type
		}
		if _, err := UpdateThing(tx, s, p.Thing, change); err != nil {
			return err
		}
	}
	if len(p.AddGroups)+len(p.LeaveGroups) > 0 {
		if err := ChangeGroups(tx, s, p.Thing, p.AddGroups, p.LeaveGroups); err != nil {
			return fmt.Errorf("groups of %s: %w", p.Thing, err)
		}
	}
	if p.JoinBilling != "" {
		return AddToBillingGroup(tx, s, p.Thing, p.JoinBilling)
	}
	return nil
}

// completed fills in what a new certificate's record lacks.
func completed(tx *store.Tx, c fleet.Certificate) fleet.Certificate {
	if c.Created.IsZero() {
		c.Created, c.Modified = tx.Now(), tx.Now()
	}
	if c.Version == 0 {
		c.Version = 1
	}
	if c.Generation == "" {
		c.Generation = fleet.NewUUID()
	}
	if c.Mode == "" {
		c.Mode = fleet.ModeDefault
	}
	return c
}
