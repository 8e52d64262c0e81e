package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

// withLog is a site whose gateway has a log, in a role that may write to AWSIotLogsV2 alone.
func withLog(t *testing.T) (*site, *logs.Service) {
	var log *logs.Service
	s := newSite(t, func(c *Config) {
		log = logs.New(logs.Config{Store: c.Store, Permissions: iam.New(iam.Config{Store: c.Store, Sealer: pki.NewSealer([32]byte{2}), Clock: c.Clock}), Clock: c.Clock})
		t.Cleanup(log.Close)
		c.Logs = log
	})
	_, err := s.iam.CreateRole(t.Context(), here, iam.Entity{Name: "logger", Path: "/", Body: iam.Body{Trust: trustIoT}})
	check(t, err)
	check(t, s.iam.PutInline(t.Context(), here, store.IAMRole, "logger", "write",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"logs:*","Resource":"arn:aws:logs:*:*:log-group:AWSIotLogsV2:*"}}`))
	return s, log
}

// levels asks for a level, and others for some types of events.
func (s *site) levels(log *logs.Service, level string, events ...fleet.LogEventOptions) {
	s.t.Helper()
	ctx := fleet.WithCaller(s.t.Context(), &fleet.Caller{Scope: here, Kind: fleet.Root, ARN: here.IAM("root")})
	check(s.t, log.SetOptions(ctx, logs.OptionsChange{Role: new(here.IAM("role/logger")), Level: &level, Events: events}))
}

// logged are the entries of the log, in their order: some members of each.
func (s *site) logged(log *logs.Service) (lines []string) {
	s.t.Helper()
	log.Flush(s.t.Context())
	list, _, err := log.Entries(s.t.Context(), here, logs.IoTGroup, store.LogQuery{}, fleet.Page{})
	if fleet.KindOf(err) != fleet.KindNotFound {
		check(s.t, err)
	}
	for _, e := range list {
		var m logs.Event
		check(s.t, json.Unmarshal([]byte(e.Message), &m))
		if m.Timestamp != "2026-05-04 12:00:00.000" || m.AccountID != here.Account || len(m.TraceID) != 36 || m.Protocol != "MQTT" || m.SourceIP != "127.0.0.1" || m.SourcePort == 0 || len(m.Principal) != 64 {
			s.t.Errorf("%s", e.Message)
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprint(m.Level, " ", m.Status, " ", m.Type, " ", m.Client, " ", m.Topic, " ", m.DisconnectReason, m.Reason)))
	}
	return lines
}

func TestTheLogTellsWhatDevicesDo(t *testing.T) {
	t.Parallel()
	s, log := withLog(t)
	d := s.device(allow("iot:Connect", "client/lamp"), allow("iot:*", "topic/a/*", "topicfilter/a/*"))
	visit := func() {
		c := s.open(d, 5).Connected("lamp")
		c.Subscribe("a/1", "a/2")
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{{Filter: "b"}}})
		c.Want(packets.Suback)
		c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 8, Filters: packets.Subscriptions{{Filter: "a/2"}}})
		c.Want(packets.Unsuback)
		for i, topic := range []string{"a/3", "b"} {
			c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: uint16(9 + i), TopicName: topic, Payload: []byte("secret")})
			c.Want(packets.Puback)
		}
		c.Disconnect()
		if how := <-s.ends; how != mqtt.ClientInitiated {
			t.Errorf("it ended with %v", how)
		}
		s.open(d, 5).Connect("pump")
		<-s.ends
	}
	visit() // nothing was asked for
	s.levels(log, "DISABLED")
	visit()
	if got := s.logged(log); len(got) != 0 {
		t.Errorf("unasked: %q", got)
	}
	s.levels(log, "INFO")
	visit()
	want := []string{"INFO Success Connect lamp", "INFO Success Subscribe lamp a/1", "INFO Success Subscribe lamp a/2", "ERROR Failure Subscribe lamp b AUTH_ERROR",
		"INFO Success Unsubscribe lamp a/2", "INFO Success Publish-In lamp a/3", "ERROR Failure Publish-In lamp b AUTH_ERROR",
		"INFO Success Disconnect lamp  CLIENT_INITIATED_DISCONNECT", "ERROR Failure Connect pump  AUTH_ERROR"}
	if got := s.logged(log); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	s.levels(log, "ERROR", fleet.LogEventOptions{Type: "Publish-In", Level: "DISABLED"}, fleet.LogEventOptions{Type: "Disconnect", Level: "DEBUG"},
		fleet.LogEventOptions{Type: "Subscribe", Group: "forbidden"})
	visit()
	want = append(want, "INFO Success Disconnect lamp  CLIENT_INITIATED_DISCONNECT", "ERROR Failure Connect pump  AUTH_ERROR")
	if got := s.logged(log); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := log.Dropped(); n != 1 {
		t.Errorf("%d were dropped, want the one that its role may not write", n)
	}
}
