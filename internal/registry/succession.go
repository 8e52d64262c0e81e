package registry

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Supersede has the certificate old of a thing go when successor has connected, overlap later. Another successor of old that has not
// connected goes at once: whoever asked for successor did not get it, or lost it.
func Supersede(tx *store.Tx, s fleet.Scope, thing, old, successor string, overlap time.Duration) error {
	earlier, err := tx.Successions(s, old)
	if err != nil {
		return err
	}
	for _, e := range earlier {
		if e.Successor == successor || !e.Due.IsZero() || e.Thing != thing {
			continue
		}
		if err := Retire(tx, s, thing, e.Successor); err != nil {
			return err
		}
		if err := tx.DeleteSuccession(s, old, e.Successor); err != nil {
			return err
		}
	}
	return tx.AddSuccession(s, store.Succession{Certificate: old, Successor: successor, Thing: thing, Overlap: overlap})
}

// Retire takes a certificate from a thing and, unless it serves another thing too, out of service: it becomes INACTIVE and loses its
// policies. What is gone already is no error.
func Retire(tx *store.Tx, s fleet.Scope, thing, id string) error {
	c, err := tx.Certificate(s, id)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	arn := s.IoT("cert", id)
	if _, err := tx.DetachThing(s, thing, arn); err != nil {
		return err
	}
	others, _, err := tx.ThingsOf(s, arn, "", fleet.Page{Limit: 1})
	if err != nil || len(others) > 0 {
		return err
	}
	policies, _, err := tx.PoliciesOf(s, arn, fleet.Page{})
	if err != nil {
		return err
	}
	for _, name := range policies {
		if _, err := tx.DetachPolicy(s, name, arn); err != nil {
			return err
		}
	}
	if c.Status != fleet.Active {
		return nil
	}
	return changeStatus(tx, s, c, fleet.Inactive)
}

// RetireDue retires certificates whose successor has connected long enough ago, at most limit of them, and returns those that it looked
// at: call again while they are as many as limit. One whose successor is out of service itself, or has the
// thing no more, stays, and its succession is over.
func RetireDue(tx *store.Tx, now time.Time, limit int) (retired []store.ScopedSuccession, looked int, err error) {
	due, err := tx.DueSuccessions(now, limit)
	if err != nil {
		return nil, 0, err
	}
	for _, n := range due {
		c, err := tx.Certificate(n.Scope, n.Successor)
		if err != nil && !missing(err) {
			return nil, 0, err
		}
		tied := false
		if err == nil {
			if _, tied, err = tx.Tie(n.Scope, n.Thing, n.Scope.IoT("cert", n.Successor)); err != nil {
				return nil, 0, err
			}
		}
		if tied && c.Status == fleet.Active && now.Before(c.NotAfter) {
			if err := Retire(tx, n.Scope, n.Thing, n.Certificate); err != nil {
				return nil, 0, err
			}
			retired = append(retired, n)
		}
		if err := tx.DeleteSuccession(n.Scope, n.Certificate, n.Successor); err != nil {
			return nil, 0, err
		}
	}
	return retired, len(due), nil
}
