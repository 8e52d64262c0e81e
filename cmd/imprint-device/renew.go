package main

import (
	"context"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/device"
)

// A renewalLine tells when a certificate is renewed.
type renewalLine struct {
	From    time.Time `json:"from"` // from here on devices renew
	At      time.Time `json:"at"`   // when this one does
	Overdue bool      `json:"overdue,omitempty"`
	Expired bool      `json:"expired,omitempty"`
}

func renewalOf(id *device.Identity, now time.Time) *renewalLine {
	s := id.Renewal(now)
	return &renewalLine{From: s.From.UTC(), At: s.At.UTC().Truncate(time.Second), Overdue: s.At.Before(now), Expired: s.End.Before(now)}
}

// A renewLine is what `renew` prints for scripts.
type renewLine struct {
	State         string        `json:"state"` // renewed, not due, or failed: then the certificate in use is the old one
	Resumed       bool          `json:"resumed"`
	ThingName     string        `json:"thingName,omitempty"`
	CertificateID string        `json:"certificateId,omitempty"`
	NotAfter      *time.Time    `json:"notAfter,omitempty"`
	Dir           string        `json:"dir"`
	Files         *device.Files `json:"files,omitempty"`
	Renewal       *renewalLine  `json:"renewal,omitempty"`
	ending
}

type renewOptions struct {
	taskOptions
	config device.RenewConfig
	prove  []string
	ifDue  bool
}

func (p *program) renewOptions() *renewOptions {
	o := &renewOptions{taskOptions: taskOptions{options: p.options("renew", "get the next certificate with the one in use")}}
	c := &o.config
	o.BoolVar(&o.ifDue, "if-due", false, "do nothing before it is time, see status; for a timer, where `run` does not run")
	o.StringVar(&c.Template, "template", "", "`name` of the provisioning template; else that of the first time")
	o.params(&c.Parameters, "`name=value` for the template; may be given several times; else those of the first time")
	o.portsVar(&c.Ports)
	o.StringVar(&c.MQTT, "mqtt", "", "3.1.1 or 5 (default as in the first time)")
	o.list("subscribe", "`filter` that the new certificate must be able to subscribe to; may be given several times; {thingName} is replaced", func(v string) error {
		o.prove = append(o.prove, v)
		return nil
	})
	o.vars()
	return o
}

func (p *program) renew(ctx context.Context, args []string) int {
	o := p.renewOptions()
	if status, done := o.parse(args); done {
		return status
	}
	line := &renewLine{State: "failed", Dir: o.dir}
	return p.task(ctx, &o.taskOptions, line, &line.ending, func(ctx context.Context) error { return p.doRenew(ctx, o, line) })
}

func (p *program) doRenew(ctx context.Context, o *renewOptions, line *renewLine) error {
	store, err := device.OpenStore(o.dir)
	if err != nil {
		return err
	}
	id, err := store.Identity()
	if err != nil {
		return err
	}
	line.Dir = store.Dir()
	if now := time.Now(); o.ifDue && id.Renewal(now).At.After(now) {
		line.State = "not due"
		line.tell(id)
		return nil
	}
	o.config.Dir, o.config.Log = o.dir, p.log(o.quiet)
	o.config.Prove = func(ctx context.Context, c *device.Conn) error {
		for _, filter := range o.prove {
			if err := c.Subscribe(ctx, strings.ReplaceAll(filter, "{thingName}", c.Identity().ThingName), 1); err != nil {
				return err
			}
		}
		return nil
	}
	r, err := device.Renew(ctx, o.config)
	if err != nil {
		line.tell(id)
		return err
	}
	line.State, line.Resumed = "renewed", r.Resumed
	line.tell(r.Identity)
	return nil
}

func (l *renewLine) tell(id *device.Identity) {
	end := id.Certificate().Leaf.NotAfter
	l.ThingName, l.CertificateID, l.NotAfter, l.Files, l.Renewal = id.ThingName, id.CertificateID, &end, &id.Files, renewalOf(id, time.Now())
}
