package store

import (
	"fmt"
	"slices"
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

// Groups lists the thing groups that pass f, by name; all that are below a group in the order of the tree.
func (tx *Tx) Groups(s fleet.Scope, f GroupFilter, p fleet.Page) ([]fleet.ThingGroup, string, error) {
	switch {
	case f.Under != nil && !f.Depth1 && f.Prefix == "":
		groups, err := tx.below(s, *f.Under, p.After, pageLimit(p), "")
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

// namedBelow lists what is below a group and begins as f says, by name: from the few that are below it, else from those that begin so, of
// which a page looks at some.
func (tx *Tx) namedBelow(s fleet.Scope, f GroupFilter, p fleet.Page) ([]fleet.ThingGroup, string, error) {
	const few = 100
	name := func(g fleet.ThingGroup) string { return g.Name }
	groups, err := tx.below(s, *f.Under, "", few+1, "")
	if err != nil {
		return nil, "", err
	}
	if len(groups) <= few {
		groups = slices.DeleteFunc(groups, func(g fleet.ThingGroup) bool { return !strings.HasPrefix(g.Name, f.Prefix) || g.Name <= p.After })
		slices.SortFunc(groups, func(a, b fleet.ThingGroup) int { return strings.Compare(a.Name, b.Name) })
		groups, next := cutPage(p, groups, name)
		return groups, next, nil
	}
	most := int64(scanned)
	if p.Limit <= 0 {
		most = noLimit
	}
	lo, hi := prefixRange(groupPath(f.Under.Path, f.Under.Name))
	where, args := prefixPage(p, f.Prefix, "g.name")
	return sift(tx, p, most, scanGroup, name, `SELECT `+groupColumns+`, g.path >= ? AND g.path < ? FROM thing_groups g WHERE g.account = ? AND g.region = ? AND `+where+` ORDER BY g.name`,
		append([]any{lo, hi, s.Account, s.Region}, args...)...)
}

// treeKey is where a group stands in the order of the tree: path and name with a tab between, which neither can hold.
func treeKey(g fleet.ThingGroup) string { return groupPath(g.Path, "") + "\t" + g.Name }

// below lists the groups under a group in the order of the tree, from behind the one with the key after on, "" for all; only further
// narrows them.
func (tx *Tx) below(s fleet.Scope, under fleet.ThingGroup, after string, limit int64, only string) ([]fleet.ThingGroup, error) {
	lo, hi := prefixRange(groupPath(under.Path, under.Name))
	where, args := `g.path >= ?`, []any{lo}
	if path, name, later := strings.Cut(after, "\t"); later { // one lower bound, see prefixPage
		where, args = `(g.path, g.name) > (?, ?)`, []any{path, name}
	}
	return all(tx, scanGroup, `SELECT `+groupColumns+` FROM thing_groups g WHERE g.account = ? AND g.region = ? AND `+where+` AND g.path < ?`+only+`
		ORDER BY g.path, g.name LIMIT ?`, append(append([]any{s.Account, s.Region}, args...), hi, limit)...)
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

// Members lists the things of a group by name. If recursive, those of its descendants follow, group by group in the order of the tree:
// a thing is in one group of a tree.
func (tx *Tx) Members(s fleet.Scope, group fleet.ThingGroup, recursive bool, p fleet.Page) (things []string, next string, err error) {
	if !recursive {
		things, err = tx.membersOf(s, group.Name, p.After, pageLimit(p))
		things, next = cutPage(p, things, self)
		return things, next, err
	}
	// A key is that of the group and the thing's name with a tab between.
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
			things, keys = append(things, t), append(keys, treeKey(g)+"\t"+t)
		}
		return err
	}
	if err := add(at, thing); err != nil {
		return nil, "", err
	}
	if room := pageLimit(p) - int64(len(things)); room > 0 {
		after := ""
		if at.Name != group.Name {
			after = treeKey(at)
		}
		rest, err := tx.below(s, group, after, room, ` AND EXISTS (SELECT 1 FROM thing_group_members m WHERE m.account = g.account AND m.region = g.region AND m.grp = g.name)`)
		if err != nil {
			return nil, "", err
		}
		for _, g := range rest {
			if int64(len(things)) >= pageLimit(p) {
				break
			}
			if err := add(g, ""); err != nil {
				return nil, "", err
			}
		}
	}
	if p.Limit > 0 && len(things) > p.Limit {
		return things[:p.Limit], keys[p.Limit-1], nil
	}
	return things, "", nil
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
