package rulesql

import (
	"errors"
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
