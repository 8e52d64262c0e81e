package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A PoolMessage is a message that a user pool owes to a user. Content is sealed by the rules.
type PoolMessage struct {
	Scope         fleet.Scope
	Pool, ID, Sub string
	Content       []byte
	Due           time.Time // when it is tried next
	Attempts      int       // that failed
	Expires       time.Time
}

// AddPoolMessage stores a message.
func (tx *Tx) AddPoolMessage(m PoolMessage) error {
	_, err := tx.exec(`INSERT INTO pool_messages (account, region, pool, id, sub, content, due, attempts, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		m.Scope.Account, m.Scope.Region, m.Pool, m.ID, m.Sub, m.Content, millis(m.Due), m.Attempts, millis(m.Expires))
	return err
}

// DuePoolMessages lists messages of all scopes that are due at a time, the longest due first, at most n.
func (tx *Tx) DuePoolMessages(now time.Time, n int) ([]PoolMessage, error) {
	return all(tx, func(s scanner) (m PoolMessage, err error) {
		var due, expires int64
		err = s.Scan(&m.Scope.Account, &m.Scope.Region, &m.Pool, &m.ID, &m.Sub, &m.Content, &due, &m.Attempts, &expires)
		m.Due, m.Expires = fromMillis(due), fromMillis(expires)
		return m, err
	}, `SELECT account, region, pool, id, sub, content, due, attempts, expires FROM pool_messages WHERE due <= ? ORDER BY due LIMIT ?`, millis(now), n)
}

// DeferPoolMessage sets when a message is tried next, and how often it failed, if it still waits as it was read. Of all who want to try
// a message at the same time one is told true.
func (tx *Tx) DeferPoolMessage(m PoolMessage, due time.Time, attempts int) (bool, error) {
	return changedRows(tx.exec(`UPDATE pool_messages SET due = ?, attempts = ? WHERE account = ? AND region = ? AND pool = ? AND id = ? AND due = ?`,
		millis(due), attempts, m.Scope.Account, m.Scope.Region, m.Pool, m.ID, millis(m.Due)))
}

// DeletePoolMessage removes a message that was sent or given up.
func (tx *Tx) DeletePoolMessage(s fleet.Scope, pool, id string) error {
	_, err := tx.exec(`DELETE FROM pool_messages WHERE account = ? AND region = ? AND pool = ? AND id = ?`, s.Account, s.Region, pool, id)
	return err
}

// CountPoolMessages is how many messages wait.
func (tx *Tx) CountPoolMessages() (int, error) {
	n, _, err := one(tx, func(s scanner) (n int, err error) { return n, s.Scan(&n) }, `SELECT COUNT(*) FROM pool_messages`)
	return n, err
}
