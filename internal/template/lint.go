package template

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
)

// Lint looks for what will go wrong in the field, or will not be safe there, though the grammar allows it. The rules are a table in
// lintrules.go; this file works out what they look at.

// A Severity says how bad a finding is.
type Severity string

const (
	SeverityError   Severity = "error"   // devices will be refused, or the template is not safe
	SeverityWarning Severity = "warning" // likely not what was meant
	SeverityHint    Severity = "hint"    // worth knowing
)

// A Finding is one thing that lint found.
type Finding struct {
	Rule     string // id of the rule
	Severity Severity
	Pointer  string // where in the body: a JSON pointer (RFC 6901), "" for the whole
	Line     int    // from 1
	Cause    string
	Cure     string
}

// LintFacts is what only a server knows about a template. The zero value means that nothing is known.
type LintFacts struct {
	Scope fleet.Scope // account and region that it is for

	Certificate []string // parameters that a certificate can give a value (JITP); nil: not known

	// Registry says that the fields below were looked up.
	Registry    bool
	Hook        bool              // it has a pre-provisioning hook
	Disabled    bool              // it is stored, and devices may not use it
	Policies    map[string]string // documents of the named policies that exist
	Absent      []string          // what is named and does not exist, for example "thing type lamp"
	SharedClaim []string          // policies that let bootstrap certificates use the template
	WideClaim   []string          // those of them that allow more than provisioning

	Answers []AnswerSize // how large the answers to devices are
}

// AnswerSize is the size of one answer's packet.
type AnswerSize struct {
	Operation string // AWS's name
	Keys      string // of what key the certificate is, "" where there is none
	Format    string // json or cbor
	Bytes     [2]int // of the packet, for MQTT 3.1.1 and 5
	// Own says that the device made the key: then it may choose another kind.
	Own bool
}

// Lint checks a body as the template of a kind. What Parse refuses is the first finding, of rule "syntax"; the others are then about what
// can be read all the same. The order is that of the body.
func Lint(body string, kind Kind, facts LintFacts) []Finding {
	l := &linter{kind: kind, facts: facts}
	var err error
	if l.t, err = Parse(body, kind); err != nil {
		l.t = nil
	}
	if l.root, _ = decode(body); l.root.kind != objectNode {
		l.root = node{kind: objectNode, line: 1}
	}
	if err != nil {
		l.syntax(err)
	}
	l.references()
	if l.t != nil {
		l.rehearse()
	}
	for i := range lintRules {
		l.rule = &lintRules[i]
		if l.rule.check != nil && (l.t != nil || l.rule.loose) {
			l.rule.check(l)
		}
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int { return a.Line - b.Line })
	return l.findings
}

type linter struct {
	kind     Kind
	facts    LintFacts
	root     node
	t        *Template // nil: it doesn't parse
	rule     *lintRule
	findings []Finding

	refs  []reference
	thing *Thing // as it becomes with example values; nil: there is none, or it can't be worked out
	docs  []lintedPolicy
}

// A reference is a place that names a parameter.
type reference struct {
	name    string
	pointer string
	sub     bool // in the text of Fn::Sub
}

// A lintedPolicy is a policy as it becomes with example values.
type lintedPolicy struct {
	name    string // of a named policy; "": the template has its document
	pointer string // of its document, or of its name
	doc     *policy.Document
	tree    node
}

// at adds a finding of the current rule. pointer is as deep as is known: the line is that of the deepest part that is there.
func (l *linter) at(pointer, cure, cause string, args ...any) {
	l.findings = append(l.findings, Finding{Rule: l.rule.ID, Severity: l.rule.Severity, Pointer: pointer, Line: l.line(pointer), Cause: fmt.Sprintf(cause, args...), Cure: cure})
}

var pointerEscaper, pointerUnescaper = strings.NewReplacer("~", "~0", "/", "~1"), strings.NewReplacer("~1", "/", "~0", "~")

// pointer makes a JSON pointer of keys.
func pointer(base string, keys ...string) string {
	for _, k := range keys {
		base += "/" + pointerEscaper.Replace(k)
	}
	return base
}

func (l *linter) line(p string) int {
	n := l.root
	line := max(n.line, 1)
	for _, part := range strings.Split(p, "/")[1:] {
		child, ok := n.child(pointerUnescaper.Replace(part))
		if !ok {
			break
		}
		n = child
		line = n.line
	}
	return line
}

// child is a member of an object or an entry of an array.
func (n node) child(key string) (node, bool) {
	if n.kind != arrayNode {
		return n.get(key)
	}
	i, err := strconv.Atoi(key)
	if err != nil || i < 0 || i >= len(n.items) {
		return node{}, false
	}
	return n.items[i], true
}

// syntax is what Parse says, at the place that it names.
func (l *linter) syntax(err error) {
	l.rule = ruleByID("syntax")
	text := err.Error()
	var e *fleet.Error
	if errors.As(err, &e) {
		text = e.Msg
	}
	p := ""
	rest := strings.TrimPrefix(text, "Invalid registration template. ")
	if place, _, ok := strings.Cut(rest, ": "); ok {
		n := l.root
		for _, part := range strings.Split(place, ".") {
			child, found := n.child(part)
			if !found {
				break
			}
			n, p = child, pointer(p, part)
		}
	}
	l.at(p, "mend it: CreateProvisioningTemplate refuses the body as it is", "%s", rest)
}

// references collects every place that names a parameter, in the whole body but Mappings and Parameters.
func (l *linter) references() {
	for _, section := range []string{"Resources", "DeviceConfiguration"} {
		if n, ok := l.root.get(section); ok {
			l.refsIn(n, pointer("", section))
		}
	}
}

func (l *linter) refsIn(n node, p string) {
	if n.kind == stringNode && strings.HasSuffix(p, "/PolicyDocument") {
		if inner, err := decode(n.text); err == nil {
			l.refsIn(inner, p)
		}
		return
	}
	for i, item := range n.items {
		key := strconv.Itoa(i)
		if n.kind == objectNode {
			key = n.keys[i]
		}
		at := pointer(p, key)
		switch {
		case n.kind == objectNode && key == "Ref" && item.kind == stringNode:
			l.refs = append(l.refs, reference{item.text, at, false})
		case n.kind == objectNode && key == "Fn::Sub":
			l.refsOfSub(item, at)
		default:
			l.refsIn(item, at)
		}
	}
}

func (l *linter) refsOfSub(n node, p string) {
	text := n
	var own []string
	if n.kind == arrayNode && len(n.items) == 2 {
		text, own = n.items[0], n.items[1].keys
		l.refsIn(n.items[1], pointer(p, "1"))
	}
	pieces, err := cutSub(text.text)
	if err != nil {
		return
	}
	for _, piece := range pieces {
		if piece.name != "" && !slices.Contains(own, piece.name) {
			l.refs = append(l.refs, reference{piece.name, p, true})
		}
	}
}

// ExampleValue is what a rehearsal takes for a parameter that nobody gave a value.
func ExampleValue(parameter string) string {
	return "example-" + strings.Map(func(r rune) rune {
		if r < 0x80 && fleet.ValidRegistryName(string(r)) {
			return r
		}
		return '-'
	}, parameter)
}

// rehearse works out thing and policies with example values. What cannot be worked out so is left out.
func (l *linter) rehearse() {
	sc := l.t.exampleScope()
	if l.t.thing != nil {
		l.thing, _, _ = l.t.evalThing(sc, l.t.thing)
	}
	for _, spec := range l.t.policies {
		at := pointer("", "Resources", spec.logical, "Properties")
		if spec.doc != nil {
			if text, _, err := spec.doc.build(sc); err == nil {
				l.addPolicy("", pointer(at, "PolicyDocument"), text)
			}
			continue
		}
		if v, _, ok, err := evalText(sc, spec.name); ok && err == nil {
			if text, known := l.facts.Policies[v.String()]; known {
				l.addPolicy(v.String(), pointer(at, "PolicyName"), text)
			}
		}
	}
}

// exampleScope gives each parameter its default, or an example.
func (t *Template) exampleScope() *scope {
	values, service := map[string]string{}, map[string]string{CertificateID: strings.Repeat("0", 64)}
	for name, def := range t.parameters {
		switch pseudo := strings.HasPrefix(name, pseudoPrefix); {
		case !pseudo && def == nil:
			values[name] = ExampleValue(name)
		case pseudo && t.kind == JITP && name != CertificateID:
			service[name] = ExampleValue(name[strings.LastIndexByte(name, ':')+1:])
		}
	}
	return &scope{t: t, params: values, service: service, lenient: t.kind == Inline || t.kind == Bulk}
}

// Example works out what the template asks for with the given parameters and with examples for those that have neither a value
// nor a default. A rehearsal is no device: a parameter may choose any name here.
func (t *Template) Example(params map[string]string) (*Desired, error) {
	sc := t.exampleScope()
	maps.Copy(sc.params, withoutPseudo(params))
	return t.evaluate(sc)
}

// PolicyNames are the policies that the template names, as far as example values tell.
func (t *Template) PolicyNames() (names []string) {
	sc := t.exampleScope()
	for _, spec := range t.policies {
		if spec.name == nil {
			continue
		}
		if v, _, ok, err := evalText(sc, spec.name); ok && err == nil && v.chosenBy() == "" {
			names = append(names, v.String())
		}
	}
	return append(names, t.settings.AllowedPolicyNames...)
}

func (l *linter) addPolicy(name, at, text string) {
	doc, err := policy.Parse(text, policy.IoT)
	if err != nil {
		return
	}
	tree, err := decode(text)
	if err != nil {
		return
	}
	l.docs = append(l.docs, lintedPolicy{name, at, doc, tree})
}

// where points at a statement of a policy, counted from 1, and names the policy in words.
func (p lintedPolicy) where(statement int, rest ...string) (at, words string) {
	if p.name != "" {
		return p.pointer, fmt.Sprintf("statement %d of policy %s", statement, p.name)
	}
	return pointer(p.pointer, append([]string{"Statement", strconv.Itoa(statement - 1)}, rest...)...), fmt.Sprintf("statement %d", statement)
}

// lintedStatement is a statement as its author wrote it.
type lintedStatement struct {
	policy    lintedPolicy
	number    int // from 1
	allow     bool
	actions   []string
	resources []string
	node      node
}

// statements are those of all policies, in order.
func (l *linter) statements() (out []lintedStatement) {
	for _, p := range l.docs {
		list, _ := p.tree.get("Statement")
		if list.kind == objectNode {
			list = node{kind: arrayNode, items: []node{list}}
		}
		for i, st := range list.items {
			effect, _ := st.get("Effect")
			out = append(out, lintedStatement{p, i + 1, effect.text == "Allow", st.strings("Action"), st.strings("Resource"), st})
		}
	}
	return out
}

// strings are the values of a member that is a string or a list of them.
func (n node) strings(key string) (out []string) {
	v, _ := n.get(key)
	if v.kind == stringNode {
		return []string{v.text}
	}
	for _, item := range v.items {
		if item.kind == stringNode {
			out = append(out, item.text)
		}
	}
	return out
}

// named are the policies for evaluation.
func (l *linter) named() (out []policy.Named) {
	for _, p := range l.docs {
		out = append(out, policy.Named{Name: p.pointer, Doc: p.doc})
	}
	return out
}

// decided finds the statement that decided a request.
func (l *linter) decided(r policy.Result, rest ...string) (at, words string) {
	for _, p := range l.docs {
		if p.pointer == r.Policy {
			return p.where(r.Statement, rest...)
		}
	}
	return "", ""
}

// ask decides whether a device of this template may do an action. The client id is the name of its thing, or another one.
func (l *linter) ask(action, kind, name, clientID string) policy.Result {
	facts := policy.Context{}
	facts.Set(policy.KeyClientID, clientID)
	if l.thing != nil && l.t.cert != nil && clientID == l.thing.Name {
		ThingFacts(facts, l.thing.Name, l.thing.Type, l.thing.Attributes)
	} else {
		facts.Set(policy.KeyThingIsAttached, "false")
	}
	return policy.Evaluate(l.named(), policy.Request{Action: action, Resource: l.facts.Scope.IoT(kind, name), Context: facts})
}

// ThingFacts puts into facts what policies know of a connection that stands for a thing.
func ThingFacts(facts policy.Context, name, thingType string, attributes map[string]string) {
	facts.Set(policy.KeyThingIsAttached, "true")
	facts.Set(policy.KeyThingName, name)
	if thingType != "" {
		facts.Set(policy.KeyThingTypeName, thingType)
	}
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		facts.Set(policy.ThingAttributeKey(k), attributes[k])
	}
}
