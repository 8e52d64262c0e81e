package provision

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// losses is what things would lose.
type losses struct {
	things map[string]*sharedThing // by name
	made   map[string]bool         // ids of things that a contained registration has made, whichever certificate they have by now
}

// sharedThing counts the principals that a thing would have left.
type sharedThing struct {
	id   string
	left int
}

// RehearseContainment says what Contain would do, and does nothing. It counts for some seconds: a result that is not complete is a
// lower bound.
func (p *Service) RehearseContainment(ctx context.Context, s fleet.Scope, claim string, since time.Time) (ContainmentResult, error) {
	out := ContainmentResult{Containment: store.Containment{Claim: claim, Root: claim, Since: since}}
	end := time.Now().Add(p.containTime) // a duration; the clock may be moved
	lost := losses{map[string]*sharedThing{}, map[string]bool{}}
	var todo []*containment
	if err := p.Store.View(ctx, func(tx *store.Tx) error {
		list, err := sources(tx, s, claim)
		todo = nil
		for _, id := range list {
			todo = append(todo, &containment{scope: s, Containment: &store.Containment{Claim: id, Since: since}})
		}
		return err
	}); err != nil {
		return out, err
	}
	for len(todo) > 0 && time.Now().Before(end) {
		c := todo[len(todo)-1]
		err := p.Store.View(ctx, func(tx *store.Tx) error {
			c.tx = tx
			list, next, err := descendantsOf(tx, s, c.Claim, c.from(), fleet.Page{After: c.After, Limit: revokeChunk})
			if err != nil {
				return err
			}
			if c.After = next; next == "" {
				todo = todo[:len(todo)-1]
			}
			for _, cert := range list {
				more, err := c.rehearse(cert, &out.Containment, lost)
				if err != nil {
					return err
				}
				if more {
					todo = append(todo, &containment{scope: s, Containment: &store.Containment{Claim: cert.ID}})
				}
			}
			return nil
		})
		if err != nil {
			return out, err
		}
		out.Complete = len(todo) == 0
	}
	for _, t := range lost.things {
		if t.left == 0 && lost.made[t.id] {
			out.Things++
		} else {
			out.Released++
		}
	}
	return out, nil
}

// exists checks that a claim has left something.
func exists(tx *store.Tx, s fleet.Scope, claim string) error {
	if _, err := tx.Claim(s, claim); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	if _, err := tx.Certificate(s, claim); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	if left, err := tx.HasDescendants(s, claim); err != nil || left {
		return err
	}
	isCA, err := vouches(tx, s, claim)
	if err == nil && !isCA {
		err = fleet.NotFound("claim", claim)
	}
	return err
}

// rehearse counts what would become of a certificate, and reports whether it has descendants.
func (c *containment) rehearse(cert fleet.Certificate, out *store.Containment, lost losses) (more bool, err error) {
	reg, meant, err := c.meant(cert)
	if err != nil || !meant {
		return false, err
	}
	if reg != nil {
		lost.made[reg.Trail.ThingID] = true
	}
	if cert.Status != fleet.Revoked {
		out.Certificates++
	}
	things, _, err := c.tx.ThingsOf(c.scope, c.scope.IoT("cert", cert.ID), "", fleet.Page{})
	if err != nil {
		return false, err
	}
	for _, a := range things {
		if err := c.loses(a.Thing, lost); err != nil {
			return false, err
		}
	}
	return c.tx.HasDescendants(c.scope, cert.ID)
}

// loses counts that a thing would lose a principal.
func (c *containment) loses(name string, lost losses) error {
	if lost.things[name] == nil {
		t, err := c.tx.Thing(c.scope, name)
		if err != nil {
			return err
		}
		principals, _, err := c.tx.PrincipalsOf(c.scope, name, "", fleet.Page{})
		if err != nil {
			return err
		}
		lost.things[name] = &sharedThing{t.ID, len(principals)}
	}
	lost.things[name].left--
	return nil
}
