package compat

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// dial connects for the libraries that take a connection.
func (s *stage) dial(j join) (net.Conn, error) {
	cfg, host, port := s.tls.Clone(), s.site.get("IOT_ENDPOINT"), s.site.get("IOT_PORT")
	if j.Host != "" {
		host, cfg.ServerName = j.Host, j.Host // crypto/tls sends no address as a server name
	}
	if j.ServerName != "" {
		cfg.ServerName = j.ServerName
	}
	if j.ALPN {
		port, cfg.NextProtos = s.site.get("IOT_ALPN_PORT"), []string{"x-amzn-mqtt-ca"}
	}
	return (&tls.Dialer{Config: cfg, NetDialer: &net.Dialer{Timeout: answerTimeout}}).Dial("tcp", net.JoinHostPort(host, port))
}

// paho3 is a party played by paho.mqtt.golang, MQTT 3.1.1.
type paho3 struct {
	stage  *stage
	post   post
	client mqtt3.Client
	conn   net.Conn
	over   *atomic.Bool // we end the connection, nobody is to be told
}

func (p *paho3) connect(j join) (welcome, error) {
	over := new(atomic.Bool)
	p.over = over
	options := mqtt3.NewClientOptions().AddBroker("ssl://" + p.stage.site.mqttAddr()).SetClientID(j.ClientID).SetProtocolVersion(4).SetCleanSession(j.Clean).
		SetAutoReconnect(j.Reconnect).SetMaxReconnectInterval(time.Second).SetConnectTimeout(answerTimeout).SetKeepAlive(time.Duration(j.KeepAlive) * time.Second).SetAutoAckDisabled(j.Hold).
		SetConnectionLostHandler(func(mqtt3.Client, error) { p.post.loss(over, 0) }).
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) {
			p.post.mail <- letter{Topic: m.Topic(), Payload: string(m.Payload()), QoS: m.Qos(), Retain: m.Retained()}
		}).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt3.ClientOptions) (net.Conn, error) {
			var err error
			if p.conn, err = p.stage.dial(j); err != nil {
				return nil, err
			}
			return part(p.conn, over), nil
		})
	if w := j.Will; w != nil {
		options.SetWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	p.client = mqtt3.NewClient(options)
	tok := p.client.Connect()
	if err := wait(tok); err != nil {
		return welcome{}, err
	}
	return welcome{SessionPresent: tok.(*mqtt3.ConnectToken).SessionPresent()}, nil
}

func (p *paho3) subscribe(asks ...ask) (codes []byte, err error) {
	filters := map[string]byte{}
	for _, a := range asks {
		filters[a.Filter] = a.QoS
	}
	tok := p.client.SubscribeMultiple(filters, nil)
	err = wait(tok)
	for _, a := range asks {
		if code, ok := tok.(*mqtt3.SubscribeToken).Result()[a.Filter]; ok {
			codes = append(codes, code)
		}
	}
	if len(codes) == len(asks) {
		return codes, nil
	}
	return nil, err
}

func (p *paho3) unsubscribe(filter string) error { return wait(p.client.Unsubscribe(filter)) }

func (p *paho3) publish(l letter) (byte, error) {
	return 0, wait(p.client.Publish(l.Topic, l.QoS, l.Retain, l.Payload))
}

func (p *paho3) disconnect(*uint32) error {
	p.over.Store(true)
	p.client.Disconnect(uint(answerTimeout.Milliseconds())) // at most: it returns as soon as all is written, and cuts if that is later
	return nil
}

func (p *paho3) cut() error {
	p.over.Store(true)
	return p.conn.Close()
}

// paho5 is a party played by paho.golang, MQTT 5.
type paho5 struct {
	stage  *stage
	post   post
	client *paho.Client
	conn   net.Conn
	over   *atomic.Bool       // we end the connection, nobody is to be told
	held   chan *paho.Publish // what a party that withholds acknowledgements got
}

func (p *paho5) connect(j join) (welcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	conn, err := p.stage.dial(j)
	if err != nil {
		return welcome{}, err
	}
	over := new(atomic.Bool)
	p.conn, p.over, p.held = conn, over, make(chan *paho.Publish, 1000)
	p.client = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(part(conn, over)), EnableManualAcknowledgment: j.Hold,
		OnServerDisconnect: func(d *paho.Disconnect) { p.post.loss(over, d.ReasonCode) },
		OnClientError:      func(error) { p.post.loss(over, 0) },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			if j.Hold {
				p.held <- r.Packet
			}
			p.post.mail <- letterOf(r.Packet)
			return true, nil
		}}})
	connect := &paho.Connect{ClientID: j.ClientID, CleanStart: j.Clean, KeepAlive: j.KeepAlive,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: j.Expiry, RequestProblemInfo: true}}
	if j.ReceiveMax > 0 {
		connect.Properties.ReceiveMaximum = &j.ReceiveMax
	}
	if j.MaxPacketSize > 0 {
		connect.Properties.MaximumPacketSize = &j.MaxPacketSize
	}
	if w := j.Will; w != nil {
		connect.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: []byte(w.Payload), QoS: w.QoS, Retain: w.Retain}
		connect.WillProperties = &paho.WillProperties{PayloadFormat: w.Format, MessageExpiry: w.Expiry, ContentType: w.ContentType,
			ResponseTopic: w.Response, CorrelationData: []byte(w.Correlation), User: userProperties(w.User)}
	}
	ack, err := p.client.Connect(ctx, connect)
	if err != nil {
		return welcome{}, err
	}
	c := ack.Properties
	return welcome{SessionPresent: ack.SessionPresent, AssignedID: c.AssignedClientID, KeepAlive: or0(c.ServerKeepAlive), ReceiveMax: or0(c.ReceiveMaximum),
		MaxPacketSize: or0(c.MaximumPacketSize), AliasMax: or0(c.TopicAliasMaximum), Expiry: c.SessionExpiryInterval}, nil
}

func or0[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func userProperties(pairs [][2]string) (out paho.UserProperties) {
	for _, p := range pairs {
		out = append(out, paho.UserProperty{Key: p[0], Value: p[1]})
	}
	return out
}

func letterOf(m *paho.Publish) letter {
	p := m.Properties
	l := letter{Topic: m.Topic, Payload: string(m.Payload), QoS: m.QoS, Retain: m.Retain, Expiry: p.MessageExpiry, Format: p.PayloadFormat,
		ContentType: p.ContentType, Response: p.ResponseTopic, Correlation: string(p.CorrelationData), Alias: or0(p.TopicAlias)}
	for _, u := range p.User {
		l.User = append(l.User, [2]string{u.Key, u.Value})
	}
	return l
}

func (p *paho5) subscribe(asks ...ask) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	s := &paho.Subscribe{Properties: &paho.SubscribeProperties{}}
	for _, a := range asks {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: a.Filter, QoS: a.QoS, NoLocal: a.NoLocal,
			RetainAsPublished: a.RetainAsPublished, RetainHandling: a.RetainHandling})
		if a.Identifier > 0 {
			s.Properties.SubscriptionIdentifier = &a.Identifier
		}
	}
	ack, err := p.client.Subscribe(ctx, s)
	if ack != nil {
		return ack.Reasons, nil
	}
	return nil, err
}

func (p *paho5) unsubscribe(filter string) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	_, err := p.client.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{filter}})
	return err
}

func (p *paho5) publish(l letter) (byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	m := &paho.Publish{Topic: l.Topic, Payload: []byte(l.Payload), QoS: l.QoS, Retain: l.Retain, Properties: &paho.PublishProperties{MessageExpiry: l.Expiry,
		PayloadFormat: l.Format, ContentType: l.ContentType, ResponseTopic: l.Response, User: userProperties(l.User)}}
	if l.Correlation != "" {
		m.Properties.CorrelationData = []byte(l.Correlation)
	}
	if l.Alias > 0 {
		m.Properties.TopicAlias = &l.Alias
	}
	ack, err := p.client.Publish(ctx, m)
	if ack != nil && ack.ReasonCode >= 0x80 {
		return ack.ReasonCode, nil
	}
	return 0, err
}

// acknowledge sends the PUBACK that was withheld longest.
func (p *paho5) acknowledge() error {
	select {
	case m := <-p.held:
		return p.client.Ack(m)
	default:
		return fmt.Errorf("nothing is withheld")
	}
}

func (p *paho5) disconnect(expiry *uint32) error {
	p.over.Store(true)
	return p.client.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: expiry}})
}

func (p *paho5) cut() error {
	p.over.Store(true)
	return p.conn.Close()
}

// parting is a connection that closes behind the server once its client has left: whoever comes back at once would otherwise take over
// from a connection whose DISCONNECT the server has not read yet.
type parting struct {
	net.Conn
	left *atomic.Bool
}

func part(c net.Conn, left *atomic.Bool) *parting { return &parting{c, left} }

func (c *parting) Close() error {
	if c.left.Load() {
		_ = c.SetReadDeadline(time.Now().Add(answerTimeout))
		_, _ = io.Copy(io.Discard, c.Conn) // until the server has closed
	}
	return c.Conn.Close()
}

// loss tells of the end of a connection that the party itself did not end.
func (p post) loss(over *atomic.Bool, code byte) {
	if !over.Load() {
		p.lost <- code
	}
}
