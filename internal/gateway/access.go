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
	told    atomic.Int32 // refusals that left a trace

	mu     sync.Mutex
	read   bool
	groups uint64 // g.groups when the rights were read
	rights rights
	keys   []store.Change // under which g.devices knows this access
	gone   bool
}

// rights are what a connection's decisions are made of.
type rights struct {
	policies  []policy.Named
	facts     policy.Context
	thing     string
	exclusive bool      // the thing is the certificate's only one
	ends      time.Time // of the certificate; nobody asks during an MQTT connection, as on AWS
}

var _ mqtt.Access = (*deviceAccess)(nil)

// serveCertificate speaks MQTT with a registered certificate.
func (g *Gateway) serveCertificate(tc *tls.Conn, a *arrival) mqtt.End {
	d := &deviceAccess{g: g, a: a}
	defer d.forget()
	return g.speak(tc, a, d, false)
}

// Connect implements mqtt.Access. The certificate is looked at once more: it may have lost its power since the handshake.
func (d *deviceAccess) Connect(ctx context.Context, c *mqtt.Connect) error {
	d.clientI = c.ClientID
	d.a.trace.Fact("clientId", c.ClientID)
	if err := d.g.checkRoom(); err != nil {
		d.a.finish(d.g, err)
		return err
	}
	r, err := d.current()
	if err != nil {
		d.a.finish(d.g, err)
		return err
	}
	d.a.trace.Fact("thing", r.thing)
	if r.exclusive {
		d.a.thing = r.thing
	}
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
	if err := d.a.who.renews.allows(d.g.Clock.Now(), "iot:Publish", topic); err != nil {
		return err
	}
	if err := d.may("iot:Publish", "topic", topic); err != nil || !retain {
		return err
	}
	return d.may("iot:RetainPublish", "topic", topic)
}

// Subscribe implements mqtt.Access. A shared subscription may be named in policies with and without its group (iot-core spec
// 5.2): one that is allowed suffices unless the other is denied.
func (d *deviceAccess) Subscribe(filter string) error {
	if err := d.a.who.renews.allows(d.g.Clock.Now(), "iot:Subscribe", filter); err != nil {
		return err
	}
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
func (d *deviceAccess) Receive(topic string) error {
	if err := d.a.who.renews.allows(d.g.Clock.Now(), "iot:Receive", topic); err != nil {
		return err
	}
	r, err := d.current()
	if err == nil && !policy.Evaluate(r.policies, policy.Request{Action: "iot:Receive", Resource: d.topicARN("topic", topic), Context: r.facts}).Allowed() {
		return errNotForIt
	}
	return err
}

// errNotForIt says that a message is not for a client, which nobody is told.
var errNotForIt = fleet.Denied("the client may not receive it")

func (d *deviceAccess) may(action, kind, name string) error {
	r, err := d.current()
	if err != nil {
		return err
	}
	return d.decide(policy.Evaluate(r.policies, policy.Request{Action: action, Resource: d.topicARN(kind, name), Context: r.facts}), action, kind+"/"+name, false)
}

// decide turns a decision into the answer. A refusal after CONNECT leaves a trace of its own, so that `explain` can say which
// statement was missing.
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
	} else if d.told.Add(1) <= toldPerConnection {
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
//
// The access is filed under the certificate before anything is read, so that a change of it always finds this connection. What
// the rights turn out to depend on is filed after; a change in between shows in g.changes.
func (d *deviceAccess) current() (rights, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	groups := d.g.groups.Load()
	if d.read && groups == d.groups && !d.stale.Load() {
		return d.rights, nil
	}
	if !d.read {
		d.file(d.ownKeys())
	}
	d.stale.Store(false)
	changes := d.g.changes.Load()
	r, err := d.g.rightsOf(d.a, d.clientI)
	if err != nil {
		d.stale.Store(true)
		return rights{}, err
	}
	d.rights, d.groups, d.read = r, groups, true
	keys := d.ownKeys()
	if r.thing != "" && r.thing != d.clientI {
		keys = append(keys, d.key(store.ChangedThing, r.thing))
	}
	for _, p := range r.policies {
		keys = append(keys, d.key(store.ChangedPolicy, p.Name))
	}
	d.file(keys)
	if d.g.changes.Load() != changes {
		d.stale.Store(true) // read again next time
	}
	return r, nil
}

// rightsOf reads everything that the decisions about a connection depend on.
func (g *Gateway) rightsOf(a *arrival, clientID string) (rights, error) {
	return g.rightsAs(a, clientID, clientID)
}

// rightsAs is rightsOf for a connection that says itself which of the certificate's things it stands for. Over HTTPS there is no client
// id; a thing is named to the credential provider alone. Each may be "".
func (g *Gateway) rightsAs(a *arrival, clientID, name string) (r rights, err error) {
	var effective []store.EffectivePolicy
	var thing store.AttachedThing
	var attached bool
	who := a.who
	err = g.Store.View(g.ctx, func(tx *store.Tx) error {
		c, err := tx.Certificate(who.scope, who.principal)
		if fleet.KindOf(err) == fleet.KindNotFound {
			return fleet.Denied("the certificate is registered no more").WithCode("CERTIFICATE_REFUSED")
		}
		if err != nil {
			return err
		}
		if c.Status != fleet.Active {
			return fleet.Denied("the certificate is %s", c.Status).WithCode("CERTIFICATE_REFUSED")
		}
		r.ends = c.NotAfter
		if name != "" {
			if thing, attached, err = tx.AssociatedThing(who.scope, who.arn(), name); err != nil {
				return err
			}
		}
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
	f.Set(policy.KeySourceIP, a.address)
	if who.sni != "" {
		f.Set(policy.KeyDomainName, who.sni)
	}
	if clientID != "" {
		f.Set(policy.KeyClientID, clientID)
	}
	if name != "" {
		f.Set(policy.KeyThingIsAttached, fmt.Sprint(attached))
	}
	if attached {
		r.thing, r.exclusive = thing.Name, thing.PrincipalType == fleet.Exclusive
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

func (d *deviceAccess) key(kind, name string) store.Change {
	return store.Change{Scope: d.a.who.scope, Kind: kind, Key: name}
}

// ownKeys are the changes that matter to this connection whatever its rights are.
func (d *deviceAccess) ownKeys() []store.Change {
	return []store.Change{d.key(store.ChangedCertificate, d.a.who.principal), d.key(store.ChangedAttachment, d.a.who.arn()), d.key(store.ChangedThing, d.clientI)}
}

// file files the access under what may change its rights, and nothing else. d.mu is held.
func (d *deviceAccess) file(keys []store.Change) {
	if d.gone || slices.Equal(keys, d.keys) {
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

// ThingName is the thing that the connection stands for, "" for none.
func (d *deviceAccess) ThingName() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rights.thing
}

// forget ends the filing of an access whose connection is over.
func (d *deviceAccess) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.unfile()
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
