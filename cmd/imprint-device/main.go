// Command imprint-device gives a device its identity and keeps it connected. It is package device as a program: begin there
// for what it does, for its options, the files that it leaves and its exit status.
//
// It parses its options with the standard library: the parser that the server uses would add two megabytes to a program that
// small machines must store.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/device"
)

// version is set by the linker.
var version = "dev"

// Exit status that no error of package device stands for.
const (
	exitDone     = 0
	exitOnConfig = 8
)

// exitStatus has the status of each kind of error; device/doc.go tells them to users.
var exitStatus = map[device.Kind]int{
	device.KindInternal:       1,
	device.KindUsage:          2,
	device.KindClaim:          3,
	device.KindRejected:       4,
	device.KindConnect:        5,
	device.KindStorage:        6,
	device.KindRefused:        7,
	device.KindNotProvisioned: 9,
	device.KindInterrupted:    10,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, unsetenv: os.Unsetenv}
	status := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// A program is one run of the command with what surrounds it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	unsetenv       func(string) error
}

const overview = `imprint-device gives a device its identity and keeps it connected.

  imprint-device provision   trade a claim for an identity; go on where a power cut ended an earlier call
  imprint-device run         stay connected with the identity, and renew its certificate in time
  imprint-device renew       renew the certificate now
  imprint-device status      tell what is in the store, and where
  imprint-device reset       erase everything in the store
  imprint-device version

Each command tells its options with --help.
`

func (p *program) run(ctx context.Context, args []string) int {
	commands := map[string]func(context.Context, []string) int{"provision": p.provision, "run": p.stay, "renew": p.renew, "status": p.status, "reset": p.reset,
		"version": p.version}
	if len(args) == 0 {
		fmt.Fprint(p.stderr, overview)
		return exitStatus[device.KindUsage]
	}
	if command, ok := commands[args[0]]; ok {
		return command(ctx, args[1:])
	}
	if name := strings.TrimLeft(args[0], "-"); name == "help" || name == "h" {
		fmt.Fprint(p.stdout, overview)
		return exitDone
	}
	fmt.Fprintf(p.stderr, "imprint-device: there is no command %q\n\n%s", args[0], overview)
	return exitStatus[device.KindUsage]
}

func (p *program) version(context.Context, []string) int {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "dev" && info.Main.Version != "" {
		v = info.Main.Version
	}
	fmt.Fprintln(p.stdout, v)
	return exitDone
}

// options is a set of options with those that every command has.
type options struct {
	*flag.FlagSet
	dir string
}

func (p *program) options(name, what string) *options {
	o := &options{FlagSet: flag.NewFlagSet("imprint-device "+name, flag.ContinueOnError)}
	o.SetOutput(p.stderr)
	o.Usage = func() {
		fmt.Fprintf(p.stderr, "%s: %s\n\n", o.Name(), what)
		o.PrintDefaults()
	}
	o.StringVar(&o.dir, "dir", p.defaultDir(), "`folder` of the store; environment IMPRINT_DEVICE_DIR")
	return o
}

// taskOptions are those of a command that does one thing and ends.
type taskOptions struct {
	*options
	timeout time.Duration
	quiet   bool
}

func (o *taskOptions) vars() {
	o.DurationVar(&o.timeout, "timeout", 2*time.Minute, "for everything together")
	o.BoolVar(&o.quiet, "quiet", false, "no log on standard error")
}

// An ending is what the line of such a command ends with.
type ending struct {
	DurationMs int64    `json:"durationMs"`
	Error      *problem `json:"error,omitempty"`
}

// task does the one thing, prints the line, of which end is a part, and returns the exit status.
func (p *program) task(ctx context.Context, o *taskOptions, line any, end *ending, do func(context.Context) error) int {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	status := exitDone
	if err := do(ctx); err != nil {
		end.Error, status = p.failed(err, o.quiet)
	}
	end.DurationMs = time.Since(began).Milliseconds()
	p.print(line)
	return status
}

func (p *program) defaultDir() string {
	switch {
	case p.getenv("IMPRINT_DEVICE_DIR") != "":
		return p.getenv("IMPRINT_DEVICE_DIR")
	case os.Getuid() == 0:
		return "/var/lib/imprint-device"
	case p.getenv("XDG_STATE_HOME") != "":
		return filepath.Join(p.getenv("XDG_STATE_HOME"), "imprint-device")
	}
	return filepath.Join(p.getenv("HOME"), ".local", "state", "imprint-device")
}

// parse reads the options; done means that the program ends with status. Words that belong to no option are refused.
func (o *options) parse(args []string) (status int, done bool) {
	err := o.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone, true
	}
	if err == nil && o.NArg() > 0 {
		err = fmt.Errorf("%q belongs to no option", o.Arg(0))
		fmt.Fprintf(o.Output(), "%s: %v\n", o.Name(), err)
	}
	return exitStatus[device.KindUsage], err != nil
}

// list adds an option that may be given several times.
func (o *options) list(name, usage string, add func(string) error) { o.Func(name, usage, add) }

// params adds an option for parameters of a template. The map stays nil if it is not given.
func (o *options) params(into *map[string]string, usage string) {
	o.list("param", usage, func(s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return errors.New("give NAME=VALUE")
		}
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[name] = value
		return nil
	})
}

func (o *options) portsVar(ports *[]int) {
	o.list("port", "`number` of a port; may be given several times, tried in order", func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 65535 {
			return errors.New("a port is 1 to 65535")
		}
		*ports = append(*ports, n)
		return nil
	})
}

// log writes for people, on standard error. The journal of the system knows the time.
func (p *program) log(quiet bool) *slog.Logger {
	if quiet {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(plain{p.stderr})
}

// plain is a log handler of one line per record: what happens, then name=value. Groups do not occur.
type plain struct{ w io.Writer }

func (h plain) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (h plain) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h plain) WithGroup(string) slog.Handler                { return h }

func (h plain) Handle(_ context.Context, r slog.Record) error {
	line := []byte(r.Message)
	if r.Level >= slog.LevelWarn {
		line = append([]byte("warning: "), line...)
	}
	r.Attrs(func(a slog.Attr) bool {
		if v := a.Value.Resolve().String(); v != "" {
			line = fmt.Appendf(line, " %s=%s", a.Key, v)
		}
		return true
	})
	_, err := h.w.Write(append(line, '\n'))
	return err
}

// A problem is an error as scripts read it.
type problem struct {
	Code       string `json:"code"`
	StatusCode int    `json:"statusCode,omitempty"`
	Message    string `json:"message"`
	TraceID    string `json:"traceId,omitempty"`
	Cure       string `json:"cure,omitempty"`
}

// failed words why a verb failed, tells it to people unless they want quiet, and returns the exit status.
func (p *program) failed(err error, quiet bool) (*problem, int) {
	if !quiet {
		p.complain(err)
	}
	if errors.As(err, new(onConfigError)) {
		return problemOf(err), exitOnConfig
	}
	return problemOf(err), exitStatus[device.KindOf(err)]
}

func problemOf(err error) *problem {
	var e *device.Error
	if !errors.As(err, &e) {
		return &problem{Code: device.CodeInternal, Message: err.Error()}
	}
	return &problem{Code: e.Code, StatusCode: e.StatusCode, Message: e.Error(), TraceID: e.TraceID, Cure: e.Cure}
}

// print writes one line of JSON on standard output.
func (p *program) print(v any) {
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	enc.Encode(v) // if nobody reads it any more, nobody misses it
}

// complain tells an error to people and returns its exit status.
func (p *program) complain(err error) int {
	pr := problemOf(err)
	fmt.Fprintf(p.stderr, "imprint-device: %s\n", pr.Message)
	if pr.Cure != "" {
		fmt.Fprintf(p.stderr, "  what to do: %s\n", pr.Cure)
	}
	return exitStatus[device.KindOf(err)]
}
