package provision

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// Registered is the answer to RegisterThing (provisioning spec 3.5).
type Registered struct {
	ThingName           string            // "" when the template has no thing: leave it out
	DeviceConfiguration map[string]string // never nil: clients take its presence for success
}

// registration is one RegisterThing on its way.
type registration struct {
	*Service
	Requester
	template string
	params   map[string]string // as the device sent them
	hash     string            // of params
	owner    ownership
	service  map[string]string // pseudo parameters
	ca       string            // id of the CA that vouches for a device which connects for the first time (justintime.go); "": there is a token

	loaded    fleet.Template    // as it was before the hook
	evaluated map[string]string // params after the hook
	desired   *template.Desired // what loaded makes of evaluated
	key       string            // hash of the certificate's public key, once commit has looked
	asked     time.Time         // when the hook was
}

// Register registers the certificate that token was given with, as a template says (provisioning spec 4.9). What it writes and
// what it checks is one transaction, so it either happened or didn't, and the certificate is activated with it. A token that is
// spent gets its recorded answer for the same template, parameters and claim, and nothing else. Errors carry MQTT codes, see
// Refusal.
func (p *Service) Register(ctx context.Context, r Requester, template, token string, params map[string]string) (*Registered, error) {
	r.facts()
	r.Trace.Fact("template", template)
	g := &registration{Service: p, Requester: r, template: template, params: params, hash: hashParameters(params)}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		r.Trace.Parameter(params[name])
	}
	out, err := g.run(ctx, token)
	if err != nil {
		return nil, p.refusal(err)
	}
	return out, nil
}

func (g *registration) run(ctx context.Context, token string) (out *Registered, err error) {
	if g.owner, err = g.openToken(g.Requester, token); err != nil {
		return nil, err
	}
	g.service = map[string]string{template.CertificateID: g.owner.certificate}
	g.Trace.Fact("certificateId", g.owner.certificate)
	if err := g.rates.admit(g.Requester, opRegister); err != nil {
		return nil, err
	}
	var pem string
	var st standing
	err = g.Store.View(ctx, func(tx *store.Tx) error {
		if st, err = g.standing(tx); err != nil {
			return err
		}
		if g.loaded, err = g.load(tx); err != nil || g.loaded.Hook == nil {
			return err // commit looks at the rest, which only a hook must not be asked for in vain
		}
		if out, err = g.spent(tx); out != nil || err != nil {
			return err
		}
		pem, err = g.pending(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if out != nil {
		g.Recorder.Finish(g.Trace, nil)
		return out, nil
	}
	if err := g.rates.claim(g.Requester, st.limits); err != nil {
		return nil, err
	}
	if err := g.askHook(ctx, pem); err != nil {
		return nil, err
	}
	// Before anything waits for the writer. What is wrong with it comes up again, after what goes before it.
	g.desired, _ = g.evaluate(g.loaded)
	return g.commit(ctx)
}

// standing checks that the requester may still register with this template and token.
func (g *registration) standing(tx *store.Tx) (standing, error) {
	st, err := g.stand(tx, g.Requester, false)
	switch {
	case err != nil:
		return st, err
	case st.template != g.owner.template:
		return st, invalidToken("Certificate ownership token belongs to another template.")
	case st.template != "" && st.template != g.template:
		return st, fleet.Denied("the claim is for template %q, not %q", st.template, g.template)
	case st.expired && st.renews != g.template:
		return st, fleet.Denied("the certificate of this connection has expired and may be renewed with template %q alone", st.renews)
	}
	return st, nil
}

// spent returns the recorded answer if the token was used before.
func (g *registration) spent(tx *store.Tx) (*Registered, error) {
	old, found, err := tx.Registration(g.Scope, g.owner.certificate)
	if err != nil || !found {
		return nil, err
	}
	if old.Principal != g.PrincipalID || old.Template != g.template || old.Parameters != g.hash || !tx.Now().Before(old.ReplayUntil) {
		return nil, invalidToken("Certificate ownership token was used for another registration: ask for a certificate again, with another CSR if the device has its own key.")
	}
	g.Trace.Fact("thing", old.Thing)
	g.Trace.Step("token", "the same registration was made before: its answer again")
	out := &Registered{old.Thing, old.Configuration}
	if out.DeviceConfiguration == nil {
		out.DeviceConfiguration = map[string]string{}
	}
	return out, nil
}

// load returns the template if devices may use it.
func (g *registration) load(tx *store.Tx) (fleet.Template, error) {
	t, err := tx.Template(g.Scope, g.template)
	switch {
	case err != nil:
		return t, err
	case t.Type != fleet.FleetProvisioning:
		return t, fleet.Denied("the template %q is of type %s: devices register with FLEET_PROVISIONING templates", t.Name, t.Type)
	case !enabled(t):
		g.Trace.SetCure("aws iot update-provisioning-template --template-name %s --enabled", t.Name)
		return t, fleet.Denied("the template %q is not enabled: enable it with UpdateProvisioningTemplate", t.Name)
	}
	return t, nil
}

// pending returns the PEM of the certificate if it may be registered.
func (g *registration) pending(tx *store.Tx) (string, error) {
	c, err := tx.Certificate(g.Scope, g.owner.certificate)
	switch {
	case err != nil && fleet.KindOf(err) == fleet.KindNotFound:
		return "", invalidToken("Certificate ownership token is for a certificate that was deleted: ask for a certificate again.")
	case err != nil:
		return "", err
	case c.Origin.ClaimID != g.PrincipalID:
		return "", invalidToken("Certificate ownership token belongs to another claim.")
	case c.Status == fleet.Revoked:
		return "", invalidToken("Certificate ownership token is for a certificate that was revoked: ask for a certificate again.")
	}
	return c.PEM, nil
}

// askHook lets the template's hook decide and takes its overrides. Everything but a clear yes is a no.
func (g *registration) askHook(ctx context.Context, pem string) error {
	g.evaluated = g.params
	hook := g.loaded.Hook
	if hook == nil {
		return nil
	}
	if g.Hook == nil {
		g.Trace.Step("hook", "the template has the hook %s, and this server runs no hooks", hook.TargetARN)
		return fleet.Denied("Access Denied: the template's pre-provisioning hook %s cannot be run by this server", hook.TargetARN)
	}
	event := HookEvent{Scope: g.Scope, TemplateName: g.template, TargetARN: hook.TargetARN, PayloadVersion: hook.PayloadVersion,
		ClaimCertificateID: g.PrincipalID, CertificateID: g.owner.certificate, CertificatePEM: pem, ClientID: g.ClientID, Parameters: maps.Clone(g.params)}
	if event.Parameters == nil {
		event.Parameters = map[string]string{}
	}
	g.asked = g.Clock.Now()
	ctx, cancel := context.WithTimeout(ctx, MaxHookTime)
	defer cancel()
	g.Trace.Step("hook", "asking %s about %s", hook.TargetARN, namesOf(g.params))
	answer, err := g.Hook.Invoke(ctx, event)
	switch {
	case (err != nil || !answer.Allow) && answer.Cure != "":
		g.Trace.SetCure("%s", answer.Cure)
	case err != nil:
		g.Trace.SetCure("mend the function: %s", cause(err))
	case !answer.Allow:
		g.Trace.SetCure("look at what the function decides: %s; imprint template try %s --call-hook asks it again", answer.Reason, g.template)
	}
	switch {
	case err != nil:
		g.Trace.Step("hook", "failed: %s", cause(err))
		e := fleet.Denied("Access Denied: the pre-provisioning hook failed or gave no answer in time")
		e.Err = err
		return e
	case !answer.Allow:
		g.Trace.Step("hook", "denied: %s", answer.Reason)
		return fleet.Denied("Access Denied: the pre-provisioning hook did not allow this device")
	}
	g.Trace.Step("hook", "allowed, and overrides %s: %s", namesOf(answer.Overrides), answer.Reason)
	g.evaluated = map[string]string{}
	maps.Copy(g.evaluated, g.params)
	maps.Copy(g.evaluated, answer.Overrides)
	return nil
}

// namesOf tells parameters for a trace: their names, never their values.
func namesOf(params map[string]string) string {
	if len(params) == 0 {
		return "no parameters"
	}
	return strings.Join(slices.Sorted(maps.Keys(params)), ", ")
}

// cause shortens an error for a trace.
func cause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

func (g *registration) evaluate(t fleet.Template) (*template.Desired, error) {
	tm, err := g.parsed.parse(t.Body, template.KindOf(t.Type))
	if err != nil {
		return nil, err
	}
	return tm.Evaluate(g.evaluated, g.service)
}

// commit does everything that must be true at one moment: it looks again at whatever may have changed while the hook was
// thinking, decides, checks the role, writes, and records the answer.
func (g *registration) commit(ctx context.Context) (out *Registered, err error) {
	mark := g.Trace.Mark()
	err = g.Store.Tx(ctx, func(tx *store.Tx) error {
		g.Trace.Rewind(mark)
		st, err := g.standing(tx)
		if err != nil {
			return err
		}
		if out, err = g.spent(tx); err == nil && out == nil {
			out, err = g.write(tx, st)
		}
		if err == nil && out.ThingName != "" {
			err = tx.ExpectDevice(g.Scope, g.owner.certificate, out.ThingName)
		}
		if err != nil {
			return err
		}
		return keepTrace(tx, g.Trace)
	})
	if err != nil {
		return nil, g.queue(ctx, err)
	}
	return out, nil
}

func (g *registration) write(tx *store.Tx, st standing) (*Registered, error) {
	t, err := g.load(tx)
	if err != nil {
		return nil, err
	}
	if !sameHook(t.Hook, g.loaded.Hook) {
		return nil, &fleet.Error{Kind: fleet.KindConflict, Resource: "provisioning template", Name: t.Name, Msg: "got another hook meanwhile: try again"}
	}
	pem, err := g.pending(tx)
	if err != nil {
		return nil, err
	}
	return g.enact(tx, st, t, pem)
}

// enact is what all flows share: evaluate, resolve, apply (provisioning spec 4.9).
func (g *registration) enact(tx *store.Tx, st standing, t fleet.Template, pem string) (_ *Registered, err error) {
	if g.key, err = pki.KeyID(pem); err != nil {
		return nil, err
	}
	d := g.desired
	if d == nil || t.Body != g.loaded.Body {
		if d, err = g.evaluate(t); err != nil {
			return nil, err
		}
	}
	g.Trace.Step("evaluate", "%s: %s", whichText(t), summary(d))
	snap, err := registry.Snapshot(tx, g.Scope, d)
	if err != nil {
		return nil, err
	}
	plan, err := g.resolve(tx, &snap, t, d, st)
	for _, c := range plan.Decisions {
		g.Trace.Step("plan", "%s %s", c.Verb, strings.Join(slices.DeleteFunc([]string{c.Resource, short(c.Name), c.Part}, func(s string) bool { return s == "" }), " ")+": "+c.Reason)
	}
	if err != nil {
		return nil, err
	}
	if err := g.count(tx, st, t, snap, d); err != nil {
		return nil, err
	}
	if err := g.checkRole(tx, t.RoleARN, plan); err != nil {
		return nil, err
	}
	if err := registry.Apply(tx, g.Scope, plan); err != nil {
		return nil, err
	}
	if plan.Approval != "" {
		if err := g.useApproval(tx, plan.Approval); err != nil {
			return nil, err
		}
	}
	return g.record(tx, st, t, d, registry.TrailOf(snap, plan))
}

// resolve adds to the snapshot what the guards ask for and plans what to write. The plan is never nil: it has the decisions that were made.
func (g *registration) resolve(tx *store.Tx, snap *template.Snapshot, t fleet.Template, d *template.Desired, st standing) (*template.Plan, error) {
	snap.Requester, snap.HookAllowed, snap.ClaimSerials, snap.Vouched = g.arn(), t.Hook != nil, st.limits.Serials, g.ca != ""
	things, own, err := g.ownThings(tx)
	if err != nil {
		return &template.Plan{}, err
	}
	snap.RequesterThings = things
	if err := g.checkRenewal(own, d); err != nil {
		return &template.Plan{}, err
	}
	if _, contested := template.Contested(*snap, d); contested && snap.HookAllowed {
		taken, err := g.takenSince(tx, d.Thing.Name)
		if err != nil {
			return &template.Plan{}, err
		}
		snap.HookAllowed = !taken
	}
	if rule, contested := template.Contested(*snap, d); contested {
		if err := g.evidence(tx, snap, rule, g.key); err != nil {
			return &template.Plan{}, err
		}
	}
	return template.Resolve(*snap, d)
}

func sameHook(a, b *fleet.Hook) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// checkRole checks that the template's role trusts the service and has every permission that the plan takes.
func (g *registration) checkRole(tx *store.Tx, role string, plan *template.Plan) error {
	caller, err := g.Permissions.AssumeForService(tx, g.Scope, role, iotService, g.source())
	if err != nil {
		g.Trace.Step("role", "%s: %v", role, err)
		g.Trace.SetCure(`let the trust policy of %s allow sts:AssumeRole to {"Service": %q}`, role, iotService)
		return denied(err, "Access Denied: the template's provisioning role %s cannot be assumed by %s: it must exist and its trust policy must name the service", role, iotService)
	}
	for _, n := range plan.Needs(g.Scope) {
		if err := g.Permissions.AuthorizeTx(tx, caller, n.Action, n.Resource, nil); err != nil {
			g.Trace.Step("role", "%v", err)
			g.Trace.SetCure("allow %s on %s in a policy of the role %s; the managed policy AWSIoTThingsRegistration has all that templates need", n.Action, n.Resource, role)
			return denied(err, "Access Denied: the template's provisioning role %s lacks %s on %s", role, n.Action, n.Resource)
		}
	}
	g.Trace.Step("role", "%s may do all of it", role)
	return nil
}

// source is the ARN of what the service acts for when it assumes the role.
func (g *registration) source() string {
	if g.template == "" {
		return g.Scope.IoT("cacert", g.ca)
	}
	return templateARN(g.Scope, g.template)
}

// record spends the token.
func (g *registration) record(tx *store.Tx, st standing, t fleet.Template, d *template.Desired, trail fleet.Trail) (*Registered, error) {
	out := &Registered{DeviceConfiguration: d.Configuration}
	if d.Thing != nil {
		out.ThingName = d.Thing.Name
	}
	g.Trace.Fact("thing", out.ThingName)
	return out, tx.PutRegistration(g.Scope, store.Registration{Certificate: g.owner.certificate, Thing: out.ThingName, Template: t.Name, Version: t.Default,
		Principal: cmp.Or(g.ca, g.PrincipalID), Installer: st.installer, Parameters: g.hash, Key: g.key, Configuration: d.Configuration,
		Created: tx.Now(), ReplayUntil: g.replayUntil(tx.Now()), Trail: trail})
}

// replayUntil is how long a lost answer can be had again: while its token is good, and for an hour if a device that lost power asks for its
// certificate anew.
func (g *registration) replayUntil(now time.Time) time.Time {
	if g.ca != "" { // nobody waits for an answer
		return time.Time{}
	}
	if until := now.Add(fleet.TokenLifetime); until.After(g.owner.expires) {
		return until.Truncate(time.Second)
	}
	return g.owner.expires
}

// hashParameters is the same for the same parameters. What a device claims to be a pseudo parameter is ignored, here too.
func hashParameters(params map[string]string) string {
	own := map[string]string{}
	for name, v := range params {
		if !strings.HasPrefix(name, "AWS::") {
			own[name] = v
		}
	}
	b, err := json.Marshal(own) // keys in order
	if err != nil {
		panic("provision: a map of strings is JSON: " + err.Error())
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// whichText says what was evaluated.
func whichText(t fleet.Template) string {
	if t.Name == "" {
		return "the template in the CA's registrationConfig"
	}
	return fmt.Sprintf("version %d of %s", t.Default, t.Name)
}

// summary says in a line what a template came to.
func summary(d *template.Desired) string {
	var parts []string
	if d.Thing != nil {
		parts = append(parts, "thing "+d.Thing.Name)
	}
	for _, p := range d.Policies {
		parts = append(parts, "policy "+p.Name)
	}
	if d.Certificate != nil {
		parts = append(parts, "certificate "+string(d.Certificate.Status))
	} else {
		parts = append(parts, "no certificate")
	}
	return strings.Join(parts, ", ")
}

// short cuts certificate ids down for people.
func short(name string) string {
	if fleet.ValidCertificateID(name) {
		return name[:12] + "…"
	}
	return name
}
