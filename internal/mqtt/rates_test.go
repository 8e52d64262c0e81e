package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// limited runs a test in both versions against a broker with AWS's limits, in made-up time.
func limited(t *testing.T, l Limits, test func(t *testing.T, s *server, v byte)) {
	t.Helper()
	both(t, func(t *testing.T, v byte) {
		synctest.Test(t, func(t *testing.T) { test(t, serve(t, Config{Limits: l}), v) })
	})
}

// waiting counts the messages that have come, and acknowledges them.
func waiting(c *mqtttest.Client) (n int) {
	c.Ping()
	for {
		pk, _ := c.Next()
		if pk.FixedHeader.Type == packets.Pingresp {
			return n
		}
		if pk.FixedHeader.Qos > 0 {
			c.Ack(pk.PacketID)
		}
		n++
	}
}

func TestTheNumbersOfAWS(t *testing.T) {
	t.Parallel()
	want(t, "limits", AWSLimits(), Limits{500000, 500, 1, 500000, 500, 20000, 20000, 100, 524288, 10, 20})
}

func TestAClientIDConnectsOncePerSecond(t *testing.T) {
	t.Parallel()
	limited(t, AWSLimits(), func(t *testing.T, s *server, v byte) {
		p := &peer{}
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		first := s.dial(p, v).Connected("c")
		second := s.dial(p, v)
		want(t, "CONNACK", second.Connect("c").ReasonCode, map[byte]byte{4: 3, 5: codeQuota}[v])
		second.WantClosed()
		want(t, "end", s.gone().Reason, Throttled)
		s.dial(p, v).Connected("other")
		first.Quiet() // is not taken over by who was refused
		time.Sleep(time.Second)
		s.dial(p, v).Connected("c")
		first.WantDisconnect(codeTakenOver)
	})
}

func TestConnectionsAndSubscriptionsOfAScopeAreCounted(t *testing.T) {
	t.Parallel()
	limited(t, Limits{Connections: 2, Connects: 3, Subscriptions: 3, Subscribes: 5}, func(t *testing.T, s *server, v byte) {
		p := &peer{}
		refused := map[byte]byte{4: 0x80, 5: codeQuota}[v]
		a, b := s.dial(p, v).Connected("a"), s.dial(p, v).Connected("b")
		c := s.dial(p, v)
		want(t, "CONNACK of the third", c.Connect("c").ReasonCode, map[byte]byte{4: 3, 5: codeQuota}[v])
		a.Disconnect()
		s.gone()
		s.gone()
		a = s.dial(p, v).Connected("a")
		b.Disconnect()
		s.gone()
		want(t, "CONNACK of the fourth in a second", s.dial(p, v).Connect("c").ReasonCode, map[byte]byte{4: 3, 5: codeQuota}[v])
		wantList(t, "SUBACK", a.Subscribe("1", "2", "3", "4"), 1, 1, 1, refused)
		a.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 99, Filters: packets.Subscriptions{{Filter: "1"}, {Filter: "2"}}})
		a.Want(packets.Unsuback)
		wantList(t, "SUBACK", a.Subscribe("5", "6", "7"), 1, 1, refused)
		time.Sleep(2 * time.Second)
		s.dial(p, v).Connected("b").Quiet()
	})
}

func TestAClientPublishesAHundredMessagesPerSecond(t *testing.T) {
	t.Parallel()
	limited(t, AWSLimits(), func(t *testing.T, s *server, v byte) {
		p := &peer{}
		pub, sub := s.dial(p, v).Connected("pub"), s.dial(p, v).Connected("sub")
		sub.Subscribe("t")
		for range 100 {
			pub.Publish("t", "x", 1)
		}
		if v == 5 {
			want(t, "PUBACK", pub.Publish("t", "dropped", 1).ReasonCode, codeQuota)
		} else {
			pub.Send(pub.PublishPacket("t", "dropped", 1))
			pub.Quiet() // no PUBACK
		}
		want(t, "messages", waiting(sub), 100)
		time.Sleep(time.Second)
		pub.Publish("t", "later", 1)
		sub.WantMessage("t", "later")
	})
}

func TestAClientReceivesAHundredMessagesPerSecond(t *testing.T) {
	t.Parallel()
	limited(t, AWSLimits(), func(t *testing.T, s *server, v byte) {
		p := &peer{}
		sub := s.dial(p, v).Connected("sub", func(pk *packets.Packet) { pk.Connect.Keepalive = 1200 })
		sub.Subscribe("t")
		for qos, got := range []int{100, 100} {
			for range 130 {
				if err := s.Announce(testScope, &Message{Topic: "t", Payload: []byte("x"), QoS: byte(qos)}); err != nil {
					t.Fatal(err)
				}
			}
			want(t, "messages at once", waiting(sub), got)
			time.Sleep(5 * time.Second)
			want(t, "messages later", waiting(sub), 30*qos) // at QoS 0 they are dropped, at QoS 1 they wait
			time.Sleep(5 * time.Second)
		}
	})
}

func TestAClientSendsHalfAMegabytePerSecond(t *testing.T) {
	t.Parallel()
	limited(t, AWSLimits(), func(t *testing.T, s *server, v byte) {
		p := &peer{}
		pub, sub := s.dial(p, v).Connected("pub"), s.dial(p, v).Connected("sub")
		sub.Subscribe("t")
		start := time.Now()
		go func() {
			for range 24 { // 3 MiB
				pub.Send(pub.PublishPacket("t", strings.Repeat("x", MaxPayload), 0))
			}
			pub.Ping()
		}()
		pub.Want(packets.Pingresp)
		if took := time.Since(start); took < 4*time.Second || took > 8*time.Second {
			t.Errorf("three megabytes took %v", took)
		}
	})
}

func TestAResumedSessionGetsTenMessagesPerSecondAndLiveOnesBetween(t *testing.T) {
	t.Parallel()
	limited(t, AWSLimits(), func(t *testing.T, s *server, v byte) {
		p := &peer{}
		c := s.dial(p, v).Connected("c", persistent)
		c.Subscribe("t")
		c.Disconnect()
		s.gone()
		for i := range 25 {
			if err := s.Announce(testScope, &Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		c = s.dial(p, v).Connected("c", persistent)
		for i := range 10 {
			c.WantMessage("t", fmt.Sprint(i))
		}
		c.Quiet()
		if err := s.Announce(testScope, &Message{Topic: "t", Payload: []byte("live"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		c.WantMessage("t", "live")
		start := time.Now()
		for i := 10; i < 25; i++ {
			c.WantMessage("t", fmt.Sprint(i))
		}
		if took := time.Since(start); took < time.Second || took > 4*time.Second {
			t.Errorf("the last fifteen took %v", took)
		}
		s.Announce(testScope, &Message{Topic: "t", Payload: []byte("after"), QoS: 1})
		c.WantMessage("t", "after")
		c.Quiet()
	})
}

func TestAMemberTakesTwentyWaitingMessagesPerSecondOfItsGroup(t *testing.T) {
	t.Parallel()
	limited(t, AWSLimits(), func(t *testing.T, s *server, v byte) {
		p := &peer{}
		for _, id := range []string{"a", "b"} {
			c := s.dial(p, v).Connected(id, persistent)
			c.Subscribe("$share/g/t")
			c.Disconnect()
			s.gone()
		}
		for range 50 {
			s.Announce(testScope, &Message{Topic: "t", Payload: []byte("x"), QoS: 1})
		}
		time.Sleep(2 * time.Second)
		a := s.dial(p, v).Connected("a", persistent)
		want(t, "of the first", waiting(a), 20)
		b := s.dial(p, v).Connected("b", persistent)
		want(t, "of the second", waiting(b), 20)
		time.Sleep(3 * time.Second)
		want(t, "the rest", waiting(a)+waiting(b), 10)
	})
}

// TestWhoOwesFiltersWaits: each packet is counted with its filters, and what waits takes effect late and in order.
func TestWhoOwesFiltersWaits(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		synctest.Test(t, func(t *testing.T) {
			s := serve(t, Config{})
			var counted []int
			owe := func(n int) time.Duration {
				counted = append(counted, n)
				return time.Duration(len(counted)-1) * time.Second
			}
			c := s.dial(&peer{owe: owe}, v).Connected("c")
			begin := time.Now()
			c.Subscribe("a", "b", "c")
			want(t, "the first waits", time.Since(begin), 0)
			c.Subscribe("d")
			want(t, "the second waits", time.Since(begin), time.Second)
			c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 99, Filters: packets.Subscriptions{{Filter: "a"}, {Filter: "b"}}})
			c.Want(packets.Unsuback)
			want(t, "UNSUBSCRIBE waits", time.Since(begin), 3*time.Second)
			wantList(t, "filters", counted, 3, 1, 2)
		})
	})
}
