package provision

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Containment undoes what a stolen claim has done. Its first transaction takes the claim's power: whatever has not committed by then
// is refused, since a registration reads its claim again in the transaction that writes. After that nothing new can descend from
// the claim, and small transactions go through what has: first every certificate loses its power, then things and names become
// free. Where they have come to is in the store, so a power cut costs nothing but time.
//
// Descendants are followed: a certificate whose policy allows provisioning may have served a thief as a claim of its own. So are
// certificates that were rolled from the claim: they do the same with the same limits, and whoever had the one may have got the other.
//
// A CA that a customer has registered is a claim to those whom its signature lets in, and its key the worst that can be stolen.

// Rows that one transaction of a containment looks at, so that a registration never waits long behind it.
const (
	revokeChunk = 50
	freeChunk   = 20
)

// containTime is how long Contain works before it tells how far it has come.
const containTime = 10 * time.Second

// A ContainmentResult is how far a containment has come, or would.
type ContainmentResult struct {
	store.Containment
	Complete bool
}

// Contain takes the power from a claim, from a certificate that serves as one, or from a registered CA, and from all certificates
// that it was used to ask for, or that the CA has vouched for, since a time, with all that descends from those, and frees the
// names that were taken with them. It works for some seconds: until the result is complete call it again, or leave the rest to
// Resume. Doing it twice does no harm. It fails with KindNotFound for a claim that left no trace.
func (p *Service) Contain(ctx context.Context, caller *fleet.Caller, claim string, since time.Time) (ContainmentResult, error) {
	s := caller.Scope
	t := trace.New(s, trace.Contain, p.Clock)
	t.Fact("claimId", claim)
	t.Fact("caller", caller.ARN)
	mark := t.Mark()
	if err := p.Store.Tx(ctx, func(tx *store.Tx) error {
		t.Rewind(mark)
		started, err := beginContainment(tx, s, caller.ARN, claim, since)
		if err != nil || !started {
			return err
		}
		t.Step("contain", "the claim has no power any more; what was made with it since %s loses its own", since.Format(time.RFC3339))
		return keepTrace(tx, t)
	}); err != nil {
		return ContainmentResult{}, err
	}
	for end := time.Now().Add(p.containTime); ; { // a duration; the clock may be moved
		var out ContainmentResult
		err := p.Store.View(ctx, func(tx *store.Tx) error {
			c, open, _, err := tx.ContainmentOf(s, claim)
			out = ContainmentResult{c, !open}
			return err
		})
		if err != nil || out.Complete || time.Now().After(end) {
			return out, err
		}
		if _, err := p.containStep(ctx); err != nil {
			return out, err
		}
	}
}

// beginContainment takes the power of the claim and of those that were rolled from it. It goes on with a containment that is under
// way, unless more is to be contained now.
func beginContainment(tx *store.Tx, s fleet.Scope, actor, claim string, since time.Time) (started bool, err error) {
	list, err := sources(tx, s, claim)
	if err != nil {
		return false, err
	}
	for _, id := range list {
		if err := disable(tx, s, id); err != nil {
			return false, err
		}
		begun, err := beginOne(tx, s, store.Containment{Claim: id, Root: claim, Since: since, Actor: actor, Started: tx.Now()})
		if err != nil {
			return false, err
		}
		started = started || begun
	}
	return started, nil
}

func beginOne(tx *store.Tx, s fleet.Scope, c store.Containment) (begun bool, err error) {
	old, found, err := tx.Containment(s, c.Claim)
	if err != nil || found && old.Phase != store.Contained && !c.Since.Before(old.Since) {
		return false, err
	}
	if found { // the counts go on: who asks twice hears the same
		c.Certificates, c.Things, c.Released = old.Certificates, old.Things, old.Released
	}
	return true, tx.PutContainment(s, c)
}

// caSource begins the name of the containment of a CA: a claim could have the same id, if somebody has registered the CA's
// certificate as that of a device.
const caSource = "cacert/"

// sources are what has to be contained with a claim: itself, those that were rolled from it, and the CA of this id.
func sources(tx *store.Tx, s fleet.Scope, claim string) ([]string, error) {
	if err := exists(tx, s, claim); err != nil {
		return nil, err
	}
	rolled, err := rolledFrom(tx, s, claim)
	if err != nil {
		return nil, err
	}
	list := append([]string{claim}, rolled...)
	if isCA, err := vouches(tx, s, claim); err != nil || !isCA {
		return list, err
	}
	return append(list, caSource+claim), nil
}

// vouches reports whether an id is that of a CA that is registered, or was.
func vouches(tx *store.Tx, s fleet.Scope, id string) (bool, error) {
	if _, err := tx.CA(s, id); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		return err == nil, err
	}
	list, _, err := tx.Certificates(s, store.CertificateFilter{CA: id}, fleet.Page{Limit: 1})
	return len(list) > 0, err
}

// descendantsOf lists the certificates that came of a source since a time, oldest first; a page may be short, or empty, and have
// a next one.
func descendantsOf(tx *store.Tx, s fleet.Scope, source string, since time.Time, p fleet.Page) ([]fleet.Certificate, string, error) {
	if ca, is := strings.CutPrefix(source, caSource); is {
		return tx.Certificates(s, store.CertificateFilter{CA: ca, Since: since}, p)
	}
	return tx.CertificatesOfClaim(s, source, since, p)
}

// disable takes the power from a claim, whichever kind it is. One that is forgotten but for its certificates has none.
func disable(tx *store.Tx, s fleet.Scope, claim string) error {
	if ca, is := strings.CutPrefix(claim, caSource); is {
		return disableCA(tx, s, ca)
	}
	err := tx.RevokeClaim(s, claim)
	if err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	switch c, err := tx.Certificate(s, claim); {
	case err == nil && c.Status == fleet.Active:
		return registry.SetCertificateStatus(tx, s, claim, fleet.Inactive)
	case err == nil || fleet.KindOf(err) == fleet.KindNotFound:
		return nil
	default:
		return err
	}
}

func disableCA(tx *store.Tx, s fleet.Scope, id string) error {
	ca, err := tx.CA(s, id)
	switch {
	case fleet.KindOf(err) == fleet.KindNotFound:
		return nil
	case err != nil || ca.Status != fleet.Active:
		return err
	}
	ca.Status, ca.Modified, ca.Version = fleet.Inactive, tx.Now(), ca.Version+1
	return tx.UpdateCA(s, ca)
}

// Resume goes on with containments that were interrupted, until nothing is left to do.
func (p *Service) Resume(ctx context.Context) error {
	for {
		if more, err := p.containStep(ctx); err != nil || !more {
			return err
		}
	}
}

// containStep does one transaction's worth of some containment and reports whether there was anything to do.
func (p *Service) containStep(ctx context.Context) (more bool, err error) {
	var revoked int
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		c, found, err := tx.OpenContainment()
		more, revoked = found, 0
		if err != nil || !found {
			return err
		}
		before := c.Certificates
		s := &containment{tx, c.Scope, &c.Containment}
		if err := s.step(); err != nil {
			return err
		}
		revoked = c.Certificates - before
		return tx.PutContainment(c.Scope, c.Containment)
	})
	if err == nil && revoked > 0 && p.OnContained != nil {
		p.OnContained(revoked)
	}
	return more, err
}

// containment is one transaction of it.
type containment struct {
	tx    *store.Tx
	scope fleet.Scope
	*store.Containment
}

func (c *containment) step() error {
	do, chunk := c.revoke, revokeChunk
	if c.Phase == store.Freeing {
		do, chunk = c.free, freeChunk
	}
	list, next, err := descendantsOf(c.tx, c.scope, c.Claim, c.from(), fleet.Page{After: c.After, Limit: chunk})
	if err != nil {
		return err
	}
	for _, cert := range list {
		if err := do(cert); err != nil {
			return err
		}
	}
	if c.After = next; next == "" {
		if c.Phase++; c.Phase == store.Contained {
			c.Finished = c.tx.Now()
		}
	}
	return nil
}

// from is the creation of the oldest certificate that may be meant: one that is older may have been registered since. That of a CA is
// created when its device comes for the first time.
func (c *containment) from() time.Time {
	if c.Since.IsZero() || strings.HasPrefix(c.Claim, caSource) {
		return c.Since
	}
	return c.Since.Add(-fleet.TokenLifetime)
}

// meant reports whether a certificate is to be contained: it was made or registered since the time in question, or never registered.
func (c *containment) meant(cert fleet.Certificate) (reg *store.Registration, meant bool, err error) {
	r, found, err := c.tx.Registration(c.scope, cert.ID)
	if err != nil || !found {
		return nil, true, err
	}
	return &r, !cert.Created.Before(c.Since) || !r.Created.Before(c.Since), nil
}

func (c *containment) revoke(cert fleet.Certificate) error {
	_, meant, err := c.meant(cert)
	if err != nil || !meant {
		return err
	}
	changed, err := registry.Revoke(c.tx, c.scope, cert)
	if err != nil {
		return err
	}
	if changed {
		c.Certificates++
	}
	if err := c.tx.MarkContained(c.scope, cert.ID); err != nil { // all of them, before any name becomes free
		return err
	}
	has, err := c.tx.HasDescendants(c.scope, cert.ID)
	if err != nil || !has {
		return err
	}
	old, found, err := c.tx.Containment(c.scope, cert.ID)
	if err != nil || found && old.Since.IsZero() && !changed {
		return err // it is done, or on its way, and nothing has come of it since
	}
	old.Claim, old.Root, old.Since, old.Phase, old.After, old.Actor, old.Started, old.Finished = cert.ID, c.Root, time.Time{}, store.Revoking, "", c.Actor, c.tx.Now(), time.Time{}
	return c.tx.PutContainment(c.scope, old)
}

func (c *containment) free(cert fleet.Certificate) error {
	reg, meant, err := c.meant(cert)
	if err != nil || !meant {
		return err
	}
	if _, err := registry.Revoke(c.tx, c.scope, cert); err != nil { // somebody may have given the claim its power back meanwhile
		return err
	}
	done, err := registry.Undo(c.tx, c.scope, cert.ID, reg)
	if err != nil {
		return err
	}
	if done.ThingRemoved {
		c.Things++
	}
	if done.ThingReleased {
		c.Released++
	}
	if reg == nil && cert.CAID == "" { // nobody ever registered it; of a CA's it is on file that they are revoked
		return c.tx.DeleteCertificate(c.scope, cert.ID)
	}
	return nil
}

// ReasonContained is the stable word for requests that a contained claim was used for.
const ReasonContained = "claim_contained"

// errContained is why nothing more is made of a claim.
func errContained(c store.Containment) error {
	err := fleet.Denied("the claim was contained at %s: nothing more is made with it", c.Started.Format(time.RFC3339))
	err.Reason = ReasonContained
	return err
}

// refusedAs words a refusal of a claim that was contained.
func refusedAs(tx *store.Tx, s fleet.Scope, claim string, err error) error {
	c, found, lookErr := tx.Containment(s, claim)
	if lookErr != nil {
		return errors.Join(err, lookErr)
	}
	if !found {
		return err
	}
	return errContained(c)
}
