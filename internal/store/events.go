package store

import "github.com/imprint-iot/imprint/internal/fleet"

// ChangedEventQueue is the kind of Change of events that wait to be published; its key is "".
const ChangedEventQueue = "eventqueue"

// An Event is a message of the service's own that belongs to what a transaction has written.
type Event struct {
	Scope   fleet.Scope
	ID      string // sorts by time
	Topic   string
	Payload string // JSON
}

// PutEvent has an event published after the commit.
func (tx *Tx) PutEvent(e Event) error {
	_, err := tx.exec(`INSERT INTO events (account, region, id, topic, payload) VALUES (?, ?, ?, ?, ?)`, e.Scope.Account, e.Scope.Region, e.ID, e.Topic, e.Payload)
	tx.Changed(e.Scope, ChangedEventQueue, "")
	return err
}

// Events returns events that were not published yet, the oldest first, at most limit.
func (tx *Tx) Events(limit int) ([]Event, error) {
	return all(tx, func(r scanner) (e Event, err error) {
		err = r.Scan(&e.Scope.Account, &e.Scope.Region, &e.ID, &e.Topic, &e.Payload)
		return e, err
	}, `SELECT account, region, id, topic, payload FROM events ORDER BY id LIMIT ?`, limit)
}

// DeleteEvents forgets events that were published.
func (tx *Tx) DeleteEvents(list []Event) error {
	for _, e := range list {
		if _, err := tx.exec(`DELETE FROM events WHERE account = ? AND region = ? AND id = ?`, e.Scope.Account, e.Scope.Region, e.ID); err != nil {
			return err
		}
	}
	return nil
}
