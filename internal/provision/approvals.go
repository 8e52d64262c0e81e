package provision

import (
	"context"
	"errors"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// The queue of devices that ask for a thing that another one has, where the template's rule is approve. A request is about one thing
// and one key. The device is refused until an operator has approved it, and asks again by itself, with the same token or with the
// same request for a certificate; the registration that then succeeds uses the approval up.

// Lifetimes in the queue, and its bounds.
const (
	approvalWaits      = 7 * 24 * time.Hour  // since the device last asked
	approvalHolds      = 24 * time.Hour      // of a decision, unless the operator says otherwise
	MaxApprovalHolds   = 30 * 24 * time.Hour // at most
	approvalKept       = 30 * 24 * time.Hour // of one that is used up
	approvalRetry      = time.Minute         // after which a device may ask again
	maxPendingOfThing  = 10
	maxPendingOfTenant = 10_000
)

// CodeApprovalPending is ours: a device that knows it may ask again without telling its user of a failure.
const CodeApprovalPending = "ApprovalPending"

// approval returns what an operator has decided about thing and key, nil if nothing holds.
func (g *registration) approval(tx *store.Tx, thing, key string) (*template.Approval, error) {
	a, found, err := tx.ApprovalOf(g.Scope, thing, key)
	if err != nil || !found || !tx.Now().Before(a.Expires) {
		return nil, err
	}
	return &template.Approval{ID: a.ID, State: a.State, Replace: a.Replace}, nil
}

// useApproval marks an approval as used up, in the transaction of the registration.
func (g *registration) useApproval(tx *store.Tx, id string) error {
	a, err := tx.Approval(g.Scope, id)
	if err != nil {
		return err
	}
	a.State, a.Certificate, a.TraceID, a.Expires = fleet.ApprovalUsed, g.owner.certificate, g.Trace.ID(), tx.Now().Add(approvalKept)
	return tx.PutApproval(g.Scope, a)
}

// queue notes that a device waits for an operator, once its registration was refused for that. The answer comes after it is stored.
func (g *registration) queue(ctx context.Context, refusal error) error {
	var e *fleet.Error
	if !errors.As(refusal, &e) || e.Reason != template.ReasonWaits {
		return refusal
	}
	id := fleet.NewTimeUUID(g.Clock.Now())
	var a fleet.ApprovalRequest
	err := g.Store.Tx(ctx, func(tx *store.Tx) error {
		var found bool
		var err error
		if a, found, err = tx.ApprovalOf(g.Scope, e.Name, g.key); err != nil {
			return err
		}
		now := tx.Now()
		switch {
		case !found:
			ofThing, inAll, err := tx.PendingApprovals(g.Scope, e.Name, maxPendingOfTenant)
			if err != nil {
				return err
			}
			if ofThing >= maxPendingOfThing || inAll >= maxPendingOfTenant {
				return &fleet.Error{Kind: fleet.KindThrottled, Code: CodeThrottled, Reason: ReasonQueueFull, RetryAfter: time.Hour,
					Msg: "too many devices wait for an operator's approval: approve or deny some first"}
			}
			a = fleet.ApprovalRequest{ID: id, Thing: e.Name, Key: g.key, Created: now}
		case a.State != fleet.ApprovalPending && now.Before(a.Expires):
			return nil // decided in this moment: the device asks again
		}
		a.State, a.Replace, a.DecidedBy, a.Decided = fleet.ApprovalPending, false, "", time.Time{}
		a.Template, a.Principal, a.Certificate = g.template, g.PrincipalID, g.owner.certificate
		a.ClientID, a.SourceIP, a.TraceID = g.ClientID, g.SourceIP, g.Trace.ID()
		a.Attempts++
		a.Expires = now.Add(approvalWaits)
		return tx.PutApproval(g.Scope, a)
	})
	if err != nil {
		return err
	}
	g.Trace.Fact("approval", a.ID)
	g.Trace.SetCure("imprint approval approve %s, if the device is genuine; it asks again by itself", a.ID)
	waits := *e
	waits.Code, waits.RetryAfter = CodeApprovalPending, approvalRetry
	return &waits
}

// A Decision is an operator's about a device that waits.
type Decision struct {
	Approve bool
	Replace bool          // the thing's other certificates end when the new one has connected
	Holds   time.Duration // 0: a day
}

// Decide approves or denies a device that waits. The same decision again is no error, nor is another one while the device has not used
// it. Errors are of KindInvalid, KindNotFound and KindState.
func (p *Service) Decide(ctx context.Context, caller *fleet.Caller, id string, d Decision) (a fleet.ApprovalRequest, err error) {
	switch {
	case d.Holds < 0 || d.Holds > MaxApprovalHolds:
		return a, fleet.Invalid("approval", id, "a decision holds at most %v", MaxApprovalHolds)
	case d.Holds == 0:
		d.Holds = approvalHolds
	}
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		if a, err = tx.Approval(caller.Scope, id); err != nil {
			return err
		}
		now := tx.Now()
		switch {
		case a.State == fleet.ApprovalUsed:
			return fleet.BadState("approval", id, "is used up: the device was registered")
		case !now.Before(a.Expires):
			return fleet.BadState("approval", id, "has expired: the device has to ask again")
		}
		a.State = fleet.ApprovalDenied
		if d.Approve {
			a.State = fleet.ApprovalApproved
		}
		a.Replace, a.DecidedBy, a.Decided, a.Expires = d.Approve && d.Replace, caller.ARN, now, now.Add(d.Holds)
		return tx.PutApproval(caller.Scope, a)
	})
	return a, err
}
