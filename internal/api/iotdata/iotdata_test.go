package iotdata

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/wire"
)

var (
	scope = fleet.Scope{Account: "000000000000", Region: "us-east-1"}
	now   = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

type published struct {
	scope fleet.Scope
	*mqtt.Message
}

type publisher struct{ got []published }

func (p *publisher) Publish(_ context.Context, s fleet.Scope, m *mqtt.Message) error {
	p.got = append(p.got, published{s, m})
	return nil
}

// call sends a request of a caller who may do everything but what denied names.
func call(t *testing.T, denied, method, target, body string, headers ...string) (*httptest.ResponseRecorder, *publisher, []string) {
	t.Helper()
	p := &publisher{}
	var asked []string
	authorize := func(_ context.Context, _ *fleet.Caller, a wire.Access) error {
		asked = append(asked, a.Action+" "+strings.Join(a.Resources, " "))
		if a.Action == denied {
			return fleet.Denied("User: arn:aws:iam::000000000000:user/x is not authorized to perform: %s", a.Action)
		}
		return nil
	}
	api := &API{Broker: p, Authorize: authorize, Clock: func() time.Time { return now }}
	front := &wire.Frontend{Log: slog.New(slog.DiscardHandler), Services: []*wire.Service{api.Service()}, Authorize: authorize,
		Authenticate: func(context.Context, *http.Request, []byte, *wire.Service) (*fleet.Caller, error) {
			return &fleet.Caller{Scope: scope, Kind: fleet.IAMUser}, nil
		}}
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	front.ServeHTTP(w, r)
	return w, p, asked
}

func TestPublishHandsTheMessageToTheBroker(t *testing.T) {
	t.Parallel()
	props := base64.StdEncoding.EncodeToString([]byte(`[{"a":"1"},{"a":"2"}]`))
	wrapped := base64.StdEncoding.EncodeToString([]byte(`"[{\"a\":\"1\"}]"`))
	for _, c := range []struct {
		name, target, body string
		headers            []string
		want               string
		asked              string
	}{
		{"a plain topic with slashes", "/topics/a/b?qos=1", "hi", nil, "a/b qos=1 retain=false hi", "[iot:Publish arn:aws:iot:us-east-1:000000000000:topic/a/b]"},
		{"an encoded topic is decoded once", "/topics/a%2Fb%2520", "", nil, "a/b%20 qos=0 retain=false ", "[iot:Publish arn:aws:iot:us-east-1:000000000000:topic/a/b%20]"},
		{"a leading slash", "/topics/%2Fa", "x", nil, "/a qos=0 retain=false x", ""},
		{"basic ingest", "/topics/$aws/rules/r/a", "x", nil, "$aws/rules/r/a qos=0 retain=false x", ""},
		{"retaining needs permission of its own", "/topics/a?retain=true", "x", nil, "a qos=0 retain=true x",
			"[iot:Publish arn:aws:iot:us-east-1:000000000000:topic/a iot:RetainPublish arn:aws:iot:us-east-1:000000000000:topic/a]"},
		{"properties", "/topics/a?contentType=text/plain&responseTopic=b&messageExpiry=0", "x",
			[]string{"x-amz-mqtt5-user-properties", props, "x-amz-mqtt5-payload-format-indicator", "UTF8_DATA", "x-amz-mqtt5-correlation-data", "AQI="},
			"a qos=0 retain=false x expires=1s {text/plain b [1 2] [{a 1} {a 2}] true true}", ""},
		{"user properties wrapped once more", "/topics/a", "x", []string{"x-amz-mqtt5-user-properties", wrapped}, "a qos=0 retain=false x {  [] [{a 1}] false false}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, p, asked := call(t, "", "POST", c.target, c.body, c.headers...)
			if w.Code != 200 || !strings.Contains(w.Body.String(), `"message":"OK"`) || len(p.got) != 1 {
				t.Fatalf("%d %s, %d published", w.Code, w.Body, len(p.got))
			}
			m := p.got[0]
			got := fmt.Sprintf("%s qos=%d retain=%v %s", m.Topic, m.QoS, m.Retain, m.Payload)
			if !m.Expires.IsZero() {
				got += fmt.Sprint(" expires=", m.Expires.Sub(now))
			}
			if m.Props != nil {
				got += fmt.Sprint(" ", *m.Props)
			}
			if got != c.want || m.scope != scope {
				t.Errorf("published %q in %s, want %q", got, m.scope, c.want)
			}
			if c.asked != "" && fmt.Sprint(asked) != c.asked {
				t.Errorf("IAM was asked for %v, want %s", asked, c.asked)
			}
		})
	}
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	bad := base64.StdEncoding.EncodeToString([]byte(`{"a":"1"}`))
	two := base64.StdEncoding.EncodeToString([]byte(`[{"a":"1","b":"2"}]`))
	for _, c := range []struct {
		name, denied, target, body string
		headers                    []string
		status                     int
		code                       string
	}{
		{"without permission", "iot:Publish", "/topics/a", "", nil, 403, "ForbiddenException"},
		{"retaining without permission", "iot:RetainPublish", "/topics/a?retain=true", "", nil, 403, "ForbiddenException"},
		{"QoS 2", "", "/topics/a?qos=2", "", nil, 400, "InvalidRequestException"},
		{"a topic of the service", "", "/topics/$aws/events/thing/x/created", "", nil, 400, "InvalidRequestException"},
		{"a wildcard", "", "/topics/a%2F%23", "", nil, 400, "InvalidRequestException"},
		{"a topic too deep", "", "/topics/1/2/3/4/5/6/7/8/9", "", nil, 400, "InvalidRequestException"},
		{"a response topic with a wildcard", "", "/topics/a?responseTopic=%2B", "", nil, 400, "InvalidRequestException"},
		{"a payload too long", "", "/topics/a", strings.Repeat("x", mqtt.MaxPayload+1), nil, 413, "RequestEntityTooLargeException"},
		{"an expiry too far off", "", "/topics/a?messageExpiry=604801", "", nil, 400, "InvalidRequestException"},
		{"bytes that are said to be text", "", "/topics/a", "\xff", []string{"x-amz-mqtt5-payload-format-indicator", "UTF8_DATA"}, 400, "InvalidRequestException"},
		{"an unknown format", "", "/topics/a", "", []string{"x-amz-mqtt5-payload-format-indicator", "1"}, 400, "InvalidRequestException"},
		{"correlation data that is no base64", "", "/topics/a", "", []string{"x-amz-mqtt5-correlation-data", "%"}, 400, "InvalidRequestException"},
		{"user properties that are no list", "", "/topics/a", "", []string{"x-amz-mqtt5-user-properties", bad}, 400, "InvalidRequestException"},
		{"two user properties in one", "", "/topics/a", "", []string{"x-amz-mqtt5-user-properties", two}, 400, "InvalidRequestException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, p, _ := call(t, c.denied, "POST", c.target, c.body, c.headers...)
			if w.Code != c.status || w.Header().Get("x-amzn-ErrorType") != c.code || len(p.got) != 0 {
				t.Errorf("%d %s %s, %d published; want %d %s", w.Code, w.Header().Get("x-amzn-ErrorType"), w.Body, len(p.got), c.status, c.code)
			}
		})
	}
}

func FuzzUserProperties(f *testing.F) {
	f.Add(`[{"a":"1"}]`)
	f.Add(`"[{\"a\":\"1\"}]"`)
	f.Add(`[{}]`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := userProperties(text)
		if err != nil && fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%q: %v", text, err)
		}
		size := 0
		for _, p := range list {
			size += len(p.Key) + len(p.Value)
		}
		if size > maxUserProperties {
			t.Errorf("%d bytes of properties", size)
		}
	})
}

// full is a broker that has no room.
type full struct{}

func (*full) Publish(context.Context, fleet.Scope, *mqtt.Message) error {
	return fleet.OverLimit("topic rule", "r", "has more messages waiting than it may")
}

func TestNoRoomIsThrottling(t *testing.T) {
	t.Parallel()
	a := &API{Broker: &full{}, Clock: func() time.Time { return now }}
	_, err := a.publish(fleet.WithCaller(t.Context(), &fleet.Caller{Scope: scope}), &PublishInput{Topic: "a"})
	if fleet.KindOf(err) != fleet.KindThrottled || errorCodes[fleet.KindOf(err)] != "ThrottlingException" {
		t.Errorf("%v", err)
	}
}
