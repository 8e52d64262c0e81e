package gateway

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

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

const versionKept = time.Hour // without a connection

type versionKey struct {
	scope  fleet.Scope
	client string
}

// notify tells the fleet about a connection's life and closes the trace of its arrival.
func (g *Gateway) notify(a *arrival) func(mqtt.Event) {
	var version int64
	return func(e mqtt.Event) {
		g.tell(a, e)
		switch e.Kind {
		case mqtt.Connected:
			a.client = e.Client.ID
			a.visit.Welcome()
			version = g.version(e.Client)
			a.trace.Step("connected", "as client %s, MQTT %s", e.Client.ID, map[byte]string{4: "3.1.1", 5: "5"}[e.Client.Version])
			a.finish(g, nil)
			if a.who.claim == nil && a.who.facts != nil { // a certificate, and no WebSocket
				g.arrivals.add(a.who.scope, a.who.principal, g.Clock.Now())
			}
		case mqtt.Disconnected:
			if violates(e.End) {
				a.visit.Regret()
			}
			g.flows.gone(e.Client)
			g.left(e.Client, version)
			g.toldEnd(a, e.Client, e.End)
		case mqtt.ConnectFailed:
			a.finish(g, fleet.Denied("%s", e.End.Text).WithCode("AUTHORIZATION_FAILED"))
		}
		g.publishPresence(e, a.thing, version)
	}
}

// publishPresence publishes an event of a client's life, which is made only if anybody listens: each connection has three and more.
func (g *Gateway) publishPresence(e mqtt.Event, thing string, version int64) {
	c := e.Client
	topic := "$aws/events/" + presenceTopics[e.Kind] + "/" + c.ID
	if presenceTopics[e.Kind] == "" || strings.ContainsAny(c.ID, "#+") || !g.broker.Heard(c.Scope, topic) {
		return
	}
	p := presence{ClientID: c.ID, ThingName: thing, Timestamp: g.Clock.Now().UnixMilli(), Session: c.Session, Principal: c.Principal}
	switch e.Kind {
	case mqtt.Connected:
		p.EventType, p.Address, p.Version = "connected", c.Address, &version
	case mqtt.Disconnected:
		p.EventType, p.Version = "disconnected", &version
		p.ClientInitiated, p.DisconnectReason = new(e.End.Reason == mqtt.ClientInitiated), e.End.Reason.String()
	case mqtt.ConnectFailed:
		p.EventType, p.Address, p.FailureReason = "connect_failed", c.Address, "AUTHORIZATION_FAILED"
	case mqtt.Subscribed:
		p.EventType, p.Topics = "subscribed", e.Topics
	case mqtt.Unsubscribed:
		p.EventType, p.Topics = "unsubscribed", e.Topics
	}
	payload, err := json.Marshal(p)
	if err == nil {
		// QoS 1 for those who ask for it (iot-core spec 7).
		err = g.broker.Announce(c.Scope, &mqtt.Message{Topic: topic, Payload: payload, QoS: 1})
	}
	if err != nil {
		g.Log.Debug("publishing a lifecycle event", "client", c.ID, "error", err)
	}
}

// presenceTopics are where events are published, between $aws/events and the client id. Of others nothing is.
var presenceTopics = map[mqtt.EventKind]string{
	mqtt.Connected: "presence/connected", mqtt.Disconnected: "presence/disconnected", mqtt.ConnectFailed: "presence/connect_failed",
	mqtt.Subscribed: "subscriptions/subscribed", mqtt.Unsubscribed: "subscriptions/unsubscribed",
}

// A count is of the connections of one client id.
type count struct {
	next int64     // number of the next connection
	left time.Time // when the last one ended; zero while there is one
	keep time.Duration
}

// version counts a client's connections, from 0. It begins anew when the client was away for an hour, or for as long as its
// session lasts (iot-core spec 7.1).
func (g *Gateway) version(c *mqtt.Client) int64 {
	key, now := versionKey{c.Scope, c.ID}, g.Clock.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.versions) >= maxVersions {
		maps.DeleteFunc(g.versions, func(_ versionKey, v count) bool { return v.over(now) })
	}
	if len(g.versions) >= maxVersions {
		clear(g.versions)
	}
	v := g.versions[key]
	if v.over(now) {
		v.next = 0
	}
	g.versions[key] = count{next: v.next + 1, keep: max(versionKept, c.Expiry)}
	return v.next
}

func (v count) over(now time.Time) bool { return !v.left.IsZero() && now.Sub(v.left) > v.keep }

// left notes the end of a client's connection, unless there is a newer one.
func (g *Gateway) left(c *mqtt.Client, version int64) {
	key := versionKey{c.Scope, c.ID}
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, ok := g.versions[key]; ok && v.next == version+1 {
		v.left = g.Clock.Now()
		g.versions[key] = v
	}
}
