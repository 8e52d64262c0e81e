package mqtt

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A session is what outlives a connection: the subscriptions of a client id and the QoS 1 messages that wait for it. A clean
// session lives as long as its connection.
type session struct {
	space *space
	id    string // client id

	online atomic.Bool // somebody is connected and has its CONNACK; for readers without the lock

	mu         sync.Mutex
	conn       *conn // nil while the client is away
	opening    bool  // conn waits for the journal: its CONNACK is not out
	durable    bool  // the journal keeps it
	gone       bool  // discarded: nothing is added any more
	version    byte
	expiry     time.Duration // how long it stays when the client is away
	subs       []*subscription
	shared     int        // of subs
	window     int        // QoS 1 messages that may be unacknowledged
	inFlight   []outgoing // sent and not acknowledged, oldest first
	queue      []outgoing // waiting: for the client, or for a place in the window
	lastID     uint16
	lastNumber int64     // of a durable message
	timer      timer     // runs while the client is away
	until      time.Time // when it is to be discarded then
	replay     bool      // the limits hold back what waited for the client
	pace       *timer    // for what a rate has held back
	pacing     bool      // pace runs
	looked     int64     // the last tick in which the queue was looked through for what has expired
}

// An outgoing is a message on its way to one session.
type outgoing struct {
	message *Message
	group   *group    // whose message it is; nil: the session's own
	entry   *entry    // of a durable message: on its way into the journal
	number  int64     // of a durable message; 0: the journal does not know it
	tries   time.Time // when it was sent first
	id      uint16    // packet id, once sent at QoS 1
	qos     byte
	retain  bool
	private bool // an answer to a reserved request: it dies with the connection that asked
}

// deliver gives the session a message that one of its subscriptions selected. w waits until it is kept, if it has to be.
func (s *session) deliver(m *Message, qos byte, retain bool, w *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := outgoing{message: m, qos: min(m.QoS, qos), retain: retain}
	if s.conn == nil || s.opening {
		s.enqueue(o, w)
		return
	}
	s.push(s.conn, o, w)
}

// push sends a message to the connected client, or has it wait. It reports false if it does neither. The session is locked.
func (s *session) push(c *conn, o outgoing, w *wait) bool {
	if o.qos == 0 {
		may, _ := s.mayReceive(c, &o)
		return may && !c.clogged() && c.maySend() && c.sendMessage(&o, s.space.b.now())
	}
	if len(s.queue) > 0 && !s.replay || !s.room(c) {
		kept := s.enqueue(o, w)
		s.drain(c) // there may be room meanwhile
		return kept
	}
	if !o.private && !c.maySend() {
		kept := s.enqueue(o, w)
		s.later()
		return kept
	}
	return s.transmit(c, o, w)
}

// room reports whether another QoS 1 message may be sent now. A message that the client has not acknowledged for an hour is given
// up (iot-core spec 6.7). The session is locked.
func (s *session) room(c *conn) bool {
	if len(s.inFlight) >= s.window && s.space.b.now().Sub(s.inFlight[0].tries) >= retryFor {
		s.forget(&s.inFlight[0])
		s.inFlight = append(s.inFlight[:0], s.inFlight[1:]...)
	}
	return len(s.inFlight) < s.window && !c.clogged()
}

// transmit sends a QoS 1 message now, and has it kept before its publisher is told. Where nobody can tell whether the client may have
// it, the connection ends and the message is the session's still. It reports false if the message is not for the client. The session
// is locked.
func (s *session) transmit(c *conn, o outgoing, w *wait) bool {
	may, unknown := s.mayReceive(c, &o)
	if !may && unknown == nil {
		s.forget(&o)
		return false
	}
	o.id = s.nextID()
	now := s.space.b.now()
	if o.tries.IsZero() {
		o.tries = now
	}
	if may && !c.sendMessage(&o, now) {
		s.forget(&o)
		return false
	}
	s.keep(&o, w)
	s.inFlight = append(s.inFlight, o)
	return true
}

// keep puts a message of a durable session into the journal, once.
func (s *session) keep(o *outgoing, w *wait) {
	if !s.durable || o.private || o.number > 0 || o.group != nil {
		return
	}
	s.lastNumber++
	o.number = s.lastNumber
	o.entry = s.space.keepMessage(s.id, o, w)
}

// forget says that a message is done with: acknowledged, expired or not to be delivered.
func (s *session) forget(o *outgoing) {
	if o.group != nil {
		o.group.forget(o)
		return
	}
	s.space.b.keeper.forget(o.entry, s.space.scope, s.id, o.number)
}

// mayReceive asks at the last moment: a message may have waited while permissions changed or its life ended (iot-core spec 5.9:
// what may not be received is not delivered, silently). An error is ours and ends the connection: it says nothing about the message.
func (s *session) mayReceive(c *conn, o *outgoing) (may bool, err error) {
	if o.message.expired(s.space.b.now()) {
		return false, nil
	}
	err = c.id.Access.Receive(o.message.Topic)
	if err == nil || fleet.KindOf(err) == fleet.KindDenied {
		return err == nil, nil
	}
	if c.how.Load() == nil {
		go c.end(refusal(err)) // it wants the session's lock
	}
	return false, err
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

// enqueue has a message wait, and reports whether it does. When there is no room the new message is dropped (iot-core spec 6.6). QoS 0
// never waits.
func (s *session) enqueue(o outgoing, w *wait) bool {
	if o.qos == 0 || s.gone {
		return false
	}
	if len(s.queue) >= s.space.b.cfg.Queue {
		s.dropExpired()
	}
	if len(s.queue) >= s.space.b.cfg.Queue || !s.space.reserve(o.message.Size()) {
		s.space.b.dropped.Add(1)
		s.forget(&o)
		return false
	}
	s.keep(&o, w)
	s.queue = append(s.queue, o)
	return true
}

// dropExpired forgets messages whose life has ended while they waited, so that they keep no place from others. It looks for them once a
// tick: what comes faster finds the same.
func (s *session) dropExpired() {
	tick, now := s.space.b.wheel.now(), s.space.b.now()
	if tick == s.looked {
		return
	}
	s.looked = tick
	waiting := s.queue
	s.queue = nil
	s.sift(waiting, func(o *outgoing) bool { return !o.message.expired(now) })
}

// acknowledge takes a PUBACK. One that belongs to nothing is ignored.
func (s *session) acknowledge(c *conn, id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(id); i >= 0 && s.conn == c {
		s.forget(&s.inFlight[i])
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

// drain sends what waits, then what waits for any member of the session's groups. The session is locked.
func (s *session) drain(c *conn) {
	if s.opening {
		return
	}
	n := 0
	for n < len(s.queue) && s.room(c) {
		if c.rates != nil && !s.paced(c, &s.queue[n]) {
			break
		}
		s.space.release(s.queue[n].message.Size())
		s.transmit(c, s.queue[n], nil)
		n++
	}
	clear(s.queue[:n])
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue, s.replay = nil, false
	}
	if s.shared == 0 || len(s.queue) > 0 {
		return
	}
	for _, sub := range s.subs {
		if sub.group != nil {
			s.pull(c, sub.group, sub.qos)
		}
	}
}

// paced reports whether the limits let a message that waits go now; if not it will be tried again.
func (s *session) paced(c *conn, o *outgoing) bool {
	if o.private || (!s.replay || c.rates.replay.take(s.space.b.now(), s.space.b.cfg.Limits.Replay, 1)) && c.maySend() {
		return true
	}
	s.later()
	return false
}

// setExpiry changes how long the session stays when its connection ends.
func (s *session) setExpiry(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiry = d
}

// detach takes the connection off its session. The session is put aside until it expires, or discarded. What other members of its
// groups may have instead goes to them.
func (s *session) detach(c *conn) {
	for _, g := range s.leave(c) {
		g.serve()
	}
}

func (s *session) leave(c *conn) []*group {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return nil
	}
	s.space.open.Add(-1)
	if c.client.Load() != nil {
		s.space.depart(s.id, departure{s.space.b.now(), c.ended().Reason, s.expiry == 0, s.expiry})
	}
	s.conn, s.opening = nil, false
	s.online.Store(false)
	groups := s.giveBack()
	if s.expiry == 0 {
		s.discard(nil)
		return groups
	}
	s.putAside()
	s.until = s.space.b.now().Add(s.expiry)
	s.space.b.wheel.set(&s.timer, s.expiry)
	s.save(nil)
	return groups
}

// giveBack returns unacknowledged messages of groups to them, and the groups.
func (s *session) giveBack() (groups []*group) {
	var own []outgoing
	for _, o := range slices.Backward(s.inFlight) { // the first comes to stand before the others
		if o.group != nil {
			o.group.takeBack(o)
			groups = append(groups, o.group)
		}
	}
	if groups == nil {
		return nil
	}
	for _, o := range s.inFlight {
		if o.group == nil {
			own = append(own, o)
		}
	}
	s.inFlight = own
	slices.SortFunc(groups, func(a, b *group) int { return strings.Compare(a.name, b.name) })
	return slices.Compact(groups)
}

// save has the journal keep the session as it is: with the end of its time while the client is away.
func (s *session) save(w *wait) {
	if !s.durable {
		return
	}
	saved := SavedSession{Client: s.id, Version: s.version, Expiry: s.expiry}
	if s.conn == nil {
		saved.Until = s.until
	}
	s.space.keep(Change{Kind: PutSession, Session: saved}, w)
}

// putAside makes the queue what is to be sent on resume: what was in flight first, without what is nobody else's business.
func (s *session) putAside() {
	sent, waiting := s.inFlight, s.queue
	s.inFlight, s.queue = nil, nil
	for _, o := range sent {
		if !o.private {
			s.enqueue(o, nil)
		}
	}
	s.sift(waiting, func(o *outgoing) bool { return !o.private })
}

// sift appends to the queue those of the waiting messages that are worth it; the others no longer count as stored.
func (s *session) sift(waiting []outgoing, worth func(*outgoing) bool) {
	for _, o := range waiting {
		if worth(&o) {
			s.queue = append(s.queue, o)
		} else {
			s.space.release(o.message.Size())
			s.forget(&o)
		}
	}
}

// dropTried forgets messages that have been tried for too long (iot-core spec 6.7).
func (s *session) dropTried() {
	waiting, now := s.queue, s.space.b.now()
	s.queue = nil
	s.sift(waiting, func(o *outgoing) bool { return o.tries.IsZero() || now.Sub(o.tries) < retryFor })
}

// discard ends the session for good. Its space and the session are locked.
func (s *session) discard(w *wait) {
	if s.gone {
		return
	}
	s.gone = true
	s.space.b.wheel.stop(&s.timer)
	if s.pace != nil {
		s.space.b.wheel.stop(s.pace)
	}
	s.space.subs.Add(-int64(len(s.subs)))
	if s.space.sessions[s.id] == s {
		delete(s.space.sessions, s.id)
	}
	for _, sub := range s.subs {
		s.space.tree.remove(sub)
	}
	for _, o := range s.queue {
		s.space.release(o.message.Size())
	}
	s.subs, s.queue, s.inFlight, s.shared = nil, nil, nil, 0
	if s.durable {
		s.space.keep(Change{Kind: DropSession, Session: SavedSession{Client: s.id}}, w)
	}
}

// expire is called when the session's time may be over.
func (s *session) expire() {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil && !s.space.b.now().Before(s.until) { // not resumed meanwhile
		s.discard(nil)
	}
}
