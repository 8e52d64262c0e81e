package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
)

// A webSite is a site that serves /mqtt too.
type webSite struct {
	*site
	web *httptest.Server
}

func newWebSite(t testing.TB, change ...func(*WebSocketConfig, *http.Server)) *webSite {
	t.Helper()
	s := &webSite{site: newSite(t)}
	verifier := &sigv4.Verifier{Region: here.Region, Clock: s.gw.Clock}
	c := WebSocketConfig{Permissions: s.iam, Authenticate: func(r *http.Request) (*fleet.Caller, error) {
		var caller *fleet.Caller
		_, err := verifier.Verify(r, nil, WebSocketSigningNames, func(sig *sigv4.Signature) (fleet.Secret, error) {
			found, err := s.iam.Lookup(r.Context(), here.Region, sig.AccessKeyID, sig.Token)
			caller = found.Caller
			return found.Secret, err
		})
		return caller, err
	}}
	s.web = httptest.NewUnstartedServer(nil)
	s.web.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(&c, s.web.Config)
	}
	s.web.Config.Handler = s.gw.WebSocket(c)
	s.web.StartTLS()
	t.Cleanup(s.web.Close)
	return s
}

// user makes an IAM user with a key, who may do what the statements say.
func (s *webSite) user(name string, statements ...string) sigv4.Credentials {
	s.t.Helper()
	_, err := s.iam.CreateUser(s.t.Context(), here, iam.Entity{Name: name, Path: "/"})
	check(s.t, err)
	check(s.t, s.iam.PutInline(s.t.Context(), here, store.IAMUser, name, "p", document(statements...)))
	k, err := s.iam.CreateKey(s.t.Context(), here, name)
	check(s.t, err)
	return sigv4.Credentials{AccessKeyID: k.ID, Secret: k.Secret}
}

const (
	identityID   = "us-east-1:00000000-0000-4000-8000-000000000001"
	trustWeb     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"cognito-identity.amazonaws.com"},"Action":"sts:AssumeRoleWithWebIdentity"}]}`
	trustNothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}`
)

// identity makes a role with these statements and an hour's credentials of it for an identity of an identity pool.
func (s *webSite) identity(amr string, statements ...string) sigv4.Credentials {
	s.t.Helper()
	_, err := s.iam.CreateRole(s.t.Context(), here, iam.Entity{Name: "web", Path: "/", Body: iam.Body{Trust: trustWeb}})
	check(s.t, err)
	check(s.t, s.iam.PutInline(s.t.Context(), here, store.IAMRole, "web", "p", document(statements...)))
	session, err := s.iam.IssueSession(s.t.Context(), iam.SessionRequest{Scope: here, RoleARN: here.IAM("role/web"), Name: "CognitoIdentityCredentials",
		Action: "sts:AssumeRoleWithWebIdentity", Principal: policy.Principal{Federated: fleet.IdentityPools},
		Federation: &fleet.Federation{Provider: fleet.IdentityPools, Audience: "us-east-1:pool", Subject: identityID, AMR: []string{amr},
			PoolID: "us-east-1_Pool", UserSub: "sub-1"}})
	check(s.t, err)
	return sigv4.Credentials{AccessKeyID: session.AccessKeyID, Secret: session.Secret, Token: session.Token}
}

func (s *webSite) url() *url.URL {
	u, err := url.Parse(s.web.URL + "/mqtt")
	check(s.t, err)
	return u
}

func (s *webSite) presigned(c sigv4.Credentials) string {
	return sigv4.Presign(http.MethodGet, s.url(), c, here.Region, "iotdevicegateway", s.gw.Clock.Now(), time.Hour).String()
}

// dial upgrades, or returns what was answered instead.
func (s *webSite) dial(address string, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), mqtttest.Patience())
	defer cancel()
	return websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: s.web.Client(), HTTPHeader: header, Subprotocols: protocols})
}

func (s *webSite) socket(c sigv4.Credentials) *websocket.Conn {
	s.t.Helper()
	ws, _, err := s.dial(s.presigned(c), nil, "mqtt")
	check(s.t, err)
	s.t.Cleanup(func() { ws.CloseNow() })
	return ws
}

// come opens a connection with these credentials.
func (s *webSite) come(c sigv4.Credentials, version byte) *mqtttest.Client {
	s.t.Helper()
	return mqtttest.New(s.t, closeNow{websocket.NetConn(context.Background(), s.socket(c), websocket.MessageBinary)}, version)
}

// closeNow spares a test the wait for the other side's close frame.
type closeNow struct{ net.Conn }

func (c closeNow) Close() error {
	c.SetDeadline(time.Unix(1, 0))
	return nil
}

func TestSignersComeByWebSocket(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	ada := s.user("ada", allow("iot:*"))
	guest := s.identity("unauthenticated", allow("iot:*"))
	now := s.gw.Clock.Now()
	header := func(c sigv4.Credentials, service string) func() (string, http.Header) {
		return func() (string, http.Header) {
			r := httptest.NewRequest(http.MethodGet, s.url().String(), nil)
			sigv4.Sign(r, nil, c, here.Region, service, now)
			return s.url().String(), r.Header
		}
	}
	query := func(c sigv4.Credentials, service string) func() (string, http.Header) {
		return func() (string, http.Header) {
			return sigv4.Presign(http.MethodGet, s.url(), c, here.Region, service, now, time.Hour).String(), nil
		}
	}
	for name, sign := range map[string]func() (string, http.Header){
		"query":                                 query(ada, "iotdevicegateway"),
		"query for the data plane":              query(ada, "iotdata"),
		"query by the legacy name":              query(ada, "execute-api"),
		"query, token appended unsigned":        query(guest, "iotdevicegateway"),
		"query, token signed":                   query(guest, "iotdata"),
		"header":                                header(ada, "iotdevicegateway"),
		"header with token":                     header(guest, "iotdevicegateway"),
		"header with token, for the data plane": header(guest, "iotdata"),
	} {
		address, h := sign()
		ws, _, err := s.dial(address, h)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		mqtttest.New(t, closeNow{websocket.NetConn(context.Background(), ws, websocket.MessageBinary)}, 4).Connected("c-" + strings.ReplaceAll(name, " ", "-"))
	}
}

func TestSubprotocolsThatOldAndNewClientsAskFor(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	ada := s.user("ada", allow("iot:*"))
	for _, asked := range []string{"mqtt", "mqttv3.1", ""} {
		var protocols []string
		if asked != "" {
			protocols = []string{asked}
		}
		ws, _, err := s.dial(s.presigned(ada), nil, protocols...)
		check(t, err)
		if got := ws.Subprotocol(); got != asked {
			t.Errorf("asked for %q, got %q", asked, got)
		}
		mqtttest.New(t, closeNow{websocket.NetConn(context.Background(), ws, websocket.MessageBinary)}, 4).Connected("c" + asked)
	}
}

func TestOthersAreRefusedBeforeTheUpgrade(t *testing.T) {
	t.Parallel()
	s := newWebSite(t, func(c *WebSocketConfig, _ *http.Server) { c.Origins = []string{"https://app.example.com"} })
	ada := s.user("ada", allow("iot:*"))
	off := s.user("off", allow("iot:*"))
	check(t, s.iam.SetKeyActive(t.Context(), here, "off", off.AccessKeyID, false))
	guest := s.identity("unauthenticated", allow("iot:*"))
	noToken, forged := guest, ada
	noToken.Token, forged.Secret = "", "another"
	now := s.gw.Clock.Now()
	presign := func(c sigv4.Credentials, region, service string, at time.Time) string {
		return sigv4.Presign(http.MethodGet, s.url(), c, region, service, at, time.Minute).String()
	}
	for name, c := range map[string]struct{ address, origin, code string }{
		"unsigned":           {s.url().String(), "", "MissingAuthenticationTokenException"},
		"half a signature":   {s.url().String() + "?X-Amz-Algorithm=AWS4-HMAC-SHA256", "", "IncompleteSignatureException"},
		"another's secret":   {s.presigned(forged), "", "InvalidSignatureException"},
		"inactive key":       {s.presigned(off), "", "UnrecognizedClientException"},
		"session, no token":  {s.presigned(noToken), "", "UnrecognizedClientException"},
		"another service":    {presign(ada, here.Region, "sts", now), "", "InvalidSignatureException"},
		"another region":     {presign(ada, "eu-west-1", "iotdevicegateway", now), "", "InvalidSignatureException"},
		"an expired address": {presign(ada, here.Region, "iotdevicegateway", now.Add(-2*time.Minute)), "", "InvalidSignatureException"},
		"a foreign page":     {s.presigned(ada), "https://evil.example.com", "ForbiddenException"},
	} {
		_, res, err := s.dial(c.address, http.Header{"Origin": {c.origin}})
		if err == nil {
			t.Errorf("%s was let in", name)
			continue
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusForbidden || res.Header.Get("X-Amzn-Errortype") != c.code || !bytes.Contains(body, []byte(`"message":"`)) || res.Header.Get("X-Amzn-Requestid") == "" {
			t.Errorf("%s: %d %s %s, want %s", name, res.StatusCode, res.Header.Get("X-Amzn-Errortype"), body, c.code)
		}
		if r := s.trace(); r.Cause == "" || r.Cure == "" {
			t.Errorf("%s: the trace says %q and %q", name, r.Cause, r.Cure)
		}
	}
	ws, _, err := s.dial(s.presigned(ada), http.Header{"Origin": {"https://app.example.com"}})
	check(t, err)
	ws.CloseNow()
	res, err := s.web.Client().Get(s.presigned(ada))
	check(t, err)
	if res.Body.Close(); res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without upgrade: %d", res.StatusCode)
	}
	s.pass(2 * time.Hour)
	if _, res, err = s.dial(s.presigned(guest), nil); err == nil || res.Header.Get("X-Amzn-Errortype") != "ExpiredTokenException" {
		t.Errorf("expired session: %v", err)
	}
}

// Shared between the decisions of IAM users and those of identities: what is asked, and which statement is needed.
var operations = map[string]struct {
	needs []string
	do    func(*mqtttest.Client) byte
}{
	"publish":   {[]string{allow("iot:Publish", "topic/t")}, func(c *mqtttest.Client) byte { return c.Publish("t", "", 1).ReasonCode }},
	"retain":    {[]string{allow("iot:Publish", "topic/t"), allow("iot:RetainPublish", "topic/t")}, func(c *mqtttest.Client) byte { return c.Publish("t", "", 1, withRetain).ReasonCode }},
	"subscribe": {[]string{allow("iot:Subscribe", "topicfilter/a/+")}, func(c *mqtttest.Client) byte { return granted(c.Subscribe("a/+")[0]) }},
	"shared subscription by its filter": {[]string{allow("iot:Subscribe", "topicfilter/a/+")}, func(c *mqtttest.Client) byte {
		return granted(c.Subscribe("$share/g/a/+")[0])
	}},
	"receive": {[]string{allow("iot:Subscribe"), allow("iot:Publish"), allow("iot:Receive", "topic/t")}, func(c *mqtttest.Client) byte {
		c.Subscribe("t")
		c.Publish("t", "", 0)
		c.Ping()
		if p, _ := c.Next(); p.FixedHeader.Type == packets.Publish {
			return 0
		}
		return 0x87
	}},
}

// granted turns the QoS that a SUBACK grants into success.
func granted(code byte) byte {
	if code <= 1 {
		return 0
	}
	return code
}

func withRetain(p *packets.Packet) { p.FixedHeader.Retain = true }

func TestIAMDecidesWhatSignersMayDo(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	connect := allow("iot:Connect", "client/c*")
	n := 0
	with := func(do func(*mqtttest.Client) byte, statements ...string) byte {
		n++
		name := "u" + string(rune('a'+n))
		return do(s.come(s.user(name, append(statements, connect)...), 5).Connected("c" + name))
	}
	for name, op := range operations {
		if code := with(op.do, op.needs...); code != 0 {
			t.Errorf("%s with all it needs: %#x", name, code)
		}
		for i, missing := range op.needs {
			if name == "receive" && i < 2 {
				continue // then there is nothing to receive
			}
			var rest []string
			for j, st := range op.needs {
				if j != i {
					rest = append(rest, st)
				}
			}
			if code := with(op.do, rest...); code != 0x87 {
				t.Errorf("%s without %s: %#x", name, missing, code)
			}
		}
	}
}

func TestRefusalsOfSignersSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	ada := s.user("ada", allow("iot:Connect", "client/c*"), allow("iot:Publish"), deny("iot:Publish", "topic/t"))
	if ack := s.come(ada, 5).Connect("d"); ack.ReasonCode != 0x87 {
		t.Errorf("another client id: %#x", ack.ReasonCode)
	}
	s.wantTrace("iot:Connect", "client/d")
	c := s.come(ada, 5).Connected("c")
	if code := c.Publish("t", "", 1).ReasonCode; code != 0x87 {
		t.Errorf("an explicit deny: %#x", code)
	}
	s.wantTrace("iot:Publish", "allow iot:Publish on "+here.IoT("topic", "t"))
	if ack := s.come(ada, 4).Connect("d"); ack.ReasonCode != 5 {
		t.Errorf("3.1.1: %#x", ack.ReasonCode)
	}
	eve := s.come(s.user("eve", allow("iot:*")), 5).Connected("e")
	if code := eve.Publish("$aws/events/presence/connected/x", "", 1).ReasonCode; code != 0x87 {
		t.Errorf("forging an event: %#x", code)
	}
}

func TestSignedInIdentitiesNeedBothPolicies(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	bob := s.identity("authenticated", allow("iot:Connect"), allow("iot:Publish", "topic/both", "topic/role"))
	if ack := s.come(bob, 5).Connect("bob"); ack.ReasonCode != 0x87 {
		t.Fatalf("without an IoT policy: %#x", ack.ReasonCode)
	}
	s.wantTrace("IoT policies of identity "+identityID, "attached to the identity")
	s.policy("bob", allow("iot:Connect"), allow("iot:Publish", "topic/both", "topic/iot"))
	s.attach("bob", identityID)
	c := s.come(bob, 5).Connected("bob")
	for topic, want := range map[string]byte{"both": 0, "role": 0x87, "iot": 0x87} {
		if code := c.Publish(topic, "", 1).ReasonCode &^ 0x10; code != want {
			t.Errorf("%s: %#x, want %#x", topic, code, want)
		}
	}
	s.tx(func(tx *store.Tx) error { return registry.DetachPolicy(tx, here, "bob", identityID) })
	if code := c.Publish("both", "", 1).ReasonCode; code != 0x87 {
		t.Errorf("after the policy was detached: %#x", code)
	}
	s.attach("bob", identityID)
	if code := c.Publish("both", "", 1).ReasonCode &^ 0x10; code != 0 {
		t.Errorf("after the policy was attached again: %#x", code)
	}
	check(t, s.iam.PutInline(t.Context(), here, store.IAMRole, "web", "p", document(allow("iot:Connect"))))
	if code := c.Publish("both", "", 1).ReasonCode; code != 0x87 {
		t.Errorf("after the role lost the right: %#x", code)
	}
}

func TestVariablesOfAnIdentityAndItsThing(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	bob := s.identity("authenticated", allow("iot:*"))
	s.policy("bob", allow("iot:Connect"), allow("iot:Publish", "topic/${cognito-identity.amazonaws.com:sub}", "topic/${iot:Connection.Thing.Attributes[room]}"))
	s.attach("bob", identityID)
	s.tx(func(tx *store.Tx) error {
		if _, err := registry.CreateThing(tx, here, registry.ThingSpec{Name: "bob", Attributes: map[string]string{"room": "hall"}}); err != nil {
			return err
		}
		return registry.AttachPrincipal(tx, here, "bob", identityID, fleet.NonExclusive)
	})
	c := s.come(bob, 5).Connected("bob")
	codes := func() (codes [3]byte) {
		for i, topic := range []string{identityID, "hall", "attic"} {
			codes[i] = c.Publish(topic, "", 1).ReasonCode &^ 0x10
		}
		return codes
	}
	if got := codes(); got != [3]byte{0, 0, 0x87} {
		t.Errorf("%#x", got)
	}
	s.tx(func(tx *store.Tx) error {
		_, err := registry.UpdateThing(tx, here, "bob", registry.ThingChange{Attributes: map[string]string{"room": "attic"}, Merge: true})
		return err
	})
	if got := codes(); got != [3]byte{0, 0x87, 0} {
		t.Errorf("in another room: %#x", got)
	}
}

func TestGuestsNeedTheirRoleAlone(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	c := s.come(s.identity("unauthenticated", allow("iot:Connect"), allow("iot:Publish", "topic/t")), 5).Connected("guest")
	if code := c.Publish("t", "", 1).ReasonCode &^ 0x10; code != 0 {
		t.Errorf("%#x", code)
	}
}

func TestWebSocketsEndWithTheirCredentials(t *testing.T) {
	t.Parallel()
	role := func(s *webSite) sigv4.Credentials { return s.identity("unauthenticated", allow("iot:*")) }
	user := func(s *webSite) sigv4.Credentials { return s.user("ada", allow("iot:*")) }
	for name, c := range map[string]struct {
		who    func(*webSite) sigv4.Credentials
		change func(*webSite, string)
		code   byte
		reason string
	}{
		"expired":         {role, func(s *webSite, _ string) { s.pass(time.Hour) }, 0x87, "AUTH_ERROR"},
		"a day is over":   {user, func(s *webSite, _ string) { s.pass(24 * time.Hour) }, 0x98, "WEBSOCKET_TTL_EXPIRATION"},
		"key deactivated": {user, func(s *webSite, key string) { check(s.t, s.iam.SetKeyActive(s.t.Context(), here, "ada", key, false)) }, 0x87, "AUTH_ERROR"},
		"key deleted":     {user, func(s *webSite, key string) { check(s.t, s.iam.DeleteKey(s.t.Context(), here, "ada", key)) }, 0x87, "AUTH_ERROR"},
		"role distrusted": {role, func(s *webSite, _ string) { check(s.t, s.iam.SetTrust(s.t.Context(), here, "web", trustNothing)) }, 0x87, "AUTH_ERROR"},
		"person signed out": {role, func(s *webSite, _ string) {
			s.tx(func(tx *store.Tx) error { return tx.CutOff(here, "user:us-east-1_Pool/sub-1", tx.Now()) })
		}, 0x87, "AUTH_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newWebSite(t)
			listener := s.open(s.device(allow("iot:*")), 5).Connected("listener#")
			listener.Subscribe("$aws/events/presence/disconnected/+")
			who := c.who(s)
			v5, v4 := s.come(who, 5).Connected("v5"), s.come(who, 4).Connected("v4")
			start := time.Now()
			c.change(s, who.AccessKeyID)
			v5.WantDisconnect(c.code)
			v4.WantClosed()
			if took := time.Since(start); took > mqtttest.Patience()/2 { // a tick is a second
				t.Errorf("took %v", took)
			}
			p := listener.Message()
			if !bytes.Contains(p.Payload, []byte(`"disconnectReason":"`+c.reason+`"`)) || !bytes.Contains(p.Payload, []byte(`"principalIdentifier":"`+here.Account+`/A`)) {
				t.Errorf("%s", p.Payload)
			}
		})
	}
}

func TestAChangeThatLeavesCredentialsAloneLeavesWebSocketsAlone(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	c := s.come(s.user("ada", allow("iot:*")), 5).Connected("c")
	eve := s.user("eve", allow("iot:*"))
	gone := s.come(eve, 5).Connected("gone")
	check(t, s.iam.PutInline(t.Context(), here, store.IAMUser, "ada", "p", document(allow("iot:Publish", "topic/u"))))
	check(t, s.iam.SetKeyActive(t.Context(), here, "eve", eve.AccessKeyID, false))
	gone.WantDisconnect(0x87) // by now everybody was looked at
	if code := c.Publish("t", "", 1).ReasonCode; code != 0x87 {
		t.Errorf("a right that was taken: %#x", code)
	}
	if code := c.Publish("u", "", 1).ReasonCode &^ 0x10; code != 0 {
		t.Errorf("a right that stayed: %#x", code)
	}
}

func TestPacketsShareAndSpanMessages(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	ws := s.socket(s.user("ada", allow("iot:*")))
	ctx, cancel := context.WithTimeout(t.Context(), mqtttest.Patience())
	defer cancel()
	stream := mqtttest.Encode(t, mqtttest.ConnectPacket("c"), 4)
	stream = append(stream, 0xc0, 0, 0xc0, 0)
	check(t, ws.Write(ctx, websocket.MessageBinary, stream[:1]))
	check(t, ws.Write(ctx, websocket.MessageBinary, nil))
	check(t, ws.Write(ctx, websocket.MessageBinary, stream[1:7]))
	w, err := ws.Writer(ctx, websocket.MessageBinary) // one message in two frames
	check(t, err)
	w.Write(stream[7 : len(stream)-3])
	w.Write(stream[len(stream)-3:])
	check(t, w.Close())
	var got []byte
	for len(got) < 8 {
		kind, p, err := ws.Read(ctx)
		check(t, err)
		if kind != websocket.MessageBinary {
			t.Fatal("an answer that is not binary")
		}
		got = append(got, p...)
	}
	if want := []byte{0x20, 2, 0, 0, 0xd0, 0, 0xd0, 0}; !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestMessagesThatMQTTDoesNotAllowEndTheConnection(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	ada := s.user("ada", allow("iot:*"))
	ctx, cancel := context.WithTimeout(t.Context(), mqtttest.Patience())
	defer cancel()
	for name, c := range map[string]struct {
		kind    websocket.MessageType
		message []byte
		status  websocket.StatusCode
	}{
		"text":    {websocket.MessageText, mqtttest.Encode(t, mqtttest.ConnectPacket("c"), 4), websocket.StatusUnsupportedData},
		"endless": {websocket.MessageBinary, append(mqtttest.Encode(t, mqtttest.ConnectPacket("c"), 4), bytes.Repeat([]byte{0xc0, 0}, webSocketMessage/2)...), websocket.StatusMessageTooBig},
	} {
		ws := s.socket(ada)
		go ws.Write(ctx, c.kind, c.message)
		var err error
		for err == nil {
			_, _, err = ws.Read(ctx)
		}
		if websocket.CloseStatus(err) != c.status && c.kind == websocket.MessageText || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACloseFrameIsADisconnect(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	ada := s.user("ada", allow("iot:*"))
	listener := s.come(ada, 5).Connected("listener#")
	listener.Subscribe("will/+", "$aws/events/presence/disconnected/+")
	will := func(p *packets.Packet) {
		p.Connect.WillFlag, p.Connect.WillTopic, p.Connect.WillPayload = true, "will/"+p.Connect.ClientIdentifier, []byte("x")
	}
	ctx, cancel := context.WithTimeout(t.Context(), mqtttest.Patience())
	defer cancel()
	orderly := s.socket(ada)
	check(t, orderly.Write(ctx, websocket.MessageBinary, mqtttest.Encode(t, mqtttest.ConnectPacket("orderly", will), 4)))
	_, _, err := orderly.Read(ctx)
	check(t, err)
	orderly.Close(websocket.StatusNormalClosure, "")
	want(t, event(t, listener, "presence/disconnected/orderly"), map[string]any{"clientInitiatedDisconnect": true, "disconnectReason": "CLIENT_INITIATED_DISCONNECT"})
	torn := s.socket(ada)
	check(t, torn.Write(ctx, websocket.MessageBinary, mqtttest.Encode(t, mqtttest.ConnectPacket("torn", will), 4)))
	_, _, err = torn.Read(ctx)
	check(t, err)
	torn.CloseNow()
	listener.WantMessage("will/torn", "x")
	want(t, event(t, listener, "presence/disconnected/torn"), map[string]any{"clientInitiatedDisconnect": false, "disconnectReason": "CONNECTION_LOST"})
}

func TestTheDeadlinesOfRequestsAreNotThoseOfWebSockets(t *testing.T) {
	t.Parallel()
	const deadline = time.Second
	s := newWebSite(t, func(_ *WebSocketConfig, h *http.Server) {
		h.ReadTimeout, h.WriteTimeout, h.IdleTimeout = deadline, deadline, deadline
	})
	ada := s.user("ada", allow("iot:*"))
	ws, _, err := s.dial(s.presigned(ada), nil, "mqtt")
	for tries := 1; err != nil && tries < 30; tries++ { // a machine that stands still misses the deadline of the request itself
		ws, _, err = s.dial(s.presigned(ada), nil, "mqtt")
	}
	check(t, err)
	c := mqtttest.New(t, closeNow{websocket.NetConn(context.Background(), ws, websocket.MessageBinary)}, 4).Connected("c")
	for start := time.Now(); time.Since(start) < 2*deadline; {
		c.Quiet()
	}
}

func TestProvisioningIsForClaimsAndCertificates(t *testing.T) {
	t.Parallel()
	s := newWebSite(t)
	c := s.come(s.user("ada", allow("iot:*")), 5).Connected("c")
	c.Send(c.PublishPacket(reserved.PrefixCreate+"json", "{}", 0))
	c.WantDisconnect(0x90)
}

// BenchmarkDecision measures what a message to a WebSocket costs in policies: of a user, and of a session that policies narrow,
// first asked and again.
func BenchmarkDecision(b *testing.B) {
	s := newWebSite(b)
	user := s.user("ada", allow("iot:*", "topic/*"), deny("iot:Publish", "topic/secret"))
	found, err := s.iam.Lookup(b.Context(), here.Region, user.AccessKeyID, "")
	check(b, err)
	narrowed := *found.Caller
	narrowed.SessionPolicies = []string{document(allow("iot:*"))}
	for name, caller := range map[string]*fleet.Caller{"user": found.Caller, "narrowed": &narrowed} {
		u := newUserAccess(&webSockets{WebSocketConfig: WebSocketConfig{Permissions: s.iam}, g: s.gw}, &arrival{who: identity{scope: here}}, caller)
		b.Run(name+"/first", func(b *testing.B) {
			for b.Loop() {
				if err := u.decide(b.Context(), "iot:Receive", []string{here.IoT("topic", "t")}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/again", func(b *testing.B) {
			for b.Loop() {
				if err := u.Receive("t"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
