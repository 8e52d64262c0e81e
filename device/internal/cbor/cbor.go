// Package cbor speaks the small part of CBOR (RFC 8949) that the provisioning topics carry: maps of text to text, integers
// and further maps. Begin with AppendMap and Decode.
//
// A general library would add 400 KB to the device's program for what stands in this file.
package cbor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Major types (RFC 8949 section 3.1), in the upper three bits of an item's first byte.
const (
	majorUint   = 0 << 5
	majorNegint = 1 << 5
	majorBytes  = 2 << 5
	majorText   = 3 << 5
	majorArray  = 4 << 5
	majorMap    = 5 << 5
	majorTag    = 6 << 5
	majorSimple = 7 << 5

	indefinite = 31
	breakCode  = majorSimple | indefinite
)

// Bounds of what Decode accepts, far above any answer of the service.
const (
	maxDepth = 8
	maxItems = 4096 // of the whole document
)

// Map is a map as Decode returns it and AppendMap takes it: values are string, int64, bool, nil, float64, []any, Map or
// map[string]string; byte strings are given as string.
type Map = map[string]any

var errMalformed = errors.New("malformed CBOR")

// AppendMap appends m with sorted keys and definite lengths (provisioning spec 3.9). It panics on a value that it cannot
// write: only strings, integers and maps of these occur in requests.
func AppendMap(b []byte, m Map) []byte {
	b = appendHead(b, majorMap, uint64(len(m)))
	for _, k := range sortedKeys(m) {
		b = appendText(b, k)
		switch v := m[k].(type) {
		case string:
			b = appendText(b, v)
		case int:
			b = appendHead(b, majorUint, uint64(v))
		case Map:
			b = AppendMap(b, v)
		case map[string]string:
			b = appendHead(b, majorMap, uint64(len(v)))
			for _, k := range sortedKeys(v) {
				b = appendText(appendText(b, k), v[k])
			}
		default:
			panic(fmt.Sprintf("cbor: cannot write a %T", v))
		}
	}
	return b
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

// Decode reads one map that fills b. Keys must be text and must not repeat.
func Decode(b []byte) (Map, error) {
	d := decoder{b: b, items: maxItems}
	v, err := d.item(0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(Map)
	if !ok {
		return nil, fmt.Errorf("%w: not a map", errMalformed)
	}
	if len(d.b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the map", errMalformed, len(d.b))
	}
	return m, nil
}

type decoder struct {
	b     []byte
	items int // how many more items we read
}

// head reads the first byte of an item and its argument.
func (d *decoder) head() (major, info byte, n uint64, err error) {
	if len(d.b) == 0 {
		return 0, 0, 0, errMalformed
	}
	major, info = d.b[0]&0xe0, d.b[0]&0x1f
	d.b = d.b[1:]
	if info < 24 || info == indefinite {
		return major, info, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, 0, errMalformed
	}
	size := 1 << (info - 24)
	if len(d.b) < size {
		return 0, 0, 0, errMalformed
	}
	for _, c := range d.b[:size] {
		n = n<<8 | uint64(c)
	}
	d.b = d.b[size:]
	return major, info, n, nil
}

func (d *decoder) item(depth int) (any, error) {
	if d.items--; d.items < 0 || depth > maxDepth {
		return nil, fmt.Errorf("%w: too large", errMalformed)
	}
	major, info, n, err := d.head()
	if err != nil {
		return nil, err
	}
	if info == indefinite && (major == majorUint || major == majorNegint || major == majorTag || major == majorSimple) {
		return nil, errMalformed
	}
	switch major {
	case majorUint, majorNegint:
		if n > math.MaxInt64 {
			return nil, fmt.Errorf("%w: integer too large", errMalformed)
		}
		if major == majorNegint {
			return -1 - int64(n), nil
		}
		return int64(n), nil
	case majorBytes, majorText:
		return d.text(major, info, n)
	case majorArray:
		return d.array(info, n, depth)
	case majorMap:
		return d.mapping(info, n, depth)
	case majorTag:
		return d.item(depth + 1) // the tag adds nothing that we use
	}
	return simple(info, n)
}

// text reads a string of known length, or the chunks of one of unknown length.
func (d *decoder) text(major, info byte, n uint64) (string, error) {
	var s []byte
	for {
		if info == indefinite {
			var m, i byte
			var err error
			if m, i, n, err = d.head(); err != nil {
				return "", err
			}
			if m|i == breakCode {
				break
			}
			if m != major || i == indefinite {
				return "", errMalformed
			}
		}
		if n > uint64(len(d.b)) {
			return "", errMalformed
		}
		s = append(s, d.b[:n]...)
		d.b = d.b[n:]
		if info != indefinite {
			break
		}
	}
	if major == majorText && !utf8.Valid(s) {
		return "", fmt.Errorf("%w: text is not UTF-8", errMalformed)
	}
	return string(s), nil
}

// more reports whether a collection has another entry; left counts down if its length is known.
func (d *decoder) more(info byte, left *uint64) bool {
	if info != indefinite {
		*left--
		return *left != math.MaxUint64
	}
	if len(d.b) > 0 && d.b[0] == breakCode {
		d.b = d.b[1:]
		return false
	}
	return true
}

func (d *decoder) array(info byte, n uint64, depth int) ([]any, error) {
	var a []any
	for d.more(info, &n) {
		v, err := d.item(depth + 1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	return a, nil
}

func (d *decoder) mapping(info byte, n uint64, depth int) (Map, error) {
	m := Map{}
	for d.more(info, &n) {
		k, err := d.item(depth + 1)
		if err != nil {
			return nil, err
		}
		key, ok := k.(string)
		if _, twice := m[key]; !ok || twice {
			return nil, fmt.Errorf("%w: key is no text, or repeats", errMalformed)
		}
		if m[key], err = d.item(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// simple reads false, true, null, undefined and floating-point numbers (RFC 8949 section 3.3).
func simple(info byte, n uint64) (any, error) {
	switch info {
	case 20, 21:
		return info == 21, nil
	case 22, 23:
		return nil, nil
	case 26:
		return float64(math.Float32frombits(uint32(n))), nil
	case 27:
		return math.Float64frombits(n), nil
	}
	return nil, fmt.Errorf("%w: value of kind %d", errMalformed, info)
}
