package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/imprint-iot/imprint/internal/server"
)

type serveCmd struct {
	place
	Host          string `help:"Name or address that devices and clients use; anything but loopback listens on every interface. Fixed at first start." placeholder:"NAME"`
	HTTPSPort     *int   `name:"https-port" help:"Port of API, WebSocket and MQTT by ALPN (default 8443; 0: any free). Fixed at first start." placeholder:"N"`
	MQTTPort      *int   `name:"mqtt-port" help:"Port of MQTT over TLS (default 8883; 0: any free). Fixed at first start." placeholder:"N"`
	Region        string `help:"AWS region to be (default us-east-1). Fixed at first start." placeholder:"REGION"`
	Account       string `help:"Id of the first account, 12 digits. Fixed at first start." placeholder:"ID"`
	MasterKeyFile string `help:"File with the master key that seals every secret." type:"path" placeholder:"FILE"`
	MasterKeyCmd  string `name:"master-key-command" help:"Command that prints the master key." placeholder:"CMD"`
	Outbox        string `help:"Folder for messages to users (default: outbox in the data folder)." type:"path" placeholder:"DIR"`
	LogLevel      string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

// stopGrace is how long a clean stop may take before connections are cut.
const stopGrace = 15 * time.Second

func (c *serveCmd) Run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	s, err := server.Start(ctx, server.Config{
		Data: c.Data, EnvFile: c.EnvFile, Host: c.Host, Region: c.Region, Account: c.Account,
		HTTPSPort: portFlag(c.HTTPSPort), MQTTPort: portFlag(c.MQTTPort),
		MasterKeyFile: c.MasterKeyFile, MasterKeyCmd: c.MasterKeyCmd, OutboxDir: c.Outbox, Log: log, Version: version,
	})
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

// portFlag turns a flag into what Config wants: 0 means the default there, a free port here.
func portFlag(p *int) int {
	switch {
	case p == nil:
		return 0
	case *p == 0:
		return server.AnyPort
	}
	return *p
}
