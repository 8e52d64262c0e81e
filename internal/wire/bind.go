package wire

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Input of every protocol is first read into a tree of plain values, then bound to the operation's struct by the one
// function below, which checks it on the way. A tree consists of
//
//	nil                              absent
//	string, bool, json.Number        JSON
//	[]any, map[string]any            JSON, CBOR
//	[]byte, int64, uint64, float64   CBOR
//	long                             a JSON string of a megabyte or more (parse.go)
//	text                             a form value, path label, header: its type is what the member wants
//	form                             awsQuery (query.go)
type text string

// A binder gathers what is wrong with an input: constraint violations in problems (all of them are told), the first value
// that has the wrong type in err.
type binder struct {
	problems []string
	err      error
}

// maxProblems bounds the length of a validation message.
const maxProblems = 20

// bind puts the tree n, which is not nil, into v and checks it. path names the value in messages.
func (b *binder) bind(p *plan, v reflect.Value, n any, path string) {
	if b.err != nil {
		return
	}
	if p.ptr {
		v.Set(reflect.New(p.typ))
		v = v.Elem()
	}
	switch p.kind {
	case kStruct:
		b.bindStruct(p, v, n, path)
	case kList:
		b.bindList(p, v, n, path)
	case kMap:
		b.bindMap(p, v, n, path)
	default:
		b.bindScalar(p, v, n, path)
	}
	if b.err == nil {
		b.check(p, v, path)
	}
}

func (b *binder) bindStruct(p *plan, v reflect.Value, n any, path string) {
	obj, ok := objectOf(n)
	if !ok {
		b.mismatch(path, "an object", n)
		return
	}
	for i := range p.fields {
		f := &p.fields[i]
		b.bindField(f, v.Field(f.index), obj[f.name], join(path, f.path))
	}
}

func (b *binder) bindField(f *field, v reflect.Value, n any, path string) {
	if n == nil {
		if f.required {
			b.problem("Value null at '%s' failed to satisfy constraint: Member must not be null", path)
		}
		return
	}
	b.bind(f.plan, v, n, path)
}

func (b *binder) bindList(p *plan, v reflect.Value, n any, path string) {
	items, ok := listOf(n)
	if !ok {
		b.mismatch(path, "a list", n)
		return
	}
	v.Set(reflect.MakeSlice(p.typ, len(items), len(items)))
	for i, item := range items {
		at := path + "." + strconv.Itoa(i+1) + ".member"
		if item == nil {
			b.problem("Value null at '%s' failed to satisfy constraint: Member must not be null", at)
			continue
		}
		b.bindElem(p.elem, v.Index(i), item, at)
	}
}

func (b *binder) bindMap(p *plan, v reflect.Value, n any, path string) {
	entries, ok := mapOf(n)
	if !ok {
		b.mismatch(path, "an object", n)
		return
	}
	v.Set(reflect.MakeMapWithSize(p.typ, len(entries)))
	for _, k := range slices.Sorted(maps.Keys(entries)) {
		item := entries[k]
		if item == nil {
			continue // null = absent
		}
		e := reflect.New(p.typ.Elem()).Elem()
		b.bindElem(p.elem, e, item, path+"."+k+".member")
		v.SetMapIndex(reflect.ValueOf(k).Convert(p.typ.Key()), e)
	}
}

// bindElem binds an element of a collection. Constraints of scalar elements are told at the collection (checkElems).
func (b *binder) bindElem(p *plan, v reflect.Value, n any, path string) {
	if p.kind == kStruct || p.kind == kList || p.kind == kMap {
		b.bind(p, v, n, path)
		return
	}
	b.bindScalar(p, v, n, path)
}

func (b *binder) bindScalar(p *plan, v reflect.Value, n any, path string) {
	var ok bool
	switch p.kind {
	case kString:
		var s string
		if s, ok = stringOf(n); ok {
			v.SetString(s)
		}
	case kBool:
		var x bool
		if x, ok = boolOf(n); ok {
			v.SetBool(x)
		}
	case kInt:
		var i int64
		if i, ok = intOf(n); ok && p.typ.Kind() == reflect.Int && int64(int32(i)) != i {
			ok = false // the model's integer has 32 bits
		}
		if ok {
			v.SetInt(i)
		}
	case kFloat:
		var x float64
		if x, ok = floatOf(n); ok {
			v.SetFloat(x)
		}
	case kTime:
		var t time.Time
		if t, ok = timeOf(n); ok {
			v.Set(reflect.ValueOf(t))
		}
	case kBlob:
		var raw []byte
		if raw, ok = blobOf(n); ok {
			v.SetBytes(raw)
		}
	case kDocument:
		var raw []byte
		if raw, ok = documentOf(n); ok {
			v.SetBytes(raw)
		}
	}
	if !ok {
		b.mismatch(path, wanted[p.kind], n)
	}
}

var wanted = map[kind]string{kString: "a string", kBool: "true or false", kInt: "a whole number", kFloat: "a number",
	kTime: "a timestamp", kBlob: "base64 data", kDocument: "JSON"}

// mismatch records a value of the wrong type. The value itself is not told: it may be secret.
func (b *binder) mismatch(path, want string, n any) {
	got := "something else"
	switch n.(type) {
	case string, long:
		got = "a string"
	case json.Number, int64, uint64, float64:
		got = "a number"
	case bool:
		got = "a boolean"
	case []any:
		got = "a list"
	case map[string]any:
		got = "an object"
	case text:
		got = "other text"
	case []byte:
		got = "a byte string"
	}
	if path == "" {
		path = "The request"
	}
	b.err = serialization("%s must be %s, found %s", path, want, got)
}

func serialization(format string, args ...any) *fleet.Error {
	return fleet.Invalid("", "", format, args...).WithCode(codeSerialization)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func stringOf(n any) (string, bool) {
	switch x := n.(type) {
	case string:
		return x, true
	case text:
		return string(x), true
	case long:
		return string(x), true
	}
	return "", false
}

func boolOf(n any) (bool, bool) {
	switch x := n.(type) {
	case bool:
		return x, true
	case text: // the CLI writes true, the documentation TRUE (iot-core spec 1.2)
		switch strings.ToLower(string(x)) {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	return false, false
}

func intOf(n any) (int64, bool) {
	switch x := n.(type) {
	case int64:
		return x, true
	case uint64:
		return int64(x), x <= math.MaxInt64
	case json.Number:
		if i, err := strconv.ParseInt(string(x), 10, 64); err == nil {
			return i, true
		}
		f, err := x.Float64() // 5.0 and 1e3 are whole
		return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
	case text:
		i, err := strconv.ParseInt(string(x), 10, 64)
		return i, err == nil
	}
	return 0, false
}

func floatOf(n any) (float64, bool) {
	switch x := n.(type) {
	case float64:
		return x, true
	case int64:
		return float64(x), true
	case uint64:
		return float64(x), true
	case json.Number:
		f, err := x.Float64()
		return f, err == nil
	case text:
		f, err := strconv.ParseFloat(string(x), 64)
		return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}

// timeOf reads seconds since the epoch, with a fraction, or one of the text forms that AWS protocols use.
func timeOf(n any) (time.Time, bool) {
	s, isText := stringOf(n)
	if isText {
		for _, layout := range []string{time.RFC3339Nano, "Mon, 02 Jan 2006 15:04:05 GMT", "20060102T150405Z"} {
			if t, err := time.Parse(layout, s); err == nil {
				return t.UTC(), true
			}
		}
		if _, ok := n.(string); ok {
			return time.Time{}, false
		}
	}
	f, ok := floatOf(n)
	if !ok || !(math.Abs(f) <= 253402300799) { // year 9999; what is no number is not within it, either
		return time.Time{}, false
	}
	whole, frac := math.Modf(f)
	return time.Unix(int64(whole), int64(math.Round(frac*1e6))*1000).UTC(), true
}

func blobOf(n any) ([]byte, bool) {
	switch x := n.(type) {
	case []byte:
		return x, true
	case long:
		raw, err := decodeInPlace(x)
		return raw, err == nil
	}
	s, ok := stringOf(n)
	if !ok {
		return nil, false
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, false
	}
	return raw, true
}

// documentOf writes a tree as JSON again. Protocols other than JSON have no documents.
func documentOf(n any) ([]byte, bool) {
	if !isDocument(n) {
		return nil, false
	}
	raw, err := json.Marshal(n)
	return raw, err == nil
}

func isDocument(n any) bool {
	switch x := n.(type) {
	case nil, string, bool, json.Number:
		return true
	case []any:
		return !slices.ContainsFunc(x, func(item any) bool { return !isDocument(item) })
	case map[string]any:
		for _, item := range x {
			if !isDocument(item) {
				return false
			}
		}
		return true
	}
	return false
}

// objectOf, listOf and mapOf take collections apart. An empty form value is an empty collection.
func objectOf(n any) (map[string]any, bool) {
	switch x := n.(type) {
	case map[string]any:
		return x, true
	case form:
		return x, true
	}
	return nil, n == text("")
}

func listOf(n any) ([]any, bool) {
	switch x := n.(type) {
	case []any:
		return x, true
	case form:
		return x.list()
	}
	return nil, n == text("")
}

func mapOf(n any) (map[string]any, bool) {
	switch x := n.(type) {
	case map[string]any:
		return x, true
	case form:
		return x.entries()
	}
	return nil, n == text("")
}
