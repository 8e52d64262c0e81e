package server

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// device3 is device in MQTT 3.1.1.
func device3(t *testing.T, s *Server, pair tls.Certificate) *mqtttest.Client {
	t.Helper()
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.ports.mqtt.Addr().String(),
		&tls.Config{RootCAs: roots(t, s), ServerName: "localhost", Certificates: []tls.Certificate{pair}})
	noError(t, err)
	return mqtttest.New(t, nc, 4)
}

func TestWhatOldClientsHearOfADenialCanBeChosen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		connect, subscribe string
		connack            byte // 0: closed without
		stays              bool
	}{
		"as it comes":  {"", "", 5, false},
		"older guides": {"7", "close", 7, false},
		"no word":      {"none", "keep", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quick(folder(t))
			cfg.DeniedConnect, cfg.DeniedSubscribe = c.connect, c.subscribe
			s := startServer(t, cfg)
			pair, _ := furnishDevice(t, api(t, s), "one", object{"Effect": "Allow", "Action": "iot:Connect", "Resource": s.Scope().IoT("client", "good")})
			bad := device3(t, s, pair)
			if c.connack == 0 {
				bad.Send(mqtttest.ConnectPacket("bad"))
			} else if ack := bad.Connect("bad"); ack.ReasonCode != c.connack {
				t.Errorf("CONNACK %d", ack.ReasonCode)
			}
			bad.WantClosed()
			good := device3(t, s, pair).Connected("good")
			if codes := good.Subscribe("t"); len(codes) != 1 || codes[0] != 0x80 {
				t.Errorf("SUBACK %v", codes)
			}
			if c.stays {
				good.Quiet()
			} else {
				good.WantClosed()
			}
		})
	}
}

func TestAWSsLimitsHoldWhenAskedFor(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]string{"asked for": "aws", "not asked for": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quick(folder(t))
			cfg.Limits = limits
			s := startServer(t, cfg)
			pair, _ := furnishDevice(t, api(t, s), "all", object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
			c := device(t, s, pair).Connected("c")
			// All at once: if each waited for the answer to the one before, a slow machine would stay below a hundred a second.
			var all []byte
			for range 300 {
				all = append(all, mqtttest.Encode(t, c.PublishPacket("t", "x", 1), c.Version)...)
			}
			c.Raw(all...)
			refused := 0
			for range 300 {
				if c.Want(packets.Puback).ReasonCode == 0x97 {
					refused++
				}
			}
			if (refused > 0) != (limits == "aws") {
				t.Errorf("%d of 300 messages were refused", refused)
			}
		})
	}
}
