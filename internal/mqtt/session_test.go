package mqtt

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestAWillIsSentWhenTheConnectionEndsBadly(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		p := &peer{}
		watcher := s.dial(p, v).Connected("watcher")
		watcher.Subscribe("will")
		will := func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos, pk.Connect.WillRetain = true, "will", []byte("gone"), 1, true
		}
		s.dial(p, v).Connected("polite", will).Disconnect()
		s.gone()
		watcher.Quiet()
		s.dial(p, v).Connected("cut", will).Close()
		want(t, "retain flag", watcher.WantMessage("will", "gone").FixedHeader.Retain, false)
		watcher.Subscribe("will")
		want(t, "retain flag", watcher.WantMessage("will", "gone").FixedHeader.Retain, true)
		rude := s.dial(p, v).Connected("rude", will)
		rude.Raw(0xf7, 0)
		watcher.WantMessage("will", "gone")
		if v == 5 {
			asks := s.dial(p, v).Connected("asks", will)
			asks.Raw(0xe0, 1, 0x04) // DISCONNECT with will message, without properties
			watcher.WantMessage("will", "gone")
		}
		kicked := s.dial(p, v).Connected("kicked", will)
		s.Disconnect(func(_ *Identity, c *Client) bool { return c != nil && c.ID == "kicked" }, Administrative("bye"))
		kicked.WantDisconnect(codeAdministrative)
		watcher.WantMessage("will", "gone")
		quiet := Administrative("bye")
		quiet.NoWill = true
		kicked = s.dial(p, v).Connected("kicked", will)
		s.Disconnect(func(_ *Identity, c *Client) bool { return c != nil && c.ID == "kicked" }, quiet)
		kicked.WantDisconnect(codeAdministrative)
		watcher.Quiet()
	})
}

func TestAWillIsCheckedAtConnect(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		topic  string
		qos    byte
		retain bool
		code   byte // MQTT 5
	}{
		"on a topic that may not be published to": {"no", 0, false, codeNotAuthorized},
		"retained where that is not allowed":      {"yes", 0, true, codeNotAuthorized},
		"on a reserved topic":                     {"$aws/certificates/create/json", 0, false, codeTopicInvalid},
		"with a wildcard":                         {"a/+", 0, false, codeTopicInvalid},
		"on an empty topic":                       {"", 0, false, codeTopicInvalid},
		"at QoS 2":                                {"yes", 2, false, codeQoS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Config{})
			p := &peer{publish: map[string]error{"no": denied("no way")}, retainable: denied("no retain")}
			will := func(pk *packets.Packet) {
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillQos, pk.Connect.WillRetain = true, tt.topic, tt.qos, tt.retain
			}
			c := s.dial(p, 5)
			want(t, "CONNACK", c.Connect("c", will).ReasonCode, tt.code)
			c.WantClosed()
		})
	}
}

func TestAPersistentSessionResumes(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		p := &peer{}
		keep := func(pk *packets.Packet) {
			pk.Connect.Clean = false
			if v == 5 {
				pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
			}
		}
		c := s.dial(p, v)
		want(t, "session present", c.Connect("c", keep).SessionPresent, false)
		c.Subscribe("t")
		pub := s.dial(p, v).Connected("pub")
		pub.Publish("t", "unacked", 1)
		want(t, "message", string(c.Want(packets.Publish).Payload), "unacked")
		c.Disconnect()
		s.gone()
		pub.Publish("t", "missed at QoS 0", 0)
		pub.Publish("t", "queued", 1)
		p.mu.Lock()
		p.receive = map[string]error{"secret": denied("no way")}
		p.mu.Unlock()

		c = s.dial(p, v)
		ack := c.Connect("c", keep)
		want(t, "session present", ack.SessionPresent, true)
		m := c.WantMessage("t", "unacked")
		want(t, "DUP", m.FixedHeader.Dup, false)
		c.WantMessage("t", "queued")
		pub.Publish("t", "live", 1)
		c.WantMessage("t", "live")
		c.Quiet()
		c.Disconnect()
		s.gone()

		other := s.dial(p, 9-v) // the other version cannot resume it
		want(t, "session present across versions", other.Connect("c", func(pk *packets.Packet) { pk.Connect.Clean = false }).SessionPresent, false)
		other.Disconnect()
		s.gone()
		c = s.dial(p, v)
		want(t, "session present after a clean one", c.Connect("c").SessionPresent, false)
		pub.Publish("t", "nobody", 1)
		c.Quiet()
	})
}

// A connection that is ending takes no more packets, but holds its session until that is put aside.
func TestNothingIsLostOnAConnectionThatIsEnding(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{Journal: newPaper()})
		p := &peer{}
		s.leave(p, v, "sub", "t")
		const waiting = MaxInFlight + 10
		for i := range waiting {
			if err := s.Publish(t.Context(), testScope, &Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
				t.Fatal(err)
			}
		}
		sub := s.dial(p, v).Connected("sub", persistent)
		first := sub.Want(packets.Publish)
		for range MaxInFlight - 1 {
			sub.Want(packets.Publish)
		}
		c := s.space(testScope).session("sub").holder()
		p.mu.Lock()
		p.asked = sync.OnceFunc(func() { // while the next message is on its way out
			go c.end(Administrative("bye"))
			for !c.closing() {
				runtime.Gosched()
			}
		})
		p.mu.Unlock()
		sub.Ack(first.PacketID)
		s.gone()

		sub = s.dial(p, v).Connected("sub", persistent)
		for i := 1; i < waiting; i++ {
			sub.WantMessage("t", fmt.Sprint(i))
		}
		sub.Quiet()
	})
}

func (c *conn) closing() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.closing
}

func TestWhatMayNotBeReceivedAnyMoreIsNotResumed(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{}
	keep := func(pk *packets.Packet) { pk.Connect.Clean = false }
	c := s.dial(p, 4).Connected("c", keep)
	c.Subscribe("a", "b")
	c.Disconnect()
	s.gone()
	pub := s.dial(p, 4).Connected("pub")
	pub.Publish("a", "1", 1)
	pub.Publish("b", "2", 1)
	p.mu.Lock()
	p.receive = map[string]error{"a": denied("no way")}
	p.mu.Unlock()
	c = s.dial(p, 4).Connected("c", keep)
	c.WantMessage("b", "2")
	c.Quiet()
}

// The store may be out of reach for a moment: that says nothing about what its clients may have.
func TestNothingIsLostWhileNobodyCanTellWhoMayReceiveIt(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		p := &peer{}
		s.leave(p, v, "sub", "t", "$share/g/shared")
		allow := func(err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.receive = map[string]error{"t": err, "shared": err}
		}
		publish := func(topic, payload string) {
			t.Helper()
			if err := s.Publish(t.Context(), testScope, &Message{Topic: topic, Payload: []byte(payload), QoS: 1}); err != nil {
				t.Fatal(err)
			}
		}
		broken := errors.New("the store is out of reach")
		sub := s.dial(p, v).Connected("sub", persistent)
		allow(broken)
		publish("t", "1")
		sub.WantDisconnect(codeUnspecified)
		want(t, "end", s.gone().Reason, ServerError)
		publish("t", "2")
		publish("shared", "3")
		s.dial(p, v).Connected("sub", persistent).WantDisconnect(codeUnspecified)
		want(t, "end", s.gone().Reason, ServerError)
		allow(nil)
		sub = s.dial(p, v).Connected("sub", persistent)
		sub.WantMessage("t", "1")
		sub.WantMessage("t", "2")
		sub.WantMessage("shared", "3")
		sub.Quiet()
	})
}

func TestTheNewConnectionOfAClientIDWins(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		first, second := &peer{principal: "one"}, &peer{principal: "two"}
		watcher := s.dial(second, v).Connected("watcher")
		watcher.Subscribe("will")
		old := s.dial(first, v).Connected("c", func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "will", []byte("gone")
		})
		old.Subscribe("t")
		now := s.dial(second, 9-v).Connected("c")
		old.WantDisconnect(codeTakenOver)
		watcher.WantMessage("will", "gone")
		want(t, "end", s.gone().Reason, DuplicateClient)
		wantList(t, "ends", first.ends(), DuplicateClient)
		watcher.Publish("t", "x", 1)
		now.Quiet() // the clean session of the old connection is gone
	})
}

func TestManyConnectionsFightForOneClientID(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{}
	const n = 32
	for range n {
		c := s.dial(p, 4)
		go c.Raw(encodeConnect(t, "c", 4)...)
	}
	for range n - 1 {
		want(t, "end", s.gone().Reason, DuplicateClient)
	}
	want(t, "connections left", s.Connections(), 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range p.events { // each connection ends before the next begins
		want(t, "event", e.Kind, EventKind(i%2))
	}
}

func TestAMessageThatIsNotAcknowledgedForAnHourIsGivenUp(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		synctest.Test(t, func(t *testing.T) {
			j := newPaper()
			s := serve(t, Config{Journal: j})
			p := &peer{}
			sub := s.dial(p, v).Connected("sub", persistent, func(pk *packets.Packet) { pk.Connect.Keepalive = 1200 })
			sub.Subscribe("t")
			for i := range MaxInFlight + 1 {
				if err := s.Announce(testScope, &Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
					t.Fatal(err)
				}
			}
			for range MaxInFlight {
				sub.Want(packets.Publish)
			}
			sub.Quiet() // the window is full
			for range 4 {
				time.Sleep(16 * time.Minute)
				sub.Ping()
				sub.Want(packets.Pingresp)
			}
			s.Announce(testScope, &Message{Topic: "t", Payload: []byte("later"), QoS: 1})
			want(t, "payload", string(sub.Want(packets.Publish).Payload), fmt.Sprint(MaxInFlight))
			want(t, "payload", string(sub.Want(packets.Publish).Payload), "later")
			synctest.Wait()
			want(t, "kept", j.counts(), fmt.Sprintf("1 sessions, 1 subscriptions, %d messages, 0 retained", MaxInFlight))
		})
	})
}

func TestSessionsOfAScopeAreBounded(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{Sessions: 2})
		p := &peer{}
		for _, id := range []string{"a", "b"} {
			s.dial(p, v).Connected(id, persistent).Disconnect()
			s.gone()
		}
		c := s.dial(p, v)
		want(t, "CONNACK", c.Connect("c", persistent).ReasonCode, map[byte]byte{4: 3, 5: codeQuota}[v])
		s.dial(p, v).Connected("d") // asks for nothing to be kept
		want(t, "session present", s.dial(p, v).Connect("a", persistent).SessionPresent, true)
	})
}
