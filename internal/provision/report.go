package provision

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// A ClaimReport is everything that descended from a claim, a page at a time.
type ClaimReport struct {
	ID          string
	Kind        ClaimKind
	Status      string             // of a temporary claim fleet.ClaimActive, …; of a certificate its own; "" of one that is forgotten
	Claim       *fleet.Claim       // of a temporary claim that is not forgotten
	Certificate *fleet.Certificate // of one that serves as a claim
	CA          *fleet.CA          // of one that is registered
	Rolled      []string           // ids of the certificates that were rolled from it: ask for their own reports
	Contained   *ContainmentResult // nil if it was not
	Refused     []trace.Record     // of the last requests that were refused, newest first; on the first page
	Descendants []Descendant
	Next        string
}

// A ClaimKind says what serves as a claim.
type ClaimKind string

const (
	TemporaryClaim   ClaimKind = "TEMPORARY"
	CertificateClaim ClaimKind = "CERTIFICATE" // that devices share
	CAClaim          ClaimKind = "CA"          // that a customer has registered, and that vouches for devices
	ForgottenClaim   ClaimKind = "FORGOTTEN"   // but for what descended from it
)

// A Descendant is a certificate that a claim was used to ask for.
type Descendant struct {
	fleet.Certificate
	Registration *store.Registration // nil: it waits for its registration
	Use          store.CertificateUse
	Things       []DescendantThing
	Policies     []string
	IsClaim      bool // it has descendants itself: ask for its own report
}

// A DescendantThing is a thing that a descendant is attached to.
type DescendantThing struct {
	Name   string
	Made   bool // by this certificate's registration
	Groups []string
}

// Of the newest traces of a claim so many are gone through, for so many requests that were refused.
const (
	tracesSeen   = 500
	refusalsTold = 50
)

// ReportClaim tells what descended from a claim, from a certificate that served as one, or from a CA. It fails with KindNotFound
// for a claim that left no trace. Pages are of certificates; one may be short, or empty, and have a next one.
func (p *Service) ReportClaim(ctx context.Context, s fleet.Scope, id string, since time.Time, page fleet.Page) (ClaimReport, error) {
	var out ClaimReport
	err := p.Store.View(ctx, func(tx *store.Tx) (err error) {
		out = ClaimReport{ID: id}
		if err := reportHead(tx, s, &out, page.After == ""); err != nil {
			return err
		}
		source := id
		if isCA, err := vouches(tx, s, id); err != nil {
			return err
		} else if isCA {
			source = caSource + id
		}
		var list []fleet.Certificate
		if list, out.Next, err = descendantsOf(tx, s, source, since, page); err != nil {
			return err
		}
		for _, c := range list {
			d, err := descendant(tx, s, c)
			if err != nil {
				return err
			}
			out.Descendants = append(out.Descendants, d)
		}
		return nil
	})
	return out, err
}

func reportHead(tx *store.Tx, s fleet.Scope, out *ClaimReport, first bool) error {
	if err := exists(tx, s, out.ID); err != nil {
		return err
	}
	out.Kind = ForgottenClaim
	if c, err := tx.Claim(s, out.ID); err == nil {
		out.Kind, out.Claim, out.Status = TemporaryClaim, &c, c.Status(tx.Now())
	} else if fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	if c, err := tx.Certificate(s, out.ID); err == nil {
		out.Kind, out.Certificate, out.Status = CertificateClaim, &c, string(c.Status)
	} else if fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	if c, err := tx.CA(s, out.ID); err == nil {
		out.Kind, out.CA, out.Certificate, out.Status = CAClaim, &c, nil, string(c.Status)
	} else if fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	var err error
	if out.Rolled, err = rolledFrom(tx, s, out.ID); err != nil {
		return err
	}
	c, open, found, err := tx.ContainmentOf(s, out.ID)
	if err != nil {
		return err
	}
	if found {
		out.Contained = &ContainmentResult{c, !open}
	}
	if !first {
		return nil
	}
	records, err := tx.Traces(s, out.ID, tracesSeen)
	for _, r := range records {
		if r.Outcome != trace.OK && (r.Kind == trace.Create || r.Kind == trace.Register) && len(out.Refused) < refusalsTold {
			out.Refused = append(out.Refused, r)
		}
	}
	return err
}

func descendant(tx *store.Tx, s fleet.Scope, c fleet.Certificate) (Descendant, error) {
	d := Descendant{Certificate: c}
	reg, found, err := tx.Registration(s, c.ID)
	if err != nil {
		return d, err
	}
	if found {
		d.Registration = &reg
	}
	if d.Use, _, err = tx.CertificateUse(s, c.ID); err != nil {
		return d, err
	}
	arn := s.IoT("cert", c.ID)
	if d.Policies, _, err = tx.PoliciesOf(s, arn, fleet.Page{}); err != nil {
		return d, err
	}
	things, _, err := tx.ThingsOf(s, arn, "", fleet.Page{})
	if err != nil {
		return d, err
	}
	for _, a := range things {
		t, err := tx.Thing(s, a.Thing)
		if err != nil {
			return d, err
		}
		groups, _, err := tx.GroupsOf(s, a.Thing, fleet.Page{})
		if err != nil {
			return d, err
		}
		thing := DescendantThing{Name: a.Thing, Made: found && reg.Trail.ThingID == t.ID}
		for _, g := range groups {
			thing.Groups = append(thing.Groups, g.Name)
		}
		d.Things = append(d.Things, thing)
	}
	d.IsClaim, err = tx.HasDescendants(s, c.ID)
	return d, err
}
