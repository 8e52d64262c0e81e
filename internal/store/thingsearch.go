package store

import (
	"cmp"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Lists of things. thing_attributes holds a row for each attribute of each thing, in the order of attribute, value, type and thing: things
// with an attribute, and those of them that have a type, follow each other there, unless a range of values is asked for and a type.

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

// Things lists things that pass f: by name, where f asks for an attribute by value, type and name. Where it asks for a range of values and a
// type, a page may have fewer things than it has room for, or none, and another behind it.
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
	things, err = all(tx, scanThing, `SELECT `+thingColumns+` FROM thing_attributes a JOIN things t ON t.account = a.account AND t.region = a.region AND t.name = a.thing
		WHERE a.account = ? AND a.region = ? AND a.name = ? AND `+where+` ORDER BY `+order+` LIMIT ?`,
		append(append([]any{s.Account, s.Region, f.Attribute}, args...), pageLimit(p))...)
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

// span is the part of an attribute's rows that f asks for, from behind a row on, as a condition and an order. There is one lower bound only:
// see prefixPage.
func (f ThingFilter) span(after spot) (where, order string, args []any) {
	switch exact := f.Value != "" && !f.Prefix; {
	case exact && f.Type != "":
		return `a.value = ? AND a.thing_type = ? AND a.thing > ?`, `a.thing`, []any{f.Value, f.Type, after.thing}
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

// A page of a range of values and a type looks at some rows of the range, which tell the type: at a few times as many as the page has room
// for, and while these hold too few of the type at twice as many more, up to scanned or so. What stands between the type's rows of one value
// and those of the next it passes over. Of a type that few things have, it goes through these in place of that: a page of them is never empty.
const (
	scanned   = 1000
	fewThings = 100
)

func (tx *Tx) thingsInRange(s fleet.Scope, f ThingFilter, p fleet.Page) (things []fleet.Thing, next string, err error) {
	key := func(t fleet.Thing) string { return f.spot(t).String() }
	if found, _, err := tx.Things(s, ThingFilter{Type: f.Type}, fleet.Page{Limit: fewThings + 1}); err != nil {
		return nil, "", err
	} else if len(found) <= fewThings {
		after := spotAt(p.After)
		found = slices.DeleteFunc(found, func(t fleet.Thing) bool { return !f.has(t) || f.spot(t).compare(after) <= 0 })
		slices.SortFunc(found, func(a, b fleet.Thing) int { return f.spot(a).compare(f.spot(b)) })
		things, next = cutPage(p, found, key)
		return things, next, nil
	}
	at, rows := spotAt(p.After), 4*pageLimit(p)
	if p.Limit <= 0 {
		rows = noLimit
	}
	for looked := int64(0); looked < scanned; looked, rows = looked+rows, 2*rows {
		more, last, err := tx.lookThrough(s, f, at, rows, pageLimit(p)-int64(len(things)))
		if err != nil {
			return nil, "", err
		}
		if things = append(things, more...); int64(len(things)) == pageLimit(p) || last == (spot{}) {
			things, next = cutPage(p, things, key)
			return things, next, nil
		}
		at = last.upTo(f.Type)
	}
	return things, at.String(), nil
}

// upTo is where the next row of a type may be behind r: past the other types of its value.
func (r spot) upTo(kind string) spot {
	switch {
	case r.kind < kind:
		return spot{value: r.value, kind: kind}
	case r.kind > kind:
		_, last := prefixRange("")
		return spot{value: r.value, kind: last}
	}
	return r
}

// lookThrough looks at some rows of f's range from behind one on, and returns at most limit of the things in them that have f's type, and
// the last row that it looked at if there may be more behind it.
func (tx *Tx) lookThrough(s fleet.Scope, f ThingFilter, after spot, rows, limit int64) (things []fleet.Thing, last spot, err error) {
	where, order, args := f.span(after)
	args = append([]any{s.Account, s.Region, f.Attribute}, args...)
	const of = ` FROM thing_attributes a WHERE a.account = ? AND a.region = ? AND a.name = ? AND `
	things, err = all(tx, scanThing, `SELECT `+thingColumns+` FROM (
			SELECT seen.value, seen.thing FROM (SELECT a.value, a.thing_type, a.thing`+of+where+` ORDER BY `+order+` LIMIT ?) AS seen
			WHERE seen.thing_type = ? ORDER BY seen.value, seen.thing LIMIT ?) AS few
		CROSS JOIN things t WHERE t.account = ? AND t.region = ? AND t.name = few.thing ORDER BY few.value, few.thing`,
		append(slices.Clone(args), rows, f.Type, limit, s.Account, s.Region)...)
	if err != nil || rows == noLimit || int64(len(things)) == limit {
		return things, last, err
	}
	last, _, err = one(tx, func(r scanner) (at spot, err error) { return at, r.Scan(&at.value, &at.kind, &at.thing) },
		`SELECT a.value, a.thing_type, a.thing`+of+where+` ORDER BY `+order+` LIMIT 1 OFFSET ?`, append(args, rows-1)...)
	return things, last, err
}

// ThingsOfTypeExist reports whether any thing has the type.
func (tx *Tx) ThingsOfTypeExist(s fleet.Scope, thingType string) (bool, error) {
	_, found, err := one(tx, scanString, `SELECT name FROM things WHERE account = ? AND region = ? AND thing_type = ? AND thing_type <> '' LIMIT 1`,
		s.Account, s.Region, thingType)
	return found, err
}
