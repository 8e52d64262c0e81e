package mqtt

import (
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// subscribe handles a SUBSCRIBE (iot-core spec 5.9, 6.8). An error ends the connection.
func (c *conn) subscribe(p *packet) error {
	if err := c.owe(len(p.filters)); err != nil {
		return err
	}
	codes := make([]byte, len(p.filters))
	var w wait
	var denied *End
	var granted []*subscription
	var texts, refused []string
	var why End
	for i := range p.filters {
		sub := &p.filters[i]
		how, err := c.admit(sub)
		if err != nil {
			return err
		}
		if how == nil {
			how = c.sess.subscribe(c, sub, &w)
		}
		if how != nil {
			codes[i] = c.subackCode(how.Code)
			refused, why = append(refused, p.filters[i].full()), *how
			texts = append(texts, how.Text)
			if how.Reason == AuthError || how.Reason == ServerError {
				denied = how
			}
			continue
		}
		codes[i] = sub.qos
		granted = append(granted, sub)
	}
	if err := c.await(&w); err != nil {
		return err
	}
	c.send(packets.Suback, func(pk *packets.Packet) {
		pk.PacketID, pk.ReasonCodes = p.id, codes
		pk.Properties.ReasonString = strings.Join(texts, "; ")
	})
	c.sendRetained(granted)
	c.sess.resume(c) // messages may wait in a group that it has joined
	c.reportFilters(Subscribed, granted)
	if len(refused) > 0 {
		c.notify(Event{Kind: SubscribeRefused, Topics: refused, End: why})
	}
	if denied != nil && (denied.Reason == ServerError || c.version != 5 && !c.b.cfg.Denied.Keep) {
		return *denied
	}
	return nil
}

// subackCode is the code for a filter that was not granted: 3.1.1 has one only.
func (c *conn) subackCode(code byte) byte {
	if c.version != 5 {
		return codeUnspecified
	}
	return code
}

// admit checks one filter and asks whether the client may subscribe to it. how says why not; err ends the connection.
func (c *conn) admit(sub *subscription) (how *End, err error) {
	full := sub.filter
	refuse := func(e End) (*End, error) { return &e, nil }
	share, filter, invalid := checkFilter(full)
	switch {
	case invalid != nil:
		return refuse(clientError(codeFilterInvalid, "%v", invalid))
	case share != "" && sub.noLocal:
		return nil, protocolError("a shared subscription with No Local")
	case filter[0] == '$' && !reservedFilter(filter):
		return nil, clientError(codeFilterInvalid, "nothing can be subscribed to at the reserved filter %s", filter)
	}
	if err := c.id.Access.Subscribe(full); err != nil {
		return refuse(refusal(err))
	}
	sub.share, sub.filter = share, filter
	sub.qos = min(sub.qos, 1) // QoS 2 is granted as 1 (iot-core spec 6.8)
	return nil, nil
}

// subscribe adds a subscription to the session of c, or replaces that with the same filter. It returns why it did not.
func (s *session) subscribe(c *conn, sub *subscription, w *wait) *End {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return &End{Reason: ClientError, Code: codeUnspecified, Text: "the connection is ending"}
	}
	if s.durable && s.space.b.keeper.stuck() {
		return &End{Reason: ServerError, Code: codeUnspecified, Text: "subscriptions cannot be stored now"}
	}
	sub.session = s
	i := s.index(sub)
	switch {
	case i >= 0:
		sub.existed = true
		s.space.tree.replace(s.subs[i], sub)
		s.subs[i] = sub
	case len(s.subs) >= MaxSubscribed:
		return &End{Reason: Throttled, Code: codeQuota, Text: "the connection has 50 subscriptions, and no more are allowed"}
	case !s.space.admitSubscription():
		return &End{Reason: Throttled, Code: codeQuota, Text: "more subscriptions than are allowed"}
	default:
		s.space.subs.Add(1)
		s.subs = append(s.subs, sub)
		if sub.share != "" {
			s.shared++
		}
		s.space.tree.add(sub)
	}
	if s.durable {
		s.space.keep(Change{Kind: PutSubscription, Subscription: SavedSubscription{
			Client: s.id, Filter: sub.full(), QoS: sub.qos, NoLocal: sub.noLocal, AsPublished: sub.asPublished}}, w)
	}
	return nil
}

func (s *session) index(sub *subscription) int {
	return slices.IndexFunc(s.subs, func(o *subscription) bool { return o.filter == sub.filter && o.share == sub.share })
}

// sendRetained delivers what is retained for new subscriptions: not for wildcards, not for shared ones, and as Retain Handling
// says (MQTT 5.0 section 3.8.3.1).
func (c *conn) sendRetained(granted []*subscription) {
	for _, sub := range granted {
		if sub.share != "" || hasWildcard(sub.filter) || sub.retainHandling == 2 || sub.retainHandling == 1 && sub.existed {
			continue
		}
		if m := c.sess.space.retained.get(sub.filter, c.b.now()); m != nil {
			c.sess.deliver(m, sub.qos, true, nil)
		}
	}
}

// unsubscribe handles an UNSUBSCRIBE. It is always acknowledged. An error ends the connection.
func (c *conn) unsubscribe(p *packet) error {
	if err := c.owe(len(p.filters)); err != nil {
		return err
	}
	var w wait
	codes := make([]byte, len(p.filters))
	var removed []*subscription
	for i := range p.filters {
		if sub := c.sess.unsubscribe(c, p.filters[i].filter, &w); sub != nil {
			removed = append(removed, sub)
		} else {
			codes[i] = codeNoSubscription
		}
	}
	if err := c.await(&w); err != nil {
		return err
	}
	c.send(packets.Unsuback, func(pk *packets.Packet) { pk.PacketID, pk.ReasonCodes = p.id, codes })
	c.reportFilters(Unsubscribed, removed)
	return nil
}

// unsubscribe removes the subscription with the filter, as the client wrote it, and returns it; nil if there was none.
func (s *session) unsubscribe(c *conn, full string, w *wait) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.subs, func(sub *subscription) bool { return sub.full() == full })
	if i < 0 || s.conn != c {
		return nil
	}
	sub := s.subs[i]
	s.subs = slices.Delete(s.subs, i, i+1)
	s.space.subs.Add(-1)
	if sub.share != "" {
		s.shared--
	}
	s.space.tree.remove(sub)
	if s.durable {
		s.space.keep(Change{Kind: DropSubscription, Subscription: SavedSubscription{Client: s.id, Filter: full}}, w)
	}
	return sub
}

func (c *conn) reportFilters(kind EventKind, subs []*subscription) {
	if len(subs) == 0 || c.id.Notify == nil {
		return
	}
	topics := make([]string, len(subs))
	for i, sub := range subs {
		topics[i] = sub.full()
	}
	c.notify(Event{Kind: kind, Topics: topics})
}
