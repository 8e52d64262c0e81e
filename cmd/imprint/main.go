// Command imprint is the server and everything an operator does with it: serve, config, env, aws, ca, rekey, backup, restore,
// admin, account, auth, user, function, table, template, claim, approval, thing, bulk, orphans, expiry, explain, log, demo. Begin
// with cli in this file; each verb has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/pki/keymaker"
	"github.com/imprint-iot/imprint/internal/server"
)

type cli struct {
	service
	Config   configCmd   `cmd:"" help:"Print the effective configuration and where each value comes from; check a file."`
	Env      envCmd      `cmd:"" help:"Print shell exports that point AWS clients at this server: eval \"$(imprint env)\"."`
	AWS      awsCmd      `cmd:"" name:"aws" passthrough:"" help:"Run the AWS CLI against this server, whatever its version."`
	CA       caCmd       `cmd:"" name:"ca" help:"Print the root certificates that devices and clients must trust; rotate them, take their keys offline."`
	Admin    adminCmd    `cmd:"" help:"Administration on the machine of the server."`
	Account  accountCmd  `cmd:"" help:"Accounts: tenants that cannot see each other."`
	Rekey    rekeyCmd    `cmd:"" help:"Change the master key that seals every secret."`
	Backup   backupCmd   `cmd:"" help:"Write a backup of the data folder, while the server runs or not."`
	Restore  restoreCmd  `cmd:"" help:"Make a data folder from a backup."`
	Auth     authCmd     `cmd:"" help:"Sign-in for an app of yours."`
	User     userCmd     `cmd:"" help:"Users of user pools: import many from a file, reset a lost software token."`
	Approval approvalCmd `cmd:"" help:"Devices that wait for an operator, since they ask for a thing that another device has."`
	Function functionCmd `cmd:"" help:"Functions that pre-provisioning hooks call."`
	Table    tableCmd    `cmd:"" help:"Tables that the rules of hooks ask, such as allow-lists."`
	Template templateCmd `cmd:"" help:"Provisioning templates: lint, and try."`
	Claim    claimCmd    `cmd:"" help:"What goes with claims: the least policy of a bootstrap certificate, what came of a claim, what to do when it is stolen."`
	Thing    thingCmd    `cmd:"" help:"Retire devices."`
	Bulk     bulkCmd     `cmd:"" help:"Register many things from a file, or give a fleet new certificates."`
	Orphans  orphansCmd  `cmd:"" help:"List what hangs on nothing: certificates, things, policies and claims that were left behind."`
	Expiry   expiryCmd   `cmd:"" help:"Tell which certificates of devices end soon, and whether they are being renewed."`
	Explain  explainCmd  `cmd:"" help:"Say why an attempt failed: by serial, thing, certificate, claim or trace id."`
	Log      logCmd      `cmd:"" help:"Read logs: what rules write, and what devices and rules do."`
	Demo     demoCmd     `cmd:"" help:"Play the whole story: an installer provisions a device."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

// service is the grammar of serve alone.
type service struct {
	Serve serveCmd `cmd:"" help:"Run the service."`
}

// dataFolder is the place of the verbs that speak to the administration socket. They find it as serve does (settings.go).
type dataFolder struct {
	Data string `help:"Data folder of the server." default:"imprint-data" type:"path" placeholder:"DIR"`
}

// Place says which server a verb means. The file that serve writes has the rest.
type place struct {
	dataFolder
	EnvFile string `help:"Environment file of the server (default: imprint.env in the data folder)." type:"path" placeholder:"FILE"`
}

func (p place) path() string {
	if p.EnvFile != "" {
		return p.EnvFile
	}
	return filepath.Join(p.Data, "imprint.env")
}

// env says how to reach the server and as whom: from the shell, if it has AWS_ENDPOINT_URL (so that a verb can be pointed
// elsewhere and at another key), else from the server's environment file. The two are never mixed: a key of the real AWS
// that happens to be in the shell must not be sent here.
func (p place) env() (server.Env, error) {
	if os.Getenv("AWS_ENDPOINT_URL") != "" {
		var e server.Env
		for _, name := range append([]string{"AWS_SESSION_TOKEN"}, server.EnvNames...) {
			if v := os.Getenv(name); v != "" {
				e = append(e, server.Var{Name: name, Value: v})
			}
		}
		return e, nil
	}
	e, err := server.ReadEnv(p.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no server's environment at %s: start one with `imprint serve`, name its folder with --data, or set AWS_ENDPOINT_URL, AWS_CA_BUNDLE and a key (`imprint admin create-key`)", p.path())
	}
	return e, err
}

var version = "dev" // set by the release build

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("imprint", version)
	return nil
}

func main() {
	function.Main()
	keymaker.Main() // if this is a process that makes keys
	ctx := untilSignal()
	from := &sources{environ: os.Environ(), system: systemConfig}
	p := kong.Must(grammar(os.Args[1:]), append(from.options(), kong.Name("imprint"), kong.UsageOnError(),
		kong.Description("Device provisioning that you run yourself, wire-compatible with AWS IoT Core."),
		kong.BindTo(ctx, (*context.Context)(nil)))...)
	k, err := p.Parse(os.Args[1:])
	if err := from.err(); err != nil {
		fmt.Fprintln(os.Stderr, "imprint:", err)
		os.Exit(1)
	}
	p.FatalIfErrorf(err)
	err = k.Run()
	var said saidAlready
	if errors.As(err, &said) {
		os.Exit(int(said))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "imprint:", err)
		os.Exit(1)
	}
}

// grammar is what the command line may say. A service that starts needs none of the other verbs, whose grammar takes milliseconds.
func grammar(args []string) any {
	if len(args) > 0 && args[0] == "serve" {
		return new(service)
	}
	return new(cli)
}

// untilSignal returns a context that ends with the first signal to stop. From then on a second one ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-heard
		signal.Stop(heard) // before anybody learns of the first
		cancel()
	}()
	return ctx
}
