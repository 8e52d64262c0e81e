package main

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"
)

// systemd is the service manager that started this process, if one did and wants to hear of it (sd_notify(3)). A nil one hears
// nothing.
type systemd struct {
	socket   string
	watchdog time.Duration // it expects a sign of life this often; 0: never
	log      *slog.Logger
}

// fromSystemd reads the environment of a process with this id.
func fromSystemd(getenv func(string) string, pid int, log *slog.Logger) *systemd {
	s := &systemd{socket: getenv("NOTIFY_SOCKET"), log: log}
	if s.socket == "" {
		return nil
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if p := getenv("WATCHDOG_PID"); err == nil && usec > 0 && (p == "" || p == strconv.Itoa(pid)) {
		s.watchdog = time.Duration(usec) * time.Microsecond
	}
	return s
}

// say sends a line of the protocol. Nobody waits for it: a service manager that can't be told is no reason to stop.
func (s *systemd) say(state string) {
	if s == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"}) // @name is abstract here as there
	if err == nil {
		_, err = c.Write([]byte(state))
		c.Close()
	}
	if err != nil {
		s.log.Warn("telling systemd", "state", state, "error", err)
	}
}

// watch gives signs of life while alive finds one, until ctx ends.
func (s *systemd) watch(ctx context.Context, alive func(context.Context) error) {
	if s == nil || s.watchdog == 0 {
		return
	}
	tick := time.NewTicker(s.watchdog / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, s.watchdog/3)
		err := alive(asking)
		cancel()
		switch {
		case err == nil:
			s.say("WATCHDOG=1")
		case ctx.Err() == nil:
			s.log.Error("this server does not answer itself", "error", err)
		}
	}
}
