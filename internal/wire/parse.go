package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of what a client may send, far above what any operation needs.
const (
	maxDepth  = 64
	maxValues = 50_000
)

// A long is a JSON string of more than longText bytes. It is a part of the body, which was copied from nowhere and is copied nowhere: an
// upload takes its own size in memory, once. Whoever decodes it does so in its place.
type long []byte

const longText = 1 << 20

// parseJSON reads one JSON value. Beyond the grammar it refuses invalid UTF-8, doubled names, deep nesting and huge numbers of
// values: whatever two parsers might understand differently. The value may share data, which then belongs to it (see long).
func parseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, serialization("The body is not valid UTF-8")
	}
	if !json.Valid(data) {
		return nil, serialization("The body is not valid JSON")
	}
	p := jsonParser{data: data}
	return p.value(0)
}

// A jsonParser walks through data, of which it is known that it is valid.
type jsonParser struct {
	data   []byte
	at     int
	values int
}

func (p *jsonParser) value(depth int) (any, error) {
	if p.values++; p.values > maxValues {
		return nil, serialization("The body holds more than %d values", maxValues)
	}
	if depth > maxDepth {
		return nil, serialization("The body is nested more than %d levels deep", maxDepth)
	}
	switch c := p.next(); c {
	case '[':
		return p.list(depth)
	case '{':
		return p.object(depth)
	case '"':
		raw := p.quoted()
		if len(raw) > longText {
			return long(unescape(raw[:0], raw)), nil
		}
		return textOf(raw), nil
	case 't':
		p.at += len("true")
		return true, nil
	case 'f':
		p.at += len("false")
		return false, nil
	case 'n':
		p.at += len("null")
		return nil, nil
	}
	from := p.at
	for p.at < len(p.data) && bytes.IndexByte([]byte(" \t\r\n,]}"), p.data[p.at]) < 0 {
		p.at++
	}
	return json.Number(p.data[from:p.at]), nil
}

// next skips white space and what stands between values, and returns the byte that it stops at.
func (p *jsonParser) next() byte {
	for bytes.IndexByte([]byte(" \t\r\n,:"), p.data[p.at]) >= 0 {
		p.at++
	}
	return p.data[p.at]
}

func (p *jsonParser) list(depth int) (any, error) {
	list := []any{}
	for p.at++; p.next() != ']'; {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	p.at++
	return list, nil
}

func (p *jsonParser) object(depth int) (any, error) {
	obj := map[string]any{}
	for p.at++; p.next() != '}'; {
		name := textOf(p.quoted())
		if _, doubled := obj[name]; doubled {
			return nil, serialization("The body gives a member twice")
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		obj[name] = v
	}
	p.at++
	return obj, nil
}

// quoted returns what stands between the quotes that the parser is at, and goes behind them.
func (p *jsonParser) quoted() []byte {
	p.at++
	from := p.at
	for p.data[p.at] != '"' {
		if p.data[p.at] == '\\' {
			p.at++
		}
		p.at++
	}
	p.at++
	return p.data[from : p.at-1]
}

// textOf is the text that the inside of a JSON string stands for.
func textOf(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	return string(unescape(nil, raw))
}

// unescape appends the text that the inside of a JSON string stands for to dst, which may be raw[:0]: no escape is shorter than what it
// stands for. Halves of surrogate pairs become U+FFFD, as in encoding/json.
func unescape(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := codeUnit(raw)
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				var second rune
				if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
					second = codeUnit(raw[2:])
				}
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					raw = raw[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		default: // " \ /
			dst = append(dst, c)
		}
	}
}

// codeUnit reads four hexadecimal digits.
func codeUnit(b []byte) rune {
	var u [2]byte
	_, _ = hex.Decode(u[:], b[:4]) // digits, since the JSON is valid
	return rune(binary.BigEndian.Uint16(u[:]))
}

// decodeInPlace decodes base64 into the memory that it stands in, and is as strict as encoding/base64 is with a text.
func decodeInPlace(b long) ([]byte, error) {
	if i := bytes.IndexByte(b, '='); i >= 0 && len(bytes.Trim(b[i:], "=\r\n")) > 0 {
		return nil, base64.CorruptInputError(i) // a stream may go on behind its padding
	}
	var some [32 << 10]byte // the decoder may use more of what it is given than it says
	d := base64.NewDecoder(base64.StdEncoding, bytes.NewReader(b))
	for done := 0; ; {
		n, err := d.Read(some[:])
		done += copy(b[done:], some[:n]) // what is written stays behind what is read
		if err == io.EOF {
			return b[:done:done], nil
		}
		if err != nil {
			return nil, err
		}
	}
}
