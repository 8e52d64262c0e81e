package mqtt

import (
	"sync"
	"sync/atomic"
	"time"
)

// A session is what outlives a connection: the subscriptions of a client id and the QoS 1 messages that wait for it. A clean
// session lives as long as its connection.
type session struct {
	space *space
	id    string // client id

	online atomic.Bool // conn is not nil; for readers without the lock

	mu       sync.Mutex
	conn     *conn // nil while the client is away
	gone     bool  // discarded: nothing is added any more
	version  byte
	expiry   time.Duration // how long it stays when the client is away
	subs     []*subscription
	window   int        // QoS 1 messages that may be unacknowledged
	inFlight []outgoing // sent and not acknowledged, oldest first
	queue    []outgoing // waiting: for the client, or for a place in the window
	lastID   uint16
	timer    timer     // runs while the client is away
	until    time.Time // when it is to be discarded then
}

// An outgoing is a message on its way to one session.
type outgoing struct {
	message *Message
	id      uint16 // packet id, once sent at QoS 1
	qos     byte
	retain  bool
	private bool      // an answer to a reserved request: it dies with the connection that asked
	tries   time.Time // when it was sent first
}

// deliver gives the session a message that one of its subscriptions selected.
func (s *session) deliver(m *Message, qos byte, retain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := outgoing{message: m, qos: min(m.QoS, qos), retain: retain}
	if s.conn == nil {
		s.enqueue(o)
		return
	}
	s.push(s.conn, o)
}

// push sends a message to the connected client, or has it wait. The session is locked.
func (s *session) push(c *conn, o outgoing) {
	if o.qos == 0 {
		if s.mayReceive(c, &o) && !c.clogged() {
			c.sendMessage(&o, s.space.b.now())
		}
		return
	}
	if len(s.queue) > 0 || len(s.inFlight) >= s.window || c.clogged() {
		s.enqueue(o)
		return
	}
	s.transmit(c, o)
}

// transmit sends a QoS 1 message now. The session is locked.
func (s *session) transmit(c *conn, o outgoing) {
	if !s.mayReceive(c, &o) {
		return
	}
	o.id = s.nextID()
	now := s.space.b.now()
	if o.tries.IsZero() {
		o.tries = now
	}
	if c.sendMessage(&o, now) {
		s.inFlight = append(s.inFlight, o)
	}
}

// mayReceive asks at the last moment: a message may have waited while permissions changed or its life ended (iot-core spec 5.9:
// what may not be received is not delivered, silently).
func (s *session) mayReceive(c *conn, o *outgoing) bool {
	return !o.message.expired(s.space.b.now()) && c.id.Access.Receive(o.message.Topic)
}

// nextID returns a packet id that is not in flight.
func (s *session) nextID() uint16 {
	for {
		s.lastID++
		if s.lastID != 0 && s.find(s.lastID) < 0 {
			return s.lastID
		}
	}
}

func (s *session) find(id uint16) int {
	for i := range s.inFlight {
		if s.inFlight[i].id == id {
			return i
		}
	}
	return -1
}

// enqueue has a message wait. When there is no room the new message is dropped (iot-core spec 6.6). QoS 0 never waits.
func (s *session) enqueue(o outgoing) {
	if o.qos == 0 || s.gone || len(s.queue) >= s.space.b.cfg.Queue || !s.space.reserve(o.message.size()) {
		return
	}
	s.queue = append(s.queue, o)
}

// acknowledge takes a PUBACK. One that belongs to nothing is ignored.
func (s *session) acknowledge(c *conn, id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(id); i >= 0 && s.conn == c {
		s.inFlight = append(s.inFlight[:i], s.inFlight[i+1:]...)
		s.drain(c)
	}
}

// resume sends what waits for the client, as far as the window and the network allow.
func (s *session) resume(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		s.drain(c)
	}
}

// resume is called by the writer when output that had clogged the connection is out.
func (c *conn) resume() {
	if c.client.Load() != nil {
		c.sess.resume(c)
	}
}

func (s *session) drain(c *conn) {
	n := 0
	for n < len(s.queue) && len(s.inFlight) < s.window && !c.clogged() {
		s.space.release(s.queue[n].message.size())
		s.transmit(c, s.queue[n])
		n++
	}
	clear(s.queue[:n])
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
}

// setExpiry changes how long the session stays when its connection ends.
func (s *session) setExpiry(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiry = d
}

// detach takes the connection off its session. The session is put aside until it expires, or discarded.
func (s *session) detach(c *conn) {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	s.conn = nil
	s.online.Store(false)
	if s.expiry == 0 {
		s.discard()
		return
	}
	s.putAside()
	s.until = s.space.b.now().Add(s.expiry)
	s.space.b.wheel.set(&s.timer, s.expiry)
}

// putAside makes the queue what is to be sent on resume: what was in flight first, without what is nobody else's business.
func (s *session) putAside() {
	sent, waiting := s.inFlight, s.queue
	s.inFlight, s.queue = nil, nil
	for _, o := range sent {
		if !o.private {
			s.enqueue(o)
		}
	}
	s.keep(waiting, func(o *outgoing) bool { return !o.private })
}

// keep appends to the queue those of the waiting messages that are worth it; the others no longer count as stored.
func (s *session) keep(waiting []outgoing, worth func(*outgoing) bool) {
	for _, o := range waiting {
		if worth(&o) {
			s.queue = append(s.queue, o)
		} else {
			s.space.release(o.message.size())
		}
	}
}

// dropTried forgets messages that have been tried for too long (iot-core spec 6.7).
func (s *session) dropTried() {
	waiting, now := s.queue, s.space.b.now()
	s.queue = nil
	s.keep(waiting, func(o *outgoing) bool { return o.tries.IsZero() || now.Sub(o.tries) < retryFor })
}

// discard ends the session for good. Its space and the session are locked.
func (s *session) discard() {
	if s.gone {
		return
	}
	s.gone = true
	s.space.b.wheel.stop(&s.timer)
	if s.space.sessions[s.id] == s {
		delete(s.space.sessions, s.id)
	}
	for _, sub := range s.subs {
		s.space.tree.remove(sub)
	}
	for _, o := range s.queue {
		s.space.release(o.message.size())
	}
	s.subs, s.queue, s.inFlight = nil, nil, nil
}

// expire is called when the session's time may be over.
func (s *session) expire() {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil && !s.space.b.now().Before(s.until) { // not resumed meanwhile
		s.discard()
	}
}
