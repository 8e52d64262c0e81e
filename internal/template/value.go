package template

import (
	"fmt"
	"strings"
)

// A text is a string that remembers where its parts came from: what the template's author wrote may be a wildcard in a policy
// or the name of any policy, what a parameter brought may not.
type text []segment

// segment is a part of a text. No segment is empty but one that a parameter made.
type segment struct {
	s      string
	param  string // the parameter that brought it; "": the template's author
	listed bool   // brought by a parameter, but equal to its Default: the author wrote that, too
}

func literalText(s string) text { return text{{s: s}} }

func (t text) String() string {
	if len(t) == 1 {
		return t[0].s
	}
	var b strings.Builder
	for _, seg := range t {
		b.WriteString(seg.s)
	}
	return b.String()
}

func (t text) len() (n int) {
	for _, seg := range t {
		n += len(seg.s)
	}
	return n
}

// params names the parameters that brought parts of t.
func (t text) params() (names []string) {
	for _, seg := range t {
		if seg.param != "" {
			names = append(names, seg.param)
		}
	}
	return names
}

// chosenBy names the parameter that chose t, "" if every part stands in the template.
func (t text) chosenBy() string {
	for _, seg := range t {
		if seg.param != "" && !seg.listed {
			return seg.param
		}
	}
	return ""
}

// split cuts t around each delim, which may reach over segments; the parts keep their origins.
func (t text) split(delim string) []text {
	whole := t.String()
	var parts []text
	from := 0
	for {
		i := strings.Index(whole[from:], delim)
		if i < 0 {
			return append(parts, t.slice(from, len(whole)))
		}
		parts = append(parts, t.slice(from, from+i))
		from += i + len(delim)
	}
}

// slice returns the bytes from…to of t. An empty result still names one of the parameters around it.
func (t text) slice(from, to int) text {
	var out text
	pos := 0
	for _, seg := range t {
		lo, hi := max(from-pos, 0), min(to-pos, len(seg.s))
		if lo < hi || from == to && lo == hi && seg.param != "" && len(out) == 0 {
			out = append(out, segment{seg.s[lo:hi], seg.param, seg.listed && hi-lo == len(seg.s)})
		}
		pos += len(seg.s)
	}
	if out == nil {
		out = literalText("")
	}
	return out
}

// A value is the result of an expression: a text, a list, or nothing, where a flow lets a parameter stay without a value
// (provisioning spec 4.7).
type value struct {
	kind    valueKind
	text    text
	list    []value // texts or nothing, never lists
	missing string  // nothing: the parameter that has no value
}

type valueKind int

const (
	textValue valueKind = iota
	listValue
	noValue
)

// maxText bounds what an expression may grow to, in bytes; maxList the parts of a list or a text; maxWork what all expressions of a
// template may make together. Functions nest, so without a bound a template of 10 KiB could make gigabytes.
const (
	maxText = 64 << 10
	maxList = 4096
	maxWork = 1 << 20
)

// bounded passes v on unless it is too large.
func (sc *scope) bounded(v value) (value, error) {
	n := len(v.text) + len(v.list)
	for _, seg := range v.text {
		n += len(seg.s)
	}
	sc.work += n
	switch {
	case n > maxText:
		return value{}, fmt.Errorf("becomes longer than %d characters", maxText)
	case len(v.text) > maxList || len(v.list) > maxList:
		return value{}, fmt.Errorf("becomes more than %d parts", maxList)
	case sc.work > maxWork:
		return value{}, fmt.Errorf("the template makes more than %d characters in all", maxWork)
	}
	return v, nil
}
