package store

import (
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestPasskeysBelongToOneUserAndGoWithThem(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		s, other := fleet.Scope{Account: "000000000000", Region: "us-east-1"}, fleet.Scope{Account: "111111111111", Region: "us-east-1"}
		key := Passkey{ID: "id", Sub: "ada", Party: "iot.lan", Public: []byte{0, 0xff}, Count: 1<<32 - 1, Backup: true, Name: "Passkey", Attachment: "platform",
			Transports: []string{"usb", "internal"}, Created: time.UnixMilli(1_700_000_000_123)}
		do := func(body func(tx *Tx) error) {
			t.Helper()
			if err := db.Tx(t.Context(), body); err != nil {
				t.Fatal(err)
			}
		}
		do(func(tx *Tx) error { return tx.AddPasskey(s, "pool", key) })
		do(func(tx *Tx) error {
			again := key
			again.Sub = "bob"
			if err := tx.AddPasskey(s, "pool", again); fleet.KindOf(err) != fleet.KindExists {
				t.Errorf("a second user has the same passkey: %v", err)
			}
			if err := tx.AddPasskey(other, "pool", again); err != nil {
				t.Errorf("another scope: %v", err)
			}
			again.ID = "plain"
			again.Transports = nil
			return tx.AddPasskey(s, "pool", again)
		})
		do(func(tx *Tx) error {
			got, err := tx.Passkey(s, "pool", "id")
			if err != nil || string(got.Public) != string(key.Public) || got.Count != key.Count || !got.Backup || got.Both || len(got.Transports) != 2 || !got.Created.Equal(key.Created) {
				t.Errorf("the passkey is %+v, %v", got, err)
			}
			if err := tx.CountPasskey(s, "pool", "id", 7); err != nil {
				return err
			}
			if err := tx.SetPasskeysBoth(s, "pool", "ada", true); err != nil {
				return err
			}
			list, next, err := tx.Passkeys(s, "pool", "ada", fleet.Page{Limit: 1})
			if err != nil || len(list) != 1 || next != "" || list[0].Count != 7 || !list[0].Both {
				t.Errorf("ada has %+v, %q, %v", list, next, err)
			}
			if found, err := tx.DeletePasskey(s, "pool", "bob", "id"); found || err != nil {
				t.Errorf("bob removes ada's: %v, %v", found, err)
			}
			found, err := tx.DeletePasskey(s, "pool", "bob", "plain")
			if !found {
				t.Error("bob's own is not found")
			}
			return err
		})
		do(func(tx *Tx) error { return tx.DeletePoolUser(s, "pool", "ada") })
		do(func(tx *Tx) error {
			if _, err := tx.Passkey(s, "pool", "id"); fleet.KindOf(err) != fleet.KindNotFound {
				t.Errorf("the passkey of nobody: %v", err)
			}
			_, err := tx.Passkey(other, "pool", "id")
			return err
		})
	})
}
