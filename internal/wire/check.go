package wire

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Constraint violations, with the texts that AWS services answer (identity spec 0.6, iot-core spec 1.6).

// failure turns what was gathered into an error, nil if there is nothing.
func (b *binder) failure(code string) error {
	if b.err != nil {
		return b.err
	}
	switch n := len(b.problems); n {
	case 0:
		return nil
	case 1:
		return fleet.Invalid("", "", "%s", "1 validation error detected: "+b.problems[0]).WithCode(code)
	default:
		shown := b.problems[:min(n, maxProblems)]
		return fleet.Invalid("", "", "%s", strconv.Itoa(n)+" validation errors detected: "+strings.Join(shown, "; ")).WithCode(code)
	}
}

func (b *binder) problem(format string, args ...any) {
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// check tests a bound value, which is present, against its rule and its elements' rules.
func (b *binder) check(p *plan, v reflect.Value, path string) {
	if p.rule != nil {
		for _, c := range p.rule.violated(p.kind, v) {
			b.violation(p, v, path, c)
		}
	}
	switch p.kind {
	case kList:
		r := p.elem.rule
		if r == nil || p.elem.kind == kStruct || p.elem.kind == kList || p.elem.kind == kMap {
			return
		}
		for i := range v.Len() {
			if len(r.violated(p.elem.kind, v.Index(i))) > 0 {
				b.violation(p, v, path, "Member must satisfy constraint: "+r.all(p.elem.kind))
				return
			}
		}
	case kMap:
		b.checkMap(p, v, path)
	}
}

func (b *binder) checkMap(p *plan, v reflect.Value, path string) {
	elem := p.elem.rule
	if p.elem.kind == kStruct || p.elem.kind == kList || p.elem.kind == kMap {
		elem = nil
	}
	if p.key == nil && elem == nil {
		return
	}
	badKey, badElem := false, false
	for k, e := range v.Seq2() {
		badKey = badKey || p.key != nil && len(p.key.violated(kString, k)) > 0
		badElem = badElem || elem != nil && len(elem.violated(p.elem.kind, e)) > 0
	}
	if badKey {
		b.violation(p, v, path, "Map keys must satisfy constraint: "+p.key.all(kString))
	}
	if badElem {
		b.violation(p, v, path, "Map value must satisfy constraint: "+elem.all(p.elem.kind))
	}
}

func (b *binder) violation(p *plan, v reflect.Value, path, constraint string) {
	value := "Value"
	if s, ok := show(p, v); ok {
		value += " '" + s + "'"
	}
	b.problem("%s at '%s' failed to satisfy constraint: %s", value, path, constraint)
}

// violated lists the constraints that v breaks, lengths first.
func (r *rule) violated(k kind, v reflect.Value) (broken []string) {
	size, isSize := r.measure(k, v)
	if isSize {
		if r.hasMin && size < r.min {
			broken = append(broken, r.least(k))
		}
		if r.hasMax && size > r.max {
			broken = append(broken, r.most(k))
		}
	}
	if k == kString {
		if r.re != nil && !r.re().MatchString(v.String()) {
			broken = append(broken, "Member must satisfy regular expression pattern: "+r.Pattern)
		}
		if len(r.Enum) > 0 && !slices.Contains(r.Enum, v.String()) {
			broken = append(broken, r.oneOf())
		}
	}
	return broken
}

// measure returns what Range bounds: characters of a string, entries, bytes of a blob, or the number itself.
func (r *rule) measure(k kind, v reflect.Value) (float64, bool) {
	if !r.hasMin && !r.hasMax {
		return 0, false
	}
	switch k {
	case kString:
		return float64(utf8.RuneCountInString(v.String())), true
	case kList, kMap, kBlob:
		return float64(v.Len()), true
	case kInt:
		return float64(v.Int()), true
	case kFloat:
		return v.Float(), true
	}
	return 0, false
}

func (r *rule) least(k kind) string {
	return "Member must have " + quantity(k) + " greater than or equal to " + plain(r.min)
}

func (r *rule) most(k kind) string {
	return "Member must have " + quantity(k) + " less than or equal to " + plain(r.max)
}

func (r *rule) oneOf() string {
	return "Member must satisfy enum value set: [" + strings.Join(r.Enum, ", ") + "]"
}

// all lists every constraint, as messages about collections do.
func (r *rule) all(k kind) string {
	var c []string
	if r.hasMax {
		c = append(c, r.most(k))
	}
	if r.hasMin {
		c = append(c, r.least(k))
	}
	if r.Pattern != "" {
		c = append(c, "Member must satisfy regular expression pattern: "+r.Pattern)
	}
	if len(r.Enum) > 0 {
		c = append(c, r.oneOf())
	}
	return "[" + strings.Join(c, ", ") + "]"
}

func quantity(k kind) string {
	if k == kInt || k == kFloat {
		return "value"
	}
	return "length"
}

func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// maxShown bounds the bytes of a value in a message.
const maxShown = 1024

// show writes a value for a message. ok is false for what must not or cannot be shown.
func show(p *plan, v reflect.Value) (string, bool) {
	if hides(p.rule) {
		return "", false
	}
	var s string
	switch p.kind {
	case kString:
		s = v.String()
	case kInt:
		s = strconv.FormatInt(v.Int(), 10)
	case kFloat:
		s = plain(v.Float())
	case kList:
		if p.elem.kind > kFloat || hides(p.elem.rule) {
			return "", false
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprint(v.Index(i).Interface())
		}
		s = "[" + strings.Join(items, ", ") + "]"
	case kMap:
		if p.elem.kind > kFloat || hides(p.elem.rule) || hides(p.key) {
			return "", false
		}
		all := map[string]string{}
		for k, e := range v.Seq2() {
			all[k.String()] = fmt.Sprint(e.Interface())
		}
		items := make([]string, 0, len(all))
		for _, k := range slices.Sorted(maps.Keys(all)) {
			items = append(items, k+"="+all[k])
		}
		s = "{" + strings.Join(items, ", ") + "}"
	default:
		return "", false
	}
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s, true
}

func hides(r *rule) bool { return r != nil && r.Sensitive }
