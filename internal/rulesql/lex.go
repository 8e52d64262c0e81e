package rulesql

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind is the class of a token.
type tokenKind uint8

const (
	end    tokenKind = iota
	word             // a name or keyword, as written
	quoted           // a text, without its quotes
	number
	symbol
)

// A token is a piece of the source: bytes pos to end of it.
type token struct {
	kind tokenKind
	text string
	pos  int
	end  int
}

// is reports whether the token is that symbol.
func (t token) is(s string) bool { return t.kind == symbol && t.text == s }

// isWord reports whether the token is that keyword, in any case.
func (t token) isWord(w string) bool { return t.kind == word && strings.EqualFold(t.text, w) }

// String names the token in an error.
func (t token) String() string {
	switch t.kind {
	case end:
		return "the end"
	case quoted:
		return "the text '" + clip(t.text) + "'"
	}
	return `"` + clip(t.text) + `"`
}

// clip shortens what an error quotes.
func clip(s string) string {
	if utf8.RuneCountInString(s) > 40 {
		return string([]rune(s)[:40]) + "…"
	}
	return s
}

// A fault is an error at a place of the source.
type fault struct {
	pos int
	msg string
}

func (f *fault) Error() string { return f.msg }

func faultAt(pos int, format string, args ...any) error {
	return &fault{pos, fmt.Sprintf(format, args...)}
}

// cures tell what to write in place of what other languages have.
var cures = map[byte]string{
	'!':  "not equal is written <>",
	'&':  "write AND",
	'|':  "texts are joined by + or concat(), conditions by OR",
	'@':  "variables of a SET clause are not offered: repeat the expression",
	';':  "a statement ends without semicolon",
	'`':  "names are written without quotes; for one with other characters than letters, digits and _ use get(*, \"name\")",
	'$':  "a topic filter stands in single quotes; for a name that begins with $ use get(*, \"$name\")",
	'\\': "a backslash stands in quotes only",
	'#':  "a topic filter stands in single quotes, and there are no comments",
	'?':  "there are no parameters",
	'^':  "use power(x, y) or bitxor(x, y)",
	'~':  "use bitnot(x) or regexp_matches(text, pattern)",
}

// lex reads the token that begins at or after pos.
func lex(src string, pos int) (token, error) {
	for pos < len(src) && strings.IndexByte(" \t\r\n\f\v", src[pos]) >= 0 {
		pos++
	}
	if pos == len(src) {
		return token{end, "", pos, pos}, nil
	}
	switch b := src[pos]; {
	case b == '\'' || b == '"':
		return lexQuoted(src, pos)
	case b >= '0' && b <= '9':
		return lexNumber(src, pos)
	case strings.IndexByte("(),.+-*/%=[]{}:", b) >= 0:
		if strings.HasPrefix(src[pos:], "--") || strings.HasPrefix(src[pos:], "/*") || strings.HasPrefix(src[pos:], "//") {
			return token{}, faultAt(pos, "there are no comments")
		}
		if strings.HasPrefix(src[pos:], "==") {
			return token{}, faultAt(pos, "equal is written =")
		}
		return token{symbol, src[pos : pos+1], pos, pos + 1}, nil
	case b == '<' || b == '>':
		n := 1
		if two := src[pos:min(pos+2, len(src))]; two == "<>" || two == "<=" || two == ">=" {
			n = 2
		}
		return token{symbol, src[pos : pos+n], pos, pos + n}, nil
	}
	if n := nameLength(src[pos:]); n > 0 {
		return token{word, src[pos : pos+n], pos, pos + n}, nil
	}
	r, _ := utf8.DecodeRuneInString(src[pos:])
	if cure := cures[src[pos]]; cure != "" {
		return token{}, faultAt(pos, "%q is not understood: %s", r, cure)
	}
	return token{}, faultAt(pos, "%q is not understood here", r)
}

// nameLength is the length of the name that s begins with: letters, digits and _, no digit first.
func nameLength(s string) int {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || r < '0' || r > '9') {
			return i
		}
	}
	return len(s)
}

// lexQuoted reads a text in ' or ". The quote itself is written twice; a backslash is a character like any other.
func lexQuoted(src string, pos int) (token, error) {
	quote := src[pos : pos+1]
	for i := pos + 1; ; {
		n := strings.Index(src[i:], quote)
		if n < 0 {
			return token{}, faultAt(pos, "the text that begins here has no closing %s", quote)
		}
		if i += n + 1; i < len(src) && src[i] == quote[0] {
			i++
			continue
		}
		return token{quoted, strings.ReplaceAll(src[pos+1:i-1], quote+quote, quote), pos, i}, nil
	}
}

// lexNumber reads \d+(\.\d+)?([eE][+-]?\d+)?.
func lexNumber(src string, pos int) (token, error) {
	i := pos + countDigits(src[pos:])
	if i+1 < len(src) && src[i] == '.' && countDigits(src[i+1:]) > 0 {
		i += 1 + countDigits(src[i+1:])
	}
	if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
		j := i + 1
		if j < len(src) && (src[j] == '+' || src[j] == '-') {
			j++
		}
		if n := countDigits(src[j:]); n > 0 {
			i = j + n
		}
	}
	if n := nameLength(src[i:]); n > 0 {
		return token{}, faultAt(pos, "%q is neither number nor name: for a name that begins with a digit use get(*, \"name\")", clip(src[pos:i+n]))
	}
	return token{number, src[pos:i], pos, i}, nil
}
