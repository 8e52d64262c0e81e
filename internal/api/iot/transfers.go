package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) transferRows() []wire.Row {
	return []wire.Row{
		wire.Do("TransferCertificate", a.transferCertificate).
			On(named("cert", func(in *TransferCertificateInput) string { return certificateID(in.CertificateId) })),
		wire.Do("AcceptCertificateTransfer", a.acceptCertificateTransfer).
			OnAny(named("cert", func(in *AcceptCertificateTransferInput) string { return certificateID(in.CertificateId) })),
		wire.Do("RejectCertificateTransfer", a.rejectCertificateTransfer).
			On(named("cert", func(in *RejectCertificateTransferInput) string { return certificateID(in.CertificateId) })),
		wire.Do("CancelCertificateTransfer", a.cancelCertificateTransfer).
			OnAny(named("cert", func(in *CancelCertificateTransferInput) string { return certificateID(in.CertificateId) })),
		wire.Do("ListOutgoingCertificates", a.listOutgoingCertificates),
	}
}

func (a *API) transferCertificate(ctx context.Context, in *TransferCertificateInput) (*TransferCertificateOutput, error) {
	var out TransferCertificateOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		arn, err := registry.TransferCertificate(tx, s, certificateID(in.CertificateId), in.TargetAwsAccount, wire.Value(in.TransferMessage))
		out.TransferredCertificateArn = &arn
		return err
	})
	return &out, err
}

func (a *API) acceptCertificateTransfer(ctx context.Context, in *AcceptCertificateTransferInput) (*AcceptCertificateTransferOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.AcceptTransfer(tx, s, certificateID(in.CertificateId), wire.Value(in.SetAsActive))
	})
}

func (a *API) rejectCertificateTransfer(ctx context.Context, in *RejectCertificateTransferInput) (*RejectCertificateTransferOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.RejectTransfer(tx, s, certificateID(in.CertificateId), wire.Value(in.RejectReason))
	})
}

func (a *API) cancelCertificateTransfer(ctx context.Context, in *CancelCertificateTransferInput) (*CancelCertificateTransferOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.CancelTransfer(tx, s, certificateID(in.CertificateId))
	})
}

func (a *API) listOutgoingCertificates(ctx context.Context, in *ListOutgoingCertificatesInput) (*ListOutgoingCertificatesOutput, error) {
	desc, sorted := order(in.AscendingOrder)
	l, err := list(ctx, in.Marker, in.PageSize, "ListOutgoingCertificates", sorted)
	if err != nil {
		return nil, err
	}
	l.Desc = desc
	out := ListOutgoingCertificatesOutput{OutgoingCertificates: []OutgoingCertificate{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		page, next, err := tx.OutgoingTransfers(s, l.Page)
		if err != nil {
			return err
		}
		for _, t := range page {
			c, err := tx.Certificate(s, t.Certificate)
			if err != nil {
				return err
			}
			out.OutgoingCertificates = append(out.OutgoingCertificates, OutgoingCertificate{CertificateArn: new(s.IoT("cert", c.ID)), CertificateId: &c.ID,
				TransferredTo: &t.Peer, TransferDate: &t.Requested, TransferMessage: wire.Optional(t.Message), CreationDate: &c.Created})
		}
		out.NextMarker = l.Token(next)
		return nil
	})
	return &out, err
}

// showTransfer adds to a description what the account knows of the certificate's transfer. Until it is accepted the certificate belongs
// to whoever offers it.
func showTransfer(tx *store.Tx, s fleet.Scope, d *CertificateDescription) error {
	t, known, err := tx.Transfer(s, *d.CertificateId)
	if err != nil || !known {
		return err
	}
	d.TransferData = &TransferData{TransferMessage: wire.Optional(t.Message), RejectReason: wire.Optional(t.Reason), TransferDate: &t.Requested}
	switch {
	case t.State == fleet.TransferAccepted:
		d.TransferData.AcceptDate = &t.Ended
	case t.State == fleet.TransferRejected:
		d.TransferData.RejectDate = &t.Ended
	}
	switch {
	case t.Outgoing:
	case t.State == fleet.TransferPending:
		d.OwnedBy = &t.Peer
	default:
		d.PreviousOwnedBy = &t.Peer
	}
	return nil
}
