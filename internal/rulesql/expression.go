package rulesql

import (
	"fmt"
	"slices"
	"strings"
)

// An Expression is a compiled condition of a pre-provisioning hook. It is written in the language of SQL version 2016-03-23
// over an object, such as the parameters of a device:
//
//	in_table('serials', SerialNumber) AND startswith(SerialNumber, 'L-')
//
// in_table asks whether an allow-list table has a key; functions that tell about an MQTT message are refused. It is immutable
// and safe for concurrent use.
type Expression struct {
	root   node
	tables []string
}

// A Verdict is what an Expression makes of an object, and why.
type Verdict struct {
	Holds   bool     // the value is true; whatever else it is, the hook refuses
	Value   Value    // of the expression
	Missing []string // names that had no value
	Lookups []Lookup // what tables were asked
}

// A Lookup is an answer of a table.
type Lookup struct {
	Table, Key string
	Found      bool
}

// String tells the verdict for a trace, for example: Undefined; SerialNumber has no value.
func (v Verdict) String() string {
	s := clip(v.Value.String())
	for _, l := range v.Lookups {
		has := "lacks"
		if l.Found {
			has = "has"
		}
		s += fmt.Sprintf("; table %s %s %q", l.Table, has, clip(l.Key))
	}
	if len(v.Missing) > 0 {
		s += "; without value: " + strings.Join(v.Missing, ", ")
	}
	return s
}

// ParseExpression compiles the rule of a hook. Errors have kind KindInvalid and say where the fault is and how to mend it.
func ParseExpression(source string) (*Expression, error) {
	p, err := newParser(source, V2016, expressions)
	if err != nil {
		return nil, err
	}
	x := &Expression{}
	if err = p.advance(); err == nil {
		x.root, err = p.expr()
	}
	if err == nil {
		err = p.finish()
	}
	if err != nil {
		return nil, p.wrap(err)
	}
	for _, c := range p.calls {
		if name, ok := c.prepared.(string); ok && c.fn.ofTables && !slices.Contains(x.tables, name) {
			x.tables = append(x.tables, name)
		}
	}
	return x, nil
}

// Tables returns the names of the tables that the expression asks, in the order of their first use. It must not be changed.
func (x *Expression) Tables() []string { return x.tables }

// Evaluate works the expression out. It fails where a bound is exceeded or a table cannot be asked; then nothing may be allowed.
func (x *Expression) Evaluate(over Value, env *Environment) (Verdict, error) {
	e := newEvaluation(V2016, nil, env)
	defer e.done()
	e.root, e.isRead, e.explain = over, true, true
	v := x.root.eval(e)
	if e.err != nil {
		return Verdict{}, e.err
	}
	return Verdict{Holds: v.isTrue(), Value: v, Missing: e.missing, Lookups: e.lookups}, nil
}

// String writes the expression in one fixed form, as Statement.String does.
func (x *Expression) String() string {
	p := &printer{}
	x.root.print(p)
	return p.b.String()
}

// A Text is a compiled field of a rule's action: plain text with expressions in ${…}, which see the original payload (iot-core
// spec 8.4). It is immutable and safe for concurrent use.
type Text struct {
	version Version
	parts   []textPart
}

// textPart is plain text or an expression.
type textPart struct {
	plain string
	expr  node
}

// ParseText compiles a field for the version of its rule. Errors have kind KindInvalid and say where the fault is and how to mend
// it.
func ParseText(source string, version Version) (*Text, error) {
	p, err := newParser(source, version, texts)
	if err != nil {
		return nil, err
	}
	t := &Text{version: p.version}
	at := 0
	for {
		i := strings.Index(source[at:], "${")
		if i < 0 {
			break
		}
		if i > 0 {
			t.parts = append(t.parts, textPart{plain: source[at : at+i]})
		}
		p.tok = token{pos: at + i, end: at + i + 2}
		var x node
		if err = p.advance(); err == nil {
			x, err = p.expr()
		}
		if err == nil && !p.tok.is("}") {
			err = faultAt(p.tok.pos, `%s follows where "}" was expected to close ${`, p.tok)
		}
		if err != nil {
			return nil, p.wrap(err)
		}
		t.parts = append(t.parts, textPart{expr: x})
		at = p.tok.end
	}
	if at < len(source) || len(t.parts) == 0 {
		t.parts = append(t.parts, textPart{plain: source[at:]})
	}
	return t, nil
}

// Fill puts the values in. One that has no text, an Undefined one above all, is empty; complete then is false, since some
// actions must fail for that.
func (t *Text) Fill(m *Message, env *Environment) (filled string, complete bool, err error) {
	if len(t.parts) == 1 && t.parts[0].expr == nil {
		return t.parts[0].plain, true, nil
	}
	e := newEvaluation(t.version, m, env)
	defer e.done()
	var out []byte
	complete = true
	for _, part := range t.parts {
		s, ok := part.plain, true
		if part.expr != nil {
			s, ok = e.text(part.expr.eval(e))
		}
		if out = append(out, s...); !e.room(len(out)) {
			return "", false, e.err
		}
		complete = complete && ok
	}
	return string(out), complete, nil
}

// String writes the text with its expressions in one fixed form, as Statement.String does.
func (t *Text) String() string {
	p := &printer{}
	for _, part := range t.parts {
		if part.expr == nil {
			p.add(part.plain)
			continue
		}
		p.add("${")
		part.expr.print(p)
		p.add("}")
	}
	return p.b.String()
}
