package provision

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// sharedThing counts the principals that a thing would have left.
type sharedThing struct {
	left int
	made bool
}

// RehearseContainment says what Contain would do, and does nothing. It counts for some seconds: a result that is not complete is a
// lower bound.
func (p *Service) RehearseContainment(ctx context.Context, s fleet.Scope, claim string, since time.Time) (ContainmentResult, error) {
	out := ContainmentResult{Containment: store.Containment{Claim: claim, Root: claim, Since: since}}
	end := time.Now().Add(containTime) // a duration; the clock may be moved
	shared := map[string]*sharedThing{}
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
				more, err := c.rehearse(cert, &out.Containment, shared)
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
	for _, t := range shared {
		if t.left == 0 && t.made {
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
func (c *containment) rehearse(cert fleet.Certificate, out *store.Containment, shared map[string]*sharedThing) (more bool, err error) {
	reg, meant, err := c.meant(cert)
	if err != nil || !meant {
		return false, err
	}
	if cert.Status != fleet.Revoked {
		out.Certificates++
	}
	things, _, err := c.tx.ThingsOf(c.scope, c.scope.IoT("cert", cert.ID), "", fleet.Page{})
	if err != nil {
		return false, err
	}
	for _, a := range things {
		if err := c.loses(a.Thing, reg, shared); err != nil {
			return false, err
		}
	}
	return c.tx.HasDescendants(c.scope, cert.ID)
}

// loses counts that a thing would lose a principal.
func (c *containment) loses(name string, reg *store.Registration, shared map[string]*sharedThing) error {
	t, err := c.tx.Thing(c.scope, name)
	if err != nil {
		return err
	}
	if shared[name] == nil {
		principals, _, err := c.tx.PrincipalsOf(c.scope, name, "", fleet.Page{})
		if err != nil {
			return err
		}
		shared[name] = &sharedThing{left: len(principals)}
	}
	shared[name].left--
	shared[name].made = shared[name].made || reg != nil && reg.Trail.ThingID == t.ID
	return nil
}
