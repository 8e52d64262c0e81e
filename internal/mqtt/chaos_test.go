package mqtt

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// Many clients fight for few client ids, subscribe, publish, vanish and are thrown out, all at once. Afterwards nothing is left of
// them: no connection, no clean session, no place in the tree, no byte that counts as stored.
func TestNothingIsLeftAfterChaos(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{Queue: 50, Reserved: map[string]Handler{"$aws/ask": func(_ context.Context, r *Request) {
		r.Reply(&Message{Topic: "$aws/ask/accepted", Payload: r.Message.Payload})
	}}})
	p := &peer{}
	chaos(t, s)
	for i := range 6 { // clean sessions replace whatever persistent ones there are
		c := s.dial(p, 4).Connected(fmt.Sprint("c", i))
		c.Disconnect()
	}
	for s.Connections() > 0 {
		s.gone()
	}
	sp := s.space(testScope)
	sessions, _ := s.holds()
	want(t, "sessions", sessions, 0)
	want(t, "bytes stored", sp.stored.Load(), 0)
	want(t, "bytes stored and retained", s.stored.Load(), sp.retained.bytes)
	want(t, "exact filters", len(sp.tree.exact), 0)
	want(t, "wildcard filters", len(sp.tree.root.children), 0)
	want(t, "retained bytes", sp.retained.bytes, countRetained(sp))
	if got, all := slices.Collect(sp.retained.order.behind("")), slices.Sorted(maps.Keys(sp.retained.topics)); !slices.Equal(got, all) {
		t.Errorf("retained in order: %q, want %q", got, all)
	}
}

// chaos returns when all is over.
func chaos(t *testing.T, s *server) {
	p := &peer{}
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range 15 {
				visit(t, s, p, rnd)
			}
		})
	}
	for range 50 {
		s.Disconnect(func(*Identity, *Client) bool { return rand.IntN(20) == 0 }, Administrative("chaos"))
	}
	wg.Wait()
}

func countRetained(sp *space) (n int64) {
	for _, k := range sp.retained.topics {
		n += k.message.Size()
	}
	return n
}

// visit is one connection that does things at random and does not care about answers.
func visit(t *testing.T, s *server, p *peer, rnd *rand.Rand) {
	here, there := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(context.Background(), there, Identity{Scope: testScope, Access: p, Notify: p.notify})
	}()
	go io.Copy(io.Discard, here)
	version := byte(4 + rnd.IntN(2))
	send := func(pk packets.Packet) { here.Write(mqtttest.Encode(t, pk, version)) }
	send(mqtttest.ConnectPacket(fmt.Sprint("c", rnd.IntN(6)), func(pk *packets.Packet) {
		pk.Connect.Clean = rnd.IntN(2) == 0
		pk.Connect.WillFlag, pk.Connect.WillTopic = rnd.IntN(2) == 0, "will"
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = uint32(rnd.IntN(2)*60), true
	}))
	filters := []string{"a", "+", "a/#", "will", "$share/g/a", "$share/g/+", "$aws/ask/+", "x/+/y"}
	for range rnd.IntN(30) {
		filter, id := filters[rnd.IntN(len(filters))], uint16(1+rnd.IntN(100))
		switch rnd.IntN(6) {
		case 0, 1:
			send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: id, Filters: packets.Subscriptions{{Filter: filter, Qos: 1}}})
		case 2:
			send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: id, Filters: packets.Subscriptions{{Filter: filter}}})
		case 3:
			send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
		case 4:
			send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$aws/ask", Payload: []byte("x")})
		default:
			send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: rnd.IntN(4) == 0}, PacketID: id, TopicName: "a", Payload: []byte("x")})
		}
	}
	if rnd.IntN(2) == 0 {
		send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	}
	here.Close()
	<-served
}
