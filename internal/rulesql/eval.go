package rulesql

import (
	"crypto/rand"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// A node is a compiled expression. Nodes never change once a program is compiled.
type node interface {
	eval(e *evaluation) Value
	print(p *printer)
}

// evaluation is the state of one run. A node that finds e.err set, or sets it, returns Undefined; what it returns is not used.
type evaluation struct {
	message *Message // nil for a hook's rule
	env     *Environment
	whole   bool // SQL version 2016-03-23: numbers without fraction are Ints
	version Version

	root      Value  // what names are looked up in: the payload, an object, or the element of a nested SELECT
	alias     string // the name of that element, if it has one
	isPayload bool   // root is the message's payload, read or not
	isRead    bool   // root is set

	steps int
	err   error
	stack []Value // arguments of the calls under way

	explain bool // note what the next two tell
	missing []string
	lookups []Lookup
}

// maxNotes bounds what an explanation lists.
const maxNotes = 16

var idle = sync.Pool{New: func() any { return &evaluation{stack: make([]Value, 0, 16)} }}

func newEvaluation(version Version, m *Message, env *Environment) *evaluation {
	e := idle.Get().(*evaluation)
	*e = evaluation{message: m, env: env, version: version, whole: version != V2015, isPayload: m != nil, steps: MaxSteps, stack: e.stack[:0]}
	if e.env == nil {
		e.env = &Environment{}
	}
	return e
}

// done gives e back. Nothing that was noted may still point to it.
func (e *evaluation) done() {
	clear(e.stack[:cap(e.stack)])
	*e = evaluation{stack: e.stack[:0]}
	if cap(e.stack) <= 1024 {
		idle.Put(e)
	}
}

// step spends n steps and one more, and reports whether there were so many left.
func (e *evaluation) step(n int) bool {
	if e.steps -= n + 1; e.steps < 0 && e.err == nil {
		e.err = limit("the evaluation takes more than %d steps", MaxSteps)
	}
	return e.err == nil
}

// room spends the steps for n bytes or list places to be made, and reports whether they may.
func (e *evaluation) room(n int) bool {
	if n > MaxResult && e.err == nil {
		e.err = limit("the evaluation makes a value of more than %d bytes", MaxResult)
	}
	return e.step(n / 64)
}

// encode writes the result.
func (e *evaluation) encode(v Value) ([]byte, error) {
	w := writer{whole: e.whole, limit: MaxResult}
	out := w.value(make([]byte, 0, 256), v)
	if w.over || len(out) > MaxResult {
		return nil, limit("the result has more than %d bytes", MaxResult)
	}
	return out, nil
}

// text is the standard conversion to String (iot-core spec 8.3): Null, Undefined and raw bytes have none.
func (e *evaluation) text(v Value) (string, bool) {
	switch v.kind {
	case text:
		return v.s, true
	case boolean:
		if v.n == 1 {
			return "true", true
		}
		return "false", true
	case integer, decimal:
		return string(appendNumber(nil, e.number(v))), true
	case array, object:
		w := writer{whole: e.whole, limit: MaxResult}
		b := w.value(nil, v)
		if !e.room(len(b)) {
			return "", false
		}
		return string(b), true
	}
	return "", false
}

// number gives a number the type that the SQL version wants.
func (e *evaluation) number(v Value) Value {
	if e.whole && v.kind == decimal {
		return v.whole()
	}
	return v
}

// calculate spends the steps for an operation on two numbers: long ones, and those far apart, take longer.
func (e *evaluation) calculate(x, y Value) bool {
	gap := int(x.exp) - int(y.exp)
	if x.big == nil && y.big == nil && gap >= -18 && gap <= 18 {
		return e.err == nil
	}
	return e.step(8 + max(gap, -gap)/4)
}

// content returns what names are looked up in.
func (e *evaluation) content() Value {
	if e.isPayload && !e.isRead {
		v, err := e.message.content()
		if err != nil && e.err == nil {
			e.err = err
		}
		e.root, e.isRead = v, true
	}
	return e.root
}

func (e *evaluation) now() time.Time {
	if e.env.Now != nil {
		return e.env.Now()
	}
	return time.Now()
}

// random reads n random bytes.
func (e *evaluation) random(b []byte) bool {
	from := e.env.Random
	if from == nil {
		from = rand.Reader
	}
	if _, err := io.ReadFull(from, b); err != nil && e.err == nil {
		e.err = err
	}
	return e.err == nil
}

// selection is a SELECT list with its WHERE; result and rows make its value of the current root.
type selection struct {
	value bool // SELECT VALUE: one item, whose value is the result
	items []item
	where node // nil without
}

type item struct {
	expr  node
	all   bool     // * without AS
	alias []string // names of nested objects, the last one of the member
	named bool     // by AS
}

// result evaluates the list. Undefined items are left out (iot-core spec 8.3).
func (s *selection) result(e *evaluation) Value {
	if s.value || len(s.items) == 1 && s.items[0].all {
		return s.items[0].expr.eval(e)
	}
	out := &content{names: make([]string, 0, len(s.items)), values: make([]Value, 0, len(s.items))}
	for i := range s.items {
		it := &s.items[i]
		v := it.expr.eval(e)
		if e.err != nil {
			return Value{}
		}
		switch {
		case v.kind == undefined || it.all && v.kind != object: // raw bytes and elements have no members to give
		case it.all && len(out.names) == 0:
			if !e.step(len(v.items.names)) {
				return Value{}
			}
			out = v.items.copy()
		case it.all:
			for j, name := range v.items.names {
				if !e.step(len(out.names) / 16) {
					return Value{}
				}
				out.put(name, v.items.values[j])
			}
		default:
			out.set(e, it.alias, v)
		}
	}
	return Value{kind: object, items: out}
}

// set puts v under nested names; objects on the way are copied, since others may have them.
func (c *content) set(e *evaluation, names []string, v Value) {
	if len(names) > 1 {
		inner := &content{names: make([]string, 0, 1)}
		if i := c.find(names[0]); i >= 0 && c.values[i].kind == object {
			if !e.step(len(c.values[i].items.names)) {
				return
			}
			inner = c.values[i].items.copy()
		}
		inner.set(e, names[1:], v)
		v = Value{kind: object, items: inner}
	}
	e.step(0)
	c.put(names[0], v)
}

// nested is a SELECT from an attribute: of an array it makes an array of the results of its elements, of an object one result.
type nested struct {
	sel   selection
	from  node
	alias string
}

func (n *nested) eval(e *evaluation) Value {
	of := n.from.eval(e)
	if !e.step(1) || of.kind != array && of.kind != object {
		return Value{}
	}
	root, alias, isPayload, isRead := e.root, e.alias, e.isPayload, e.isRead
	e.alias, e.isPayload, e.isRead = n.alias, false, true
	v := n.rows(e, of)
	e.root, e.alias, e.isPayload, e.isRead = root, alias, isPayload, isRead
	return v
}

func (n *nested) rows(e *evaluation, of Value) Value {
	if of.kind == object {
		return n.row(e, of)
	}
	out := make([]Value, 0, len(of.items.values))
	for _, v := range of.items.values {
		if v = n.row(e, v); v.kind != undefined {
			out = append(out, v)
		}
		if !e.step(1) {
			return Value{}
		}
	}
	return arrayOf(out)
}

// row is the result of one element, Undefined if the WHERE clause is not true.
func (n *nested) row(e *evaluation, v Value) Value {
	e.root = v
	if n.sel.where != nil && !n.sel.where.eval(e).isTrue() {
		return Value{}
	}
	return n.sel.result(e)
}

// exists is true if a nested SELECT finds something.
type exists struct{ of *nested }

func (x *exists) eval(e *evaluation) Value {
	v := x.of.eval(e)
	return boolValue(v.kind == array && len(v.items.values) > 0 || v.kind != array && v.kind != undefined)
}

type literal struct{ v Value }

func (l *literal) eval(e *evaluation) Value {
	e.step(0)
	return e.number(l.v)
}

// star is the whole of what names are looked up in.
type star struct{}

func (star) eval(e *evaluation) Value {
	e.step(0)
	return e.number(e.content())
}

// path is a name and the names of members below it.
type path struct{ names []string }

func (x *path) eval(e *evaluation) Value {
	v, names := e.content(), x.names
	if e.alias != "" && names[0] == e.alias {
		names = names[1:]
	}
	for _, name := range names {
		if !e.step(0) || v.kind == object && v.items.index == nil && !e.step(len(v.items.names)/8) {
			return Value{}
		}
		v = v.member(name)
	}
	if v.kind == undefined && e.explain && len(e.missing) < maxNotes {
		if name := strings.Join(x.names, "."); !slices.Contains(e.missing, name) {
			e.missing = append(e.missing, name)
		}
	}
	return e.number(v)
}

// member is a member of what an expression gives.
type member struct {
	of   node
	name string
}

func (x *member) eval(e *evaluation) Value {
	v := x.of.eval(e)
	if !e.step(0) || v.kind == object && !e.step(len(v.items.names)/8) {
		return Value{}
	}
	return e.number(v.member(x.name))
}

type arrayOfNodes struct{ items []node }

func (x *arrayOfNodes) eval(e *evaluation) Value {
	out := make([]Value, 0, len(x.items))
	for _, it := range x.items {
		if v := it.eval(e); v.kind != undefined {
			out = append(out, v)
		}
	}
	if !e.step(len(out)) {
		return Value{}
	}
	return arrayOf(out)
}

type objectOfNodes struct {
	names  []string
	values []node
}

func (x *objectOfNodes) eval(e *evaluation) Value {
	out := &content{names: make([]string, 0, len(x.names)), values: make([]Value, 0, len(x.names))}
	for i, it := range x.values {
		if v := it.eval(e); v.kind != undefined {
			out.put(x.names[i], v)
		}
	}
	if !e.step(len(out.names)) {
		return Value{}
	}
	return Value{kind: object, items: out}
}

// caseOf compares a value with those after WHEN, one after the other; an Undefined value makes it Undefined.
type caseOf struct {
	of         node
	when, then []node
	otherwise  node // nil without ELSE
}

func (x *caseOf) eval(e *evaluation) Value {
	v := x.of.eval(e)
	if !e.step(0) || v.kind == undefined {
		return Value{}
	}
	for i, w := range x.when {
		if t := w.eval(e); t.kind != undefined && e.equal(v, t) {
			return x.then[i].eval(e)
		}
		if e.err != nil {
			return Value{}
		}
	}
	if x.otherwise == nil {
		return Value{}
	}
	return x.otherwise.eval(e)
}

type minus struct{ of node }

func (x *minus) eval(e *evaluation) Value {
	v := x.of.eval(e).toDecimal()
	if !e.step(0) || v.kind == undefined {
		return Value{}
	}
	return e.number(negate(v))
}

type not struct{ of node }

func (x *not) eval(e *evaluation) Value {
	v := x.of.eval(e).toBool()
	if !e.step(0) || v.kind == undefined {
		return Value{}
	}
	return boolValue(!v.isTrue())
}

// cast converts as functions do, and between numbers and Booleans; decimals and texts become Ints by rounding down, Null is
// Undefined (iot-core spec 8.3).
type cast struct {
	of     node
	name   string
	to     kind
	double bool
}

func (x *cast) eval(e *evaluation) Value {
	v := x.of.eval(e)
	if !e.step(0) {
		return Value{}
	}
	switch x.to {
	case text:
		if s, ok := e.text(v); ok {
			return textValue(s)
		}
		return Value{}
	case boolean:
		if v.isNumber() {
			return boolValue(v.sign() != 0)
		}
		return v.toBool()
	case integer:
		if v.kind == boolean {
			return intValue(v.n)
		}
		return v.toIntDown()
	}
	if v.kind == boolean {
		return e.number(small(decimal, 10*v.n, -1)) // 1.0 and 0.0
	}
	if v = v.toDecimal(); v.kind == undefined {
		return v
	}
	if x.double {
		return e.number(fromFloat(v.float()))
	}
	v.kind = decimal // an Int becomes a Decimal without point
	return e.number(v)
}

// operator is an operator between two operands.
type operator uint8

const (
	opOr operator = iota
	opAnd
	opEqual
	opNotEqual
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opIn
	opAdd
	opSubtract
	opMultiply
	opDivide
	opModulo
)

var operatorNames = [...]string{"OR", "AND", "=", "<>", "<", "<=", ">", ">=", "IN", "+", "-", "*", "/", "%"}

func (o operator) String() string { return operatorNames[o] }

type operation struct {
	op   operator
	x, y node
}

// eval evaluates both operands, also of AND and OR: one that is neither Boolean nor such a text makes them Undefined, whatever
// the other one is.
func (b *operation) eval(e *evaluation) Value {
	x := b.x.eval(e)
	y := b.y.eval(e)
	if !e.step(0) {
		return Value{}
	}
	switch b.op {
	case opOr, opAnd:
		p, q := x.toBool(), y.toBool()
		if p.kind == undefined || q.kind == undefined {
			return Value{}
		}
		if b.op == opOr {
			return boolValue(p.isTrue() || q.isTrue())
		}
		return boolValue(p.isTrue() && q.isTrue())
	case opEqual, opNotEqual:
		if x.kind == undefined || y.kind == undefined {
			return Value{}
		}
		return boolValue(e.equal(x, y) == (b.op == opEqual))
	case opLess, opLessEqual, opGreater, opGreaterEqual:
		return e.ordered(b.op, x.toDecimal(), y.toDecimal())
	case opIn:
		return e.in(x, y)
	case opAdd:
		return e.plus(x, y)
	}
	return e.arithmetic(b.op, x, y)
}

func (e *evaluation) ordered(op operator, x, y Value) Value {
	if x.kind == undefined || y.kind == undefined || !e.calculate(x, y) {
		return Value{}
	}
	c := compare(x, y)
	return boolValue(c < 0 && op <= opLessEqual || c > 0 && op >= opGreater || c == 0 && (op == opLessEqual || op == opGreaterEqual))
}

// in reports whether an array has an element that equals x.
func (e *evaluation) in(x, list Value) Value {
	if x.kind == undefined || list.kind != array {
		return Value{}
	}
	for _, v := range list.items.values {
		if e.equal(x, v) {
			return boolValue(true)
		}
		if e.err != nil {
			return Value{}
		}
	}
	return boolValue(false)
}

// plus adds numbers; if either side is a text it joins texts.
func (e *evaluation) plus(x, y Value) Value {
	if x.isNumber() && y.isNumber() {
		if !e.calculate(x, y) {
			return Value{}
		}
		return e.number(add(x, y))
	}
	if x.kind != text && y.kind != text {
		return Value{}
	}
	s, ok := e.text(x)
	t, also := e.text(y)
	if !ok || !also || !e.room(len(s)+len(t)) {
		return Value{}
	}
	return textValue(s + t)
}

func (e *evaluation) arithmetic(op operator, x, y Value) Value {
	x, y = x.toDecimal(), y.toDecimal()
	if x.kind == undefined || y.kind == undefined {
		return Value{}
	}
	if x, y = e.number(x), e.number(y); !e.calculate(x, y) {
		return Value{}
	}
	var v Value
	switch op {
	case opSubtract:
		v = add(x, negate(y))
	case opMultiply:
		v = multiply(x, y)
	case opDivide:
		v = divide(x, y)
	default:
		v = remainder(x, y)
	}
	return e.number(v)
}
