package policy

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// tokenOp tells the parts of a pattern apart.
type tokenOp uint8

const (
	literal  tokenOp = iota
	anyRun           // *
	anyOne           // ?
	variable         // ${key}
)

// token is one part of a compiled pattern.
type token struct {
	op         tokenOp
	hasDefault bool
	text       string // literal text, or the key of a variable as in Context
	name       string // variable: as written
	def        string // variable: ${key, 'def'}
}

// glob is a compiled pattern. A substituted value stays one token, so nothing in it can act as a wildcard.
type glob []token

var errOpenVariable = errors.New(`"${" without its "}"; a literal dollar sign is written ${$}`)

// compileGlob compiles text. wildcards says whether * and ? are special, variables whether ${…} is (version 2012-10-17 only).
func compileGlob(text string, wildcards, variables bool, kind Kind) (glob, error) {
	var g glob
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			g = append(g, token{op: literal, text: lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '*' && wildcards:
			flush()
			if len(g) == 0 || g[len(g)-1].op != anyRun {
				g = append(g, token{op: anyRun})
			}
		case c == '?' && wildcards:
			flush()
			g = append(g, token{op: anyOne})
		case c == '$' && variables && strings.HasPrefix(text[i:], "${"):
			inner, width, ok := cutVariable(text[i:])
			if !ok {
				return nil, errOpenVariable
			}
			i += width - 1
			if inner == "*" || inner == "?" || inner == "$" {
				lit.WriteString(inner)
				continue
			}
			flush()
			g = append(g, variableToken(inner, kind))
		default:
			lit.WriteByte(c)
		}
	}
	flush()
	if g == nil {
		g = glob{}
	}
	return g, nil
}

// cutVariable returns what stands between "${" and its "}", which a quoted default may contain, and the width of the whole.
func cutVariable(s string) (inner string, width int, ok bool) {
	quoted := false
	for i := 2; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return s[2:i], i + 1, true
		}
	}
	return "", 0, false
}

// variableToken parses `key` or `key, 'default'`.
func variableToken(inner string, kind Kind) token {
	key, def, has := strings.Cut(inner, ",")
	t := token{op: variable, name: strings.TrimSpace(inner)}
	if has {
		def = strings.TrimSpace(def)
		if len(def) >= 2 && def[0] == '\'' && def[len(def)-1] == '\'' {
			t.name, t.def, t.hasDefault = strings.TrimSpace(key), def[1:len(def)-1], true
		} else {
			key = inner // no default after all: a name that no context key has
		}
	}
	t.text = Key(strings.TrimSpace(key))
	if kind == IoT && t.text == legacyThingName {
		t.text = thingNameKey
	}
	return t
}

// match reports whether g matches all of s. It looks back to the last * only, so its time is at most len(g)·len(s). e resolves
// variables and may be nil when there are none; fold ignores letter case.
func (g glob) match(s string, e *evaluation, fold bool) bool {
	pos, t := 0, 0
	star, starPos := -1, 0
	for {
		ok := false
		switch {
		case t == len(g):
			if pos == len(s) {
				return true
			}
		case g[t].op == anyRun || g[t].op == variable && e.unknown(&g[t]):
			if t == len(g)-1 {
				return true
			}
			t++
			star, starPos = t, pos
			continue
		case g[t].op == anyOne:
			if pos < len(s) {
				_, w := utf8.DecodeRuneInString(s[pos:])
				pos, ok = pos+w, true
			}
		default:
			text, found := g[t].text, true
			if g[t].op == variable {
				text, found = e.value(&g[t])
			}
			if found && hasPrefix(s[pos:], text, fold) {
				pos, ok = pos+len(text), true
			}
		}
		if ok {
			t++
			continue
		}
		if star < 0 || starPos >= len(s) {
			return false
		}
		_, w := utf8.DecodeRuneInString(s[starPos:])
		starPos += w
		pos, t = starPos, star
	}
}

// unknown reports whether a variable has no value but could have had any.
func (e *evaluation) unknown(t *token) bool {
	if !e.lenient() {
		return false
	}
	_, found := e.value(t)
	return !found
}

func hasPrefix(s, prefix string, fold bool) bool {
	if !fold {
		return strings.HasPrefix(s, prefix)
	}
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func (g glob) hasVariables() bool {
	for i := range g {
		if g[i].op == variable {
			return true
		}
	}
	return false
}

// arnPattern is a compiled resource or ARN condition value. IAM compares the first five parts of an ARN one by one, so that a
// * in one of them does not reach into the next (identity spec 4.1); IoT compares the whole text (iot-core spec 5.3).
type arnPattern struct {
	vars  bool
	split bool
	head  [5]glob
	tail  glob // the whole pattern when split is false
}

// newARNPattern makes a pattern of g. With bySegment it is compared part by part, unless it has fewer than six parts: those
// are taken as one text, so that a Deny on arn:aws:iot:* means what its author meant.
func newARNPattern(g glob, bySegment bool) arnPattern {
	p := arnPattern{vars: g.hasVariables(), tail: g}
	if !bySegment {
		return p
	}
	var head [5]glob
	rest := g
	for i := range head {
		before, after, ok := cutColon(rest)
		if !ok {
			return p
		}
		head[i], rest = before, after
	}
	p.split, p.head, p.tail = true, head, rest
	return p
}

// cutColon splits g around its first literal colon.
func cutColon(g glob) (before, after glob, ok bool) {
	for i, t := range g {
		if t.op != literal {
			continue
		}
		a, b, found := strings.Cut(t.text, ":")
		if !found {
			continue
		}
		before = append(glob{}, g[:i]...)
		if a != "" {
			before = append(before, token{op: literal, text: a})
		}
		if b != "" {
			after = append(after, token{op: literal, text: b})
		}
		return before, append(after, g[i+1:]...), true
	}
	return nil, nil, false
}

func (p *arnPattern) match(s string, e *evaluation) bool {
	if p.split {
		for i := range p.head {
			part, rest, ok := strings.Cut(s, ":")
			if !ok || !p.head[i].match(part, e, false) {
				return false
			}
			s = rest
		}
	}
	return p.tail.match(s, e, false)
}

// resolved reports whether all variables of p have values, and notes those that have not.
func (p *arnPattern) resolved(e *evaluation) bool {
	ok := e.resolved(p.tail)
	for i := range p.head {
		ok = e.resolved(p.head[i]) && ok
	}
	return ok
}
