package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A MessageSession is an MQTT session that outlives its connection.
type MessageSession struct {
	Client  string
	Version int
	Expiry  time.Duration
	Ends    time.Time // zero while the client is connected
}

// PutMessageSession keeps a session as it is now.
func (tx *Tx) PutMessageSession(s fleet.Scope, m MessageSession) error {
	_, err := tx.exec(`INSERT INTO mqtt_sessions (account, region, client, version, expiry, ends) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, client) DO UPDATE SET version = excluded.version, expiry = excluded.expiry, ends = excluded.ends`,
		s.Account, s.Region, m.Client, m.Version, m.Expiry.Milliseconds(), millis(m.Ends))
	return err
}

// DeleteMessageSession removes a session with its subscriptions and messages, or the messages of a group of shared subscriptions.
func (tx *Tx) DeleteMessageSession(s fleet.Scope, owner string) error {
	for _, q := range []string{`DELETE FROM mqtt_messages WHERE account = ? AND region = ? AND owner = ?`,
		`DELETE FROM mqtt_subscriptions WHERE account = ? AND region = ? AND client = ?`,
		`DELETE FROM mqtt_sessions WHERE account = ? AND region = ? AND client = ?`} {
		if _, err := tx.exec(q, s.Account, s.Region, owner); err != nil {
			return err
		}
	}
	return nil
}

// MessageSessions lists the sessions of a scope behind after, by client, at most limit.
func (tx *Tx) MessageSessions(s fleet.Scope, after string, limit int) ([]MessageSession, error) {
	return all(tx, func(r scanner) (m MessageSession, err error) {
		var expiry, ends int64
		err = r.Scan(&m.Client, &m.Version, &expiry, &ends)
		m.Expiry, m.Ends = time.Duration(expiry)*time.Millisecond, fromMillis(ends)
		return m, err
	}, `SELECT client, version, expiry, ends FROM mqtt_sessions WHERE account = ? AND region = ? AND client > ? ORDER BY client LIMIT ?`,
		s.Account, s.Region, after, limit)
}

// MessageScopes lists the scopes that have kept anything of their MQTT clients, or that may have messages that rules have not finished
// with.
func (tx *Tx) MessageScopes() ([]fleet.Scope, error) {
	return all(tx, scanScope, `SELECT account, region FROM mqtt_sessions UNION SELECT account, region FROM mqtt_retained
		UNION SELECT account, region FROM topic_rules`)
}

// A MessageFilter is one subscription of a session.
type MessageFilter struct {
	Client, Filter       string
	QoS                  int
	NoLocal, AsPublished bool
}

const (
	filterNoLocal     = 1
	filterAsPublished = 2
)

// PutMessageFilter adds a subscription or replaces it.
func (tx *Tx) PutMessageFilter(s fleet.Scope, f MessageFilter) error {
	options := 0
	if f.NoLocal {
		options |= filterNoLocal
	}
	if f.AsPublished {
		options |= filterAsPublished
	}
	_, err := tx.exec(`INSERT INTO mqtt_subscriptions (account, region, client, filter, qos, options) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, client, filter) DO UPDATE SET qos = excluded.qos, options = excluded.options`,
		s.Account, s.Region, f.Client, f.Filter, f.QoS, options)
	return err
}

// DeleteMessageFilter removes a subscription.
func (tx *Tx) DeleteMessageFilter(s fleet.Scope, client, filter string) error {
	_, err := tx.exec(`DELETE FROM mqtt_subscriptions WHERE account = ? AND region = ? AND client = ? AND filter = ?`, s.Account, s.Region, client, filter)
	return err
}

// MessageFilters lists the subscriptions of a scope behind one, by client and filter, at most limit.
func (tx *Tx) MessageFilters(s fleet.Scope, after MessageFilter, limit int) ([]MessageFilter, error) {
	return all(tx, func(r scanner) (f MessageFilter, err error) {
		var options int
		err = r.Scan(&f.Client, &f.Filter, &f.QoS, &options)
		f.NoLocal, f.AsPublished = options&filterNoLocal != 0, options&filterAsPublished != 0
		return f, err
	}, `SELECT client, filter, qos, options FROM mqtt_subscriptions WHERE account = ? AND region = ? AND (client > ? OR client = ? AND filter > ?)
		ORDER BY client, filter LIMIT ?`, s.Account, s.Region, after.Client, after.Client, after.Filter, limit)
}

// A Message is an MQTT message that waits for somebody, or that is retained.
type Message struct {
	Owner      string // client id, or "$share/name/filter"
	Number     int64
	QoS        int
	Retain     bool
	Topic      string
	Payload    []byte
	Properties string // JSON; "": none
	Expires    time.Time
	Modified   time.Time // of a retained one
}

// PutMessage keeps a message that waits for its owner.
func (tx *Tx) PutMessage(s fleet.Scope, m Message) error {
	retain := 0
	if m.Retain {
		retain = 1
	}
	_, err := tx.exec(`INSERT INTO mqtt_messages (account, region, owner, number, qos, retain, topic, payload, properties, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.Account, s.Region, m.Owner, m.Number, m.QoS, retain, m.Topic, bytesOf(m.Payload), m.Properties, millis(m.Expires))
	return err
}

// DeleteMessage removes a message.
func (tx *Tx) DeleteMessage(s fleet.Scope, owner string, number int64) error {
	_, err := tx.exec(`DELETE FROM mqtt_messages WHERE account = ? AND region = ? AND owner = ? AND number = ?`, s.Account, s.Region, owner, number)
	return err
}

// Messages lists what waits in a scope behind after, by owner and number, at most limit.
func (tx *Tx) Messages(s fleet.Scope, after Message, limit int) ([]Message, error) {
	return all(tx, func(r scanner) (m Message, err error) {
		var retain, expires int64
		err = r.Scan(&m.Owner, &m.Number, &m.QoS, &retain, &m.Topic, &m.Payload, &m.Properties, &expires)
		m.Retain, m.Expires = retain != 0, fromMillis(expires)
		return m, err
	}, `SELECT owner, number, qos, retain, topic, payload, properties, expires FROM mqtt_messages
		WHERE account = ? AND region = ? AND (owner > ? OR owner = ? AND number > ?) ORDER BY owner, number LIMIT ?`,
		s.Account, s.Region, after.Owner, after.Owner, after.Number, limit)
}

// PutRetained keeps the message of its topic in place of the one before.
func (tx *Tx) PutRetained(s fleet.Scope, m Message) error {
	_, err := tx.exec(`INSERT INTO mqtt_retained (account, region, topic, qos, payload, properties, expires, modified) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, topic) DO UPDATE SET qos = excluded.qos, payload = excluded.payload, properties = excluded.properties,
			expires = excluded.expires, modified = excluded.modified`,
		s.Account, s.Region, m.Topic, m.QoS, bytesOf(m.Payload), m.Properties, millis(m.Expires), millis(m.Modified))
	return err
}

// DeleteRetained removes what is retained for a topic.
func (tx *Tx) DeleteRetained(s fleet.Scope, topic string) error {
	_, err := tx.exec(`DELETE FROM mqtt_retained WHERE account = ? AND region = ? AND topic = ?`, s.Account, s.Region, topic)
	return err
}

// RetainedMessages lists what is retained behind a topic, by topic, at most limit.
func (tx *Tx) RetainedMessages(s fleet.Scope, after string, limit int) ([]Message, error) {
	return all(tx, func(r scanner) (m Message, err error) {
		var expires, modified int64
		err = r.Scan(&m.Topic, &m.QoS, &m.Payload, &m.Properties, &expires, &modified)
		m.Retain, m.Expires, m.Modified = true, fromMillis(expires), fromMillis(modified)
		return m, err
	}, `SELECT topic, qos, payload, properties, expires, modified FROM mqtt_retained WHERE account = ? AND region = ? AND topic > ? ORDER BY topic LIMIT ?`,
		s.Account, s.Region, after, limit)
}

// bytesOf makes nil an empty value, which is not NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
