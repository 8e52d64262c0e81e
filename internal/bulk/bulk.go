// Package bulk registers things from a file of parameters, a line each: StartThingRegistrationTask and its family (provisioning spec 8).
//
// Begin with Service.Run: it works off tasks, one at a time for each account, wherever a cut has left them. task.go goes through
// the lines of one; line.go reads a line and words what is reported of it. A line is registered as RegisterThing does it (package
// provision), with the rights of the task's role.
//
// Exactly once: a chunk of lines, how far the task is and what is to be reported of them are one transaction. From there the reports go
// to the disk, and what a cut leaves half written there is written again.
package bulk

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
)

// Config is what a Service needs.
type Config struct {
	Store       *store.DB
	Provision   *provision.Service
	Permissions provision.Permissions
	Objects     bucket.Objects // where input is
	Folder      *bucket.Folder // for reports
	// Link makes a link to a report that is good for an hour.
	Link  func(s fleet.Scope, key string) (string, error)
	Clock fleet.Clock
	Log   *slog.Logger

	OnLines func(registered, others int64)        // if set, hears of lines that are done
	OnEnd   func(status store.RegistrationStatus) // if set, hears how a task has ended
}

// A Service holds the rules of bulk registration. It is safe for concurrent use.
type Service struct {
	Config
	wake chan struct{}

	mu   sync.Mutex
	jobs map[store.ScopedTask]bool // in work
}

// New returns a Service, which does nothing before Run.
func New(c Config) *Service {
	return &Service{Config: c, wake: make(chan struct{}, 1), jobs: map[store.ScopedTask]bool{}}
}

// Times of AWS (provisioning spec 8 and 10.3).
const (
	longest = 30 * 24 * time.Hour // that a task may run
	kept    = 30 * 24 * time.Hour // that an ended one is kept
)

// iotService is the principal that the role must trust.
const iotService = "iot.amazonaws.com"

// NewTask is what is known of a task when it begins.
type NewTask struct{ Body, Bucket, Key, Role string }

// Start begins a task. caller must be allowed to pass the role. What is wrong with template, input or role beyond that the task says
// itself, by its status and message. Errors: KindInvalid, also while another task of the account runs; KindDenied.
func (b *Service) Start(ctx context.Context, caller *fleet.Caller, n NewTask) (id string, err error) {
	if err := b.Permissions.PassRole(ctx, caller, n.Role, iotService); err != nil {
		return "", err
	}
	err = b.Store.Tx(ctx, func(tx *store.Tx) error {
		id = fleet.NewTimeUUID(tx.Now())
		made, err := tx.CreateRegistrationTask(caller.Scope, store.RegistrationTask{ID: id, Body: n.Body, Bucket: n.Bucket, Key: n.Key, Role: n.Role})
		if err == nil && !made {
			return fleet.Invalid("", "", "Another thing registration task of this account is running: wait for its end, or stop it with StopThingRegistrationTask")
		}
		return err
	})
	if err == nil {
		b.ring()
	}
	return id, err
}

// Stop asks a task to end. One that has ended stays as it is. It fails with KindNotFound.
func (b *Service) Stop(ctx context.Context, s fleet.Scope, id string) error {
	err := b.Store.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.RegistrationTask(s, id); err != nil {
			return err
		}
		return tx.StopRegistration(s, id)
	})
	if err == nil {
		b.ring()
	}
	return err
}

// reports are the ends of the keys of a task's reports, by AWS's word for their kind.
var reports = map[string]string{"RESULTS": "/results.json", "ERRORS": "/errors.json"}

// Reports returns links to what has been reported so far; none while there is nothing. Errors are of KindInvalid.
func (b *Service) Reports(ctx context.Context, s fleet.Scope, id, kind string) ([]string, error) {
	err := b.Store.View(ctx, func(tx *store.Tx) error {
		_, err := tx.RegistrationTask(s, id)
		return err
	})
	if fleet.KindOf(err) == fleet.KindNotFound { // AWS declares no other error
		err = fleet.Invalid("thing registration task", id, "does not exist")
	}
	if err != nil {
		return nil, err
	}
	o, err := b.Folder.Head(ctx, s, bucket.Reports, id+reports[kind])
	if fleet.KindOf(err) == fleet.KindNotFound || err == nil && o.Size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	link, err := b.Link(s, id+reports[kind])
	return []string{link}, err
}

// ring has Run look for work.
func (b *Service) ring() {
	select {
	case b.wake <- struct{}{}:
	default: // it will
	}
}

const lookEvery = 10 * time.Second // for tasks that stand still since something did not answer

// Run works off tasks until ctx ends, and returns when none is in work any more.
func (b *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var open []store.ScopedTask
		err := b.Store.View(ctx, func(tx *store.Tx) (err error) {
			open, err = tx.OpenRegistrationTasks()
			return err
		})
		if err != nil && ctx.Err() == nil {
			b.Log.Error("looking for thing registration tasks", "error", err)
		}
		for _, t := range open {
			if b.take(t) {
				wg.Go(func() {
					defer b.release(t)
					b.work(ctx, t)
				})
			}
		}
		select {
		case <-b.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Active is how many tasks are in work.
func (b *Service) Active() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.jobs)
}

func (b *Service) take(t store.ScopedTask) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.jobs[t] {
		return false
	}
	b.jobs[t] = true
	return true
}

func (b *Service) release(t store.ScopedTask) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.jobs, t)
}

// work goes on with a task until it has ended, or something does not answer; then it is tried again later.
func (b *Service) work(ctx context.Context, t store.ScopedTask) {
	status, message, err := b.run(ctx, t)
	ended := err == nil && status != ""
	if ended {
		err = b.Store.Tx(ctx, func(tx *store.Tx) error { return tx.EndRegistration(t.Scope, t.ID, status, message) })
	}
	switch {
	case err != nil && ctx.Err() == nil:
		b.Log.Error("a thing registration task stands still and will be tried again", "scope", t.Scope.String(), "task", t.ID, "error", err)
	case err == nil && ended:
		b.Log.Info("a thing registration task has ended", "scope", t.Scope.String(), "task", t.ID, "status", string(status), "why", message)
		if b.OnEnd != nil {
			b.OnEnd(status)
		}
	}
}

// sweepChunk is how many tasks one sweep forgets.
const sweepChunk = 10

// Sweep forgets tasks that ended thirty days ago, with their reports.
func (b *Service) Sweep(ctx context.Context, now time.Time) error {
	var old []store.ScopedTask
	if err := b.Store.View(ctx, func(tx *store.Tx) (err error) {
		old, err = tx.EndedRegistrations(now.Add(-kept), sweepChunk)
		return err
	}); err != nil {
		return err
	}
	for _, t := range old {
		for _, name := range reports {
			if err := b.Folder.Delete(ctx, t.Scope, bucket.Reports, t.ID+name); err != nil && fleet.KindOf(err) != fleet.KindNotFound {
				return err
			}
		}
		if err := b.Store.Tx(ctx, func(tx *store.Tx) error { return tx.DeleteRegistration(t.Scope, t.ID) }); err != nil {
			return err
		}
	}
	return nil
}

// sentence is what a task says of an error that ended it.
func sentence(err error) string {
	var e *fleet.Error
	if errors.As(err, &e) && e.Msg != "" {
		if e.Resource != "" && e.Name != "" && !strings.Contains(e.Msg, e.Name) {
			return e.Resource + " " + e.Name + ": " + e.Msg
		}
		return e.Msg
	}
	return err.Error()
}
