package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/imprint-iot/imprint/internal/server"
)

// settings is everything that can be chosen about a server, by flag, environment or file (settings.go).
type settings struct {
	server.Config

	LogLevel string `help:"How much to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL"`

	ConfigFile string `name:"config" help:"Configuration file (default: imprint.yaml in the data folder, then /etc/imprint/imprint.yaml)." type:"path" placeholder:"FILE"`
}

type serveCmd struct{ settings }

// stopGrace is how long a clean stop may take before connections are cut.
const stopGrace = 15 * time.Second

func (c *serveCmd) Run(ctx context.Context, from *sources) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	c.Version = version
	for _, w := range from.warnings {
		c.Log.Warn(w)
	}
	s, err := server.Start(ctx, c.Config)
	if err != nil {
		return err
	}
	fmt.Fprint(os.Stderr, s.Banner())
	select {
	case <-ctx.Done():
	case err = <-s.Failed():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if closeErr := s.Close(stop); err == nil {
		err = closeErr
	}
	return err
}
