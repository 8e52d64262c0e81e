package device

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/device/internal/mqtt"
)

// steps goes on from the step in the journal to the end, with one connection of the claim at most. It may be called again after
// any failure.
func (p *provisioner) steps(ctx context.Context) error {
	if err := p.obtain(ctx); err != nil {
		return err
	}
	err := p.confirm(ctx)
	if e := asError(err); err != nil && e.Kind == KindRefused && e.retry == never {
		e.retry = few // a service of many machines needs a moment to make a certificate known to all of them
	}
	return err
}

// obtain goes on until the new certificate is registered.
func (p *provisioner) obtain(ctx context.Context) error {
	if p.j.Step == stepRegistered {
		return nil
	}
	if p.j.Step == stepClaimed && !p.j.Settings.ServerKeys {
		if err := p.makeKey(); err != nil {
			return err
		}
	}
	return p.ask(ctx)
}

// makeKey stores key and CSR before anybody is asked: after a cut the same CSR finds the certificate that was issued for it.
func (p *provisioner) makeKey() error {
	key, err := p.key()
	if err != nil {
		return err
	}
	if key == nil || keyTypeOf(key) != p.j.Settings.KeyType {
		p.Log.Info("making a key", "type", string(p.j.Settings.KeyType))
		pem, err := newKey(p.j.Settings.KeyType)
		if err != nil {
			return err
		}
		if err := p.saveKey(pem); err != nil {
			return err
		}
		key, _ = parseKey(pem)
	}
	csr, err := newCSR(key, p.j.Settings.ClientID)
	if err != nil {
		return err
	}
	p.j.CSR, p.j.Step = csr, stepKeyed
	return p.store.saveJournal(p.j, nil)
}

// key reads the new identity's key; nil without an error if there is none that makes sense.
func (p *provisioner) key() (crypto.Signer, error) {
	b, err := p.store.readKey(p.j.Slot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storage(err, "cannot read the new key")
	}
	key, _ := parseKey(b)
	return key, nil
}

func (p *provisioner) saveKey(pem []byte) error {
	return p.store.write(p.j.Slot, newFile{fileKey, pem})
}

// openClaim connects with the claim.
func (p *provisioner) openClaim(ctx context.Context) (session, error) {
	if p.claim == nil {
		return nil, p.needClaim(nil)
	}
	p.Log.Info("connecting with the claim", "endpoint", p.j.Settings.Endpoint)
	return p.service.open(ctx, p.claim, p.j.Settings)
}

// ask has a certificate issued and registers it, as far as that has not been done.
func (p *provisioner) ask(ctx context.Context) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	p.j.Settings.Ports = firstPort(p.j.Settings.Ports, s.port())
	if p.j.Step != stepIssued {
		if err := p.issue(ctx, s); err != nil {
			return err
		}
	}
	return p.register(ctx, s)
}

func (p *provisioner) issue(ctx context.Context, s session) error {
	var out issued
	var err error
	if p.j.Settings.ServerKeys {
		p.Log.Info("asking for keys and certificate")
		out, err = s.createKeys(ctx)
	} else {
		p.Log.Info("asking for a certificate")
		out, err = s.createFromCSR(ctx, p.j.CSR)
	}
	if err != nil {
		return err
	}
	cert, ok := parseCertificate(out.certificate)
	if !ok {
		return badAnswer("certificatePem holds no certificate")
	}
	if p.j.Settings.ServerKeys {
		if err := p.saveKey([]byte(out.privateKey)); err != nil {
			return err
		}
	}
	key, err := p.key()
	if err != nil {
		return err
	}
	if key == nil || !belongs(cert, key) {
		return badAnswer("the certificate is not for this device's key")
	}
	p.j.Certificate, p.j.ID, p.j.Token, p.j.Step = out.certificate, out.id, out.token, stepIssued
	return p.store.saveJournal(p.j, nil)
}

func (p *provisioner) register(ctx context.Context, s session) error {
	p.Log.Info("registering", "template", p.j.Settings.Template, "certificate", p.j.ID)
	out, err := s.register(ctx, p.j.Settings.Template, p.j.Token, p.j.Settings.Parameters)
	if e := asError(err); err != nil && e.Code == "InvalidCertificateOwnershipToken" && !p.reissued {
		// The token has expired, or was lost with the service's certificate: ask again, once.
		p.reissued = true
		p.j.Step, p.j.Token = stepClaimed, ""
		if p.j.CSR != "" {
			p.j.Step = stepKeyed
		}
		e.retry = always
		return e
	}
	if err != nil {
		return err
	}
	p.j.ThingName, p.j.Configuration, p.j.Step = out.thingName, out.configuration, stepRegistered
	return p.store.saveJournal(p.j, nil)
}

// confirm writes the new identity's files, reads them back as any later start will, and connects.
func (p *provisioner) confirm(ctx context.Context) error {
	if !p.installed { // once per call: retries must not wear out flash memory
		if err := p.store.install(p.identity(), p.j.Certificate, p.j.Settings.Roots); err != nil {
			return err
		}
		p.installed = true
	}
	id, err := p.store.load(p.j.Slot)
	if err != nil {
		return storage(err, "cannot read back the new identity")
	}
	p.Log.Info("connecting with the new certificate", "clientId", id.ClientID)
	return p.prove(ctx, id)
}

func (p *provisioner) identity() *Identity {
	s := p.j.Settings
	id := &Identity{slot: p.j.Slot, ThingName: p.j.ThingName, CertificateID: p.j.ID, Endpoint: s.Endpoint, Ports: s.Ports,
		ClientID: s.DeviceClientID, Template: s.Template, ClaimID: p.j.ClaimID, Generation: p.j.Generation, AnswerLost: p.j.AnswerLost,
		Request:       Request{s.Parameters, s.KeyType, s.ServerKeys, s.Format, s.MQTT},
		Configuration: p.j.Configuration, Provisioned: p.now()().UTC().Truncate(time.Second)}
	if id.ClientID == "" {
		id.ClientID = id.ThingName
	}
	if id.ClientID == "" {
		id.ClientID = s.ClientID
	}
	return id
}

// firstPort puts the port that worked first.
func firstPort(ports []int, worked int) []int {
	i := slices.Index(ports, worked)
	if i <= 0 {
		return ports
	}
	return slices.Concat([]int{worked}, ports[:i], ports[i+1:])
}

// remote is the service over MQTT.
type remote struct {
	log  *slog.Logger
	now  func() time.Time
	dial DialFunc
}

var _ service = (*remote)(nil)

func (r *remote) dialer(s settings, now func() time.Time) (*dialer, error) {
	d := &dialer{endpoint: s.Endpoint, ports: s.Ports, now: now, dial: r.dial, log: r.log}
	var err error
	if d.version, err = mqttVersion(s.MQTT); err != nil {
		return nil, err
	}
	if s.Roots != "" {
		d.roots, err = parseRoots(s.Roots)
	}
	return d, err
}

func (r *remote) open(ctx context.Context, c *Claim, s settings) (session, error) {
	d, err := r.dialer(s, laterOf(r.now, c.Certificate.NotBefore, c.Time))
	if err != nil {
		return nil, err
	}
	return r.exchange(ctx, d, c.pair, s, claimRefused)
}

// openAs implements service.
func (r *remote) openAs(ctx context.Context, id *Identity, s settings) (session, error) {
	d, err := r.dialer(s, id.clock(r.now))
	if err != nil {
		return nil, err
	}
	return r.exchange(ctx, d, id.pair, s, identityRefused)
}

func (r *remote) exchange(ctx context.Context, d *dialer, pair tls.Certificate, s settings, refused func(string, error) *Error) (session, error) {
	x := newExchange(s.Endpoint, s.Format)
	var err error
	x.client, x.usedPort, err = d.connect(ctx, pair, mqtt.Options{ClientID: s.ClientID, KeepAlive: claimKeepAlive, OnMessage: x.receive}, refused)
	if err != nil {
		return nil, err
	}
	return x, nil
}

func (r *remote) confirm(ctx context.Context, id *Identity, s settings) error {
	d, err := r.dialer(s, id.clock(r.now))
	if err != nil {
		return err
	}
	c, _, err := d.connect(ctx, id.pair, mqtt.Options{ClientID: id.ClientID, KeepAlive: claimKeepAlive}, identityRefused)
	if err != nil {
		return err
	}
	defer c.Close()
	all := ctx
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		return connectError(all, s.Endpoint, err, identityRefused)
	}
	return nil
}
