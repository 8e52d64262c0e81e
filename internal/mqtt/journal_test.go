package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// A paper is a journal in memory that can be made to wait and to fail. What it has is what would be there after a power cut.
type paper struct {
	mu            sync.Mutex
	sessions      map[string]SavedSession
	subscriptions map[string]SavedSubscription // by client and filter
	messages      map[string]SavedMessage      // by owner and number
	retained      map[string]SavedRetained
	writes        int   // changes so far
	fails         error // what Write answers
	gate          chan struct{}
	asked         chan struct{} // gets one for each Write that has begun
}

func newPaper() *paper {
	return &paper{sessions: map[string]SavedSession{}, subscriptions: map[string]SavedSubscription{}, messages: map[string]SavedMessage{},
		retained: map[string]SavedRetained{}, asked: make(chan struct{}, 10000)}
}

func (p *paper) Load(_ context.Context, s fleet.Scope) (*Saved, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s != testScope {
		return &Saved{}, nil
	}
	saved := &Saved{Sessions: slices.Collect(maps.Values(p.sessions)), Subscriptions: slices.Collect(maps.Values(p.subscriptions)),
		Messages: slices.Collect(maps.Values(p.messages)), Retained: slices.Collect(maps.Values(p.retained))}
	slices.SortFunc(saved.Messages, func(a, b SavedMessage) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Number, b.Number))
	})
	return saved, nil
}

func (p *paper) Write(ctx context.Context, changes []Change) error {
	p.asked <- struct{}{}
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails != nil {
		return p.fails
	}
	for _, c := range changes {
		p.writes++
		p.apply(c)
	}
	return nil
}

func (p *paper) apply(c Change) {
	key := func(m SavedMessage) string { return fmt.Sprintf("%s %09d", m.Owner, m.Number) }
	switch c.Kind {
	case PutSession:
		p.sessions[c.Session.Client] = c.Session
	case DropSession:
		delete(p.sessions, c.Session.Client)
		maps.DeleteFunc(p.subscriptions, func(_ string, s SavedSubscription) bool { return s.Client == c.Session.Client })
		maps.DeleteFunc(p.messages, func(_ string, m SavedMessage) bool { return m.Owner == c.Session.Client })
	case PutSubscription:
		p.subscriptions[c.Subscription.Client+" "+c.Subscription.Filter] = c.Subscription
	case DropSubscription:
		delete(p.subscriptions, c.Subscription.Client+" "+c.Subscription.Filter)
	case PutMessage:
		p.messages[key(c.Message)] = c.Message
	case DropMessage:
		delete(p.messages, key(c.Message))
	case PutRetained:
		p.retained[c.Retained.Message.Topic] = c.Retained
	case DropRetained:
		delete(p.retained, c.Retained.Message.Topic)
	}
}

// stop has writes wait until the function that it returns is called.
func (p *paper) stop() (resume func()) {
	gate := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = gate
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.gate = nil
		close(gate)
	})
}

func (p *paper) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = err
}

// copy is what is left when the power goes now.
func (p *paper) copy() *paper {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := newPaper()
	maps.Copy(c.sessions, p.sessions)
	maps.Copy(c.subscriptions, p.subscriptions)
	maps.Copy(c.messages, p.messages)
	maps.Copy(c.retained, p.retained)
	return c
}

func (p *paper) counts() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%d sessions, %d subscriptions, %d messages, %d retained", len(p.sessions), len(p.subscriptions), len(p.messages), len(p.retained))
}

// persistent asks for a session that outlives the connection, in either version.
func persistent(pk *packets.Packet) {
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
}

func retain(pk *packets.Packet) { pk.FixedHeader.Retain = true }

func TestWhatWasAcknowledgedSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		before := newPaper()
		s := serve(t, Config{Journal: before})
		p := &peer{}
		away := s.dial(p, v).Connected("away", persistent)
		away.Subscribe("t/#", "gone", "$share/g/work")
		away.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 9, Filters: packets.Subscriptions{{Filter: "gone"}}})
		away.Want(packets.Unsuback)
		away.Disconnect()
		s.gone()
		here := s.dial(p, v).Connected("here", persistent)
		here.Subscribe("t/+")
		pub := s.dial(p, v).Connected("pub")
		published := time.Now()
		pub.Publish("t/a", "1", 1, func(pk *packets.Packet) {
			pk.Properties.ContentType, pk.Properties.MessageExpiryInterval = "text/plain", 500
			pk.Properties.User = []packets.UserProperty{{Key: "k", Val: "v"}}
		})
		pub.Publish("t/b", "2", 1)
		pub.Publish("t/b", "not kept", 0)
		pub.Publish("gone", "3", 1)
		pub.Publish("work", "4", 1)
		pub.Publish("t/c", "kept", 1, retain)
		pub.Publish("t/d", "replaced", 1, retain)
		pub.Publish("t/d", "kept too", 1, retain)
		pub.Publish("e", "deleted", 1, retain)
		pub.Publish("e", "", 1, retain)
		here.Want(packets.Publish) // seen, and not acknowledged

		after := serve(t, Config{Journal: before.copy()})
		var back []*mqtttest.Client
		for _, id := range []string{"away", "here"} {
			c := after.dial(p, v)
			want(t, "session present of "+id, c.Connect(id, persistent).SessionPresent, true)
			m := c.WantMessage("t/a", "1")
			if v == 5 {
				want(t, "content type", m.Properties.ContentType, "text/plain")
				wantList(t, "user properties", m.Properties.User, packets.UserProperty{Key: "k", Val: "v"})
				wantLife(t, m, 500, published)
			}
			c.WantMessage("t/b", "2")
			c.WantMessage("t/c", "kept")
			c.WantMessage("t/d", "replaced")
			c.WantMessage("t/d", "kept too")
			if id == "away" {
				c.WantMessage("work", "4")
			}
			c.Quiet()
			c.Subscribe("t/c", "t/d", "e")
			c.WantMessage("t/c", "kept")
			c.WantMessage("t/d", "kept too")
			c.Quiet()
			back = append(back, c)
		}
		after.dial(p, v).Connected("pub").Publish("t/z", "subscriptions are there", 1)
		for _, c := range back {
			c.WantMessage("t/z", "subscriptions are there")
		}
	})
}

func TestAPubackFollowsTheCommitAndNothingElseWaits(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		j := newPaper()
		s := serve(t, Config{Journal: j})
		p := &peer{}
		s.leave(p, v, "away", "t")
		live := s.dial(p, v).Connected("live")
		live.Subscribe("t", "other")
		pub := s.dial(p, v).Connected("pub")
		resume := j.stop()
		defer resume()
		var ids []uint16
		for i := range 5 {
			pk := pub.PublishPacket("t", fmt.Sprint(i), 1)
			ids = append(ids, pk.PacketID)
			pub.Send(pk)
			live.WantMessage("t", fmt.Sprint(i)) // others get it at once
		}
		quick := pub.PublishPacket("other", "x", 1) // needs no commit, but keeps its place (MQTT-4.6.0-2)
		pub.Send(quick)
		live.WantMessage("other", "x")
		pub.Quiet() // pings are answered, and no PUBACK is out
		resume()
		for _, id := range append(ids, quick.PacketID) {
			want(t, "PUBACK", pub.Want(packets.Puback).PacketID, id)
		}
	})
}

func TestWithoutAPersistentSubscriberNothingIsWritten(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		j := newPaper()
		s := serve(t, Config{Journal: j})
		p := &peer{}
		c := s.dial(p, v).Connected("c")
		c.Subscribe("t", "$share/g/t")
		for range 10 {
			c.Publish("t", "x", 1)
			c.Message()
			c.Message()
		}
		c.Disconnect()
		s.gone()
		j.mu.Lock()
		defer j.mu.Unlock()
		want(t, "changes written", j.writes, 0)
	})
}

// A message that its persistent subscriber has acknowledged before its turn came is never written, and its publisher does not wait
// for it.
func TestAMessageThatIsAcknowledgedInTimeIsNotWritten(t *testing.T) {
	t.Parallel()
	j := newPaper()
	s := serve(t, Config{Journal: j})
	p := &peer{}
	sub := s.dial(p, 5).Connected("sub", persistent)
	sub.Subscribe("t", "first")
	pub := s.dial(p, 5).Connected("pub")
	for len(j.asked) > 0 {
		<-j.asked
	}
	resume := j.stop()
	defer resume()
	pub.Send(pub.PublishPacket("first", "keeps the journal busy", 1))
	<-j.asked
	for i := range 200 { // more than may be unacknowledged
		pk := pub.PublishPacket("t", fmt.Sprint(i), 1)
		other := s.dial(p, 5).Connected("other")
		other.Send(pk)
		m := sub.Want(packets.Publish)
		for m.TopicName != "t" {
			m = sub.Want(packets.Publish)
		}
		sub.Ack(m.PacketID)
		want(t, "PUBACK", other.Want(packets.Puback).PacketID, pk.PacketID)
		other.Disconnect()
		s.gone()
	}
	s.keeper.mu.Lock()
	if n := len(s.keeper.waiting); n > 150 {
		t.Errorf("%d entries wait, of messages that are acknowledged", n)
	}
	s.keeper.mu.Unlock()
	resume()
	pub.Want(packets.Puback)
	j.mu.Lock()
	defer j.mu.Unlock()
	want(t, "messages written", len(j.messages), 1)
}

func TestClientsWaitWhileTheJournalFails(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		synctest.Test(t, func(t *testing.T) {
			j := newPaper()
			s := serve(t, Config{Journal: j})
			p := &peer{}
			sub := s.dial(p, v).Connected("sub", persistent)
			sub.Subscribe("t")
			pub := s.dial(p, v).Connected("pub")
			j.fail(errors.New("the disk is full"))
			pk := pub.PublishPacket("t", "x", 1)
			pub.Send(pk)
			sub.Want(packets.Publish)
			time.Sleep(20 * time.Second)
			pub.Quiet()
			refused := s.dial(p, v)
			want(t, "CONNACK", refused.Connect("new", persistent).ReasonCode, map[byte]byte{4: 3, 5: codeUnspecified}[v])
			refused.WantClosed()
			s.dial(p, v).Connected("clean").Subscribe("t") // needs no journal
			if v == 5 {
				wantList(t, "SUBACK", sub.Subscribe("u"), codeUnspecified)
			} else {
				wantList(t, "SUBACK", sub.Subscribe("u"), 0x80)
			}
			sub.WantDisconnect(codeUnspecified)
			j.fail(nil)
			time.Sleep(retryAtLast)
			want(t, "PUBACK", pub.Want(packets.Puback).PacketID, pk.PacketID)
			want(t, "kept", j.counts(), "1 sessions, 1 subscriptions, 1 messages, 0 retained")
		})
	})
}

func TestOneHundredMessagesMayBeUnacknowledged(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		j := newPaper()
		s := serve(t, Config{Journal: j})
		p := &peer{}
		s.leave(p, v, "away", "t")
		pub, live := s.dial(p, v).Connected("pub"), s.dial(p, v).Connected("live")
		live.Subscribe("t")
		resume := j.stop()
		defer resume()
		for range MaxInFlight {
			pub.Send(pub.PublishPacket("t", "x", 1))
			live.Message()
		}
		pub.Quiet()
		if v == 5 {
			pub.Send(pub.PublishPacket("t", "one too many", 1))
			pub.WantDisconnect(codeReceiveMaximum)
			return
		}
		pub.Send(pub.PublishPacket("t", "one more", 1)) // is read, and waits
		go pub.Ping()
		live.Quiet()
		resume()
		got := map[byte]int{}
		for range MaxInFlight + 2 { // the answer to the ping may come before the last acknowledgements
			pk, _ := pub.Next()
			got[pk.FixedHeader.Type]++
		}
		if got[packets.Puback] != MaxInFlight+1 || got[packets.Pingresp] != 1 {
			t.Errorf("answers by type: %v", got)
		}
		live.WantMessage("t", "one more")
	})
}

func TestSessionsEndInTimeAcrossRestarts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		left    bool          // the client had disconnected
		away    time.Duration // how long the server is down
		present bool
	}{
		"within its time":                    {true, 9 * time.Minute, true},
		"behind its time":                    {true, 11 * time.Minute, false},
		"connected when the power went":      {false, 11 * time.Minute, true}, // never shorter than promised
		"long gone when the power came back": {true, 48 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j := newPaper()
				s := serve(t, Config{Journal: j})
				p := &peer{}
				c := s.dial(p, 5).Connected("c", persistent)
				c.Subscribe("t")
				if tt.left {
					c.Disconnect()
					s.gone()
				}
				synctest.Wait() // the journal has the end of the session
				left := j.copy()
				time.Sleep(tt.away)
				after := serve(t, Config{Journal: left})
				if err := after.Load(t.Context(), testScope); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				sessions, _ := after.holds()
				want(t, "sessions", sessions, map[bool]int{true: 1}[tt.present])
				want(t, "in the journal", left.counts(), map[bool]string{true: "1 sessions, 1 subscriptions, 0 messages, 0 retained",
					false: "0 sessions, 0 subscriptions, 0 messages, 0 retained"}[tt.present])
				time.Sleep(20 * time.Minute)
				want(t, "in the journal at last", left.counts(), "0 sessions, 0 subscriptions, 0 messages, 0 retained")
			})
		})
	}
}

func TestRetainedMessagesExpireAcrossRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newPaper()
		s := serve(t, Config{Journal: j})
		p := &peer{}
		pub := s.dial(p, 5).Connected("pub")
		for topic, life := range map[string]uint32{"short": 10, "long": 1000, "ever": 0} {
			pub.Publish(topic, "x", 1, func(pk *packets.Packet) {
				pk.FixedHeader.Retain, pk.Properties.MessageExpiryInterval = true, life
			})
		}
		time.Sleep(20 * time.Second)
		want(t, "in the journal", j.counts(), "0 sessions, 0 subscriptions, 0 messages, 2 retained")
		left := j.copy()
		time.Sleep(1000 * time.Second)
		after := serve(t, Config{Journal: left})
		c := after.dial(p, 5).Connected("c")
		c.Subscribe("short", "long", "ever")
		c.WantMessage("ever", "x")
		c.Quiet()
		synctest.Wait()
		want(t, "in the journal", left.counts(), "0 sessions, 0 subscriptions, 0 messages, 1 retained")
	})
}

// Messages of a group wait for whichever member comes first, through a power cut too, and go to another when a member leaves
// without a PUBACK.
func TestAGroupsMessagesAreNotLost(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		before := newPaper()
		s := serve(t, Config{Journal: before})
		p := &peer{}
		for _, id := range []string{"a", "b"} {
			s.leave(p, v, id, "$share/g/work/#")
		}
		pub := s.dial(p, v).Connected("pub")
		for i := range 5 {
			pub.Publish("work/x", fmt.Sprint(i), 1)
		}
		pub.Publish("work/x", "nobody is there", 0)
		a := s.dial(p, v).Connected("a", persistent)
		want(t, "first", string(a.Message().Payload), "0")
		for i := 1; i < 5; i++ { // seen, and not acknowledged
			want(t, "payload", string(a.Want(packets.Publish).Payload), fmt.Sprint(i))
		}
		a.Close()
		s.gone()
		pub.Publish("later", "x", 1, retain) // is durable: so is the acknowledgement before it

		after := serve(t, Config{Journal: before.copy()})
		one := after.dial(p, v).Connected("new") // a member without a session of its own
		one.Subscribe("$share/g/work/#")
		want(t, "payload", string(one.Message().Payload), "1")
		for i := 2; i < 5; i++ {
			want(t, "payload", string(one.Want(packets.Publish).Payload), fmt.Sprint(i))
		}
		b := after.dial(p, v).Connected("b", persistent)
		b.Quiet() // all are taken
		one.Close()
		for i := 2; i < 5; i++ {
			b.WantMessage("work/x", fmt.Sprint(i))
		}
		b.Quiet()
		a = after.dial(p, v).Connected("a", persistent)
		a.Quiet()
	})
}

// Chaos with a journal: what it has in the end is what the broker has.
func TestTheJournalAgreesWithTheBrokerAfterChaos(t *testing.T) {
	t.Parallel()
	j := newPaper()
	b := New(Config{Journal: j, Queue: 50, Reserved: map[string]Handler{"$aws/ask": func(_ context.Context, r *Request) {
		r.Reply(&Message{Topic: "$aws/ask/accepted", Payload: r.Message.Payload})
	}}})
	s := &server{Broker: b, t: t, ends: make(chan End, 1024)}
	chaos(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), mqtttest.Patience())
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	sp := b.space(testScope)
	messages, filters := map[string]bool{}, 0
	note := func(owner string, queue []outgoing) {
		for _, o := range queue {
			if o.group == nil || o.group.name == owner {
				messages[fmt.Sprintf("%s %09d", owner, o.number)] = true
			}
		}
	}
	for id, sess := range sp.sessions {
		want(t, "session "+id+" is durable", sess.durable, true)
		note(id, sess.queue)
		filters += len(sess.subs)
		if saved := j.sessions[id]; saved.Until.IsZero() || saved.Version != sess.version {
			t.Errorf("session %s is kept as %+v", id, saved)
		}
	}
	for name, g := range sp.tree.groups() {
		note(name, g.queue)
	}
	want(t, "sessions kept", len(j.sessions), len(sp.sessions))
	want(t, "subscriptions kept", len(j.subscriptions), filters)
	want(t, "retained kept", len(j.retained), len(sp.retained.topics))
	for key := range j.messages {
		if !messages[key] {
			t.Errorf("message %s is kept and nobody's", key)
		}
		delete(messages, key)
	}
	for key := range messages {
		if key[len(key)-9:] != "000000000" { // groups of clean sessions alone have messages without a number
			t.Errorf("message %s is lost", key)
		}
	}
}
