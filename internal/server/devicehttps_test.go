package server

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
)

// furnishDevice makes a certificate with a policy of its own.
func furnishDevice(t *testing.T, c *client.Client, name string, statements ...object) (pair tls.Certificate, id string) {
	t.Helper()
	var made struct {
		CertificateID, CertificateArn, CertificatePem string
		KeyPair                                       struct{ PrivateKey string }
	}
	noError(t, c.REST(t.Context(), "iot", http.MethodPost, "/keys-and-certificate?setAsActive=true", nil, &made))
	noError(t, c.REST(t.Context(), "iot", http.MethodPost, "/policies/"+name, object{"policyDocument": text(object{"Version": "2012-10-17", "Statement": statements})}, nil))
	noError(t, c.REST(t.Context(), "iot", http.MethodPut, "/target-policies/"+name, object{"target": made.CertificateArn}, nil))
	return pairOf(t, made.CertificatePem, made.KeyPair.PrivateKey), made.CertificateID
}

// byCertificate is an HTTP client with a certificate that asks for x-amzn-http-ca, or for nothing. It keeps its connection.
func byCertificate(t *testing.T, s *Server, alpn string, pair *tls.Certificate) *http.Client {
	cfg := &tls.Config{RootCAs: roots(t, s), ServerName: "localhost"}
	if alpn != "" {
		cfg.NextProtos = []string{alpn}
	}
	if pair != nil {
		cfg.Certificates = []tls.Certificate{*pair}
	}
	tr := &http.Transport{DialTLSContext: (&tls.Dialer{Config: cfg}).DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func TestDevicesPublishByHTTPSWithTheirCertificate(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.CertPort = AnyPort
	s := startServer(t, cfg)
	admin := api(t, s)
	arn := func(kind, name string) string { return s.Scope().IoT(kind, name) }
	pair, id := furnishDevice(t, admin, "publisher",
		object{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:GetRetainedMessage"}, "Resource": []string{arn("topic", "lamps/*"), arn("topic", "things/${iot:ClientId}")}},
		object{"Effect": "Allow", "Action": "iot:RetainPublish", "Resource": arn("topic", "lamps/kept")},
		object{"Effect": "Allow", "Action": "iot:DeleteConnection", "Resource": "*"})
	watcher, _ := furnishDevice(t, admin, "watcher", object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
	watch := device(t, s, watcher).Connected("watch")
	watch.Subscribe("lamps/#")

	type door struct {
		name string
		url  string
		web  *http.Client
	}
	certPort := "https://" + net.JoinHostPort("localhost", s.Env().Get("IOT_HTTPS_CERT_PORT"))
	doors := []door{
		{"ALPN on the HTTPS port", s.site.baseURL(), byCertificate(t, s, "x-amzn-http-ca", &pair)},
		{"a port for certificates", certPort, byCertificate(t, s, "", &pair)},
		{"a port for certificates, with ALPN", certPort, byCertificate(t, s, "http/1.1", &pair)},
	}
	call := func(d door, method, path, body string) (status int, kind, answer string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
		noError(t, err)
		res, err := d.web.Do(req)
		noError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		noError(t, err)
		return res.StatusCode, res.Header.Get("X-Amzn-Errortype"), string(b)
	}
	for _, d := range doors {
		if status, _, body := call(d, "POST", "/topics/lamps/1/state?qos=1", "on"); status != 200 || !strings.Contains(body, `"message":"OK"`) || !strings.Contains(body, `"traceId"`) {
			t.Errorf("%s: %d %s", d.name, status, body)
		}
		watch.WantMessage("lamps/1/state", "on")
		if status, _, body := call(d, "POST", "/topics/lamps/kept?retain=true", "kept"); status != 200 {
			t.Errorf("%s: %d %s", d.name, status, body)
		}
		watch.WantMessage("lamps/kept", "kept")
		var kept struct {
			Payload string
			Qos     int
		}
		status, _, body := call(d, "GET", "/retainedMessage/"+url.PathEscape("lamps/kept"), "")
		noError(t, json.Unmarshal([]byte(body), &kept))
		if payload, _ := base64.StdEncoding.DecodeString(kept.Payload); status != 200 || string(payload) != "kept" {
			t.Errorf("%s: %d %s", d.name, status, body)
		}
		for what, refused := range map[string][2]string{
			"a topic that no policy allows":       {"POST", "/topics/doors/1"},
			"retaining without the right":         {"POST", "/topics/lamps/2?retain=true"},
			"a variable that only MQTT has":       {"POST", "/topics/things/" + id},
			"an operation for administrators":     {"DELETE", "/connections/watch"},
			"a list of all that is retained":      {"GET", "/retainedMessage"},
			"an operation that has no IoT policy": {"GET", "/connections/watch"},
		} {
			status, kind, body := call(d, refused[0], refused[1], "x")
			if strings.Contains(refused[1], "/connections/") {
				if status != 400 && status != 403 {
					t.Errorf("%s, %s: %d %s", d.name, what, status, body)
				}
				continue
			}
			if status != 403 || kind != "ForbiddenException" || !strings.Contains(body, `"message":"Forbidden"`) || !strings.Contains(body, `"traceId"`) {
				t.Errorf("%s, %s: %d %s %s", d.name, what, status, kind, body)
			}
		}
		if status, kind, body := call(d, "POST", "/topics/lamps/1?qos=2", ""); status != 400 || kind != "InvalidRequestException" {
			t.Errorf("%s: QoS 2: %d %s %s", d.name, status, kind, body)
		}
		if status, _, body := call(d, "GET", "/things", ""); status != 404 && status != 400 {
			t.Errorf("%s: the control plane answers a certificate: %d %s", d.name, status, body)
		}
	}
	watch.Quiet()

	// What the certificate loses it loses on open connections too.
	noError(t, admin.REST(t.Context(), "iot", http.MethodPut, "/certificates/"+id+"?newStatus=INACTIVE", nil, nil))
	for _, d := range doors {
		if status, kind, body := call(d, "POST", "/topics/lamps/1/state", "late"); status != 403 || kind != "ForbiddenException" {
			t.Errorf("%s: a certificate that is inactive: %d %s %s", d.name, status, kind, body)
		}
	}
	watch.Quiet()
	for _, d := range []door{{"inactive", certPort, byCertificate(t, s, "", &pair)}, {"without a certificate", certPort, byCertificate(t, s, "", nil)},
		{"without a certificate, by ALPN", s.site.baseURL(), byCertificate(t, s, "x-amzn-http-ca", nil)}} {
		if res, err := d.web.Post(d.url+"/topics/lamps/1", "", nil); err == nil {
			t.Errorf("%s: %d", d.name, res.StatusCode)
		}
	}
}

func TestTheMemoryOfLargeRequestsIsBoundedForDevicesToo(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.Budgets.BodyMemory = 1
	s := startServer(t, cfg)
	pair, _ := furnishDevice(t, api(t, s), "publisher", object{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*"})
	web := byCertificate(t, s, "x-amzn-http-ca", &pair)
	others := s.strangers.bodies.Body(io.NopCloser(strings.NewReader(strings.Repeat("x", 1<<20))))
	_, err := io.Copy(io.Discard, others)
	noError(t, err)
	for _, want := range []int{429, 200} {
		res, err := web.Post(s.site.baseURL()+"/topics/lamps", "", strings.NewReader(strings.Repeat("x", 100<<10)))
		noError(t, err)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("answered %d, want %d", res.StatusCode, want)
		}
		others.Release()
	}
}

func TestAdministratorsSeeAndEndConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	admin := api(t, s)
	pair, _ := furnishDevice(t, admin, "all", object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
	lamp := device(t, s, pair).Connected("lamp", persistentSession)
	lamp.Subscribe("b", "a/#", "$share/g/c")
	get := func(path string) (out object, err error) {
		err = admin.REST(t.Context(), "iotdata", http.MethodGet, path, nil, &out)
		return out, err
	}
	state, err := get("/connections/lamp?includeSocketInformation=true")
	noError(t, err)
	if state["connected"] != true || state["cleanSession"] != false || state["sessionExpiry"] != 600.0 || state["keepAliveDuration"] != 60.0 || state["sourceIp"] != "127.0.0.1" {
		t.Errorf("connected: %v", state)
	}
	first, err := get("/connections/lamp/subscriptions?maxResults=2")
	noError(t, err)
	second, err := get("/connections/lamp/subscriptions?nextToken=" + first["nextToken"].(string))
	noError(t, err)
	if got := text([]any{first["subscriptions"], second["subscriptions"], second["nextToken"]}); got !=
		`[[{"qos":1,"topicFilter":"$share/g/c"},{"qos":1,"topicFilter":"a/#"}],[{"qos":1,"topicFilter":"b"}],null]` {
		t.Errorf("subscriptions %s", got)
	}
	watch := device(t, s, pair).Connected("watch")
	watch.Subscribe("will", "$aws/events/presence/disconnected/lamp")
	lamp.Disconnect()
	watch.Message() // published when all else of the connection's end is done
	state, err = get("/connections/lamp")
	noError(t, err)
	if state["connected"] != false || state["disconnectReason"] != "CLIENT_INITIATED_DISCONNECT" || state["disconnectedSince"] == nil {
		t.Errorf("disconnected: %v", state)
	}
	if list, err := get("/connections/lamp/subscriptions"); err != nil || len(list["subscriptions"].([]any)) != 3 {
		t.Errorf("an offline session has %v, %v", list, err)
	}

	for _, drop := range []struct {
		query   string
		will    bool
		present bool // the session afterwards
	}{{"", true, true}, {"?preventWillMessage=true", false, true}, {"?cleanSession=true", true, false}} {
		lamp = device(t, s, pair).Connected("lamp", persistentSession, will("will", "gone"))
		noError(t, admin.REST(t.Context(), "iotdata", http.MethodDelete, "/connections/lamp"+drop.query, nil, nil))
		lamp.WantDisconnect(0x98)
		if drop.will {
			watch.WantMessage("will", "gone")
		}
		if m := watch.Message(); !strings.Contains(string(m.Payload), `"disconnectReason":"API_INITIATED_DISCONNECT"`) {
			t.Errorf("%s %s", m.TopicName, m.Payload)
		}
		lamp = device(t, s, pair)
		if present := lamp.Connect("lamp", persistentSession).SessionPresent; present != drop.present {
			t.Errorf("after %q the session is present: %v", drop.query, present)
		}
		lamp.Disconnect()
		watch.Message() // its end
	}
	watch.Quiet()
	noError(t, admin.REST(t.Context(), "iotdata", http.MethodDelete, "/connections/lamp?cleanSession=true", nil, nil)) // offline
	contains(t, admin.REST(t.Context(), "iotdata", http.MethodDelete, "/connections/lamp", nil, nil), "ResourceNotFoundException")
	contains(t, admin.REST(t.Context(), "iotdata", http.MethodDelete, "/connections/$lamp", nil, nil), "InvalidRequestException")
	_, err = get("/connections/stranger")
	contains(t, err, "ResourceNotFoundException")
	_, err = get("/connections/watch/subscriptions?nextToken=%25")
	contains(t, err, "InvalidRequestException")
}

func TestRetainedMessagesAreListedAndRead(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	admin := api(t, s)
	for _, topic := range []string{"b", "a/1", "a/2", "c"} {
		noError(t, admin.REST(t.Context(), "iotdata", http.MethodPost, "/topics/"+url.PathEscape(topic)+"?retain=true&qos=1", object{"of": topic}, nil))
	}
	noError(t, admin.REST(t.Context(), "iotdata", http.MethodPost, "/topics/gone?retain=true&messageExpiry=1", object{}, nil))
	stopServer(t, s)
	s = startServer(t, quick(s.cfg.Data)) // they are kept
	admin = api(t, s)
	var topics []string
	for token := ""; ; {
		var page struct {
			RetainedTopics []struct {
				Topic            string
				PayloadSize, Qos int
				LastModifiedTime int64
			}
			NextToken string
		}
		noError(t, admin.REST(t.Context(), "iotdata", http.MethodGet, "/retainedMessage?maxResults=2&nextToken="+token, nil, &page))
		for _, r := range page.RetainedTopics {
			if r.Topic == "gone" {
				continue // unless its second is over
			}
			topics = append(topics, r.Topic)
			if r.PayloadSize != len(`{"of":""}`)+len(r.Topic) || r.Qos != 1 || time.Since(time.UnixMilli(r.LastModifiedTime)) > time.Hour {
				t.Errorf("%+v", r)
			}
		}
		if token = page.NextToken; token == "" {
			break
		}
	}
	if got := strings.Join(topics, " "); got != "a/1 a/2 b c" {
		t.Errorf("retained: %s", got)
	}
	var kept struct{ Topic, Payload string }
	noError(t, admin.REST(t.Context(), "iotdata", http.MethodGet, "/retainedMessage/"+url.PathEscape("a/1"), nil, &kept))
	if payload, err := base64.StdEncoding.DecodeString(kept.Payload); err != nil || string(payload) != `{"of":"a/1"}` || kept.Topic != "a/1" {
		t.Errorf("%+v", kept)
	}
	contains(t, admin.REST(t.Context(), "iotdata", http.MethodGet, "/retainedMessage/nothing", nil, nil), "ResourceNotFoundException")
}
