package store

import (
	"github.com/imprint-iot/imprint/internal/fleet"
)

const transferColumns = `certificate, peer, outgoing, state, message, reason, requested, ended`

func scanTransfer(s scanner) (t fleet.Transfer, err error) {
	var requested, ended int64
	err = s.Scan(&t.Certificate, &t.Peer, &t.Outgoing, (*string)(&t.State), &t.Message, &t.Reason, &requested, &ended)
	t.Requested, t.Ended = fromMillis(requested), fromMillis(ended)
	return t, err
}

// Transfer returns what a scope knows of the last transfer of a certificate. found is false if there was none.
func (tx *Tx) Transfer(s fleet.Scope, certificate string) (t fleet.Transfer, found bool, err error) {
	return one(tx, scanTransfer, `SELECT `+transferColumns+` FROM certificate_transfers WHERE account = ? AND region = ? AND certificate = ?`,
		s.Account, s.Region, certificate)
}

// PutTransfer stores what a scope knows of a transfer, in place of what it knew.
func (tx *Tx) PutTransfer(s fleet.Scope, t fleet.Transfer) error {
	_, err := tx.exec(`INSERT INTO certificate_transfers (account, region, certificate, peer, outgoing, state, message, reason, requested, ended)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account, region, certificate) DO UPDATE SET peer = excluded.peer, outgoing = excluded.outgoing,
		state = excluded.state, message = excluded.message, reason = excluded.reason, requested = excluded.requested, ended = excluded.ended`,
		s.Account, s.Region, t.Certificate, t.Peer, flag(t.Outgoing), string(t.State), t.Message, t.Reason, millis(t.Requested), millis(t.Ended))
	return err
}

// OutgoingTransfers lists the transfers that wait for the other account, by the time of their request, the latest first if p.Desc.
func (tx *Tx) OutgoingTransfers(s fleet.Scope, p fleet.Page) ([]fleet.Transfer, string, error) {
	keyset, order, keyArgs := timePage(p, "requested", "certificate")
	list, err := all(tx, scanTransfer, `SELECT `+transferColumns+` FROM certificate_transfers
		WHERE account = ? AND region = ? AND outgoing = 1 AND state = 'pending'`+keyset+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region}, keyArgs...), pageLimit(p))...)
	list, next := cutPage(p, list, func(t fleet.Transfer) string { return timeKey(t.Requested, t.Certificate) })
	return list, next, err
}
