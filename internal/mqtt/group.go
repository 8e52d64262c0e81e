package mqtt

import (
	"math/rand/v2"
	"slices"
	"sync"
)

// A group is the members of one share name and filter. Each message has one receiver among them. QoS 1 messages that nobody can
// take now wait in the group, for whichever member has room first (iot-core spec 6.13); while a member is at work on one it stays
// the group's, and goes to another when that member leaves without a PUBACK. The journal keeps the messages of a group with
// persistent members under the group's name.
type group struct {
	leaf    // its members, in the tree
	space   *space
	name    string // the filter, "$share/name/" included
	durable int    // members that the journal knows; tree.mu guards it

	mu         sync.Mutex
	queue      []outgoing // by number, as far as they have one
	lastNumber int64
	gone       bool
	looked     int64 // the last tick in which the queue was looked through for what has expired
}

// member picks who gets a message: a random member that is connected, nil if none is. The tree is locked.
func (g *group) member() *subscription {
	if len(g.subs) == 0 {
		return nil
	}
	first := rand.IntN(len(g.subs))
	for i := range g.subs {
		if s := g.subs[(first+i)%len(g.subs)]; s.session.online.Load() {
			return s
		}
	}
	return nil
}

// deliver gives a message to the member that was picked, or has it wait for any.
func (g *group) deliver(m *Message, h hit, w *wait) {
	o := outgoing{message: m, qos: min(m.QoS, h.qos), retain: m.Retain && h.asPublished, group: g}
	if m.QoS == 0 || h.session != nil && h.qos == 0 {
		if h.session != nil {
			h.session.deliver(m, 0, o.retain, nil)
		}
		return
	}
	o.qos = 1
	if h.durable {
		if !g.register(&o, w) {
			return
		}
	}
	if h.session != nil && h.session.offer(o) {
		return
	}
	if g.enqueue(o) {
		g.serve() // somebody may have got room meanwhile, or gets it in a second
	}
}

// register has the journal keep a message of the group.
func (g *group) register(o *outgoing, w *wait) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return false
	}
	g.lastNumber++
	o.number = g.lastNumber
	o.entry = g.space.keepMessage(g.name, o, w)
	return true
}

// enqueue has a message wait. What finds no room is dropped, the new before the old.
func (g *group) enqueue(o outgoing) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return false
	}
	if len(g.queue) >= g.space.b.cfg.Queue {
		g.dropExpired()
	}
	if len(g.queue) >= g.space.b.cfg.Queue || !g.space.reserve(o.message.Size()) {
		g.space.b.dropped.Add(1)
		g.drop(&o)
		return false
	}
	g.queue = append(g.queue, o)
	return true
}

// dropExpired is session.dropExpired for what waits in the group, which is locked.
func (g *group) dropExpired() {
	tick, now := g.space.b.wheel.now(), g.space.b.now()
	if tick == g.looked {
		return
	}
	g.looked = tick
	g.queue = slices.DeleteFunc(g.queue, func(o outgoing) bool {
		if !o.message.expired(now) {
			return false
		}
		g.space.release(o.message.Size())
		g.drop(&o)
		return true
	})
}

// forget says that a message is done with.
func (g *group) forget(o *outgoing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(o)
}

// drop is forget for who has the lock. The journal has forgotten all messages of a group that is gone, and there may be another of
// its name.
func (g *group) drop(o *outgoing) {
	if !g.gone {
		g.space.b.keeper.forget(o.entry, g.space.scope, g.name, o.number)
	}
}

// takeBack is enqueue for a message that a member leaves unacknowledged: it was accepted before, and has its old place.
func (g *group) takeBack(o outgoing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return
	}
	g.space.hold(o.message.Size())
	at := 0
	for at < len(g.queue) && g.queue[at].number < o.number {
		at++
	}
	g.queue = slices.Insert(g.queue, at, o)
}

// waits reports whether there is a message to take.
func (g *group) waits() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue) > 0
}

// next takes the first message that waits.
func (g *group) next() (o outgoing, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return o, false
	}
	o = g.queue[0]
	g.queue[0] = outgoing{}
	if g.queue = g.queue[1:]; len(g.queue) == 0 {
		g.queue = nil
	}
	g.space.release(o.message.Size())
	return o, true
}

// serve lets connected members take what waits.
func (g *group) serve() {
	for _, sub := range g.connected() {
		s := sub.session
		s.mu.Lock()
		if c := s.conn; c != nil && !s.opening && len(s.queue) == 0 {
			s.pull(c, g, sub.qos)
		}
		s.mu.Unlock()
	}
}

func (g *group) connected() (list []*subscription) {
	g.space.tree.mu.RLock()
	defer g.space.tree.mu.RUnlock()
	for _, s := range g.subs {
		if s.session.online.Load() {
			list = append(list, s)
		}
	}
	return list
}

// end drops what waits in a group without members. The tree is locked.
func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
	for _, o := range g.queue {
		g.space.release(o.message.Size())
	}
	g.queue = nil
	if g.lastNumber > 0 {
		g.space.keep(Change{Kind: DropSession, Session: SavedSession{Client: g.name}}, nil)
	}
}

// offer gives the session's client a message of a group, if it can take it now and none waits before it. Where rates bound how fast
// waiting messages are taken, new ones go first, as a session's own do: else a client that is sent more than that would never catch up.
func (s *session) offer(o outgoing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.opening || len(s.queue) > 0 || !s.room(s.conn) || s.conn.rates == nil && o.group.waits() || !s.conn.maySend() {
		return false
	}
	s.transmit(s.conn, o, nil)
	return true
}

// pull takes messages of a group while there is room. The session is locked.
func (s *session) pull(c *conn, g *group, qos byte) {
	for s.room(c) && g.waits() {
		if c.rates != nil && !(c.rates.shared.take(s.space.b.now(), s.space.b.cfg.Limits.SharedReplay, 1) && c.maySend()) {
			s.later()
			return
		}
		o, ok := g.next()
		if !ok {
			return
		}
		if o.qos = min(o.qos, qos); o.qos > 0 {
			s.transmit(c, o, nil)
			continue
		}
		may, unknown := s.mayReceive(c, &o)
		if unknown != nil {
			g.takeBack(o)
			return
		}
		if may {
			c.sendMessage(&o, s.space.b.now())
		}
		s.forget(&o)
	}
}
