package device

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"time"
)

// A RenewConfig says what Renew shall do. The zero value with a Dir renews as the identity was provisioned.
type RenewConfig struct {
	Dir        string            // of the store
	Template   string            // empty: the one that the identity comes from
	Parameters map[string]string // nil: those that the identity was provisioned with

	// Prove is called with a connection of the new identity, which becomes the one in use if it returns nil. nil: a connection is
	// proof enough.
	Prove func(ctx context.Context, c *Conn) error

	Options // of the connections; OnMessage is for that of Prove
}

// Renew gets the device's next certificate, with the certificate in use: it asks for one, registers it with the template, connects with
// it, and then makes it the one in use. Until then, and if anything fails, the old one stays in use.
//
// As with Provision, it may be cut short at any moment and called again. A new certificate that the service refuses is tried a few times,
// then given up. The error is an *Error.
func Renew(ctx context.Context, cfg RenewConfig) (*Result, error) {
	store, err := OpenStore(cfg.Dir)
	if err != nil {
		return nil, err
	}
	o := cfg.Options.complete()
	base := Config{Log: o.Log, Now: o.Now, Dial: o.Dial, MQTT: o.MQTT, Ports: o.Ports, Template: cfg.Template, Parameters: cfg.Parameters, store: store}
	r, err := beginRenewal(base)
	if err != nil {
		return nil, err
	}
	defer r.unlock()
	if cfg.Prove != nil {
		r.prove = func(ctx context.Context, id *Identity) error {
			c, err := prove(ctx, id, o, cfg.Prove)
			if err == nil {
				c.Close()
			}
			return err
		}
	}
	return r.run(ctx)
}

// run goes on to the end.
func (r *renewer) run(ctx context.Context) (*Result, error) {
	err := r.reconsider(ctx)
	if err == nil {
		err = r.retry(ctx, r.steps)
	}
	if err != nil {
		err = r.failed(ctx, err)
	}
	if err != nil {
		return nil, asError(err)
	}
	return r.commit()
}

// prove connects with an identity and has proof look at the connection.
func prove(ctx context.Context, id *Identity, o Options, proof func(context.Context, *Conn) error) (*Conn, error) {
	c, err := Connect(ctx, id, o)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if err = c.Ping(limited); err == nil && proof != nil {
		err = proof(limited, c)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// A renewer is one renewal: a provisioner whose claim is the identity in use.
type renewer struct {
	*provisioner
	id     *Identity // in use
	unlock func()    // of the store
}

// beginRenewal looks at what is there and locks the store. A renewal under way goes on.
func beginRenewal(cfg Config) (r *renewer, err error) {
	p, err := newProvisioner(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := p.store.Identity(); err != nil { // without one there may not even be a folder to lock
		return nil, err
	}
	unlock, err := p.store.lock()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	id, err := p.store.Identity() // as nobody can change it any more
	if err != nil {
		return nil, err
	}
	r = &renewer{p, id, unlock}
	p.Now = id.clock(p.Now)
	p.open = func(ctx context.Context) (session, error) {
		p.Log.Info("connecting to renew the certificate", "endpoint", p.j.Settings.Endpoint)
		return p.service.openAs(ctx, id, p.j.Settings)
	}
	if p.j = p.store.journal(); p.j != nil && p.j.Slot == id.slot {
		p.j = nil // the power went between the switch and the tidying
	}
	if stored := p.store.storedClaim(); stored != nil && stored.ID() != id.ClaimID || p.j != nil && p.j.Renews == "" {
		return nil, &Error{Kind: KindStorage, Code: CodeBusy, Message: "a provisioning with a claim is under way", Cure: "imprint-device provision goes on with it, or gives it up with a new claim"}
	}
	if err := p.store.tidy(id.slot, p.j); err != nil {
		return nil, err
	}
	return r, r.goOnOrStart()
}

func (r *renewer) goOnOrStart() error {
	s, err := r.settings()
	if err != nil {
		return err
	}
	if r.j != nil && r.j.Renews == r.id.CertificateID && r.sameGoal(s) {
		r.resumed = true
		r.j.Settings = s
		r.Log.Info("resuming the renewal", "step", string(r.j.Step))
		return r.repair()
	}
	return r.begin(s)
}

// begin writes the journal of a new renewal, in the slot that is not in use.
func (r *renewer) begin(s settings) error {
	if err := r.store.clearSlot(other(r.id.slot), ""); err != nil {
		return err
	}
	r.j = &journal{Step: stepClaimed, Slot: other(r.id.slot), Renews: r.id.CertificateID, ClaimID: r.id.ClaimID, Started: r.Now().UTC().Truncate(time.Second),
		Generation: r.id.Generation + 1, Settings: s}
	return r.store.saveJournal(r.j, nil)
}

// settings are those of the identity, but for what the caller says.
func (r *renewer) settings() (settings, error) {
	id := r.id
	s := settings{Endpoint: id.Endpoint, Ports: id.Ports, Template: id.Template, Parameters: maps.Clone(id.Request.Parameters), ClientID: id.ClientID,
		DeviceClientID: id.ClientID, KeyType: id.Request.KeyType, ServerKeys: id.Request.ServerKeys, Format: id.Request.Format, MQTT: id.Request.MQTT}
	roots, err := r.store.fs.ReadFile(r.store.path(id.slot, fileCA))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, storage(err, "cannot read the roots")
	}
	s.Roots = string(roots)
	set(&s.Template, r.Template)
	set(&s.MQTT, r.MQTT)
	if len(r.Ports) > 0 {
		s.Ports = r.Ports
	}
	if r.Parameters != nil {
		s.Parameters = r.Parameters
	}
	return s.complete()
}

// maxRefused is how often a new certificate may be refused, by as many attempts each time, until it is given up.
const maxRefused = 4

// failed decides what becomes of a renewal that failed. One whose certificate was registered is tried again, a few times.
func (r *renewer) failed(ctx context.Context, err error) error {
	e := asError(err)
	if e.Kind != KindRefused {
		return e
	}
	if r.j.Step == stepIssued { // the old certificate is refused; the new one may have been registered without our knowing
		if probed := r.probeNew(ctx); probed == nil {
			return nil
		}
		return e
	}
	if r.j.Step != stepRegistered {
		return e
	}
	r.j.Refused++
	if err := r.store.saveJournal(r.j, nil); err != nil {
		return err
	}
	return e
}

// reconsider gives up a new certificate that was refused too often, if the old one can still ask for another.
func (r *renewer) reconsider(ctx context.Context) error {
	if r.j.Refused < maxRefused {
		return nil
	}
	s, err := r.open(ctx)
	if err != nil {
		return nil // the refused one is all that is left
	}
	s.close()
	r.Log.Warn("giving up the new certificate, which the service refuses", "certificate", r.j.ID)
	return r.begin(r.j.Settings)
}

// probeNew connects with a certificate of which it is not known whether it was registered. If it works, the renewal is for the
// same thing.
func (r *renewer) probeNew(ctx context.Context) error {
	key, err := r.key()
	if err != nil || key == nil {
		return identityRefused("", errors.New("its key is gone"))
	}
	r.j.ThingName, r.j.Configuration = r.id.ThingName, r.id.Configuration
	if err := r.confirm(ctx); err != nil {
		r.j.ThingName, r.j.Configuration, r.installed = "", nil, false
		return err
	}
	r.j.Step = stepRegistered
	return r.store.saveJournal(r.j, nil)
}

// commit makes the new identity the one in use.
func (r *renewer) commit() (*Result, error) {
	if err := r.store.commit(r.j.Slot); err != nil {
		return nil, err
	}
	id, err := r.store.Identity()
	if err != nil {
		return nil, err
	}
	r.Log.Info("renewed", "thing", id.ThingName, "certificate", id.CertificateID, "until", id.pair.Leaf.NotAfter.Format(time.RFC3339))
	return &Result{Identity: id, Resumed: r.resumed}, nil
}
