package compat

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

type message struct {
	topic   string
	payload []byte
	trace   string // user property of MQTT 5
}

// inbox is what both clients share: messages in the order in which they came.
type inbox chan message

func (in inbox) receive(t *testing.T, topics ...string) (string, []byte) {
	t.Helper()
	late := time.After(answerTimeout)
	for {
		select {
		case m := <-in:
			if slices.Contains(topics, m.topic) {
				return m.topic, m.payload
			}
		case <-late:
			t.Fatalf("no message on %v within %v", topics, answerTimeout)
		}
	}
}

// mqtt3Device is paho.mqtt.golang: MQTT 3.1.1.
type mqtt3Device struct {
	inbox
	client mqtt3.Client
	lost   chan error
}

func dialMQTT3(t *testing.T, url string, cfg *tls.Config, clientID string) (*mqtt3Device, error) {
	t.Helper()
	d := &mqtt3Device{inbox: make(inbox, 100), lost: make(chan error, 1)}
	d.client = mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker(url).SetTLSConfig(cfg).SetClientID(clientID).SetProtocolVersion(4).
		SetAutoReconnect(false).SetCleanSession(true).SetConnectTimeout(answerTimeout).SetUsername("?SDK=Test&Version=1 +").
		SetConnectionLostHandler(func(_ mqtt3.Client, err error) { d.lost <- err }).
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) { d.inbox <- message{topic: m.Topic(), payload: m.Payload()} }))
	if err := wait(d.client.Connect()); err != nil {
		return nil, err
	}
	t.Cleanup(d.close)
	return d, nil
}

func wait(tok mqtt3.Token) error {
	if !tok.WaitTimeout(answerTimeout) {
		return fmt.Errorf("no acknowledgement within %v", answerTimeout)
	}
	return tok.Error()
}

func (d *mqtt3Device) subscribe(t *testing.T, filters ...string) {
	t.Helper()
	for _, f := range filters {
		check(t, wait(d.client.Subscribe(f, 1, nil)))
	}
}

func (d *mqtt3Device) publish(t *testing.T, topic string, payload []byte) {
	t.Helper()
	check(t, wait(d.client.Publish(topic, 1, false, payload)))
}

func (d *mqtt3Device) close() { d.client.Disconnect(50) }

// mqtt5Device is paho.golang: MQTT 5.
type mqtt5Device struct {
	inbox
	client *paho.Client
	lost   chan byte // reason code of the server's DISCONNECT
}

func dialMQTT5(t *testing.T, addr string, cfg *tls.Config, clientID string, change ...func(*paho.Connect)) (*mqtt5Device, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	d := &mqtt5Device{inbox: make(inbox, 100), lost: make(chan byte, 1)}
	// Without the lock its parts of packets mix with the parts of acknowledgements.
	d.client = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn),
		OnServerDisconnect: func(p *paho.Disconnect) { d.lost <- p.ReasonCode },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			d.inbox <- message{p.Packet.Topic, p.Packet.Payload, p.Packet.Properties.User.Get("traceId")}
			return true, nil
		}}})
	hello := &paho.Connect{ClientID: clientID, CleanStart: true, KeepAlive: 60}
	for _, c := range change {
		c(hello)
	}
	if _, err := d.client.Connect(ctx, hello); err != nil {
		return nil, err
	}
	t.Cleanup(d.close)
	return d, nil
}

func (d *mqtt5Device) subscribe(t *testing.T, filters ...string) {
	t.Helper()
	check(t, d.trySubscribe(t, filters...))
}

func (d *mqtt5Device) trySubscribe(t *testing.T, filters ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	defer cancel()
	var subs []paho.SubscribeOptions
	for _, f := range filters {
		subs = append(subs, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	_, err := d.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: subs})
	return err
}

func (d *mqtt5Device) publish(t *testing.T, topic string, payload []byte) {
	t.Helper()
	check(t, d.tryPublish(t, topic, payload))
}

func (d *mqtt5Device) tryPublish(t *testing.T, topic string, payload []byte) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	defer cancel()
	_, err := d.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: payload})
	return err
}

func (d *mqtt5Device) close() { _ = d.client.Disconnect(&paho.Disconnect{}) }
