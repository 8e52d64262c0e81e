package gateway

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"path"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
)

// body encodes a payload with a codec that is not ours.
func body(t testing.TB, format string, v any) string {
	t.Helper()
	encode := json.Marshal
	if format == "cbor" {
		encode = cbor.Marshal
	}
	b, err := encode(v)
	check(t, err)
	return string(b)
}

func decoded(t testing.TB, p packets.Packet) (m map[string]any) {
	t.Helper()
	decode := json.Unmarshal
	if path.Base(path.Dir(p.TopicName)) == "cbor" {
		decode = cbor.Unmarshal
	}
	if err := decode(p.Payload, &m); err != nil {
		t.Fatalf("%s: %v in %x", p.TopicName, err, p.Payload)
	}
	return m
}

// answer returns the members of an answer, which must have come on topic.
func answer(t testing.TB, p packets.Packet, topic string) map[string]any {
	t.Helper()
	m := decoded(t, p)
	if p.TopicName != topic {
		t.Fatalf("answered on %s: %v", p.TopicName, m)
	}
	return m
}

// wantRejected checks that all that clients rely on is there.
func wantRejected(t testing.TB, p packets.Packet, topic string, status int, code string) {
	t.Helper()
	m := answer(t, p, topic+"/rejected")
	if fmt.Sprint(m["statusCode"]) != fmt.Sprint(status) || m["errorCode"] != code || m["errorMessage"] == "" || m["traceId"] == "" {
		t.Errorf("%s: %v, want %d %s", topic, m, status, code)
	}
}

func TestTheWholeFlow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, format := range []string{"json", "cbor"} {
		for _, version := range []byte{4, 5} {
			for _, own := range []bool{true, false} {
				serial := fmt.Sprintf("%s-%d-%t", format, version, own)
				t.Run(serial, func(t *testing.T) {
					c := s.open(s.claim("lamps"), version).Connected("new")
					topic, request := "$aws/certificates/create/"+format, ""
					key := newKey(t)
					if own {
						topic, request = "$aws/certificates/create-from-csr/"+format, body(t, format, map[string]any{"certificateSigningRequest": csr(t, key)})
					}
					created := answer(t, exchange(c, topic, request), topic+"/accepted")
					d := holder(created["certificatePem"].(string), key)
					if !own {
						pair, err := tls.X509KeyPair([]byte(created["certificatePem"].(string)), []byte(created["privateKey"].(string)))
						check(t, err)
						d.PrivateKey = pair.PrivateKey
					} else if created["privateKey"] != nil {
						t.Error("a private key for a CSR")
					}
					if created["certificateId"] != d.id {
						t.Errorf("certificateId %v", created["certificateId"])
					}
					topic = "$aws/provisioning-templates/lamps/provision/" + format
					p := exchange(c, topic, body(t, format, map[string]any{"certificateOwnershipToken": created["certificateOwnershipToken"], "parameters": map[string]string{"Serial": serial}}))
					m := answer(t, p, topic+"/accepted")
					if m["thingName"] != "lamp-"+serial || fmt.Sprint(m["deviceConfiguration"]) != "map[serial:"+serial+"]" {
						t.Errorf("answer %v", m)
					}
					if version == 5 && p.Properties.ContentType != "application/"+format {
						t.Errorf("content type %q", p.Properties.ContentType)
					}
					s.policy("run-"+serial, allow("iot:Connect", "client/${iot:Connection.Thing.ThingName}"))
					s.attach("run-"+serial, d.arn)
					s.open(d, version).Connected("lamp-" + serial).Disconnect()
				})
			}
		}
	}
}

func TestARegisteredCertificateMayProvisionIfItsPolicyAllows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open(s.device(allow("iot:*")), 5).Connected("a")
	key := newKey(t)
	created := answer(t, exchange(c, createCSRJSON, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, key)})), createCSRJSON+"/accepted")
	answer(t, exchange(c, registerJSON, body(t, "json", map[string]any{"certificateOwnershipToken": created["certificateOwnershipToken"],
		"parameters": map[string]string{"Serial": "1"}})), registerJSON+"/accepted")
	deaf := s.open(s.device(allow("iot:*"), deny("iot:Receive", "topic/"+createJSON+"/*")), 5).Connected("b")
	deaf.Subscribe(createJSON+"/accepted", createJSON+"/rejected")
	deaf.Publish(createJSON, "{", 1)
	s.trace() // it was answered
	deaf.Quiet()
}

// Devices that share a claim share its topics: what one gets, a private key among it, nobody else may see.
func TestAnswersReachOnlyTheAsker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	claim := s.claim("lamps")
	listener := s.open(s.device(allow("iot:*")), 5).Connected("listener")
	listener.Subscribe("$aws/#", "$aws/certificates/create/json/accepted", "$aws/certificates/#", "#", "$share/g/$aws/certificates/create/json/accepted")
	seen := map[any]bool{}
	for i := range 4 {
		listener.Want(packets.Publish) // its own subscription, and the connections of the devices below
		c := s.open(claim, byte(4+i%2)).Connected(fmt.Sprint("device-", i))
		quiet := s.open(claim, 5).Connected(fmt.Sprint("quiet-", i))
		quiet.Subscribe(createCSRJSON+"/accepted", createCSRJSON+"/rejected")
		m := answer(t, exchange(c, createCSRJSON, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, newKey(t))})), createCSRJSON+"/accepted")
		if seen[m["certificateId"]] {
			t.Error("the same certificate twice")
		}
		seen[m["certificateId"]] = true
		c.Quiet()
		quiet.Quiet()
	}
	listener.Ping()
	for p, ok := listener.Next(); ok && p.FixedHeader.Type != packets.Pingresp; p, ok = listener.Next() {
		if p.FixedHeader.Type == packets.Publish && path.Dir(path.Dir(path.Dir(p.TopicName))) != "$aws/events" {
			t.Errorf("the listener got %s", p.TopicName)
		}
	}
}

func TestNobodyWhoDidNotSubscribeGetsAnAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open(s.claim("lamps"), 5).Connected("a")
	c.Publish(createJSON, "{", 1)
	s.wantTrace("cannot be read", "JSON")
	c.Quiet()
}

func TestAPingIsAnsweredWhileARequestWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.template(provision.NewTemplate{Name: "slow", Hook: &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:ask"}})
	c := s.open(s.claim("slow"), 4).Connected("a")
	created := answer(t, exchange(c, createCSRJSON, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, newKey(t))})), createCSRJSON+"/accepted")
	topic := "$aws/provisioning-templates/slow/provision/json"
	c.Subscribe(topic+"/accepted", topic+"/rejected", createJSON+"/rejected")
	c.Publish(topic, body(t, "json", map[string]any{"certificateOwnershipToken": created["certificateOwnershipToken"], "parameters": map[string]string{"Serial": "1"}}), 1)
	c.Publish(createJSON, "[", 1) // waits its turn behind the other
	c.Quiet()
	s.hook <- struct{}{}
	answer(t, c.Message(), topic+"/accepted")
	wantRejected(t, c.Message(), createJSON, 400, "InvalidParameters")
}

func TestJunkIsRejectedInFullAndDisturbsNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	claim := s.claim("lamps")
	long := string(make([]byte, 100<<10))
	junk := map[string]map[string][]string{
		"create": {"json": {"{", "[]", "null", "1", `"x"`, "\xff", `{"a":}`, long}, "cbor": {"\xff", "\x80", "\x01", "\xa1", "\x61x", "\xbf", "\xa1\x61a", "{}", long}},
		"create-from-csr": {"json": {"", "{", "[]", "{}", `{"certificateSigningRequest":5}`, `{"certificateSigningRequest":null}`, `{"certificateSigningRequest":""}`,
			`{"certificateSigningRequest":"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----"}`, `{"certificateSigningRequest":"` + long[:5000] + `"}`, long},
			"cbor": {"", "\xa0", "\xff", "\xa1\x78\x19certificateSigningRequest\x05", "\xa1\x78\x19certificateSigningRequest\x61x", long}},
		"register": {"json": {"", "{", "[]", "{}", `{"certificateOwnershipToken":"x"}`, `{"certificateOwnershipToken":5}`, `{"certificateOwnershipToken":"x","parameters":{"a":1}}`,
			`{"certificateOwnershipToken":"x","parameters":[]}`, `{"certificateOwnershipToken":"x","parameters":{"a":null}}`, `{"parameters":{}}`, long},
			"cbor": {"", "\xa0", "\xff", "\xa1\x78\x19certificateOwnershipToken\x05", "\xa1\x6aparameters\xa1\x61a\x01", long}},
	}
	topics := map[string]string{"create": "$aws/certificates/create/", "create-from-csr": "$aws/certificates/create-from-csr/", "register": "$aws/provisioning-templates/lamps/provision/"}
	for _, version := range []byte{4, 5} {
		for kind, formats := range junk {
			for format, payloads := range formats {
				c := s.open(claim, version).Connected(fmt.Sprint(kind, format, version))
				topic := topics[kind] + format
				c.Subscribe(topic+"/accepted", topic+"/rejected")
				for _, payload := range payloads {
					c.Publish(topic, payload, 1)
					m := decoded(t, c.Message())
					status, code := fmt.Sprint(m["statusCode"]), m["errorCode"]
					if status != "400" || code != "InvalidParameters" && code != "InvalidCertificateSigningRequest" && code != "InvalidCertificateOwnershipToken" ||
						fmt.Sprint(m["errorMessage"]) == "" || fmt.Sprint(m["traceId"]) == "" {
						t.Errorf("%s, %.40q: %v", topic, payload, m)
					}
				}
				c.Quiet()
			}
		}
	}
}

func TestCreateTakesWhatClientsSendInPractice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open(s.claim("lamps"), 5).Connected("a")
	for topic, payloads := range map[string][]string{createJSON: {"", "{}", `{"junk":[1]}`}, "$aws/certificates/create/cbor": {"", "\xa0", "\xa1\x61a\x01"}} {
		for _, payload := range payloads {
			if m := answer(t, exchange(c, topic, payload), topic+"/accepted"); len(m) != 4 {
				t.Errorf("%s %q: %v", topic, payload, m)
			}
		}
	}
}

func TestAnUnknownTemplateIsNotFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open(s.device(allow("iot:*")), 5).Connected("a")
	for _, name := range []string{"nowhere", "not a name", "$"} {
		topic := "$aws/provisioning-templates/" + name + "/provision/json"
		m := decoded(t, exchange(c, topic, `{"certificateOwnershipToken":"x"}`))
		if m["errorMessage"] == "" || m["traceId"] == "" {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestARejectionCanBeExplainedByItsTraceID(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open(s.claim("lamps"), 5).Connected("a")
	p := exchange(c, registerJSON, `{"certificateOwnershipToken":"","parameters":{"Serial":"77"}}`)
	m := answer(t, p, registerJSON+"/rejected")
	if m["errorMessage"] != "Certificate ownership token cannot be empty." {
		t.Errorf("%v", m)
	}
	if u := p.Properties.User; len(u) != 1 || u[0].Val != m["traceId"] {
		t.Errorf("user properties %v", u)
	}
	if r := s.trace(); r.ID != m["traceId"] || r.Facts["template"] != "lamps" || r.Facts["clientId"] != "a" {
		t.Errorf("%s", r.Text())
	}
	s.open(s.device(), 5).Connect("flush")
	s.trace()
	check(t, s.db.View(t.Context(), func(tx *store.Tx) error {
		for _, subject := range []string{m["traceId"].(string), "77"} {
			if list, err := tx.Traces(here, subject, 10); err != nil || len(list) != 1 {
				t.Errorf("%s: %d traces, %v", subject, len(list), err)
			}
		}
		return nil
	}))
}

func TestCorrelationDataComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.open(s.claim("lamps"), 5).Connected("a")
	c.Subscribe(createJSON + "/rejected")
	c.Publish(createJSON, "[", 1, func(p *packets.Packet) { p.Properties.CorrelationData = []byte("7") })
	if got := c.Message().Properties.CorrelationData; string(got) != "7" {
		t.Errorf("correlation data %q", got)
	}
}
