package registry

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A certificate is given to another account in two steps (provisioning spec 9.1): its owner offers it, which makes it PENDING_TRANSFER
// in both accounts, then the other account accepts or rejects it, or the owner takes the offer back. Each account keeps what it may
// know of that; how the certificate came to be in the first account is nothing that the other one learns.

// TransferCertificate offers a certificate to another account and returns the ARN that it will have there. It must be neither ACTIVE
// nor REVOKED, and nothing may be attached to it.
func TransferCertificate(tx *store.Tx, s fleet.Scope, id, account, message string) (arn string, err error) {
	c, err := tx.Certificate(s, id)
	if err != nil {
		return "", err
	}
	there := fleet.Scope{Account: account, Region: s.Region}
	if account == s.Account {
		return "", fleet.Invalid("certificate", id, "belongs to account %s already", account)
	}
	switch c.Status {
	case fleet.Inactive:
	case fleet.Active:
		return "", fleet.BadState("certificate", id, "is ACTIVE; deactivate it before it is transferred")
	default:
		return "", fleet.BadState("certificate", id, "is %s; only an INACTIVE certificate can be transferred", c.Status)
	}
	if err := checkUnattached(tx, s, id); err != nil {
		return "", err
	}
	if err := setStatus(tx, s, c, fleet.PendingTransfer); err != nil {
		return "", err
	}
	t := fleet.Transfer{Certificate: id, Peer: account, Outgoing: true, State: fleet.TransferPending, Message: message, Requested: tx.Now()}
	if err := tx.PutTransfer(s, t); err != nil {
		return "", err
	}
	return there.IoT("cert", id), offer(tx, there, s.Account, c, t)
}

func checkUnattached(tx *store.Tx, s fleet.Scope, id string) error {
	arn := s.IoT("cert", id)
	n, err := tx.CountPolicies(s, arn)
	if err != nil {
		return err
	}
	if n > 0 {
		return conflict("Certificate policies must be detached before transfer (arn: %s)", arn)
	}
	things, _, err := tx.ThingsOf(s, arn, "", fleet.Page{Limit: 1})
	if err == nil && len(things) > 0 {
		err = conflict("Things must be detached before transfer (arn: %s)", arn)
	}
	return err
}

func conflict(format string, args ...any) error {
	return exact(fleet.KindConflict, format, args...).WithCode("TransferConflictException")
}

// offer shows a certificate in the account that it shall go to. One that has it already, since it registered the same certificate
// itself, sees nothing, and whoever offers it does not learn that: all that is left to them is to take the offer back.
func offer(tx *store.Tx, there fleet.Scope, from string, c fleet.Certificate, t fleet.Transfer) error {
	c.Status, c.Created, c.Modified, c.Version, c.Generation = fleet.PendingTransfer, tx.Now(), tx.Now(), 1, fleet.NewUUID()
	c.Origin = fleet.CertificateOrigin{}
	err := tx.CreateCertificate(there, c)
	if err != nil && fleet.KindOf(err) == fleet.KindExists {
		return nil
	}
	if err != nil {
		return err
	}
	t.Peer, t.Outgoing = from, false
	return tx.PutTransfer(there, t)
}

// AcceptTransfer takes a certificate that another account offers. It is INACTIVE here unless active is set, and gone there.
func AcceptTransfer(tx *store.Tx, s fleet.Scope, id string, active bool) error {
	c, t, err := pendingTransfer(tx, s, id, false)
	if err != nil {
		return err
	}
	there := fleet.Scope{Account: t.Peer, Region: s.Region}
	status := fleet.Inactive
	if active {
		status = fleet.Active
	}
	if err := setStatus(tx, s, c, status); err != nil {
		return err
	}
	t.State, t.Ended = fleet.TransferAccepted, tx.Now()
	if err := tx.PutTransfer(s, t); err != nil {
		return err
	}
	given, _, err := tx.Transfer(there, id)
	if err != nil {
		return err
	}
	if err := tx.ForgetBootstrap(there, id); err != nil {
		return err
	}
	if err := tx.DeleteCertificate(there, id); err != nil {
		return err
	}
	given.State, given.Ended = fleet.TransferAccepted, t.Ended
	return tx.PutTransfer(there, given)
}

// RejectTransfer refuses a certificate that another account offers, which has it back, INACTIVE.
func RejectTransfer(tx *store.Tx, s fleet.Scope, id, reason string) error {
	_, t, err := pendingTransfer(tx, s, id, false)
	if err != nil {
		return err
	}
	if err := tx.DeleteCertificate(s, id); err != nil {
		return err
	}
	return giveBack(tx, fleet.Scope{Account: t.Peer, Region: s.Region}, id, fleet.TransferRejected, reason)
}

// CancelTransfer takes back the offer of a certificate, which is INACTIVE again.
func CancelTransfer(tx *store.Tx, s fleet.Scope, id string) error {
	_, t, err := pendingTransfer(tx, s, id, true)
	if err != nil {
		return err
	}
	return withdraw(tx, s, t)
}

// withdraw ends an offer, which the other account then sees no more.
func withdraw(tx *store.Tx, s fleet.Scope, t fleet.Transfer) error {
	there := fleet.Scope{Account: t.Peer, Region: s.Region}
	if seen, found, err := tx.Transfer(there, t.Certificate); err != nil {
		return err
	} else if found && !seen.Outgoing && seen.State == fleet.TransferPending && seen.Peer == s.Account {
		if err := tx.DeleteCertificate(there, t.Certificate); err != nil {
			return err
		}
	}
	return giveBack(tx, s, t.Certificate, fleet.TransferCancelled, "")
}

func giveBack(tx *store.Tx, owner fleet.Scope, id string, state fleet.TransferState, reason string) error {
	c, err := tx.Certificate(owner, id)
	if err != nil {
		return err
	}
	t, _, err := tx.Transfer(owner, id)
	if err != nil {
		return err
	}
	t.State, t.Reason, t.Ended = state, reason, tx.Now()
	if err := tx.PutTransfer(owner, t); err != nil {
		return err
	}
	return setStatus(tx, owner, c, fleet.Inactive)
}

// pendingTransfer returns a certificate whose transfer waits, in the account that gives it away or in the one that shall get it. One
// whose transfer has ended is TransferAlreadyCompletedException.
func pendingTransfer(tx *store.Tx, s fleet.Scope, id string, outgoing bool) (fleet.Certificate, fleet.Transfer, error) {
	t, known, err := tx.Transfer(s, id)
	if err != nil {
		return fleet.Certificate{}, t, err
	}
	c, err := tx.Certificate(s, id)
	switch {
	case err != nil && !(missing(err) && known):
		return c, t, err
	case !known || t.Outgoing != outgoing && t.State == fleet.TransferPending:
		return c, t, fleet.Invalid("certificate", id, "is not being transferred %s this account", map[bool]string{true: "from", false: "to"}[outgoing])
	case t.Outgoing != outgoing, t.State != fleet.TransferPending:
		return c, t, exact(fleet.KindLimit, "The transfer of certificate %s has ended: it was %s at %s", id, t.State, t.Ended.Format(time.RFC3339)).
			WithCode("TransferAlreadyCompletedException")
	case c.Status != fleet.PendingTransfer:
		return c, t, fleet.Invalid("certificate", id, "is %s: its transfer can only be ended by the account that offers it", c.Status)
	}
	return c, t, nil
}

// checkStays refuses to tie anything to a certificate that is about to leave for, or to come from, another account.
func checkStays(tx *store.Tx, s fleet.Scope, principal string) error {
	a, ok := fleet.ParseARN(principal)
	if !ok || a.Kind() != "cert" {
		return nil
	}
	c, err := tx.Certificate(s, a.Name())
	if err == nil && c.Status == fleet.PendingTransfer {
		err = fleet.Invalid("certificate", c.ID, "is being transferred; nothing can be attached to it until that is accepted, rejected or cancelled")
	}
	return err
}
