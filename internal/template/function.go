package template

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// An expr is a literal, a reference or a function, compiled (provisioning spec 4.5).
type expr interface {
	eval(*scope) (value, error)
}

// scope is what expressions see while a template is evaluated.
type scope struct {
	t       *Template
	params  map[string]string // from the caller
	service map[string]string // pseudo parameters; they win
	// lenient flows let a reference without a value be nothing; the others refuse.
	lenient bool
	work    int // characters made so far, see bounded
}

// ref looks a parameter up. Parameters that the template doesn't declare are passed to hooks only; pseudo parameters need no
// declaration (provisioning spec 4.6, 4.7).
func (sc *scope) ref(name string) (value, error) {
	if s, ok := sc.service[name]; ok {
		// The certificate's id is ours. Other pseudo parameters come from a subject that the device's owner wrote.
		return value{text: text{{s, name, name == CertificateID}}}, nil
	}
	declared, ok := sc.t.parameters[name]
	if ok || sc.lenient && strings.HasPrefix(name, pseudoPrefix) {
		if s, given := sc.params[name]; given {
			return value{text: text{{s, name, declared != nil && *declared == s}}}, nil
		}
	}
	if declared != nil {
		return value{text: text{{*declared, name, true}}}, nil
	}
	if sc.lenient {
		return value{kind: noValue, missing: name}, nil
	}
	return value{}, unresolved(name)
}

// Unresolved begins the text of the error for a parameter without a value, AWS's word for word (provisioning spec 3.8).
const Unresolved = "Cannot resolve reference value: "

func unresolved(name string) error { return fleet.Invalid("", "", Unresolved+"%s", name) }

// isFunction reports whether an object is a reference or function rather than data.
func isFunction(n node) bool {
	if n.kind != objectNode {
		return false
	}
	for _, k := range n.keys {
		if k == "Ref" || strings.HasPrefix(k, "Fn::") {
			return true
		}
	}
	return false
}

// compile reads an expression: a scalar, a function, or a list of them.
func compile(n node) (expr, error) {
	switch n.kind {
	case stringNode, numberNode, boolNode:
		return constant{value{text: literalText(n.text)}}, nil
	case arrayNode:
		var l list
		for _, item := range n.items {
			if item.kind == arrayNode {
				return nil, fmt.Errorf("holds a list within a list")
			}
			e, err := compile(item)
			if err != nil {
				return nil, err
			}
			l = append(l, e)
		}
		return l, nil
	case objectNode:
		if isFunction(n) {
			return compileFunction(n)
		}
		return nil, fmt.Errorf("must be a string or a function, not an object")
	}
	return nil, fmt.Errorf("must be a string or a function, not %v", n.kind)
}

func compileFunction(n node) (expr, error) {
	if len(n.keys) != 1 {
		return nil, fmt.Errorf("a function stands alone in its object; found %s", strings.Join(n.keys, ", "))
	}
	name, arg := n.keys[0], n.items[0]
	f, ok := functions[name]
	if !ok {
		return nil, fmt.Errorf("%s is no function of provisioning templates; those are Ref, Fn::Join, Fn::Select, Fn::FindInMap, Fn::Split and Fn::Sub", name)
	}
	e, err := f(arg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

var functions map[string]func(node) (expr, error)

func init() { // not in the declaration: the compilers refer to it
	functions = map[string]func(node) (expr, error){
		"Ref": compileRef, "Fn::Join": compileJoin, "Fn::Select": compileSelect,
		"Fn::FindInMap": compileFind, "Fn::Split": compileSplit, "Fn::Sub": compileSub,
	}
}

// arguments compiles a function's argument list of exactly n entries.
func arguments(arg node, n int, form string) ([]expr, error) {
	if arg.kind != arrayNode || len(arg.items) != n {
		return nil, fmt.Errorf("takes the form %s", form)
	}
	out := make([]expr, n)
	for i, item := range arg.items {
		e, err := compile(item)
		if err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}

type constant struct{ v value }

func (c constant) eval(*scope) (value, error) { return c.v, nil }

type list []expr

func (l list) eval(sc *scope) (value, error) {
	out := value{kind: listValue, list: make([]value, 0, len(l))}
	for _, e := range l {
		v, err := e.eval(sc)
		if err != nil {
			return value{}, err
		}
		if v.kind == listValue {
			return value{}, fmt.Errorf("holds a list within a list")
		}
		out.list = append(out.list, v)
	}
	return out, nil
}

type ref string

func compileRef(arg node) (expr, error) {
	if arg.kind != stringNode || arg.text == "" {
		return nil, fmt.Errorf("takes the name of a parameter")
	}
	return ref(arg.text), nil
}

func (r ref) eval(sc *scope) (value, error) { return sc.ref(string(r)) }

// evalText evaluates e to a text. ok is false if it has no value; v is then that nothing.
func evalText(sc *scope, e expr) (t text, v value, ok bool, err error) {
	v, err = e.eval(sc)
	if err == nil && v.kind == listValue {
		err = fmt.Errorf("a list stands where a string belongs")
	}
	return v.text, v, err == nil && v.kind == textValue, err
}

// evalList evaluates e to a list of texts and nothings.
func evalList(sc *scope, e expr) (v value, ok bool, err error) {
	v, err = e.eval(sc)
	if err == nil && v.kind == textValue {
		err = fmt.Errorf("a string stands where a list belongs")
	}
	return v, err == nil && v.kind == listValue, err
}

type join struct{ delim, list expr }

func compileJoin(arg node) (expr, error) {
	a, err := arguments(arg, 2, `["delimiter", [value, …]]`)
	if err != nil {
		return nil, err
	}
	return join{a[0], a[1]}, nil
}

func (j join) eval(sc *scope) (value, error) {
	delim, none, ok, err := evalText(sc, j.delim)
	if !ok {
		return none, err
	}
	items, ok, err := evalList(sc, j.list)
	if !ok {
		return items, err
	}
	var out text
	size := 0
	for i, item := range items.list {
		if item.kind == noValue {
			return item, nil
		}
		if i > 0 {
			out, size = append(out, delim...), size+delim.len()
		}
		out, size = append(out, item.text...), size+item.text.len()
		if size > maxText || len(out) > maxList {
			break // bounded words the refusal
		}
	}
	return sc.bounded(value{text: out})
}

type sel struct{ index, list expr }

func compileSelect(arg node) (expr, error) {
	a, err := arguments(arg, 2, `[index, [value, …]]`)
	if err != nil {
		return nil, err
	}
	return sel{a[0], a[1]}, nil
}

func (s sel) eval(sc *scope) (value, error) {
	index, none, ok, err := evalText(sc, s.index)
	if !ok {
		return none, err
	}
	items, ok, err := evalList(sc, s.list)
	if !ok {
		return items, err
	}
	i, err := strconv.Atoi(index.String())
	if err != nil || i < 0 || i >= len(items.list) {
		return value{}, fmt.Errorf("Fn::Select: there is no value at index %q of a list of %d", clip(index.String()), len(items.list))
	}
	return items.list[i], nil
}

type find struct{ mapName, top, second expr }

func compileFind(arg node) (expr, error) {
	a, err := arguments(arg, 3, `["map", "top key", "second key"]`)
	if err != nil {
		return nil, err
	}
	return find{a[0], a[1], a[2]}, nil
}

func (f find) eval(sc *scope) (value, error) {
	var keys [3]string
	for i, e := range [3]expr{f.mapName, f.top, f.second} {
		t, none, ok, err := evalText(sc, e)
		if !ok {
			return none, err
		}
		keys[i] = t.String()
	}
	s, ok := sc.t.mappings[keys[0]][keys[1]][keys[2]]
	if !ok {
		return value{}, fmt.Errorf("Fn::FindInMap: Mappings have no %q, %q, %q", clip(keys[0]), clip(keys[1]), clip(keys[2]))
	}
	return value{text: literalText(s)}, nil // whoever chose the keys, the template's author wrote the value
}

type split struct{ delim, text expr }

func compileSplit(arg node) (expr, error) {
	a, err := arguments(arg, 2, `["delimiter", "text"]`)
	if err != nil {
		return nil, err
	}
	return split{a[0], a[1]}, nil
}

func (s split) eval(sc *scope) (value, error) {
	delim, none, ok, err := evalText(sc, s.delim)
	if !ok {
		return none, err
	}
	whole, none, ok, err := evalText(sc, s.text)
	if !ok {
		return none, err
	}
	d := delim.String()
	if d == "" {
		return value{}, fmt.Errorf("Fn::Split: the delimiter is empty")
	}
	if n := strings.Count(whole.String(), d); n >= maxList {
		return value{}, fmt.Errorf("Fn::Split: makes more than %d parts", maxList)
	}
	out := value{kind: listValue}
	for _, part := range whole.split(d) {
		out.list = append(out.list, value{text: part})
	}
	return sc.bounded(out)
}

// sub is Fn::Sub: literal pieces and names by turns, names looked up in vars first.
type sub struct {
	pieces []subPiece
	vars   map[string]expr
}

type subPiece struct{ literal, name string } // one of them is empty

func compileSub(arg node) (expr, error) {
	s := sub{vars: map[string]expr{}}
	body := arg
	if arg.kind == arrayNode {
		if len(arg.items) != 2 || arg.items[1].kind != objectNode || isFunction(arg.items[1]) {
			return nil, fmt.Errorf(`takes the form "text ${Name}" or ["text ${Name}", {"Name": value}]`)
		}
		body = arg.items[0]
		for i, name := range arg.items[1].keys {
			e, err := compile(arg.items[1].items[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", clip(name), err)
			}
			s.vars[name] = e
		}
	}
	if body.kind != stringNode {
		return nil, fmt.Errorf("takes a text, not %v", body.kind)
	}
	var err error
	s.pieces, err = cutSub(body.text)
	return s, err
}

// cutSub takes the text of Fn::Sub apart. ${!name} stands for a literal ${name}, as in CloudFormation.
func cutSub(s string) ([]subPiece, error) {
	var pieces []subPiece
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		width := strings.IndexByte(s[i:], '}')
		if width < 0 {
			return nil, fmt.Errorf(`"${" without its "}"`)
		}
		name := s[i+2 : i+width]
		switch {
		case name == "":
			return nil, fmt.Errorf(`"${}" names no parameter`)
		case name[0] == '!':
			pieces = append(pieces, subPiece{literal: s[:i] + "${" + name[1:] + "}"})
		default:
			if i > 0 {
				pieces = append(pieces, subPiece{literal: s[:i]})
			}
			pieces = append(pieces, subPiece{name: name})
		}
		s = s[i+width+1:]
	}
	if s != "" {
		pieces = append(pieces, subPiece{literal: s})
	}
	return pieces, nil
}

func (s sub) eval(sc *scope) (value, error) {
	var out text
	for _, p := range s.pieces {
		if p.name == "" {
			out = append(out, segment{s: p.literal})
			continue
		}
		var e expr = ref(p.name)
		if v, ok := s.vars[p.name]; ok {
			e = v
		}
		t, none, ok, err := evalText(sc, e)
		if !ok {
			return none, err
		}
		if out = append(out, t...); len(out) > maxList || out.len() > maxText {
			break
		}
	}
	return sc.bounded(value{text: out})
}

// clip shortens what a stranger wrote before it stands in a message.
func clip(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
