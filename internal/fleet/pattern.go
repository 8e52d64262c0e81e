package fleet

import (
	"regexp"
	"sync"
)

// A Pattern is a regular expression that is compiled when it is first asked: a start, and every short command, would spend
// milliseconds on dozens of them. A pattern that is no regular expression panics then.
type Pattern struct{ compiled func() *regexp.Regexp }

// NewPattern returns the pattern of a regular expression (RE2).
func NewPattern(text string) Pattern {
	return Pattern{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

// MatchString reports whether the pattern matches some part of s.
func (p Pattern) MatchString(s string) bool { return p.compiled().MatchString(s) }
