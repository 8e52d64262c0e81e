// Package oracle asks a second broker for its opinion: the same script of clients runs against our message core and against mochi's
// broker, and each client must receive the same. Scripts leave out what the gateway's rules have otherwise than the standards
// (iot-core spec 6): QoS 2, retained messages for wildcards, "a/#" for the topic "a", resuming in another protocol version, DUP.
//
// Begin with TestBothBrokersSayTheSame.
package oracle

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// A broker serves a connection until it ends.
type broker interface{ serve(nc net.Conn) }

type ours struct{ *mqtt.Broker }

func (b ours) serve(nc net.Conn) {
	b.Serve(context.Background(), nc, mqtt.Identity{Scope: fleet.Scope{Account: "000000000000", Region: "us-east-1"}, Principal: "p", Access: everything{}})
}

type everything struct{}

func (everything) Connect(context.Context, *mqtt.Connect) error { return nil }
func (everything) Publish(string, bool) error                   { return nil }
func (everything) Subscribe(string) error                       { return nil }
func (everything) Receive(string) error                         { return nil }

type theirs struct{ *mochi.Server }

func (b theirs) serve(nc net.Conn) { _ = b.EstablishConnection("pipe", nc) } // how it ended does not matter

// allow lets everybody do everything.
type allow struct{ mochi.HookBase }

func (*allow) ID() string { return "allow" }
func (*allow) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (*allow) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allow) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// A world is one broker with the clients of a script.
type world struct {
	t       *testing.T
	b       broker
	clients map[string]*client
	syncs   int
}

// A client is one client id.
type client struct {
	id         string
	version    byte
	persistent bool
	silent     bool // does not acknowledge what it receives
	conn       *mqtttest.Client
	gone       chan struct{} // closed when the broker has served the connection to its end
}

// connect opens a connection; a persistent client resumes.
func (w *world) connect(c *client) string {
	here, there := net.Pipe()
	c.gone = make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		w.b.serve(there)
	}(c.gone)
	c.conn = mqtttest.New(w.t, here, c.version)
	ack := c.conn.Connect(c.id, func(pk *packets.Packet) {
		pk.Connect.Clean = !c.persistent
		if c.persistent && c.version == 5 {
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
		}
	})
	return fmt.Sprintf("%s: CONNACK %#x, session present %v", c.id, ack.ReasonCode, ack.SessionPresent)
}

func (c *client) leave(politely bool) {
	if politely {
		c.conn.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	}
	c.conn.Close()
	<-c.gone
	c.conn = nil
}

// syncTopic is what every connected client subscribes to: a message there comes behind all others that a broker had for it.
const (
	syncTopic = "sync"
	syncID    = 60000 // of the SUBSCRIBE
)

// collect returns what every connected client has received.
func (w *world) collect() (got []string) {
	w.syncs++
	mark := strconv.Itoa(w.syncs)
	w.clients["keeper"].conn.Publish(syncTopic, mark, 0)
	for _, c := range w.clients {
		if c.conn != nil {
			got = append(got, w.until(c, mark)...)
		}
	}
	return got
}

func (w *world) until(c *client, mark string) (got []string) {
	for {
		pk, open := c.conn.Next()
		if !open {
			return append(got, c.id+": closed")
		}
		if pk.FixedHeader.Type == packets.Publish && pk.TopicName == syncTopic && string(pk.Payload) == mark {
			return got
		}
		got = append(got, c.hears(pk)...)
	}
}

// A step is one thing that somebody does, the same in both worlds.
type step struct {
	who      string
	do       string
	topic    string
	payload  string
	qos      byte
	retain   bool
	politely bool
	sub      packets.Subscription
	id       uint16
}

func (s step) String() string {
	switch s.do {
	case "publishes":
		return fmt.Sprintf("%s publishes %s %q QoS %d retain %v", s.who, s.topic, s.payload, s.qos, s.retain)
	case "subscribes", "unsubscribes":
		o := s.sub
		return fmt.Sprintf("%s %s %s QoS %d, retain handling %d as published %v, no local %v", s.who, s.do, o.Filter, o.Qos, o.RetainHandling, o.RetainAsPublished, o.NoLocal)
	}
	return s.who + " " + s.do
}

// take takes a step and returns what everybody hears then.
func (w *world) take(s step) []string {
	c := w.clients[s.who]
	var said []string
	switch s.do {
	case "comes", "comes silently":
		c.silent = s.do == "comes silently"
		said = append(said, w.connect(c))
		c.conn.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: syncID, Filters: packets.Subscriptions{{Filter: syncTopic}}})
	case "leaves":
		c.leave(s.politely)
	case "publishes":
		c.conn.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: s.qos, Retain: s.retain}, TopicName: s.topic, Payload: []byte(s.payload), PacketID: s.id * uint16(s.qos)})
	case "subscribes":
		c.conn.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: s.id, Filters: packets.Subscriptions{s.sub}})
	case "unsubscribes":
		c.conn.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: s.id, Filters: packets.Subscriptions{s.sub}})
	}
	if s.who != "keeper" && c.conn != nil { // a broker may be at work for this client still: its answer to a ping is behind that
		said = append(said, w.answered(c)...)
	}
	said = append(said, w.collect()...)
	slices.Sort(said) // mochi sends again in the order of seconds
	return said
}

// answered waits until the broker has handled what the client has sent.
func (w *world) answered(c *client) (got []string) {
	c.conn.Ping()
	for {
		pk, open := c.conn.Next()
		switch {
		case !open:
			return append(got, c.id+": closed")
		case pk.FixedHeader.Type == packets.Pingresp:
			return got
		}
		got = append(got, c.hears(pk)...)
	}
}

// hears says what a client has received, and acknowledges it.
func (c *client) hears(pk packets.Packet) []string {
	switch {
	case pk.FixedHeader.Type == packets.Suback && pk.PacketID == syncID, pk.FixedHeader.Type == packets.Publish && pk.TopicName == syncTopic:
		return nil
	case pk.FixedHeader.Type == packets.Suback:
		return []string{fmt.Sprintf("%s: SUBACK %v", c.id, pk.ReasonCodes)}
	case pk.FixedHeader.Type != packets.Publish:
		return []string{fmt.Sprintf("%s: %s %#x", c.id, packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode)}
	}
	who := c.id
	if strings.HasPrefix(pk.TopicName, "shared/") {
		who = "a member" // which one is chance
	}
	if pk.FixedHeader.Qos > 0 && !c.silent {
		c.conn.Ack(pk.PacketID)
	}
	return []string{fmt.Sprintf("%s: %s %q QoS %d retain %v", who, pk.TopicName, pk.Payload, pk.FixedHeader.Qos, pk.FixedHeader.Retain)}
}

// newWorld brings the clients that are always there.
func newWorld(t *testing.T, b broker) *world {
	w := &world{t: t, b: b, clients: map[string]*client{
		"keeper": {id: "keeper", version: 4}, "member3": {id: "member3", version: 4}, "member5": {id: "member5", version: 5},
		"kept3": {id: "kept3", version: 4, persistent: true}, "kept5": {id: "kept5", version: 5, persistent: true},
		"clean3": {id: "clean3", version: 4}, "clean5": {id: "clean5", version: 5},
	}}
	for _, who := range []string{"keeper", "member3", "member5"} {
		w.take(step{who: who, do: "comes"})
	}
	for i, who := range []string{"member3", "member5"} {
		w.take(step{who: who, do: "subscribes", id: uint16(i + 1), sub: packets.Subscription{Filter: "$share/g/shared/#", Qos: 1}})
	}
	return w
}

func (w *world) close() {
	for _, c := range w.clients {
		if c.conn != nil {
			c.leave(false)
		}
	}
}

// An author writes scripts.
type author struct {
	*rand.Rand
	here map[string]bool
	n    int
}

func (a *author) pick(of ...string) string { return of[a.IntN(len(of))] }

func (a *author) next() step {
	a.n++
	s := step{who: a.pick("kept3", "kept5", "clean3", "clean5"), id: uint16(a.n)}
	switch n := a.IntN(20); {
	case !a.here[s.who]:
		s.do = "comes"
		if strings.HasPrefix(s.who, "kept") && n < 6 {
			s.do = "comes silently"
		}
		a.here[s.who] = true
	case n < 3:
		s.do, s.politely = "leaves", n > 0
		a.here[s.who] = false
	case n < 8:
		s.do, s.sub = "subscribes", a.subscription(s.who)
	case n < 9:
		s.do, s.sub = "unsubscribes", packets.Subscription{Filter: a.filter()}
	default:
		s.do, s.topic, s.qos, s.payload = "publishes", a.pick("a/1", "a/2", "b/1", "r/1", "r/2", "shared/1"), byte(a.IntN(2)), fmt.Sprint(a.n)
		if strings.HasPrefix(s.topic, "r/") {
			s.retain = a.IntN(3) > 0
			if s.retain && a.IntN(4) == 0 {
				s.payload = ""
			}
		}
	}
	return s
}

// filter never stands for a topic with a retained message by a wildcard.
func (a *author) filter() string { return a.pick("a/1", "a/+", "a/#", "b/1", "r/1", "r/2") }

// subscription has options of MQTT 5 where filters do not overlap: there the standard leaves open what becomes of them.
func (a *author) subscription(who string) packets.Subscription {
	s := packets.Subscription{Filter: a.filter(), Qos: byte(a.IntN(2))}
	switch {
	case !strings.HasSuffix(who, "5"):
	case s.Filter[0] == 'r':
		s.RetainHandling, s.RetainAsPublished = byte(a.IntN(3)), a.IntN(2) == 0
	case s.Filter[0] == 'b': // of what is retained mochi keeps its publisher's from it, too
		s.NoLocal = a.IntN(3) == 0
	}
	return s
}

func TestBothBrokersSayTheSame(t *testing.T) { play(t, 40) }

func TestSoakBothBrokersSayTheSame(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	play(t, 2000)
}

// play has both brokers play scripts.
func play(t *testing.T, scripts int) {
	seed := rand.Uint64()
	if s := os.Getenv("IMPRINT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("IMPRINT_SEED=%d", seed)
	for i := range scripts {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			perform(t, &author{Rand: rand.New(rand.NewPCG(seed, uint64(i))), here: map[string]bool{}})
		})
	}
}

// perform writes a script, step by step, and has both brokers play it.
func perform(t *testing.T, a *author) {
	core := mqtt.New(mqtt.Config{})
	defer core.Close(t.Context())
	other := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := other.AddHook(new(allow), nil); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	here, there := newWorld(t, ours{core}), newWorld(t, theirs{other})
	defer here.close()
	defer there.close() // mochi waits for its clients
	var script []string
	for range 100 {
		s := a.next()
		script = append(script, s.String())
		if got, want := here.take(s), there.take(s); !slices.Equal(got, want) {
			t.Fatalf("after\n  %s\nwe say\n  %s\nand mochi says\n  %s", strings.Join(script, "\n  "), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}
