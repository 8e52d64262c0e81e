package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSystemdIsToldOfTheLifeOfTheService(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	noError(t, err)
	defer l.Close()
	noError(t, l.SetReadDeadline(time.Now().Add(20*time.Second)))
	heard := func() string {
		t.Helper()
		b := make([]byte, 200)
		n, err := l.Read(b)
		noError(t, err)
		return string(b[:n])
	}
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000", "WATCHDOG_PID": "7"}
	getenv := func(name string) string { return env[name] }
	s := fromSystemd(getenv, 7, slog.New(slog.DiscardHandler))
	s.say("READY=1")
	if got := heard(); got != "READY=1" {
		t.Errorf("heard %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		s.watch(ctx, func(ctx context.Context) error {
			select {
			case err := <-asked:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	asked <- errors.New("dead") // no sign of life for this one
	asked <- nil
	if got := heard(); got != "WATCHDOG=1" {
		t.Errorf("heard %q", got)
	}
	cancel()
	<-ended
	s.say("STOPPING=1")
	if got := heard(); got != "STOPPING=1" {
		t.Errorf("after the end of the watch: heard %q", got)
	}

	if other := fromSystemd(getenv, 8, nil); other.watchdog != 0 {
		t.Error("the watchdog is another process's")
	}
	var nobody *systemd
	if nobody = fromSystemd(func(string) string { return "" }, 7, nil); nobody != nil {
		t.Error("there is no systemd")
	}
	nobody.say("READY=1")
	nobody.watch(t.Context(), nil)
	var log strings.Builder
	gone := fromSystemd(func(name string) string { return map[string]string{"NOTIFY_SOCKET": path + "-gone"}[name] }, 7, slog.New(slog.NewTextHandler(&log, nil)))
	if gone.say("READY=1"); !strings.Contains(log.String(), "telling systemd") {
		t.Errorf("log %q", log.String())
	}
}
