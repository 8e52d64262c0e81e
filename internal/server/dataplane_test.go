package server

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/store"
)

// TestPublishingWithASignature: iot-core spec 9.1, each query parameter and header, as a subscriber, a rule and the log have it.
func TestPublishingWithASignature(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	admin := api(t, s)
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}}
	noError(t, admin.Query(t.Context(), "iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": "r", "AssumeRolePolicyDocument": text(trust)}, nil))
	noError(t, admin.Query(t.Context(), "iam", "2010-05-08", "PutRolePolicy", map[string]string{"RoleName": "r", "PolicyName": "p",
		"PolicyDocument": text(object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "*", "Resource": "*"}})}, nil))
	role := s.Scope().IAM("role/r")
	noError(t, admin.REST(t.Context(), "iot", http.MethodPost, "/rules/who", object{"awsIotSqlVersion": "2016-03-23",
		"sql":     `SELECT clientid() AS client, traceid() AS trace, isUndefined(traceid()) AS untraced, principal() AS who FROM 'a/b c'`,
		"actions": []object{{"republish": object{"roleArn": role, "topic": "told"}}}}, nil))
	noError(t, admin.REST(t.Context(), "iot", http.MethodPost, "/v2LoggingOptions", object{"roleArn": role, "defaultLogLevel": "INFO"}, nil))
	pair, _ := furnishDevice(t, admin, "all", object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
	watch := device(t, s, pair).Connected("watch")
	watch.Subscribe("a/#", "told")

	user := base64.StdEncoding.EncodeToString([]byte(`[{"k":"1"},{"k":"2"}]`))
	query := url.Values{"qos": {"1"}, "retain": {"true"}, "contentType": {"text/plain"}, "responseTopic": {"answers/1"}, "messageExpiry": {"600"}}
	_, body, err := admin.Call(t.Context(), "iotdata", http.MethodPost, "/topics/a/b%20c?"+query.Encode(), map[string]string{
		"X-Amz-Mqtt5-User-Properties": user, "X-Amz-Mqtt5-Payload-Format-Indicator": "UTF8_DATA", "X-Amz-Mqtt5-Correlation-Data": "AQI="}, []byte("hello"))
	noError(t, err)
	var answer struct{ Message, TraceID string }
	noError(t, json.Unmarshal(body, &answer))
	if answer.Message != "OK" || len(answer.TraceID) != 36 {
		t.Errorf("answered %s", body)
	}
	for range 2 { // one to a subscriber, one to a rule
		m := watch.Message()
		if m.TopicName == "told" {
			if got := string(m.Payload); !strings.HasPrefix(got, `{"client":"n/a","untraced":true,"who":"`) {
				t.Errorf("a rule saw %s", got)
			}
			continue
		}
		p := m.Properties
		if m.TopicName != "a/b c" || string(m.Payload) != "hello" || m.FixedHeader.Qos != 1 || p.ContentType != "text/plain" || p.ResponseTopic != "answers/1" || p.PayloadFormat != 1 ||
			string(p.CorrelationData) != "\x01\x02" || p.MessageExpiryInterval == 0 || p.MessageExpiryInterval > 600 || len(p.User) != 2 || p.User[1].Val != "2" {
			t.Errorf("a subscriber got %+v", m)
		}
	}
	var kept struct {
		Payload, UserProperties string
		Qos                     int
		LastModifiedTime        int64
	}
	noError(t, admin.REST(t.Context(), "iotdata", http.MethodGet, "/retainedMessage/"+url.PathEscape("a/b c"), nil, &kept))
	if props, _ := base64.StdEncoding.DecodeString(kept.UserProperties); kept.Payload != "aGVsbG8=" || kept.Qos != 1 || string(props) != `[{"k":"1"},{"k":"2"}]` || kept.LastModifiedTime < 1e12 {
		t.Errorf("retained is %+v", kept)
	}
	contains(t, admin.REST(t.Context(), "iotdata", http.MethodPost, "/topics/a?qos=2", nil, nil), "InvalidRequestException")
	contains(t, admin.REST(t.Context(), "iotdata", http.MethodGet, "/retainedMessage?maxResults=201", nil, nil), "InvalidRequestException")

	s.logs.Flush(t.Context())
	entries, _, err := s.logs.Entries(t.Context(), s.Scope(), logs.IoTGroup, store.LogQuery{}, fleet.Page{})
	noError(t, err)
	said := ""
	for _, e := range entries {
		said += e.Message + "\n"
	}
	if want := `"traceId":"` + answer.TraceID + `","accountId":"000000000000","status":"Success","eventType":"Publish-In","protocol":"HTTP","topicName":"a/b c"`; !strings.Contains(said, want) ||
		!strings.Contains(said, `"eventType":"GetRetainedMessage","protocol":"HTTP","topicName":"a/b c"`) {
		t.Errorf("the log says\n%s", said)
	}
}
