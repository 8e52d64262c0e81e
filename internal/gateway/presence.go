package gateway

import (
	"encoding/json"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
)

// A presence is a lifecycle event (iot-core spec 7.1). Members that an event lacks are omitted.
type presence struct {
	ClientID         string   `json:"clientId"`
	ThingName        string   `json:"thingName,omitempty"` // of an exclusive thing only
	Timestamp        int64    `json:"timestamp"`           // milliseconds
	EventType        string   `json:"eventType"`
	Session          string   `json:"sessionIdentifier"`
	Principal        string   `json:"principalIdentifier"`
	Address          string   `json:"ipAddress,omitempty"`
	Version          *int64   `json:"versionNumber,omitempty"`
	ClientInitiated  *bool    `json:"clientInitiatedDisconnect,omitempty"`
	DisconnectReason string   `json:"disconnectReason,omitempty"`
	FailureReason    string   `json:"connectFailureReason,omitempty"`
	Topics           []string `json:"topics,omitempty"`
}

// maxVersions bounds how many clients' connection counts are remembered; they may begin anew.
const maxVersions = 100000

type versionKey struct {
	scope  fleet.Scope
	client string
}

// notify tells the fleet about a connection's life and closes the trace of its arrival.
func (g *Gateway) notify(a *arrival) func(mqtt.Event) {
	var version int64
	return func(e mqtt.Event) {
		switch e.Kind {
		case mqtt.Connected:
			a.visit.Welcome()
			version = g.version(e.Client)
			a.trace.Step("connected", "as client %s, MQTT %s", e.Client.ID, map[byte]string{4: "3.1.1", 5: "5"}[e.Client.Version])
			a.finish(g, nil)
		case mqtt.Disconnected:
			g.flows.gone(e.Client)
		case mqtt.ConnectFailed:
			a.finish(g, fleet.Denied("%s", e.End.Text).WithCode("AUTHORIZATION_FAILED"))
		}
		g.publishPresence(e, a.thing, version)
	}
}

func (g *Gateway) publishPresence(e mqtt.Event, thing string, version int64) {
	c := e.Client
	if strings.ContainsAny(c.ID, "#+") {
		return
	}
	p := presence{ClientID: c.ID, ThingName: thing, Timestamp: g.Clock.Now().UnixMilli(), Session: c.Session, Principal: c.Principal}
	topic := ""
	switch e.Kind {
	case mqtt.Connected:
		topic, p.EventType, p.Address, p.Version = "presence/connected", "connected", c.Address, &version
	case mqtt.Disconnected:
		topic, p.EventType, p.Version = "presence/disconnected", "disconnected", &version
		p.ClientInitiated, p.DisconnectReason = new(e.End.Reason == mqtt.ClientInitiated), e.End.Reason.String()
	case mqtt.ConnectFailed:
		topic, p.EventType, p.Address, p.FailureReason = "presence/connect_failed", "connect_failed", c.Address, "AUTHORIZATION_FAILED"
	case mqtt.Subscribed:
		topic, p.EventType, p.Topics = "subscriptions/subscribed", "subscribed", e.Topics
	case mqtt.Unsubscribed:
		topic, p.EventType, p.Topics = "subscriptions/unsubscribed", "unsubscribed", e.Topics
	}
	payload, err := json.Marshal(p)
	if err == nil {
		// QoS 1 for those who ask for it (iot-core spec 7).
		err = g.broker.Announce(c.Scope, &mqtt.Message{Topic: "$aws/events/" + topic + "/" + c.ID, Payload: payload, QoS: 1})
	}
	if err != nil {
		g.Log.Debug("publishing a lifecycle event", "client", c.ID, "error", err)
	}
}

// version counts a client's connections, from 0.
func (g *Gateway) version(c *mqtt.Client) int64 {
	key := versionKey{c.Scope, c.ID}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.versions) >= maxVersions {
		clear(g.versions)
	}
	n := g.versions[key]
	g.versions[key] = n + 1
	return n
}
