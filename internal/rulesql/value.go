package rulesql

import (
	"math/big"
	"strings"
	"unicode/utf8"
)

// kind is the type of a value (iot-core spec 8.3).
type kind uint8

const (
	undefined kind = iota // no value; left out wherever values are written
	null
	boolean
	integer
	decimal
	text
	array
	object
	raw // the bytes of a payload that is neither JSON object nor array
)

// A Value is what expressions work on. Values are immutable and share their parts. The zero Value is Undefined.
type Value struct {
	kind  kind
	exp   int32    // of a number: its power of ten; 0 of an Int
	n     int64    // of a number: its coefficient, unless big is set; 1 of true
	s     string   // of a text, and the bytes of raw
	big   *big.Int // of a number whose coefficient does not fit into n
	items *content // of an array or object
}

// content holds the elements of an array, or the members of an object in their order.
type content struct {
	names  []string // nil of an array
	values []Value
	index  map[string]int // of a large object: where its names are
}

// indexFrom is the number of members from which on an object has an index.
const indexFrom = 32

func boolValue(b bool) Value {
	if b {
		return Value{kind: boolean, n: 1}
	}
	return Value{kind: boolean}
}

func textValue(s string) Value { return Value{kind: text, s: s} }

func arrayOf(values []Value) Value { return Value{kind: array, items: &content{values: values}} }

// Strings makes the object that has these texts as members, for example the parameters of a device.
func Strings(members map[string]string) Value {
	c := &content{names: make([]string, 0, len(members))}
	for name, s := range members {
		c.put(name, textValue(s))
	}
	return Value{kind: object, items: c}
}

// JSON reads a value from JSON text of at most MaxMessage bytes; of members with one name the last counts.
func JSON(doc []byte) (Value, error) {
	if len(doc) > MaxMessage {
		return Value{}, limit("a document has %d bytes: at most %d are read", len(doc), MaxMessage)
	}
	return parseJSON(string(doc))
}

func (v Value) isTrue() bool { return v.kind == boolean && v.n == 1 }

func (v Value) isNumber() bool { return v.kind == integer || v.kind == decimal }

// String shows the value in a sentence: JSON text, or Undefined.
func (v Value) String() string {
	switch v.kind {
	case undefined:
		return "Undefined"
	case raw:
		return "bytes"
	}
	return string((&writer{limit: MaxResult}).value(nil, v))
}

// find returns the place of a member. Of equal names put keeps one only.
func (c *content) find(name string) int {
	if c.index != nil {
		if i, ok := c.index[name]; ok {
			return i
		}
		return -1
	}
	for i, n := range c.names {
		if n == name {
			return i
		}
	}
	return -1
}

// put sets a member of an object that nobody else has yet.
func (c *content) put(name string, v Value) {
	if i := c.find(name); i >= 0 {
		c.values[i] = v
		return
	}
	c.names, c.values = append(c.names, name), append(c.values, v)
	switch {
	case c.index != nil:
		c.index[name] = len(c.names) - 1
	case len(c.names) == indexFrom:
		c.index = make(map[string]int, 2*indexFrom)
		for i, n := range c.names {
			c.index[n] = i
		}
	}
}

// copy returns an object with the same members that may be changed.
func (c *content) copy() *content {
	out := &content{names: append(make([]string, 0, len(c.names)+4), c.names...), values: append(make([]Value, 0, len(c.names)+4), c.values...)}
	if c.index != nil {
		out.index = make(map[string]int, len(c.index)+4)
		for i, n := range out.names {
			out.index[n] = i
		}
	}
	return out
}

// member returns a member of an object; of anything else, and where there is none, Undefined.
func (v Value) member(name string) Value {
	if v.kind == object {
		if i := v.items.find(name); i >= 0 {
			return v.items.values[i]
		}
	}
	return Value{}
}

// toDecimal is the standard conversion to a number (iot-core spec 8.3); what has none, Null too, is Undefined.
func (v Value) toDecimal() Value {
	switch v.kind {
	case integer, decimal:
		return v
	case text:
		if isNumberText(v.s) {
			if v = parseNumber(v.s); v.kind == integer {
				v.kind = decimal
			}
			return v
		}
	}
	return Value{}
}

// toInt is the standard conversion to a whole number: numbers are rounded to the nearest, texts are cut off.
func (v Value) toInt() Value {
	if v.kind == text {
		return v.toDecimal().rounded(cut)
	}
	return v.toDecimal().rounded(nearest)
}

// toIntDown is the conversion that functions have which round down.
func (v Value) toIntDown() Value { return v.toDecimal().rounded(down) }

// rounded is round for what may be Undefined.
func (v Value) rounded(how rounding) Value {
	if v.kind == undefined {
		return v
	}
	return v.round(how)
}

// toBool is the standard conversion to Boolean: texts may be true or false, in any case.
func (v Value) toBool() Value {
	switch {
	case v.kind == boolean:
		return v
	case v.kind == text && strings.EqualFold(v.s, "true"):
		return boolValue(true)
	case v.kind == text && strings.EqualFold(v.s, "false"):
		return boolValue(false)
	}
	return Value{}
}

// equal compares two values that are not Undefined: types that differ make a difference, Int and Decimal do not. It costs steps.
func (e *evaluation) equal(a, b Value) bool {
	if !e.step(1) {
		return false
	}
	if a.isNumber() && b.isNumber() {
		return e.calculate(a, b) && compare(a, b) == 0
	}
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case boolean:
		return a.n == b.n
	case text, raw:
		return a.s == b.s
	case array:
		if len(a.items.values) != len(b.items.values) {
			return false
		}
		for i := range a.items.values {
			if !e.equal(a.items.values[i], b.items.values[i]) {
				return false
			}
		}
	case object:
		if len(a.items.names) != len(b.items.names) {
			return false
		}
		for i, name := range a.items.names {
			if other := b.member(name); !e.step(len(b.items.names)/8) || other.kind == undefined || !e.equal(a.items.values[i], other) {
				return false
			}
		}
	}
	return true
}

// characters counts what length, substring, indexof and get count: Unicode characters.
func characters(s string) int { return utf8.RuneCountInString(s) }

// slice returns the characters from (inclusive) to to (exclusive) of s; 0 <= from <= to.
func slice(s string, from, to int) string {
	start, end, n := len(s), len(s), 0
	for i := range s {
		if n == from {
			start = i
		}
		if n == to {
			end = i
			break
		}
		n++
	}
	return s[min(start, end):end]
}
