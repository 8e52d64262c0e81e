package mqtt

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A ClientState is what is known of a client id: its connection, or how the last one ended.
type ClientState struct {
	Connected bool
	Clean     bool          // the session ends with the connection
	Expiry    time.Duration // of the session
	KeepAlive time.Duration // while connected
	Since     time.Time     // of the connection; of the end when there is none. Zero: longer ago than anybody remembers
	Reason    Reason        // of the end
	Access    Access        // of the connection
	Peer, At  net.Addr      // of the connection: theirs and ours
}

// A departure is how a connection ended. It is remembered for a while (iot-core spec 9.2).
type departure struct {
	at     time.Time
	reason Reason
	clean  bool
	expiry time.Duration
}

const (
	departureKept = 30 * time.Minute
	maxDepartures = 10_000 // per scope
)

// depart remembers an end. The space is locked.
func (s *space) depart(client string, d departure) {
	if s.departed == nil {
		s.departed = make(map[string]departure)
	}
	if len(s.departed) >= maxDepartures {
		for id, old := range s.departed {
			if d.at.Sub(old.at) > departureKept {
				delete(s.departed, id)
			}
		}
		if len(s.departed) >= maxDepartures {
			clear(s.departed)
		}
	}
	s.departed[client] = d
}

// Client returns what is known of a client id; not found is a *fleet.Error.
func (b *Broker) Client(ctx context.Context, scope fleet.Scope, id string) (ClientState, error) {
	sp, err := b.open(ctx, scope)
	if err != nil {
		return ClientState{}, err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	d, known := sp.departed[id]
	known = known && b.now().Sub(d.at) <= departureKept
	s := sp.sessions[id]
	if s == nil && !known {
		return ClientState{}, fleet.NotFound("client", id)
	}
	state := ClientState{Clean: d.clean, Expiry: d.expiry}
	if known {
		state.Since, state.Reason = d.at, d.reason
	}
	if s == nil {
		return state, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state.Clean, state.Expiry = s.expiry == 0, s.expiry
	if c := s.conn; c != nil && !s.opening {
		client := c.client.Load()
		state.Connected, state.KeepAlive, state.Since, state.Reason = true, client.KeepAlive, client.Connected, 0
		state.Access, state.Peer, state.At = c.id.Access, c.nc.RemoteAddr(), c.nc.LocalAddr()
	}
	return state, nil
}

// DropClient ends the connection of a client id, without its will if noWill, and with its session if clean. It returns when
// that is durable; not found is a *fleet.Error.
func (b *Broker) DropClient(ctx context.Context, scope fleet.Scope, id string, clean, noWill bool) error {
	sp, err := b.open(ctx, scope)
	if err != nil {
		return err
	}
	s := sp.session(id)
	if s == nil {
		return fleet.NotFound("client", id)
	}
	if c := s.holder(); c != nil {
		how := Administrative("the connection was ended by an administrator")
		how.NoWill = noWill
		c.end(how)
	}
	if !clean {
		return nil
	}
	var w wait
	sp.mu.Lock()
	s.mu.Lock()
	if s.conn == nil { // nobody has resumed it meanwhile
		s.discard(&w)
	}
	s.mu.Unlock()
	sp.mu.Unlock()
	return w.now(ctx)
}

// A Filter is one subscription of a session.
type Filter struct {
	Name string // "$share/name/" included
	QoS  byte
}

// Subscriptions returns the filters of a client's session behind one, by name, connected or not, at most limit, and whether there
// are more; not found is a *fleet.Error.
func (b *Broker) Subscriptions(ctx context.Context, scope fleet.Scope, clientID, after string, limit int) (list []Filter, more bool, err error) {
	sp, err := b.open(ctx, scope)
	if err != nil {
		return nil, false, err
	}
	s := sp.session(clientID)
	if s == nil {
		return nil, false, fleet.NotFound("client", clientID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if name := sub.full(); name > after {
			list = append(list, Filter{name, sub.qos})
		}
	}
	slices.SortFunc(list, func(a, b Filter) int { return strings.Compare(a.Name, b.Name) })
	if len(list) > limit {
		return list[:limit], true, nil
	}
	return list, false, nil
}

// Retained returns what is retained for a topic; not found is a *fleet.Error.
func (b *Broker) Retained(ctx context.Context, scope fleet.Scope, topic string) (m *Message, modified time.Time, err error) {
	sp, err := b.open(ctx, scope)
	if err != nil {
		return nil, time.Time{}, err
	}
	sp.retained.mu.RLock()
	defer sp.retained.mu.RUnlock()
	k := sp.retained.topics[topic]
	if k == nil || k.message.expired(b.now()) {
		return nil, time.Time{}, fleet.NotFound("retained message", topic)
	}
	return k.message, k.modified, nil
}

// A RetainedTopic is a topic that has a retained message.
type RetainedTopic struct {
	Topic    string
	Size     int // bytes of payload
	QoS      byte
	Modified time.Time
}

// RetainedTopics lists topics behind one, by name, at most limit, and whether there are more.
func (b *Broker) RetainedTopics(ctx context.Context, scope fleet.Scope, after string, limit int) (list []RetainedTopic, more bool, err error) {
	sp, err := b.open(ctx, scope)
	if err != nil {
		return nil, false, err
	}
	sp.retained.mu.RLock()
	defer sp.retained.mu.RUnlock()
	now := b.now()
	for topic := range sp.retained.order.behind(after) {
		k := sp.retained.topics[topic]
		if k.message.expired(now) {
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, RetainedTopic{topic, len(k.message.Payload), k.message.QoS, k.modified})
	}
	return list, false, nil
}
