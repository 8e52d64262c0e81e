package store

import "github.com/imprint-iot/imprint/internal/fleet"

// States of a software token. A user has at most one in each.
const (
	TokenPending  = "pending"  // handed out, and not yet shown to work
	TokenVerified = "verified" // the one that counts
)

// A SoftwareToken is what makes a user's one-time codes. Secret is sealed by the rules.
type SoftwareToken struct {
	State              string
	Secret             []byte
	Device             string // what its owner calls it
	Used               int64  // the newest time step whose code was accepted; 0: none yet
	Enabled, Preferred bool
}

// SoftwareToken returns the token of a user in a state. It fails with KindNotFound.
func (tx *Tx) SoftwareToken(s fleet.Scope, pool, sub, state string) (SoftwareToken, error) {
	return find(tx, "software token", sub, func(s scanner) (t SoftwareToken, err error) {
		return t, s.Scan(&t.State, &t.Secret, &t.Device, &t.Used, &t.Enabled, &t.Preferred)
	}, `SELECT state, secret, device, used, enabled, preferred FROM pool_software_tokens
		WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND state = ?`, s.Account, s.Region, pool, sub, state)
}

// PutSoftwareToken stores a token in place of an earlier one in the same state.
func (tx *Tx) PutSoftwareToken(s fleet.Scope, pool, sub string, t SoftwareToken) error {
	_, err := tx.exec(`INSERT INTO pool_software_tokens (account, region, pool, sub, state, secret, device, used, enabled, preferred)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, pool, sub, state) DO UPDATE SET secret = excluded.secret, device = excluded.device, used = excluded.used,
			enabled = excluded.enabled, preferred = excluded.preferred`,
		s.Account, s.Region, pool, sub, t.State, t.Secret, t.Device, t.Used, flag(t.Enabled), flag(t.Preferred))
	return err
}

// DeleteSoftwareToken removes the token of a user in a state.
func (tx *Tx) DeleteSoftwareToken(s fleet.Scope, pool, sub, state string) error {
	_, err := tx.exec(`DELETE FROM pool_software_tokens WHERE account = ? AND region = ? AND pool = ? AND sub = ? AND state = ?`,
		s.Account, s.Region, pool, sub, state)
	return err
}
