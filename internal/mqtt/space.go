package mqtt

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A space is everything that one scope's clients share. What is in one space is invisible in all others.
type space struct {
	b     *Broker
	scope fleet.Scope

	loading sync.Mutex
	loaded  atomic.Bool

	mu       sync.Mutex
	sessions map[string]*session // by client id
	departed map[string]departure

	tree     tree
	retained retained
	rates    scopeRates
	open     atomic.Int64 // connections
	subs     atomic.Int64 // subscriptions
	stored   atomic.Int64 // bytes of messages in the queues of sessions
	ruled    atomic.Int64 // number of the last message that was given to rules at QoS 1
}

func newSpace(b *Broker, scope fleet.Scope) *space {
	s := &space{b: b, scope: scope, sessions: make(map[string]*session)}
	s.tree.init(s)
	s.retained.init(s)
	return s
}

// take gives c the session of its client id, which delivers nothing before session.open. A connection that holds the id is ended
// first. present says whether an earlier session goes on (iot-core spec 6.4, 6.6). w waits until the journal knows all this.
func (s *space) take(c *conn, client *Client, clean bool, window int, w *wait) (sess *session, present bool) {
	for {
		s.mu.Lock()
		old := s.sessions[client.ID]
		if holder := old.holder(); holder != nil {
			s.mu.Unlock()
			holder.end(End{Reason: DuplicateClient, Code: codeTakenOver, Text: "the client id connected again"})
			continue
		}
		defer s.mu.Unlock()
		lapsed := old != nil && !s.b.now().Before(old.until)                       // the wheel is up to two ticks late
		present = old != nil && !clean && !lapsed && old.version == client.Version // no resume across protocol versions
		sess = old
		if !present {
			if old != nil {
				old.mu.Lock()
				old.discard(w)
				old.mu.Unlock()
			}
			sess = newSession(s, client.ID, client.Version)
		}
		sess.mu.Lock()
		defer sess.mu.Unlock()
		s.b.wheel.stop(&sess.timer)
		sess.dropTried()
		sess.conn, sess.opening, sess.window, sess.expiry = c, true, window, client.Expiry
		sess.replay = s.b.cfg.Limits.Replay > 0 && len(sess.queue) > 0
		s.open.Add(1)
		sess.durable = s.b.keeper != nil && (sess.durable || client.Expiry > 0)
		sess.save(w)
		return sess, present
	}
}

// admitSession reports whether a client may have a persistent session: it has one, or there is room for one more.
func (s *space) admitSession(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id] != nil || len(s.sessions) < s.b.cfg.Sessions
}

// newSession adds an empty session. The space is locked.
func newSession(s *space, id string, version byte) *session {
	sess := &session{space: s, id: id, version: version}
	sess.timer.fire = func() { go sess.expire() }
	s.sessions[id] = sess
	return sess
}

// open calls accept, which sends the CONNACK, and lets messages flow behind it.
func (s *session) open(c *conn, accept func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	accept()
	if s.conn == c {
		s.opening = false
		s.online.Store(true)
	}
}

// session returns the session of a client id, nil if there is none.
func (s *space) session(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// holder returns the connection of the session, nil if there is none; s may be nil.
func (s *session) holder() *conn {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// reserve makes room for a stored message of n bytes; false means that there is none.
func (s *space) reserve(n int64) bool {
	s.hold(n)
	if s.stored.Load() > s.b.cfg.QueueBytes || s.b.stored.Load() > s.b.cfg.TotalBytes {
		s.release(n)
		return false
	}
	return true
}

// hold is reserve for a message that was accepted before.
func (s *space) hold(n int64) {
	s.stored.Add(n)
	s.b.stored.Add(n)
}

func (s *space) release(n int64) { s.hold(-n) }

// keep hands a change of this scope to the journal.
func (s *space) keep(c Change, w *wait) *entry {
	if s.b.keeper == nil {
		return nil
	}
	c.Scope = s.scope
	return s.b.keeper.add(c, w.ticket())
}

// keepMessage hands a message of owner to the journal.
func (s *space) keepMessage(owner string, o *outgoing, w *wait) *entry {
	return s.keep(Change{Kind: PutMessage, Message: SavedMessage{Owner: owner, Number: o.number, QoS: o.qos, Retain: o.retain, Message: o.message}}, w)
}

// publish routes a message to the sessions that subscribe to its topic and to rules, and keeps it if it is to be retained. from is the
// publisher's session, nil for ours. When it returns every session has the message, in the order of the publisher's calls, and w
// waits for those that must survive a power cut. Rules that have no room miss it: a slow one must not hold up anybody else.
func (s *space) publish(m *Message, from *session, w *wait) error {
	work, err := s.work(m)
	if err != nil {
		return err
	}
	if m.Retain && m.Topic[0] != '$' {
		if err := s.retained.set(m, s.b.now(), w); err != nil {
			return err
		}
	}
	hits := s.tree.match(m.Topic, from)
	for _, h := range hits.list {
		if h.group != nil {
			h.group.deliver(m, h, w)
		} else {
			h.session.deliver(m, h.qos, m.Retain && h.asPublished, w)
		}
	}
	hits.free()
	if work == nil {
		return nil
	}
	if err := s.begin(work, m, w); err != nil && fleet.KindOf(err) != fleet.KindLimit {
		return err
	}
	return nil
}

// load reads what the journal keeps of the scope, before anybody uses it.
func (s *space) load(ctx context.Context) error {
	if s.loaded.Load() {
		return nil
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.loaded.Load() {
		return nil
	}
	if s.b.keeper != nil {
		saved, err := s.b.keeper.journal.Load(ctx, s.scope)
		if err != nil {
			return fmt.Errorf("reading the sessions of account %s: %w", s.scope.Account, err)
		}
		s.resume(s.restore(saved))
	}
	s.loaded.Store(true)
	return nil
}

// restore makes everything as it was. Whoever was connected when the power went has the whole time of their session again, since
// nobody knows when that was (iot-core spec 6.6: never shorter). It returns what rules have not finished with.
func (s *space) restore(saved *Saved) (left []SavedMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.b.now()
	over := map[string]bool{}
	for _, r := range saved.Sessions {
		until := r.Until
		if until.IsZero() {
			until = now.Add(r.Expiry)
		}
		if r.Expiry == 0 || !until.After(now) {
			over[r.Client] = true
			s.keep(Change{Kind: DropSession, Session: SavedSession{Client: r.Client}}, nil)
			continue
		}
		sess := newSession(s, r.Client, r.Version)
		sess.durable, sess.expiry, sess.until = true, r.Expiry, until
		s.b.wheel.set(&sess.timer, until.Sub(now))
		if r.Until.IsZero() {
			sess.save(nil)
		}
	}
	for _, r := range saved.Subscriptions {
		if sess := s.sessions[r.Client]; sess != nil {
			sess.restore(&r)
		}
	}
	groups := s.tree.groups()
	for _, r := range saved.Messages {
		if r.Owner == rulesOwner {
			left = append(left, r)
			s.ruled.Store(max(s.ruled.Load(), r.Number))
			continue
		}
		o := outgoing{message: r.Message, number: r.Number, qos: r.QoS, retain: r.Retain}
		if sess := s.sessions[r.Owner]; sess != nil {
			sess.queue, sess.lastNumber = append(sess.queue, o), r.Number
			s.hold(o.message.Size())
		} else if g := groups[r.Owner]; g != nil {
			o.group = g
			g.queue, g.lastNumber = append(g.queue, o), r.Number
			s.hold(o.message.Size())
		} else if !over[r.Owner] { // a group without members
			over[r.Owner] = true
			s.keep(Change{Kind: DropSession, Session: SavedSession{Client: r.Owner}}, nil)
		}
	}
	for _, r := range saved.Retained {
		s.retained.restore(&r, now)
	}
	return left
}

// restore adds a subscription that the session had.
func (s *session) restore(r *SavedSubscription) {
	share, filter, err := checkFilter(r.Filter)
	if err != nil {
		return // of another version of ours
	}
	sub := &subscription{session: s, filter: filter, share: share, qos: r.QoS, noLocal: r.NoLocal, asPublished: r.AsPublished}
	s.subs = append(s.subs, sub)
	s.space.subs.Add(1)
	if share != "" {
		s.shared++
	}
	s.space.tree.add(sub)
}
