package mqtt

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// publish handles a PUBLISH of the client (iot-core spec 5.9, 6.7). An error ends the connection.
func (c *conn) publish(p *packet) error {
	c.b.received.Add(1)
	c.refused = nil
	err := c.take(p)
	if c.id.Published != nil && p.message.Topic != "" {
		if err != nil {
			c.refused = err
		}
		c.id.Published(p.message, c.refused)
	}
	return err
}

func (c *conn) take(p *packet) error {
	m := p.message
	if m.QoS == 2 {
		return clientError(codeQoS, "a PUBLISH at QoS 2, which is not supported")
	}
	if err := c.admitPublish(p); err != nil {
		return err
	}
	if err := c.resolveAlias(p); err != nil {
		return err
	}
	if !c.admitMessage() {
		return c.drop(p)
	}
	if len(m.Payload) > MaxPayload {
		return clientError(codeTooLarge, "a payload of %d bytes: at most %d are allowed", len(m.Payload), MaxPayload)
	}
	if err := fleet.CheckTopic(m.Topic); err != nil {
		return c.refusePublish(p, clientError(codeTopicInvalid, "%v", err))
	}
	if err := c.id.Access.Publish(m.Topic, m.Retain); err != nil {
		return c.refusePublish(p, refusal(err))
	}
	if p.life > 0 {
		m.Expires = c.b.now().Add(p.life)
	}
	m.Origin = c.origin()
	if m.Topic[0] == '$' {
		return c.publishReserved(p)
	}
	return c.accept(p, func(w *wait) error { return c.sess.space.publish(m, c.sess, w) })
}

// accept routes a message and acknowledges it, as soon as it is safe.
func (c *conn) accept(p *packet, route func(*wait) error) error {
	if p.message.QoS == 0 {
		return c.overLimit(p, route(nil))
	}
	var w wait
	if err := route(&w); err != nil {
		return c.overLimit(p, err)
	}
	if w.t != nil {
		c.pubackAfter(p, w.t)
	} else {
		c.puback(p, codeSuccess, "")
	}
	return nil
}

// origin tells rules who publishes; nil without rules. The reader asks, and whoever ends the connection, for the will.
func (c *conn) origin() *Origin {
	if c.b.cfg.Rules == nil {
		return nil
	}
	if o := c.from.Load(); o != nil {
		return o
	}
	by := c.client.Load()
	o := &Origin{Client: by.ID, Principal: by.Principal, Address: by.Address}
	c.from.Store(o)
	return o
}

// resolveAlias replaces a topic alias by the topic that it stands for, or learns it (MQTT 5.0 section 3.3.2.3.4). From here on
// the message has its real topic, so that nothing is checked under the alias.
func (c *conn) resolveAlias(p *packet) error {
	if p.alias == 0 {
		if p.message.Topic == "" && c.version == 5 {
			return protocolError("a PUBLISH without topic and without topic alias")
		}
		return nil
	}
	if p.message.Topic == "" {
		if int(p.alias) > len(c.aliases) || c.aliases[p.alias-1] == "" {
			return protocolError("topic alias %d is not known", p.alias)
		}
		p.message.Topic = c.aliases[p.alias-1]
		return nil
	}
	if c.aliases == nil {
		c.aliases = make([]string, MaxAliases)
	}
	c.aliases[p.alias-1] = ""
	if len(p.message.Topic) <= maxAliased {
		c.aliases[p.alias-1] = p.message.Topic
	}
	return nil
}

// refusePublish answers a PUBLISH that may not be: MQTT 5 clients get a PUBACK if they asked for one and stay; everybody else
// loses the connection.
func (c *conn) refusePublish(p *packet, how End) error {
	if c.version != 5 || p.message.QoS == 0 {
		return how
	}
	c.refused = how
	c.puback(p, how.Code, how.Text)
	return nil
}

// overLimit answers a PUBLISH that was well but finds no room: MQTT 5 clients hear of it, others get no PUBACK.
func (c *conn) overLimit(p *packet, err error) error {
	if err == nil {
		return nil
	}
	if fleet.KindOf(err) != fleet.KindLimit {
		c.b.log.Error("publish failed", "topic", p.message.Topic, "error", err)
		return End{Reason: ServerError, Code: codeUnspecified, Text: "the message could not be stored"}
	}
	c.refused = err
	if c.version == 5 {
		c.puback(p, codeQuota, err.Error())
	}
	return nil
}

// drop discards a message beyond the limits: MQTT 5 clients hear of it, others get no PUBACK (iot-core spec 6.7).
func (c *conn) drop(p *packet) error {
	const why = "more messages per second than are allowed"
	c.refused = End{Reason: Throttled, Code: codeQuota, Text: why}
	if c.version == 5 {
		c.puback(p, codeQuota, why)
	}
	return nil
}

// publishReserved hands a message on a reserved topic to its handler. It is acknowledged when it is accepted, not when it is
// answered (provisioning spec 3.2).
func (c *conn) publishReserved(p *packet) error {
	m := p.message
	h := c.b.handler(m.Topic)
	ingested := ingested(m.Topic)
	if h == nil && !ingested {
		return clientError(codeTopicInvalid, "nothing can be published to the reserved topic %s", m.Topic)
	}
	if m.Retain {
		return clientError(codeTopicInvalid, "a message on the reserved topic %s cannot be retained", m.Topic)
	}
	if ingested {
		return c.accept(p, func(w *wait) error { return c.sess.space.ingest(m, w) })
	}
	c.puback(p, codeSuccess, "")
	c.request(h, m)
	return nil
}

// handler returns the handler with the longest prefix of topic, nil if there is none.
func (b *Broker) handler(topic string) (h Handler) {
	best := 0
	for prefix, candidate := range b.cfg.Reserved {
		if len(prefix) > best && strings.HasPrefix(topic, prefix) {
			h, best = candidate, len(prefix)
		}
	}
	return h
}
