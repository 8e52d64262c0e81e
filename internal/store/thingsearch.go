package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Lists of things. thing_attributes holds a row for each attribute of each thing, in the order of attribute, value, type and
// thing: things with an attribute, and those of them that have a type, follow each other there, unless a range of values is asked
// for and a type.

// A ThingFilter narrows a list of things; zero fields do not.
type ThingFilter struct {
	Type      string
	Attribute string // things that have this attribute
	Value     string // with this value; needs Attribute
	Prefix    bool   // Value is only the beginning
}

// has reports whether a thing passes f.
func (f ThingFilter) has(t fleet.Thing) bool {
	v, ok := t.Attributes[f.Attribute]
	switch {
	case f.Type != "" && t.Type != f.Type, f.Attribute != "" && !ok:
		return false
	case f.Attribute == "" || f.Value == "":
		return true
	case f.Prefix:
		return strings.HasPrefix(v, f.Value)
	}
	return v == f.Value
}

// Things lists things that pass f: by name, where f asks for an attribute by value, type and name. Where it asks for a range of
// values and a type, a page may have fewer things than it has room for, or none, and another behind it.
func (tx *Tx) Things(s fleet.Scope, f ThingFilter, p fleet.Page) (things []fleet.Thing, next string, err error) {
	exact := f.Value != "" && !f.Prefix
	switch {
	case f.Attribute == "":
		where, args := `t.account = ? AND t.region = ? AND t.name > ?`, []any{s.Account, s.Region, p.After}
		if f.Type != "" { // the second condition lets the partial index serve
			where += ` AND t.thing_type = ? AND t.thing_type <> ''`
			args = append(args, f.Type)
		}
		things, err = all(tx, scanThing, `SELECT `+thingColumns+` FROM things t WHERE `+where+` ORDER BY t.name LIMIT ?`, append(args, pageLimit(p))...)
		things, next = cutPage(p, things, func(t fleet.Thing) string { return t.Name })
		return things, next, err
	case f.Type != "" && !exact:
		return tx.thingsInRange(s, f, p)
	}
	where, order, args := f.span(spotAt(p.After))
	things, err = tx.thingsWith(s, f.Attribute, where, order, pageLimit(p), args...)
	things, next = cutPage(p, things, func(t fleet.Thing) string { return f.spot(t).String() })
	return things, next, err
}

// A spot is where an attribute of a thing stands among the others of its name.
type spot struct{ value, kind, thing string }

// spot is where the attribute of t that f asks for stands.
func (f ThingFilter) spot(t fleet.Thing) spot { return spot{t.Attributes[f.Attribute], t.Type, t.Name} }

// String is its form in the key of a page: with tabs between, which none of the three can hold.
func (r spot) String() string { return r.value + "\t" + r.kind + "\t" + r.thing }

// spotAt is the inverse; of "" it is before all rows.
func spotAt(key string) (r spot) {
	r.value, key, _ = strings.Cut(key, "\t")
	r.kind, r.thing, _ = strings.Cut(key, "\t")
	return r
}

func (r spot) compare(o spot) int {
	return cmp.Or(strings.Compare(r.value, o.value), strings.Compare(r.kind, o.kind), strings.Compare(r.thing, o.thing))
}

// exactly is the condition on things with a value and a type, from behind one on.
const exactly = `a.value = ? AND a.thing_type = ? AND a.thing > ?`

// span is the part of an attribute's rows that f asks for, from behind a row on, as a condition and an order. There is one lower
// bound only: see prefixPage.
func (f ThingFilter) span(after spot) (where, order string, args []any) {
	switch exact := f.Value != "" && !f.Prefix; {
	case exact && f.Type != "":
		return exactly, `a.thing`, []any{f.Value, f.Type, after.thing}
	case exact:
		return `a.value = ? AND (a.thing_type, a.thing) > (?, ?)`, `a.thing_type, a.thing`, []any{f.Value, after.kind, after.thing}
	}
	order = `a.value, a.thing_type, a.thing`
	lo, hi := prefixRange(f.Value)
	if after == (spot{}) {
		return `a.value >= ? AND a.value < ?`, order, []any{lo, hi}
	}
	return `(a.value, a.thing_type, a.thing) > (?, ?, ?) AND a.value < ?`, order, []any{after.value, after.kind, after.thing, hi}
}

// thingsWith lists things with an attribute, of which a condition on its rows a holds.
func (tx *Tx) thingsWith(s fleet.Scope, attribute, where, order string, limit int64, args ...any) ([]fleet.Thing, error) {
	return all(tx, scanThing, `SELECT `+thingColumns+` FROM thing_attributes a JOIN things t ON t.account = a.account AND t.region = a.region AND t.name = a.thing
		WHERE a.account = ? AND a.region = ? AND a.name = ? AND `+where+` ORDER BY `+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region, attribute}, args...), limit)...)
}

// A page of a range of values and a type begins with the things that have both the type and the first value. Then it looks at
// some rows of the range, which tell the type: at a few times as many as the page has room for, and while these hold too few of
// the type at twice as many more, up to scanned or so. It looks for both the type and the value where it stops, so that a value's
// rows of other types are passed over. Of a type that few things have, it goes through these in place of that: a page of them is
// never empty.
const (
	scanned   = 1000
	fewThings = 100
)

func (tx *Tx) thingsInRange(s fleet.Scope, f ThingFilter, p fleet.Page) (things []fleet.Thing, next string, err error) {
	key := func(t fleet.Thing) string { return f.spot(t).String() }
	_, many, err := one(tx, scanString, fmt.Sprintf(`SELECT name FROM things WHERE account = ? AND region = ? AND thing_type = ? AND thing_type <> ''
		ORDER BY name LIMIT 1 OFFSET %d`, fewThings), s.Account, s.Region, f.Type)
	if err != nil {
		return nil, "", err
	}
	at := spotAt(p.After)
	if !many {
		things, err = tx.fewInRange(s, f, at)
		things, next = cutPage(p, things, key)
		return things, next, err
	}
	lo, hi := prefixRange(f.Value)
	if p.After == "" {
		value, found, err := tx.valueIn(s, f.Attribute, `a.value >= ?`, lo, hi, 0)
		if err != nil || !found {
			return nil, "", err
		}
		at = spot{value: value}
	}
	// add takes the things of a value, or of those between two.
	add := func(where, order string, args ...any) error {
		more, err := tx.thingsWith(s, f.Attribute, where, order, pageLimit(p)-int64(len(things)), args...)
		things = append(things, more...)
		return err
	}
	if at.kind <= f.Type {
		if err := add(exactly, `a.thing`, at.value, f.Type, at.thing); err != nil {
			return nil, "", err
		}
	}
	rows := 4 * pageLimit(p)
	if p.Limit <= 0 {
		rows = noLimit
	}
	for looked := int64(0); int64(len(things)) < pageLimit(p); looked, rows = looked+rows, 2*rows {
		if looked >= scanned {
			_, last := prefixRange("")
			return things, spot{value: at.value, kind: last}.String(), nil // behind all of that value
		}
		last, more, err := tx.valueIn(s, f.Attribute, `a.value > ?`, at.value, hi, rows-1)
		if err != nil {
			return nil, "", err
		}
		if !more {
			last = hi
		}
		if err := add(`a.value > ? AND a.value < ? AND a.thing_type = ?`, `a.value, a.thing_type, a.thing`, at.value, last, f.Type); err != nil {
			return nil, "", err
		}
		if !more {
			break
		}
		if err := add(exactly, `a.thing`, last, f.Type, ""); err != nil {
			return nil, "", err
		}
		at = spot{value: last}
	}
	things, next = cutPage(p, things, key)
	return things, next, nil
}

// fewInRange is thingsInRange for a type that few things have.
func (tx *Tx) fewInRange(s fleet.Scope, f ThingFilter, after spot) ([]fleet.Thing, error) {
	things, _, err := tx.Things(s, ThingFilter{Type: f.Type}, fleet.Page{})
	things = slices.DeleteFunc(things, func(t fleet.Thing) bool { return !f.has(t) || f.spot(t).compare(after) <= 0 })
	slices.SortFunc(things, func(a, b fleet.Thing) int { return f.spot(a).compare(f.spot(b)) })
	return things, err
}

// valueIn is the value of the row that comes so many behind the first of an attribute, of those from a value on, or behind one,
// and before another.
func (tx *Tx) valueIn(s fleet.Scope, attribute, from, lo, hi string, n int64) (value string, found bool, err error) {
	return one(tx, scanString, `SELECT a.value FROM thing_attributes a WHERE a.account = ? AND a.region = ? AND a.name = ? AND `+from+` AND a.value < ?
		ORDER BY a.value LIMIT 1 OFFSET ?`, s.Account, s.Region, attribute, lo, hi, n)
}

// ThingsOfTypeExist reports whether any thing has the type.
func (tx *Tx) ThingsOfTypeExist(s fleet.Scope, thingType string) (bool, error) {
	_, found, err := one(tx, scanString, `SELECT name FROM things WHERE account = ? AND region = ? AND thing_type = ? AND thing_type <> '' LIMIT 1`,
		s.Account, s.Region, thingType)
	return found, err
}
