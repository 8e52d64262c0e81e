package mqtt

import (
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// retained holds the last retained message of each topic (iot-core spec 6.14). They are looked up by exact topic only: filters
// with wildcards get none.
type retained struct {
	b      *Broker
	mu     sync.RWMutex
	topics map[string]*kept
	bytes  int64
}

// A kept is a retained message with the timer that ends its life.
type kept struct {
	message *Message
	timer   timer
}

func (r *retained) init(b *Broker) {
	r.b = b
	r.topics = make(map[string]*kept)
}

// set keeps m, or removes what is kept for its topic if m has no payload.
func (r *retained) set(m *Message, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.topics[m.Topic]
	if len(m.Payload) == 0 {
		r.remove(old)
		return nil
	}
	count, bytes := len(r.topics)+1, r.bytes+m.size()
	if old != nil {
		count, bytes = count-1, bytes-old.message.size()
	}
	if count > r.b.cfg.Retained || bytes > r.b.cfg.RetainedBytes {
		return fleet.OverLimit("retained message", m.Topic, "%d messages are retained, and no more are allowed", len(r.topics))
	}
	r.remove(old)
	k := &kept{message: m}
	r.topics[m.Topic] = k
	r.bytes += m.size()
	if !m.Expires.IsZero() {
		k.timer.fire = func() { go r.forget(k) }
		r.b.wheel.set(&k.timer, m.Expires.Sub(now))
	}
	return nil
}

// remove drops what is kept, if it still is; k may be nil. r is locked.
func (r *retained) remove(k *kept) {
	if k == nil || r.topics[k.message.Topic] != k {
		return
	}
	r.b.wheel.stop(&k.timer)
	delete(r.topics, k.message.Topic)
	r.bytes -= k.message.size()
}

func (r *retained) forget(k *kept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(k)
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
