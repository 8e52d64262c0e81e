package mqtt

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// ruled are rules for what is published below "rules/" and by Basic Ingest. They finish with a message when they are told to.
type ruled struct {
	mu   sync.Mutex
	got  chan job
	full bool
}

type job struct {
	text     string
	origin   *Origin
	accepted bool
	done     func()
}

func newRuled() *ruled { return &ruled{got: make(chan job, 100)} }

func (r *ruled) Select(_ context.Context, s fleet.Scope, m *Message) (Work, error) {
	if s != testScope || !strings.HasPrefix(m.Topic, "rules/") && !strings.HasPrefix(m.Topic, "$aws/") {
		return nil, nil
	}
	return taken{r, m}, nil
}

type taken struct {
	r *ruled
	m *Message
}

func (t taken) Begin(accepted bool, done func()) error {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.r.full && !accepted {
		return fleet.OverLimit("", "", "no room")
	}
	t.r.got <- job{t.m.Topic + " " + string(t.m.Payload), t.m.Origin, accepted, done}
	return nil
}

func (r *ruled) fill(full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = full
}

func TestBasicIngestReachesItsRuleAndNobodyElse(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		rules := newRuled()
		s := serve(t, Config{Rules: rules})
		p := &peer{publish: map[string]error{"$aws/rules/no/a": denied("no way")}}
		c := s.dial(p, v).Connected("c")
		c.Subscribe("#", "$aws/#", "a/b")
		want(t, "PUBACK", c.Publish("$aws/rules/meters/a/b", "1", 1).ReasonCode, 0)
		want(t, "ingested", (<-rules.got).text, "$aws/rules/meters/a/b 1")
		c.Publish("$aws/rules/meters/1/2/3/4/5/6/7/8", "its first three levels do not count", 1)
		want(t, "ingested", (<-rules.got).text, "$aws/rules/meters/1/2/3/4/5/6/7/8 its first three levels do not count")
		if err := s.Publish(t.Context(), testScope, &Message{Topic: "$aws/rules/meters", Payload: []byte("2")}); err != nil {
			t.Fatal(err)
		}
		want(t, "ingested", (<-rules.got).text, "$aws/rules/meters 2")
		c.Quiet()
		c.Send(c.PublishPacket("$aws/rules/no/a", "x", 0))
		c.WantDisconnect(codeNotAuthorized)
		c = s.dial(p, v).Connected("c")
		c.Send(c.PublishPacket("$aws/rules/", "no rule", 0))
		c.WantDisconnect(codeTopicInvalid)
		c = s.dial(p, v).Connected("c")
		c.Send(c.PublishPacket("$aws/rules/r/a", "kept", 0))
		c.Quiet()
		want(t, "ingested", (<-rules.got).text, "$aws/rules/r/a kept")
	})
}

func TestRulesGetMessagesBesideSubscribers(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		rules := newRuled()
		s := serve(t, Config{Rules: rules})
		c := s.dial(&peer{principal: "cert"}, v).Connected("c")
		c.Subscribe("rules/#")
		c.Publish("rules/a", "1", 1)
		c.WantMessage("rules/a", "1")
		got := <-rules.got
		want(t, "message", got.text, "rules/a 1")
		if got.origin == nil || got.origin.Client != "c" || got.origin.Principal != "cert" {
			t.Errorf("rules learn of the publisher %+v", got.origin)
		}
		c.Publish("elsewhere", "no rule", 1)
		if s.Heard(testScope, "elsewhere") || !s.Heard(testScope, "rules/b") {
			t.Error("who would hear of an event does not count rules")
		}
		s.Announce(testScope, &Message{Topic: "rules/b", Payload: []byte("2"), QoS: 1})
		if got := <-rules.got; got.text != "rules/b 2" || got.origin != nil {
			t.Errorf("rules got %+v", got)
		}
		rules.fill(true) // rules that have no room hold up nobody, but of Basic Ingest, which is for them alone
		want(t, "PUBACK", c.Publish("rules/a", "3", 1).ReasonCode, 0)
		c.WantMessage("rules/b", "2")
		c.WantMessage("rules/a", "3")
		if v == 5 {
			want(t, "PUBACK", c.Publish("$aws/rules/r/a", "4", 1).ReasonCode, codeQuota)
		}
		if err := s.Publish(t.Context(), testScope, &Message{Topic: "$aws/rules/r/a", QoS: 1}); err == nil || fleet.KindOf(err) != fleet.KindLimit {
			t.Errorf("what rules have no room for: %v", err)
		}
	})
}

// TestWhatRulesHaveNotFinishedWithIsTheirsAgain: at QoS 1 a power cut takes nothing from them that was acknowledged.
func TestWhatRulesHaveNotFinishedWithIsTheirsAgain(t *testing.T) {
	t.Parallel()
	paper := newPaper()
	rules := newRuled()
	s := New(Config{Rules: rules, Journal: paper})
	publish := func(topic, payload string, qos byte) job {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			done <- s.Publish(t.Context(), testScope, &Message{Topic: topic, Payload: []byte(payload), QoS: qos, Origin: &Origin{Client: "c", Hops: 2}})
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return <-rules.got
	}
	publish("rules/a", "lost", 0)
	first := publish("rules/a", "kept", 1)
	publish("$aws/rules/r/a", "kept too", 1)
	third := publish("rules/a", "finished", 1)
	third.done()
	closeBroker(t, s)
	first.done() // too late to be told: at least once

	again := newRuled()
	s = New(Config{Rules: again, Journal: paper})
	if err := s.Load(t.Context(), testScope); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"rules/a kept", "$aws/rules/r/a kept too"} {
		got := <-again.got
		if got.text != text || !got.accepted {
			t.Errorf("again: %+v, want %s", got, text)
		}
		got.done()
	}
	rules = again
	publish("rules/a", "a new one", 1).done()
	closeBroker(t, s)
	if len(paper.messages) != 0 {
		t.Errorf("left in the journal: %v", paper.messages)
	}
}

// TestAMessageIsAcknowledgedWhenRulesHaveFinished: what they finish with before the journal has it is never written.
func TestAMessageIsAcknowledgedWhenRulesHaveFinished(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v byte) {
		paper, rules := newPaper(), newRuled()
		paper.gate = make(chan struct{})
		s := serve(t, Config{Rules: rules, Journal: paper})
		c := s.dial(&peer{}, v).Connected("c")
		// The first change keeps the journal busy; the message waits behind it.
		s.Announce(testScope, &Message{Topic: "x", Payload: []byte("retained"), Retain: true, QoS: 1})
		<-paper.asked
		answer := make(chan byte, 1)
		go func() { answer <- c.Publish("rules/a", "1", 1).ReasonCode }()
		got := <-rules.got
		got.done()
		want(t, "PUBACK", <-answer, 0)
		close(paper.gate)
	})
}

func closeBroker(t *testing.T, b *Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mqtttest.Patience())
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// The race detector judges.
func TestAWillMayBeSentWhileItsClientPublishes(t *testing.T) {
	t.Parallel()
	rules := newRuled()
	s := serve(t, Config{Rules: rules})
	p := &peer{}
	c := s.dial(p, 5).Connected("c", func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "rules/will", []byte("gone")
	})
	var sent sync.WaitGroup
	sent.Go(func() { c.Raw(mqtttest.Encode(t, c.PublishPacket("rules/a", "1", 0), 5)...) })
	s.Disconnect(func(*Identity, *Client) bool { return true }, Administrative("bye"))
	for job := range rules.got {
		want(t, "client", job.origin.Client, "c")
		if job.text == "rules/will gone" {
			break
		}
	}
	c.Close()
	s.gone()
	sent.Wait() // it logs that it was cut off
}
