package wire

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A codec holds the plans of a service: what its struct tags mean, worked out once per type.
//
// A field's tag is wire:"name,flags…" shape:"S": its name on the wire, where it travels (uri, querystring, header, headers,
// statusCode, payload; default: the body), and required, jsonvalue, flat or sensitive. S is a row of the model's table of shapes.
type codec struct {
	shapes map[string]Shape
	mu     sync.Mutex
	plans  map[planKey]*plan
	rules  map[string]*rule
}

type planKey struct {
	t     reflect.Type
	shape string
}

type kind int

const (
	kString kind = iota
	kBool
	kInt
	kFloat
	kTime
	kBlob
	kDocument
	kList
	kMap
	kStruct
)

// A plan says how values of one Go type under one shape are read, checked and written.
type plan struct {
	kind   kind
	ptr    bool         // the Go type is a pointer to what kind says
	typ    reflect.Type // without the pointer
	rule   *rule        // nil: no constraint
	elem   *plan        // of a list or map
	key    *rule        // of a map's keys
	fields []field      // of a struct, in the order of the Go struct
	body   bool         // struct: some member travels in a JSON body
	raw    *field       // struct: the member that is the whole body
}

type field struct {
	*plan
	name      string // on the wire
	path      string // in validation messages: the member's name with its first letter in lower case
	location  string // "" is the body
	index     int
	required  bool
	jsonValue bool
	flat      bool
}

// A rule is a compiled Shape.
type rule struct {
	Shape
	min, max       float64
	hasMin, hasMax bool
	re             func() *regexp.Regexp
}

func newCodec(shapes map[string]Shape) *codec {
	return &codec{shapes: shapes, plans: map[planKey]*plan{}, rules: map[string]*rule{}}
}

// plan returns the plan of t under a shape; "" is no shape. It panics on types that a model cannot produce.
func (c *codec) plan(t reflect.Type, shape string) *plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.build(t, shape)
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	documentType = reflect.TypeFor[Document]()
)

func (c *codec) build(t reflect.Type, shape string) *plan {
	key := planKey{t, shape}
	if p := c.plans[key]; p != nil {
		return p
	}
	p := &plan{typ: t, rule: c.rule(shape)}
	c.plans[key] = p // before its parts: types may contain themselves
	if t.Kind() == reflect.Pointer {
		p.ptr, p.typ = true, t.Elem()
	}
	switch p.typ.Kind() {
	case reflect.String:
		p.kind = kString
	case reflect.Bool:
		p.kind = kBool
	case reflect.Int, reflect.Int64:
		p.kind = kInt
	case reflect.Float64:
		p.kind = kFloat
	case reflect.Slice:
		if p.typ == documentType {
			p.kind = kDocument
			break
		}
		if p.typ.Elem().Kind() == reflect.Uint8 {
			p.kind = kBlob
			break
		}
		p.kind, p.elem = kList, c.build(p.typ.Elem(), c.shapes[shape].Elem)
	case reflect.Map:
		p.kind, p.elem, p.key = kMap, c.build(p.typ.Elem(), c.shapes[shape].Elem), c.rule(c.shapes[shape].Key)
	case reflect.Struct:
		if p.typ == timeType {
			p.kind = kTime
			break
		}
		p.kind = kStruct
		c.structFields(p)
	default:
		panic(fmt.Sprintf("wire: %s cannot travel", t))
	}
	return p
}

func (c *codec) structFields(p *plan) {
	for i := range p.typ.NumField() {
		sf := p.typ.Field(i)
		tag, ok := sf.Tag.Lookup("wire")
		if !ok {
			continue
		}
		parts := strings.Split(tag, ",")
		f := field{name: parts[0], index: i, path: strings.ToLower(sf.Name[:1]) + sf.Name[1:]}
		shape := sf.Tag.Get("shape")
		f.plan = c.build(sf.Type, shape)
		f.flat = c.shapes[shape].Flat
		for _, flag := range parts[1:] {
			switch flag {
			case "required":
				f.required = true
			case "jsonvalue":
				f.jsonValue = true
			case "flat":
				f.flat = true
			case "sensitive":
				if f.kind != kStruct { // whose members say so themselves
					f.plan = f.plan.hidden()
				}
			default:
				f.location = flag
			}
		}
		p.fields = append(p.fields, f)
		if f.location == "" {
			p.body = true
		}
	}
	for i := range p.fields {
		if p.fields[i].location == "payload" {
			p.raw = &p.fields[i]
		}
	}
}

// hidden is p for a value that messages never show.
func (p *plan) hidden() *plan {
	q, r := *p, rule{}
	if p.rule != nil {
		r = *p.rule
	}
	r.Sensitive = true
	q.rule = &r
	return &q
}

func (c *codec) rule(shape string) *rule {
	s, ok := c.shapes[shape]
	if !ok {
		return nil
	}
	if r := c.rules[shape]; r != nil {
		return r
	}
	r := &rule{Shape: s}
	lo, hi, _ := strings.Cut(s.Range, "..")
	r.min, r.hasMin = number(lo)
	r.max, r.hasMax = number(hi)
	if s.Pattern != "" {
		re := s.RE2
		if re == "" {
			re = s.Pattern
		}
		r.re = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\A(?:` + re + `)\z`) }) // thousands, of which few are ever asked
	}
	c.rules[shape] = r
	return r
}

func number(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && s != ""
}

// deref follows the plan's pointer. ok is false for a nil pointer, slice or map: an absent value.
func (p *plan) deref(v reflect.Value) (reflect.Value, bool) {
	if p.ptr {
		if v.IsNil() {
			return v, false
		}
		return v.Elem(), true
	}
	switch p.kind {
	case kList, kMap, kBlob, kDocument:
		return v, !v.IsNil()
	}
	return v, true
}
