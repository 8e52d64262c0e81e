package mqtt

import (
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// retained holds the last retained message of each topic (iot-core spec 6.14). They are looked up by exact topic only: filters
// with wildcards get none.
type retained struct {
	space  *space
	mu     sync.RWMutex
	topics map[string]*kept
	order  order // of the topics
	bytes  int64
}

// A kept is a retained message with the timer that ends its life.
type kept struct {
	message  *Message
	modified time.Time
	timer    timer
}

func (r *retained) init(s *space) {
	r.space = s
	r.topics = make(map[string]*kept)
}

// set keeps m, or removes what is kept for its topic if m has no payload.
func (r *retained) set(m *Message, now time.Time, w *wait) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.topics[m.Topic]
	if len(m.Payload) == 0 {
		if old != nil {
			r.remove(old)
			r.space.keep(Change{Kind: DropRetained, Retained: SavedRetained{Message: m}}, w)
		}
		return nil
	}
	count, bytes := len(r.topics)+1, r.bytes+m.Size()
	if old != nil {
		count, bytes = count-1, bytes-old.message.Size()
	}
	b := r.space.b
	if total := b.stored.Load() + bytes - r.bytes; count > b.cfg.Retained || bytes > b.cfg.RetainedBytes || total > b.cfg.TotalBytes {
		return fleet.OverLimit("retained message", m.Topic, "%d messages are retained, and no more are allowed", len(r.topics))
	}
	r.remove(old)
	r.add(m, now, now)
	r.space.keep(Change{Kind: PutRetained, Retained: SavedRetained{Message: m, Modified: now}}, w)
	return nil
}

// add keeps m for a topic that has nothing. r is locked.
func (r *retained) add(m *Message, modified, now time.Time) {
	k := &kept{message: m, modified: modified}
	r.topics[m.Topic] = k
	r.order.add(m.Topic)
	r.bytes += m.Size()
	r.space.b.stored.Add(m.Size())
	if !m.Expires.IsZero() {
		k.timer.fire = func() { go r.forget(k) }
		r.space.b.wheel.set(&k.timer, m.Expires.Sub(now))
	}
}

// restore keeps what the journal had, unless its time is over.
func (r *retained) restore(saved *SavedRetained, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if saved.Message.expired(now) {
		r.space.keep(Change{Kind: DropRetained, Retained: *saved}, nil)
		return
	}
	r.add(saved.Message, saved.Modified, now)
}

// remove drops what is kept, if it still is; k may be nil. r is locked.
func (r *retained) remove(k *kept) {
	if k == nil || r.topics[k.message.Topic] != k {
		return
	}
	r.space.b.wheel.stop(&k.timer)
	delete(r.topics, k.message.Topic)
	r.order.remove(k.message.Topic)
	r.bytes -= k.message.Size()
	r.space.b.stored.Add(-k.message.Size())
}

// forget removes what has come to the end of its life.
func (r *retained) forget(k *kept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.topics[k.message.Topic] == k {
		r.remove(k)
		r.space.keep(Change{Kind: DropRetained, Retained: SavedRetained{Message: k.message}}, nil)
	}
}

// get returns what is retained for a topic, nil if nothing is.
func (r *retained) get(topic string, now time.Time) *Message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if k := r.topics[topic]; k != nil && !k.message.expired(now) {
		return k.message
	}
	return nil
}
