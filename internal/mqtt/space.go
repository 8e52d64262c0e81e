package mqtt

import (
	"sync"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A space is everything that one scope's clients share. What is in one space is invisible in all others.
type space struct {
	b     *Broker
	scope fleet.Scope

	mu       sync.Mutex
	sessions map[string]*session // by client id

	tree     tree
	retained retained
	stored   atomic.Int64 // bytes of messages in the queues of sessions
}

func newSpace(b *Broker, scope fleet.Scope) *space {
	s := &space{b: b, scope: scope, sessions: make(map[string]*session)}
	s.tree.init()
	s.retained.init(b)
	return s
}

// take gives c the session of its client id and calls accept while nothing can be delivered yet. A connection that holds the id
// is ended first. present says whether an earlier session goes on (iot-core spec 6.4, 6.6).
func (s *space) take(c *conn, client *Client, clean bool, window int, accept func(present bool)) *session {
	for {
		s.mu.Lock()
		old := s.sessions[client.ID]
		if holder := old.holder(); holder != nil {
			s.mu.Unlock()
			holder.end(End{Reason: DuplicateClient, Code: codeTakenOver, Text: "the client id connected again"})
			continue
		}
		defer s.mu.Unlock()
		present := old != nil && !clean && old.version == client.Version // no resume across protocol versions
		sess := old
		if !present {
			if old != nil {
				old.mu.Lock()
				old.discard()
				old.mu.Unlock()
			}
			sess = &session{space: s, id: client.ID, version: client.Version}
			sess.timer.fire = func() { go sess.expire() }
			s.sessions[client.ID] = sess
		}
		sess.mu.Lock()
		defer sess.mu.Unlock()
		s.b.wheel.stop(&sess.timer)
		sess.dropTried()
		sess.conn, sess.window, sess.expiry = c, window, client.Expiry
		sess.online.Store(true)
		accept(present)
		return sess
	}
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
	if s.stored.Add(n) > s.b.cfg.QueueBytes {
		s.stored.Add(-n)
		return false
	}
	return true
}

func (s *space) release(n int64) { s.stored.Add(-n) }

// publish routes a message to the sessions that subscribe to its topic, and keeps it if it is to be retained. from is the
// publisher's session, nil for ours. When it returns every session has the message, in the order of the publisher's calls; a
// durable store would commit here, before the publisher's PUBACK.
func (s *space) publish(m *Message, from *session) error {
	if m.Retain && m.Topic[0] != '$' {
		if err := s.retained.set(m, s.b.now()); err != nil {
			return err
		}
	}
	hits := s.tree.match(m.Topic, from)
	for _, h := range hits.list {
		h.session.deliver(m, h.qos, m.Retain && h.asPublished)
	}
	hits.free()
	return nil
}
