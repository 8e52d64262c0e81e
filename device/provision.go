package device

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"time"
)

// A Config says what Provision shall do. The zero value with a Dir resumes what a power cut left. What a Claim brings along
// (endpoint, ports, roots, template, parameters) need not be given; what is given wins.
type Config struct {
	Dir   string // of the store
	Claim *Claim // nil: resume

	Endpoint       string            // HOST or HOST:PORT
	Ports          []int             // tried in order; nil: DefaultPorts
	Roots          string            // PEM; empty: the system's
	Template       string            // name of the provisioning template
	Parameters     map[string]string // for the template, added to the claim's
	ClientID       string            // of the claim's connection; empty: a random one that lasts until the device is provisioned
	DeviceClientID string            // with the new identity; empty: the thing's name
	KeyType        KeyType           // of the device's own key; empty: P256
	ServerKeys     bool              // let the service make the key: for devices without a source of randomness
	Format         string            // JSON or CBOR; empty: JSON
	MQTT           string            // MQTT311 or MQTT5; empty: MQTT311
	Again          bool              // provision anew although this claim has been used here before

	Log  *slog.Logger     // nil: silent
	Now  func() time.Time // nil: time.Now
	Dial DialFunc         // nil: net.Dialer

	service service                                                 // nil: over MQTT
	store   *Store                                                  // nil: in Dir
	sleep   func(ctx context.Context, d time.Duration) (ended bool) // nil: for real
}

// settings are what of a Config and its Claim must outlast a power cut.
type settings struct {
	Endpoint       string            `json:"endpoint"`
	Ports          []int             `json:"ports"`
	Roots          string            `json:"roots,omitempty"`
	Template       string            `json:"template"`
	Parameters     map[string]string `json:"parameters,omitempty"`
	ClientID       string            `json:"clientId"`
	DeviceClientID string            `json:"deviceClientId,omitempty"`
	KeyType        KeyType           `json:"keyType"`
	ServerKeys     bool              `json:"serverKeys,omitempty"`
	Format         string            `json:"format"`
	MQTT           string            `json:"mqtt"`
}

// A Result is what Provision achieved.
type Result struct {
	*Identity
	Already bool // nothing was to be done: the claim has been used before, or there was none and nothing to resume
	Resumed bool // an earlier call had been cut short
}

// Provision trades a claim for an identity and stores it: it connects with the claim, asks for a certificate, registers,
// connects with the new certificate, and then makes that the identity in use and erases the claim's key.
//
// It may be cut short at any moment, by power or by ctx, and called again with the same Config, or one without a Claim: it goes
// on where it was, and neither device nor service end up with a second certificate or thing. An identity that was in use before
// stays so until the new one has connected. Transient failures are retried with growing, jittered pauses until ctx ends: give it
// a deadline. The error is an *Error.
func Provision(ctx context.Context, cfg Config) (*Result, error) {
	p, err := newProvisioner(cfg)
	if err != nil {
		return nil, err
	}
	if err := p.store.ensure(); err != nil {
		return nil, err
	}
	unlock, err := p.store.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := p.run(ctx)
	if err != nil {
		return nil, asError(err)
	}
	return r, nil
}

// A provisioner is one call of Provision.
type provisioner struct {
	Config
	stored  *Claim   // that the store holds; nil if none
	claim   *Claim   // given or stored; nil if it has expired and was erased
	j       *journal // what is under way
	resumed bool

	open  func(ctx context.Context) (session, error)    // where the new certificate is asked for
	prove func(ctx context.Context, id *Identity) error // connects with the new identity

	reissued  bool // a token was found invalid once
	installed bool // the new identity's files are written as the journal has them
}

func newProvisioner(cfg Config) (*provisioner, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.sleep == nil {
		cfg.sleep = sleep
	}
	if cfg.store == nil {
		if cfg.Dir == "" {
			return nil, usage("name the folder of the store", "no folder")
		}
		var err error
		if cfg.store, err = OpenStore(cfg.Dir); err != nil {
			return nil, err
		}
	}
	if cfg.service == nil {
		cfg.service = &remote{log: cfg.Log, now: cfg.Now, dial: cfg.Dial}
	}
	p := &provisioner{Config: cfg}
	p.open = p.openClaim
	p.prove = func(ctx context.Context, id *Identity) error { return p.service.confirm(ctx, id, p.j.Settings) }
	return p, nil
}

func (p *provisioner) run(ctx context.Context) (*Result, error) {
	done, err := p.begin(ctx)
	if err != nil || done != nil {
		return done, err
	}
	if err := p.advance(ctx); err != nil {
		return nil, err
	}
	if err := p.store.commit(p.j.Slot); err != nil {
		return nil, err
	}
	id, err := p.store.Identity()
	if err != nil {
		return nil, err
	}
	p.Log.Info("provisioned", "thing", id.ThingName, "certificate", id.CertificateID)
	return &Result{Identity: id, Resumed: p.resumed}, nil
}

// begin decides between nothing to do, going on, and starting; afterwards the journal says what is under way.
func (p *provisioner) begin(ctx context.Context) (done *Result, err error) {
	slot, err := p.store.current()
	if err != nil {
		return nil, err
	}
	p.j, p.stored = p.store.journal(), p.store.storedClaim()
	if p.j != nil && p.j.Slot == slot { // the power went between the switch and the tidying
		p.j, p.resumed = nil, true
	}
	if p.Claim == nil && p.stored != nil && (p.j == nil || p.j.ClaimID != p.stored.ID()) {
		p.Claim = p.stored // the power went between the storing of this claim and its journal
	}
	if err := p.store.tidy(slot, p.j); err != nil {
		return nil, err
	}
	id, err := p.inUse(slot)
	if err != nil {
		return nil, err
	}
	if p.j != nil && p.j.Renews != "" && p.Claim != nil && (id == nil || id.ClaimID != p.Claim.ID() || p.Again) {
		p.j = nil // somebody wants another identity than the one that is being renewed
	}
	if (p.j == nil || p.j.Renews != "") && (p.Claim == nil || id != nil && id.ClaimID == p.Claim.ID() && !p.Again) {
		if id == nil {
			return nil, &Error{Kind: KindClaim, Code: CodeNoClaim, Message: "there is no claim, and nothing to resume",
				Cure: "give a claim (--claim FILE, or IMPRINT_CLAIM)"}
		}
		return &Result{Identity: id, Already: true, Resumed: p.resumed}, nil
	}
	return nil, p.goOnOrStart(ctx, slot, id)
}

// inUse loads the identity in use, nil if there is none. A damaged one is as good as none when there is a claim.
func (p *provisioner) inUse(slot string) (*Identity, error) {
	if slot == "" {
		return nil, nil
	}
	id, err := p.store.load(slot)
	if err == nil {
		return id, nil
	}
	if p.Claim == nil {
		return nil, storage(err, "cannot read the identity in %s", p.store.path(slot))
	}
	p.Log.Warn("the identity in use cannot be read; it will be replaced", "reason", err)
	return nil, nil
}

func (p *provisioner) goOnOrStart(ctx context.Context, slot string, id *Identity) error {
	p.claim = p.Claim
	if p.claim == nil {
		p.claim = p.stored
	}
	s, err := p.settings()
	if err != nil {
		return err
	}
	if p.j != nil && p.sameAttempt(s) {
		p.resumed = true
		p.j.Settings = s
		p.Log.Info("resuming", "step", string(p.j.Step))
		return p.repair()
	}
	if p.j != nil && p.adoptable(s) {
		// A new claim for what is half done: the earlier attempt may have got further than it knows.
		switch err := p.probe(ctx); {
		case err == nil:
			p.resumed = true
			return nil
		case KindOf(err) != KindRefused:
			return err
		}
	}
	return p.start(slot, id, s)
}

// settings merges what the caller says, what the claim brings and, on resuming, what was said before.
func (p *provisioner) settings() (settings, error) {
	var before settings
	if p.j != nil {
		before = p.j.Settings
	}
	base := settings{ClientID: before.ClientID}
	if p.Claim == nil {
		base = before
		base.Parameters = maps.Clone(before.Parameters)
	} else {
		c := p.Claim
		base.Endpoint, base.Ports, base.Roots, base.Template, base.Parameters = c.Endpoint, c.Ports, c.Roots, c.Template, maps.Clone(c.Parameters)
	}
	set(&base.Endpoint, p.Endpoint)
	if base.Endpoint == "" {
		return base, usage("--endpoint HOST: `aws iot describe-endpoint` tells it", "the claim names no endpoint")
	}
	host, port, err := splitEndpoint(base.Endpoint)
	if err != nil {
		return base, err
	}
	base.Endpoint = host
	switch {
	case len(p.Ports) > 0:
		base.Ports = p.Ports
	case port != 0:
		base.Ports = []int{port}
	case len(base.Ports) == 0:
		base.Ports = DefaultPorts
	}
	set(&base.Roots, p.Roots)
	set(&base.Template, p.Template)
	set(&base.ClientID, p.ClientID)
	set(&base.DeviceClientID, p.DeviceClientID)
	set(&base.KeyType, p.KeyType)
	set(&base.Format, p.Format)
	set(&base.MQTT, p.MQTT)
	base.ServerKeys = base.ServerKeys || p.ServerKeys
	if len(p.Parameters) > 0 {
		base.Parameters = nonNil(base.Parameters)
		maps.Copy(base.Parameters, p.Parameters)
	}
	return base.complete()
}

func set[T ~string](to *T, value T) {
	if value != "" {
		*to = value
	}
}

// complete fills in defaults and checks.
func (s settings) complete() (settings, error) {
	if s.ClientID == "" {
		s.ClientID = randomID()
	}
	if s.KeyType == "" {
		s.KeyType = P256
	}
	if s.Format == "" {
		s.Format = JSON
	}
	if s.MQTT == "" {
		s.MQTT = MQTT311
	}
	switch {
	case s.Template == "":
		return s, usage("--template NAME", "the claim names no template")
	case !validTemplate(s.Template):
		return s, usage("1 to 36 letters, digits, _ and -", "%q is no name of a template", s.Template)
	case s.KeyType != P256 && s.KeyType != RSA2048:
		return s, usage("p256 or rsa2048", "%q is no type of key", s.KeyType)
	case s.Format != JSON && s.Format != CBOR:
		return s, usage("json or cbor", "%q is no format", s.Format)
	}
	if _, err := mqttVersion(s.MQTT); err != nil {
		return s, err
	}
	if s.Roots != "" {
		if _, err := parseRoots(s.Roots); err != nil {
			return s, err
		}
	}
	return s, nil
}

// sameAttempt reports whether going on with the journal gives what is asked for.
func (p *provisioner) sameAttempt(s settings) bool {
	sameClaim := p.Claim == nil || p.Claim.ID() == p.j.ClaimID
	return sameClaim && p.sameGoal(s)
}

func (p *provisioner) sameGoal(s settings) bool {
	o := p.j.Settings
	return s.Template == o.Template && maps.Equal(s.Parameters, o.Parameters) && s.KeyType == o.KeyType && s.ServerKeys == o.ServerKeys
}

// adoptable reports whether the attempt in the journal may have been registered without our knowing.
func (p *provisioner) adoptable(s settings) bool {
	return p.sameGoal(s) && (p.j.Step == stepIssued || p.j.Step == stepRegistered)
}

// start writes the journal of a new attempt, in the slot that is not in use.
func (p *provisioner) start(slot string, id *Identity, s settings) error {
	if p.claim == nil {
		return p.needClaim(nil)
	}
	keep := ""
	if p.j != nil && !s.ServerKeys && !p.j.Settings.ServerKeys {
		keep = fileKey // by it, a service can tell that it is the same device with a new claim
	}
	if err := p.store.clearSlot(other(slot), keep); err != nil {
		return err
	}
	p.j = &journal{Step: stepClaimed, Slot: other(slot), ClaimID: p.claim.ID(), ClaimEnds: p.claim.Certificate.NotAfter.UTC(),
		Started: p.now()().UTC().Truncate(time.Second), Generation: 1, Settings: s}
	if id != nil {
		p.j.Generation = id.Generation + 1
	}
	return p.store.saveJournal(p.j, p.claim)
}

// repair goes back to the last step whose files are whole. After a mere power cut that is the step in the journal.
func (p *provisioner) repair() error {
	if p.stored == nil && p.Claim != nil && p.j.Step != stepRegistered { // it was erased as expired, wrongly
		if err := p.store.saveJournal(p.j, p.Claim); err != nil {
			return err
		}
	}
	if p.j.Step == stepClaimed {
		return nil
	}
	key, err := p.key()
	if err == nil && key != nil && p.j.Step != stepKeyed {
		if cert, ok := parseCertificate(p.j.Certificate); !ok || !belongs(cert, key) {
			key = nil
		}
	}
	if err == nil && key == nil {
		p.Log.Warn("the new key is gone; making another")
		p.j.Step = stepClaimed
	}
	return err
}

// needClaim says that this attempt cannot go on with the claim it has.
func (p *provisioner) needClaim(cause error) *Error {
	return &Error{Kind: KindClaim, Code: CodeClaimExpired, Message: "the claim has expired", Err: cause,
		Cure: "ask for a new claim (they live five minutes), and check this device's clock"}
}

// now is the clock, corrected by what the claim says of the time.
func (p *provisioner) now() func() time.Time {
	if p.claim == nil {
		return p.Now
	}
	return laterOf(p.Now, p.claim.Certificate.NotBefore, p.claim.Time)
}

// Pauses between attempts: half of it is jitter, so that devices that lost power together do not come back together.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 15 * time.Second
	fewAttempts  = 4
)

func sleep(ctx context.Context, d time.Duration) (ended bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-ctx.Done():
		return true
	}
}

func pause(attempt int, first, longest time.Duration) time.Duration {
	d := min(first<<min(attempt, 20), longest)
	return d/2 + rand.N(d/2+1)
}

// advance works until the new identity has connected, through as many connections as it takes.
func (p *provisioner) advance(ctx context.Context) error {
	err := p.retry(ctx, p.steps)
	if err == nil || KindOf(err) != KindClaim {
		return err
	}
	return p.withoutClaim(ctx, asError(err))
}

// retry repeats work after pauses until it succeeds, is refused for good, or ctx ends. Progress starts the count anew.
func (p *provisioner) retry(ctx context.Context, work func(context.Context) error) error {
	suspicious := 0 // failures in a row that look like a refusal
	for attempt := 0; ; attempt++ {
		before := p.j.Step
		err := work(ctx)
		if err == nil {
			return nil
		}
		e := asError(err)
		if p.j.Step != before {
			attempt, suspicious = 0, 0
		}
		suspicious++
		if e.retry != few {
			suspicious = 0
		}
		if e.retry == never || suspicious >= fewAttempts {
			return e
		}
		d := pause(attempt, firstPause, longestPause)
		p.Log.Warn("will try again", "reason", e.Error(), "in", d.Round(time.Millisecond).String())
		if p.sleep(ctx, d) || ctx.Err() != nil {
			if cancelled(ctx) {
				return interrupted(e)
			}
			return e
		}
	}
}

// withoutClaim makes the best of a claim that is refused for good. If the power went while the registration's answer was under
// way, the certificate may work all the same. Else a claim that is refused after its end has expired, and its key is erased.
func (p *provisioner) withoutClaim(ctx context.Context, e *Error) error {
	if p.j.Step == stepIssued {
		if err := p.probe(ctx); err == nil || KindOf(err) != KindRefused {
			return err
		}
	}
	if p.claim == nil || !p.now()().After(p.claim.Certificate.NotAfter) {
		return e
	}
	if err := eraseFile(p.store.fs, p.store.path(fileClaim)); err != nil {
		return storage(err, "cannot erase the claim")
	}
	return p.needClaim(e.Err)
}

// probe connects with a certificate of which we do not know whether it was registered. A refusal is of KindRefused.
func (p *provisioner) probe(ctx context.Context) error {
	key, err := p.key()
	if err != nil {
		return err
	}
	if key == nil {
		return identityRefused("", errors.New("its key is gone"))
	}
	lost := p.j.AnswerLost
	p.j.AnswerLost = lost || p.j.Step == stepIssued
	if err := p.retry(ctx, p.confirm); err != nil {
		p.j.AnswerLost, p.installed = lost, false
		p.Log.Info("the certificate of the earlier attempt does not work", "reason", err)
		return err
	}
	p.j.Step = stepRegistered
	return p.store.saveJournal(p.j, nil)
}
