package rulesql

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// textFunctions convert their arguments to texts, where those are not numbers; Null and Undefined have no text, which makes
// them Undefined.
var textFunctions = []function{
	ofText("lower", func(_ *evaluation, s string) Value { return textValue(strings.ToLower(s)) }),
	ofText("upper", func(_ *evaluation, s string) Value { return textValue(strings.ToUpper(s)) }),
	ofText("trim", func(_ *evaluation, s string) Value {
		return textValue(strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }))
	}),
	ofText("ltrim", func(_ *evaluation, s string) Value { return textValue(strings.TrimLeft(s, " \t")) }),
	ofText("rtrim", func(_ *evaluation, s string) Value { return textValue(strings.TrimRight(s, " \t")) }),
	since2016(ofText("length", func(_ *evaluation, s string) Value { return intValue(int64(characters(s))) })),
	since2016(ofText("numbytes", func(_ *evaluation, s string) Value { return intValue(int64(len(s))) })),

	ofTexts("startswith", 2, "text, start", func(_ *evaluation, s []string) Value { return boolValue(strings.HasPrefix(s[0], s[1])) }),
	ofTexts("endswith", 2, "text, end", func(_ *evaluation, s []string) Value { return boolValue(strings.HasSuffix(s[0], s[1])) }),
	since2016(ofTexts("indexof", 2, "text, part", func(_ *evaluation, s []string) Value {
		i := strings.Index(s[0], s[1])
		if i > 0 {
			i = characters(s[0][:i])
		}
		return intValue(int64(i))
	})),
	ofTexts("replace", 3, "text, part, replacement", replace),

	{name: "substring", min: 2, max: 3, params: "text, from[, to]", run: substring},
	{name: "lpad", min: 2, max: 2, params: "text, spaces", run: pad},
	{name: "rpad", min: 2, max: 2, params: "text, spaces", run: pad},
	{name: "chr", min: 1, max: 1, params: "number", run: chr},

	{name: "regexp_matches", min: 2, max: 2, params: "text, pattern", prepare: preparePattern, run: regexpMatches},
	{name: "regexp_substr", min: 2, max: 2, params: "text, pattern", prepare: preparePattern, run: regexpSubstr},
	{name: "regexp_replace", min: 3, max: 3, params: "text, pattern, replacement", prepare: preparePattern, run: regexpReplace},

	ofText("md2", func(e *evaluation, s string) Value {
		if !e.step(len(s)) { // it is slow
			return Value{}
		}
		h := md2([]byte(s))
		return textValue(hex.EncodeToString(h[:]))
	}),
	ofText("md5", hash(func(b []byte) []byte { h := md5.Sum(b); return h[:] })),
	ofText("sha1", hash(func(b []byte) []byte { h := sha1.Sum(b); return h[:] })),
	ofText("sha224", hash(func(b []byte) []byte { h := sha256.Sum224(b); return h[:] })),
	ofText("sha256", hash(func(b []byte) []byte { h := sha256.Sum256(b); return h[:] })),
	ofText("sha384", hash(func(b []byte) []byte { h := sha512.Sum384(b); return h[:] })),
	ofText("sha512", hash(func(b []byte) []byte { h := sha512.Sum512(b); return h[:] })),
}

func since2016(f function) function {
	f.since = V2016
	return f
}

func ofText(name string, f func(e *evaluation, s string) Value) function {
	return function{name: name, min: 1, max: 1, params: "text", run: func(e *evaluation, _ *call, args []Value) Value {
		s, ok := e.text(args[0])
		if !ok || !e.room(len(s)) {
			return Value{}
		}
		return f(e, s)
	}}
}

func ofTexts(name string, n int, params string, f func(e *evaluation, s []string) Value) function {
	return function{name: name, min: n, max: n, params: params, run: func(e *evaluation, _ *call, args []Value) Value {
		var texts [3]string
		for i, a := range args {
			s, ok := e.text(a)
			if !ok || !e.room(len(s)) {
				return Value{}
			}
			texts[i] = s
		}
		return f(e, texts[:n])
	}}
}

func hash(sum func([]byte) []byte) func(*evaluation, string) Value {
	return func(e *evaluation, s string) Value {
		if !e.step(len(s) / 16) {
			return Value{}
		}
		return textValue(hex.EncodeToString(sum([]byte(s))))
	}
}

func replace(e *evaluation, s []string) Value {
	if s[1] == "" {
		return textValue(s[0])
	}
	n := strings.Count(s[0], s[1])
	if !e.step(n/16) || !e.room(len(s[0])+n*(len(s[2])-len(s[1]))) {
		return Value{}
	}
	return textValue(strings.ReplaceAll(s[0], s[1], s[2]))
}

// substring rounds its places down and moves those outside of the text to its ends.
func substring(e *evaluation, _ *call, args []Value) Value {
	s, ok := e.text(args[0])
	if !ok || !e.room(len(s)) {
		return Value{}
	}
	var places [2]int
	places[1] = len(s)
	for i, a := range args[1:] {
		n := a.toIntDown()
		if n.kind == undefined {
			return n
		}
		places[i] = n.clamped(0, len(s))
	}
	if places[0] >= places[1] {
		return textValue("")
	}
	return textValue(slice(s, places[0], places[1]))
}

// pad puts 0 to 1000 spaces before or behind a text.
func pad(e *evaluation, c *call, args []Value) Value {
	s, ok := e.text(args[0])
	n := args[1].toIntDown()
	if !ok || n.kind == undefined || !e.room(len(s)+1000) {
		return Value{}
	}
	spaces := strings.Repeat(" ", n.clamped(0, 1000))
	if c.fn.name == "lpad" {
		return textValue(spaces + s)
	}
	return textValue(s + spaces)
}

// chr gives an ASCII character.
func chr(_ *evaluation, _ *call, args []Value) Value {
	n := args[0].toIntDown()
	if n.kind == undefined || n.sign() < 0 || n.clamped(0, 128) > 127 {
		return Value{}
	}
	return textValue(string(rune(n.n)))
}

// Bounds of a regular expression. Its instructions and the length of a text make the steps of a search, which takes time in
// proportion to both.
const (
	maxPattern      = 1000 // bytes
	maxInstructions = 2000 // about
)

// A pattern is a compiled regular expression.
type pattern struct {
	*regexp.Regexp
	size int // instructions, about
}

// cost is the steps of one search through a text.
func (p *pattern) cost(s string) int { return 1 + len(s)*p.size/16 }

func compilePattern(s string) (*pattern, error) {
	if len(s) > maxPattern {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(s), maxPattern)
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, err
	}
	size := instructions(tree)
	if size > maxInstructions {
		return nil, errors.New("it repeats too much, or names too many characters")
	}
	re, err := regexp.Compile(s)
	return &pattern{re, size}, err
}

// instructions estimates how long the program of a pattern will be, before anything makes it.
func instructions(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)/8 // of a class, bounds of ranges
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n = min(n+instructions(sub), maxInstructions+1)
	}
	if re.Op == syntax.OpRepeat {
		n = min(n*max(re.Min, re.Max, 1), maxInstructions+1)
	}
	return n
}

func preparePattern(c *call) error {
	s, ok := c.literalText(1)
	if !ok {
		return nil
	}
	p, err := compilePattern(s)
	if err != nil {
		var e *syntax.Error
		if errors.As(err, &e) {
			return fmt.Errorf("the pattern is not understood: %s at '%s'; there are no lookarounds, backreferences and possessive quantifiers",
				e.Code, clip(e.Expr))
		}
		return fmt.Errorf("the pattern is too large: %w", err)
	}
	c.prepared = p
	return nil
}

// search returns the text and the pattern of a call; a pattern that is none makes the call Undefined.
func search(e *evaluation, c *call, args []Value) (string, *pattern, bool) {
	s, ok := e.text(args[0])
	if !ok || !e.room(len(s)) {
		return "", nil, false
	}
	p, ok := c.prepared.(*pattern)
	if !ok {
		source, ok := e.text(args[1])
		if !ok || !e.step(1000+20*min(len(source), maxPattern)) {
			return "", nil, false
		}
		var err error
		if p, err = compilePattern(source); err != nil {
			return "", nil, false
		}
	}
	return s, p, e.step(p.cost(s))
}

func regexpMatches(e *evaluation, c *call, args []Value) Value {
	s, p, ok := search(e, c, args)
	if !ok {
		return Value{}
	}
	return boolValue(p.MatchString(s))
}

// regexpSubstr gives the first match, and Undefined where there is none.
func regexpSubstr(e *evaluation, c *call, args []Value) Value {
	s, p, ok := search(e, c, args)
	if !ok {
		return Value{}
	}
	if m := p.FindStringIndex(s); m != nil {
		return textValue(s[m[0]:m[1]])
	}
	return Value{}
}

func regexpReplace(e *evaluation, c *call, args []Value) Value {
	s, p, ok := search(e, c, args)
	template, also := e.text(args[2])
	if !ok || !also {
		return Value{}
	}
	parts, ok := replacement(template, p)
	if !ok {
		return Value{}
	}
	var out []byte
	last := 0
	affordable := e.steps / p.cost(s) // each match may take a search through all of the text
	found := p.FindAllStringSubmatchIndex(s, affordable+1)
	if !e.step(len(found) * p.cost(s)) {
		return Value{}
	}
	for _, m := range found {
		out = append(out, s[last:m[0]]...)
		for _, part := range parts {
			if part.group < 0 {
				out = append(out, part.text...)
			} else if from := m[2*part.group]; from >= 0 {
				out = append(out, s[from:m[2*part.group+1]]...)
			}
		}
		if last = m[1]; len(out) > MaxResult || !e.step(len(parts)) {
			break
		}
	}
	if !e.room(len(out) + len(s) - last) {
		return Value{}
	}
	return textValue(string(out) + s[last:])
}

// replacementPart is a text, or the number of a group.
type replacementPart struct {
	text  string
	group int // -1 of a text
}

// replacement reads a replacement as Java does: $n is a group, of as many digits as there are such groups, ${name} one by its
// name, and a backslash makes the next character plain. ok is false for anything else.
func replacement(s string, p *pattern) (parts []replacementPart, ok bool) {
	plain := ""
	flush := func() {
		if plain != "" {
			parts = append(parts, replacementPart{plain, -1})
			plain = ""
		}
	}
	for s != "" {
		i := strings.IndexAny(s, `\$`)
		if i < 0 {
			plain += s
			break
		}
		plain += s[:i]
		special := s[i]
		if s = s[i+1:]; s == "" {
			return nil, false
		}
		if special == '\\' {
			plain, s = plain+s[:1], s[1:]
			continue
		}
		group, n := groupOf(s, p)
		if n == 0 {
			return nil, false
		}
		flush()
		parts, s = append(parts, replacementPart{"", group}), s[n:]
	}
	flush()
	return parts, true
}

// groupOf reads what stands after $ and returns its length, 0 if it is no group.
func groupOf(s string, p *pattern) (group, n int) {
	if rest, ok := strings.CutPrefix(s, "{"); ok {
		name, _, closed := strings.Cut(rest, "}")
		if group = p.SubexpIndex(name); !closed || group < 0 {
			return 0, 0
		}
		return group, len(name) + 2
	}
	for d := 1; d <= countDigits(s); d++ {
		g, err := strconv.Atoi(s[:d])
		if err != nil || g > p.NumSubexp() {
			break
		}
		group, n = g, d
	}
	return group, n
}
