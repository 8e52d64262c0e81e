package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Handler serves the requests that clients publish under one reserved prefix. Requests of one connection are served one after
// the other in the order of their arrival, those of different connections at the same time; packets of the connection go on
// being handled meanwhile. A request whose client went away is served nevertheless, since its PUBACK is out.
//
// ctx ends with the broker, Request.Present when the client has gone, too. Whatever the handler wants to say to the client it
// says by Request.Reply.
type Handler func(ctx context.Context, r *Request)

// A Request is a message that a client published to a reserved topic.
type Request struct {
	Client  *Client
	Access  Access // that of the connection
	Message *Message

	conn *conn
}

// Present ends when the connection has. It is for work that is of no use to anybody else.
func (r *Request) Present() context.Context { return r.conn.requests.Load().present }

// ErrUnheard says that nobody hears an answer: the connection has gone, or has no subscription for it, or may not receive it, or takes
// nothing that it is sent.
var ErrUnheard = errors.New("nobody hears the answer")

// TooLarge says that a client does not take packets as large as its answer (MQTT 5 section 3.1.2.11.4: those are not sent).
type TooLarge struct {
	Size  int // bytes of the packet
	Takes int // the Maximum Packet Size that the client announced
}

func (t *TooLarge) Error() string {
	return fmt.Sprintf("the answer is a packet of %d bytes, and the client announced that it takes %d (Maximum Packet Size)", t.Size, t.Takes)
}

// Reply sends m to the connection that made the request and to nobody else: not through the topic tree, not to another session
// of the client, not into storage. QoS is that of the subscription, at most 1 (provisioning spec 3.2). Without an error m was sent or
// waits for its turn on the connection; else it is dropped, and the error is ErrUnheard or a *TooLarge.
func (r *Request) Reply(m *Message) error {
	c := r.conn
	s := c.sess
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || c.how.Load() != nil {
		return ErrUnheard
	}
	qos, ok := s.granted(m.Topic)
	if !ok || c.id.Access.Receive(m.Topic) != nil {
		return ErrUnheard
	}
	o := outgoing{message: m, qos: qos, private: true}
	if n := c.out.enc.over(o, s.space.b.now()); n > 0 {
		return &TooLarge{n, int(c.out.enc.maxPacket)}
	}
	if !s.push(c, o, nil) {
		return ErrUnheard
	}
	return nil
}

// granted returns the highest QoS of the session's own subscriptions that select topic.
func (s *session) granted(topic string) (qos byte, ok bool) {
	for _, sub := range s.subs {
		if sub.share == "" && fleet.TopicMatches(sub.filter, topic) {
			qos, ok = max(qos, sub.qos), true
		}
	}
	return qos, ok
}

// requests is the queue of one connection's reserved requests. A goroutine serves it while there are any.
type requests struct {
	mu      sync.Mutex
	room    sync.Cond
	waiting []func()
	serving bool
	present context.Context
	leave   context.CancelFunc // ends it
}

// request queues a message for its handler. When reservedQueue requests wait already, the reader waits too, and with it
// everything else that the client sends: that client is far ahead of every answer.
func (c *conn) request(h Handler, m *Message) {
	q := c.requests.Load()
	if q == nil {
		q = &requests{}
		q.room.L = &q.mu
		q.present, q.leave = context.WithCancel(c.b.ctx)
		c.requests.Store(q)
	}
	r := &Request{Client: c.client.Load(), Access: c.id.Access, Message: m, conn: c}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) >= reservedQueue {
		c.busy.Store(true)
		q.room.Wait()
		c.lastSeen.Store(c.b.wheel.now())
		c.busy.Store(false)
	}
	q.waiting = append(q.waiting, func() { h(c.b.ctx, r) })
	if !q.serving {
		q.serving = true
		go q.serve()
	}
}

func (q *requests) serve() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) > 0 {
		next := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.room.Broadcast()
		q.mu.Unlock()
		next()
		q.mu.Lock()
	}
	q.waiting, q.serving = nil, false
	q.room.Broadcast()
}

// abandon says that the client has gone. q may be nil.
func (q *requests) abandon() {
	if q != nil {
		q.leave()
	}
}

// wait returns when all requests of a connection that sends no more have been served. q may be nil.
func (q *requests) wait() {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.serving {
		q.room.Wait()
	}
}
