// Package iotdata is the edge of the AWS IoT data plane over HTTPS: publishing without a connection, retained messages, the
// connections and sessions of MQTT clients. It decides nothing but the form of a message.
//
// Begin with API.Service, the table of operations; publishing is here, all else in clients.go. Structs and constraints are in
// model.gen.go, which is generated.
package iotdata

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/wire"
)

// A Publisher routes a message to the subscribers of a scope; *mqtt.Broker is the one.
type Publisher interface {
	Publish(ctx context.Context, s fleet.Scope, m *mqtt.Message) error
}

// Clients knows the clients of each scope and what is retained; *mqtt.Broker is the one.
type Clients interface {
	Client(ctx context.Context, s fleet.Scope, id string) (mqtt.ClientState, error)
	DropClient(ctx context.Context, s fleet.Scope, id string, clean, noWill bool) error
	Subscriptions(ctx context.Context, s fleet.Scope, id, after string, limit int) (list []mqtt.Filter, more bool, err error)
	Retained(ctx context.Context, s fleet.Scope, topic string) (m *mqtt.Message, modified time.Time, err error)
	RetainedTopics(ctx context.Context, s fleet.Scope, after string, limit int) (list []mqtt.RetainedTopic, more bool, err error)
}

// An API answers the operations of the data plane. All its fields must be set.
type API struct {
	Broker  Publisher
	Clients Clients

	// Authorize says whether a caller may do an action on a resource in addition to what the table asks for. A refusal is a
	// *fleet.Error of kind fleet.KindDenied.
	Authorize func(ctx context.Context, caller *fleet.Caller, a wire.Access) error

	Clock fleet.Clock
}

// errorCodes translates the kinds of domain errors (iot-core spec 9.1).
var errorCodes = wire.ErrorTable{
	fleet.KindInternal:       "InternalFailureException",
	fleet.KindInvalid:        "InvalidRequestException",
	fleet.KindNotFound:       "ResourceNotFoundException",
	fleet.KindLimit:          "RequestEntityTooLargeException",
	fleet.KindDenied:         "ForbiddenException",
	fleet.KindThrottled:      "ThrottlingException",
	fleet.KindConflict:       "ConflictException",
	fleet.KindNotImplemented: "InvalidRequestException",
	fleet.KindUnavailable:    "ServiceUnavailableException",
}

// Service returns the table of operations.
func (a *API) Service() *wire.Service {
	return wire.NewService(Model, append(a.deviceRows(),
		wire.Do("GetConnection", a.getConnection).On(func(s fleet.Scope, in *GetConnectionInput) []string { return client(s, in.ClientId) }),
		wire.Do("DeleteConnection", a.deleteConnection).On(func(s fleet.Scope, in *DeleteConnectionInput) []string { return client(s, in.ClientId) }),
		wire.Do("ListSubscriptions", a.listSubscriptions).On(func(s fleet.Scope, in *ListSubscriptionsInput) []string { return client(s, in.ClientId) }),
	), errorCodes)
}

// DeviceService returns the operations that a device may do with its certificate: those that IoT policies speak of (iot-core spec 5.2).
func (a *API) DeviceService() *wire.Service {
	return wire.NewService(Model, a.deviceRows(), errorCodes)
}

func (a *API) deviceRows() []wire.Row {
	return []wire.Row{
		wire.Do("Publish", a.publish).On(func(s fleet.Scope, in *PublishInput) []string { return []string{s.IoT("topic", in.Topic)} }),
		wire.Do("GetRetainedMessage", a.getRetained).On(func(s fleet.Scope, in *GetRetainedMessageInput) []string { return []string{s.IoT("topic", in.Topic)} }),
		wire.Do("ListRetainedMessages", a.listRetained),
	}
}

func client(s fleet.Scope, id string) []string { return []string{s.IoT("client", id)} }

// Bounds of a message's properties, as on MQTT connections (iot-core spec 6.12).
const (
	maxContentType    = 256
	maxCorrelation    = 8 << 10
	maxUserProperties = 8 << 10
	maxExpiry         = 604800 // seconds
)

func (a *API) publish(ctx context.Context, in *PublishInput) (*PublishOutput, error) {
	caller := fleet.CallerFrom(ctx)
	m := &mqtt.Message{Topic: in.Topic, Payload: in.Payload, QoS: byte(wire.Value(in.Qos)), Retain: wire.Value(in.Retain),
		Origin: &mqtt.Origin{Principal: caller.UserID, Address: caller.SourceIP}}
	if err := a.complete(m, in); err != nil {
		return nil, err
	}
	if m.Retain {
		retain := wire.Access{Action: "iot:RetainPublish", Resources: []string{caller.Scope.IoT("topic", m.Topic)}}
		if err := a.Authorize(ctx, caller, retain); err != nil {
			return nil, err
		}
	}
	if err := a.Broker.Publish(ctx, caller.Scope, m); err != nil {
		return nil, throttled(err)
	}
	return &PublishOutput{Message: new("OK"), TraceId: new(fleet.RequestID(ctx))}, nil
}

// throttled says of what has no room now, retained messages or those for a rule, that it may have later: how large a message may be was looked
// at before.
func throttled(err error) error {
	var e *fleet.Error
	if errors.As(err, &e) && e.Kind == fleet.KindLimit {
		return &fleet.Error{Kind: fleet.KindThrottled, Resource: e.Resource, Name: e.Name, Msg: e.Msg}
	}
	return err
}

// complete checks the message and sets its MQTT 5 properties.
func (a *API) complete(m *mqtt.Message, in *PublishInput) error {
	if strings.HasPrefix(m.Topic, "$") && !strings.HasPrefix(m.Topic, "$aws/rules/") {
		// Whoever could publish here could forge the service's own events and answers; and an answer could not reach HTTP.
		return fleet.Invalid("topic", m.Topic, "is reserved; topics that begin with $ cannot be published to over HTTPS")
	}
	if err := fleet.CheckTopic(m.Topic); err != nil {
		return err
	}
	if len(m.Payload) > mqtt.MaxPayload {
		return fleet.OverLimit("payload", "", "of a message has at most %d bytes", mqtt.MaxPayload)
	}
	if in.MessageExpiry != nil {
		seconds := *in.MessageExpiry
		if seconds < 0 || seconds > maxExpiry {
			return fleet.Invalid("message expiry", "", "must be 0 to %d seconds", maxExpiry)
		}
		m.Expires = a.Clock.Now().Add(time.Duration(max(1, seconds)) * time.Second)
	}
	p, err := properties(in)
	if err != nil {
		return err
	}
	if p.UTF8 && !utf8.Valid(m.Payload) {
		return fleet.Invalid("payload", "", "is no UTF-8 text, as its format indicator says")
	}
	if p.HasFormat || p.ContentType != "" || p.ResponseTopic != "" || p.CorrelationData != nil || p.User != nil {
		m.Props = p
	}
	return nil
}

func properties(in *PublishInput) (*mqtt.Properties, error) {
	p := &mqtt.Properties{ContentType: wire.Value(in.ContentType), ResponseTopic: wire.Value(in.ResponseTopic),
		HasFormat: in.PayloadFormatIndicator != nil, UTF8: wire.Value(in.PayloadFormatIndicator) == "UTF8_DATA"}
	if len(p.ContentType) > maxContentType {
		return nil, fleet.Invalid("content type", "", "must have at most %d bytes", maxContentType)
	}
	if p.ResponseTopic != "" {
		if err := fleet.CheckTopic(p.ResponseTopic); err != nil {
			return nil, err
		}
	}
	if in.CorrelationData != nil {
		data, err := base64.StdEncoding.DecodeString(*in.CorrelationData)
		if err != nil || len(data) > maxCorrelation {
			return nil, fleet.Invalid("correlation data", "", "must be base64 of at most %d bytes", maxCorrelation)
		}
		p.CorrelationData = data
	}
	if in.UserProperties != nil {
		user, err := userProperties(*in.UserProperties)
		if err != nil {
			return nil, err
		}
		p.User = user
	}
	return p, nil
}

// userProperties reads [{"key":"value"}, …]; order and repetition count. Some SDKs wrap the list in a JSON string once more.
func userProperties(text string) ([]mqtt.UserProperty, error) {
	var inner string
	if json.Unmarshal([]byte(text), &inner) == nil {
		text = inner
	}
	var list []map[string]string
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(text) > maxUserProperties {
		return nil, fleet.Invalid("user properties", "", `must be a JSON list like [{"name":"value"}] of at most %d bytes`, maxUserProperties)
	}
	var out []mqtt.UserProperty
	for _, pair := range list {
		if len(pair) != 1 {
			return nil, fleet.Invalid("user properties", "", "must be a list of objects with one name and its value each")
		}
		for k, v := range pair {
			out = append(out, mqtt.UserProperty{Key: k, Value: v})
		}
	}
	return out, nil
}

// userPropertiesText is the reverse of userProperties.
func userPropertiesText(list []mqtt.UserProperty) []byte {
	pairs := make([]map[string]string, len(list))
	for i, p := range list {
		pairs[i] = map[string]string{p.Key: p.Value}
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		panic("iotdata: strings cannot be JSON: " + err.Error())
	}
	return text
}
