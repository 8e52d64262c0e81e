package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/server"
)

type demoCmd struct {
	Keep bool `help:"Leave the server running afterwards and say what to try next."`
}

// demoStop bounds the end of the server, which has nothing to wait for.
const demoStop = 30 * time.Second

// demoTimeout bounds the whole story, which takes a few seconds.
const demoTimeout = 2 * time.Minute

// Run plays the story with two real processes, a server and a device, and fails at the first step that did not happen.
func (c *demoCmd) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "imprint-demo-")
	if err != nil {
		return err
	}
	d := &demo{dir: dir, out: os.Stdout, color: isTerminal(os.Stdout)}
	defer func() {
		if err == nil && c.Keep {
			return
		}
		err = errors.Join(err, d.stopServer(), os.RemoveAll(dir))
	}()
	began := time.Now()
	for _, chapter := range []func(context.Context) error{d.startServer, d.administrator, d.installer, d.device, d.verdict} {
		if err := chapter(ctx); err != nil {
			return fmt.Errorf("demo: %s: %w", d.current, err)
		}
	}
	d.title(fmt.Sprintf("Done in %.1f s. Every step above really happened.", time.Since(began).Seconds()))
	if c.Keep {
		d.whatNext()
	}
	return nil
}

// A demo is the state of the story.
type demo struct {
	dir     string
	out     io.Writer
	color   bool
	current string // step in work, for errors

	server *exec.Cmd
	exited chan error // takes the server's end
	env    server.Env
	admin  *client.Client
	anon   *client.Client

	poolID, clientID, identityPoolID string
	password                         fleet.Secret
	claimJSON                        []byte
	claimID                          string
	status                           deviceStatus
}

const (
	demoTemplate = "lamps"
	demoSerial   = "4711"
	demoThing    = "lamp-" + demoSerial
	demoUser     = "ida"
)

// title, step and note print the story: chapters, what is about to happen, and what came of it.
func (d *demo) title(text string) { fmt.Fprintf(d.out, "\n%s\n", d.paint("1", text)) }

func (d *demo) step(format string, args ...any) {
	d.current = fmt.Sprintf(format, args...)
	fmt.Fprintf(d.out, "  %s %s\n", d.paint("36", "•"), d.current)
}

func (d *demo) note(format string, args ...any) {
	fmt.Fprintf(d.out, "    %s %s\n", d.paint("32", "✓"), d.paint("2", fmt.Sprintf(format, args...)))
}

func (d *demo) paint(code, text string) string {
	if !d.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
}

// startServer runs this binary's serve in a folder of its own, on free ports.
func (d *demo) startServer(ctx context.Context) error {
	d.title("The service")
	d.step("imprint serve starts on embedded defaults: one process, SQLite, its own certificate authority")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "server.log"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	data := filepath.Join(d.dir, "imprint-data")
	noConfig := filepath.Join(d.dir, "demo.yaml") // the demo needs nothing of what is configured here
	if err := os.WriteFile(noConfig, nil, 0o600); err != nil {
		return err
	}
	d.server = exec.Command(self, "serve", "--config", noConfig, "--data", data, "--https-port", "0", "--mqtt-port", "0")
	d.server.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, envPrefix) })
	d.server.Stderr = log
	d.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches us alone; we stop it in order
	if err := d.server.Start(); err != nil {
		return err
	}
	d.exited = make(chan error, 1)
	go func() { d.exited <- d.server.Wait() }()
	envFile := filepath.Join(data, "imprint.env")
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
			if d.env, err = server.ReadEnv(envFile); err == nil {
				tick.Stop()
				return d.connect()
			}
		case err := <-d.exited:
			said, _ := os.ReadFile(log.Name())
			d.server = nil
			return fmt.Errorf("the server stopped (%v): %s", err, said)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *demo) connect() error {
	cfg := client.Config{Endpoint: d.env.Get("AWS_ENDPOINT_URL"), Region: d.env.Get("AWS_REGION"), CAFile: d.env.Get("AWS_CA_BUNDLE")}
	var err error
	if d.anon, err = client.New(cfg); err != nil {
		return err
	}
	d.admin = d.anon.As(client.Credentials{AccessKeyID: d.env.Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(d.env.Get("AWS_SECRET_ACCESS_KEY"))})
	d.note("HTTPS %s, MQTT over TLS on port %s", cfg.Endpoint, d.env.Get("IOT_PORT"))
	return nil
}

func (d *demo) stopServer() error {
	if d.server == nil {
		return nil
	}
	if err := d.server.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.exited:
		return nil
	case <-time.After(demoStop):
		return d.server.Process.Kill()
	}
}

func (d *demo) whatNext() {
	env := filepath.Join(d.dir, "imprint-data", "imprint.env")
	d.title("The server keeps running. Try:")
	for _, line := range []string{
		`eval "$(imprint env --env-file ` + env + `)"`,
		"imprint aws iot describe-thing --thing-name " + demoThing,
		"imprint aws iot list-thing-principals --thing-name " + demoThing,
		"imprint explain " + demoSerial,
		"imprint-device run --dir " + filepath.Join(d.dir, "device") + " --publish 'lamps/" + demoThing + "/state={\"on\":true}'",
		"mosquitto_sub --cafile $AWS_CA_BUNDLE -h $IOT_ENDPOINT -p $IOT_PORT -i " + demoThing +
			" --cert " + d.status.Files.Certificate + " --key " + d.status.Files.PrivateKey + " -t 'lamps/" + demoThing + "/#'",
		"kill " + strconv.Itoa(d.server.Process.Pid) + " && rm -r " + d.dir + "    # when you are done",
	} {
		fmt.Fprintf(d.out, "  %s\n", strings.TrimSpace(line))
	}
}
