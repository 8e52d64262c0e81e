package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/imprint-iot/imprint/internal/server"
)

// settings is everything that can be chosen about a server, by flag, environment or file (settings.go).
type settings struct {
	server.Config

	ShutdownGrace time.Duration `help:"For how long requests and provisioning flows in work may go on when the server stops." default:"15s" placeholder:"TIME"`

	LogLevel string `help:"How much to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL"`

	ConfigFile string `name:"config" help:"Configuration file (default: imprint.yaml in the data folder, then /etc/imprint/imprint.yaml)." type:"path" placeholder:"FILE"`
}

type serveCmd struct{ settings }

// ballast counts for the garbage collector as heap that is in use, and since it is never written to it takes no memory. Without it
// the collector runs over a few megabytes many times a second: a tenth of the CPU time of a connection (docs/performance.md).
const ballast = 32 << 20

// newBallast returns it without memory behind it: now and then the runtime has cleared what it hands out.
func newBallast() []byte {
	b := make([]byte, ballast)
	page := os.Getpagesize()
	begin := (page - int(uintptr(unsafe.Pointer(&b[0])))%page) % page
	_ = unix.Madvise(b[begin:len(b)-(len(b)-begin)%page], unix.MADV_DONTNEED) // in vain it would only take memory
	return b
}

// startGC lets a start, which has no ballast yet, use 32 MiB before anything is collected; what migrates a large store still is. It
// ends, and the ballast comes, when the service has been ready for a while.
const (
	startGC     = 800
	settleAfter = time.Second
)

func (c *serveCmd) Run(ctx context.Context, from *sources) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	c.Version, c.KeyProcess = version, true
	for _, w := range from.warnings {
		c.Log.Warn(w)
	}
	patient := debug.SetGCPercent(startGC)
	s, err := server.Start(ctx, c.Config)
	if err != nil {
		return err
	}
	// Whoever has waited for the service comes first: a collection would take a processor from them.
	var heap []byte
	defer runtime.KeepAlive(&heap)
	defer time.AfterFunc(settleAfter, func() {
		heap = newBallast()
		debug.SetGCPercent(patient)
	}).Stop()
	fmt.Fprint(os.Stderr, s.Banner())
	manager := fromSystemd(os.Getenv, os.Getpid(), c.Log)
	watch, unwatch := context.WithCancel(context.Background())
	defer unwatch()
	go manager.watch(watch, s.Alive)
	manager.say("READY=1")
	select {
	case <-ctx.Done(): // a second signal ends the process at once (main)
		c.Log.Info("stopping: requests and flows in work may finish", "grace", c.ShutdownGrace)
	case err = <-s.Failed():
	}
	manager.say("STOPPING=1")
	stop, cancel := context.WithTimeout(context.Background(), c.ShutdownGrace)
	defer cancel()
	if closeErr := s.Close(stop); err == nil {
		err = closeErr
	}
	return err
}
