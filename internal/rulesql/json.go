package rulesql

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	errTooDeep = errors.New("the JSON text nests too deep")
	errNotJSON = errors.New("the text is not JSON")
)

// parseJSON reads one JSON value (RFC 8259), with exact numbers and members in their order. Texts without escapes share s.
func parseJSON(s string) (Value, error) {
	if !utf8.ValidString(s) {
		return Value{}, errNotJSON
	}
	r := &reader{s: s}
	v, err := r.value(0)
	if err != nil {
		return Value{}, err
	}
	if r.space(); r.i < len(s) {
		return Value{}, errNotJSON
	}
	return v, nil
}

// reader is at place i of its text.
type reader struct {
	s string
	i int
}

func (r *reader) space() {
	for r.i < len(r.s) && (r.s[r.i] == ' ' || r.s[r.i] == '\n' || r.s[r.i] == '\t' || r.s[r.i] == '\r') {
		r.i++
	}
}

// next skips white space and returns the byte there, 0 at the end.
func (r *reader) next() byte {
	r.space()
	if r.i < len(r.s) {
		return r.s[r.i]
	}
	return 0
}

func (r *reader) value(depth int) (Value, error) {
	switch b := r.next(); b {
	case '{', '[':
		if depth == MaxDepth {
			return Value{}, errTooDeep
		}
		r.i++
		if b == '{' {
			return r.object(depth)
		}
		return r.array(depth)
	case '"':
		s, err := r.text()
		return textValue(s), err
	case 't':
		return r.word("true", boolValue(true))
	case 'f':
		return r.word("false", boolValue(false))
	case 'n':
		return r.word("null", Value{kind: null})
	}
	return r.number()
}

func (r *reader) word(w string, v Value) (Value, error) {
	if !strings.HasPrefix(r.s[r.i:], w) {
		return Value{}, errNotJSON
	}
	r.i += len(w)
	return v, nil
}

func (r *reader) object(depth int) (Value, error) {
	c := &content{names: []string{}}
	for {
		switch r.next() {
		case '"':
		case '}':
			if len(c.names) > 0 {
				return Value{}, errNotJSON
			}
			r.i++
			return Value{kind: object, items: c}, nil
		default:
			return Value{}, errNotJSON
		}
		name, err := r.text()
		if err != nil || r.next() != ':' {
			return Value{}, errNotJSON
		}
		r.i++
		v, err := r.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		c.put(name, v)
		end := r.next()
		r.i++
		if end == '}' {
			return Value{kind: object, items: c}, nil
		}
		if end != ',' || r.next() != '"' {
			return Value{}, errNotJSON
		}
	}
}

func (r *reader) array(depth int) (Value, error) {
	values := []Value{}
	if r.next() == ']' {
		r.i++
		return arrayOf(values), nil
	}
	for {
		v, err := r.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		values = append(values, v)
		end := r.next()
		r.i++
		if end == ']' {
			return arrayOf(values), nil
		}
		if end != ',' {
			return Value{}, errNotJSON
		}
	}
}

// number reads -?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?. One beyond all bounds has no value, so the text counts as no JSON.
func (r *reader) number() (Value, error) {
	start := r.i
	if r.i < len(r.s) && r.s[r.i] == '-' {
		r.i++
	}
	n := countDigits(r.s[r.i:])
	if n == 0 || n > 1 && r.s[r.i] == '0' {
		return Value{}, errNotJSON
	}
	r.i += n
	if r.i < len(r.s) && r.s[r.i] == '.' {
		if n = countDigits(r.s[r.i+1:]); n == 0 {
			return Value{}, errNotJSON
		}
		r.i += n + 1
	}
	if r.i < len(r.s) && (r.s[r.i] == 'e' || r.s[r.i] == 'E') {
		r.i++
		if r.i < len(r.s) && (r.s[r.i] == '+' || r.s[r.i] == '-') {
			r.i++
		}
		if n = countDigits(r.s[r.i:]); n == 0 {
			return Value{}, errNotJSON
		}
		r.i += n
	}
	v := parseNumber(r.s[start:r.i])
	if v.kind == undefined {
		return v, errNotJSON
	}
	return v, nil
}

// text reads a string, whose opening quote is next.
func (r *reader) text() (string, error) {
	r.i++
	start := r.i
	for r.i < len(r.s) {
		switch b := r.s[r.i]; {
		case b == '"':
			r.i++
			return r.s[start : r.i-1], nil
		case b == '\\':
			return r.escaped(start)
		case b < ' ':
			return "", errNotJSON
		}
		r.i++
	}
	return "", errNotJSON
}

// escapes are the characters that may follow a backslash, but for u.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped goes on with a string that has escapes, from start on.
func (r *reader) escaped(start int) (string, error) {
	out := append(make([]byte, 0, r.i-start+32), r.s[start:r.i]...)
	for r.i < len(r.s) {
		b := r.s[r.i]
		r.i++
		switch {
		case b == '"':
			return string(out), nil
		case b < ' ':
			return "", errNotJSON
		case b != '\\':
			out = append(out, b)
		case r.i == len(r.s):
			return "", errNotJSON
		case r.s[r.i] == 'u':
			c, ok := r.unicode()
			if !ok {
				return "", errNotJSON
			}
			out = utf8.AppendRune(out, c)
		case escapes[r.s[r.i]] == 0:
			return "", errNotJSON
		default:
			out = append(out, escapes[r.s[r.i]])
			r.i++
		}
	}
	return "", errNotJSON
}

// unicode reads uXXXX, and the second half of a surrogate pair if there is one; half a pair is U+FFFD.
func (r *reader) unicode() (rune, bool) {
	c, ok := r.hex()
	if !ok || !utf16.IsSurrogate(c) {
		return c, ok
	}
	if strings.HasPrefix(r.s[r.i:], `\u`) {
		back := r.i
		r.i++
		second, ok := r.hex()
		if !ok {
			return 0, false
		}
		if c = utf16.DecodeRune(c, second); c != utf8.RuneError {
			return c, true
		}
		r.i = back
	}
	return utf8.RuneError, true
}

func (r *reader) hex() (rune, bool) {
	if r.i+5 > len(r.s) {
		return 0, false
	}
	var c rune
	for _, b := range []byte(r.s[r.i+1 : r.i+5]) {
		switch {
		case b >= '0' && b <= '9':
			b -= '0'
		case b >= 'a' && b <= 'f':
			b -= 'a' - 10
		case b >= 'A' && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		c = c<<4 | rune(b)
	}
	r.i += 5
	return c, true
}

// writer writes values as compact JSON text. It stops where the text passes limit, and says so.
type writer struct {
	whole bool // numbers without fraction are Ints: SQL version 2016-03-23
	limit int
	over  bool
}

func (w *writer) value(b []byte, v Value) []byte {
	if len(b) > w.limit {
		w.over = true
		return b
	}
	switch v.kind {
	case null:
		return append(b, "null"...)
	case boolean:
		return strconv.AppendBool(b, v.n == 1)
	case integer, decimal:
		if w.whole {
			v = v.whole()
		}
		return appendNumber(b, v)
	case text:
		return appendText(b, v.s)
	case raw:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, []byte(v.s))
		return append(b, '"')
	case array:
		return w.list(b, v.items, '[', ']')
	case object:
		return w.list(b, v.items, '{', '}')
	}
	return b
}

// list writes elements or members, without those that are Undefined.
func (w *writer) list(b []byte, c *content, open, end byte) []byte {
	b = append(b, open)
	first := true
	for i := range c.values {
		if c.values[i].kind == undefined {
			continue
		}
		if w.over {
			return b
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		if open == '{' {
			b = append(appendText(b, c.names[i]), ':')
		}
		b = w.value(b, c.values[i])
	}
	return append(b, end)
}

// appendText writes a JSON string with no more escapes than needed.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[start:]...), '"')
}
