package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A form is a tree of awsQuery parameters: Tags.member.1.Key=a is form{"Tags": form{"member": form{"1": form{"Key": text("a")}}}}.
type form map[string]any

// parseForm makes the tree of url-encoded parameters, of the query string and the body together. A doubled parameter is refused.
func parseForm(parts ...string) (form, error) {
	root, n := form{}, 0
	for _, part := range parts {
		for part != "" {
			var pair string
			pair, part, _ = strings.Cut(part, "&")
			if pair == "" {
				continue
			}
			k, v, _ := strings.Cut(pair, "=")
			key, err := url.QueryUnescape(k)
			if err != nil {
				return nil, serialization("A parameter's name is not percent-encoded as it should be")
			}
			if n += 1 + strings.Count(key, "."); n > maxValues { // each level may be a map of its own
				return nil, serialization("The request has more than %d parameters, levels included", maxValues)
			}
			value, err := url.QueryUnescape(v)
			if err != nil || !utf8.ValidString(value) || !utf8.ValidString(key) {
				return nil, serialization("Parameter %.100q is not percent-encoded UTF-8", key)
			}
			if err := root.put(key, value); err != nil {
				return nil, err
			}
		}
	}
	return root, nil
}

func (f form) put(key, value string) error {
	path := strings.Split(key, ".")
	if len(path) > maxDepth {
		return serialization("A parameter is nested more than %d levels deep", maxDepth)
	}
	for _, name := range path[:len(path)-1] {
		switch next := f[name].(type) {
		case nil:
			sub := form{}
			f[name] = sub
			f = sub
		case form:
			f = next
		default:
			return serialization("Parameter %.100q contradicts another one", key)
		}
	}
	last := path[len(path)-1]
	if f[last] != nil {
		return serialization("Parameter %.100q is given twice", key)
	}
	f[last] = text(value)
	return nil
}

// list reads Name.member.N (or Name.N if the list is flattened) in the order of the numbers.
func (f form) list() ([]any, bool) {
	if m, ok := f["member"]; ok && len(f) == 1 {
		if f, ok = m.(form); !ok {
			return nil, m == text("") // Name.member= is how some clients send an empty list
		}
	}
	type item struct {
		n int
		v any
	}
	items := make([]item, 0, len(f))
	for k, v := range f {
		n, err := strconv.Atoi(k)
		if err != nil || n < 1 || k[0] == '0' || k[0] == '+' {
			return nil, false
		}
		items = append(items, item{n, v})
	}
	slices.SortFunc(items, func(a, b item) int { return a.n - b.n })
	list := make([]any, len(items))
	for i, it := range items {
		list[i] = it.v
	}
	return list, true
}

// entries reads Name.entry.N.key and Name.entry.N.value.
func (f form) entries() (map[string]any, bool) {
	if e, ok := f["entry"]; ok && len(f) == 1 {
		if f, ok = e.(form); !ok {
			return nil, false
		}
	}
	list, ok := f.list()
	if !ok {
		return nil, false
	}
	m := map[string]any{}
	for _, it := range list {
		e, ok := it.(form)
		if !ok {
			return nil, false
		}
		k, ok := e["key"].(text)
		if _, doubled := m[string(k)]; doubled || !ok {
			return nil, false
		}
		m[string(k)] = e["value"]
	}
	return m, true
}

// queryResponse writes an awsQuery answer. An operation without an output shape has no Result element; one whose output has no
// members has an empty one, which botocore wants to see (identity spec 4).
func queryResponse(m *Model, op *Operation, p *plan, v reflect.Value, requestID string) []byte {
	var b bytes.Buffer
	b.WriteString("<" + op.Name + `Response xmlns="` + m.Namespace + `">`)
	if !op.NoOutput {
		b.WriteString("<" + op.Name + "Result>")
		xmlMembers(&b, p, v)
		b.WriteString("</" + op.Name + "Result>")
	}
	b.WriteString("<ResponseMetadata>")
	xmlText(&b, "RequestId", requestID)
	b.WriteString("</ResponseMetadata></" + op.Name + "Response>\n")
	return b.Bytes()
}

func xmlMembers(b *bytes.Buffer, p *plan, v reflect.Value) {
	v, ok := p.deref(v)
	if !ok {
		return
	}
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index)
		if _, present := f.deref(fv); !present && (!f.required || f.ptr) {
			continue
		}
		if f.flat && f.kind == kList {
			for i := range fv.Len() {
				xmlValue(b, f.name, f.elem, fv.Index(i))
			}
			continue
		}
		xmlValue(b, f.name, f.plan, fv)
	}
}

func xmlValue(b *bytes.Buffer, name string, p *plan, v reflect.Value) {
	v, _ = p.deref(v)
	switch p.kind {
	case kStruct, kList, kMap:
		b.WriteString("<" + name + ">")
		switch p.kind {
		case kStruct:
			q := *p
			q.ptr = false
			xmlMembers(b, &q, v)
		case kList:
			for i := range v.Len() {
				xmlValue(b, "member", p.elem, v.Index(i))
			}
		case kMap:
			for _, k := range sortedKeys(v) {
				b.WriteString("<entry>")
				xmlText(b, "key", k.String())
				xmlValue(b, "value", p.elem, v.MapIndex(k))
				b.WriteString("</entry>")
			}
		}
		b.WriteString("</" + name + ">")
	default:
		xmlText(b, name, scalarText(p, v, "iso8601"))
	}
}

func xmlText(b *bytes.Buffer, name, s string) {
	b.WriteString("<" + name + ">")
	xml.EscapeText(b, []byte(s))
	b.WriteString("</" + name + ">")
}

// scalarText writes a present scalar as text, for XML and headers.
func scalarText(p *plan, v reflect.Value, timeFormat string) string {
	switch p.kind {
	case kBool:
		return strconv.FormatBool(v.Bool())
	case kInt:
		return strconv.FormatInt(v.Int(), 10)
	case kFloat:
		return plain(v.Float())
	case kTime:
		if p.rule != nil && p.rule.Time != "" {
			timeFormat = p.rule.Time
		}
		return timeText(v.Interface().(time.Time), timeFormat)
	case kBlob:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	}
	s := v.String()
	if p.rule != nil && p.rule.Escape {
		s = percentEncode(s)
	}
	return s
}

// percentEncode escapes all but the unreserved characters of RFC 3986.
func percentEncode(s string) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', upper[c>>4], upper[c&15]})
		}
	}
	return b.String()
}
