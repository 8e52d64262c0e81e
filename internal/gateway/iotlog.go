package gateway

import (
	"errors"
	"net"
	"strconv"

	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
)

// This file tells AWS IoT's log (package logs) what devices do, where their account wants to know.

// speak speaks MQTT with whoever arrived. brief sessions end with their connections.
func (g *Gateway) speak(nc net.Conn, a *arrival, access mqtt.Access, brief bool) mqtt.End {
	_, port, _ := net.SplitHostPort(nc.RemoteAddr().String())
	a.port, _ = strconv.Atoi(port)
	return g.broker.Serve(g.ctx, nc, mqtt.Identity{Scope: a.who.scope, Principal: a.who.principal, Access: access, Brief: brief, Owe: g.owe(a), Notify: g.notify(a),
		Published: func(m *mqtt.Message, refused error) { g.logPublish(a, m, refused) }})
}

// loggedTypes are the types of entries of events; an event that has none is not logged.
var loggedTypes = map[mqtt.EventKind]string{mqtt.Connected: "Connect", mqtt.ConnectFailed: "Connect", mqtt.Disconnected: "Disconnect",
	mqtt.Subscribed: "Subscribe", mqtt.SubscribeRefused: "Subscribe", mqtt.Unsubscribed: "Unsubscribe"}

// logged is an entry about a client.
func (a *arrival) logged(kind, client string) logs.Event {
	return logs.Event{Type: kind, Protocol: "MQTT", Client: client, Principal: a.who.principal, SourceIP: a.address, SourcePort: a.port}
}

// tell tells of an event of a client's life: of subscriptions, an entry for each filter.
func (g *Gateway) tell(a *arrival, e mqtt.Event) {
	kind, level := loggedTypes[e.Kind], logs.Info
	if e.Kind == mqtt.ConnectFailed || e.Kind == mqtt.SubscribeRefused {
		level = logs.Error
	}
	if !g.Logs.Wants(a.who.scope, kind, level) {
		return
	}
	entry := a.logged(kind, e.Client.ID)
	switch e.Kind {
	case mqtt.ConnectFailed, mqtt.SubscribeRefused:
		entry.Reason, entry.Details = e.End.Reason.String(), e.End.Text
	case mqtt.Disconnected:
		entry.DisconnectReason, entry.Details = e.End.Reason.String(), e.End.Text
	}
	if len(e.Topics) == 0 {
		g.Logs.Tell(a.who.scope, level, entry)
	}
	for _, entry.Topic = range e.Topics {
		g.Logs.Tell(a.who.scope, level, entry)
	}
}

// logPublish tells of a message that a client published.
func (g *Gateway) logPublish(a *arrival, m *mqtt.Message, refused error) {
	const kind = "Publish-In"
	level := logs.Info
	if refused != nil {
		level = logs.Error
	}
	if !g.Logs.Wants(a.who.scope, kind, level) {
		return
	}
	entry := a.logged(kind, a.client)
	entry.Topic = m.Topic
	var end mqtt.End
	if errors.As(refused, &end) {
		entry.Reason, entry.Details = end.Reason.String(), end.Text
	} else if refused != nil {
		entry.Details = refused.Error()
	}
	g.Logs.Tell(a.who.scope, level, entry)
}
