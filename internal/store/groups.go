package store

import (
	"fmt"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const groupColumns = `g.name, g.id, g.parent, g.path, g.description, g.attributes, g.version, g.created`

func scanGroup(s scanner) (g fleet.ThingGroup, err error) {
	var path, attributes string
	var created int64
	if err := s.Scan(&g.Name, &g.ID, &g.Parent, &path, &g.Description, &attributes, &g.Version, &created); err != nil {
		return g, err
	}
	g.Path = pathOf(path)
	g.Created = fromMillis(created)
	return g, fromJSON(attributes, &g.Attributes)
}

// groupPath is the path that children of g have: the names of g's ancestors and g, each followed by a slash.
func groupPath(path []string, name string) string {
	var b strings.Builder
	for _, n := range path {
		b.WriteString(n + "/")
	}
	if name != "" {
		b.WriteString(name + "/")
	}
	return b.String()
}

// pathOf is the inverse of groupPath without a name.
func pathOf(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(path, "/"), "/")
}

// Group returns a thing group. It fails with KindNotFound.
func (tx *Tx) Group(s fleet.Scope, name string) (fleet.ThingGroup, error) {
	return find(tx, "thing group", name, scanGroup,
		`SELECT `+groupColumns+` FROM thing_groups g WHERE account = ? AND region = ? AND name = ?`,
		s.Account, s.Region, name)
}

// CreateGroup adds a thing group. It fails with KindExists if the name is taken.
func (tx *Tx) CreateGroup(s fleet.Scope, g fleet.ThingGroup) error {
	added, err := tx.insert(`INSERT INTO thing_groups (account, region, name, id, parent, path, description, attributes, version, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, g.Name, g.ID, g.Parent, groupPath(g.Path, ""), g.Description, toJSON(g.Attributes), g.Version, millis(g.Created))
	if err == nil && !added {
		return fleet.Exists("thing group", g.Name, "already exists")
	}
	tx.Changed(s, ChangedGroup, g.Name)
	return err
}

// UpdateGroup stores description, attributes and version.
func (tx *Tx) UpdateGroup(s fleet.Scope, g fleet.ThingGroup) error {
	_, err := tx.exec(`UPDATE thing_groups SET description = ?, attributes = ?, version = ? WHERE account = ? AND region = ? AND name = ?`,
		g.Description, toJSON(g.Attributes), g.Version, s.Account, s.Region, g.Name)
	tx.Changed(s, ChangedGroup, g.Name)
	return err
}

// DeleteGroup removes a thing group with its tags and policy attachments. Its members must have left before.
func (tx *Tx) DeleteGroup(s fleet.Scope, name string) error {
	for q, key := range map[string]string{
		`DELETE FROM thing_groups WHERE account = ? AND region = ? AND name = ?`:         name,
		`DELETE FROM policy_attachments WHERE account = ? AND region = ? AND target = ?`: "thinggroup/" + name,
	} {
		if _, err := tx.exec(q, s.Account, s.Region, key); err != nil {
			return err
		}
	}
	tx.Changed(s, ChangedGroup, name)
	return tx.deleteTags(s, "thinggroup/"+name)
}

// A GroupFilter narrows a list of thing groups; zero fields do not.
type GroupFilter struct {
	Under  *fleet.ThingGroup // descendants of this group
	Depth1 bool              // only children of Under, or only roots
	Prefix string            // names that begin so
}

// Groups lists the thing groups that pass f: by name, or in the order of the tree.
func (tx *Tx) Groups(s fleet.Scope, f GroupFilter, p fleet.Page) ([]fleet.ThingGroup, string, error) {
	switch {
	case f.Under != nil && !f.Depth1 && f.Prefix == "":
		where, args := below(s, *f.Under, p.After)
		groups, err := all(tx, scanGroup, `SELECT `+groupColumns+` FROM thing_groups g WHERE `+where+` ORDER BY `+tree+` LIMIT ?`, append(args, pageLimit(p))...)
		groups, next := cutPage(p, groups, treeKey)
		return groups, next, err
	case f.Under != nil && !f.Depth1:
		return tx.namedBelow(s, f, p)
	}
	where, args := prefixPage(p, f.Prefix, "g.name")
	if f.Depth1 {
		where += ` AND g.parent = ?`
		parent := ""
		if f.Under != nil {
			parent = f.Under.Name
		}
		args = append(args, parent)
	}
	groups, err := all(tx, scanGroup, `SELECT `+groupColumns+` FROM thing_groups g WHERE g.account = ? AND g.region = ? AND `+where+` ORDER BY g.name LIMIT ?`,
		append(append([]any{s.Account, s.Region}, args...), pageLimit(p))...)
	groups, next := cutPage(p, groups, func(g fleet.ThingGroup) string { return g.Name })
	return groups, next, err
}

// namedBelow lists what is below a group and begins as f says: from the few that are below it, in the order of the tree, else
// from those that begin so, by name. A page looks at some of them: it may be short, or empty, and have a next one.
func (tx *Tx) namedBelow(s fleet.Scope, f GroupFilter, p fleet.Page) ([]fleet.ThingGroup, string, error) {
	const few = 100
	asTree := strings.Contains(p.After, "\t") // as the page before, however many there are by now
	if p.After == "" {
		where, args := below(s, *f.Under, "")
		_, many, err := one(tx, scanString, fmt.Sprintf(`SELECT g.name FROM thing_groups g WHERE `+where+` ORDER BY `+tree+` LIMIT 1 OFFSET %d`, few), args...)
		if err != nil {
			return nil, "", err
		}
		asTree = !many
	}
	where, args := prefixPage(p, f.Prefix, "g.name")
	where, args = `g.account = ? AND g.region = ? AND `+where, append([]any{s.Account, s.Region}, args...)
	marked, order, key := "g.path", "g.name", func(g fleet.ThingGroup) string { return g.Name }
	lo, hi := prefixRange(groupPath(f.Under.Path, f.Under.Name))
	if asTree {
		where, args = below(s, *f.Under, p.After)
		marked, order, key = "g.name", tree, treeKey
		lo, hi = prefixRange(f.Prefix)
	}
	most := int64(scanned)
	if p.Limit <= 0 {
		most = noLimit
	}
	return sift(tx, p, most, scanGroup, key, `SELECT `+groupColumns+`, `+marked+` >= ? AND `+marked+` < ? FROM thing_groups g WHERE `+where+` ORDER BY `+order,
		append([]any{lo, hi}, args...)...)
}

// tree orders groups as a tree is walked: each is followed by those below it. An index has it.
const tree = `(g.path || g.name || '/')`

// treeKey is where a group stands in that order, in the key of a page: path and name with a tab between, which neither can hold.
func treeKey(g fleet.ThingGroup) string { return groupPath(g.Path, "") + "\t" + g.Name }

// below narrows a query to the groups g under a group, from behind the one with the treeKey after on, "" for all.
func below(s fleet.Scope, under fleet.ThingGroup, after string) (where string, args []any) {
	at, hi := prefixRange(groupPath(under.Path, under.Name))
	if path, name, later := strings.Cut(after, "\t"); later {
		at = path + name + "/"
	}
	return `g.account = ? AND g.region = ? AND ` + tree + ` > ? AND ` + tree + ` < ?`, []any{s.Account, s.Region, at, hi}
}

// CountChildGroups returns how many groups have parent as their parent.
func (tx *Tx) CountChildGroups(s fleet.Scope, parent string) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM thing_groups WHERE account = ? AND region = ? AND parent = ?`, s.Account, s.Region, parent).Scan(&n)
	return n, err
}

// AddToGroup makes a thing a member of a group; again is no error. added is false if it was one.
func (tx *Tx) AddToGroup(s fleet.Scope, thing, group string) (added bool, err error) {
	added, err = changedRows(tx.exec(`INSERT INTO thing_group_members (account, region, thing, grp) VALUES (?, ?, ?, ?)
		ON CONFLICT (account, region, thing, grp) DO NOTHING`, s.Account, s.Region, thing, group))
	delete(tx.looks, inNoGroup(s, thing))
	if added {
		tx.Changed(s, ChangedThing, thing)
	}
	return added, err
}

// RemoveFromGroup ends a membership. removed is false if there was none.
func (tx *Tx) RemoveFromGroup(s fleet.Scope, thing, group string) (removed bool, err error) {
	removed, err = changedRows(tx.exec(`DELETE FROM thing_group_members WHERE account = ? AND region = ? AND thing = ? AND grp = ?`,
		s.Account, s.Region, thing, group))
	if removed {
		tx.Changed(s, ChangedThing, thing)
	}
	return removed, err
}

// GroupsOf lists the groups that a thing is a direct member of, by name.
func (tx *Tx) GroupsOf(s fleet.Scope, thing string, p fleet.Page) ([]fleet.ThingGroup, string, error) {
	groups, err := all(tx, scanGroup, `SELECT `+groupColumns+` FROM thing_group_members m
		JOIN thing_groups g ON g.account = m.account AND g.region = m.region AND g.name = m.grp
		WHERE m.account = ? AND m.region = ? AND m.thing = ? AND m.grp > ? ORDER BY m.grp LIMIT ?`,
		s.Account, s.Region, thing, p.After, pageLimit(p))
	groups, next := cutPage(p, groups, func(g fleet.ThingGroup) string { return g.Name })
	return groups, next, err
}

// Members lists the things of a group by name. If recursive, those of its descendants follow, group by group in the order of the
// tree: a thing is in one group of a tree. Where many groups follow each other that have none, a page may have fewer things than
// it has room for, or none, and another behind it.
func (tx *Tx) Members(s fleet.Scope, group fleet.ThingGroup, recursive bool, p fleet.Page) (things []string, next string, err error) {
	if !recursive {
		things, err = tx.membersOf(s, group.Name, p.After, pageLimit(p))
		things, next = cutPage(p, things, self)
		return things, next, err
	}
	// A key is that of the group and the thing's name with a tab between.
	key := func(g fleet.ThingGroup, thing string) string { return treeKey(g) + "\t" + thing }
	at, thing := group, ""
	if i := strings.LastIndex(p.After, "\t"); i >= 0 {
		thing = p.After[i+1:]
		path, name, _ := strings.Cut(p.After[:i], "\t")
		at.Name, at.Path = name, pathOf(path)
	}
	var keys []string
	add := func(g fleet.ThingGroup, after string) error {
		more, err := tx.membersOf(s, g.Name, after, pageLimit(p)-int64(len(things)))
		for _, t := range more {
			things, keys = append(things, t), append(keys, key(g, t))
		}
		return err
	}
	if err := add(at, thing); err != nil {
		return nil, "", err
	}
	for looked, n := int64(0), int64(4); int64(len(things)) < pageLimit(p); looked, n = looked+n, 4*n {
		if p.Limit <= 0 {
			n = noLimit
		} else if looked >= scanned {
			_, last := prefixRange("")
			return things, key(at, last), nil
		}
		groups, err := tx.filled(s, group, treeKey(at), n)
		if err != nil {
			return nil, "", err
		}
		for _, g := range groups {
			if at = g.ThingGroup; g.filled && int64(len(things)) < pageLimit(p) {
				if err := add(at, ""); err != nil {
					return nil, "", err
				}
			}
		}
		if int64(len(groups)) < n {
			break
		}
	}
	if p.Limit > 0 && len(things) > p.Limit {
		return things[:p.Limit], keys[p.Limit-1], nil
	}
	return things, "", nil
}

// A perhapsFilled is a group of which name and path are known, and whether it has things.
type perhapsFilled struct {
	fleet.ThingGroup
	filled bool
}

// filled lists what is below a group in the order of the tree, from behind the one with the treeKey after on.
func (tx *Tx) filled(s fleet.Scope, under fleet.ThingGroup, after string, limit int64) ([]perhapsFilled, error) {
	where, args := below(s, under, after)
	return all(tx, func(r scanner) (g perhapsFilled, err error) {
		var path string
		err = r.Scan(&g.Name, &path, &g.filled)
		g.Path = pathOf(path)
		return g, err
	}, `SELECT g.name, g.path, EXISTS (SELECT 1 FROM thing_group_members m WHERE m.account = g.account AND m.region = g.region AND m.grp = g.name)
		FROM thing_groups g WHERE `+where+` ORDER BY `+tree+` LIMIT ?`, append(args, limit)...)
}

func (tx *Tx) membersOf(s fleet.Scope, group, after string, limit int64) ([]string, error) {
	return all(tx, scanString, `SELECT thing FROM thing_group_members WHERE account = ? AND region = ? AND grp = ? AND thing > ? ORDER BY thing LIMIT ?`,
		s.Account, s.Region, group, after, limit)
}

const billingGroupColumns = `name, id, description, version, created`

func scanBillingGroup(s scanner) (g fleet.BillingGroup, err error) {
	var created int64
	err = s.Scan(&g.Name, &g.ID, &g.Description, &g.Version, &created)
	g.Created = fromMillis(created)
	return g, err
}

// BillingGroup returns a billing group. It fails with KindNotFound.
func (tx *Tx) BillingGroup(s fleet.Scope, name string) (fleet.BillingGroup, error) {
	return find(tx, "billing group", name, scanBillingGroup,
		`SELECT `+billingGroupColumns+` FROM billing_groups WHERE account = ? AND region = ? AND name = ?`,
		s.Account, s.Region, name)
}

// PutBillingGroup stores a billing group, new or changed.
func (tx *Tx) PutBillingGroup(s fleet.Scope, g fleet.BillingGroup) error {
	_, err := tx.exec(`INSERT INTO billing_groups (account, region, name, id, description, version, created) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, name) DO UPDATE SET description = excluded.description, version = excluded.version`,
		s.Account, s.Region, g.Name, g.ID, g.Description, g.Version, millis(g.Created))
	tx.Changed(s, ChangedBillingGroup, g.Name)
	return err
}

// DeleteBillingGroup removes a billing group and its tags. Its things must have left before.
func (tx *Tx) DeleteBillingGroup(s fleet.Scope, name string) error {
	if _, err := tx.exec(`DELETE FROM billing_groups WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name); err != nil {
		return err
	}
	tx.Changed(s, ChangedBillingGroup, name)
	return tx.deleteTags(s, "billinggroup/"+name)
}

// BillingGroups lists the billing groups whose name begins with prefix, by name.
func (tx *Tx) BillingGroups(s fleet.Scope, prefix string, p fleet.Page) ([]fleet.BillingGroup, string, error) {
	where, args := prefixPage(p, prefix, "name")
	groups, err := all(tx, scanBillingGroup, `SELECT `+billingGroupColumns+` FROM billing_groups WHERE account = ? AND region = ? AND `+where+` ORDER BY name LIMIT ?`,
		append(append([]any{s.Account, s.Region}, args...), pageLimit(p))...)
	groups, next := cutPage(p, groups, func(g fleet.BillingGroup) string { return g.Name })
	return groups, next, err
}

// BilledThings lists the things in a billing group, by name.
func (tx *Tx) BilledThings(s fleet.Scope, group string, p fleet.Page) ([]string, string, error) {
	things, err := all(tx, scanString, `SELECT name FROM things
		WHERE account = ? AND region = ? AND billing_group = ? AND billing_group <> '' AND name > ? ORDER BY name LIMIT ?`,
		s.Account, s.Region, group, p.After, pageLimit(p))
	things, next := cutPage(p, things, self)
	return things, next, err
}

// SetBillingGroup puts a thing into a billing group, or into none. The thing's version stays.
func (tx *Tx) SetBillingGroup(s fleet.Scope, thing, group string) error {
	ok, err := changedRows(tx.exec(`UPDATE things SET billing_group = ? WHERE account = ? AND region = ? AND name = ?`,
		group, s.Account, s.Region, thing))
	if err == nil && !ok {
		return fmt.Errorf("billing group of %q: %w", thing, fleet.NotFound("thing", thing))
	}
	tx.Changed(s, ChangedThing, thing)
	return err
}
