package mqtt

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Rules get messages beside their subscribers (iot-core spec 8.2); package rule has them. Its methods are called concurrently, should
// answer from memory and must not call the broker.
type Rules interface {
	// Select returns the work of the rules that a message is for: those whose filter selects its topic or, of a message to
	// $aws/rules/NAME/rest (iot-core spec 6.11), the rule of that name. nil: there are none. The message is as it was published.
	Select(ctx context.Context, s fleet.Scope, m *Message) (Work, error)
}

// Work is a message with the rules that get it.
type Work interface {
	// Begin has the rules run in their own time. done is called once, when all of them have finished with the message, perhaps before
	// Begin returns; never, if the service ends before. Where they have no room nothing begins, and the error is of KindLimit. A
	// message that was accepted before always has room.
	Begin(accepted bool, done func()) error
}

// An Origin is who published a message, as far as rules may ask. The service itself is nil.
type Origin struct {
	Client    string  `json:",omitempty"` // client id; "" if it did not come by MQTT
	Principal string  `json:",omitempty"` // as in events
	Address   string  `json:",omitempty"` // of the peer
	Hops      int     `json:",omitempty"` // rules that have published it anew, one after the other
	Kin       *Family `json:"-"`          // messages that go back to the same one; nil: it alone
}

// A Family counts the messages that rules have made of one message.
type Family struct{ atomic.Int64 }

// rulesOwner owns, in the journal, the messages that rules have not finished with. No client id begins with "$".
const rulesOwner = "$rules"

// Origin is who published the message, if rules have not finished with it: no session asks.
func (m SavedMessage) Origin() *Origin {
	if m.Owner != rulesOwner {
		return nil
	}
	return m.Message.Origin
}

// work asks the rules what they have to do with a message.
func (s *space) work(m *Message) (Work, error) {
	if s.b.cfg.Rules == nil {
		return nil, nil
	}
	return s.b.cfg.Rules.Select(s.b.ctx, s.scope, m)
}

// begin gives a message to rules. At QoS 1 it is in the journal until all of them have finished with it, and w waits for that or for
// the journal, whatever comes first: a power cut must not take what was acknowledged.
func (s *space) begin(work Work, m *Message, w *wait) error {
	if m.QoS == 0 || s.b.keeper == nil {
		return work.Begin(false, func() {})
	}
	n := s.ruled.Add(1)
	e := s.keepMessage(rulesOwner, &outgoing{message: m, number: n, qos: m.QoS}, w)
	err := work.Begin(false, func() { s.b.keeper.forget(e, s.scope, rulesOwner, n) })
	if err != nil {
		s.b.keeper.forget(e, s.scope, rulesOwner, n)
	}
	return err
}

// resume gives rules what they had not finished with. What nobody can select now stays in the journal.
func (s *space) resume(left []SavedMessage) {
	for _, r := range left {
		work, err := s.work(r.Message)
		if err == nil {
			done := func() { s.b.keeper.forget(nil, s.scope, rulesOwner, r.Number) }
			if work == nil {
				done()
				continue
			}
			err = work.Begin(true, done)
		}
		if err != nil {
			s.b.log.Error("a message that rules had not finished with has to wait for the next start", "topic", r.Message.Topic, "error", err)
		}
	}
}

// ingest hands a message to the one rule that it names, and to nobody else. Its PUBACK says that the rules have accepted it, so that
// one without room is refused.
func (s *space) ingest(m *Message, w *wait) error {
	work, err := s.work(m)
	if err != nil || work == nil {
		return err
	}
	return s.begin(work, m, w)
}

// ingested reports whether a topic is one of Basic Ingest, and so names a rule.
func ingested(topic string) bool {
	rest, ok := strings.CutPrefix(topic, "$aws/rules/")
	rule, _, _ := strings.Cut(rest, "/")
	return ok && rule != ""
}
