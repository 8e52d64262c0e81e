package wire

import (
	"encoding/base64"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendJSON writes v as its plan says. Absent members are left out, as AWS does (iot-core spec 1.4). only selects the members of
// the outermost struct; nil takes all.
func appendJSON(dst []byte, p *plan, v reflect.Value, only func(*field) bool) []byte {
	v, ok := p.deref(v)
	switch p.kind {
	case kStruct:
		if !ok {
			return append(dst, "{}"...)
		}
		return appendObject(dst, p, v, only)
	case kList:
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, p.elem, v.Index(i), nil)
		}
		return append(dst, ']')
	case kMap:
		dst = append(dst, '{')
		for i, k := range sortedKeys(v) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, k.String()), ':')
			dst = appendJSON(dst, p.elem, v.MapIndex(k), nil)
		}
		return append(dst, '}')
	case kBool:
		return strconv.AppendBool(dst, v.Bool())
	case kInt:
		return strconv.AppendInt(dst, v.Int(), 10)
	case kFloat:
		return appendFloat(dst, v.Float())
	case kDocument:
		return append(dst, v.Bytes()...)
	case kTime:
		return appendTime(dst, v.Interface().(time.Time), p.rule)
	case kBlob:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v.Bytes())
		return append(dst, '"')
	}
	return appendString(dst, v.String())
}

func appendObject(dst []byte, p *plan, v reflect.Value, only func(*field) bool) []byte {
	dst = append(dst, '{')
	first := true
	for i := range p.fields {
		f := &p.fields[i]
		if only != nil && !only(f) {
			continue
		}
		fv := v.Field(f.index)
		if _, present := f.deref(fv); !present && (!f.required || f.ptr) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, f.name), ':')
		dst = appendJSON(dst, f.plan, fv, nil)
	}
	return append(dst, '}')
}

// appendFloat writes what JSON can hold; NaN and the infinities travel as strings, as in AWS's protocols.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// appendTime writes seconds since the epoch with up to three decimals, unless the shape wants text.
func appendTime(dst []byte, t time.Time, r *rule) []byte {
	if r != nil && (r.Time == "iso8601" || r.Time == "rfc822") {
		return appendString(dst, timeText(t, r.Time))
	}
	ms := t.UnixMilli()
	if ms%1000 == 0 {
		return strconv.AppendInt(dst, ms/1000, 10)
	}
	return strconv.AppendFloat(dst, float64(ms)/1000, 'f', 3, 64)
}

// timeText writes a timestamp as text: ISO 8601 without a fraction, as STS and IAM do, or as HTTP headers do.
func timeText(t time.Time, format string) string {
	switch format {
	case "unixTimestamp":
		return strconv.FormatInt(t.Unix(), 10)
	case "rfc822":
		return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

const hexDigits = "0123456789abcdef"

// appendString quotes s. Invalid UTF-8 becomes U+FFFD; nothing is escaped for HTML's sake.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < 0x20 || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		case r == '\u2028' || r == '\u2029': // line ends in JavaScript
			dst = append(dst, '\\', 'u', '2', '0', '2', hexDigits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	return keys
}
