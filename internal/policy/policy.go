// Package policy is the engine behind every permission: it parses and compiles policy documents and decides requests. It is
// pure: no SQL, no clock, no state. Four kinds of document share one grammar (identity spec 4.1, iot-core spec 5.1):
//
//   - Identity: what IAM users and roles may do (inline and managed policies, boundaries, session policies),
//   - Trust: who may become a role,
//   - Resource: who may do what with the resource that it hangs on, for example a function,
//   - IoT: what a device may do on its connection.
//
// Begin with Parse, which validates a document once, and Evaluate, which decides a request on parsed documents without
// allocating. EvaluateIdentity combines identity policies with a boundary and session policies and words the denial as AWS
// does. Context describes the facts a decision may depend on and how their keys are spelled.
package policy

import (
	"strconv"
	"strings"
)

// Kind is what a document is for; the grammar and a few rules differ.
type Kind uint8

const (
	Identity Kind = iota
	Trust
	IoT
	Resource
)

// Effect is what a matching statement does.
type Effect uint8

const (
	Allow Effect = iota
	Deny
)

// A Decision is the outcome of an evaluation.
type Decision uint8

const (
	ImplicitDeny Decision = iota // nothing matched
	Allowed
	ExplicitDeny
)

func (d Decision) String() string {
	return [...]string{"implicit deny", "allowed", "explicit deny"}[d]
}

// A Document is a parsed policy, immutable and safe for concurrent use.
type Document struct {
	Version    string // as written; empty if absent
	ID         string
	kind       Kind
	text       string
	statements []statement
}

// Text returns the document as it was written.
func (d *Document) Text() string { return d.text }

// Kind returns the kind that the document was parsed as.
func (d *Document) Kind() Kind { return d.kind }

// A Named is a document under the name that traces and answers show, for example a policy's name.
type Named struct {
	Name string
	Doc  *Document
	From string // what it hangs on, for simulations: user, group, role, aws-managed, user-managed or none
}

// Context holds the facts of a request: condition key to values. Keys are spelled as Key returns them, that is in lower case;
// Set and Get do that. A key without values counts as absent.
//
// The keys of a device's connection are in iot.go; those of signed requests are listed in identity spec 4.3 and set by the iam
// package.
type Context map[string][]string

// Key returns the spelling under which a condition key is looked up: lower case, save for the attribute's name in
// iot:Connection.Thing.Attributes[NAME], since attribute names differ by case.
func Key(key string) string {
	if i := strings.IndexByte(key, '['); i >= 0 && strings.EqualFold(key[:i], attributesKey) {
		return strings.ToLower(key[:i]) + key[i:]
	}
	return strings.ToLower(key)
}

// Set gives key its values; without values it removes the key.
func (c Context) Set(key string, values ...string) {
	if len(values) == 0 {
		delete(c, Key(key))
		return
	}
	c[Key(key)] = values
}

// Get returns the values of key.
func (c Context) Get(key string) []string { return c[Key(key)] }

// A Request asks whether an action on a resource is permitted.
type Request struct {
	Action    string    // service:Name, in any case
	Resource  string    // an ARN, or "*" for actions without resource
	Principal Principal // policies of roles and resources only: who asks
	Context   Context   // never written to

	// Facts, if set, gives Context when a statement first asks for a key: most statements ask for none.
	Facts func() Context

	// Partial says that Context holds only part of what was known when the request was made, for example when a right is looked
	// at again later. The answer is then about what could have been: an absent key fits every Allow and no Deny.
	Partial bool
}

// A Result says how a request was decided and by which statement.
type Result struct {
	Decision  Decision
	Policy    string // name of the document that decided; empty for an implicit deny
	Statement int    // its statement, counted from 1; 0 for an implicit deny
	Sid       string // of that statement, if it has one

	// Delegated is set on an allowed request to a role or resource when no statement named the principal itself, only its account: then the
	// account's own policies must allow the action too (identity spec 4.1).
	Delegated bool

	// Missing lists the policy variables, as written, that had no value while statements for this action were examined.
	Missing []string
}

// Allowed reports whether the request is permitted.
func (r Result) Allowed() bool { return r.Decision == Allowed }

// String names the decision and the statement for a trace: `allowed by policy "Pumps" statement 2 (Publish)`.
func (r Result) String() string {
	if r.Statement == 0 {
		return r.Decision.String() + ": no statement matches"
	}
	s := r.Decision.String() + " by policy " + strconv.Quote(r.Policy) + " statement " + strconv.Itoa(r.Statement)
	if r.Sid != "" {
		s += " (" + r.Sid + ")"
	}
	return s
}

// Evaluate decides r on docs: an explicit Deny wins over an Allow, which wins over the implicit deny (identity spec 4.2,
// iot-core spec 5.7). Among allowing statements the first one is named, in a trust policy the first that names the principal
// itself.
func Evaluate(docs []Named, r Request) Result {
	e := evaluation{request: r}
	var res Result
	for i := range docs {
		d := docs[i].Doc
		if d == nil {
			continue
		}
		e.kind = d.kind
		for j := range d.statements {
			st := &d.statements[j]
			if res.Decision == Allowed && st.effect == Allow && !res.Delegated {
				continue // only a Deny can change the outcome now
			}
			e.effect = st.effect
			how := st.matches(&e)
			if how == noMatch {
				continue
			}
			if st.effect == Deny {
				return Result{Decision: ExplicitDeny, Policy: docs[i].Name, Statement: j + 1, Sid: st.sid, Missing: e.missing}
			}
			if res.Decision != Allowed || how == directly {
				res = Result{Decision: Allowed, Policy: docs[i].Name, Statement: j + 1, Sid: st.sid, Delegated: how == delegated}
			}
		}
	}
	res.Missing = e.missing
	return res
}

// evaluation is the state of one Evaluate call.
type evaluation struct {
	request Request
	kind    Kind
	effect  Effect
	missing []string
}

// values are those of a key, in the spelling of Key.
func (e *evaluation) values(key string) []string {
	if e.request.Context == nil && e.request.Facts != nil {
		e.request.Context = e.request.Facts()
	}
	return e.request.Context[key]
}

// lenient reports whether an absent key is taken to fit.
func (e *evaluation) lenient() bool { return e.request.Partial && e.effect == Allow }

// note records a variable without value, once.
func (e *evaluation) note(name string) {
	for _, m := range e.missing {
		if m == name {
			return
		}
	}
	e.missing = append(e.missing, name)
}

// value returns the text that replaces a variable. Multi-valued keys cannot be substituted (identity spec 4.3).
func (e *evaluation) value(t *token) (string, bool) {
	if vs := e.values(t.text); len(vs) == 1 {
		if e.kind != IoT {
			return vs[0], true
		}
		if v, ok := e.substitute(t.text, vs[0]); ok {
			return v, true
		}
		return "", false
	}
	if t.hasDefault {
		return t.def, true
	}
	return "", false
}

// resolved reports whether all variables of g have values, and notes those that have not.
func (e *evaluation) resolved(g glob) bool {
	ok := true
	for i := range g {
		if g[i].op == variable {
			if _, found := e.value(&g[i]); !found {
				e.note(g[i].name)
				ok = false
			}
		}
	}
	return ok
}

// A match says whether a statement applies, and for trust policies how the principal was named.
type match uint8

const (
	noMatch match = iota
	delegated
	directly
)

// statement is a compiled statement.
type statement struct {
	sid          string
	effect       Effect
	notAction    bool
	notResource  bool
	notPrincipal bool
	actions      []glob
	resources    []arnPattern
	principals   *principals // trust and resource only
	conditions   []condition
}

func (st *statement) matches(e *evaluation) match {
	if !st.matchesAction(e.request.Action) {
		return noMatch
	}
	how := directly
	if st.principals != nil {
		how = st.principals.match(&e.request.Principal)
		if st.notPrincipal {
			if how != noMatch {
				return noMatch
			}
			how = directly
		}
		if how == noMatch {
			return noMatch
		}
	}
	if e.kind != Trust && !st.matchesResource(e) {
		return noMatch
	}
	for i := range st.conditions {
		if !st.conditions[i].holds(e) {
			return noMatch
		}
	}
	return how
}

func (st *statement) matchesAction(action string) bool {
	for _, g := range st.actions {
		if g.match(action, nil, true) {
			return !st.notAction
		}
	}
	return st.notAction
}

// matchesResource tries each resource pattern. A pattern with a variable that has no value matches nothing, so an Allow grants
// nothing and a Deny denies nothing (iot-core spec 5.4). With NotResource that would turn round: such an Allow would grant
// everything, so it is left out; the Deny stays in force. Of a request that is known in part the pattern may have matched or not, whichever
// favours it: there it is the Deny that is left out.
func (st *statement) matchesResource(e *evaluation) bool {
	unresolved := false
	for i := range st.resources {
		p := &st.resources[i]
		if p.vars && !p.resolved(e) && (st.notResource || !e.lenient()) {
			unresolved = true
			continue
		}
		if p.match(e.request.Resource, e) {
			return !st.notResource
		}
	}
	leftOut := Allow
	if e.request.Partial {
		leftOut = Deny
	}
	return st.notResource && !(unresolved && st.effect == leftOut)
}
