package rulesql

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// The grammar (iot-core spec 8.3). Keywords and names of functions are read in any case.
//
//	statement := select [FROM 'filter'] [WHERE expr]
//	select    := SELECT (VALUE expr | item {, item})
//	item      := * | expr [AS name {. name}]
//	expr      := and {OR and}
//	and       := not {AND not}
//	not       := NOT not | compared
//	compared  := sum {(= | <> | < | <= | > | >= | IN) sum}
//	sum       := product {(+ | -) product}
//	product   := unary {(* | / | %) unary}
//	unary     := - unary | postfix
//	postfix   := atom {. name}
//	atom      := text | number | TRUE | FALSE | NULL | name | * | ( expr ) | name ( [expr {, expr}] ) | CAST ( expr AS type )
//	           | CASE expr WHEN expr THEN expr {WHEN …} [ELSE expr] END | nested | EXISTS nested
//	           | [ [expr {, expr}] ] | { ["name" : expr {, "name" : expr}] }
//	nested    := ( select FROM postfix [AS name] [WHERE expr] )

// A dialect is what a program is for; it decides which functions there are.
type dialect uint8

const (
	statements  dialect = iota // topic rules: about a message
	texts                      // fields of their actions: the same
	expressions                // hook rules: about an object, with tables
)

// sources name what is read, for errors.
var sources = [...]string{"SQL", "text", "rule"}

// parser reads a source with one token of lookahead.
type parser struct {
	src     string
	version Version
	dialect dialect
	tok     token
	depth   int
	nodes   int
	calls   []*call // in the order of the source
}

func newParser(src string, version Version, d dialect) (*parser, error) {
	switch version {
	case "":
		version = V2015
	case V2015, V2016, Beta:
	default:
		return nil, fleet.Invalid("awsIotSqlVersion", string(version), "there are %s, %s and %s", V2016, V2015, Beta)
	}
	p := &parser{src: src, version: version, dialect: d}
	if len(src) > MaxStatement {
		return nil, p.wrap(faultAt(0, "it has %d bytes: at most %d are allowed", len(src), MaxStatement))
	}
	if !utf8.ValidString(src) || strings.IndexByte(src, 0) >= 0 {
		return nil, p.wrap(faultAt(0, "it is not UTF-8 text without null characters"))
	}
	return p, nil
}

// wrap makes a fault the error that callers see.
func (p *parser) wrap(err error) error {
	var f *fault
	if !errors.As(err, &f) {
		return err
	}
	line := 1 + strings.Count(p.src[:f.pos], "\n")
	column := 1 + utf8.RuneCountInString(p.src[1+strings.LastIndexByte(p.src[:f.pos], '\n'):f.pos])
	e := fleet.Invalid("", "", "line %d, column %d of the %s: %s", line, column, sources[p.dialect], f.msg)
	if p.dialect == statements {
		e.Code = "SqlParseException"
	}
	return e
}

// advance reads the next token.
func (p *parser) advance() (err error) {
	p.tok, err = lex(p.src, p.tok.end)
	return err
}

// peek returns the token after the current one; one that cannot be read is reported when it is its turn.
func (p *parser) peek() token {
	t, _ := lex(p.src, p.tok.end)
	return t
}

// expect takes a symbol.
func (p *parser) expect(s, why string) error {
	if !p.tok.is(s) {
		return faultAt(p.tok.pos, "%s follows where %q was expected %s", p.tok, s, why)
	}
	return p.advance()
}

// take takes a keyword if it is next.
func (p *parser) take(w string) (bool, error) {
	if !p.tok.isWord(w) {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) enter() error {
	if p.depth++; p.depth > MaxNesting {
		return faultAt(p.tok.pos, "it nests more than %d levels deep", MaxNesting)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// count is called for each node.
func (p *parser) count() error {
	if p.nodes++; p.nodes > MaxNodes {
		return faultAt(p.tok.pos, "it has more than %d names, values and operators", MaxNodes)
	}
	return nil
}

func (p *parser) statement(s *Statement) (err error) {
	if err = p.advance(); err != nil {
		return err
	}
	if p.tok.isWord("SET") {
		return faultAt(p.tok.pos, "a SET clause is not offered: repeat the expression in the place of each variable")
	}
	if s.sel, err = p.selection(); err != nil {
		return err
	}
	if s.hasFrom, err = p.take("FROM"); err != nil {
		return err
	}
	if s.hasFrom {
		if p.tok.kind != quoted {
			return faultAt(p.tok.pos, "the topic filter after FROM stands in single quotes")
		}
		s.filter = p.tok.text
		if err := fleet.CheckTopicFilter(s.filter); err != nil {
			return faultAt(p.tok.pos, "%s", err)
		}
		if err = p.advance(); err != nil {
			return err
		}
	}
	if s.sel.where, err = p.where(); err != nil {
		return err
	}
	return p.finish()
}

func (p *parser) where() (node, error) {
	if yes, err := p.take("WHERE"); !yes || err != nil {
		return nil, err
	}
	return p.expr()
}

// finish checks that the source ends here.
func (p *parser) finish() error {
	if p.tok.kind == end {
		return nil
	}
	return faultAt(p.tok.pos, "%s follows where the end was expected%s", p.tok, hint(p.tok))
}

// hints tell what to write in place of words that other languages have.
var hints = map[string]string{
	"LIKE":    "use startswith(), endswith() or regexp_matches()",
	"BETWEEN": "write x >= low AND x <= high",
	"IS":      "use isNull(x) or isUndefined(x)",
	"NOT":     "NOT stands before a whole condition: NOT (x IN list)",
	"GROUP":   "messages are looked at one by one",
	"ORDER":   "messages are looked at one by one",
	"LIMIT":   "messages are looked at one by one",
	"FROM":    "a statement has one FROM",
	"AS":      "only items of a SELECT have names",
	"SELECT":  "a nested SELECT stands in brackets",
}

func hint(t token) string {
	if t.is("[") {
		return "; an element of an array is get(array, n), counted from 0"
	}
	if t.is("(") {
		return "; there are no methods, functions stand before their arguments"
	}
	if h := hints[strings.ToUpper(t.text)]; t.kind == word && h != "" {
		return "; " + h
	}
	return ""
}

func (p *parser) selection() (sel selection, err error) {
	if err = p.enter(); err != nil {
		return sel, err
	}
	defer p.leave()
	yes, err := p.take("SELECT")
	if err != nil {
		return sel, err
	}
	if !yes {
		return sel, faultAt(p.tok.pos, "%s follows where SELECT was expected", p.tok)
	}
	if p.tok.isWord("VALUE") && startsValue(p.peek(), p.src) {
		if err = p.advance(); err != nil {
			return sel, err
		}
		sel.value = true
		x, err := p.expr()
		sel.items = []item{{expr: x}}
		return sel, err
	}
	for {
		it, err := p.item()
		if err != nil {
			return sel, err
		}
		sel.items = append(sel.items, it)
		if !p.tok.is(",") {
			return sel, nil
		}
		if err = p.advance(); err != nil {
			return sel, err
		}
	}
}

// startsValue reports whether VALUE before t is the keyword and not the name of an attribute.
func startsValue(t token, src string) bool {
	switch t.kind {
	case quoted, number:
		return true
	case word:
		return !slices.ContainsFunc([]string{"FROM", "AS", "AND", "OR", "IN", "WHERE"}, t.isWord)
	case symbol:
		if t.is("*") { // VALUE * FROM, but value * 2
			after, _ := lex(src, t.end)
			return after.kind == end || after.isWord("FROM") || after.isWord("WHERE")
		}
		return t.is("(") || t.is("[") || t.is("{")
	}
	return false
}

func (p *parser) item() (it item, err error) {
	pos := p.tok.pos
	if it.expr, err = p.expr(); err != nil {
		return it, err
	}
	yes, err := p.take("AS")
	if err != nil {
		return it, err
	}
	if yes {
		it.named = true
		it.alias, err = p.names()
		return it, err
	}
	switch x := it.expr.(type) {
	case star:
		it.all = true
	case *path:
		it.alias = x.names[len(x.names)-1:]
	case *call:
		it.alias = []string{x.fn.name}
	case *cast:
		it.alias = []string{"cast"}
	case *member:
		it.alias = []string{x.name}
	default:
		return it, faultAt(pos, "the result of an expression needs a name: add AS and one")
	}
	return it, nil
}

// names reads name {. name}; any word may be one.
func (p *parser) names() (list []string, err error) {
	for {
		if p.tok.kind != word {
			return nil, faultAt(p.tok.pos, "%s follows where a name was expected", p.tok)
		}
		list = append(list, p.tok.text)
		if err = p.count(); err != nil {
			return nil, err
		}
		if err = p.advance(); err != nil || !p.tok.is(".") {
			return list, err
		}
		if err = p.advance(); err != nil {
			return nil, err
		}
		if len(list) == MaxNesting {
			return nil, faultAt(p.tok.pos, "a name has at most %d parts", MaxNesting)
		}
	}
}

func (p *parser) expr() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	return p.chain(0)
}

// levels are the operators that bind equally, the loosest first. NOT stands between AND and the comparisons.
var levels = [...][]operator{
	{opOr}, {opAnd}, {opEqual, opNotEqual, opLess, opLessEqual, opGreater, opGreaterEqual, opIn}, {opAdd, opSubtract},
	{opMultiply, opDivide, opModulo},
}

const comparisons = 2

// chain reads operands of one level and the operators between them, from the left.
func (p *parser) chain(level int) (node, error) {
	if level == len(levels) {
		return p.unary()
	}
	if level == comparisons && p.tok.isWord("NOT") {
		return p.not()
	}
	x, err := p.chain(level + 1)
	for err == nil {
		op, ok := p.operator(level)
		if !ok {
			return x, nil
		}
		if err = p.advance(); err != nil {
			return nil, err
		}
		if err = p.count(); err != nil {
			return nil, err
		}
		var y node
		if y, err = p.chain(level + 1); err == nil {
			x = &operation{op, x, y}
		}
	}
	return nil, err
}

// operator reports which operator of a level the token is.
func (p *parser) operator(level int) (operator, bool) {
	for _, op := range levels[level] {
		if p.tok.is(op.String()) || p.tok.isWord(op.String()) {
			return op, true
		}
	}
	return 0, false
}

func (p *parser) not() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	if err := p.count(); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	x, err := p.chain(comparisons)
	return &not{x}, err
}

func (p *parser) unary() (node, error) {
	if !p.tok.is("-") {
		return p.postfix()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	if err := p.count(); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	x, err := p.unary()
	if l, ok := x.(*literal); ok && l.v.isNumber() && err == nil {
		return &literal{negate(l.v)}, nil
	}
	return &minus{x}, err
}

func (p *parser) postfix() (node, error) {
	x, err := p.atom()
	for err == nil && p.tok.is(".") {
		if err = p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != word {
			return nil, faultAt(p.tok.pos, "%s follows where a name was expected; for other names use get(object, \"name\")", p.tok)
		}
		if err = p.count(); err != nil {
			return nil, err
		}
		switch y := x.(type) {
		case *path:
			y.names = append(y.names, p.tok.text)
		default:
			x = &member{x, p.tok.text}
		}
		err = p.advance()
	}
	return x, err
}

// reserved words are no names of attributes, unless a point stands before them.
var reserved = []string{"SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "IN", "CASE", "WHEN", "THEN", "ELSE", "END"}

func (p *parser) atom() (node, error) {
	if err := p.count(); err != nil {
		return nil, err
	}
	switch t := p.tok; {
	case t.kind == quoted:
		return &literal{textValue(t.text)}, p.advance()
	case t.kind == number:
		v := parseNumber(t.text)
		if v.kind == undefined {
			return nil, faultAt(t.pos, "the number %s is too large: numbers go up to 9.99E999", clip(t.text))
		}
		return &literal{v}, p.advance()
	case t.kind == word:
		return p.word()
	case t.is("*"):
		return star{}, p.advance()
	case t.is("("):
		return p.brackets()
	case t.is("["):
		return p.array()
	case t.is("{"):
		return p.object()
	}
	return nil, faultAt(p.tok.pos, "%s follows where a value was expected", p.tok)
}

func (p *parser) word() (node, error) {
	t, next := p.tok, p.peek()
	switch {
	case t.isWord("TRUE"), t.isWord("FALSE"):
		return &literal{boolValue(t.isWord("TRUE"))}, p.advance()
	case t.isWord("NULL"):
		return &literal{Value{kind: null}}, p.advance()
	case t.isWord("CASE"):
		return p.caseOf()
	case t.isWord("EXISTS") && next.is("("):
		return p.exists()
	case t.isWord("SELECT") && p.dialect == expressions:
		return nil, faultAt(t.pos, "a rule is a condition, without SELECT, FROM and WHERE")
	case slices.ContainsFunc(reserved, t.isWord):
		return nil, faultAt(t.pos, "%s follows where a value was expected; an attribute of this name is get(*, \"%s\")", t, t.text)
	case t.isWord("CAST") && next.is("("):
		return p.cast()
	case next.is("("):
		return p.call()
	}
	return &path{names: []string{t.text}}, p.advance()
}

func (p *parser) brackets() (node, error) {
	if p.peek().isWord("SELECT") {
		return p.nested()
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	return x, p.expect(")", "to close a bracket"+hint(p.tok))
}

// needs2016 refuses what the first version does not have.
func (p *parser) needs2016(pos int, what string) error {
	if p.version == V2015 {
		return faultAt(pos, "%s needs SQL version %s: set awsIotSqlVersion", what, V2016)
	}
	return nil
}

func (p *parser) nested() (*nested, error) {
	if err := p.needs2016(p.tok.pos, "a nested SELECT"); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	n := &nested{}
	var err error
	if n.sel, err = p.selection(); err != nil {
		return nil, err
	}
	yes, err := p.take("FROM")
	if err != nil {
		return nil, err
	}
	if !yes {
		return nil, faultAt(p.tok.pos, "%s follows where FROM and an attribute were expected: a nested SELECT reads from one", p.tok)
	}
	if n.from, err = p.postfix(); err != nil {
		return nil, err
	}
	if yes, err = p.take("AS"); err != nil {
		return nil, err
	}
	if yes {
		if p.tok.kind != word {
			return nil, faultAt(p.tok.pos, "%s follows where a name was expected", p.tok)
		}
		n.alias = p.tok.text
		if err = p.advance(); err != nil {
			return nil, err
		}
	}
	if n.sel.where, err = p.where(); err != nil {
		return nil, err
	}
	return n, p.expect(")", "to close a nested SELECT"+hint(p.tok))
}

func (p *parser) exists() (node, error) {
	pos := p.tok.pos
	if err := p.advance(); err != nil {
		return nil, err
	}
	if !p.peek().isWord("SELECT") {
		return nil, faultAt(pos, "EXISTS stands before a nested SELECT in brackets")
	}
	n, err := p.nested()
	return &exists{n}, err
}

func (p *parser) caseOf() (node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.isWord("WHEN") {
		return nil, faultAt(p.tok.pos, "CASE stands before the value to compare: CASE TRUE WHEN condition THEN …")
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	c := &caseOf{of: x}
	for {
		yes, err := p.take("WHEN")
		if err != nil {
			return nil, err
		}
		if !yes {
			break
		}
		when, err := p.expr()
		if err != nil {
			return nil, err
		}
		if yes, err = p.take("THEN"); err != nil {
			return nil, err
		}
		if !yes {
			return nil, faultAt(p.tok.pos, "%s follows where THEN was expected", p.tok)
		}
		then, err := p.expr()
		if err != nil {
			return nil, err
		}
		c.when, c.then = append(c.when, when), append(c.then, then)
	}
	if len(c.when) == 0 {
		return nil, faultAt(p.tok.pos, "%s follows where WHEN was expected", p.tok)
	}
	yes, err := p.take("ELSE")
	if err != nil {
		return nil, err
	}
	if yes {
		if c.otherwise, err = p.expr(); err != nil {
			return nil, err
		}
	}
	if yes, err = p.take("END"); err == nil && !yes {
		err = faultAt(p.tok.pos, "%s follows where WHEN, ELSE or END was expected to go on with CASE", p.tok)
	}
	return c, err
}

func (p *parser) array() (node, error) {
	if err := p.needs2016(p.tok.pos, "a literal array"); err != nil {
		return nil, err
	}
	list, err := p.list("]")
	return &arrayOfNodes{list}, err
}

// list reads expressions up to a closing symbol; the opening one is the current token.
func (p *parser) list(closing string) (list []node, err error) {
	if err = p.advance(); err != nil {
		return nil, err
	}
	for !p.tok.is(closing) {
		if len(list) > 0 {
			if err = p.expect(",", fmt.Sprintf("or %q%s", closing, hint(p.tok))); err != nil {
				return nil, err
			}
		}
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, p.advance()
}

func (p *parser) object() (node, error) {
	if err := p.needs2016(p.tok.pos, "a literal object"); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	o := &objectOfNodes{}
	for !p.tok.is("}") {
		if len(o.names) > 0 {
			if err := p.expect(",", `or "}"`); err != nil {
				return nil, err
			}
		}
		if p.tok.kind != quoted {
			return nil, faultAt(p.tok.pos, "%s follows where a name in quotes was expected", p.tok)
		}
		if slices.Contains(o.names, p.tok.text) {
			return nil, faultAt(p.tok.pos, "the object has the name '%s' twice", clip(p.tok.text))
		}
		o.names = append(o.names, p.tok.text)
		if err := p.advance(); err != nil {
			return nil, err
		}
		if err := p.expect(":", "after the name of a member"); err != nil {
			return nil, err
		}
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		o.values = append(o.values, x)
	}
	return o, p.advance()
}

// castTypes are the names of types after AS, and which need the second version.
var castTypes = map[string]struct {
	to      kind
	double  bool
	version Version
}{
	"string": {to: text}, "nvarchar": {to: text}, "text": {to: text}, "ntext": {to: text}, "varchar": {to: text},
	"int": {to: integer}, "integer": {to: integer}, "double": {to: decimal, double: true},
	"decimal": {to: decimal, version: V2016}, "bool": {to: boolean, version: V2016}, "boolean": {to: boolean, version: V2016},
}

func (p *parser) cast() (node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	yes, err := p.take("AS")
	if err != nil {
		return nil, err
	}
	if !yes {
		return nil, faultAt(p.tok.pos, "%s follows where AS and a type were expected: cast(x AS Int)", p.tok)
	}
	name := strings.ToLower(p.tok.text)
	t, ok := castTypes[name]
	if !ok || p.tok.kind != word {
		return nil, faultAt(p.tok.pos, "%s is no type: there are String, Nvarchar, Text, Ntext, Varchar, Int, Integer, Double, Decimal, Bool, Boolean", p.tok)
	}
	if t.version == V2016 {
		if err := p.needs2016(p.tok.pos, "cast to "+p.tok.text); err != nil {
			return nil, err
		}
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return &cast{x, name, t.to, t.double}, p.expect(")", "to close cast")
}

func (p *parser) call() (node, error) {
	t := p.tok
	fn, err := p.function(t)
	if err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	c := &call{fn: fn}
	if c.args, err = p.list(")"); err != nil {
		return nil, err
	}
	p.calls = append(p.calls, c)
	if n := len(c.args); n < fn.min || n > fn.max {
		if p.dialect == expressions {
			return nil, faultAt(t.pos, "%s has %s: %s", fn.name, arguments(n), fn.usage())
		}
		return c, nil // Undefined, says iot-core spec 8.3
	}
	if fn.prepare != nil {
		if err := fn.prepare(c); err != nil {
			return nil, faultAt(t.pos, "%s: %s", fn.name, err)
		}
	}
	if re, ok := c.prepared.(*pattern); ok {
		p.nodes += re.size / 10 // a short pattern may be a large program
		return c, p.count()
	}
	return c, nil
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// function finds the function that t names, or says why there is none.
func (p *parser) function(t token) (*function, error) {
	name := strings.ToLower(t.text)
	fn := functions[name]
	if fn == nil {
		if cure := notOffered[name]; cure != "" {
			return nil, faultAt(t.pos, "%s() is not offered: %s", name, cure)
		}
		return nil, faultAt(t.pos, "there is no function %s()%s", clip(t.text), similar(name))
	}
	switch {
	case fn.since == V2016 && p.version == V2015:
		return nil, p.needs2016(t.pos, fn.name+"()")
	case p.dialect == expressions && fn.ofMessage:
		return nil, faultAt(t.pos, "%s() tells about an MQTT message, and there is none here", fn.name)
	case p.dialect != expressions && fn.ofTables:
		return nil, faultAt(t.pos, "%s() is for the rules of pre-provisioning hooks only", fn.name)
	}
	return fn, nil
}
