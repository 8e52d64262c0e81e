package mqtt

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestWithoutCONNECTAConnectionLastsTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, Config{})
		start := time.Now()
		s.dial(&peer{}, 4).Raw(0x10) // a first byte buys no time
		e := s.gone()
		want(t, "end", e.Reason, ClientError)
		if took := time.Since(start); took < 10*time.Second || took > 13*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestKeepAliveIsClampedAndEndsTheConnectionAfterOneAndAHalf(t *testing.T) {
	t.Parallel()
	for asked, kept := range map[uint16]int{0: 1200, 6: 30, 30: 30, 60: 60, 1200: 1200, 65535: 1200} {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, Config{})
				p := &peer{}
				c := s.dial(p, 5)
				ack := c.Connect("c", func(pk *packets.Packet) { pk.Connect.Keepalive = asked })
				want(t, "server keep alive", int(ack.Properties.ServerKeepAlive), kept)
				wait := time.Duration(kept) * 3 * time.Second / 2
				time.Sleep(wait - time.Second)
				c.Quiet() // which counts as a sign of life
				time.Sleep(wait - time.Second)
				c.Quiet()
				start := time.Now()
				s.gone()
				if took := time.Since(start); took < wait || took > wait+4*time.Second {
					t.Errorf("closed after %v, want %v", took, wait)
				}
				c.WantDisconnect(codeKeepAlive)
				wantList(t, "ends", p.ends(), KeepAliveTimeout)
			})
		})
	}
}

func TestAClientThatWaitsForAHandlerIsNotTimedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, Config{Reserved: map[string]Handler{"$aws/": func(context.Context, *Request) { time.Sleep(time.Minute) }}})
		c := s.dial(&peer{}, 4).Connected("c", func(pk *packets.Packet) { pk.Connect.Keepalive = 30 })
		go func() {
			for range 7 { // more than may wait: the reader stands still for minutes
				c.Send(c.PublishPacket("$aws/x", "", 0))
			}
			c.Ping()
		}()
		c.Want(packets.Pingresp)
	})
}

func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		version byte
		expiry  uint32 // MQTT 5
		leave   []byte // DISCONNECT
		told    uint32 // in CONNACK; 0: nothing
		kept    time.Duration
	}{
		"3.1.1 has the server's hour":           {4, 0, []byte{0xe0, 0}, 0, time.Hour},
		"5 with an interval":                    {5, 60, []byte{0xe0, 0}, 0, time.Minute},
		"5 beyond the cap":                      {5, 1 << 31, []byte{0xe0, 0}, 3600, time.Hour},
		"5 without an interval":                 {5, 0, []byte{0xe0, 0}, 0, 0},
		"5 that ends its session on leaving":    {5, 60, []byte{0xe0, 7, 0, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 0}, 0, 0},
		"5 that keeps it longer on leaving":     {5, 60, []byte{0xe0, 7, 0, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 120}, 0, 2 * time.Minute},
		"5 whose connection breaks keeps it so": {5, 60, nil, 0, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, Config{})
				p := &peer{}
				keep := func(pk *packets.Packet) {
					pk.Connect.Clean = false
					pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = tt.expiry, tt.version == 5
				}
				visit := func() (present bool) {
					c := s.dial(p, tt.version)
					ack := c.Connect("c", keep)
					want(t, "session expiry told", ack.Properties.SessionExpiryInterval, tt.told)
					if tt.leave != nil {
						c.Raw(tt.leave...)
						c.WantClosed()
					}
					c.Close()
					s.gone()
					return ack.SessionPresent
				}
				visit()
				if tt.kept > 0 {
					time.Sleep(tt.kept - time.Second)
					want(t, "present before its time", visit(), true)
				}
				time.Sleep(tt.kept) // whether or not the wheel has come round
				want(t, "present after its time", visit(), false)
				time.Sleep(2 * time.Hour)
				sessions, _ := s.holds()
				want(t, "sessions left", sessions, 0)
			})
		})
	}
}

func TestMessagesExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, Config{})
		p := &peer{}
		life := func(seconds uint32, retain bool) func(*packets.Packet) {
			return func(pk *packets.Packet) {
				pk.Properties.MessageExpiryInterval, pk.FixedHeader.Retain = seconds, retain
			}
		}
		keep := func(pk *packets.Packet) { pk.Connect.Clean = false }
		c := s.dial(p, 4).Connected("c", keep) // expiry works towards 3.1.1 too
		c.Subscribe("t")
		c.Disconnect()
		pub := s.dial(p, 5).Connected("pub", func(pk *packets.Packet) { pk.Connect.Keepalive = 1200 })
		pub.Publish("t", "short", 1, life(10, false))
		pub.Publish("t", "long", 1, life(100, false))
		pub.Publish("short", "r", 1, life(10, true))
		pub.Publish("long", "r", 1, life(100, true))
		time.Sleep(20 * time.Second)
		c = s.dial(p, 4).Connected("c", keep)
		c.WantMessage("t", "long")
		c.Subscribe("short")
		c.Quiet()
		five := s.dial(p, 5).Connected("five")
		five.Subscribe("long")
		left := five.WantMessage("long", "r").Properties.MessageExpiryInterval
		if left < 79 || left > 80 {
			t.Errorf("message expiry interval %d after 20 of 100 seconds", left)
		}
		time.Sleep(100 * time.Second)
		_, retained := s.holds()
		want(t, "retained messages left", retained, 0)
	})
}

func TestTheWindowOfUnacknowledgedMessages(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		max  uint16
		want int
	}{"ours": {0, MaxInFlight}, "the client's": {3, 3}, "not beyond ours": {1000, MaxInFlight}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Config{})
			p := &peer{}
			c := s.dial(p, 5).Connected("c", func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = tt.max })
			c.Subscribe("t")
			pub := s.dial(p, 5).Connected("pub")
			for i := range tt.want + 2 {
				pub.Publish("t", fmt.Sprint(i), 1)
			}
			var ids []uint16
			for i := range tt.want {
				pk := c.Want(packets.Publish)
				want(t, "payload", string(pk.Payload), fmt.Sprint(i))
				ids = append(ids, pk.PacketID)
			}
			c.Quiet()
			c.Ack(ids[1])
			want(t, "payload", string(c.Message().Payload), fmt.Sprint(tt.want))
			want(t, "payload", string(c.Message().Payload), fmt.Sprint(tt.want+1))
			c.Ack(9999) // belongs to nothing
			c.Quiet()
		})
	}
}

func TestPacketsLargerThanTheClientTakesAreNotSent(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{publish: map[string]error{"no": denied("a reason that is too long for such a small client to hear")}}
	c := s.dial(p, 5).Connected("c", func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 40 })
	c.Subscribe("t")
	pub := s.dial(p, 5).Connected("pub")
	pub.Publish("t", "a message of more than forty bytes is dropped", 1)
	pub.Publish("t", "small", 1)
	c.WantMessage("t", "small")
	ack := c.Publish("no", "", 1)
	want(t, "PUBACK", ack.ReasonCode, codeNotAuthorized)
	want(t, "reason string", ack.Properties.ReasonString, "")
}

func TestProblemInformationIsLeftOutOnRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{publish: map[string]error{"no": denied("because")}}
	c := s.dial(p, 5).Connected("c", func(pk *packets.Packet) { pk.Properties.RequestProblemInfoFlag = true })
	want(t, "reason string", c.Publish("no", "", 1).Properties.ReasonString, "")
	c.Subscribe("t")
	c.Publish("t", "x", 1, func(pk *packets.Packet) { pk.Properties.User = []packets.UserProperty{{Key: "k", Val: "v"}} })
	want(t, "user properties of a message", len(c.WantMessage("t", "x").Properties.User), 1)
}

func TestTopicAliasesAreResolvedBeforeAnythingIsDecided(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{publish: map[string]error{"no": denied("because"), "": denied("the alias was not resolved")}}
	c := s.dial(p, 5).Connected("c")
	c.Subscribe("t")
	alias := func(n uint16) func(*packets.Packet) {
		return func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = n, true }
	}
	c.Publish("t", "1", 1, alias(8))
	c.WantMessage("t", "1")
	c.Publish("", "2", 1, alias(8))
	c.WantMessage("t", "2")
	want(t, "PUBACK", c.Publish("no", "", 1, alias(8)).ReasonCode, codeNotAuthorized)
	want(t, "PUBACK", c.Publish("", "", 1, alias(8)).ReasonCode, codeNotAuthorized)
	for n, code := range map[uint16]byte{9: codeAliasInvalid, 0: codeAliasInvalid, 1: codeProtocolError} {
		c := s.dial(p, 5).Connected("c")
		// The library would leave out alias 0: build the packet by hand.
		c.Raw(0x30, 6, 0, 0, 3, packets.PropTopicAlias, byte(n>>8), byte(n))
		c.WantDisconnect(code)
	}
}

// A stuck connection takes what it is sent and never lets a write return.
type stuck struct {
	net.Conn
	closed chan struct{}
}

func (s stuck) Write(b []byte) (int, error) { <-s.closed; return 0, io.ErrClosedPipe }
func (s stuck) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return s.Conn.Close()
}

func TestASlowReaderLosesMessagesAndThenItsConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{}
	pub := s.dial(p, 4).Connected("pub")
	here, there := net.Pipe()
	slow := stuck{there, make(chan struct{})}
	events := make(chan Event, 8)
	s.wg.Go(func() {
		s.ends <- s.Serve(context.Background(), slow, Identity{Scope: testScope, Access: &peer{}, Notify: func(e Event) { events <- e }})
	})
	here.Write(encodeConnect(t, "slow", 4))
	here.Write([]byte{0x82, 6, 0, 1, 0, 1, 't', 1})
	want(t, "event", (<-events).Kind, Connected)
	want(t, "event", (<-events).Kind, Subscribed)
	payload := string(make([]byte, 100<<10))
	for range 20 {
		pub.Publish("t", payload, 0)
	}
	pub.Quiet()
	want(t, "connections", s.Connections(), 2) // messages at QoS 0 are dropped
	for range 20 {
		pub.Publish("t", payload, 1) // those at QoS 1 wait
	}
	sp := s.space(testScope)
	sp.mu.Lock()
	sess := sp.sessions["slow"]
	sp.mu.Unlock()
	sess.mu.Lock()
	waiting := len(sess.queue)
	sess.mu.Unlock()
	if waiting == 0 {
		t.Error("nothing waits")
	}
	go func() {
		for { // answers to pings cannot be dropped
			if _, err := here.Write([]byte{0xc0, 0, 0xc0, 0, 0xc0, 0, 0xc0, 0, 0xc0, 0, 0xc0, 0, 0xc0, 0, 0xc0, 0}); err != nil {
				return
			}
		}
	}()
	want(t, "end", (<-events).End.Reason, Throttled)
	slow.Close()
	want(t, "end", s.gone().Reason, Throttled)
}

func TestTheQueueOfAnAbsentClientIsBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{Queue: 3})
	p := &peer{}
	keep := func(pk *packets.Packet) { pk.Connect.Clean = false }
	c := s.dial(p, 4).Connected("c", keep)
	c.Subscribe("t")
	c.Disconnect()
	s.gone()
	pub := s.dial(p, 4).Connected("pub")
	for i := range 5 {
		pub.Publish("t", fmt.Sprint(i), 1)
	}
	sp := s.space(testScope)
	if sp.stored.Load() == 0 {
		t.Error("stored messages are not counted")
	}
	if bytes, dropped := s.Stored(); bytes != sp.stored.Load() || dropped != 2 {
		t.Errorf("%d bytes stored, %d messages dropped", bytes, dropped)
	}
	c = s.dial(p, 4).Connected("c", keep)
	for i := range 3 {
		c.WantMessage("t", fmt.Sprint(i)) // overflow drops new messages
	}
	c.Quiet()
	want(t, "bytes stored", sp.stored.Load(), 0)
}

func TestWhatHasExpiredKeepsNoPlaceInAQueue(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{"t", "$share/g/t"} {
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j := newPaper()
				s := serve(t, Config{Queue: 3, Journal: j})
				p := &peer{}
				s.leave(p, 5, "sub", filter)
				publish := func(text string, life time.Duration) {
					m := &Message{Topic: "t", Payload: []byte(text), QoS: 1}
					if life > 0 {
						m.Expires = time.Now().Add(life)
					}
					if err := s.Publish(t.Context(), testScope, m); err != nil {
						t.Fatal(err)
					}
				}
				publish("short", 10*time.Second)
				publish("long", 0)
				publish("short", 10*time.Second)
				time.Sleep(time.Minute)
				publish("new", 0)
				publish("newer", 0)
				publish("too many", 0)
				bytes, dropped := s.Stored()
				want(t, "bytes that wait", bytes, 3*(1+128)+int64(len("long"+"new"+"newer")))
				want(t, "dropped", dropped, 1)
				synctest.Wait()
				want(t, "kept", j.counts(), "1 sessions, 1 subscriptions, 3 messages, 0 retained")
				sub := s.dial(p, 5).Connected("sub", persistent)
				for _, text := range []string{"long", "new", "newer"} {
					sub.WantMessage("t", text)
				}
				sub.Quiet()
			})
		})
	}
}

func TestTheWheelNeverFiresEarlyAndForgetsWhatIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWheel(nil)
		defer w.close()
		start := time.Now()
		fired := make(chan time.Duration, 10)
		for _, d := range []time.Duration{0, time.Millisecond, time.Second, 90 * time.Second, time.Hour, 7 * 24 * time.Hour} {
			tm := &timer{}
			tm.fire = func() {
				took := time.Since(start)
				if took < d || took > d+2*wheelTick {
					t.Errorf("set for %v, fired after %v", d, took)
				}
				fired <- d
			}
			w.set(tm, d)
			w.set(tm, d) // setting again moves it
		}
		stopped := &timer{fire: func() { t.Error("a stopped timer fired") }}
		w.set(stopped, time.Minute)
		w.stop(stopped)
		w.stop(stopped)
		time.Sleep(8 * 24 * time.Hour)
		want(t, "fired", len(fired), 6)
	})
}
