package mqtt

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestMessagesReachTheirSubscribers(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		p := &peer{}
		sub := s.dial(p, v).Connected("sub")
		wantList(t, "SUBACK", sub.Subscribe("sensor/#", "lamp/+/state", "exact"), 1, 1, 1)
		pub := s.dial(p, v).Connected("pub")
		for _, topic := range []string{"sensor/a/b", "sensor/", "lamp/1/state", "exact"} {
			pub.Publish(topic, "x", 1)
			m := sub.WantMessage(topic, "x")
			want(t, "QoS", m.FixedHeader.Qos, 1)
		}
		for _, topic := range []string{"sensor", "lamp/state", "lamp/1/state/2", "exact/", "other"} {
			pub.Publish(topic, "x", 1)
		}
		sub.Quiet()
		pub.Publish("exact", "y", 0)
		want(t, "QoS", sub.WantMessage("exact", "y").FixedHeader.Qos, 0)
	})
}

func TestVersionsUnderstandEachOtherWithoutProperties(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{}
	old, new := s.dial(p, 4).Connected("old"), s.dial(p, 5).Connected("new")
	old.Subscribe("t")
	new.Subscribe("t")
	published := time.Now()
	new.Publish("t", "x", 1, func(pk *packets.Packet) {
		pk.Properties.ContentType, pk.Properties.ResponseTopic, pk.Properties.CorrelationData = "text/plain", "answer/here", []byte{1, 2}
		pk.Properties.User = []packets.UserProperty{{Key: "b", Val: "1"}, {Key: "a", Val: "2"}, {Key: "b", Val: "3"}}
		pk.Properties.PayloadFormatFlag, pk.Properties.PayloadFormat = true, 1
		pk.Properties.MessageExpiryInterval = 100
	})
	old.WantMessage("t", "x")
	got := new.WantMessage("t", "x")
	m := got.Properties
	want(t, "content type", m.ContentType, "text/plain")
	want(t, "response topic", m.ResponseTopic, "answer/here")
	want(t, "correlation data", string(m.CorrelationData), "\x01\x02")
	wantList(t, "user properties", m.User, packets.UserProperty{Key: "b", Val: "1"}, packets.UserProperty{Key: "a", Val: "2"}, packets.UserProperty{Key: "b", Val: "3"})
	want(t, "payload format", m.PayloadFormat, 1)
	wantLife(t, got, 100, published)
	old.Publish("t", "y", 0)
	new.WantMessage("t", "y")
}

func TestScopesSeeNothingOfEachOther(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	here, there := &peer{}, &peer{scope: fleet.Scope{Account: "210987654321", Region: "eu-central-1"}}
	a, b := s.dial(here, 4).Connected("same"), s.dial(there, 4).Connected("same")
	a.Subscribe("#")
	b.Subscribe("#", "t")
	a.Publish("t", "mine", 1, func(pk *packets.Packet) { pk.FixedHeader.Retain = true })
	a.WantMessage("t", "mine")
	b.Subscribe("t")
	b.Quiet()
	if err := s.Announce(there.scope, &Message{Topic: "$aws/events/x", Payload: []byte("e")}); err != nil {
		t.Fatal(err)
	}
	a.Quiet()
	b.Quiet() // # does not select topics that begin with $
}

func TestWhetherAnybodyHears(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	const topic = "$aws/events/presence/connected/c"
	c := s.dial(&peer{}, 4).Connected("listener")
	want(t, "heard by nobody", s.Heard(testScope, topic), false)
	for _, filter := range []string{"$aws/events/presence/+/c", "$share/group/$aws/events/#"} {
		c.Subscribe(filter)
		want(t, "heard by "+filter, s.Heard(testScope, topic), true)
		want(t, "heard elsewhere", s.Heard(fleet.Scope{Account: "210987654321", Region: testScope.Region}, topic), true) // nobody has looked yet
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 9, Filters: packets.Subscriptions{{Filter: filter}}})
		c.Want(packets.Unsuback)
		want(t, "heard after "+filter, s.Heard(testScope, topic), false)
	}
}

func TestOneMessageForOverlappingFiltersAtTheHighestQoS(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	c := s.dial(&peer{}, 5).Connected("c")
	c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 9, Filters: packets.Subscriptions{
		{Filter: "a/#", Qos: 0}, {Filter: "a/+", Qos: 1}, {Filter: "a/b", Qos: 0}}})
	wantList(t, "SUBACK", c.Want(packets.Suback).ReasonCodes, 0, 1, 0)
	c.Publish("a/b", "x", 0)
	c.WantMessage("a/b", "x")
	c.Send(c.PublishPacket("a/b", "y", 1))
	want(t, "QoS", c.WantMessage("a/b", "y").FixedHeader.Qos, 1)
	c.Want(packets.Puback)
	c.Quiet()
}

func TestOptionsOfSubscriptions(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	p := &peer{}
	c := s.dial(p, 5).Connected("c")
	subscribe := func(sub packets.Subscription) {
		t.Helper()
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: c.NextID(), Filters: packets.Subscriptions{sub}})
		c.Want(packets.Suback)
	}
	retain := func(pk *packets.Packet) { pk.FixedHeader.Retain = true }
	other := s.dial(p, 5).Connected("other")
	other.Publish("kept", "1", 1, retain)

	subscribe(packets.Subscription{Filter: "kept", RetainHandling: 2})
	c.Quiet()
	subscribe(packets.Subscription{Filter: "kept", RetainHandling: 1})
	c.Quiet() // the subscription existed
	subscribe(packets.Subscription{Filter: "kept", RetainHandling: 0})
	want(t, "retain flag", c.WantMessage("kept", "1").FixedHeader.Retain, true)
	other.Publish("kept", "2", 1, retain)
	want(t, "retain flag of a live message", c.WantMessage("kept", "2").FixedHeader.Retain, false)
	subscribe(packets.Subscription{Filter: "kept", RetainHandling: 2, RetainAsPublished: true})
	other.Publish("kept", "3", 1, retain)
	want(t, "retain flag as published", c.WantMessage("kept", "3").FixedHeader.Retain, true)

	subscribe(packets.Subscription{Filter: "own", NoLocal: true})
	c.Publish("own", "mine", 0)
	c.Quiet()
	other.Publish("own", "foreign", 0)
	c.WantMessage("own", "foreign")
	subscribe(packets.Subscription{Filter: "kept/+"})
	other.Publish("kept/wild", "4", 1, retain)
	c.WantMessage("kept/wild", "4")
	subscribe(packets.Subscription{Filter: "kept/+"})
	c.Quiet() // no retained messages for wildcards
}

func TestRetainedMessagesAreReplacedDeletedAndKeptPerTopic(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{Retained: 2})
		p := &peer{}
		retain := func(pk *packets.Packet) { pk.FixedHeader.Retain = true }
		pub := s.dial(p, v).Connected("pub")
		pub.Publish("t", "1", 1, retain)
		pub.Publish("t", "2", 1, retain)
		pub.Publish("t", "live", 1) // leaves the retained one
		pub.Publish("u", "3", 1, retain)
		sub := s.dial(p, v).Connected("sub")
		sub.Subscribe("t")
		sub.WantMessage("t", "2")
		pub.Publish("t", "", 1, retain)
		want(t, "deleting message", sub.WantMessage("t", "").FixedHeader.Retain, false)
		sub.Subscribe("t")
		sub.Quiet()
		pub.Publish("v", "4", 1, retain)
		if v == 5 {
			want(t, "PUBACK over the limit", pub.Publish("w", "5", 1, retain).ReasonCode, codeQuota)
		} else {
			pub.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: "w", PacketID: 99, Payload: []byte("5")})
			pub.Quiet() // no PUBACK
		}
	})
}

func TestMessagesOfAllScopesTogetherAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{TotalBytes: 2 * (&Message{Topic: "t", Payload: []byte("x")}).Size()})
	here, there := &peer{}, &peer{scope: fleet.Scope{Account: "210987654321", Region: "eu-central-1"}}
	c := s.dial(here, 5).Connected("c", persistent)
	c.Subscribe("t")
	c.Disconnect()
	s.gone()
	pub, other := s.dial(here, 5).Connected("pub"), s.dial(there, 5).Connected("other")
	want(t, "retained elsewhere", other.Publish("t", "x", 1, retain).ReasonCode, 0)
	pub.Publish("t", "1", 1)
	pub.Publish("t", "2", 1) // finds no room
	want(t, "retained beyond the bound", other.Publish("u", "x", 1, retain).ReasonCode, codeQuota)
	other.Publish("t", "", 1, retain)
	want(t, "retained when there is room", other.Publish("u", "x", 1, retain).ReasonCode, 0)
	c = s.dial(here, 5).Connected("c", persistent)
	c.WantMessage("t", "1")
	c.Quiet()
}

// TestPropertiesTakeTheirPlace: empty pairs are little in a packet, and much in memory.
func TestPropertiesTakeTheirPlace(t *testing.T) {
	t.Parallel()
	pairs := func(n int) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			pk.FixedHeader.Retain, pk.Properties.User = true, make([]packets.UserProperty, n)
		}
	}
	const most = maxUserProps / 4
	s := serve(t, Config{RetainedBytes: 64*most + 1000})
	c := s.dial(&peer{}, 5).Connected("c")
	want(t, "retained", c.Publish("a", "x", 1, pairs(most)).ReasonCode, 0)
	want(t, "beyond the bound", c.Publish("b", "x", 1, pairs(most)).ReasonCode, codeQuota)
	c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "c", Payload: []byte("x"), Properties: packets.Properties{User: make([]packets.UserProperty, most+1)}})
	c.WantDisconnect(codeTooLarge)
}

func TestPermissionsAreAskedForAtEachOperation(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		p := &peer{publish: map[string]error{"no": denied("no way")}, subscribe: map[string]error{"no": denied("no way")},
			receive: map[string]error{"hidden": denied("no way")}}
		sub := s.dial(p, v).Connected("sub")
		sub.Subscribe("hidden", "seen")
		pub := s.dial(p, v).Connected("pub")
		pub.Publish("hidden", "x", 1)
		pub.Publish("seen", "x", 1)
		sub.WantMessage("seen", "x")

		if v == 5 {
			ack := pub.Publish("no", "x", 1)
			want(t, "PUBACK", ack.ReasonCode, codeNotAuthorized)
			want(t, "reason string", ack.Properties.ReasonString, "no way")
			wantList(t, "SUBACK", pub.Subscribe("no", "yes"), codeNotAuthorized, 1)
			pub.Publish("no", "x", 0)
			pub.WantDisconnect(codeNotAuthorized)
		} else {
			pub.Send(pub.PublishPacket("no", "x", 1))
			pub.WantClosed()
			again := s.dial(p, v).Connected("again")
			wantList(t, "SUBACK", again.Subscribe("no", "yes"), 0x80, 1)
			again.WantClosed()
			want(t, "end", s.gone().Reason, AuthError)
		}
		want(t, "end", s.gone().Reason, AuthError)
	})
}

func TestADeniedConnectIsAnsweredAndReported(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		version byte
		denied  int
		err     error
		code    byte // 0: closed without CONNACK
		failed  bool // ConnectFailed is reported
	}{
		"MQTT 5":                          {5, 0, denied("not you"), codeNotAuthorized, true},
		"MQTT 3.1.1":                      {4, 0, denied("not you"), 5, true},
		"MQTT 3.1.1 as older guides have": {4, 7, denied("not you"), 7, true},
		"MQTT 3.1.1 without CONNACK":      {4, -1, denied("not you"), 0, true},
		"our own failure, MQTT 5":         {5, 0, fmt.Errorf("disk on fire"), codeUnspecified, false},
		"our own failure, MQTT 3.1.1":     {4, 0, fmt.Errorf("disk on fire"), 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Config{Denied: Denied{Connack: tt.denied}})
			p := &peer{connect: tt.err}
			c := s.dial(p, tt.version)
			if tt.code == 0 {
				c.Raw(encodeConnect(t, "c", tt.version)...)
			} else {
				ack := c.Connect("c")
				want(t, "CONNACK", ack.ReasonCode, tt.code)
				if tt.err.Error() == "disk on fire" && ack.Properties.ReasonString == "disk on fire" {
					t.Error("an internal error is shown to the client")
				}
			}
			c.WantClosed()
			s.gone()
			if got := len(p.kinds()) == 1 && p.kinds()[0] == ConnectFailed; got != tt.failed {
				t.Errorf("events %v", p.kinds())
			}
		})
	}
}

// TestWhatWaitsInAGroupGoesFirst: between the moment that a member can take messages and the one in which it takes what waits, another
// message must not slip in.
func TestWhatWaitsInAGroupGoesFirst(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		c := s.dial(&peer{}, v).Connected("c")
		c.Subscribe("$share/g/t")
		g := s.space(testScope).tree.groups()["$share/g/t"]
		if !g.enqueue(outgoing{message: &Message{Topic: "t", Payload: []byte("first"), QoS: 1}, qos: 1, group: g}) {
			t.Fatal("no room")
		}
		if err := s.Announce(testScope, &Message{Topic: "t", Payload: []byte("second"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		c.WantMessage("t", "first")
		c.WantMessage("t", "second")
	})
}

func TestSharedSubscriptionsHaveOneReceiverPerGroup(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{})
		p := &peer{}
		pub := s.dial(p, v).Connected("pub")
		pub.Publish("t", "old", 1, func(pk *packets.Packet) { pk.FixedHeader.Retain = true })
		a, b := s.dial(p, v).Connected("a"), s.dial(p, v).Connected("b")
		a.Subscribe("$share/g/t", "$share/h/t")
		b.Subscribe("$share/g/t")
		a.Quiet() // nothing retained
		const n = 40
		for range n {
			pub.Publish("t", "x", 1)
		}
		count := func(c interface {
			Ping()
			Next() (packets.Packet, bool)
			Ack(uint16)
		}) (got int) {
			c.Ping()
			for {
				pk, _ := c.Next()
				if pk.FixedHeader.Type == packets.Pingresp {
					return got
				}
				c.Ack(pk.PacketID)
				got++
			}
		}
		na, nb := count(a), count(b)
		if na+nb != 2*n || na <= n || nb == 0 {
			t.Errorf("a got %d, b got %d of %d messages for two groups", na, nb, n)
		}
		b.Close()
		for s.Connections() > 2 {
			s.gone()
		}
		pub.Publish("t", "y", 1)
		a.WantMessage("t", "y")
		a.WantMessage("t", "y")
	})
}

func TestClosingTheBrokerSaysSo(t *testing.T) {
	t.Parallel()
	b := New(Config{})
	s := &server{Broker: b, t: t, ends: make(chan End, 8)}
	p := &peer{}
	c := s.dial(p, 5).Connected("c")
	silent := s.dial(p, 5)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	c.WantDisconnect(codeShuttingDown)
	silent.WantClosed()
	wantList(t, "ends", p.ends(), ServerInitiated)
	late := s.dial(p, 5)
	late.WantClosed()
}
