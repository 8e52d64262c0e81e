package compat

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// A cast is a client library, and how its parties come to be.
type cast struct {
	name     string
	versions []byte
	lacks    skill // what it cannot be told to do
	party    func(s *stage, name string, v byte, p post) party
}

// A skill is something that not every client can be told to do.
type skill int

const (
	holds          skill = 1 << iota // withhold the acknowledgement of several messages at once, and give them one by one
	codes                            // tell the code of a PUBACK
	pairs                            // keep the order of user properties whose names repeat
	willProperties                   // send all properties with a will
	noKeepAlive                      // ask for no keep-alive
	qos2                             // publish at QoS 2 against what the server said
	identifiers                      // send subscription identifiers against what the server said
	unknownAlias                     // use a topic alias that it has not set
	reconnects                       // connect again by itself
	serverNames                      // ask for a server name other than the host
	cuts                             // drop the connection without a word
	nameless                         // connect with an empty client id
	aliases                          // choose topic aliases
	asksQoS2                         // subscribe at QoS 2 against what the server said
)

var casts = []cast{
	{"paho.mqtt.golang", v3, holds, func(s *stage, _ string, _ byte, p post) party { return &paho3{stage: s, post: p} }},
	{"paho.golang", v5, qos2 | identifiers | willProperties | reconnects, func(s *stage, _ string, _ byte, p post) party { return &paho5{stage: s, post: p} }},
	{"paho for Python", v3and5, holds | codes | noKeepAlive | serverNames, func(s *stage, name string, v byte, p post) party { return s.python.party(name, v, p) }},
	{"aws-iot-device-sdk", v3, holds | codes | qos2 | cuts | nameless | serverNames,
		func(s *stage, name string, v byte, p post) party { return s.sdk1.party(name, v, p) }},
	{"aws-iot-device-sdk-v2", v3and5, holds | qos2 | cuts | nameless | serverNames | aliases | unknownAlias | willProperties | asksQoS2,
		func(s *stage, name string, v byte, p post) party { return s.sdk2.party(name, v, p) }},
	{"MQTT.js", v3and5, holds | pairs | unknownAlias | serverNames, func(s *stage, name string, v byte, p post) party { return s.node.party(name, v, p) }},
}

var v3, v5, v3and5 = []byte{4}, []byte{5}, []byte{4, 5}

// A stage is a server and one device's certificate that may do all but subscribe to forbidden/#, publish to forbidden/#.
type stage struct {
	site         *site
	tls          *tls.Config
	cert, key    string // files
	python, node *troupe
	sdk1, sdk2   *troupe
	plays        atomic.Int64
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := ownServer(t)
	st := &stage{site: s}
	admin := s.adminSDK(t)
	cert, err := admin.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(t, err)
	arn := func(what string) string { return "arn:aws:iot:" + s.get("AWS_REGION") + ":" + account + ":" + what }
	_, err = admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("interop"), PolicyDocument: text(object{"Version": "2012-10-17", "Statement": []object{
		{"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
		{"Effect": "Deny", "Action": "iot:*", "Resource": []string{arn("topicfilter/forbidden/*"), arn("topic/forbidden/*")}}}})})
	check(t, err)
	_, err = admin.iot.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("interop"), Target: cert.CertificateArn})
	check(t, err)
	st.cert, st.key = writePair(t, t.TempDir(), "device", *cert.CertificatePem, *cert.KeyPair.PrivateKey)
	st.tls = s.tlsConfig(t, *cert.CertificatePem, *cert.KeyPair.PrivateKey)
	files := []string{"IOT_CERT=" + st.cert, "IOT_KEY=" + st.key}
	st.python = hire(t, s, "python", files, "/usr/bin/python3", "party.py")
	st.node = hire(t, s, "node", files, "node", "party.mjs")
	st.sdk1 = hire(t, s, "node", files, "node", "party-sdk1.mjs")
	st.sdk2 = hire(t, s, "node", files, "node", "party-sdk2.mjs")
	return st
}

// A play is one scenario with one client library and version of the protocol. Its names are its own.
type play struct {
	*testing.T
	stage  *stage
	cast   cast
	v      byte
	prefix string
}

func (p *play) topic(name string) string { return p.prefix + "/" + name }

// An actor is a party and what the scenario expects of it.
type actor struct {
	party
	play *play
	id   string
	post post
	once sync.Once

	times int // that it has left
}

func (p *play) actor(name string) *actor {
	in, id := newPost(), p.prefix+"-"+name
	return &actor{party: p.cast.party(p.stage, id, p.v, in), play: p, id: id, post: in}
}

// joins has a new actor connect, with a clean session unless changed.
func (p *play) joins(name string, change ...func(*join)) *actor {
	p.Helper()
	a := p.actor(name)
	a.joins(change...)
	return a
}

func (a *actor) join(change ...func(*join)) (welcome, error) {
	j := join{ClientID: a.id, Clean: true, KeepAlive: 60}
	for _, c := range change {
		c(&j)
	}
	for len(a.post.lost) > 0 {
		<-a.post.lost
	}
	w, err := a.connect(j)
	if err == nil {
		a.once.Do(func() { a.play.Cleanup(func() { _ = a.disconnect(nil) }) })
	}
	return w, err
}

func (a *actor) joins(change ...func(*join)) welcome {
	a.play.Helper()
	w, err := a.join(change...)
	check(a.play.T, err)
	return w
}

// keep asks for a session that outlives its connection.
func keep(j *join) { keepFor(600)(j) }

func keepFor(seconds uint32) func(*join) {
	return func(j *join) { j.Clean, j.Expiry = false, &seconds }
}

func (a *actor) subscribes(filters ...string) {
	a.play.Helper()
	for _, f := range filters {
		a.asks(1, ask{Filter: f, QoS: 1})
	}
}

// asks subscribes and checks the code of the SUBACK.
func (a *actor) asks(code byte, q ask) {
	a.play.Helper()
	codes, err := a.subscribe(q)
	check(a.play.T, err)
	if !slices.Equal(codes, []byte{code}) {
		a.play.Fatalf("SUBACK for %s: %v, want %d", q.Filter, codes, code)
	}
}

func (a *actor) sends(l letter) {
	a.play.Helper()
	code, err := a.publish(l)
	check(a.play.T, err)
	if code != 0 {
		a.play.Fatalf("PUBACK for %s: %d", l.Topic, code)
	}
}

// next is the next message.
func (a *actor) next() letter {
	a.play.Helper()
	select {
	case l := <-a.post.mail:
		return l
	case <-time.After(answerTimeout):
		a.play.Fatalf("no message within %v", answerTimeout)
		panic("unreachable")
	}
}

// hears wants the next message to be this one.
func (a *actor) hears(topic, payload string) letter {
	a.play.Helper()
	l := a.next()
	if l.Topic != topic || l.Payload != payload {
		a.play.Fatalf("heard %.100q on %s, want %.100q on %s", l.Payload, l.Topic, payload, topic)
	}
	return l
}

// loses waits for the server to end the connection; in MQTT 5 with a DISCONNECT of this code, if it is not 0.
func (a *actor) loses(code byte) {
	a.play.Helper()
	late := time.After(answerTimeout)
	for {
		select {
		case got := <-a.post.lost:
			if got == code || code == 0 || a.play.v == 4 {
				return
			}
			if got != 0 { // some libraries tell of the broken socket as well
				a.play.Fatalf("disconnected with 0x%02x, want 0x%02x", got, code)
			}
		case <-late:
			a.play.Fatalf("the connection was not ended with 0x%02x", code)
		}
	}
}

// leaves says goodbye, in MQTT 5 with another session expiry if one is given, and returns when the server has read it, which another party
// hears of: some libraries close their socket right behind DISCONNECT, and whoever comes back or publishes at once may be faster.
func (a *actor) leaves(expiry ...*uint32) {
	p := a.play
	p.Helper()
	a.times++
	watch := p.joins(fmt.Sprint(strings.TrimPrefix(a.id, p.prefix+"-"), "-watch", a.times))
	watch.subscribes("$aws/events/presence/disconnected/" + a.id)
	check(p.T, a.disconnect(append(expiry, nil)[0]))
	for !strings.Contains(watch.next().Payload, `"CLIENT_INITIATED_DISCONNECT"`) {
	}
}

func (a *actor) cuts() {
	a.play.Helper()
	check(a.play.T, a.cut())
}

// lapse lets real time pass where that is what a rule is about: the server is another process, with a clock of its own.
func (p *play) lapse(d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.Context().Done():
	}
}

// A scenario is one behaviour that clients rely on. Those named like a test of eclipse paho's interoperability suite cover the same
// ground, as far as the gateway's rules allow (docs/interoperability.md).
type scenario struct {
	name     string
	versions []byte
	needs    skill
	try      func(p *play)
}

// TestClientsInteroperate plays each scenario with each client library that is able to.
func TestClientsInteroperate(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	fallSilent(t, s)
	for _, sc := range scenarios {
		for _, c := range casts {
			for _, v := range sc.plays(c) {
				t.Run(fmt.Sprintf("%s/%s %s", sc.name, c.name, map[byte]string{4: "3.1.1", 5: "5"}[v]), func(t *testing.T) {
					t.Parallel()
					sc.try(&play{t, s, c, v, fmt.Sprintf("interop%d", s.plays.Add(1))})
				})
			}
		}
	}
	for _, sc := range mosquittoScenarios {
		for _, v := range sc.versions {
			t.Run(fmt.Sprintf("%s/mosquitto %s", sc.name, v), func(t *testing.T) {
				t.Parallel()
				sc.try(&troop{t, s, v, fmt.Sprintf("interop%d", s.plays.Add(1))})
			})
		}
	}
}

// plays are the versions in which a client is able to play a scenario.
func (sc scenario) plays(c cast) (versions []byte) {
	for _, v := range sc.versions {
		if slices.Contains(c.versions, v) && sc.needs&c.lacks == 0 {
			versions = append(versions, v)
		}
	}
	return versions
}

var update = flag.Bool("update", false, "write the pages that tests print")

// TestTheInteroperabilityPage keeps the page's table of scenarios true.
func TestTheInteroperabilityPage(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- generated: scenarios; cd test/compat && go test -run TestTheInteroperabilityPage -update -->\n", "<!-- end of generated -->\n"
	page := filepath.Join("..", "..", "docs", "interoperability.md")
	old, err := os.ReadFile(page)
	check(t, err)
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks of the generated table", page)
	}
	want := before + begin + scenarioTable() + end + after
	if *update {
		check(t, os.WriteFile(page, []byte(want), 0o644))
	} else if want != string(old) {
		t.Errorf("%s is not fresh: cd test/compat && go test -run TestTheInteroperabilityPage -update", page)
	}
}

func scenarioTable() string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range casts {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString(" mosquitto |\n|---|" + strings.Repeat("---|", len(casts)+1) + "\n")
	mosquitto := map[string]string{}
	for _, sc := range mosquittoScenarios {
		mosquitto[sc.name] = map[int]string{1: "5", 2: "3.1.1, 5"}[len(sc.versions)]
	}
	for _, sc := range scenarios {
		b.WriteString("| " + sc.name + " |")
		for _, c := range casts {
			said := "–"
			switch vs := sc.plays(c); {
			case len(vs) == 2:
				said = "3.1.1, 5"
			case len(vs) == 1:
				said = map[byte]string{4: "3.1.1", 5: "5"}[vs[0]]
			}
			b.WriteString(" " + said + " |")
		}
		said, ok := mosquitto[sc.name]
		if !ok {
			said = "–"
		}
		delete(mosquitto, sc.name)
		b.WriteString(" " + said + " |\n")
	}
	for _, sc := range mosquittoScenarios {
		if said, ok := mosquitto[sc.name]; ok {
			b.WriteString("| " + sc.name + " |" + strings.Repeat(" – |", len(casts)) + " " + said + " |\n")
		}
	}
	b.WriteString("| " + fallsSilent + " |" + strings.Repeat(" – |", len(casts)) + " 3.1.1, 5 |\n")
	return b.String()
}
