package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const thingColumns = `t.name, t.id, t.thing_type, t.attributes, t.billing_group, t.version, t.created`

func scanThing(s scanner) (t fleet.Thing, err error) {
	var attributes string
	var created int64
	if err := s.Scan(&t.Name, &t.ID, &t.Type, &attributes, &t.BillingGroup, &t.Version, &created); err != nil {
		return t, err
	}
	t.Created = fromMillis(created)
	return t, fromJSON(attributes, &t.Attributes)
}

// Thing returns a thing. It fails with KindNotFound.
func (tx *Tx) Thing(s fleet.Scope, name string) (fleet.Thing, error) {
	t, found, err := again(tx, Change{s, ChangedThing, name}, func() (fleet.Thing, bool, error) {
		return one(tx, scanThing, `SELECT `+thingColumns+` FROM things t WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name)
	})
	if err == nil && !found {
		err = fleet.NotFound("thing", name)
	}
	t.Attributes = maps.Clone(t.Attributes)
	return t, err
}

// CreateThing adds a thing. It fails with KindExists if the name is taken.
func (tx *Tx) CreateThing(s fleet.Scope, t fleet.Thing) error {
	added, err := tx.insert(`INSERT INTO things (account, region, name, id, thing_type, attributes, billing_group, version, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, t.Name, t.ID, t.Type, toJSON(t.Attributes), t.BillingGroup, t.Version, millis(t.Created))
	if err == nil && !added {
		return fleet.Exists("thing", t.Name, "already exists")
	}
	if err != nil {
		return err
	}
	tx.Changed(s, ChangedThing, t.Name)
	row := t
	row.Created = fromMillis(millis(t.Created))
	if row.Attributes = maps.Clone(t.Attributes); len(t.Attributes) == 0 {
		row.Attributes = nil
	}
	tx.saw(Change{s, ChangedThing, t.Name}, row, true)
	tx.saw(inNoGroup(s, t.Name), nil, false)
	return tx.indexAttributes(s, t.Name, nil, t.Attributes)
}

// UpdateThing stores type, attributes, billing group and version of t in place of old, which the caller has read in this
// transaction.
func (tx *Tx) UpdateThing(s fleet.Scope, old, t fleet.Thing) error {
	_, err := tx.exec(`UPDATE things SET thing_type = ?, attributes = ?, billing_group = ?, version = ?
		WHERE account = ? AND region = ? AND name = ?`,
		t.Type, toJSON(t.Attributes), t.BillingGroup, t.Version, s.Account, s.Region, t.Name)
	if err != nil {
		return err
	}
	tx.Changed(s, ChangedThing, t.Name)
	return tx.indexAttributes(s, t.Name, old.Attributes, t.Attributes)
}

// DeleteThing removes a thing that the caller has read in this transaction, with its group memberships. Principals must be
// detached before.
func (tx *Tx) DeleteThing(s fleet.Scope, t fleet.Thing) error {
	if err := tx.indexAttributes(s, t.Name, t.Attributes, nil); err != nil {
		return err
	}
	for _, q := range []string{
		`DELETE FROM thing_group_members WHERE account = ? AND region = ? AND thing = ?`,
		`DELETE FROM things WHERE account = ? AND region = ? AND name = ?`,
	} {
		if _, err := tx.exec(q, s.Account, s.Region, t.Name); err != nil {
			return err
		}
	}
	tx.Changed(s, ChangedThing, t.Name)
	return nil
}

// indexAttributes brings the search rows of a thing from one set of attributes to the other, in the order of names.
func (tx *Tx) indexAttributes(s fleet.Scope, thing string, from, to map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if v, kept := to[name]; kept && v == from[name] {
			continue
		}
		if _, err := tx.exec(`DELETE FROM thing_attributes WHERE account = ? AND region = ? AND name = ? AND value = ? AND thing = ?`,
			s.Account, s.Region, name, from[name], thing); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to)) {
		if v, had := from[name]; had && v == to[name] {
			continue
		}
		if _, err := tx.exec(`INSERT INTO thing_attributes (account, region, name, value, thing) VALUES (?, ?, ?, ?, ?)`,
			s.Account, s.Region, name, to[name], thing); err != nil {
			return err
		}
	}
	return nil
}

// A ThingFilter narrows a list of things; zero fields do not.
type ThingFilter struct {
	Type      string
	Attribute string // things that have this attribute
	Value     string // with this value; needs Attribute
	Prefix    bool   // Value is only the beginning
}

// scanned is how many things a page looks at to find those that have both an attribute and a type: there is no index of both. Where
// more have either, a page may have fewer things than it has room for, and another behind it.
const scanned = 1000

// Things lists things that pass f, by name; where f asks for a range of values, by value and name.
func (tx *Tx) Things(s fleet.Scope, f ThingFilter, p fleet.Page) (things []fleet.Thing, next string, err error) {
	if f.Attribute != "" && f.Type != "" {
		return tx.thingsByBoth(s, f, p)
	}
	q := f.query(s, p)
	things, err = q.run(tx, pageLimit(p))
	things, next = cutPage(p, things, q.key)
	return things, next, err
}

// A thingQuery is a page of things by one index. key is what the page behind it begins after.
type thingQuery struct {
	from, where, order string
	args               []any
	key                func(fleet.Thing) string
}

func (q thingQuery) run(tx *Tx, limit int64) ([]fleet.Thing, error) {
	return all(tx, scanThing, fmt.Sprintf(`SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT ?`, thingColumns, q.from, q.where, q.order), append(q.args, limit)...)
}

// query goes by the attribute, if f has one; then the type is left to the caller.
func (f ThingFilter) query(s fleet.Scope, p fleet.Page) thingQuery {
	q := thingQuery{from: `things t`, where: `t.account = ? AND t.region = ? AND t.name > ?`, order: `t.name`, args: []any{s.Account, s.Region},
		key: func(t fleet.Thing) string { return t.Name }}
	if f.Attribute != "" {
		q.from = `thing_attributes a JOIN things t ON t.account = a.account AND t.region = a.region AND t.name = a.thing`
	}
	switch {
	case f.Attribute == "":
		q.args = append(q.args, p.After)
		if f.Type != "" { // the second condition lets the partial index serve
			q.where += ` AND t.thing_type = ? AND t.thing_type <> ''`
			q.args = append(q.args, f.Type)
		}
	case f.Value != "" && !f.Prefix:
		q.where, q.order = `a.account = ? AND a.region = ? AND a.name = ? AND a.value = ? AND a.thing > ?`, `a.thing`
		q.args = append(q.args, f.Attribute, f.Value, p.After)
	default: // a key is value and name with a tab between, which neither can hold
		lo, hi := prefixRange(f.Value)
		q.where, q.order = `a.account = ? AND a.region = ? AND a.name = ? AND a.value < ?`, `a.value, a.thing`
		q.args = append(q.args, f.Attribute, hi)
		if value, thing, later := strings.Cut(p.After, "\t"); later { // one lower bound, see prefixPage
			q.where += ` AND (a.value, a.thing) > (?, ?)`
			q.args = append(q.args, value, thing)
		} else {
			q.where += ` AND a.value >= ?`
			q.args = append(q.args, lo)
		}
		q.key = func(t fleet.Thing) string { return t.Attributes[f.Attribute] + "\t" + t.Name }
	}
	return q
}

// thingsByBoth goes by the type if few things have it, else by the attribute.
func (tx *Tx) thingsByBoth(s fleet.Scope, f ThingFilter, p fleet.Page) (things []fleet.Thing, next string, err error) {
	q, most := f.query(s, p), int64(scanned)
	if p.Limit <= 0 {
		most = noLimit
	}
	typed := ThingFilter{Type: f.Type}.query(s, fleet.Page{})
	found, err := typed.run(tx, scanned+1)
	if err != nil {
		return nil, "", err
	}
	if len(found) <= scanned {
		slices.SortFunc(found, func(a, b fleet.Thing) int { return strings.Compare(q.key(a), q.key(b)) })
	} else if found, err = q.run(tx, most); err != nil {
		return nil, "", err
	} else if int64(len(found)) == most {
		next = q.key(found[most-1])
	}
	for _, t := range found {
		if t.Type != f.Type || !f.has(t) || q.key(t) <= p.After {
			continue
		}
		if things = append(things, t); p.Limit > 0 && len(things) > p.Limit {
			things, next = cutPage(p, things, q.key)
			return things, next, nil
		}
	}
	return things, next, nil
}

// has reports whether a thing has the attribute that f asks for.
func (f ThingFilter) has(t fleet.Thing) bool {
	v, ok := t.Attributes[f.Attribute]
	switch {
	case !ok:
		return false
	case f.Prefix:
		return strings.HasPrefix(v, f.Value)
	}
	return f.Value == "" || v == f.Value
}

// ThingsOfTypeExist reports whether any thing has the type.
func (tx *Tx) ThingsOfTypeExist(s fleet.Scope, thingType string) (bool, error) {
	_, found, err := one(tx, scanString, `SELECT name FROM things WHERE account = ? AND region = ? AND thing_type = ? AND thing_type <> '' LIMIT 1`,
		s.Account, s.Region, thingType)
	return found, err
}

const thingTypeColumns = `name, id, description, searchable, propagating, deprecated, created`

func scanThingType(s scanner) (t fleet.ThingType, err error) {
	var searchable, propagating string
	var deprecated, created int64
	if err := s.Scan(&t.Name, &t.ID, &t.Description, &searchable, &propagating, &deprecated, &created); err != nil {
		return t, err
	}
	t.Deprecated, t.Created = fromMillis(deprecated), fromMillis(created)
	if err := fromJSON(searchable, &t.Searchable); err != nil {
		return t, err
	}
	return t, fromJSON(propagating, &t.Propagating)
}

// ThingType returns a thing type. It fails with KindNotFound.
func (tx *Tx) ThingType(s fleet.Scope, name string) (fleet.ThingType, error) {
	return find(tx, "thing type", name, scanThingType,
		`SELECT `+thingTypeColumns+` FROM thing_types WHERE account = ? AND region = ? AND name = ?`,
		s.Account, s.Region, name)
}

// PutThingType stores a thing type, new or changed.
func (tx *Tx) PutThingType(s fleet.Scope, t fleet.ThingType) error {
	_, err := tx.exec(`INSERT INTO thing_types (account, region, name, id, description, searchable, propagating, deprecated, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, name) DO UPDATE SET description = excluded.description, searchable = excluded.searchable,
			propagating = excluded.propagating, deprecated = excluded.deprecated`,
		s.Account, s.Region, t.Name, t.ID, t.Description, toJSON(t.Searchable), toJSON(t.Propagating), millis(t.Deprecated), millis(t.Created))
	tx.Changed(s, ChangedThingType, t.Name)
	return err
}

// DeleteThingType removes a thing type and its tags.
func (tx *Tx) DeleteThingType(s fleet.Scope, name string) error {
	if _, err := tx.exec(`DELETE FROM thing_types WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name); err != nil {
		return err
	}
	tx.Changed(s, ChangedThingType, name)
	return tx.deleteTags(s, "thingtype/"+name)
}

// ThingTypes lists the thing types whose name begins with prefix, by name.
func (tx *Tx) ThingTypes(s fleet.Scope, prefix string, p fleet.Page) ([]fleet.ThingType, string, error) {
	where, args := prefixPage(p, prefix, "name")
	types, err := all(tx, scanThingType, `SELECT `+thingTypeColumns+` FROM thing_types WHERE account = ? AND region = ? AND `+where+` ORDER BY name LIMIT ?`,
		append(append([]any{s.Account, s.Region}, args...), pageLimit(p))...)
	types, next := cutPage(p, types, func(t fleet.ThingType) string { return t.Name })
	return types, next, err
}
