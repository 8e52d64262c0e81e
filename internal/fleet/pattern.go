package fleet

import (
	"regexp"
	"regexp/syntax"
	"sync"
	"unicode/utf8"
)

// A Pattern is a regular expression that is compiled when it is first asked: a start, and every short command, would spend
// milliseconds on dozens of them. A pattern that is no regular expression panics then.
type Pattern struct{ matcher func() func(string) bool }

// NewPattern returns the pattern of a regular expression (RE2).
func NewPattern(text string) Pattern {
	return Pattern{sync.OnceValue(func() func(string) bool {
		if s, ok := spanOf(text); ok {
			return s.matches
		}
		return regexp.MustCompile(text).MatchString
	})}
}

// MatchString reports whether the pattern matches some part of s.
func (p Pattern) MatchString(s string) bool { return p.matcher()(s) }

// A span is what most patterns are: so many characters of a set of ASCII, and nothing else. To go through the bytes takes a twentieth of
// the time that the regular expression does, and a flow asks a dozen.
type span struct {
	least, most int // characters; most is -1 where there is no bound
	set         [utf8.RuneSelf]bool
}

// spanOf reads a regular expression as a span, if it is one: ^[set]{least,most}$ or ^[set]+$.
func spanOf(text string) (s span, ok bool) {
	e, err := syntax.Parse(text, syntax.Perl)
	if err != nil || e.Op != syntax.OpConcat || len(e.Sub) != 3 || e.Sub[0].Op != syntax.OpBeginText || e.Sub[2].Op != syntax.OpEndText {
		return s, false
	}
	switch many := e.Sub[1]; many.Op {
	case syntax.OpRepeat:
		s.least, s.most = many.Min, many.Max
	case syntax.OpPlus:
		s.least, s.most = 1, -1
	default:
		return s, false
	}
	set := e.Sub[1].Sub[0]
	if set.Op != syntax.OpCharClass {
		return s, false
	}
	for i := 0; i < len(set.Rune); i += 2 { // pairs of first and last
		if set.Rune[i+1] >= utf8.RuneSelf {
			return s, false
		}
		for r := set.Rune[i]; r <= set.Rune[i+1]; r++ {
			s.set[r] = true
		}
	}
	return s, true
}

func (s *span) matches(text string) bool {
	if len(text) < s.least || s.most >= 0 && len(text) > s.most {
		return false
	}
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf || !s.set[text[i]] {
			return false
		}
	}
	return true
}
