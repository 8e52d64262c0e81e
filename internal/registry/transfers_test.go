package registry

import (
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

func (w *world) revoke(s fleet.Scope, id string) {
	w.t.Helper()
	w.do(func(tx *store.Tx) error {
		c, err := tx.Certificate(s, id)
		if err != nil {
			return err
		}
		_, err = Revoke(tx, s, c)
		return err
	})
}

func TestACertificateThatIsRevokedCannotBeTransferredAnyMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offer := func(id string) {
		w.certificate(here, id, fleet.Inactive)
		w.do(func(tx *store.Tx) error { _, err := TransferCertificate(tx, here, id, there.Account, ""); return err })
	}
	offer("given")
	w.revoke(here, "given")
	refused(t, w.try(func(tx *store.Tx) error { return AcceptTransfer(tx, there, "given", true) }), "not found")
	refused(t, w.try(func(tx *store.Tx) error { return RejectTransfer(tx, there, "given", "") }), "not found")
	refused(t, w.try(func(tx *store.Tx) error { return CancelTransfer(tx, here, "given") }), "limit")
	if got := w.status("given"); got != fleet.Revoked {
		t.Errorf("the certificate is %q", got)
	}

	// Revoked where it is offered to, it has no power there, and whoever offers it has it back.
	offer("got")
	w.revoke(there, "got")
	refused(t, w.try(func(tx *store.Tx) error { return AcceptTransfer(tx, there, "got", true) }), "invalid")
	w.do(func(tx *store.Tx) error { return CancelTransfer(tx, here, "got") })
	if got := w.status("got"); got != fleet.Inactive {
		t.Errorf("the certificate is %q", got)
	}
}
