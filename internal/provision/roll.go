package provision

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
)

// MaxOverlap bounds how long two bootstrap certificates are good for the same.
const MaxOverlap = 365 * 24 * time.Hour

// A Rolled is the successor of a bootstrap certificate. The private key is in no other place.
type Rolled struct {
	fleet.Certificate
	PrivateKeyPEM fleet.Secret // "" if the key is the caller's own
	Ends          time.Time    // when the old certificate is deactivated
}

// Roll makes a bootstrap certificate in place of another: with the same policies and limits, and one count of devices for both. The
// old one works until overlap is over; then Sweep deactivates it. request is a PEM certificate signing request, "" for a key of
// ours. Errors are of KindInvalid, KindNotFound and KindState.
func (p *Service) Roll(ctx context.Context, caller *fleet.Caller, certificate string, overlap time.Duration, request string) (*Rolled, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return nil, fleet.Invalid("certificate", certificate, "the overlap must be between 0 and %v", MaxOverlap)
	}
	var public crypto.PublicKey
	var subject []byte
	out := &Rolled{}
	if request != "" {
		csr, err := pki.ParseCSR(request)
		if err != nil {
			return nil, err
		}
		public, subject = csr.PublicKey, csr.Subject
	} else {
		key, err := p.Keys.Key(ctx, pki.RSA2048)
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		if out.PrivateKeyPEM, err = pki.PrivateKeyPEM(key); err != nil {
			return nil, fmt.Errorf("encoding a key: %w", err)
		}
		public = key.Public()
	}
	leaf, err := p.Authority.IssueDevice(pki.DeviceRequest{PublicKey: public, Subject: subject})
	if err != nil {
		return nil, err
	}
	generation := fleet.NewUUID()
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		now := tx.Now()
		out.Certificate = fleet.Certificate{ID: leaf.ID, PEM: leaf.PEM, Status: fleet.Active, Mode: fleet.ModeDefault, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
			Created: now, Modified: now, Version: 1, Generation: generation, Origin: fleet.CertificateOrigin{Requester: caller.ARN}}
		out.Ends = now.Add(overlap).Truncate(time.Second)
		return roll(tx, caller.Scope, certificate, out)
	})
	return out, err
}

func roll(tx *store.Tx, s fleet.Scope, certificate string, out *Rolled) error {
	old, err := tx.Certificate(s, certificate)
	if err != nil {
		return err
	}
	if old.Status != fleet.Active {
		return fleet.BadState("certificate", old.ID, "is %s: only an active one can be rolled", old.Status)
	}
	b, err := bootstrapOf(tx, s, old)
	if err != nil {
		return err
	}
	if b.Successor != "" {
		_, err := tx.Certificate(s, b.Successor)
		if err == nil {
			return fleet.BadState("certificate", old.ID, "was rolled into %s, and ends at %s: roll that one, or deactivate and delete it if its key was lost",
				b.Successor, b.Ends.Format(time.RFC3339))
		}
		if fleet.KindOf(err) != fleet.KindNotFound {
			return err
		}
	}
	if err := tx.CreateCertificate(s, out.Certificate); err != nil {
		return err
	}
	policies, _, err := tx.PoliciesOf(s, s.IoT("cert", old.ID), fleet.Page{})
	if err != nil {
		return err
	}
	for _, name := range policies {
		if err := registry.AttachPolicy(tx, s, name, s.IoT("cert", out.ID)); err != nil {
			return err
		}
	}
	if err := tx.PutBootstrap(s, fleet.Bootstrap{Certificate: out.ID, Budget: b.Budget, Limits: b.Limits}); err != nil {
		return err
	}
	b.Successor, b.Ends = out.ID, out.Ends
	return tx.PutBootstrap(s, b)
}

// rolledFrom lists the certificates that were rolled from a certificate, from those, and so on, oldest first: later ones of the same
// count, for one has one successor. A link that was deleted does not hide the rest.
func rolledFrom(tx *store.Tx, s fleet.Scope, certificate string) (ids []string, err error) {
	var made time.Time // zero: the first of all, which was deleted
	budget := certificate
	if c, err := tx.Certificate(s, certificate); err == nil {
		made = c.Created
		b, err := bootstrapOf(tx, s, c)
		if err != nil {
			return nil, err
		}
		budget = b.Budget
	} else if fleet.KindOf(err) != fleet.KindNotFound {
		return nil, err
	}
	line, err := tx.BootstrapsOfBudget(s, budget)
	if err != nil {
		return nil, err
	}
	var later []fleet.Certificate
	for _, b := range line {
		c, err := tx.Certificate(s, b.Certificate)
		switch {
		case err == nil && c.Created.After(made):
			later = append(later, c)
		case err != nil && fleet.KindOf(err) != fleet.KindNotFound:
			return nil, err
		}
	}
	slices.SortFunc(later, func(a, b fleet.Certificate) int { return a.Created.Compare(b.Created) })
	for _, c := range later {
		ids = append(ids, c.ID)
	}
	return ids, nil
}

// endRolled deactivates bootstrap certificates whose overlap is over, at most sweepChunk, and returns how many.
func endRolled(tx *store.Tx, now time.Time) (int, error) {
	list, err := tx.EndedBootstraps(now, sweepChunk)
	for _, b := range list {
		c, err := tx.Certificate(b.Scope, b.Certificate)
		switch {
		case err == nil && c.Status == fleet.Active:
			err = registry.SetCertificateStatus(tx, b.Scope, c.ID, fleet.Inactive)
		case err != nil && fleet.KindOf(err) == fleet.KindNotFound:
			err = tx.ForgetBootstrap(b.Scope, b.Certificate)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return 0, err
		}
		b.Ends = time.Time{}
		if err := tx.PutBootstrap(b.Scope, b.Bootstrap); err != nil {
			return 0, err
		}
	}
	return len(list), err
}
