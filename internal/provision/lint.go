package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// A Draft is a template to look at: a stored one by its Name, or a Body that may become one.
type Draft struct {
	Name string
	Body string             // "": the default version of the stored one
	Type fleet.TemplateType // of a body that is not stored; "": FLEET_PROVISIONING
}

// A Review is what lint says of a draft.
type Review struct {
	Findings []template.Finding
	Answers  []template.AnswerSize // fleet templates only
}

// Lint looks for what will go wrong with a template. It writes nothing. Errors are of KindNotFound and KindInvalid for the draft itself;
// what is wrong with the body is among the findings.
func (p *Service) Lint(ctx context.Context, s fleet.Scope, d Draft) (r Review, err error) {
	var kind template.Kind
	facts := template.LintFacts{Scope: s, Registry: true, Certificate: pki.PseudoParameters()}
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		t, stored, err := d.load(tx, s)
		if err != nil {
			return err
		}
		d.Body, kind = t.Body, template.KindOf(t.Type)
		facts.Hook, facts.Disabled = t.Hook != nil, stored && t.Type == fleet.FleetProvisioning && !enabled(t)
		if stored && t.Hook != nil && p.Hook != nil {
			if err := p.Hook.Known(tx, s, t.Hook.TargetARN); err != nil && fleet.KindOf(err) == fleet.KindInvalid {
				facts.Absent = append(facts.Absent, "function "+t.Hook.TargetARN+", which is the hook")
			}
		}
		tm, err := template.Parse(t.Body, kind)
		if err != nil {
			return nil // lint says it
		}
		return registryFacts(tx, s, t.Name, tm, &facts)
	})
	if err != nil {
		return r, err
	}
	if tm, err := template.Parse(d.Body, kind); err == nil && kind == template.Fleet {
		example, _ := tm.Example(nil)
		if r.Answers, err = p.AnswerSizes(s, d.Name, example); err != nil {
			return r, err
		}
	}
	facts.Answers = r.Answers
	r.Findings = template.Lint(d.Body, kind, facts)
	return r, nil
}

// load returns the template that a draft is about, and whether it is stored as it is.
func (d Draft) load(tx *store.Tx, s fleet.Scope) (t fleet.Template, stored bool, err error) {
	switch {
	case d.Name == "" && d.Body == "":
		return t, false, fleet.Invalid("", "", "name a template, or send the body of one")
	case d.Name != "" && !fleet.ValidTemplateName(d.Name):
		return t, false, fleet.Invalid("provisioning template", d.Name, "a name has 1 to 36 letters, digits and characters of _-")
	}
	if d.Name != "" {
		t, err = tx.Template(s, d.Name)
		if err != nil && (d.Body == "" || fleet.KindOf(err) != fleet.KindNotFound) {
			return t, false, err
		}
		stored = err == nil
	}
	if d.Body != "" {
		t.Body = d.Body
	}
	if !stored {
		t.Name, t.Type = d.Name, d.Type
	}
	if t.Type == "" {
		t.Type = fleet.FleetProvisioning
	}
	if t.Type != fleet.FleetProvisioning && t.Type != fleet.JITP {
		return t, false, fleet.Invalid("", "", "type %q is neither FLEET_PROVISIONING nor JITP", t.Type)
	}
	return t, stored, nil
}

// registryFacts looks up what the template names, and who may use it.
func registryFacts(tx *store.Tx, s fleet.Scope, name string, tm *template.Template, facts *template.LintFacts) error {
	facts.Policies = map[string]string{}
	for _, n := range tm.PolicyNames() {
		switch p, err := tx.Policy(s, n); {
		case err == nil:
			facts.Policies[n] = p.Document
		case fleet.KindOf(err) == fleet.KindNotFound:
			facts.Absent = append(facts.Absent, "policy "+n)
		default:
			return err
		}
	}
	example, _ := tm.Example(nil)
	if example == nil {
		example = &template.Desired{}
	}
	if err := absentNames(tx, s, example, facts); err != nil || name == "" || tm.Kind() != template.Fleet {
		return err
	}
	return claimPolicies(tx, s, name, example.Policies, facts)
}

// absentNames adds what the template writes out and nobody has created: types, groups and billing groups.
func absentNames(tx *store.Tx, s fleet.Scope, d *template.Desired, facts *template.LintFacts) error {
	if d.Thing == nil {
		return nil
	}
	snap, err := registry.Snapshot(tx, s, &template.Desired{Thing: d.Thing})
	if err != nil {
		return err
	}
	missing := func(what, name string) {
		if !strings.Contains(name, template.ExampleValue("")) { // a parameter would choose it
			facts.Absent = append(facts.Absent, what+" "+name)
		}
	}
	if d.Thing.Type != "" && snap.ThingType == nil {
		missing("thing type", d.Thing.Type)
	}
	for _, g := range d.Thing.Groups {
		if _, ok := snap.ThingGroups[g]; !ok {
			missing("thing group", g)
		}
	}
	if d.Thing.BillingGroup != "" && !snap.BillingGroup {
		missing("billing group", d.Thing.BillingGroup)
	}
	return nil
}

// maxClaimPolicies bounds how many policies are looked at for those of bootstrap certificates.
const maxClaimPolicies = 500

// claimPolicies finds the policies that let certificates use the template, but for those that the template gives to its own
// devices, which renew with it: named ones, and given, those of its documents.
func claimPolicies(tx *store.Tx, s fleet.Scope, name string, given []template.Policy, facts *template.LintFacts) error {
	list, _, err := tx.Policies(s, fleet.Page{Limit: maxClaimPolicies})
	if err != nil {
		return err
	}
	for _, pol := range list {
		_, named := facts.Policies[pol.Name]
		if named || slices.ContainsFunc(given, func(g template.Policy) bool { return g.Name == pol.Name }) {
			continue
		}
		doc, err := policy.Parse(pol.Document, policy.IoT)
		if err != nil {
			continue
		}
		docs := []policy.Named{{Name: pol.Name, Doc: doc}}
		if !mayRegister(docs, s, name) {
			continue
		}
		targets, _, err := tx.TargetsOf(s, pol.Name, fleet.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(targets) == 0 {
			continue
		}
		facts.SharedClaim = append(facts.SharedClaim, pol.Name)
		all := policy.Request{Action: "iot:Subscribe", Resource: s.IoT("topicfilter", "#"), Partial: true}
		if mayPublish(docs, s, "no/topic/of/provisioning") || mayRegister(docs, s, unnamed) || policy.Evaluate(docs, all).Allowed() {
			facts.WideClaim = append(facts.WideClaim, pol.Name)
		}
	}
	return nil
}

// LintLevel says which findings keep a template from being created.
type LintLevel string

const (
	LintAWS    LintLevel = "aws"    // none beyond what AWS refuses
	LintErrors LintLevel = "errors" // those of severity error
)

// checkBody parses a body and refuses it as the level says. The refusal has the line, and what else is wrong.
func (p *Service) checkBody(ctx context.Context, s fleet.Scope, t fleet.Template) error {
	kind := template.KindOf(t.Type)
	_, err := template.Parse(t.Body, kind)
	if err == nil && p.TemplateLint != LintErrors {
		return nil
	}
	r, failed := p.Lint(ctx, s, Draft{Name: t.Name, Body: t.Body, Type: t.Type})
	if failed != nil {
		return errors.Join(err, failed)
	}
	var faults []string
	line := 0
	for _, f := range r.Findings {
		switch {
		case f.Rule == "syntax":
			line = f.Line
		case f.Severity == template.SeverityError && (t.Hook == nil || f.Rule != "guard-takeover"):
			faults = append(faults, fmt.Sprintf("line %d: %s; %s (%s)", f.Line, f.Cause, f.Cure, f.Rule))
		}
	}
	var e *fleet.Error
	switch {
	case errors.As(err, &e):
		told := *e
		told.Msg += fmt.Sprintf(" (line %d)", line)
		if len(faults) > 0 {
			told.Msg += ". Also: " + strings.Join(faults, ". ")
		}
		return &told
	case err != nil || len(faults) == 0:
		return err
	}
	return fleet.Invalid("", "", "Invalid registration template. Lint finds errors, and the setting template-lint refuses them: %s", strings.Join(faults, ". "))
}
