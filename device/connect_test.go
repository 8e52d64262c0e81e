package device

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

// provisioned returns a broker with a device of its own.
func provisioned(t *testing.T) (*fakecloud.Cloud, *fakecloud.Broker, *Store, *Identity) {
	t.Helper()
	c, b, claim := start(t)
	cfg := configFor(t, b, claim)
	r, err := Provision(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, b, s, r.Identity
}

func TestADevicePublishesAndReceives(t *testing.T) {
	t.Parallel()
	for _, version := range []string{MQTT311, MQTT5} {
		t.Run(version, func(t *testing.T) {
			_, _, _, id := provisioned(t)
			got := make(chan Message, 1)
			conn, err := Connect(t.Context(), id, Options{MQTT: version, Now: atEpoch, OnMessage: func(m Message) { got <- m }})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if conn.ClientID() != fakecloud.Thing || conn.Port() != id.Ports[0] {
				t.Errorf("client id %s, port %d", conn.ClientID(), conn.Port())
			}
			if err := conn.Subscribe(t.Context(), "lamps/1", 1); err != nil {
				t.Fatal(err)
			}
			for qos := range byte(2) {
				if err := conn.Publish(t.Context(), "lamps/1", []byte("on"), qos); err != nil {
					t.Fatal(err)
				}
				if m := <-got; m.Topic != "lamps/1" || string(m.Payload) != "on" {
					t.Errorf("%+v", m)
				}
			}
			if err := conn.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAForeignTopicIsRefused(t *testing.T) {
	t.Parallel()
	for version, code := range map[string]string{MQTT311: CodeClosed, MQTT5: CodeNotAuthorized} {
		t.Run(version, func(t *testing.T) {
			_, _, _, id := provisioned(t)
			conn, err := Connect(t.Context(), id, Options{MQTT: version, Now: atEpoch})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			err = conn.Publish(t.Context(), "foreign/1", nil, 1)
			var e *Error
			if !errors.As(err, &e) || e.Kind != KindRefused || e.Code != code || !strings.Contains(e.Cure, "policy") {
				t.Errorf("%v", err)
			}
			if version == MQTT5 && !strings.Contains(e.Error(), "the policy says no") {
				t.Errorf("the reason is missing: %v", e)
			}
		})
	}
}

func TestADeactivatedCertificateIsRefused(t *testing.T) {
	c, _, _, id := provisioned(t)
	c.SetActive(id.CertificateID, false)
	_, err := Connect(t.Context(), id, Options{Now: atEpoch})
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindRefused || e.Code != CodeRefused {
		t.Errorf("%v", err)
	}
}

func TestRunComesBackAfterEveryLossUntilItIsTold(t *testing.T) {
	_, b, s, _ := provisioned(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var pauses []time.Duration
	connections := 0
	b.SetFault(func(_ int, event string) fakecloud.Fault {
		if strings.HasPrefix(event, "read Publish") {
			return fakecloud.Drop
		}
		return fakecloud.Obey
	})
	err := Run(ctx, s.Identity, RunConfig{Options: Options{Now: atEpoch},
		Connected: func(ctx context.Context, c *Conn) error {
			mu.Lock()
			defer mu.Unlock()
			if connections++; connections == 4 {
				stop()
				return nil
			}
			return c.Publish(ctx, "lamps/1", nil, 1)
		},
		Lost: func(err error, next time.Duration) {
			if KindOf(err) != KindRefused {
				t.Errorf("lost because of %v", err)
			}
			pauses = append(pauses, next)
		},
		sleep: func(ctx context.Context, _ time.Duration) bool { return ctx.Err() != nil }})
	if err != nil || connections != 4 {
		t.Errorf("%d connections, %v", connections, err)
	}
	if len(pauses) != 3 {
		t.Errorf("pauses %v", pauses)
	}
	for i, d := range pauses {
		if high := firstRunPause << i; d < high/2 || d > high {
			t.Errorf("pause %d is %v", i, d)
		}
	}
}

func TestRunStopsWhenItsCallerSaysSo(t *testing.T) {
	_, _, s, _ := provisioned(t)
	wrong := errors.New("wrong")
	err := Run(t.Context(), s.Identity, RunConfig{Options: Options{Now: atEpoch}, Connected: func(context.Context, *Conn) error { return wrong },
		Stop: func(err error) bool { return errors.Is(err, wrong) }})
	if err != wrong {
		t.Errorf("%v", err)
	}
}

func TestRunWithoutAnIdentityTellsThatThereIsNone(t *testing.T) {
	t.Parallel()
	s, err := OpenStore(t.TempDir() + "/none")
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), s.Identity, RunConfig{Stop: func(error) bool { return true }})
	if KindOf(err) != KindNotProvisioned {
		t.Errorf("%v", err)
	}
}

func TestPausesGrowAndHaveABound(t *testing.T) {
	t.Parallel()
	for attempt := range 100 {
		d := pause(attempt, firstPause, longestPause)
		if low, high := min(firstPause<<min(attempt, 10), longestPause)/2, longestPause; d < low || d > high {
			t.Errorf("attempt %d: %v", attempt, d)
		}
	}
}
