package rulesql

import "strings"

// String writes the statement in one fixed form: keywords large, brackets where they are needed and no others. Parsing it again
// gives the same statement.
func (s *Statement) String() string {
	p := &printer{}
	p.selection(&s.sel)
	if s.hasFrom {
		p.add(" FROM ", quote(s.filter))
	}
	p.where(&s.sel)
	return p.b.String()
}

type printer struct{ b strings.Builder }

func (p *printer) add(parts ...string) {
	for _, s := range parts {
		p.b.WriteString(s)
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func (p *printer) selection(s *selection) {
	p.add("SELECT ")
	if s.value {
		p.add("VALUE ")
		if _, ok := s.items[0].expr.(star); !ok { // a name after VALUE would be the keyword's operand either way; brackets are sure
			p.add("(")
			s.items[0].expr.print(p)
			p.add(")")
			return
		}
	}
	for i, it := range s.items {
		if i > 0 {
			p.add(", ")
		}
		it.expr.print(p)
		if it.named {
			p.add(" AS ", strings.Join(it.alias, "."))
		}
	}
}

func (p *printer) where(s *selection) {
	if s.where != nil {
		p.add(" WHERE ")
		s.where.print(p)
	}
}

// operand prints a node in brackets, unless it needs none anywhere.
func (p *printer) operand(n node) {
	switch x := n.(type) {
	case *operation, *not, *minus:
	case *literal:
		if !x.v.isNumber() || x.v.sign() >= 0 {
			n.print(p)
			return
		}
	default:
		n.print(p)
		return
	}
	p.add("(")
	n.print(p)
	p.add(")")
}

func (p *printer) list(nodes []node) {
	for i, n := range nodes {
		if i > 0 {
			p.add(", ")
		}
		n.print(p)
	}
}

func (l *literal) print(p *printer) {
	switch l.v.kind {
	case text:
		p.add(quote(l.v.s))
	case null:
		p.add("NULL")
	case boolean:
		p.add(strings.ToUpper(l.v.String()))
	case decimal:
		s := l.v.String()
		if !strings.ContainsAny(s, ".E") {
			s += "E0" // a Decimal all the same
		}
		p.add(s)
	default:
		p.add(l.v.String())
	}
}

func (star) print(p *printer)    { p.add("*") }
func (x *path) print(p *printer) { p.add(strings.Join(x.names, ".")) }

func (x *member) print(p *printer) {
	p.operand(x.of)
	p.add(".", x.name)
}

func (x *minus) print(p *printer) {
	p.add("-")
	p.operand(x.of)
}

func (x *not) print(p *printer) {
	p.add("NOT ")
	p.operand(x.of)
}

func (b *operation) print(p *printer) {
	p.operand(b.x)
	p.add(" ", b.op.String(), " ")
	p.operand(b.y)
}

func (x *cast) print(p *printer) {
	p.add("cast(")
	x.of.print(p)
	p.add(" AS ", x.name, ")")
}

func (x *call) print(p *printer) {
	p.add(x.fn.name, "(")
	p.list(x.args)
	p.add(")")
}

func (x *arrayOfNodes) print(p *printer) {
	p.add("[")
	p.list(x.items)
	p.add("]")
}

func (x *objectOfNodes) print(p *printer) {
	p.add("{")
	for i, n := range x.values {
		if i > 0 {
			p.add(", ")
		}
		p.add(quote(x.names[i]), ": ")
		n.print(p)
	}
	p.add("}")
}

func (x *caseOf) print(p *printer) {
	p.add("CASE ")
	x.of.print(p)
	for i := range x.when {
		p.add(" WHEN ")
		x.when[i].print(p)
		p.add(" THEN ")
		x.then[i].print(p)
	}
	if x.otherwise != nil {
		p.add(" ELSE ")
		x.otherwise.print(p)
	}
	p.add(" END")
}

func (n *nested) print(p *printer) {
	p.add("(")
	p.selection(&n.sel)
	p.add(" FROM ")
	p.operand(n.from)
	if n.alias != "" {
		p.add(" AS ", n.alias)
	}
	p.where(&n.sel)
	p.add(")")
}

func (x *exists) print(p *printer) {
	p.add("EXISTS ")
	x.of.print(p)
}
