package main

import (
	"context"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/device"
)

// A statusLine is what `status` prints.
type statusLine struct {
	State         string            `json:"state"` // provisioned, pending, or empty
	Dir           string            `json:"dir"`
	ThingName     string            `json:"thingName,omitempty"`
	CertificateID string            `json:"certificateId,omitempty"`
	NotAfter      *time.Time        `json:"notAfter,omitempty"`
	Endpoint      string            `json:"endpoint,omitempty"`
	Ports         []int             `json:"ports,omitempty"`
	ClientID      string            `json:"clientId,omitempty"`
	AnswerLost    bool              `json:"answerLost,omitempty"`
	Files         *device.Files     `json:"files,omitempty"`
	Configuration map[string]string `json:"configuration,omitempty"`
	Renewal       *renewalLine      `json:"renewal,omitempty"`
	Pending       *pendingLine      `json:"pending,omitempty"`
	Error         *problem          `json:"error,omitempty"`
}

// A pendingLine tells of a provisioning that was begun and has not ended; beside an identity it is a rotation, or the renewal of its
// certificate.
type pendingLine struct {
	Step      string    `json:"step"`
	Renewal   bool      `json:"renewal,omitempty"`
	Template  string    `json:"templateName"`
	ClaimID   string    `json:"claimId"`
	ClaimEnds time.Time `json:"claimEnds"`
	NeedClaim bool      `json:"needsNewClaim"`
	Started   time.Time `json:"started"`
}

func (p *program) status(_ context.Context, args []string) int {
	o := p.options("status", "tell what is in the store, and where")
	if status, done := o.parse(args); done {
		return status
	}
	line := statusLine{State: "empty", Dir: o.dir}
	err := line.fill(o.dir)
	if err != nil {
		line.State, line.Error = "damaged", problemOf(err)
		p.print(line)
		return p.complain(err)
	}
	p.print(line)
	if line.State != "provisioned" {
		return exitStatus[device.KindNotProvisioned]
	}
	return exitDone
}

func (l *statusLine) fill(dir string) error {
	store, err := device.OpenStore(dir)
	if err != nil {
		return err
	}
	l.Dir = store.Dir()
	st, err := store.Status()
	if err != nil {
		return err
	}
	if j := st.Pending; j != nil {
		l.State = "pending"
		l.Pending = &pendingLine{Step: j.Step, Renewal: j.Renewal, Template: j.Template, ClaimID: j.ClaimID, ClaimEnds: j.ClaimEnds, Started: j.Started,
			NeedClaim: !j.Renewal && !j.ClaimKept && j.Step != "registered"}
	}
	if id := st.Identity; id != nil {
		end := id.Certificate().Leaf.NotAfter
		l.State, l.ThingName, l.CertificateID, l.NotAfter = "provisioned", id.ThingName, id.CertificateID, &end
		l.Endpoint, l.Ports, l.ClientID, l.AnswerLost = id.Endpoint, id.Ports, id.ClientID, id.AnswerLost
		l.Files, l.Configuration, l.Renewal = &id.Files, id.Configuration, renewalOf(id, time.Now())
	}
	return nil
}

func (p *program) reset(_ context.Context, args []string) int {
	o := p.options("reset", "erase everything in the store; the service still knows the device")
	yes := o.Bool("yes", false, "do it")
	if status, done := o.parse(args); done {
		return status
	}
	if !*yes {
		return p.complain(usage("imprint-device reset --yes", "this erases the identity in %s for good", o.dir))
	}
	store, err := device.OpenStore(o.dir)
	if err == nil {
		err = store.Reset()
	}
	if err != nil {
		return p.complain(err)
	}
	fmt.Fprintln(p.stderr, "erased", store.Dir())
	return exitDone
}
