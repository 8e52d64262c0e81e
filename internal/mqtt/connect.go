package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Connect is a client's CONNECT, as its Access gets to see it.
type Connect struct {
	ClientID   string
	Version    byte
	Persistent bool // the session is to outlive the connection, or an earlier one is to be resumed
	Will       *Message
	Username   string // ignored by us; SDKs put their name and version there (iot-core spec 6.1)
	KeepAlive  time.Duration
}

// connect handles the CONNECT packet (iot-core spec 6.4). An error ends the connection; a client that gets a CONNACK for it has
// been sent that.
func (c *conn) connect(ctx context.Context, p *connectPacket) error {
	c.version = p.version
	c.out.mu.Lock()
	c.out.enc = encoder{version: p.version, maxPacket: p.maxPacket, noProblems: p.noProblems}
	c.out.mu.Unlock()
	assigned := false
	if p.clientID == "" && (p.version == 5 || p.clean) {
		p.clientID, assigned = fleet.NewUUID(), true
	}
	if err := checkConnect(p); err != nil {
		return c.refuse(err)
	}
	client := c.newClient(p)
	if err := c.authorize(ctx, p); err != nil {
		if err.Reason == AuthError {
			c.reportRefusal(client, *err)
		}
		return c.refuse(*err)
	}
	return c.attach(client, p, assigned)
}

// checkConnect checks what the protocol and the limits demand of a CONNECT, apart from permission. The Code of its error is that
// of the CONNACK.
func checkConnect(p *connectPacket) error {
	switch {
	case p.authMethod != "":
		return clientError(codeAuthMethod, "enhanced authentication is not supported")
	case p.clientID == "":
		return clientError(codeClientID, "a persistent session needs a client id")
	case len(p.clientID) > MaxClientID:
		return clientError(codeClientID, "the client id has more than %d bytes", MaxClientID)
	case p.clientID[0] == '$':
		return clientError(codeClientID, "client ids that begin with $ are reserved")
	case p.will == nil:
		return nil
	case p.will.QoS == 2:
		return clientError(codeQoS, "the will asks for QoS 2, which is not supported")
	case len(p.will.Payload) > MaxPayload:
		return clientError(codeQuota, "the will has more than %d bytes", MaxPayload)
	case strings.HasPrefix(p.will.Topic, "$"):
		return clientError(codeTopicInvalid, "a will cannot go to the reserved topic %s", p.will.Topic)
	}
	if err := fleet.CheckTopic(p.will.Topic); err != nil {
		return clientError(codeTopicInvalid, "will: %v", err)
	}
	return nil
}

// authorize asks whether the client may connect and leave its will.
func (c *conn) authorize(ctx context.Context, p *connectPacket) *End {
	err := c.id.Access.Connect(ctx, &Connect{
		ClientID: p.clientID, Version: p.version, Persistent: !p.clean || p.expiry > 0, Will: p.will,
		Username: p.username, KeepAlive: p.keepAlive,
	})
	if err == nil && p.will != nil {
		if err = c.id.Access.Publish(p.will.Topic, p.will.Retain); err != nil {
			err = fmt.Errorf("will: %w", err)
		}
	}
	if err == nil {
		return nil
	}
	how := refusal(err)
	return &how
}

// refusal turns the error of an Access into the end of a connection. The text of our own errors is for the log only, so it stays
// out of what the client gets.
func refusal(err error) End {
	if how, ok := errors.AsType[End](err); ok {
		return how
	}
	switch fleet.KindOf(err) {
	case fleet.KindDenied:
		return End{Reason: AuthError, Code: codeNotAuthorized, Text: err.Error()}
	case fleet.KindThrottled:
		return End{Reason: Throttled, Code: codeQuota, Text: err.Error()}
	}
	return End{Reason: ServerError, Code: codeUnspecified, Text: "the server could not decide"}
}

// refuse sends the CONNACK that belongs to the error and returns it.
func (c *conn) refuse(err error) error {
	how := err.(End)
	code := how.Code
	if code == codeSuccess { // nothing is to be said
		return how
	}
	if c.version != 5 {
		switch code {
		case codeClientID:
			code = 2
		case codeUnspecified, codeQuota:
			code = 3 // server unavailable (iot-core spec 6.4)
		case codeNotAuthorized:
			if c.b.cfg.Denied.Connack < 0 {
				return how
			}
			code = byte(c.b.cfg.Denied.Connack)
		default:
			return how // 3.1.1 has no return code for it: the connection is closed (MQTT 3.1.1 section 3.2.2.3)
		}
	}
	c.send(packets.Connack, func(p *packets.Packet) {
		p.ReasonCode = code
		p.Properties.ReasonString = how.Text
	})
	return how
}

func (c *conn) newClient(p *connectPacket) *Client {
	client := &Client{
		Scope: c.id.Scope, ID: p.clientID, Principal: c.id.Principal, Session: fleet.NewUUID(), Address: host(c.nc.RemoteAddr()),
		Version: p.version, Clean: p.clean, KeepAlive: clampKeepAlive(p.keepAlive), Connected: c.b.now(),
	}
	switch {
	case c.id.Brief:
	case p.version == 5:
		client.Expiry = c.b.sessionExpiry(p.expiry)
	case !p.clean:
		client.Expiry = c.b.cfg.SessionExpiry
	}
	return client
}

// host is the address without its port.
func host(a net.Addr) string {
	if a == nil {
		return ""
	}
	if h, _, err := net.SplitHostPort(a.String()); err == nil {
		return h
	}
	return a.String()
}

// clampKeepAlive applies iot-core spec 6.5: 30 to 1200 seconds, and 0 is the longest.
func clampKeepAlive(d time.Duration) time.Duration {
	if d == 0 {
		return maxKeepAlive
	}
	return min(max(d, minKeepAlive), maxKeepAlive)
}

// sessionExpiry caps a session expiry interval that a client asks for.
func (b *Broker) sessionExpiry(seconds uint32) time.Duration {
	return min(time.Duration(seconds)*time.Second, b.cfg.SessionExpiry)
}

func (c *conn) reportRefusal(client *Client, how End) {
	if c.id.Notify != nil {
		c.id.Notify(Event{Kind: ConnectFailed, Client: client, Time: c.b.now(), End: how})
	}
}

// attach makes the connection that of its client id: whoever holds the id is cut off first, then the session of the id is taken
// over or replaced, and the CONNACK is the first packet of the new connection. It fails if the connection has been ended
// meanwhile.
func (c *conn) attach(client *Client, p *connectPacket, assigned bool) error {
	window := MaxInFlight
	if p.receiveMax > 0 {
		window = min(window, int(p.receiveMax))
	}
	c.keepTicks = int64((client.KeepAlive*3/2 + wheelTick - 1) / wheelTick)
	c.lastSeen.Store(c.b.wheel.now())

	sp, err := c.b.open(c.b.ctx, c.id.Scope)
	if err == nil && client.Expiry > 0 && c.b.keeper.stuck() {
		err = errors.New("the journal does not work")
	}
	if err != nil {
		c.b.log.Error("a client cannot have its session", "client", client.ID, "error", err)
		return c.refuse(End{Reason: ServerError, Code: codeUnspecified, Text: "the server cannot keep sessions now"})
	}
	if client.Expiry > 0 && !sp.admitSession(client.ID) {
		return c.refuse(End{Reason: Throttled, Code: codeQuota, Text: "there are as many persistent sessions as are allowed"})
	}
	if c.b.cfg.Limits != (Limits{}) {
		if !sp.admitConnect(client.ID) {
			return c.refuse(End{Reason: Throttled, Code: codeQuota, Text: "more connections per second than are allowed"})
		}
		c.rates = &connRates{}
	}
	var w wait
	c.life.Lock()
	if how := c.how.Load(); how != nil {
		c.life.Unlock()
		return *how
	}
	c.will, c.willLife = p.will, p.willLife
	var present bool
	c.sess, present = sp.take(c, client, p.clean, window, &w)
	c.life.Unlock()

	if err := c.await(&w); err != nil { // what the CONNACK promises is durable
		return err
	}
	c.life.Lock()
	if how := c.how.Load(); how != nil {
		c.life.Unlock()
		return *how
	}
	c.sess.open(c, func() {
		c.client.Store(client)
		c.sendConnack(client, p, present, assigned)
	})
	c.events.Lock() // before life is free: nobody can report the end before the beginning
	defer c.events.Unlock()
	c.life.Unlock()

	c.watch(time.Duration(c.keepTicks) * wheelTick)
	c.report(Event{Kind: Connected})
	c.sess.resume(c)
	return nil
}

// sendConnack accepts the client and tells MQTT 5 clients what we offer (iot-core spec 6.4).
func (c *conn) sendConnack(client *Client, p *connectPacket, present, assigned bool) {
	c.send(packets.Connack, func(pk *packets.Packet) {
		pk.SessionPresent = present
		if p.version != 5 {
			return
		}
		props := &pk.Properties
		props.ServerKeepAlive, props.ServerKeepAliveFlag = uint16(client.KeepAlive/time.Second), true
		props.ReceiveMaximum, props.TopicAliasMaximum, props.MaximumPacketSize = MaxInFlight, MaxAliases, MaxPacket
		props.MaximumQos, props.MaximumQosFlag = 1, true
		props.RetainAvailable, props.RetainAvailableFlag = 1, true
		props.WildcardSubAvailable, props.WildcardSubAvailableFlag = 1, true
		props.SubIDAvailable, props.SubIDAvailableFlag = 0, true
		if assigned {
			props.AssignedClientID = client.ID
		}
		if got := uint32(client.Expiry / time.Second); got != p.expiry {
			props.SessionExpiryInterval, props.SessionExpiryIntervalFlag = got, true
		}
	})
}
