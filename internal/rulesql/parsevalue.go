package rulesql

import (
	"fmt"
	"slices"
	"strings"
)

// What stands between operators: literals, names, calls, CASE, CAST, nested SELECTs, arrays and objects.

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
