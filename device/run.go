package device

import (
	"context"
	"errors"
	"time"

	"github.com/imprint-iot/imprint/device/internal/mqtt"
)

// A RunConfig says what Run shall do.
type RunConfig struct {
	Options

	// Connected is called for each connection, to subscribe and publish. It must return when the connection is done or ctx
	// ends. Run waits for it. An error ends the connection, and Run too if Stop says so.
	Connected func(ctx context.Context, c *Conn) error

	// Lost is told why there is no connection and when the next attempt comes. It may be nil.
	Lost func(err error, next time.Duration)

	// Renewal has the certificate renewed in time; nil: it is not.
	Renewal *Renewal

	// Stop decides whether an error ends Run instead of leading to another attempt. nil: none does but the end of ctx.
	Stop func(err error) bool

	sleep func(ctx context.Context, d time.Duration) (ended bool)
}

// Pauses of Run: a fleet that lost its service must not come back at once.
const (
	firstRunPause   = time.Second
	longestRunPause = 5 * time.Minute
	steady          = 30 * time.Second // a connection that lasted so long starts the pauses anew
)

// Run stays connected until ctx ends, which is no error. It asks identity before each attempt, so that a new identity is used
// at the next one: give it Store.Identity.
func Run(ctx context.Context, identity func() (*Identity, error), rc RunConfig) error {
	if rc.Connected == nil {
		rc.Connected = func(context.Context, *Conn) error { return nil }
	}
	if rc.sleep == nil {
		rc.sleep = sleep
	}
	rc.Options = rc.Options.complete()
	r := &runner{RunConfig: rc, identity: identity, clock: &risingClock{base: rc.Now}}
	r.Now = r.clock.now
	if rc.Renewal != nil {
		r.renewals = &renewals{Renewal: *rc.Renewal, options: r.Options, sleep: rc.sleep}
	}
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := r.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errOldAgain) { // the device has been without a connection for long enough
			continue
		}
		if rc.Stop != nil && rc.Stop(err) {
			return err
		}
		if time.Since(began) > steady {
			attempt = 0
		}
		d := pause(attempt, firstRunPause, longestRunPause)
		if rc.Lost != nil {
			rc.Lost(err, d)
		}
		if rc.sleep(ctx, d) {
			return nil
		}
	}
}

// A runner is one call of Run.
type runner struct {
	RunConfig
	identity func() (*Identity, error)
	clock    *risingClock
	renewals *renewals // nil: none
}

// errOldAgain says that the new identity did not work and the old one is to be used at once.
var errOldAgain = errors.New("the new certificate does not work")

// once connects and serves, with one identity after the other as they are renewed, and returns why the last connection ended.
func (r *runner) once(ctx context.Context) error {
	id, err := r.identity()
	if err != nil {
		return err
	}
	var c *Conn
	if r.renewals != nil {
		if c, err = r.renewals.overdue(ctx, id); err != nil {
			return err
		}
	}
	if c == nil {
		if c, err = Connect(ctx, id, r.Options); err != nil {
			return err
		}
	}
	for c != nil {
		r.clock.atLeast(c.serverSince)
		if c, err = r.serve(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// serve lets the caller work, and returns the next connection, of a renewed identity, or why this one ended.
func (r *runner) serve(ctx context.Context, c *Conn) (next *Conn, err error) {
	defer c.Close()
	working, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Connected(working, c) }()
	obtained, stop := r.renewals.watch(ctx, c)
	defer stop()
	returned := false
	defer func() {
		cancel()
		if !returned {
			<-done
		}
	}()
	for {
		select {
		case err = <-done:
			if returned = true; err != nil {
				return nil, err
			}
			done = nil // the connection stays all the same
		case <-c.Done():
			cancel()
			if !returned {
				err, returned = <-done, true
			}
			if err == nil || KindOf(err) == KindInterrupted { // the work's own reason is the better one, if it has any
				err = lost(c.id.Endpoint, c.Err())
			}
			return nil, err
		case <-ctx.Done():
			return nil, interrupted(ctx.Err())
		case renewal := <-obtained:
			cancel()
			if !returned {
				<-done
				returned = true
			}
			c.Close()
			return r.renewals.change(ctx, renewal)
		}
	}
}

// lost explains the end of a connection that had been accepted.
func lost(server string, err error) *Error {
	var r *mqtt.Refused
	if errors.As(err, &r) && r.NotAuthorized() {
		return identityRefused(CodeNotAuthorized, err)
	}
	return &Error{Kind: KindConnect, Code: CodeLost, Message: "the connection to " + server + " ended", Err: err, retry: always,
		Cure: "nothing, unless it repeats: then another device may use the same client id, or the certificate was taken out of service"}
}
