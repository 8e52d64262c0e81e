package store

import (
	"maps"
	"slices"

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
	return tx.indexAttributes(s, t.Name, fleet.Thing{}, t)
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
	return tx.indexAttributes(s, t.Name, old, t)
}

// DeleteThing removes a thing that the caller has read in this transaction, with its group memberships. Principals must be
// detached before.
func (tx *Tx) DeleteThing(s fleet.Scope, t fleet.Thing) error {
	if err := tx.indexAttributes(s, t.Name, t, fleet.Thing{}); err != nil {
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

// unfiled is the type in a row of thing_attributes that a version has written which knew of no types there. See FileAttributes.
const unfiled = "?"

// indexAttributes brings the search rows of a thing from one state to the other, in the order of names.
func (tx *Tx) indexAttributes(s fleet.Scope, thing string, from, to fleet.Thing) error {
	kept := func(name string) bool {
		was, had := from.Attributes[name]
		is, has := to.Attributes[name]
		return had && has && was == is && from.Type == to.Type
	}
	for _, name := range slices.Sorted(maps.Keys(from.Attributes)) {
		if kept(name) {
			continue
		}
		if _, err := tx.exec(`DELETE FROM thing_attributes WHERE account = ? AND region = ? AND name = ? AND value = ? AND thing_type IN (?, ?) AND thing = ?`,
			s.Account, s.Region, name, from.Attributes[name], from.Type, unfiled, thing); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to.Attributes)) {
		if kept(name) {
			continue
		}
		if _, err := tx.exec(`INSERT INTO thing_attributes (account, region, name, value, thing_type, thing) VALUES (?, ?, ?, ?, ?, ?)`,
			s.Account, s.Region, name, to.Attributes[name], to.Type, thing); err != nil {
			return err
		}
	}
	return nil
}

// FileAttributes gives the search rows that an older version has written since the schema was brought up to date, beside this one or in
// its place for some time, the types of their things: at most limit, and it returns how many. Until then they are found without the type
// only.
func (tx *Tx) FileAttributes(limit int) (int, error) {
	type row struct {
		fleet.Scope
		name, value, thing string
	}
	list, err := all(tx, func(s scanner) (r row, err error) {
		return r, s.Scan(&r.Account, &r.Region, &r.name, &r.value, &r.thing)
	},
		`SELECT account, region, name, value, thing FROM thing_attributes WHERE thing_type = '?' ORDER BY account, region, thing, name LIMIT ?`, limit)
	if err != nil {
		return 0, err
	}
	for _, r := range list {
		t, err := tx.Thing(r.Scope, r.thing)
		if err != nil && fleet.KindOf(err) != fleet.KindNotFound {
			return 0, err
		}
		was, is := fleet.Thing{Type: unfiled, Attributes: map[string]string{r.name: r.value}}, fleet.Thing{}
		if v, has := t.Attributes[r.name]; has && v == r.value {
			is = fleet.Thing{Type: t.Type, Attributes: was.Attributes}
		}
		if err := tx.indexAttributes(r.Scope, r.thing, was, is); err != nil {
			return 0, err
		}
	}
	return len(list), nil
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
