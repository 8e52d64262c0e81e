package gateway

import (
	"context"
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

// userAccess holds a WebSocket to the IAM policies of whoever signed it. Somebody who signed in at an identity pool needs the
// policies that are attached to the identity as well, guests do not (iot-core spec 5, identity spec 5.6).
type userAccess struct {
	ws       *webSockets
	a        *arrival
	caller   *fleet.Caller
	identity string                 // of an identity pool, signed in; else ""
	until    time.Time              // when WebSockets end
	client   atomic.Pointer[string] // client id, from CONNECT on
	told     atomic.Int32           // refusals that left a trace
	changes  atomic.Uint64          // of the thing that the connection stands for

	mu      sync.Mutex
	began   moment           // of the decisions
	decided map[string]error // by action and ARN
	read    uint64           // epoch at which the rights were read, plus one
	rights  rights           // of the identity
}

var _ mqtt.Access = (*userAccess)(nil)

// A moment is when a decision holds: until something changes, and for a second at most since conditions may ask for the time.
type moment struct {
	epoch  uint64
	second int64
}

// maxDecided bounds the decisions that a connection remembers.
const maxDecided = 256

func newUserAccess(ws *webSockets, a *arrival, caller *fleet.Caller) *userAccess {
	u := &userAccess{ws: ws, a: a, caller: caller, until: ws.g.Clock.Now().Add(webSocketLife), decided: map[string]error{}}
	if f := caller.Federation; f != nil && f.Provider == fleet.IdentityPools && slices.Contains(f.AMR, "authenticated") {
		u.identity = f.Subject
	}
	return u
}

// over reports whether the connection has to end. Only a change can end credentials early.
func (u *userAccess) over(now time.Time, changed bool) (how mqtt.End, over bool) {
	switch {
	case !u.caller.Expires.IsZero() && !now.Before(u.caller.Expires):
		return mqtt.Unauthorized("the credentials have expired"), true
	case !now.Before(u.until):
		return mqtt.End{Reason: mqtt.WebSocketExpired, Code: 0x98, Text: "a WebSocket lasts 24 hours at most: connect again"}, true
	case changed && fleet.KindOf(u.alive()) == fleet.KindUnauthenticated:
		return mqtt.Unauthorized("the credentials are not valid any more"), true
	}
	return how, false
}

// alive asks for any right at all: whether it is granted does not matter.
func (u *userAccess) alive() error {
	return u.ws.Permissions.Authorize(u.ws.g.ctx, u.caller, "iot:Connect", []string{"*"}, nil)
}

// Connect implements mqtt.Access.
func (u *userAccess) Connect(ctx context.Context, c *mqtt.Connect) error {
	u.client.Store(&c.ClientID)
	u.a.trace.Fact("clientId", c.ClientID)
	if err := u.ws.g.checkRoom(); err != nil {
		u.a.finish(u.ws.g, err)
		return err
	}
	facts := policy.Context{}
	var attributes []string
	if c.Persistent {
		attributes = append(attributes, policy.PersistentConnect)
	}
	if c.Will != nil {
		attributes = append(attributes, policy.LastWill)
		facts.Set(policy.KeyLastWillTopic, u.arn("topic", c.Will.Topic))
	}
	facts.Set(policy.KeyConnectAttributes, attributes...)
	arn := u.arn("client", c.ClientID)
	err := u.decide(ctx, "iot:Connect", []string{arn}, facts)
	if err != nil {
		u.a.trace.Step("policy", "%v", err)
		u.a.trace.SetCure("%s", u.cure("iot:Connect", arn))
		u.a.finish(u.ws.g, err)
	}
	return err
}

// Publish implements mqtt.Access.
func (u *userAccess) Publish(topic string, retain bool) error {
	if strings.HasPrefix(topic, "$aws/events/") {
		return fleet.Denied("events are published by the service alone")
	}
	if err := u.may("iot:Publish", u.arn("topic", topic)); err != nil || !retain {
		return err
	}
	return u.may("iot:RetainPublish", u.arn("topic", topic))
}

// Subscribe implements mqtt.Access. Shared subscriptions are as for devices, see deviceAccess.Subscribe.
func (u *userAccess) Subscribe(filter string) error {
	arns := []string{u.arn("topicfilter", filter)}
	if rest, shared := strings.CutPrefix(filter, "$share/"); shared {
		_, bare, _ := strings.Cut(rest, "/")
		arns = append(arns, u.arn("topicfilter", bare))
	}
	return u.may("iot:Subscribe", arns...)
}

// Receive implements mqtt.Access.
func (u *userAccess) Receive(topic string) error {
	return u.remembered("iot:Receive", []string{u.arn("topic", topic)})
}

func (u *userAccess) clientID() string {
	if id := u.client.Load(); id != nil {
		return *id
	}
	return ""
}

// epoch grows with whatever may have changed the rights.
func (u *userAccess) epoch() uint64 { return u.ws.changes.Load() + u.changes.Load() }

func (u *userAccess) arn(kind, name string) string { return u.a.who.scope.IoT(kind, name) }

// may decides and leaves a trace of the first refusals.
func (u *userAccess) may(action string, arns ...string) error {
	err := u.remembered(action, arns)
	if fleet.KindOf(err) == fleet.KindDenied && u.told.Add(1) <= toldPerConnection {
		t := trace.New(u.a.who.scope, trace.Connect, u.ws.g.Clock)
		t.Fact("principal", u.caller.ARN)
		t.Fact("clientId", u.clientID())
		t.Fact("sourceIp", u.a.address)
		t.SetCure("%s", u.cure(action, arns[0]))
		u.ws.g.Recorder.Finish(t, err)
	}
	return err
}

func (u *userAccess) cure(action, arn string) string {
	s := "allow " + action + " on " + arn + " in a policy of " + u.caller.ARN
	if u.identity != "" {
		s += ", and in an IoT policy that is attached to the identity " + u.identity
	}
	return s
}

// remembered answers from memory what was decided in this second, unless something has changed since.
func (u *userAccess) remembered(action string, arns []string) error {
	key := action + " " + arns[0]
	now := moment{u.epoch(), u.ws.g.Clock.Now().Unix()}
	u.mu.Lock()
	if u.began != now || len(u.decided) >= maxDecided {
		clear(u.decided)
		u.began = now
	}
	err, known := u.decided[key]
	u.mu.Unlock()
	if known {
		return err
	}
	err = u.decide(u.ws.g.ctx, action, arns, nil)
	if err != nil && fleet.KindOf(err) != fleet.KindDenied {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.began == now { // else it was decided on what was then
		u.decided[key] = err
	}
	return err
}

// decide asks IAM, and the identity's own policies where they count too. Credentials that have ended are refused like a right
// that is missing. facts are those of the CONNECT, for the identity's policies.
func (u *userAccess) decide(ctx context.Context, action string, arns []string, facts policy.Context) error {
	err := u.ws.Permissions.AuthorizeAny(ctx, u.caller, action, arns, nil)
	if fleet.KindOf(err) == fleet.KindUnauthenticated {
		err = fleet.Denied("%v", err)
	}
	if err == nil && u.identity != "" {
		err = u.decideIdentity(action, arns, facts)
	}
	if fleet.KindOf(err) == fleet.KindDenied {
		err = fleet.Denied("%v", err).WithCode("AUTHORIZATION_FAILED")
	}
	return err
}

func (u *userAccess) decideIdentity(action string, arns []string, facts policy.Context) error {
	r, err := u.current()
	if err != nil {
		return err
	}
	all := r.facts
	if len(facts) > 0 {
		all = maps.Clone(all)
		maps.Copy(all, facts)
	}
	var best policy.Result
	for _, arn := range arns {
		res := policy.Evaluate(r.policies, policy.Request{Action: action, Resource: arn, Context: all})
		if res.Decision == policy.ExplicitDeny || res.Allowed() && best.Decision != policy.ExplicitDeny {
			best = res
		}
	}
	if best.Allowed() {
		return nil
	}
	return fleet.Denied("%s on %s is not allowed by the IoT policies of identity %s: %v", action, arns[0], u.identity, best)
}

// concerns reports whether the change of a thing may change the rights. Identities are attached to things, which must have the
// name of the client (iot-core spec 5.6).
func (u *userAccess) concerns(c store.Change) bool {
	return u.identity != "" && u.clientID() == c.Key && u.a.who.scope == c.Scope
}

// current returns the rights of the identity as of now, reading them if something has changed since they were read.
func (u *userAccess) current() (rights, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	epoch := u.epoch()
	if u.read == epoch+1 {
		return u.rights, nil
	}
	r, err := u.identityRights()
	if err != nil {
		return rights{}, err
	}
	u.rights, u.read = r, epoch+1
	return r, nil
}

// identityRights reads the policies of a signed-in identity and of the groups of its thing.
func (u *userAccess) identityRights() (r rights, err error) {
	var effective []store.EffectivePolicy
	var thing store.AttachedThing
	var attached bool
	scope := u.a.who.scope
	err = u.ws.g.Store.View(u.ws.g.ctx, func(tx *store.Tx) error {
		if thing, attached, err = tx.AssociatedThing(scope, u.identity, u.clientID()); err != nil {
			return err
		}
		effective, err = tx.EffectivePolicies(scope, u.identity, thing.Name)
		return err
	})
	if err != nil {
		return r, err
	}
	for _, e := range effective {
		doc, err := u.ws.g.documents.parse(e.Document)
		if err != nil { // it was checked when it was stored
			return r, fmt.Errorf("policy %s: %w", e.Name, err)
		}
		r.policies = append(r.policies, policy.Named{Name: e.Name, Doc: doc})
	}
	fed := u.caller.Federation
	r.facts = policy.Context{}
	r.facts.Set(fed.Provider+":aud", fed.Audience)
	r.facts.Set(fed.Provider+":sub", fed.Subject)
	r.facts.Set(fed.Provider+":amr", fed.AMR...)
	r.facts.Set(policy.KeyClientID, u.clientID())
	r.facts.Set(policy.KeySourceIP, u.a.address)
	r.facts.Set(policy.KeyThingIsAttached, fmt.Sprint(attached))
	if u.a.who.sni != "" {
		r.facts.Set(policy.KeyDomainName, u.a.who.sni)
	}
	if attached {
		r.thing = thing.Name
		r.facts.Set(policy.KeyThingName, thing.Name)
		if thing.Type != "" {
			r.facts.Set(policy.KeyThingTypeName, thing.Type)
		}
		for k, v := range thing.Attributes {
			r.facts.Set(policy.ThingAttributeKey(k), v)
		}
	}
	return r, nil
}
