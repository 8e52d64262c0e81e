package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// deviceAccess holds a connection with a registered certificate to the policies of its certificate and of its thing's groups
// (iot-core spec 5.6, 5.7). What it has read it keeps until something changes that could matter to it.
type deviceAccess struct {
	g       *Gateway
	a       *arrival
	clientI string
	stale   atomic.Bool

	mu      sync.Mutex
	read    bool
	counted uint64 // g.policies when the rights were read
	rights  rights
	keys    []string // under which g.devices knows this access
}

// rights are what a connection's decisions are made of.
type rights struct {
	policies []policy.Named
	facts    policy.Context
	thing    string
}

var _ mqtt.Access = (*deviceAccess)(nil)

// serveCertificate speaks MQTT with a registered certificate.
func (g *Gateway) serveCertificate(tc *tls.Conn, a *arrival) mqtt.End {
	d := &deviceAccess{g: g, a: a}
	defer d.forget()
	return g.broker.Serve(g.ctx, tc, mqtt.Identity{Scope: a.who.scope, Principal: a.who.principal, Access: d, Notify: g.notify(a)})
}

// Connect implements mqtt.Access. The certificate is looked at once more: it may have lost its power since the handshake.
func (d *deviceAccess) Connect(ctx context.Context, c *mqtt.Connect) error {
	d.clientI = c.ClientID
	d.a.trace.Fact("clientId", c.ClientID)
	r, err := d.current()
	if err != nil {
		d.a.finish(d.g, err)
		return err
	}
	d.a.trace.Fact("thing", r.thing)
	facts := maps.Clone(r.facts)
	var attributes []string
	if c.Persistent {
		attributes = append(attributes, policy.PersistentConnect)
	}
	if c.Will != nil {
		attributes = append(attributes, policy.LastWill)
		facts.Set(policy.KeyLastWillTopic, d.topicARN("topic", c.Will.Topic))
	}
	facts.Set(policy.KeyConnectAttributes, attributes...)
	return d.decide(policy.Evaluate(r.policies, policy.Request{Action: "iot:Connect", Resource: d.topicARN("client", c.ClientID), Context: facts}), "iot:Connect", "client/"+c.ClientID, true)
}

// Publish implements mqtt.Access.
func (d *deviceAccess) Publish(topic string, retain bool) error {
	if strings.HasPrefix(topic, "$aws/events/") {
		return fleet.Denied("events are published by the service alone")
	}
	if err := d.may("iot:Publish", "topic", topic); err != nil || !retain {
		return err
	}
	return d.may("iot:RetainPublish", "topic", topic)
}

// Subscribe implements mqtt.Access. A shared subscription may be named in policies with and without its group (iot-core spec
// 5.2): one that is allowed suffices unless the other is denied.
func (d *deviceAccess) Subscribe(filter string) error {
	rest, shared := strings.CutPrefix(filter, "$share/")
	if !shared {
		return d.may("iot:Subscribe", "topicfilter", filter)
	}
	_, bare, _ := strings.Cut(rest, "/")
	r, err := d.current()
	if err != nil {
		return err
	}
	var best policy.Result
	for _, f := range []string{filter, bare} {
		res := policy.Evaluate(r.policies, policy.Request{Action: "iot:Subscribe", Resource: d.topicARN("topicfilter", f), Context: r.facts})
		if res.Decision == policy.ExplicitDeny || res.Allowed() && best.Decision != policy.ExplicitDeny {
			best = res
		}
	}
	return d.decide(best, "iot:Subscribe", "topicfilter/"+filter, false)
}

// Receive implements mqtt.Access. Answers to the connection's own requests come here too.
func (d *deviceAccess) Receive(topic string) bool { return d.may("iot:Receive", "topic", topic) == nil }

func (d *deviceAccess) may(action, kind, name string) error {
	r, err := d.current()
	if err != nil {
		return err
	}
	return d.decide(policy.Evaluate(r.policies, policy.Request{Action: action, Resource: d.topicARN(kind, name), Context: r.facts}), action, kind+"/"+name, false)
}

// decide turns a decision into the answer. A refusal after CONNECT leaves a trace of its own, so that `explain` can say which
// statement was missing; Receive is asked too often for that.
func (d *deviceAccess) decide(r policy.Result, action, resource string, connecting bool) error {
	if connecting {
		d.a.trace.Step("policy", "%s on %s: %v", action, resource, r)
	}
	if r.Allowed() {
		return nil
	}
	err := fleet.Denied("%s on %s is not allowed: %v", action, resource, r).WithCode("AUTHORIZATION_FAILED")
	if connecting {
		d.a.trace.SetCure("%s", cure(action, resource, r))
		d.a.finish(d.g, err)
	} else if action != "iot:Receive" {
		t := trace.New(d.a.who.scope, trace.Connect, d.g.Clock)
		t.Fact("certificateId", d.a.who.principal)
		t.Fact("clientId", d.clientI)
		t.Fact("sourceIp", d.a.address)
		t.Step("policy", "%s on %s: %v", action, resource, r)
		t.SetCure("%s", cure(action, resource, r))
		d.g.Recorder.Finish(t, err)
	}
	return err
}

func cure(action, resource string, r policy.Result) string {
	if r.Decision == policy.ExplicitDeny {
		return "policy " + r.Policy + " denies it; change that statement if the device should be allowed"
	}
	s := "allow " + action + " on " + resource + " in a policy that is attached to the certificate"
	if len(r.Missing) > 0 {
		s += "; the variables " + strings.Join(r.Missing, ", ") + " have no value on this connection (thing variables need the certificate attached to a thing whose name is the client id)"
	}
	return s
}

func (d *deviceAccess) topicARN(kind, name string) string { return d.a.who.scope.IoT(kind, name) }

// current returns the rights as of now, reading them if something has changed since.
func (d *deviceAccess) current() (rights, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	count := d.g.policies.Load()
	if d.read && count == d.counted && !d.stale.Load() {
		return d.rights, nil
	}
	d.stale.Store(false)
	r, err := d.g.rightsOf(d.a, d.clientI)
	if err != nil {
		d.stale.Store(true)
		return rights{}, err
	}
	d.rights, d.counted, d.read = r, count, true
	d.register()
	// A change between the reading and the registration would be missed: read again if there was one.
	if d.g.policies.Load() != count {
		d.stale.Store(true)
	}
	return r, nil
}

// rightsOf reads everything that the decisions about a connection depend on.
func (g *Gateway) rightsOf(a *arrival, clientID string) (r rights, err error) {
	var effective []store.EffectivePolicy
	var thing store.AttachedThing
	var attached, exists bool
	who := a.who
	err = g.Store.View(g.ctx, func(tx *store.Tx) error {
		c, err := tx.Certificate(who.scope, who.principal)
		if err != nil {
			return fleet.Denied("the certificate is registered no more").WithCode("CERTIFICATE_REFUSED")
		}
		if c.Status != fleet.Active {
			return fleet.Denied("the certificate is %s", c.Status).WithCode("CERTIFICATE_REFUSED")
		}
		if thing, attached, err = tx.AssociatedThing(who.scope, who.arn(), clientID); err != nil {
			return err
		}
		exists = attached
		effective, err = tx.EffectivePolicies(who.scope, who.arn(), thing.Name)
		return err
	})
	if err != nil {
		return r, err
	}
	for _, e := range effective {
		doc, err := g.documents.parse(e.Document)
		if err != nil { // it was checked when it was stored
			return r, fmt.Errorf("policy %s: %w", e.Name, err)
		}
		r.policies = append(r.policies, policy.Named{Name: e.Name, Doc: doc})
	}
	f := policy.Context(maps.Clone(who.facts.Context()))
	f.Set(policy.KeyClientID, clientID)
	f.Set(policy.KeySourceIP, a.address)
	if who.sni != "" {
		f.Set(policy.KeyDomainName, who.sni)
	}
	f.Set(policy.KeyThingIsAttached, fmt.Sprint(attached))
	if exists {
		r.thing = thing.Name
		f.Set(policy.KeyThingName, thing.Name)
		if thing.Type != "" {
			f.Set(policy.KeyThingTypeName, thing.Type)
		}
		for k, v := range thing.Attributes {
			f.Set(policy.ThingAttributeKey(k), v)
		}
	}
	r.facts = f
	return r, nil
}

// register files the access under what may change its rights. d.mu is held.
func (d *deviceAccess) register() {
	keys := []string{deviceKey(d.a.who.scope, store.ChangedAttachment, d.a.who.arn()), deviceKey(d.a.who.scope, store.ChangedCertificate, d.a.who.principal)}
	for _, name := range []string{d.rights.thing, d.clientI} {
		if name != "" {
			keys = append(keys, deviceKey(d.a.who.scope, store.ChangedThing, name))
		}
	}
	if slices.Equal(keys, d.keys) {
		return
	}
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.unfile()
	for _, k := range keys {
		if d.g.devices[k] == nil {
			d.g.devices[k] = map[*deviceAccess]bool{}
		}
		d.g.devices[k][d] = true
	}
	d.keys = keys
}

// unfile removes the access from the gateway's files. d.g.mu is held.
func (d *deviceAccess) unfile() {
	for _, k := range d.keys {
		if delete(d.g.devices[k], d); len(d.g.devices[k]) == 0 {
			delete(d.g.devices, k)
		}
	}
	d.keys = nil
}

func (d *deviceAccess) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.unfile()
}

func deviceKey(s fleet.Scope, kind, name string) string {
	return s.Account + " " + s.Region + " " + kind + " " + name
}

// documentCache keeps policies in their compiled form, by their text: a fleet shares few of them.
type documentCache struct {
	mu     sync.Mutex
	parsed map[string]*policy.Document
}

const maxDocuments = 10000

func (c *documentCache) parse(text string) (*policy.Document, error) {
	c.mu.Lock()
	d := c.parsed[text]
	c.mu.Unlock()
	if d != nil {
		return d, nil
	}
	d, err := policy.Parse(text, policy.IoT)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.parsed) >= maxDocuments {
		clear(c.parsed)
	}
	c.parsed[text] = d
	return d, nil
}

// claimAccess holds a claim to the fixed policy of claims: any client id, the provisioning topics of its template, nothing else
// (provisioning spec 1.4).
type claimAccess struct {
	g *Gateway
	a *arrival
}

var _ mqtt.Access = (*claimAccess)(nil)

// claimGrace is how long after its claim's end a session may live on, so that a slow hook can still answer.
const claimGrace = 5 * time.Minute

func (g *Gateway) serveClaim(tc *tls.Conn, a *arrival) mqtt.End {
	c := &claimAccess{g, a}
	g.mu.Lock()
	g.claims[c] = true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.claims, c)
		g.mu.Unlock()
	}()
	return g.broker.Serve(g.ctx, tc, mqtt.Identity{Scope: a.who.scope, Principal: a.who.principal, Access: c, Notify: g.notify(a)})
}

// Connect implements mqtt.Access. The claim is looked at once more, now that a withdrawal of it would find the connection.
func (c *claimAccess) Connect(ctx context.Context, p *mqtt.Connect) error {
	c.a.trace.Fact("clientId", p.ClientID)
	err := c.g.Provision.CheckClaim(ctx, c.a.who.scope, c.a.who.principal)
	if err != nil {
		c.a.finish(c.g, err)
	}
	return err
}

// topics lists the requests that the claim may make.
func (c *claimAccess) topics() []string {
	var all []string
	for _, format := range []string{"json", "cbor"} {
		all = append(all, topicCreate+format, topicCreateCSR+format, topicTemplates+c.a.who.claim.Template+"/provision/"+format)
	}
	return all
}

// Publish implements mqtt.Access.
func (c *claimAccess) Publish(topic string, retain bool) error {
	if !retain && slices.Contains(c.topics(), topic) {
		return nil
	}
	return c.refuse("publish to", topic)
}

// Subscribe implements mqtt.Access.
func (c *claimAccess) Subscribe(filter string) error {
	if c.Receive(filter) {
		return nil
	}
	return c.refuse("subscribe to", filter)
}

// Receive implements mqtt.Access.
func (c *claimAccess) Receive(topic string) bool {
	for _, suffix := range []string{"/accepted", "/rejected"} {
		if t, ok := strings.CutSuffix(topic, suffix); ok && slices.Contains(c.topics(), t) {
			return true
		}
	}
	return slices.Contains(c.topics(), topic)
}

func (c *claimAccess) refuse(what, topic string) error {
	err := fleet.Denied("a claim for template %s may not %s %s", c.a.who.claim.Template, what, topic).WithCode("AUTHORIZATION_FAILED")
	t := trace.New(c.a.who.scope, trace.Connect, c.g.Clock)
	t.Fact("claimId", c.a.who.principal)
	t.Fact("sourceIp", c.a.address)
	t.Fact("template", c.a.who.claim.Template)
	t.SetCure("a claim is good for the provisioning topics of its own template only: %s", strings.Join(c.topics(), ", "))
	c.g.Recorder.Finish(t, err)
	return err
}
