package template

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds nesting. A policy document within a template uses about ten levels, its functions a few more.
const maxDepth = 40

// A node is a JSON value that remembers the order of its keys, so that a policy document keeps the shape its author gave it.
type node struct {
	kind  nodeKind
	text  string   // of a string; a number's literal; "true" or "false"
	keys  []string // of an object, as written
	items []node   // of an array; of an object, beside keys
	line  int      // in the text it was read from, from 1
}

type nodeKind int

const (
	nullNode nodeKind = iota
	boolNode
	numberNode
	stringNode
	arrayNode
	objectNode
)

func (k nodeKind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// get returns the member of an object with that key.
func (n node) get(key string) (node, bool) {
	for i, k := range n.keys {
		if k == key {
			return n.items[i], true
		}
	}
	return node{}, false
}

// decode reads exactly one JSON value. It refuses invalid UTF-8, duplicate keys (two readers could take different ones,
// RFC 8259 section 4) and nesting beyond maxDepth.
func decode(s string) (node, error) {
	if !utf8.ValidString(s) {
		return node{}, fmt.Errorf("is not valid UTF-8")
	}
	dec := &decoder{Decoder: json.NewDecoder(strings.NewReader(s)), text: s, line: 1}
	dec.UseNumber()
	n, err := decodeValue(dec, 0)
	if err != nil {
		return node{}, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return node{}, fmt.Errorf("is followed by more text")
	}
	return n, nil
}

// A decoder knows on which line it is.
type decoder struct {
	*json.Decoder
	text   string
	line   int
	lineAt int64 // where line was counted
}

// place is the line of the token that was read last. A token has no line breaks in it.
func (d *decoder) place() int {
	at := d.InputOffset()
	d.line += strings.Count(d.text[d.lineAt:at], "\n")
	d.lineAt = at
	return d.line
}

func decodeValue(dec *decoder, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, fmt.Errorf("is nested more than %d levels deep", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return node{}, jsonError(err)
	}
	line := dec.place()
	switch t := tok.(type) {
	case string:
		return node{kind: stringNode, text: t, line: line}, nil
	case json.Number:
		return node{kind: numberNode, text: t.String(), line: line}, nil
	case bool:
		return node{kind: boolNode, text: fmt.Sprint(t), line: line}, nil
	case json.Delim:
		if t == '{' {
			return decodeObject(dec, depth)
		}
		return decodeArray(dec, depth)
	}
	return node{kind: nullNode, line: line}, nil
}

func decodeObject(dec *decoder, depth int) (node, error) {
	n := node{kind: objectNode, line: dec.place()}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return node{}, jsonError(err)
		}
		key := tok.(string) // the decoder accepts nothing else here
		if seen[key] {
			return node{}, fmt.Errorf("has the key %q twice", key)
		}
		seen[key] = true
		item, err := decodeValue(dec, depth+1)
		if err != nil {
			return node{}, err
		}
		n.keys, n.items = append(n.keys, key), append(n.items, item)
	}
	_, err := dec.Token()
	return n, jsonError(err)
}

func decodeArray(dec *decoder, depth int) (node, error) {
	n := node{kind: arrayNode, line: dec.place()}
	for dec.More() {
		item, err := decodeValue(dec, depth+1)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	_, err := dec.Token()
	return n, jsonError(err)
}

func jsonError(err error) error {
	switch err {
	case nil:
		return nil
	case io.EOF:
		return fmt.Errorf("is not JSON: it ends too early")
	}
	return fmt.Errorf("is not JSON: %w", err)
}

// encode appends the compact JSON text of n, keys in their order.
func (n node) encode(b []byte) []byte {
	switch n.kind {
	case nullNode:
		return append(b, "null"...)
	case boolNode, numberNode:
		return append(b, n.text...)
	case stringNode:
		return appendString(b, n.text)
	case arrayNode:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.encode(b)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i, item := range n.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, n.keys[i])
		b = append(b, ':')
		b = item.encode(b)
	}
	return append(b, '}')
}

// appendString appends s as a JSON string without the escapes that HTML needs: documents are shown as their author wrote them.
func appendString(b []byte, s string) []byte {
	var w strings.Builder
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return append(b, strings.TrimSuffix(w.String(), "\n")...)
}
