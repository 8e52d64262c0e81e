package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// A Trial asks what a registration would come to. Nothing is written, and nobody is asked but, if so wanted, the hook.
type Trial struct {
	Draft
	Parameters map[string]string // of RegisterThing
	ClientID   string            // of the device once it is provisioned; "": the name of its thing
	CallHook   bool              // ask the hook, with an event that says that it is a trial

	// For a template of a CA (JITP).
	Certificate string        // PEM, of the device: its parameters come from it
	Role        string        // ARN that the CA is registered with; "": that of a stored template
	Caller      *fleet.Caller // must be allowed to pass Role

	// Topics that the device will use. Without any, they are made of what the policies allow.
	Publish, Subscribe []string
}

// An Outcome is what a Trial came to.
type Outcome struct {
	Refusal *fleet.Error // what the device would be told; nil: it would be registered

	Hook          string // what it said, or that it would be asked; "": there is none
	CA            string // what becomes of the device's certificate when it comes first (JITP)
	Thing         string
	Configuration map[string]string
	Decisions     []template.Decision
	Needs         []template.Need // what the role must allow
	Role          string          // "", or why the role cannot do it
	Connection    []Decided       // what the device could do then
	Answers       []template.AnswerSize
	Budget        int // what the template says that devices can receive; 0: nothing
}

// A Decided is one thing that a device would want to do.
type Decided struct {
	Action, Resource string // for example iot:Publish and topic/lamps/1/state
	Allowed          bool
	Why              string   // the statement that decided
	Missing          []string // variables without a value
}

// trial is a Trial on its way.
type trial struct {
	*Service
	Trial
	scope fleet.Scope
	t     fleet.Template
	role  bool // the template's role is known
	out   Outcome
	id    string   // of a certificate that nobody has; in a trial of JITP that of the device
	texts []string // of the policies that would count

	device *pki.Facts // in a trial of JITP
	ca     string     // id of the CA that would register the device; "": none would
}

// Try plays a registration through. Errors are those of the draft: of KindNotFound and KindInvalid; what would be refused to the
// device is in the outcome.
func (p *Service) Try(ctx context.Context, s fleet.Scope, t Trial) (*Outcome, error) {
	r := &trial{Service: p, Trial: t, scope: s, id: strings.Repeat("0", 64)}
	err := p.Store.View(ctx, func(tx *store.Tx) (err error) {
		r.t, r.role, err = t.load(tx, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	tm, err := template.Parse(r.t.Body, template.KindOf(r.t.Type))
	if err != nil {
		return nil, err
	}
	if tm.Kind() == template.JITP {
		return r.firstConnection(ctx, tm)
	}
	if r.Certificate != "" || r.Role != "" {
		return nil, fleet.Invalid("provisioning template", r.t.Name, "is of type %s: certificate and role are for templates of type JITP", r.t.Type)
	}
	r.out.Budget = tm.Settings().ReplyBudget
	params := t.Parameters
	if r.role && !enabled(r.t) {
		r.out.Refusal = coded(fleet.Denied("the template %q is not enabled: enable it with UpdateProvisioningTemplate", r.t.Name))
	}
	if r.t.Hook != nil {
		var allowed bool
		if params, allowed, err = r.askHook(ctx); err != nil || !allowed {
			return &r.out, err
		}
	}
	d, err := tm.Evaluate(params, map[string]string{template.CertificateID: r.id})
	if err != nil {
		r.refuse(err)
		r.out.Answers, err = p.AnswerSizes(s, r.t.Name, nil)
		return &r.out, err
	}
	r.out.Configuration = d.Configuration
	if r.out.Answers, err = p.AnswerSizes(s, r.t.Name, d); err != nil {
		return nil, err
	}
	err = p.Store.View(ctx, func(tx *store.Tx) error { return r.plan(tx, d) })
	return &r.out, err
}

// refuse notes what the device would be told, unless something comes before it.
func (r *trial) refuse(err error) {
	if r.out.Refusal == nil {
		r.out.Refusal = coded(err)
	}
}

// coded is the refusal of a device as a domain error with its code.
func coded(err error) *fleet.Error {
	_, code, message := Refusal(err)
	return &fleet.Error{Kind: fleet.KindOf(err), Code: code, Msg: message}
}

// askHook returns the parameters as the hook leaves them if it allows the device; else why not is in the outcome.
func (r *trial) askHook(ctx context.Context) (params map[string]string, allowed bool, err error) {
	target := r.t.Hook.TargetARN
	switch {
	case r.Service.Hook == nil:
		r.out.Hook = target + " cannot be run by this server"
	case !r.CallHook:
		r.out.Hook = target + " would be asked"
		return r.Parameters, true, nil
	default:
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, false, err
		}
		leaf, err := r.Authority.MeasureDevice(pki.DeviceRequest{PublicKey: key.Public()})
		if err != nil {
			return nil, false, err
		}
		params = maps.Clone(r.Parameters)
		if params == nil {
			params = map[string]string{}
		}
		ctx, cancel := context.WithTimeout(ctx, MaxHookTime)
		defer cancel()
		answer, err := r.Service.Hook.Invoke(ctx, HookEvent{Scope: r.scope, TemplateName: r.t.Name, TargetARN: target, PayloadVersion: r.t.Hook.PayloadVersion,
			ClaimCertificateID: r.id, CertificateID: r.id, CertificatePEM: leaf.PEM, ClientID: r.ClientID, Parameters: params, Trial: true})
		switch {
		case err != nil:
			r.out.Hook = "failed: " + cause(err)
		case !answer.Allow:
			r.out.Hook = "denied: " + answer.Reason
		default:
			r.out.Hook = "allowed, and overrides " + namesOf(answer.Overrides) + ": " + answer.Reason
			maps.Copy(params, answer.Overrides)
			return params, true, nil
		}
		if answer.Cure != "" {
			r.out.Hook += "; " + answer.Cure
		}
	}
	r.refuse(fleet.Denied("Access Denied: the pre-provisioning hook did not allow this device, failed or gave no answer in time"))
	return nil, false, nil
}

// plan resolves what is desired against what there is, and asks the policies that would count.
func (r *trial) plan(tx *store.Tx, d *template.Desired) error {
	snap, err := registry.Snapshot(tx, r.scope, d)
	if err != nil {
		return err
	}
	snap.Requester, snap.HookAllowed, snap.Vouched = r.scope.IoT("cert", r.id), r.t.Hook != nil && r.device == nil, r.device != nil
	if d.Certificate != nil {
		snap.Certificate = &template.CertificateState{Certificate: fleet.Certificate{ID: r.id, Status: fleet.PendingActivation, Mode: fleet.ModeDefault}}
	}
	plan, err := template.Resolve(snap, d)
	for _, c := range plan.Decisions {
		if c.Name == r.id {
			c.Name = "of the device"
		}
		r.out.Decisions = append(r.out.Decisions, c)
	}
	if d.Thing != nil {
		r.out.Thing = d.Thing.Name
	}
	if err != nil {
		r.refuse(err)
		return nil
	}
	r.out.Needs = plan.Needs(r.scope)
	if r.role {
		if err := r.checkTrialRole(tx); err != nil {
			r.refuse(err)
		}
	}
	return r.connection(tx, d, snap, plan)
}

func (r *trial) checkTrialRole(tx *store.Tx) error {
	caller, err := r.Permissions.AssumeForService(tx, r.scope, r.t.RoleARN, iotService, r.source())
	if err != nil {
		r.out.Role = fmt.Sprintf("%s cannot be assumed by %s: %v", r.t.RoleARN, iotService, err)
		return fleet.Denied("Access Denied: the template's provisioning role %s cannot be assumed by %s", r.t.RoleARN, iotService)
	}
	for _, n := range r.out.Needs {
		if err := r.Permissions.AuthorizeTx(tx, caller, n.Action, n.Resource, nil); err != nil {
			r.out.Role = fmt.Sprintf("%s lacks %s on %s", r.t.RoleARN, n.Action, n.Resource)
			return fleet.Denied("Access Denied: the template's provisioning role %s", r.out.Role)
		}
	}
	return nil
}

// connection decides what the device could do once it connects with its certificate.
func (r *trial) connection(tx *store.Tx, d *template.Desired, snap template.Snapshot, plan *template.Plan) error {
	if plan.Status != fleet.Active {
		r.out.Connection = []Decided{{Action: "iot:Connect", Resource: "client/…", Why: "the certificate would not be ACTIVE"}}
		return nil
	}
	client := r.ClientID
	if client == "" && d.Thing != nil {
		client = d.Thing.Name
	}
	if client == "" {
		client = "example-client"
	}
	// What the connection stands for decides about the policies of groups, too (iot-core spec 5.6, 5.7).
	isThing := d.Thing != nil && d.Certificate != nil && (client == d.Thing.Name || d.Certificate.PrincipalType == fleet.Exclusive)
	var groups []string
	if isThing {
		groups = groupsAfter(snap, plan)
	}
	docs, err := r.policies(tx, d, snap, groups)
	if err != nil {
		return err
	}
	facts := policy.Context{}
	if r.device != nil {
		maps.Copy(facts, r.device.Context())
	}
	facts.Set(policy.KeyClientID, client)
	facts.Set(policy.KeyCertificateID, r.id)
	facts.Set(policy.KeyThingIsAttached, "false")
	if isThing {
		kind, attributes := d.Thing.Type, d.Thing.Attributes
		if snap.Thing != nil {
			kind, attributes = snap.Thing.Type, snap.Thing.Attributes
			if u := plan.UpdateThing; u != nil && u.Attributes != nil {
				attributes = u.Attributes
			}
			if u := plan.UpdateThing; u != nil && u.Type != nil {
				kind = *u.Type
			}
		}
		template.ThingFacts(facts, d.Thing.Name, kind, attributes)
	}
	ask := func(action, kind, name string) {
		res := policy.Evaluate(docs, policy.Request{Action: action, Resource: r.scope.IoT(kind, name), Context: facts})
		r.out.Connection = append(r.out.Connection, Decided{action, kind + "/" + name, res.Allowed(), res.String(), res.Missing})
	}
	ask("iot:Connect", "client", client)
	publish, subscribe := r.Publish, r.Subscribe
	if len(publish)+len(subscribe) == 0 {
		publish, subscribe = likelyTopics(r.texts, facts)
	}
	for _, topic := range publish {
		ask("iot:Publish", "topic", topic)
	}
	for _, filter := range subscribe {
		ask("iot:Subscribe", "topicfilter", filter)
		ask("iot:Receive", "topic", strings.NewReplacer("+", "x", "#", "x").Replace(filter))
	}
	return nil
}

// groupsAfter are the groups that the thing would be in: OverrideSettings may leave one that exists where it is.
func groupsAfter(snap template.Snapshot, plan *template.Plan) []string {
	groups := slices.Clone(plan.AddGroups)
	if snap.Thing != nil {
		for _, g := range snap.Thing.Groups {
			if !slices.Contains(plan.LeaveGroups, g.Name) {
				groups = append(groups, g.Name)
			}
		}
	}
	return groups
}

// policies are those that would count for the device: of its certificate, and of the groups with their ancestors.
func (r *trial) policies(tx *store.Tx, d *template.Desired, snap template.Snapshot, groups []string) (docs []policy.Named, err error) {
	var names []string
	add := func(name, text string) error {
		doc, err := policy.Parse(text, policy.IoT)
		docs, r.texts = append(docs, policy.Named{Name: name, Doc: doc}), append(r.texts, text)
		return err
	}
	for _, p := range d.Policies {
		if p.Document == "" || snap.Policies[p.Name] { // one that exists is used as it is
			names = append(names, p.Name)
		} else if err := add(p.Name, p.Document); err != nil {
			return nil, err
		}
	}
	for _, g := range groups {
		under, _, err := tx.PoliciesUnder(r.scope, g, fleet.Page{})
		if err != nil {
			return nil, err
		}
		names = append(names, under...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		p, err := tx.Policy(r.scope, name)
		if err != nil {
			return nil, err
		}
		if err := add(name, p.Document); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// allowedResources are the resources of the statements that allow, as they are written.
func allowedResources(document string) (out []string) {
	type several []json.RawMessage
	list := func(raw json.RawMessage) several {
		var l several
		if json.Unmarshal(raw, &l) != nil {
			return several{raw}
		}
		return l
	}
	var doc struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(document), &doc) != nil {
		return nil
	}
	for _, raw := range list(doc.Statement) {
		var st struct {
			Effect   string
			Resource json.RawMessage
		}
		if json.Unmarshal(raw, &st) != nil || st.Effect != "Allow" {
			continue
		}
		for _, r := range list(st.Resource) {
			var s string
			if json.Unmarshal(r, &s) == nil {
				out = append(out, s)
			}
		}
	}
	return out
}

// maxLikely bounds the topics that are made up of policies.
const maxLikely = 20

var variableForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$\{([^}']+?)\}`) })

// likelyTopics makes topics of what the policies allow: variables take the values of the device, wildcards an example.
func likelyTopics(documents []string, facts policy.Context) (publish, subscribe []string) {
	for _, text := range documents {
		for _, r := range allowedResources(text) {
			parts := strings.SplitN(r, ":", 6)
			name := parts[len(parts)-1]
			name = variableForm().ReplaceAllStringFunc(name, func(v string) string {
				key := v[2 : len(v)-1]
				if len(key) == 1 {
					return key // ${*}, ${?} and ${$}
				}
				if values := facts.Get(key); len(values) == 1 {
					return values[0]
				}
				return v
			})
			name = strings.NewReplacer("*", "example", "?", "x").Replace(name)
			if t, ok := strings.CutPrefix(name, "topic/"); ok && len(publish) < maxLikely && !slices.Contains(publish, t) {
				publish = append(publish, t)
			}
			if t, ok := strings.CutPrefix(name, "topicfilter/"); ok && len(subscribe) < maxLikely && !slices.Contains(subscribe, t) {
				subscribe = append(subscribe, t)
			}
		}
	}
	return publish, subscribe
}
