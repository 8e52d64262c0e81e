package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Largest documents, in characters that are not white space (identity spec 4, iot-core spec 2.2). MaxUserInline,
// MaxGroupInline and MaxRoleInline bound the sum of an entity's inline policies. Parse checks MaxIoT itself, since a longer IoT
// policy is malformed; in IAM the others are quotas, which the iam package reports.
const (
	MaxIoT         = 2048
	MaxTrust       = 2048
	MaxManaged     = 6144
	MaxUserInline  = 2048
	MaxGroupInline = 5120
	MaxRoleInline  = 10240
	MaxSession     = 2048

	maxRaw = 131072 // bytes of any document, white space included, that Parse looks at
)

// Size returns the number of characters in doc that count against its limit: all but white space.
func Size(doc string) int {
	n := 0
	for _, r := range doc {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// Parse validates and compiles a policy document. Errors have kind KindMalformedPolicy, begin with AWS's text where one is
// known, and name the statement at fault.
func Parse(doc string, kind Kind) (*Document, error) {
	d, err := parse(doc, kind)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.KindMalformedPolicy, Msg: err.Error()}
	}
	d.text = doc
	return d, nil
}

// MustParse is Parse for documents that are part of the program.
func MustParse(doc string, kind Kind) *Document {
	d, err := Parse(doc, kind)
	if err != nil {
		panic("policy: built-in document: " + err.Error())
	}
	return d
}

func parse(doc string, kind Kind) (*Document, error) {
	if len(doc) > maxRaw {
		return nil, fmt.Errorf("The policy is longer than %d bytes.", maxRaw)
	}
	if kind == IoT && Size(doc) > MaxIoT {
		return nil, fmt.Errorf("Policy document is too long: it has %d characters without white space, %d are allowed.", Size(doc), MaxIoT)
	}
	if !utf8.ValidString(doc) {
		return nil, errors.New("Syntax errors in policy. It is not valid UTF-8.")
	}
	v, err := decode(doc)
	if err != nil {
		return nil, fmt.Errorf("Syntax errors in policy. %w.", err)
	}
	top, ok := v.(object)
	if !ok {
		return nil, errors.New("Syntax errors in policy. A policy is a JSON object.")
	}
	return compile(top, kind)
}

func compile(top object, kind Kind) (*Document, error) {
	if err := top.only("Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	d := &Document{kind: kind}
	if v, ok := top.get("Version"); ok {
		if d.Version, ok = v.(string); !ok || (d.Version != "2012-10-17" && d.Version != "2008-10-17") {
			return nil, errors.New(`Policy document must be version 2012-10-17 or greater. Version is "2012-10-17" or "2008-10-17".`)
		}
	}
	if v, ok := top.get("Id"); ok {
		if d.ID, ok = v.(string); !ok {
			return nil, errors.New("Syntax errors in policy. Id must be a string.")
		}
	}
	list, err := statementList(top)
	if err != nil {
		return nil, err
	}
	sids := make(map[string]bool)
	for i, s := range list {
		c := compiler{kind: kind, variables: d.Version == "2012-10-17"}
		st, err := c.statement(s)
		if err != nil {
			return nil, fmt.Errorf("%w (statement %d)", err, i+1)
		}
		if st.sid != "" && kind != IoT {
			if sids[st.sid] {
				return nil, fmt.Errorf("Statement IDs (SID) in a single policy must be unique. (statement %d: %q)", i+1, st.sid)
			}
			sids[st.sid] = true
		}
		d.statements = append(d.statements, st)
	}
	return d, nil
}

func statementList(top object) ([]object, error) {
	v, ok := top.get("Statement")
	if !ok {
		return nil, errors.New("Syntax errors in policy. Statement is missing.")
	}
	items, ok := v.([]any)
	if !ok {
		items = []any{v}
	}
	if len(items) == 0 {
		return nil, errors.New("Syntax errors in policy. Statement must not be empty.")
	}
	list := make([]object, len(items))
	for i, it := range items {
		if list[i], ok = it.(object); !ok {
			return nil, fmt.Errorf("Syntax errors in policy. Statement %d is not a JSON object.", i+1)
		}
	}
	return list, nil
}

// compiler compiles one statement of a document.
type compiler struct {
	kind      Kind
	variables bool
}

var (
	sidText    = fleet.NewPattern(`^[0-9A-Za-z]*$`)
	namedText  = fleet.NewPattern(`^[0-9A-Za-z_-]*$`) // of the policies of functions, where an operation names statements
	actionText = fleet.NewPattern(`^[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+$`)
	trustText  = fleet.NewPattern(`(?i)^sts:[a-z*?]+$`)
)

func (c compiler) statement(s object) (st statement, err error) {
	if err = s.only("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"); err != nil {
		return st, err
	}
	if v, ok := s.get("Sid"); ok {
		form := sidText
		if c.kind == Resource {
			form = namedText
		}
		if st.sid, ok = v.(string); !ok || (c.kind != IoT && !form.MatchString(st.sid)) {
			return st, errors.New("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*")
		}
	}
	switch effect, _ := s.get("Effect"); effect {
	case "Allow":
		st.effect = Allow
	case "Deny":
		st.effect = Deny
	default:
		return st, errors.New(`Syntax errors in policy. Effect must be "Allow" or "Deny".`)
	}
	if err = c.actions(s, &st); err != nil {
		return st, err
	}
	if err = c.principals(s, &st); err != nil {
		return st, err
	}
	if err = c.resources(s, &st); err != nil {
		return st, err
	}
	return st, c.conditions(s, &st)
}

// either returns the values of name or of its negation Not+name, of which exactly one must be there.
func (c compiler) either(s object, name, missing string) (v any, negated bool, err error) {
	v, plain := s.get(name)
	n, negated := s.get("Not" + name)
	switch {
	case plain && negated:
		return nil, false, fmt.Errorf("Syntax errors in policy. A statement has %s or Not%s, not both.", name, name)
	case negated:
		return n, true, nil
	case !plain:
		return nil, false, errors.New(missing)
	}
	return v, false, nil
}

func (c compiler) actions(s object, st *statement) error {
	const missing = "Policy statement must contain actions."
	v, negated, err := c.either(s, "Action", missing)
	if err != nil {
		return err
	}
	list, ok := stringList(v)
	if !ok || len(list) == 0 {
		return errors.New(missing + " Action is a string or a list of strings.")
	}
	st.notAction = negated
	for _, a := range list {
		switch {
		case c.kind == Trust && !trustText.MatchString(a):
			return fmt.Errorf("AssumeRole policy may only specify STS AssumeRole actions. %q is none.", a)
		case a != "*" && !strings.Contains(a, ":"):
			return fmt.Errorf("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. %q has no prefix.", a)
		case a != "*" && a != "*:*" && !actionText.MatchString(a):
			return fmt.Errorf("Syntax errors in policy. The action %q is not of the form service:Name.", a)
		}
		if a == "*:*" {
			a = "*"
		}
		g, err := compileGlob(a, true, false, c.kind)
		if err != nil {
			return err
		}
		st.actions = append(st.actions, g)
	}
	return nil
}

func (c compiler) resources(s object, st *statement) error {
	if c.kind == Trust {
		for _, name := range []string{"Resource", "NotResource"} {
			if _, ok := s.get(name); ok {
				return fmt.Errorf("Has prohibited field %s", name)
			}
		}
		return nil
	}
	const missing = "Policy statement must contain resources."
	v, negated, err := c.either(s, "Resource", missing)
	if err != nil {
		return err
	}
	list, ok := stringList(v)
	if !ok || len(list) == 0 {
		return errors.New(missing + " Resource is a string or a list of strings.")
	}
	st.notResource = negated
	for _, r := range list {
		if r != "*" && !strings.HasPrefix(r, "arn:") {
			return fmt.Errorf(`Resource %s must be in ARN format or "*".`, r)
		}
		g, err := compileGlob(r, true, c.variables, c.kind)
		if err != nil {
			return fmt.Errorf("Resource %s is not valid: %w.", r, err)
		}
		p := newARNPattern(g, c.kind == Identity)
		if c.kind == Identity && p.vars && (!p.split || p.variablesInHead()) {
			return fmt.Errorf("Resource %s is not valid: a policy variable may stand only after the fifth colon.", r)
		}
		st.resources = append(st.resources, p)
	}
	return nil
}

func (p *arnPattern) variablesInHead() bool {
	for i := range p.head {
		if p.head[i].hasVariables() {
			return true
		}
	}
	return false
}

func (c compiler) principals(s object, st *statement) error {
	if c.kind != Trust && c.kind != Resource {
		for _, name := range []string{"Principal", "NotPrincipal"} {
			if _, ok := s.get(name); ok {
				return errors.New("Policy document should not specify a principal.")
			}
		}
		return nil
	}
	v, negated, err := c.either(s, "Principal", "Missing required field Principal")
	if err != nil {
		return err
	}
	if negated && st.effect == Allow {
		return errors.New("A policy cannot allow NotPrincipal: it would admit everyone else. Name the principals instead")
	}
	st.notPrincipal = negated
	st.principals = &principals{}
	if v == "*" {
		st.principals.anyone = true
		return nil
	}
	sorts, ok := v.(object)
	if !ok || len(sorts) == 0 {
		return errors.New(`Syntax errors in policy. Principal is "*" or an object with AWS, Service or Federated.`)
	}
	for _, m := range sorts {
		list, ok := stringList(m.value)
		if !ok || len(list) == 0 {
			return fmt.Errorf("Syntax errors in policy. Principal.%s is a string or a list of strings.", m.name)
		}
		for _, p := range list {
			if !st.principals.add(m.name, p) {
				return fmt.Errorf("Invalid principal in policy: %q:%q", m.name, p)
			}
		}
	}
	return nil
}

func (c compiler) conditions(s object, st *statement) error {
	v, ok := s.get("Condition")
	if !ok {
		return nil
	}
	ops, ok := v.(object)
	if !ok {
		return errors.New("Syntax errors in policy. Condition is an object of operators.")
	}
	for _, op := range ops {
		keys, ok := op.value.(object)
		if !ok {
			return fmt.Errorf("Syntax errors in policy. Condition.%s is an object of keys.", op.name)
		}
		if len(keys) == 0 {
			if _, err := compileCondition(op.name, "x:y", nil, c.variables, c.kind); err != nil {
				return err
			}
		}
		for _, k := range keys {
			if !strings.Contains(k.name, ":") {
				return fmt.Errorf("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. The condition key %q has no prefix.", k.name)
			}
			values, ok := scalarList(k.value)
			if !ok {
				return fmt.Errorf("Syntax errors in policy. The values of %s on %s are strings, numbers or booleans.", op.name, k.name)
			}
			cond, err := compileCondition(op.name, k.name, values, c.variables, c.kind)
			if err != nil {
				return err
			}
			st.conditions = append(st.conditions, cond)
		}
	}
	return nil
}

// stringList takes a string or a list of strings.
func stringList(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, true
	case []any:
		list := make([]string, len(v))
		for i, it := range v {
			s, ok := it.(string)
			if !ok {
				return nil, false
			}
			list[i] = s
		}
		return list, true
	}
	return nil, false
}

// scalarList takes a scalar or a list of scalars as their texts.
func scalarList(v any) ([]string, bool) {
	items, ok := v.([]any)
	if !ok {
		items = []any{v}
	}
	list := make([]string, len(items))
	for i, it := range items {
		switch it := it.(type) {
		case string:
			list[i] = it
		case json.Number:
			list[i] = it.String()
		case bool:
			list[i] = strconv.FormatBool(it)
		default:
			return nil, false
		}
	}
	return list, true
}

// object is a JSON object in the order of its text. encoding/json would let the last of two equal names win, and two readers
// of one policy could disagree about what it says: decode refuses them.
type object []member

type member struct {
	name  string
	value any
}

func (o object) get(name string) (any, bool) {
	for _, m := range o {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

// only refuses members with other names.
func (o object) only(names ...string) error {
	for _, m := range o {
		if !contains(names, m.name) {
			return fmt.Errorf("Syntax errors in policy. %q is not an element of a policy; names are case-sensitive.", m.name)
		}
	}
	return nil
}

// maxDepth is the deepest a policy can nest: document, statements, statement, Condition, operator, values.
const maxDepth = 6

// decode reads one JSON value: object, []any, string, json.Number, bool or nil.
func decode(doc string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("there is text after the policy")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	t, err := dec.Token()
	if err == io.EOF {
		return nil, errors.New("the JSON text ends too early")
	}
	if err != nil {
		return nil, errors.New("the policy is not valid JSON: " + plain(err))
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, errors.New("the policy nests too deep")
	}
	if delim == '[' {
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, closing(dec)
	}
	obj := object{}
	seen := make(map[string]bool)
	for dec.More() {
		name, err := decodeValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		m := member{name: fmt.Sprint(name)}
		if seen[m.name] {
			return nil, fmt.Errorf("the name %q appears twice in one object", m.name)
		}
		seen[m.name] = true
		if m.value, err = decodeValue(dec, depth+1); err != nil {
			return nil, err
		}
		obj = append(obj, m)
	}
	return obj, closing(dec)
}

func closing(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return errors.New("the policy is not valid JSON: " + plain(err))
	}
	return nil
}

// plain makes a JSON error readable in a sentence.
func plain(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "the text ends too early"
	}
	return string(bytes.TrimSuffix([]byte(err.Error()), []byte(".")))
}
