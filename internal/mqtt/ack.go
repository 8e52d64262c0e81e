package mqtt

import (
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// acks are the PUBACKs that a connection owes its client. They leave in the order of the messages (MQTT-4.6.0-2), each when its
// message is durable. The reader does not wait for them, so that many messages of one client share a commit.
type acks struct {
	mu    sync.Mutex
	room  sync.Cond
	owed  []ack
	first uint64 // number of owed[0]
}

type ack struct {
	id   uint16
	code byte
	text string
	done bool
}

// puback acknowledges a PUBLISH at QoS 1, behind those that are owed.
func (c *conn) puback(p *packet, code byte, text string) {
	if p.message.QoS == 0 {
		return
	}
	a := ack{id: p.id, code: code, text: text, done: true}
	q := c.acks.Load()
	if q == nil {
		c.sendPuback(&a)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.owed = append(q.owed, a)
	c.payAcks(q)
}

// pubackAfter acknowledges a PUBLISH when the ticket is settled.
func (c *conn) pubackAfter(p *packet, t *ticket) {
	q := c.acks.Load()
	if q == nil {
		q = &acks{}
		q.room.L = &q.mu
		c.acks.Store(q)
	}
	q.mu.Lock()
	n := q.first + uint64(len(q.owed))
	q.owed = append(q.owed, ack{id: p.id})
	q.mu.Unlock()
	t.done = func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.owed[n-q.first].done = true
		c.payAcks(q)
	}
	t.release()
}

// payAcks sends what may be sent. q is locked.
func (c *conn) payAcks(q *acks) {
	n := 0
	for n < len(q.owed) && q.owed[n].done {
		c.sendPuback(&q.owed[n])
		n++
	}
	if n == 0 {
		return
	}
	q.first += uint64(n)
	if q.owed = q.owed[n:]; len(q.owed) == 0 {
		q.owed = nil
	}
	q.room.Broadcast()
}

func (c *conn) sendPuback(a *ack) {
	c.send(packets.Puback, func(pk *packets.Packet) {
		pk.PacketID, pk.ReasonCode = a.id, a.code
		pk.Properties.ReasonString = a.text
	})
}

// admitPublish holds a client to the number of messages that it may have unacknowledged: MQTT 5 clients have been told
// (MQTT-3.3.4-7), of others no more is read until there is room (iot-core spec 6.7).
func (c *conn) admitPublish(p *packet) error {
	q := c.acks.Load()
	if q == nil || p.message.QoS == 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.owed) < MaxInFlight {
		return nil
	}
	if c.version == 5 {
		return clientError(codeReceiveMaximum, "more than %d messages without PUBACK", MaxInFlight)
	}
	c.busy.Store(true)
	for len(q.owed) >= MaxInFlight && c.how.Load() == nil {
		q.room.Wait()
	}
	c.lastSeen.Store(c.b.wheel.now())
	c.busy.Store(false)
	return nil
}

// wake has a reader that waits for room look whether its connection has ended. a may be nil.
func (a *acks) wake() {
	if a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.room.Broadcast()
	}
}

// await waits until what the client is about to be told is durable. It fails if the connection has ended meanwhile.
func (c *conn) await(w *wait) error {
	if w.t == nil {
		return nil
	}
	done := w.channel()
	c.pending.Store(w.t) // end settles it
	if c.how.Load() != nil {
		w.t.settle()
	}
	c.busy.Store(true)
	w.t.release()
	<-done
	c.pending.Store(nil)
	c.lastSeen.Store(c.b.wheel.now())
	c.busy.Store(false)
	if how := c.how.Load(); how != nil {
		return *how
	}
	return nil
}
