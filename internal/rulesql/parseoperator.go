package rulesql

// Expressions: operators and what binds how.

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
