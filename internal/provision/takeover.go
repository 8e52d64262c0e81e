package provision

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// A thing that belongs to another device: what the rule of the template asks for is read here; template.Resolve decides.

// evidence adds to the snapshot what the rule needs to know.
func (g *registration) evidence(tx *store.Tx, snap *template.Snapshot, rule template.Reprovision, key string) (err error) {
	switch rule {
	case template.ReprovisionSameKey:
		snap.SameKey, err = g.sameKey(tx, snap.Thing.Principals, snap.Thing.Name, key)
	case template.ReprovisionApprove:
		snap.Approval, err = g.approval(tx, snap.Thing.Name, key)
	}
	return err
}

// takenSince reports whether somebody has registered the thing since the hook was asked: it has not decided about that. Of many
// devices that race for a name one wins; another one may ask again, and with it the hook.
func (g *registration) takenSince(tx *store.Tx, thing string) (bool, error) {
	list, err := tx.RegistrationsOf(g.Scope, thing)
	for _, r := range list {
		if !r.Created.Before(g.asked.Truncate(time.Millisecond)) {
			return true, err
		}
	}
	return false, err
}

// sameKey reports whether the key is that of a certificate that the thing has or had. One of a certificate that was revoked is not:
// it is in the wrong hands.
func (g *registration) sameKey(tx *store.Tx, principals []fleet.Attachment, thing, key string) (bool, error) {
	known, err := tx.KeysOf(g.Scope, thing)
	if err != nil {
		return false, err
	}
	for _, p := range principals {
		a, ok := fleet.ParseARN(p.Principal)
		if !ok || a.Kind() != "cert" {
			continue
		}
		c, err := tx.Certificate(g.Scope, a.Name())
		if err != nil {
			return false, err
		}
		id, err := pki.KeyID(c.PEM)
		if err != nil {
			return false, err
		}
		known = append(known, store.KeyOfThing{Key: id, Status: c.Status})
	}
	same := false
	for _, k := range known {
		if k.Key != key {
			continue
		}
		if k.Status == fleet.Revoked {
			g.Trace.Step("key", "is that of a certificate of %s that was revoked", thing)
			return false, nil
		}
		same = true
	}
	return same, nil
}
