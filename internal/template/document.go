package template

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
)

// A policy document says what a device may do, and parameters come from the device. So a value that a parameter brings into a
// document is text and nothing else: it stands only where a resource or a condition's value stands, it is escaped as JSON, and
// what it holds of "*", "?" and "$" is written ${*}, ${?} and ${$}, which IoT policies take literally (iot-core spec 5.3). What
// the template's author wrote, in the document, in Mappings or as literal text of a function, keeps its meaning.

// document is a compiled PolicyDocument: a JSON object with functions in it, or an expression that makes its text.
type document struct {
	tree *docNode // object form
	text expr     // string form
}

// docNode is a JSON value of a document being built. A leaf is an expr before evaluation and a text after it.
type docNode struct {
	plain node // scalars other than strings
	expr  expr
	text  text
	kind  nodeKind
	keys  []text
	items []docNode
}

// compileDocument accepts both forms of PolicyDocument (provisioning spec 4.3) and, where no function hides what it will be,
// checks that it is an IoT policy.
func compileDocument(n node) (*document, error) {
	switch {
	case n.kind == stringNode:
		d := &document{text: constant{value{text: literalText(n.text)}}}
		_, _, err := d.build(&scope{})
		return d, err
	case isFunction(n):
		e, err := compile(n)
		return &document{text: e}, err
	case n.kind == objectNode:
		tree, err := compileTree(n)
		if err != nil {
			return nil, err
		}
		d := &document{tree: tree}
		if !tree.hasFunctions() {
			_, _, err = d.build(&scope{})
		}
		return d, err
	}
	return nil, fmt.Errorf("must be a policy document, as an object or as its text, not %v", n.kind)
}

func compileTree(n node) (*docNode, error) {
	d := &docNode{kind: n.kind, plain: n}
	switch {
	case n.kind == stringNode:
		d.text = literalText(n.text)
	case isFunction(n):
		e, err := compile(n)
		if err != nil {
			return nil, err
		}
		d.expr = e
	default:
		for i, item := range n.items {
			c, err := compileTree(item)
			if err != nil {
				return nil, err
			}
			d.items = append(d.items, *c)
			if n.kind == objectNode {
				d.keys = append(d.keys, literalText(n.keys[i]))
			}
		}
	}
	return d, nil
}

func (d *docNode) hasFunctions() bool {
	return d.expr != nil || slices.ContainsFunc(d.items, func(c docNode) bool { return c.hasFunctions() })
}

// errNoValue says that a document cannot be made because a parameter has no value (lenient flows only).
type errNoValue struct{ param string }

func (e errNoValue) Error() string {
	return "parameter " + strconv.Quote(clip(e.param)) + " has no value"
}

// build evaluates the document. text is ready for CreatePolicy, canonical is the compact form that names are derived from.
func (d *document) build(sc *scope) (doc, canonical string, err error) {
	tree, verbatim := d.tree, ""
	if tree != nil {
		tree, err = tree.eval(sc)
	} else {
		tree, verbatim, err = evalDocumentText(sc, d.text)
	}
	if err != nil {
		return "", "", err
	}
	n, err := tree.render(sc.t != nil && sc.t.kind == Inline)
	if err != nil {
		return "", "", err
	}
	canonical = string(n.encode(nil))
	if verbatim == "" {
		verbatim = canonical
	}
	if _, err := policy.Parse(verbatim, policy.IoT); err != nil {
		return "", "", fmt.Errorf("is no IoT policy: %s", message(err))
	}
	return verbatim, canonical, nil
}

// eval returns a copy of d whose leaves are texts.
func (d *docNode) eval(sc *scope) (*docNode, error) {
	out := &docNode{kind: d.kind, plain: d.plain, text: d.text, keys: d.keys}
	if d.expr != nil {
		v, err := d.expr.eval(sc)
		if err != nil {
			return nil, err
		}
		return leaf(v)
	}
	for _, item := range d.items {
		c, err := item.eval(sc)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, *c)
	}
	return out, nil
}

// leaf makes a string, or an array of strings, of a function's value.
func leaf(v value) (*docNode, error) {
	switch v.kind {
	case noValue:
		return nil, errNoValue{v.missing}
	case textValue:
		return &docNode{kind: stringNode, text: v.text}, nil
	}
	out := &docNode{kind: arrayNode}
	for _, item := range v.list {
		c, err := leaf(item)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, *c)
	}
	return out, nil
}

// Marks stand for values of parameters while the text of a document is parsed. U+FDD0 and U+FDD1 are noncharacters.
const (
	markOpen  = "\uFDD0"
	markClose = "\uFDD1"
)

// evalDocumentText evaluates the string form. The parts that parameters brought are replaced by marks before the text is parsed,
// so that no value can be anything but part of a string. verbatim is the text if no parameter took part in it.
func evalDocumentText(sc *scope, e expr) (tree *docNode, verbatim string, err error) {
	t, none, ok, err := evalText(sc, e)
	if err != nil {
		return nil, "", err
	}
	if !ok {
		return nil, "", errNoValue{none.missing}
	}
	var b strings.Builder
	var values text
	for _, seg := range t {
		if seg.param == "" {
			if strings.Contains(seg.s, markOpen) || strings.Contains(seg.s, markClose) {
				return nil, "", errors.New("holds a Unicode noncharacter")
			}
			b.WriteString(seg.s)
			continue
		}
		b.WriteString(markOpen + strconv.Itoa(len(values)) + markClose)
		values = append(values, seg)
	}
	n, err := decode(b.String())
	switch {
	case err != nil && len(values) > 0:
		return nil, "", fmt.Errorf("is not JSON; a parameter may stand only inside a string of the document, as %s must", clip(strings.Join(values.params(), ", ")))
	case err != nil:
		return nil, "", err
	case len(values) == 0:
		verbatim = b.String()
	}
	if n.kind != objectNode {
		return nil, "", fmt.Errorf("must be an object, not %v", n.kind)
	}
	tree, err = unmark(n, values)
	return tree, verbatim, err
}

// unmark puts values back in place of their marks.
func unmark(n node, values text) (*docNode, error) {
	d := &docNode{kind: n.kind, plain: n}
	if n.kind == stringNode {
		t, err := unmarkText(n.text, values)
		d.text = t
		return d, err
	}
	for i, item := range n.items {
		c, err := unmark(item, values)
		if err != nil {
			return nil, err
		}
		d.items = append(d.items, *c)
		if n.kind == objectNode {
			k, err := unmarkText(n.keys[i], values)
			if err != nil {
				return nil, err
			}
			d.keys = append(d.keys, k)
		}
	}
	return d, nil
}

func unmarkText(s string, values text) (text, error) {
	var out text
	for {
		before, rest, found := strings.Cut(s, markOpen)
		if before != "" || !found && len(out) == 0 {
			out = append(out, segment{s: before})
		}
		if !found {
			return out, nil
		}
		index, after, _ := strings.Cut(rest, markClose)
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i >= len(values) {
			return nil, errors.New("holds a Unicode noncharacter")
		}
		out, s = append(out, values[i]), after
	}
}

// render makes plain JSON of an evaluated document, with the values of parameters made literal. own says that whoever gave the
// values wrote the template, too.
func (d *docNode) render(own bool) (node, error) {
	r := renderer{own: own}
	for i, k := range d.keys { // the version decides how a literal asterisk is written
		if k.String() == "Version" && d.items[i].kind == stringNode {
			r.variables = d.items[i].text.String() == "2012-10-17"
		}
	}
	return r.node(d, nil)
}

type renderer struct{ variables, own bool }

func (r renderer) node(d *docNode, path []string) (node, error) {
	switch d.kind {
	case stringNode:
		s, err := r.string(d.text, path)
		return node{kind: stringNode, text: s}, err
	case arrayNode, objectNode:
	default:
		return d.plain, nil
	}
	out := node{kind: d.kind}
	for i := range d.items {
		at := path
		if d.kind == objectNode {
			if p := d.keys[i].params(); p != nil {
				return node{}, misplaced(p[0], "a key")
			}
			key := d.keys[i].String()
			out.keys = append(out.keys, key)
			at = append(slices.Clip(path), key)
		}
		c, err := r.node(&d.items[i], at)
		if err != nil {
			return node{}, err
		}
		out.items = append(out.items, c)
	}
	return out, nil
}

// string renders a string that stands at path, array indices left out.
func (r renderer) string(t text, path []string) (string, error) {
	params := t.params()
	if params == nil {
		return t.String(), nil
	}
	in := place(path)
	if in == "" {
		return "", misplaced(params[0], strings.Join(path, "."))
	}
	var b strings.Builder
	open := false // within a ${…} of the author
	parts := merge(t)
	for i, seg := range parts {
		if in == "resource" && !r.own && seg.param != "" && !seg.listed && !namesKind(b.String()) && strings.ContainsAny(seg.s, ":/") {
			return "", fleet.Invalid("", "", "parameter %q may not choose what kind of resource a policy is about: write the beginning of the ARN, up to topic/ or the like, into the template", clip(seg.param))
		}
		if seg.param == "" {
			s := seg.s
			open = opensVariable(s, open)
			if strings.HasSuffix(s, "$") && !open && i < len(parts)-1 && r.variables {
				s += "{$}" // or the value's "{" would begin a variable
			}
			b.WriteString(s)
			continue
		}
		if open {
			return "", fleet.Invalid("", "", "parameter %q would become part of the name of a policy variable", clip(seg.param))
		}
		s, err := r.literal(seg, in)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// namesKind reports whether s has the beginning of an ARN with the kind of its resource: arn:aws:iot:REGION:ACCOUNT:topic/.
func namesKind(s string) bool {
	parts := strings.SplitN(s, ":", 6)
	return len(parts) == 6 && strings.Contains(parts[5], "/")
}

// literal writes a parameter's value so that a policy takes it as it stands.
func (r renderer) literal(seg segment, in string) (string, error) {
	refuse := func(why string) error {
		return fleet.Invalid("", "", "parameter %q may not stand in a policy's %s: %s", clip(seg.param), in, why)
	}
	if in == "resource" {
		switch {
		case seg.s == "":
			return "", refuse("its value is empty, and what is left could match more than was meant")
		case strings.ContainsAny(seg.s, "+#"):
			// MQTT's own wildcards have no literal form: topicfilter/a/+ allows the filter a/+ (iot-core spec 5.3).
			return "", refuse(`its value has "+" or "#", which are wildcards of MQTT topics`)
		}
	}
	if !r.variables {
		if strings.ContainsAny(seg.s, "*?") {
			return "", refuse(`its value has "*" or "?", for which only Version 2012-10-17 has a literal form`)
		}
		return seg.s, nil
	}
	return escaper.Replace(seg.s), nil
}

var escaper = strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}")

// merge joins neighbours that the author wrote.
func merge(t text) text {
	var out text
	for _, seg := range t {
		if n := len(out); seg.param == "" && n > 0 && out[n-1].param == "" {
			out[n-1].s += seg.s
			continue
		}
		out = append(out, seg)
	}
	return out
}

// opensVariable reports whether, after s, a "${" waits for its "}". A quoted default may contain one.
func opensVariable(s string, open bool) bool {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case !open && strings.HasPrefix(s[i:], "${"):
			open, quoted = true, false
			i++
		case open && s[i] == '\'':
			quoted = !quoted
		case open && s[i] == '}' && !quoted:
			open = false
		}
	}
	return open
}

// place says where in a document path leads, "" where no parameter may stand.
func place(path []string) string {
	if len(path) < 2 || path[0] != "Statement" {
		return ""
	}
	switch path[1] {
	case "Resource", "NotResource":
		return "resource"
	case "Condition":
		return "condition"
	}
	return ""
}

func misplaced(param, where string) error {
	return fleet.Invalid("", "", "parameter %q may not choose %s of a policy document: write what is allowed into the template, in Mappings if it has to vary",
		clip(param), where)
}

// documentName is the name that a policy gets from its document: 40 upper-case hex digits, as AWS prints them (provisioning
// spec 4.3). SHA-1 is a name here, not a protection: what the name stands for is fixed by whoever may create policies.
func documentName(canonical string) string {
	h := sha1.Sum([]byte(canonical))
	return strings.ToUpper(hex.EncodeToString(h[:]))
}

// message returns the sentence of a domain error without its resource.
func message(err error) string {
	var e *fleet.Error
	if errors.As(err, &e) && e.Msg != "" {
		return e.Msg
	}
	return err.Error()
}
