package mqtt

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// A client that is refused while it goes on sending gets the CONNACK all the same: closing with its bytes unread would reset the
// connection under the answer.
func TestARefusalReachesAClientThatGoesOnSending(t *testing.T) {
	t.Parallel()
	cert := benchCertificate(t)
	for name, wrap := range map[string]struct {
		listen func(net.Listener) net.Listener
		dial   func(net.Conn) net.Conn
	}{
		"TCP": {func(l net.Listener) net.Listener { return l }, func(c net.Conn) net.Conn { return c }},
		"TLS": {func(l net.Listener) net.Listener {
			return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
		},
			func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := wrap.listen(plain)
			defer l.Close()
			s := serve(t, Config{})
			p := &peer{connect: denied("no")}
			s.wg.Go(func() {
				nc, err := l.Accept()
				if err == nil {
					s.ends <- s.Serve(context.Background(), nc, Identity{Scope: testScope, Access: p, Notify: p.notify})
				}
			})
			tcp, err := net.Dial("tcp", plain.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			nc := wrap.dial(tcp)
			defer nc.Close()
			all := encodeConnect(t, "c", 4)
			all = append(all, mqtttest.Encode(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "t", Payload: make([]byte, 100<<10)}, 4)...)
			begin := time.Now()
			if _, err := nc.Write(all); err != nil {
				if time.Since(begin) < lingerFor {
					t.Fatal(err)
				}
				t.Skip("this machine stood still for longer than a client is waited for")
			}
			answer, err := io.ReadAll(nc)
			if err != nil || string(answer) != "\x20\x02\x00\x05" {
				t.Errorf("got %x, %v", answer, err)
			}
			nc.Close()
			want(t, "end", s.gone().Reason, AuthError)
		})
	}
}
