package mqtt

import (
	"context"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestAnswersComeWhileAReservedRequestIsThoughtAbout(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		think := make(chan struct{})
		var order []string
		s := serve(t, Config{Reserved: map[string]Handler{
			"$aws/ask/": func(_ context.Context, r *Request) {
				<-think
				order = append(order, string(r.Message.Payload))
				r.Reply(&Message{Topic: r.Message.Topic + "/accepted", Payload: r.Message.Payload})
			},
			"$aws/": func(_ context.Context, r *Request) { t.Errorf("%s went to the shorter prefix", r.Message.Topic) },
		}})
		p := &peer{}
		c, twin := s.dial(p, v).Connected("c"), s.dial(p, v).Connected("twin")
		for _, x := range []interface{ Subscribe(...string) []byte }{c, twin} {
			x.Subscribe("$aws/ask/+/accepted")
		}
		for i := range 4 {
			c.Publish("$aws/ask/json", fmt.Sprint(i), 1) // waits for the PUBACK
		}
		c.Quiet()
		close(think)
		for i := range 4 {
			want(t, "QoS", c.WantMessage("$aws/ask/json/accepted", fmt.Sprint(i)).FixedHeader.Qos, 1)
		}
		twin.Quiet() // the answer is for the connection that asked
	})
}

func TestAFullQueueOfReservedRequestsHoldsBackTheClient(t *testing.T) {
	t.Parallel()
	think := make(chan struct{})
	served := make(chan string, 16)
	s := serve(t, Config{Reserved: map[string]Handler{"$aws/ask": func(_ context.Context, r *Request) { <-think; served <- string(r.Message.Payload) }}})
	c := s.dial(&peer{}, 4).Connected("c")
	go func() {
		for i := range 8 {
			c.Send(c.PublishPacket("$aws/ask", fmt.Sprint(i), 0))
		}
		c.Ping()
	}()
	close(think)
	for i := range 8 {
		want(t, "request", <-served, fmt.Sprint(i))
	}
	c.Want(packets.Pingresp)
}

func TestAReservedAnswerNeedsASubscriptionAndPermission(t *testing.T) {
	t.Parallel()
	answered := make(chan bool, 1)
	s := serve(t, Config{Reserved: map[string]Handler{"$aws/ask": func(_ context.Context, r *Request) {
		answered <- r.Reply(&Message{Topic: "$aws/ask/accepted"}) == nil
	}}})
	p := &peer{receive: map[string]error{}}
	keep := func(pk *packets.Packet) { pk.Connect.Clean = false }
	c := s.dial(p, 4).Connected("c", keep)
	c.Publish("$aws/ask", "", 1)
	want(t, "without subscription", <-answered, false)
	c.Subscribe("$aws/ask/accepted")
	p.mu.Lock()
	p.receive["$aws/ask/accepted"] = denied("no way")
	p.mu.Unlock()
	c.Publish("$aws/ask", "", 1)
	want(t, "without permission", <-answered, false)
	p.mu.Lock()
	p.receive["$aws/ask/accepted"] = nil
	p.mu.Unlock()
	c.Send(c.PublishPacket("$aws/ask", "", 1))
	want(t, "with both", <-answered, true)
	for range 2 { // PUBACK and answer, in either order; the answer stays unacknowledged
		c.Next()
	}
	c.Close()
	s.gone()
	c = s.dial(p, 4)
	want(t, "session present", c.Connect("c", keep).SessionPresent, true)
	c.Quiet() // an answer dies with its connection
}

func TestAnAnswerThatFindsNoRoomIsNotThoughtToBeHeard(t *testing.T) {
	t.Parallel()
	answered := make(chan error, 1)
	s := serve(t, Config{Queue: 1, Reserved: map[string]Handler{"$aws/ask": func(_ context.Context, r *Request) {
		answered <- r.Reply(&Message{Topic: "$aws/ask/accepted"})
	}}})
	c := s.dial(&peer{}, 5).Connected("c", func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 1 })
	c.Subscribe("$aws/ask/accepted", "t")
	for range 2 { // one is never acknowledged, the other waits behind it
		if err := s.Publish(t.Context(), testScope, &Message{Topic: "t", QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	c.Want(packets.Publish)
	c.Publish("$aws/ask", "", 1)
	want(t, "reply", <-answered, ErrUnheard)
}

func TestReservedTopicsNeverReachTheTree(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		s := serve(t, Config{Reserved: map[string]Handler{"$aws/ask": func(context.Context, *Request) {}}})
		p := &peer{}
		spy := s.dial(p, v).Connected("spy")
		wantList(t, "SUBACK", spy.Subscribe("$aws/#", "#", "+/ask", "+/+"), 1, 1, 1, 1)
		s.dial(p, v).Connected("c").Publish("$aws/ask", "key", 1)
		spy.Quiet()
		for _, topic := range []string{"$aws/events/presence/connected/x", "$SYS/x", "$aws/things/x/shadow/update"} {
			c := s.dial(p, v).Connected("c")
			c.Send(c.PublishPacket(topic, "x", 1))
			c.WantDisconnect(codeTopicInvalid)
		}
		c := s.dial(p, v).Connected("c")
		c.Publish("$aws/ask", "x", 0, func(pk *packets.Packet) { pk.FixedHeader.Retain = true })
		c.WantDisconnect(codeTopicInvalid)
		for _, filter := range []string{"$SYS/#", "$aws/rules/x", "$other"} {
			c := s.dial(p, v).Connected("c")
			c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: filter}}})
			c.WantDisconnect(codeFilterInvalid)
		}
		if err := s.Announce(testScope, &Message{Topic: "$aws/events/x", Payload: []byte("e"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		spy.WantMessage("$aws/events/x", "e")
	})
}

// A request that is of use to its client alone hears when the client has gone.
func TestARequestHearsThatItsClientHasGone(t *testing.T) {
	t.Parallel()
	begun, over := make(chan struct{}), make(chan error)
	s := serve(t, Config{Reserved: map[string]Handler{"$aws/ask": func(ctx context.Context, r *Request) {
		begun <- struct{}{}
		<-r.Present().Done()
		over <- ctx.Err()
	}}})
	c := s.dial(&peer{}, 4).Connected("c")
	for i := range 2 { // the second waits behind the first
		c.Send(c.PublishPacket("$aws/ask", fmt.Sprint(i), 0))
	}
	<-begun
	c.Close()
	for i := range 2 {
		if i > 0 {
			<-begun
		}
		if err := <-over; err != nil {
			t.Errorf("request %d: the broker has ended", i)
		}
	}
}

// A writer that fails ends the connection, although its reader waits for room in the queue and hears nothing.
func TestAFailedAnswerEndsAConnectionWhoseReaderWaits(t *testing.T) {
	t.Parallel()
	ask := make(chan struct{})
	s := serve(t, Config{Reserved: map[string]Handler{"$aws/ask": func(_ context.Context, r *Request) {
		if _, ok := <-ask; !ok {
			<-r.Present().Done()
			return
		}
		for r.Present().Err() == nil { // until the peer's reset has been noticed
			r.Reply(&Message{Topic: "$aws/ask/accepted", Payload: make([]byte, 1000)})
		}
	}}})
	c := s.dial(&peer{}, 4).Connected("c")
	c.Subscribe("$aws/ask/accepted")
	for i := range 6 { // one is served, four wait, the reader holds one
		c.Send(c.PublishPacket("$aws/ask", fmt.Sprint(i), 0))
	}
	c.Close()
	ask <- struct{}{}
	close(ask)
	want(t, "end", s.gone().Reason, ConnectionLost)
}
