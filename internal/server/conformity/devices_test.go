package conformity

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// neighbours are two tenants with the same names: of two accounts, or of two regions of one.
func neighbours(t *testing.T, test func(t *testing.T, a, b *tenant)) {
	t.Parallel()
	t.Run("accounts", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		made := s.call(s.administrator(), "imprint", "CreateAccount", object{"name": "tenant", "accountId": "111122223333"})
		a := newTenant(s, s.administrator(), "000000000000")
		test(t, a, newTenant(s, sigv4.Credentials{AccessKeyID: made.dig("accessKeyId"), Secret: fleet.Secret(made.dig("secretAccessKey"))}, "111122223333"))
	})
	t.Run("regions", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, "eu-west-1")
		there := *s
		there.region = "eu-west-1"
		a := newTenant(s, s.administrator(), "000000000000")
		b := visitor(&there, a.admin, a.account, "eu-west-1")
		b.values["RoleName"] = "keeper"
		b.furnish()
		test(t, a, b)
	})
}

// overWebSocket brings the tenant's administrator online as a client.
func (a *tenant) overWebSocket(t *testing.T, client string) *mqtttest.Client {
	t.Helper()
	u, err := url.Parse(strings.Replace(a.endpoint, "https:", "wss:", 1) + "/mqtt")
	must(t, err)
	u = sigv4.Presign(http.MethodGet, u, a.admin, a.region, "iotdevicegateway", time.Now(), time.Minute)
	c, _, err := websocket.Dial(t.Context(), u.String(), &websocket.DialOptions{HTTPClient: a.http, Subprotocols: []string{"mqtt"}})
	must(t, err)
	t.Cleanup(func() { _ = c.CloseNow() })
	return mqtttest.New(t, websocket.NetConn(context.WithoutCancel(t.Context()), c, websocket.MessageBinary), 5).Connected(client)
}

// byCertificate publishes over HTTPS as the tenant's device.
func (a *tenant) byCertificate(t *testing.T, topic, payload string) {
	t.Helper()
	tr := &http.Transport{DialTLSContext: (&tls.Dialer{Config: &tls.Config{RootCAs: a.roots, Certificates: []tls.Certificate{a.device}, NextProtos: []string{"x-amzn-http-ca"}}}).DialContext}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.endpoint+"/topics/"+topic+"?qos=1", strings.NewReader(payload))
	must(t, err)
	res, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Do(req)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("publishing by certificate: %s", res.Status)
	}
}

// TestMessagesStayWhereTheyArePublished: two tenants have clients of the same ids at the same topics. Whatever the one publishes, by whatever
// way, comes to its own clients alone, and no client takes another's place.
func TestMessagesStayWhereTheyArePublished(t *testing.T) {
	neighbours(t, func(t *testing.T, a, b *tenant) {
		devices := map[*tenant]*mqtttest.Client{a: a.connect(t), b: b.connect(t)}
		people := map[*tenant]*mqtttest.Client{a: a.overWebSocket(t, "person"), b: b.overWebSocket(t, "person")}
		const said = "said/here"
		for _, clients := range []map[*tenant]*mqtttest.Client{devices, people} {
			for _, c := range clients {
				c.Subscribe(said, "kept/#")
			}
		}
		ways := map[string]func(t *testing.T, x *tenant, payload string){
			"a device": func(_ *testing.T, x *tenant, p string) { devices[x].Publish(said, p, 1) },
			"a person": func(_ *testing.T, x *tenant, p string) { people[x].Publish(said, p, 1) },
			"a signed request": func(_ *testing.T, x *tenant, p string) {
				x.do("iotdata", "Publish", object{"topic": said, "payload": p})
			},
			"a device over HTTPS": func(t *testing.T, x *tenant, p string) { x.byCertificate(t, said, p) },
			"a rule that republishes": func(_ *testing.T, x *tenant, p string) {
				x.do("iotdata", "Publish", object{"topic": "copy/me", "payload": object{"said": p}})
			},
		}
		for _, x := range []*tenant{a, b} {
			again := object{"republish": object{"roleArn": x.arn("iam", "role/keeper"), "topic": said, "qos": 1}}
			x.do("iot", "CreateTopicRule", object{"ruleName": "again", "topicRulePayload": object{"sql": "SELECT * FROM 'copy/me'", "actions": []any{again}}})
		}
		// Each client gets its own next message, and in between none of the other's.
		for way, publish := range ways {
			for _, x := range []*tenant{a, b} {
				publish(t, x, x.private)
				for _, c := range []*mqtttest.Client{devices[x], people[x]} {
					if got := string(c.Message().Payload); !strings.Contains(got, x.private) {
						t.Fatalf("%s: %q, want %q", way, got, x.private)
					}
				}
			}
		}
		for _, x := range []*tenant{a, b} {
			x.do("iotdata", "Publish", object{"topic": "kept/state", "payload": x.private, "retain": true})
			devices[x].WantMessage("kept/state", x.private)
			people[x].WantMessage("kept/state", x.private)
			late := x.overWebSocket(t, "late")
			late.Subscribe("kept/state")
			late.WantMessage("kept/state", x.private)
			late.Disconnect()
		}
	})
}

// TestBucketsAreTheirTenants: a name of a bucket is one tenant's, and every operation of another finds nothing, or that the name is taken.
func TestBucketsAreTheirTenants(t *testing.T) {
	neighbours(t, func(t *testing.T, a, b *tenant) {
		body := "of " + a.private
		for _, r := range [][2]string{{"/inbox-of-lamps", ""}, {"/inbox-of-lamps/fleet.json", body}} {
			if status, text := a.object(t, "PUT", r[0], r[1]); status != http.StatusOK {
				t.Fatalf("%s: %d %s", r[0], status, text)
			}
		}
		_, text := a.object(t, "POST", "/inbox-of-lamps/begun?uploads", "")
		upload := answer{body: text}.between("UploadId")
		if upload == "" {
			t.Fatalf("beginning an upload: %s", text)
		}
		for _, r := range []struct {
			method, target string
			status         int
		}{
			{"PUT", "/inbox-of-lamps", 409}, {"HEAD", "/inbox-of-lamps", 404}, {"GET", "/inbox-of-lamps", 404}, {"GET", "/inbox-of-lamps?location", 404},
			{"GET", "/inbox-of-lamps?uploads", 404}, {"POST", "/inbox-of-lamps?delete", 404}, {"GET", "/inbox-of-lamps/fleet.json", 404}, {"HEAD", "/inbox-of-lamps/fleet.json", 404},
			{"PUT", "/inbox-of-lamps/fleet.json", 404}, {"PUT", "/inbox-of-lamps/another.json", 404}, {"DELETE", "/inbox-of-lamps/fleet.json", 404},
			{"POST", "/inbox-of-lamps/fleet.json?uploads", 404}, {"PUT", "/inbox-of-lamps/begun?partNumber=1&uploadId=" + upload, 404}, {"GET", "/inbox-of-lamps/begun?uploadId=" + upload, 404},
			{"DELETE", "/inbox-of-lamps/begun?uploadId=" + upload, 404}, {"DELETE", "/inbox-of-lamps", 404},
		} {
			sent := ""
			switch {
			case r.method == "PUT" && strings.Contains(r.target, ".json"), strings.Contains(r.target, "partNumber"):
				sent = "changed"
			case strings.HasSuffix(r.target, "?delete"):
				sent = `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>fleet.json</Key></Object></Delete>`
			}
			if status, text := b.object(t, r.method, r.target, sent); status != r.status || strings.Contains(text, a.private) {
				t.Errorf("%s %s by another: %d %s", r.method, r.target, status, text)
			}
		}
		if _, text := b.object(t, "GET", "/", ""); strings.Contains(text, "inbox-of-lamps") {
			t.Errorf("another's list of buckets: %s", text)
		}
		if status, text := a.object(t, "GET", "/inbox-of-lamps/fleet.json", ""); status != http.StatusOK || text != body {
			t.Errorf("the owner reads %d %s", status, text)
		}
		if status, text := a.object(t, "GET", "/inbox-of-lamps/begun?uploadId="+upload, ""); status != http.StatusOK {
			t.Errorf("the owner's upload: %d %s", status, text)
		}
	})
}

// object does a request of S3.
func (a *tenant) object(t *testing.T, method, target, body string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.endpoint+target, strings.NewReader(body))
	must(t, err)
	sigv4.Sign(req, []byte(body), a.admin, a.region, sigv4.S3, time.Now())
	res, err := a.http.Do(req)
	must(t, err)
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(read)
}
