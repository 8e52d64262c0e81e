package gateway

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/store"
)

// journal keeps what the message core must not lose in the store.
type journal struct{ db *store.DB }

var _ mqtt.Journal = journal{}

// loadPage is how many rows one read holds, so that memory and readers are not held for long.
const loadPage = 500

// Load implements mqtt.Journal.
func (j journal) Load(ctx context.Context, s fleet.Scope) (*mqtt.Saved, error) {
	var saved mqtt.Saved
	sessions, err := pages(ctx, j.db, func(tx *store.Tx, after store.MessageSession) ([]store.MessageSession, error) {
		return tx.MessageSessions(s, after.Client, loadPage)
	})
	if err != nil {
		return nil, err
	}
	for _, r := range sessions {
		saved.Sessions = append(saved.Sessions, mqtt.SavedSession{Client: r.Client, Version: byte(r.Version), Expiry: r.Expiry, Until: r.Ends})
	}
	filters, err := pages(ctx, j.db, func(tx *store.Tx, after store.MessageFilter) ([]store.MessageFilter, error) {
		return tx.MessageFilters(s, after, loadPage)
	})
	if err != nil {
		return nil, err
	}
	for _, r := range filters {
		saved.Subscriptions = append(saved.Subscriptions, mqtt.SavedSubscription{Client: r.Client, Filter: r.Filter, QoS: byte(r.QoS), NoLocal: r.NoLocal, AsPublished: r.AsPublished})
	}
	messages, err := pages(ctx, j.db, func(tx *store.Tx, after store.Message) ([]store.Message, error) {
		return tx.Messages(s, after, loadPage)
	})
	if err != nil {
		return nil, err
	}
	for _, r := range messages {
		m, err := loaded(r)
		if err != nil {
			return nil, err
		}
		saved.Messages = append(saved.Messages, mqtt.SavedMessage{Owner: r.Owner, Number: r.Number, QoS: byte(r.QoS), Retain: r.Retain, Message: m})
	}
	retained, err := pages(ctx, j.db, func(tx *store.Tx, after store.Message) ([]store.Message, error) {
		return tx.RetainedMessages(s, after.Topic, loadPage)
	})
	if err != nil {
		return nil, err
	}
	for _, r := range retained {
		m, err := loaded(r)
		if err != nil {
			return nil, err
		}
		saved.Retained = append(saved.Retained, mqtt.SavedRetained{Message: m, Modified: r.Modified})
	}
	return &saved, nil
}

// pages reads all rows of a listing, page by page. Nobody changes the rows meanwhile: the broker begins with a scope when it is
// loaded.
func pages[T any](ctx context.Context, db *store.DB, read func(*store.Tx, T) ([]T, error)) (all []T, err error) {
	for {
		var page []T
		err := db.View(ctx, func(tx *store.Tx) (err error) {
			var after T
			if len(all) > 0 {
				after = all[len(all)-1]
			}
			page, err = read(tx, after)
			return err
		})
		if all = append(all, page...); err != nil || len(page) < loadPage {
			return all, err
		}
	}
}

func loaded(r store.Message) (*mqtt.Message, error) {
	m := &mqtt.Message{Topic: r.Topic, Payload: r.Payload, QoS: byte(r.QoS), Retain: r.Retain, Expires: r.Expires}
	if r.Properties == "" {
		return m, nil
	}
	var b beside
	if err := json.Unmarshal([]byte(r.Properties), &b); err != nil {
		return nil, fmt.Errorf("the properties of a stored message on %s: %w", r.Topic, err)
	}
	m.Props, m.Origin = b.Properties, b.Origin
	return m, nil
}

// beside is what is kept with a message in one column: its properties, and who published it where rules may still ask.
type beside struct {
	*mqtt.Properties
	Origin *mqtt.Origin `json:",omitempty"`
}

func kept(m *mqtt.Message, origin *mqtt.Origin) (store.Message, error) {
	r := store.Message{Topic: m.Topic, Payload: m.Payload, QoS: int(m.QoS), Expires: m.Expires}
	if m.Props == nil && origin == nil {
		return r, nil
	}
	b, err := json.Marshal(beside{m.Props, origin})
	r.Properties = string(b)
	return r, err
}

// Write implements mqtt.Journal.
func (j journal) Write(ctx context.Context, changes []mqtt.Change) error {
	return j.db.Tx(ctx, func(tx *store.Tx) error {
		for i := range changes {
			if err := write(tx, &changes[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func write(tx *store.Tx, c *mqtt.Change) error {
	s := c.Scope
	switch c.Kind {
	case mqtt.PutSession:
		return tx.PutMessageSession(s, store.MessageSession{Client: c.Session.Client, Version: int(c.Session.Version), Expiry: c.Session.Expiry, Ends: c.Session.Until})
	case mqtt.DropSession:
		return tx.DeleteMessageSession(s, c.Session.Client)
	case mqtt.PutSubscription:
		f := c.Subscription
		return tx.PutMessageFilter(s, store.MessageFilter{Client: f.Client, Filter: f.Filter, QoS: int(f.QoS), NoLocal: f.NoLocal, AsPublished: f.AsPublished})
	case mqtt.DropSubscription:
		return tx.DeleteMessageFilter(s, c.Subscription.Client, c.Subscription.Filter)
	case mqtt.PutMessage:
		r, err := kept(c.Message.Message, c.Message.Origin())
		if err != nil {
			return err
		}
		r.Owner, r.Number, r.QoS, r.Retain = c.Message.Owner, c.Message.Number, int(c.Message.QoS), c.Message.Retain
		return tx.PutMessage(s, r)
	case mqtt.DropMessage:
		return tx.DeleteMessage(s, c.Message.Owner, c.Message.Number)
	case mqtt.PutRetained:
		r, err := kept(c.Retained.Message, nil)
		if err != nil {
			return err
		}
		r.Modified = c.Retained.Modified
		return tx.PutRetained(s, r)
	case mqtt.DropRetained:
		return tx.DeleteRetained(s, c.Retained.Message.Topic)
	}
	return fmt.Errorf("a change of unknown kind %d", c.Kind)
}

// loadMessages reads what is kept of every scope, so that sessions end in time though nobody comes.
func (g *Gateway) loadMessages() {
	var scopes []fleet.Scope
	err := g.Store.View(g.ctx, func(tx *store.Tx) (err error) {
		scopes, err = tx.MessageScopes()
		return err
	})
	for _, s := range scopes {
		if err == nil {
			err = g.broker.Load(g.ctx, s)
		}
	}
	if err != nil && g.ctx.Err() == nil {
		g.Log.Error("reading stored sessions", "error", err)
	}
}
