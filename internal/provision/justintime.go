package provision

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
	"github.com/imprint-iot/imprint/internal/trace"
)

// A device whose certificate a customer's CA has signed needs no claim: its first connection registers the certificate, and the
// template of the CA, if it has one, provisions the device (JITP). Without one somebody else has to activate the certificate,
// whom an event tells of it (JITR). See provisioning spec 7.

// A Newcomer is a device with a certificate that is to be registered, or that waits for its activation.
type Newcomer struct {
	Scope    fleet.Scope
	Leaf     *x509.Certificate
	CA       fleet.CA // that has signed Leaf
	SourceIP string
	Trace    *trace.Trace // of its connection; nil: nobody listens
}

func (n Newcomer) id() string { return fleet.CertificateID(n.Leaf.Raw) }

// A Place is where a connection with an unknown certificate goes, as far as its server name says.
type Place struct {
	Scope  fleet.Scope
	Shared bool // the name is one that all accounts have: Scope is the account that it belongs to before all others
}

// Newcomer finds the CA that has signed a certificate which nobody has registered, and that registers such certificates now. An
// error of KindDenied says why the certificate may not come in. Whoever shows it has proven nothing yet.
//
// Under a name that all accounts have, a CA counts whose key an account has proven to hold, and those of the account that the name
// belongs to: else anybody could register somebody's CA, which takes no proof in mode SNI_ONLY, and get the devices.
func (p *Service) Newcomer(ctx context.Context, at Place, leaf *x509.Certificate, t *trace.Trace) (n Newcomer, err error) {
	account, regions := at.Scope.Account, []string{at.Scope.Region}
	if at.Shared {
		account, regions = "", p.Regions
	}
	cas, err := p.signers(ctx, account, regions, leaf)
	if err != nil {
		return n, err
	}
	why := error(notSigned)
	for _, c := range cas {
		if at.Shared && c.Mode != fleet.ModeDefault && c.Scope != at.Scope {
			why = elsewhere
			t.SetCure("let the device connect to the endpoint name that DescribeEndpoint gives in its account (the setting endpoint-domain gives each account its own), or register the CA in mode DEFAULT")
			continue
		}
		if err := p.registers(c.CA, leaf, t); err != nil {
			if why == notSigned || !errors.Is(err, notSigned) {
				why = err
			}
			continue
		}
		return Newcomer{Scope: c.Scope, Leaf: leaf, CA: c.CA, Trace: t}, nil
	}
	return n, why
}

// signers are the CAs that may have signed a certificate by their names, of one account, or of all if account is "".
func (p *Service) signers(ctx context.Context, account string, regions []string, leaf *x509.Certificate) (cas []store.ScopedCA, err error) {
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		cas = nil
		for _, region := range regions {
			list, err := tx.CAsBySubject(account, region, pki.NameID(leaf.RawIssuer))
			if err != nil {
				return err
			}
			cas = append(cas, list[:min(len(list), maxSigners)]...)
		}
		return nil
	})
	return cas, err
}

// Owners finds who has proven to hold the key of the CA that has signed a certificate: the CA is registered there in mode
// DEFAULT, which one account alone can have in each region.
func (p *Service) Owners(ctx context.Context, leaf *x509.Certificate) (owners []fleet.Scope, err error) {
	cas, err := p.signers(ctx, "", p.Regions, leaf)
	if err != nil {
		return nil, err
	}
	for _, c := range cas {
		if c.Mode != fleet.ModeDefault {
			continue
		}
		ca, err := pki.ParseCertificatePEM(c.PEM)
		if err != nil {
			return nil, err
		}
		if pki.MayHaveSigned(ca, leaf) && pki.CheckSignedBy(leaf, ca) == nil {
			owners = append(owners, c.Scope)
		}
	}
	return owners, nil
}

// maxSigners bounds how many CAs of one subject in a region are asked about a stranger's certificate. An account has ten at
// most (registry.RegisterCA).
const maxSigners = 64

// NotSigned is why a certificate is a stranger's that no registered CA has signed.
const NotSigned = "no registered CA has signed it"

var (
	notSigned = fleet.Denied("%s", NotSigned)
	elsewhere = fleet.Denied("a CA of this name is registered with SNI_ONLY, and the server name is that of the whole server: the device has to connect to the account's own endpoint name")
)

// registers reports, as an error, why a CA does not register a certificate.
func (p *Service) registers(c fleet.CA, leaf *x509.Certificate, t *trace.Trace) error {
	ca, err := pki.ParseCertificatePEM(c.PEM)
	if err != nil {
		return err
	}
	switch {
	case !pki.MayHaveSigned(ca, leaf):
		return notSigned
	case c.Status != fleet.Active:
		t.SetCure("aws iot update-ca-certificate --certificate-id %s --new-status ACTIVE, if it may be used again", c.ID)
		return fleet.Denied("the CA %s, which it names as its issuer, is registered and %s", c.ID, c.Status)
	case !c.Auto:
		t.SetCure("aws iot update-ca-certificate --certificate-id %s --new-auto-registration-status ENABLE, or register the certificate: aws iot register-certificate", c.ID)
		return fleet.Denied("the CA %s, which it names as its issuer, does not register certificates by themselves (autoRegistrationStatus DISABLE)", c.ID)
	}
	if err := pki.CheckPath(leaf, ca, p.Clock.Now()); err != nil {
		t.SetCure("give the device another certificate of its CA, unless it is the server's clock or the CA's own end that is the matter")
		return fleet.Denied("%v", err)
	}
	return nil
}

// Arrive registers the certificate of a newcomer, unless that has been done. One that waits may be provisioned with Settle; of
// one that has been provisioned meanwhile the status says so. Errors are of KindDenied, KindThrottled and KindLimit.
func (p *Service) Arrive(ctx context.Context, n Newcomer) (c fleet.Certificate, err error) {
	known := false
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		c, err = tx.Certificate(n.Scope, n.id())
		if known = err == nil; known || fleet.KindOf(err) != fleet.KindNotFound {
			return err
		}
		return otherForm(tx, n.Scope, n.CA, n.Leaf)
	})
	payer := n.CA.ID
	if known { // it comes again and again until it is let in, which must not keep the others of its CA away
		payer = n.id()
	}
	if err == nil {
		err = p.rates.admit(Requester{Scope: n.Scope, PrincipalID: payer, SourceIP: n.SourceIP, Trace: n.Trace}, opRegister)
	}
	if err != nil || known {
		p.refused(err)
		return c, err
	}
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		ca, err := tx.CA(n.Scope, n.CA.ID)
		if err == nil && (ca.Status != fleet.Active || !ca.Auto) {
			err = fleet.Denied("the CA %s registers no certificates any more", ca.ID)
		}
		if err != nil {
			return err
		}
		if c, err = tx.Certificate(n.Scope, n.id()); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
			return err
		}
		if err := otherForm(tx, n.Scope, ca, n.Leaf); err != nil {
			return err
		}
		waiting, err := tx.WaitingOf(n.Scope, ca.ID, p.Limits.PendingPerCA)
		if err != nil {
			return err
		}
		if waiting >= p.Limits.PendingPerCA {
			n.Trace.SetCure("find out why they wait (imprint explain CERTIFICATE), and activate or delete them: aws iot list-certificates-by-ca --ca-certificate-id %s", ca.ID)
			return reasoned(ReasonClaimPending, fleet.OverLimit("CA certificate", ca.ID, "has signed %d certificates that wait for their activation, and no more may", waiting))
		}
		c = registry.NewForeign(tx.Now(), n.Leaf, ca, fleet.PendingActivation)
		return tx.CreateCertificate(n.Scope, c)
	})
	p.refused(err)
	return c, err
}

// otherForm refuses a certificate that is on file with the other signature which everybody can make of its own: as another certificate it
// would outlive its revocation.
func otherForm(tx *store.Tx, s fleet.Scope, ca fleet.CA, leaf *x509.Certificate) error {
	issuer, err := pki.ParseCertificatePEM(ca.PEM)
	if err != nil {
		return err
	}
	id, err := pki.Mirrored(leaf, issuer)
	if err != nil || id == "" {
		return err
	}
	switch c, err := tx.Certificate(s, id); {
	case err == nil:
		return fleet.Denied("the certificate is %s, which is %s, with its signature in another form", c.ID, c.Status)
	case fleet.KindOf(err) != fleet.KindNotFound:
		return err
	}
	return nil
}

// Settle provisions a newcomer that waits, with the template of its CA. provisioned is false if the CA has none. Why it fails
// is kept beside the certificate until it succeeds; a device that asks again soon is told the same without another attempt.
func (p *Service) Settle(ctx context.Context, n Newcomer) (provisioned bool, err error) {
	if n.CA.Config == (fleet.RegistrationConfig{}) {
		return false, nil
	}
	key := n.Scope.String() + "/" + n.id()
	if why := p.patience.refused(key, p.Clock.Now()); why != nil {
		return false, why
	}
	t := trace.New(n.Scope, trace.Register, p.Clock)
	t.Fact("certificateId", n.id())
	t.Fact("caCertificateId", n.CA.ID)
	t.Fact("sourceIp", n.SourceIP)
	g := &registration{Service: p, Requester: Requester{Scope: n.Scope, PrincipalID: n.id(), SourceIP: n.SourceIP, Trace: t}, ca: n.CA.ID,
		owner: ownership{certificate: n.id()}}
	facts, err := pki.NewFacts(n.Leaf)
	if err == nil {
		g.service = facts.Parameters()
		err = g.commitFirst(ctx, n)
	}
	if err == nil {
		p.patience.forget(key)
		return true, nil
	}
	err = p.refusal(err)
	p.patience.note(key, err, p.Clock.Now())
	return false, p.keepReason(ctx, n, t, err)
}

// commitFirst registers a device as its CA's template says. Everything that may have changed is read here.
func (g *registration) commitFirst(ctx context.Context, n Newcomer) error {
	mark := g.Trace.Mark()
	err := g.Store.Tx(ctx, func(tx *store.Tx) error {
		g.Trace.Rewind(mark)
		t, err := g.loadOfCA(tx)
		if err != nil {
			return err
		}
		c, err := tx.Certificate(g.Scope, g.owner.certificate)
		if err != nil || c.Status != fleet.PendingActivation { // somebody else has decided
			return err
		}
		out, err := g.enact(tx, standing{limits: fleet.ClaimLimits{Devices: unlimited}}, t, c.PEM)
		if err != nil {
			return err
		}
		if c, err = tx.Certificate(g.Scope, c.ID); err == nil && c.Status == fleet.PendingActivation {
			err = fleet.Invalid("", "", "the template has no resource of type AWS::IoT::Certificate, so nothing activates the certificate")
		}
		if err == nil && out.ThingName != "" {
			err = tx.ExpectDevice(g.Scope, c.ID, out.ThingName)
		}
		if err == nil {
			err = tx.ForgetFirstConnection(g.Scope, c.ID)
		}
		if err != nil {
			return err
		}
		return keepTrace(tx, g.Trace)
	})
	return err
}

// unlimited is as many devices as there are (bound).
const unlimited = -1

// loadOfCA returns the template of the CA, of which a named one must not be disabled: only one that somebody has disabled is
// (provisioning spec 4.2).
func (g *registration) loadOfCA(tx *store.Tx) (t fleet.Template, err error) {
	ca, err := tx.CA(g.Scope, g.ca)
	switch {
	case err != nil:
		return t, denied(err, "the CA %s is not registered any more", g.ca)
	case ca.Status != fleet.Active:
		return t, fleet.Denied("the CA %s is %s", ca.ID, ca.Status)
	case ca.Config.Template == "":
		return fleet.Template{Body: ca.Config.Body, RoleARN: ca.Config.RoleARN, Type: fleet.JITP}, nil
	}
	g.template = ca.Config.Template
	g.Trace.Fact("template", g.template)
	if t, err = tx.Template(g.Scope, g.template); err != nil {
		return t, err
	}
	if t.Enabled != nil && !*t.Enabled {
		g.Trace.SetCure("aws iot update-provisioning-template --template-name %s --enabled", t.Name)
		return t, fleet.Denied("the template %q is disabled: enable it with UpdateProvisioningTemplate", t.Name)
	}
	t.RoleARN = cmp.Or(ca.Config.RoleARN, t.RoleARN)
	return t, nil
}

// keepReason notes why a certificate waits, beside it, since traces go with time, and finishes the trace.
func (p *Service) keepReason(ctx context.Context, n Newcomer, t *trace.Trace, why error) error {
	if strings.Contains(why.Error(), template.Unresolved+pki.PseudoPrefix) {
		t.DefaultCure("give the device a certificate whose subject has it, or take it out of the Parameters of the CA's template")
	}
	if c := Cure(why); c != "" {
		t.DefaultCure(c)
	}
	record, _ := t.Finish(why)
	p.Recorder.Finish(t, why)
	n.Trace.Step("provisioning", "failed: %s", record.Cause)
	n.Trace.SetCure("%s", record.Cure)
	if fleet.KindOf(why) == fleet.KindInternal {
		return why
	}
	return errors.Join(why, p.Store.Tx(ctx, func(tx *store.Tx) error {
		return tx.PutFirstConnection(n.Scope, n.id(), store.FirstConnection{Reason: record.Cause, Cure: record.Cure, Trace: record.ID, Tried: tx.Now()})
	}))
}

// WhyPending says in a sentence why a certificate waits for its activation, "" if it does not.
func WhyPending(tx *store.Tx, s fleet.Scope, c fleet.Certificate) (string, error) {
	if c.Status != fleet.PendingActivation {
		return "", nil
	}
	if c.CAID == "" {
		return "it was issued for provisioning and never registered: its device has to send RegisterThing with the ownership token before " + c.Origin.Expires.Format(time.RFC3339), nil
	}
	f, failed, err := tx.FirstConnection(s, c.ID)
	if err != nil {
		return "", err
	}
	if failed {
		return strings.TrimSuffix("provisioning it failed at "+f.Tried.Format(time.RFC3339)+": "+f.Reason+". To mend it: "+f.Cure, ". To mend it: ") + " (trace " + f.Trace + ")", nil
	}
	ca, err := tx.CA(s, c.CAID)
	switch {
	case err != nil && fleet.KindOf(err) == fleet.KindNotFound:
		return "its CA " + c.CAID + " is not registered any more: activate it with UpdateCertificate, or delete it", nil
	case err != nil:
		return "", err
	case ca.Config == (fleet.RegistrationConfig{}):
		return decidedBy(tx, s, c)
	}
	return "its device has not connected again since its CA " + c.CAID + " has a template", nil
}

// patience keeps devices that come again and again from having their provisioning tried each time.
type patience struct {
	mu sync.Mutex
	m  map[string]delay
}

type delay struct {
	why   error
	wait  time.Duration
	until time.Time
}

// The first wait is shorter than what clients wait before they connect again; somebody who has mended the template should not
// have to wait for long.
const (
	firstWait   = time.Second
	longestWait = 30 * time.Second
	maxPatience = 10_000
)

// refused returns why the last attempt has failed, if it is too early for another one.
func (p *patience) refused(key string, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d, waits := p.m[key]; waits && now.Before(d.until) {
		return d.why
	}
	return nil
}

func (p *patience) note(key string, why error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil || len(p.m) >= maxPatience {
		p.m = map[string]delay{}
	}
	wait := min(max(2*p.m[key].wait, firstWait), longestWait)
	p.m[key] = delay{why, wait, now.Add(wait)}
}

func (p *patience) forget(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, key)
}

// mended forgets that attempts have failed when something has changed that they may have failed for.
func (p *Service) mended(changes []store.Change) {
	if !slices.ContainsFunc(changes, func(c store.Change) bool { return mends[c.Kind] }) {
		return
	}
	p.patience.mu.Lock()
	defer p.patience.mu.Unlock()
	clear(p.patience.m)
}

var mends = map[string]bool{store.ChangedCA: true, store.ChangedTemplate: true, store.ChangedIAM: true, store.ChangedPolicy: true, store.ChangedThingType: true,
	store.ChangedGroup: true, store.ChangedBillingGroup: true}
