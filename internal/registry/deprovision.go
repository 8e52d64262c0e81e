package registry

import (
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// maxDeprovision bounds the principals that one Deprovision unties, so that a registration never waits long behind it.
const maxDeprovision = 100

// A Deprovisioned is what Deprovision did.
type Deprovisioned struct {
	Removed      bool     // false: there was no such thing
	Certificates []string // ids of those that were deleted
	Revoked      []string // ids of those that were revoked and stay on file: a registered CA would vouch for them anew
	Kept         []string // ids of those that serve other things, or that were to be kept
	Policies     []string // that its registrations had made and nothing uses any more
}

// Deprovision retires a device: its thing goes, with group memberships and attachments, and its certificates, unless they serve other
// things or keep says to keep them. A thing that does not exist is no error.
func Deprovision(tx *store.Tx, s fleet.Scope, thing string, keep bool) (out Deprovisioned, err error) {
	t, err := tx.Thing(s, thing)
	if missing(err) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	principals, next, err := tx.PrincipalsOf(s, thing, "", fleet.Page{Limit: maxDeprovision})
	if err != nil {
		return out, err
	}
	if next != "" {
		return out, fleet.OverLimit("thing", thing, "has more than %d principals: detach some first", maxDeprovision)
	}
	for _, a := range principals {
		if err := retire(tx, s, a, keep, &out); err != nil {
			return out, err
		}
	}
	out.Removed = true
	return out, removeThing(tx, s, t)
}

// retire unties one principal from its thing and, if it is a certificate of no other, takes it out of service.
func retire(tx *store.Tx, s fleet.Scope, a fleet.Attachment, keep bool, out *Deprovisioned) error {
	if _, err := tx.DetachThing(s, a.Thing, a.Principal); err != nil {
		return err
	}
	arn, ok := fleet.ParseARN(a.Principal)
	if !ok || arn.Kind() != "cert" {
		return nil // an identity of a pool is not ours
	}
	id := arn.Name()
	others, _, err := tx.ThingsOf(s, a.Principal, "", fleet.Page{Limit: 1})
	if err != nil {
		return err
	}
	if keep || len(others) > 0 {
		out.Kept = append(out.Kept, id)
		return nil
	}
	c, err := tx.Certificate(s, id)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.CAID != "" {
		out.Revoked = append(out.Revoked, id)
		_, err = tx.DetachPolicies(s, a.Principal)
		if err == nil {
			_, err = Revoke(tx, s, c)
		}
	} else {
		out.Certificates = append(out.Certificates, id)
		if err = tx.ForgetBootstrap(s, id); err == nil {
			err = tx.DeleteCertificate(s, id)
		}
	}
	if err != nil {
		return err
	}
	reg, found, err := tx.Registration(s, id)
	if err != nil || !found {
		return err
	}
	gone, err := removeUnused(tx, s, reg.Trail.Policies)
	out.Policies = append(out.Policies, gone...)
	return err
}

// Revoke takes all power from a certificate, whatever its status, and reports whether it had not been done before. An offer to
// another account ends: accepted, the certificate would be good there, and rejected, it would be INACTIVE here again.
func Revoke(tx *store.Tx, s fleet.Scope, c fleet.Certificate) (changed bool, err error) {
	switch c.Status {
	case fleet.Revoked:
		return false, nil
	case fleet.PendingTransfer:
		t, found, err := tx.Transfer(s, c.ID)
		if err == nil && found && t.Outgoing {
			err = withdraw(tx, s, t)
		}
		if err != nil {
			return false, err
		}
		if c, err = tx.Certificate(s, c.ID); err != nil {
			return false, err
		}
	}
	return true, setStatus(tx, s, c, fleet.Revoked)
}
