// Command imprint-pkcs11 keeps the keys of Imprint's roots and issuers in a PKCS #11 token and signs with them for the server, which
// asks through a socket (package keyhelper). It is a program and a module of its own, so that the server needs no C library and never
// sees the token's PIN.
//
// Begin with cli in this file; token.go is everything that knows PKCS #11.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/imprint-iot/imprint/internal/pki/keyhelper"
)

type cli struct {
	Serve          serveCmd     `cmd:"" help:"Sign for a server until told to stop."`
	List           listCmd      `cmd:"" help:"List the keys of a running helper."`
	MasterKey      masterKeyCmd `cmd:"" help:"Print the master keys of a running helper, for imprint serve --master-key-command."`
	NewMasterKey   newMasterCmd `cmd:"" help:"Make a new master key in the token; older ones stay beside it."`
	DropMasterKeys dropCmd      `cmd:"" help:"Delete all master keys but the newest from the token, for good."`
	Version        versionCmd   `cmd:"" help:"Print the version."`
}

// place says which token is meant. The PIN comes from elsewhere (pin.go): arguments are seen by every user of the machine.
type place struct {
	Module  string `help:"PKCS #11 library of the token's maker." required:"" type:"path" placeholder:"FILE"`
	Token   string `help:"Label of the token." required:"" placeholder:"LABEL"`
	PINFile string `name:"pin-file" help:"File with the PIN, readable by its owner alone. Else the systemd credential imprint-pkcs11-pin or the variable IMPRINT_PKCS11_PIN." type:"path" placeholder:"FILE"`
	Prefix  string `help:"What the labels of this server's keys begin with; servers that share a token need different ones." default:"imprint-" placeholder:"TEXT"`
}

func (p place) open() (*token, error) {
	pin, err := readPIN(p.PINFile)
	if err != nil {
		return nil, err
	}
	return openToken(p.Module, p.Token, p.Prefix, pin)
}

type serveCmd struct {
	place
	Socket    string `help:"Socket to make, mode 0600; not needed when systemd hands one over." type:"path" placeholder:"PATH"`
	ClientUID *int   `name:"client-uid" help:"User id of the server (default: that of this process). Only this user and root are answered." placeholder:"N"`
}

func (c *serveCmd) Run(ctx context.Context, log *slog.Logger) (err error) {
	t, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	l, err := listen(c.Socket)
	if err != nil {
		return err
	}
	client := os.Geteuid()
	if c.ClientUID != nil {
		client = *c.ClientUID
	}
	log.Info("ready", "token", t.About(), "socket", l.Addr().String(), "client", client)
	return keyhelper.Serve(ctx, l, keyhelper.ServeConfig{Token: t, Client: client, Log: log})
}

// asker is a verb that asks a running helper.
type asker struct {
	Socket string `help:"Socket of the helper." required:"" type:"path" placeholder:"PATH"`
}

func (a asker) dial(ctx context.Context) (*keyhelper.Keys, error) {
	k, _, err := keyhelper.Dial(ctx, keyhelper.Config{Socket: a.Socket})
	return k, err
}

type listCmd struct{ asker }

func (c *listCmd) Run(ctx context.Context) error {
	k, err := c.dial(ctx)
	if err != nil {
		return err
	}
	names, err := k.List(ctx)
	for _, name := range names {
		fmt.Println(name)
	}
	return errors.Join(err, k.Close())
}

type masterKeyCmd struct{ asker }

func (c *masterKeyCmd) Run(ctx context.Context) error {
	k, err := c.dial(ctx)
	if err != nil {
		return err
	}
	keys, err := k.MasterKeys(ctx)
	for _, key := range keys {
		fmt.Println(key.Reveal())
	}
	return errors.Join(err, k.Close())
}

type newMasterCmd struct{ place }

func (c *newMasterCmd) Run() error {
	t, err := c.open()
	if err != nil {
		return err
	}
	n, err := t.newMasterKey()
	if err == nil && n == 1 {
		fmt.Println("The token has a master key. Give it to the server: imprint serve --master-key-command 'imprint-pkcs11 master-key --socket …'")
	}
	if err == nil && n > 1 {
		fmt.Printf("The token has %d master keys, the new one first. Start the server again, then: imprint rekey\n", n)
	}
	return errors.Join(err, t.Close())
}

type dropCmd struct{ place }

func (c *dropCmd) Run() error {
	t, err := c.open()
	if err != nil {
		return err
	}
	n, err := t.dropMasterKeys()
	if err == nil {
		fmt.Printf("%d older master keys are gone. Backups that were made under them do not open any more.\n", n)
	}
	return errors.Join(err, t.Close())
}

var version = "dev" // set by the release build

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("imprint-pkcs11", version)
	return nil
}

// exitConfig is EX_CONFIG of sysexits.h: trying again would not help, and might lock the token.
const exitConfig = 78

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k := kong.Parse(&cli{}, kong.Name("imprint-pkcs11"), kong.UsageOnError(),
		kong.Description("Keeps the keys of Imprint's roots and issuers in a PKCS #11 token."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	err := k.Run()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "imprint-pkcs11:", err)
	if errors.Is(err, errPIN) {
		os.Exit(exitConfig)
	}
	os.Exit(1)
}
