package rule

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/rulesql"
)

// Bounds of what rules make of one message, so that a rule that feeds itself ends (iot-core spec 8.2).
const (
	maxHops = 16   // rules, one after the other
	maxKin  = 1000 // messages in all
)

// Bounds of the properties of a message, as for clients (iot-core spec 6.12).
const (
	maxContentType    = 256
	maxCorrelation    = 8 << 10
	maxUserProperties = 8 << 10
	maxExpiry         = 604800 // seconds
	maxUser           = 100    // pairs
)

// republish publishes the result to another topic.
type republish struct {
	s       *Service
	role    string
	qos     byte
	topic   *rulesql.Text
	headers headers
}

// headers are templates of the properties of a message; those that are nil are not set.
type headers struct {
	format, contentType, responseTopic, correlation, expiry *rulesql.Text
	user                                                    []userHeader
}

type userHeader struct{ key, value *rulesql.Text }

func (republish) name() string { return "RepublishAction" }

func (s *Service) prepareRepublish(a *fleet.RepublishAction, v rulesql.Version) (action, error) {
	r := republish{s: s, role: a.Role, qos: byte(a.QoS)}
	if a.QoS != 0 && a.QoS != 1 {
		return nil, fleet.Invalid("republish action", a.Topic, "has QoS %d: 0 and 1 are possible", a.QoS)
	}
	var err error
	if r.topic, err = prepareText("topic", a.Topic, v); err != nil {
		return nil, err
	}
	if !strings.Contains(a.Topic, "${") {
		if _, err := target(a.Topic); err != nil {
			return nil, err
		}
	}
	if a.Headers != nil {
		r.headers, err = prepareHeaders(a.Headers, v)
	}
	return r, err
}

func prepareHeaders(h *fleet.MessageHeaders, v rulesql.Version) (out headers, err error) {
	for _, f := range []struct {
		name   string
		source *string
		to     **rulesql.Text
	}{{"payloadFormatIndicator", h.PayloadFormat, &out.format}, {"contentType", h.ContentType, &out.contentType}, {"responseTopic", h.ResponseTopic, &out.responseTopic},
		{"correlationData", h.CorrelationData, &out.correlation}, {"messageExpiry", h.Expiry, &out.expiry}} {
		if f.source == nil {
			continue
		}
		if *f.to, err = prepareText(f.name, *f.source, v); err != nil {
			return out, err
		}
	}
	if len(h.User) > maxUser {
		return out, fleet.Invalid("republish action", "", "has %d user properties; at most %d are allowed", len(h.User), maxUser)
	}
	for _, u := range h.User {
		var pair userHeader
		if pair.key, err = prepareText("user property", u.Key, v); err == nil {
			pair.value, err = prepareText("user property", u.Value, v)
		}
		if err != nil {
			return out, err
		}
		out.user = append(out.user, pair)
	}
	return out, nil
}

// target is the topic that a filled field means: two dollar signs stand for the one of a reserved topic. Of those there is only Basic
// Ingest to publish to: events are the service's own, and whoever asks the provisioning topics must be there to hear the answer.
func target(field string) (string, error) {
	topic := field
	if strings.HasPrefix(field, "$") {
		topic = strings.TrimPrefix(field, "$")
		if !strings.HasPrefix(topic, ingestPrefix) {
			return "", fleet.Invalid("republish action", field, "cannot publish to this reserved topic; $$aws/rules/NAME/… is the only one that it can")
		}
	}
	return topic, fleet.CheckTopic(topic)
}

func (r republish) do(ctx context.Context, j *job) (string, error) {
	field, err := j.must("topic", r.topic)
	if err != nil {
		return cmp.Or(field, r.topic.String()), err
	}
	topic, err := target(field)
	if err != nil {
		return field, err
	}
	m := &mqtt.Message{Topic: topic, Payload: j.result.Payload, QoS: r.qos,
		Origin: &mqtt.Origin{Hops: j.event.origin.Hops + 1, Kin: j.event.origin.Kin}}
	if m.Origin.Hops > maxHops {
		return topic, fmt.Errorf("%d rules have published the message anew, one after the other: it goes round in a circle", maxHops)
	}
	if m.Origin.Kin.Add(1) > maxKin {
		return topic, fmt.Errorf("rules have made %d messages of one: they go round in a circle", maxKin)
	}
	if err := r.headers.set(m, j, r.s.Clock.Now()); err != nil {
		return topic, err
	}
	if err := r.s.permit(ctx, j, r.role, j.scope.IoT("topic", topic), "iot:Publish"); err != nil {
		return topic, err
	}
	return topic, r.s.Publish(ctx, j.scope, m)
}

// set fills the properties in. What is empty then is left out.
func (h headers) set(m *mqtt.Message, j *job, now time.Time) (err error) {
	p := &mqtt.Properties{}
	fill := func(t *rulesql.Text) (s string) {
		if t != nil && err == nil {
			s, _, err = j.fill(t)
		}
		return s
	}
	format, expiry, correlation := fill(h.format), fill(h.expiry), fill(h.correlation)
	p.ContentType, p.ResponseTopic = fill(h.contentType), fill(h.responseTopic)
	size := 0
	for _, u := range h.user {
		pair := mqtt.UserProperty{Key: fill(u.key), Value: fill(u.value)}
		size += len(pair.Key) + len(pair.Value)
		p.User = append(p.User, pair)
	}
	if err != nil {
		return err
	}
	switch format {
	case "":
	case "UTF8_DATA", "UNSPECIFIED_BYTES":
		p.HasFormat, p.UTF8 = true, format == "UTF8_DATA"
	default:
		return fmt.Errorf("the payloadFormatIndicator %.40q is neither UTF8_DATA nor UNSPECIFIED_BYTES", format)
	}
	if len(p.ContentType) > maxContentType || size > maxUserProperties {
		return fmt.Errorf("contentType has %d bytes and userProperties have %d: at most %d and %d are allowed", len(p.ContentType), size, maxContentType, maxUserProperties)
	}
	if p.ResponseTopic != "" {
		if err := fleet.CheckTopic(p.ResponseTopic); err != nil {
			return err
		}
	}
	if correlation != "" {
		if p.CorrelationData, err = base64.StdEncoding.DecodeString(correlation); err != nil || len(p.CorrelationData) > maxCorrelation {
			return fmt.Errorf("correlationData is no base64 of at most %d bytes", maxCorrelation)
		}
	}
	if expiry != "" {
		seconds, err := strconv.ParseInt(expiry, 10, 64)
		if err != nil || seconds < 0 || seconds > maxExpiry {
			return errors.New("messageExpiry is no number of seconds from 0 to 604800")
		}
		m.Expires = now.Add(time.Duration(max(1, seconds)) * time.Second)
	}
	if p.HasFormat || p.ContentType != "" || p.ResponseTopic != "" || p.CorrelationData != nil || p.User != nil {
		m.Props = p
	}
	return nil
}
