package gateway

import (
	"context"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/store"
)

type anything struct{}

func (anything) Connect(context.Context, *mqtt.Connect) error { return nil }
func (anything) Publish(string, bool) error                   { return nil }
func (anything) Subscribe(string) error                       { return nil }
func (anything) Receive(string) error                         { return nil }

// BenchmarkPublishToPersistentSessions measures what it costs that a PUBACK means "not lost": one publisher at QoS 1 with as many
// messages under way as named, on a real store. commits/op are those that the messages caused.
func BenchmarkPublishToPersistentSessions(b *testing.B) {
	for _, to := range []string{"clean", "away", "here"} {
		for name, window := range map[string]int{"1": 1, "64": 64} {
			b.Run(to+"/"+name, func(b *testing.B) {
				var commits atomic.Int64
				db, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "imprint.db"),
					OnCommit: func(int, time.Duration, error) { commits.Add(1) }})
				check(b, err)
				defer db.Close()
				broker := mqtt.New(mqtt.Config{Journal: journal{db}, Queue: 1 << 30, QueueBytes: 1 << 40})
				defer broker.Close(context.Background())
				dial := func() *mqtttest.Client {
					near, far := net.Pipe()
					go broker.Serve(context.Background(), far, mqtt.Identity{Scope: here, Principal: "p", Access: anything{}})
					return mqtttest.New(b, near, 4)
				}
				sub := dial().Connected("sub", func(p *packets.Packet) { p.Connect.Clean = to == "clean" })
				sub.Subscribe("t")
				if to == "away" {
					sub.Disconnect()
				} else {
					go func() {
						for {
							p, open := sub.Next()
							if !open {
								return
							}
							sub.Ack(p.PacketID)
						}
					}()
				}
				pub := dial().Connected("pub")
				commits.Store(0)
				b.ResetTimer()
				for sent, acked := 0, 0; acked < b.N; {
					for sent < b.N && sent-acked < window {
						pub.Send(pub.PublishPacket("t", "a message of a few bytes", 1))
						sent++
					}
					pub.Want(packets.Puback)
					acked++
				}
				b.StopTimer()
				b.ReportMetric(float64(commits.Load())/float64(b.N), "commits/op")
				pub.Close()
				sub.Close()
			})
		}
	}
}
