package iotdata

import (
	"context"
	"encoding/base64"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/wire"
)

// checkClient refuses names that no client can have.
func checkClient(id string) error {
	if strings.HasPrefix(id, "$") {
		return fleet.Invalid("client id", id, "is reserved: client ids do not begin with $")
	}
	return nil
}

func (a *API) getConnection(ctx context.Context, in *GetConnectionInput) (*GetConnectionOutput, error) {
	if err := checkClient(in.ClientId); err != nil {
		return nil, err
	}
	c, err := a.Clients.Client(ctx, fleet.CallerFrom(ctx).Scope, in.ClientId)
	if err != nil {
		return nil, err
	}
	out := &GetConnectionOutput{ClientId: &in.ClientId, Connected: &c.Connected, CleanSession: &c.Clean, SessionExpiry: new(int64(c.Expiry / time.Second))}
	switch {
	case c.Connected:
		out.ConnectedSince, out.KeepAliveDuration = new(c.Since.UnixMilli()), new(int(c.KeepAlive/time.Second))
	case !c.Since.IsZero():
		out.DisconnectedSince, out.DisconnectReason = new(c.Since.UnixMilli()), new(c.Reason.String())
	}
	if t, ok := c.Access.(interface{ ThingName() string }); ok && t.ThingName() != "" {
		out.ThingName = new(t.ThingName())
	}
	if c.Connected && wire.Value(in.IncludeSocketInformation) {
		out.SourceIp, out.SourcePort = address(c.Peer)
		out.TargetIp, out.TargetPort = address(c.At)
	}
	return out, nil
}

func address(a net.Addr) (ip *string, port *int) {
	host, text, err := net.SplitHostPort(a.String())
	if err != nil {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, nil
	}
	return &host, &n
}

func (a *API) deleteConnection(ctx context.Context, in *DeleteConnectionInput) (*DeleteConnectionOutput, error) {
	if err := checkClient(in.ClientId); err != nil {
		return nil, err
	}
	err := a.Clients.DropClient(ctx, fleet.CallerFrom(ctx).Scope, in.ClientId, wire.Value(in.CleanSession), wire.Value(in.PreventWillMessage))
	return &DeleteConnectionOutput{}, err
}

const defaultSubscriptions = 20 // of a page

func (a *API) listSubscriptions(ctx context.Context, in *ListSubscriptionsInput) (*ListSubscriptionsOutput, error) {
	if err := checkClient(in.ClientId); err != nil {
		return nil, err
	}
	after, err := behind(in.NextToken)
	if err != nil {
		return nil, err
	}
	list, more, err := a.Clients.Subscriptions(ctx, fleet.CallerFrom(ctx).Scope, in.ClientId, after, limit(in.MaxResults, defaultSubscriptions))
	if err != nil {
		return nil, err
	}
	out := &ListSubscriptionsOutput{Subscriptions: []Subscription{}}
	for _, f := range list {
		out.Subscriptions = append(out.Subscriptions, Subscription{TopicFilter: &f.Name, Qos: new(int(f.QoS))})
	}
	if more {
		out.NextToken = token(list[len(list)-1].Name)
	}
	return out, nil
}

const defaultRetained = 200 // of a page

func (a *API) listRetained(ctx context.Context, in *ListRetainedMessagesInput) (*ListRetainedMessagesOutput, error) {
	after, err := behind(in.NextToken)
	if err != nil {
		return nil, err
	}
	list, more, err := a.Clients.RetainedTopics(ctx, fleet.CallerFrom(ctx).Scope, after, limit(in.MaxResults, defaultRetained))
	if err != nil {
		return nil, err
	}
	out := &ListRetainedMessagesOutput{RetainedTopics: []RetainedMessageSummary{}}
	for _, r := range list {
		out.RetainedTopics = append(out.RetainedTopics, RetainedMessageSummary{Topic: &r.Topic, PayloadSize: new(int64(r.Size)), Qos: new(int(r.QoS)),
			LastModifiedTime: new(r.Modified.UnixMilli())})
	}
	if more {
		out.NextToken = token(list[len(list)-1].Topic)
	}
	return out, nil
}

func (a *API) getRetained(ctx context.Context, in *GetRetainedMessageInput) (*GetRetainedMessageOutput, error) {
	m, modified, err := a.Clients.Retained(ctx, fleet.CallerFrom(ctx).Scope, in.Topic)
	if err != nil {
		return nil, err
	}
	out := &GetRetainedMessageOutput{Topic: &in.Topic, Payload: m.Payload, Qos: new(int(m.QoS)), LastModifiedTime: new(modified.UnixMilli())}
	if m.Props != nil && len(m.Props.User) > 0 {
		out.UserProperties = userPropertiesText(m.Props.User)
	}
	return out, nil
}

func limit(asked *int, usual int) int {
	if asked != nil {
		return *asked
	}
	return usual
}

// token continues a list behind a name; behind reads it.
func token(name string) *string { return new(base64.RawURLEncoding.EncodeToString([]byte(name))) }

func behind(token *string) (string, error) {
	if token == nil || *token == "" {
		return "", nil
	}
	name, err := base64.RawURLEncoding.DecodeString(*token)
	if err != nil {
		return "", fleet.Invalid("token", *token, "does not continue this list; begin without one")
	}
	return string(name), nil
}
