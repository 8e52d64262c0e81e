package device

import (
	"context"
	"time"
)

// A Renewal has Run renew the certificate when it is time, over the connection that is open. The new certificate is put to the proof
// on a connection of its own, which becomes that of Run; if it fails, Run goes on with the old one and tries again later.
type Renewal struct {
	Store *Store // of the identity

	// Prove is called with the first connection of the new identity: it does there what the device cannot be without, such as
	// subscribing. If it returns nil the new identity is the one in use, and Connected is called with the same connection. nil: a
	// connection is proof enough.
	Prove func(ctx context.Context, c *Conn) error

	Renewed func(id *Identity)                  // is told of each new identity in use; may be nil
	Failed  func(err error, next time.Duration) // is told why a renewal failed and when the next attempt comes; may be nil
}

const (
	obtainTimeout = 2 * time.Minute // for certificate and registration together; a hook may take five seconds
	changeTimeout = time.Minute     // for the first connections of a new certificate
	lookAgain     = time.Hour       // clocks are set while we wait
)

// renewals is what one call of Run knows of renewing.
type renewals struct {
	Renewal
	options Options
	sleep   func(ctx context.Context, d time.Duration) (ended bool)

	planned  time.Time // when the certificate of the identity named below is renewed
	of       string
	failures int
	notUntil time.Time // after a failure
}

// plan returns when an identity is to be renewed, or tried again.
func (r *renewals) plan(id *Identity) time.Time {
	s := id.Renewal(r.now(id))
	if r.of != id.CertificateID {
		r.of, r.planned, r.failures, r.notUntil = id.CertificateID, s.shake(), 0, time.Time{}
	}
	if s.At.After(r.planned) { // a clock that was ahead
		r.planned = s.At
	}
	if r.notUntil.After(r.planned) {
		return r.notUntil
	}
	return r.planned
}

func (r *renewals) now(id *Identity) time.Time { return id.clock(r.options.Now)() }

// watch waits until it is time, and gets a new certificate over c. What it gives has to be put to the proof. stop ends it. A nil
// renewals gives nothing.
func (r *renewals) watch(ctx context.Context, c *Conn) (obtained <-chan *renewer, stop func()) {
	if r == nil {
		return nil, func() {}
	}
	waiting, cancel := context.WithCancel(ctx)
	given := make(chan *renewer)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for waiting.Err() == nil {
			wait := r.plan(c.id).Sub(r.now(c.id))
			if wait > 0 {
				r.sleep(waiting, min(wait, lookAgain))
				continue
			}
			n := r.obtain(ctx, c, c.id) // to its end: a service may refuse by closing the connection
			if n == nil {
				continue
			}
			select {
			case given <- n:
			case <-waiting.Done():
				n.unlock()
			}
			return
		}
	}()
	return given, func() { cancel(); <-over }
}

// begin begins a renewal or goes on with it.
func (r *renewals) begin() (*renewer, error) {
	o := r.options
	return beginRenewal(Config{Log: o.Log, Now: o.Now, Dial: o.Dial, Ports: o.Ports, store: r.Store, sleep: r.sleep})
}

// obtain gets a registered certificate for the device that is id, over c, if not nil, or over a connection of its own. nil: it failed,
// and Failed was told.
func (r *renewals) obtain(ctx context.Context, c *Conn, id *Identity) *renewer {
	n, err := r.begin()
	if err == nil {
		if c != nil {
			n.open = func(context.Context) (session, error) { return c.session(n.j.Settings.Format), nil }
		}
		limited, cancel := context.WithTimeout(ctx, obtainTimeout)
		defer cancel()
		if err = n.reconsider(limited); err == nil {
			err = n.obtain(limited)
		}
		if err == nil {
			return n
		}
		if err = n.failed(ctx, err); err == nil {
			return n
		}
		n.unlock()
	}
	if ctx.Err() == nil {
		r.fail(id, err)
	}
	return nil
}

// fail puts off the next attempt for an identity.
func (r *renewals) fail(id *Identity, err error) {
	s := id.Renewal(r.now(id))
	window := s.End.Sub(s.From)
	d := pause(r.failures, max(min(time.Minute, window/16), time.Second), max(min(6*time.Hour, window/4), time.Second))
	r.failures++
	r.notUntil = r.now(id).Add(d)
	if r.Failed != nil {
		r.Failed(asError(err), d)
	}
}

// change connects with a new certificate and makes it the one in use. The error is errOldAgain if the old one has to do.
func (r *renewals) change(ctx context.Context, n *renewer) (next *Conn, err error) {
	defer n.unlock()
	n.prove = func(ctx context.Context, id *Identity) error {
		next, err = prove(ctx, id, r.options, r.Prove)
		return err
	}
	limited, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := n.retry(limited, n.steps); err != nil {
		if err := n.failed(ctx, err); ctx.Err() == nil {
			r.fail(n.id, err)
		}
		return nil, errOldAgain
	}
	res, err := n.commit()
	if err != nil {
		next.Close()
		return nil, err
	}
	if r.Renewed != nil {
		r.Renewed(res.Identity)
	}
	return next, nil
}

// overdue looks, before the identity connects, for what cannot wait: a new certificate that has only to be put to the proof, and
// one that has expired, which a service may accept to be renewed and for nothing else. nil: connect as always.
func (r *renewals) overdue(ctx context.Context, id *Identity) (*Conn, error) {
	now := r.now(id)
	j := r.Store.journal()
	registered := j != nil && j.Renews == id.CertificateID && j.Step == stepRegistered
	if r.plan(id).After(now) && !(registered && !r.notUntil.After(now)) || !registered && now.Before(id.pair.Leaf.NotAfter) {
		return nil, nil
	}
	n := r.obtain(ctx, nil, id)
	if n == nil {
		return nil, nil
	}
	c, err := r.change(ctx, n)
	if err == errOldAgain {
		return nil, nil
	}
	return c, err
}
