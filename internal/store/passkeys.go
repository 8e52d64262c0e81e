package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Passkey is a credential of a user, whose authenticator has the private key.
type Passkey struct {
	ID         string // base64url
	Sub        string
	Party      string // the relying party
	Public     []byte // COSE_Key
	Count      uint32 // signatures that the authenticator has told of
	Backup     bool   // it may be copied
	Both       bool   // its owner wants it to count as both factors
	Name       string
	Attachment string
	Transports []string
	Created    time.Time
}

const passkeyColumns = `id, sub, party, public, count, backup, both_factors, name, attachment, transports, created`

func scanPasskey(s scanner) (p Passkey, err error) {
	var transports string
	var count, created int64
	if err := s.Scan(&p.ID, &p.Sub, &p.Party, &p.Public, &count, &p.Backup, &p.Both, &p.Name, &p.Attachment, &transports, &created); err != nil {
		return p, err
	}
	p.Count, p.Created = uint32(count), fromMillis(created)
	return p, fromJSON(transports, &p.Transports)
}

// Passkey returns a passkey of a pool by its id. It fails with KindNotFound.
func (tx *Tx) Passkey(s fleet.Scope, pool, id string) (Passkey, error) {
	p, found, err := one(tx, scanPasskey, `SELECT `+passkeyColumns+` FROM pool_passkeys WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		s.Account, s.Region, pool, id)
	if err == nil && !found {
		err = fleet.NotFound("passkey", id)
	}
	return p, err
}

// Passkeys lists the passkeys of a user by id.
func (tx *Tx) Passkeys(s fleet.Scope, pool, sub string, p fleet.Page) ([]Passkey, string, error) {
	keys, err := all(tx, scanPasskey, `SELECT `+passkeyColumns+` FROM pool_passkeys
		WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND id > ? ORDER BY id LIMIT ?`, s.Account, s.Region, pool, sub, p.After, pageLimit(p))
	keys, next := cutPage(p, keys, func(k Passkey) string { return k.ID })
	return keys, next, err
}

// AddPasskey stores a passkey. It fails with KindExists if the pool has one of this id, whose ever it is.
func (tx *Tx) AddPasskey(s fleet.Scope, pool string, p Passkey) error {
	added, err := tx.insert(`INSERT INTO pool_passkeys (account, region, pool, `+passkeyColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, pool, p.ID, p.Sub, p.Party, p.Public, int64(p.Count), flag(p.Backup), flag(p.Both), p.Name, p.Attachment, toJSON(p.Transports), millis(p.Created))
	if err == nil && !added {
		return fleet.Exists("passkey", p.ID, "already exists")
	}
	return err
}

// CountPasskey keeps how many signatures the authenticator of a passkey has told of.
func (tx *Tx) CountPasskey(s fleet.Scope, pool, id string, count uint32) error {
	_, err := tx.exec(`UPDATE pool_passkeys SET count = ? WHERE account = ? AND region = ? AND pool = ? AND id = ?`, int64(count), s.Account, s.Region, pool, id)
	return err
}

// SetPasskeysBoth keeps whether the passkeys of a user count as both factors.
func (tx *Tx) SetPasskeysBoth(s fleet.Scope, pool, sub string, both bool) error {
	_, err := tx.exec(`UPDATE pool_passkeys SET both_factors = ? WHERE account = ? AND region = ? AND pool = ? AND sub = ?`, flag(both), s.Account, s.Region, pool, sub)
	return err
}

// DeletePasskey removes a passkey of a user and reports whether there was one.
func (tx *Tx) DeletePasskey(s fleet.Scope, pool, sub, id string) (bool, error) {
	n, err := affected(tx.exec(`DELETE FROM pool_passkeys WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND id = ?`,
		s.Account, s.Region, pool, sub, id))
	return n > 0, err
}
