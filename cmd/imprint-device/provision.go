package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/imprint-iot/imprint/device"
)

// envClaim is the environment variable that may hold a claim's text.
const envClaim = "IMPRINT_CLAIM"

// A provisionLine is what `provision` prints for scripts.
type provisionLine struct {
	State         string        `json:"state"` // provisioned or failed
	Already       bool          `json:"already"`
	Resumed       bool          `json:"resumed"`
	ThingName     string        `json:"thingName"`
	CertificateID string        `json:"certificateId"`
	Dir           string        `json:"dir"`
	Files         *device.Files `json:"files,omitempty"`
	Endpoint      string        `json:"endpoint,omitempty"`
	Port          int           `json:"port,omitempty"`
	ClientID      string        `json:"clientId,omitempty"`
	AnswerLost    bool          `json:"answerLost,omitempty"`
	Claim         string        `json:"claim,omitempty"` // of the file: erased or kept
	ending
}

type provisionOptions struct {
	taskOptions
	config                           device.Config
	claim, erase, ca, keyType, onCfg string
}

func (p *program) provisionOptions() *provisionOptions {
	o := &provisionOptions{taskOptions: taskOptions{options: p.options("provision", "trade a claim for an identity")}}
	c := &o.config
	o.StringVar(&o.claim, "claim", "", "`file` with the claim, - for standard input; else the environment's "+envClaim+", else go on where a cut ended")
	o.StringVar(&o.erase, "erase-claim", "auto", "erase the claim's file afterwards: always, never, or auto (if it is a temporary one)")
	o.StringVar(&c.Endpoint, "endpoint", "", "`host` of the service, with :port if you like")
	o.portsVar(&c.Ports)
	o.StringVar(&o.ca, "ca", "", "`file` with the roots to trust, PEM; else the claim's, else the system's")
	o.StringVar(&c.Template, "template", "", "`name` of the provisioning template")
	o.params(&c.Parameters, "`name=value` for the template; may be given several times")
	o.StringVar(&c.ClientID, "client-id", "", "MQTT client `id` of the claim's connection; else a random one")
	o.StringVar(&c.DeviceClientID, "device-client-id", "", "MQTT client `id` with the new identity; else the thing's name")
	o.StringVar(&o.keyType, "key-type", "", "p256 or rsa2048 (default p256)")
	o.BoolVar(&c.ServerKeys, "server-keys", false, "let the service make the key")
	o.StringVar(&c.Format, "format", "", "json or cbor (default json)")
	o.StringVar(&c.MQTT, "mqtt", "", "3.1.1 or 5 (default 3.1.1)")
	o.StringVar(&o.onCfg, "on-config", "", "`command` for sh, run after success, once per identity, with the path of config.json as $1 and its text as input")
	o.BoolVar(&c.Again, "again", false, "provision anew although this claim has been used here")
	o.vars()
	return o
}

func (p *program) provision(ctx context.Context, args []string) int {
	o := p.provisionOptions()
	if status, done := o.parse(args); done {
		return status
	}
	line := &provisionLine{State: "failed", Dir: o.dir}
	return p.task(ctx, &o.taskOptions, line, &line.ending, func(ctx context.Context) error { return p.doProvision(ctx, o, line) })
}

func (p *program) doProvision(ctx context.Context, o *provisionOptions, line *provisionLine) error {
	if err := p.complete(o); err != nil {
		return err
	}
	r, err := device.Provision(ctx, o.config)
	if err != nil {
		return err
	}
	line.State, line.Already, line.Resumed = "provisioned", r.Already, r.Resumed
	line.ThingName, line.CertificateID, line.Files = r.ThingName, r.CertificateID, &r.Files
	line.Endpoint, line.Port, line.ClientID, line.AnswerLost = r.Endpoint, r.Ports[0], r.ClientID, r.AnswerLost
	if line.Claim, err = eraseClaim(o); err != nil {
		return err
	}
	if o.onCfg == "" {
		return nil
	}
	return p.onConfig(ctx, o, r.Identity)
}

// complete reads the files that options name.
func (p *program) complete(o *provisionOptions) error {
	if o.erase != "auto" && o.erase != "always" && o.erase != "never" {
		return usage("--erase-claim auto, always or never", "%q is none of them", o.erase)
	}
	o.config.Dir, o.config.Log, o.config.KeyType = o.dir, p.log(o.quiet), device.KeyType(o.keyType)
	if o.ca != "" {
		b, err := os.ReadFile(o.ca)
		if err != nil {
			return usage("--ca FILE in PEM form", "cannot read the roots: %v", err)
		}
		o.config.Roots = string(b)
	}
	text, err := p.readClaim(o.claim)
	if errors.Is(err, os.ErrNotExist) && o.erase != "never" {
		// After a cut at the very end the file has been erased already: whatever the store holds is what it led to.
		o.config.Log.Warn("the claim's file is gone; going on with what the store has", "file", o.claim)
		return nil
	}
	if err != nil {
		return usage("--claim FILE, or - for standard input", "cannot read the claim: %v", err)
	}
	if len(text) == 0 && o.claim == "" {
		return nil
	}
	if half, err := halfErased(o, text); err != nil || half {
		return err
	}
	o.config.Claim, err = device.ParseClaim(text)
	return err
}

// halfErased reports whether a cut fell into the erasing of the claim's file, after the new identity had been confirmed: zeros
// stand where the claim stood, or a part of it. What is left of the file is erased, and the store says how to go on. Only a
// store that has got that far makes such a file ours to erase.
func halfErased(o *provisionOptions, text []byte) (bool, error) {
	if o.erase == "never" || o.claim == "" || o.claim == "-" || bytes.IndexByte(text, 0) < 0 {
		return false, nil
	}
	store, err := device.OpenStore(o.dir)
	if err != nil {
		return false, err
	}
	if st, err := store.Status(); err != nil || st.Identity == nil {
		return false, err
	}
	o.config.Log.Warn("the claim's file was being erased when the last run was cut; going on with what the store has", "file", o.claim)
	return true, device.EraseFile(o.claim)
}

// readClaim takes the claim from where the caller put it. From the environment it is removed, so that no child gets it.
func (p *program) readClaim(from string) ([]byte, error) {
	switch from {
	case "":
		text := p.getenv(envClaim)
		p.unsetenv(envClaim)
		return []byte(text), nil
	case "-":
		return io.ReadAll(io.LimitReader(p.stdin, device.MaxClaimSize+1))
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, device.MaxClaimSize+1))
}

// eraseClaim removes the claim's file after success, if it brought one.
func eraseClaim(o *provisionOptions) (string, error) {
	if o.config.Claim == nil || o.claim == "" || o.claim == "-" {
		return "", nil
	}
	if o.erase == "never" || o.erase == "auto" && !o.config.Claim.Temporary() {
		return "kept", nil
	}
	if err := device.EraseFile(o.claim); err != nil {
		return "kept", err
	}
	return "erased", nil
}

// onConfigError is a failure of the command that wanted the device configuration.
type onConfigError struct{ err error }

func (e onConfigError) Error() string { return "the command of --on-config failed: " + e.err.Error() }
func (e onConfigError) Unwrap() error { return e.err }

// onConfig hands the device configuration to a command, once per identity: what fails, or is cut short, is repeated by the next
// call. The configuration never becomes part of a command line.
func (p *program) onConfig(ctx context.Context, o *provisionOptions, id *device.Identity) error {
	store, err := device.OpenStore(o.dir)
	if err != nil {
		return err
	}
	if store.ConfigurationApplied(id) {
		return nil
	}
	config, err := json.Marshal(id.Configuration)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", o.onCfg+` "$@"`, "imprint-device", id.Files.Configuration)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(config), p.stderr, p.stderr // standard output is for the line of JSON
	cmd.Env = append(os.Environ(), "IMPRINT_THING_NAME="+id.ThingName, "IMPRINT_CERTIFICATE_ID="+id.CertificateID, "IMPRINT_DEVICE_DIR="+store.Dir())
	cmd.WaitDelay = time.Second
	o.config.Log.Info("handing over the device configuration", "command", o.onCfg)
	if err := cmd.Run(); err != nil {
		return onConfigError{err}
	}
	return store.MarkConfigurationApplied(id)
}

func usage(cure, format string, args ...any) error {
	return &device.Error{Kind: device.KindUsage, Code: device.CodeUsage, Message: fmt.Sprintf(format, args...), Cure: cure}
}
