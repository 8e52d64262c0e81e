package registry

import (
	"context"
	"maps"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Hard limits of thing groups (iot-core spec 11).
const (
	maxGroupDepth      = 7
	maxChildGroups     = 100
	maxGroupsPerThing  = 10
	maxGroupAttributes = 50
)

// GroupSpec is what CreateGroup is asked for.
type GroupSpec struct {
	Name        string
	Parent      string // "": a root
	Description string
	Attributes  map[string]string
	Tags        []fleet.Tag
}

// CreateGroup creates a static thing group. The same again returns the group that exists, a different one is KindExists.
func CreateGroup(tx *store.Tx, s fleet.Scope, spec GroupSpec) (fleet.ThingGroup, error) {
	if err := checkName("thing group", spec.Name); err != nil {
		return fleet.ThingGroup{}, err
	}
	if err := checkDescription("thing group", spec.Name, &spec.Description); err != nil {
		return fleet.ThingGroup{}, err
	}
	g := fleet.ThingGroup{Name: spec.Name, ID: fleet.NewUUID(), Parent: spec.Parent, Description: spec.Description,
		Attributes: mergeAttributes(nil, spec.Attributes, false), Version: 1, Created: tx.Now()}
	if err := checkAttributes("thing group", spec.Name, g.Attributes, maxGroupAttributes); err != nil {
		return fleet.ThingGroup{}, err
	}
	if spec.Parent != "" {
		parent, err := tx.Group(s, spec.Parent)
		if err != nil {
			return fleet.ThingGroup{}, err
		}
		g.Path = append(slices.Clip(parent.Path), parent.Name)
	}
	switch old, err := tx.Group(s, spec.Name); {
	case err == nil && old.Parent == g.Parent && old.Description == g.Description && maps.Equal(old.Attributes, g.Attributes):
		return old, nil
	case err == nil:
		return fleet.ThingGroup{}, exists(old.ID, s.IoT("thinggroup", g.Name), "Thing Group %s already exists in current account with different properties", g.Name)
	case !missing(err):
		return fleet.ThingGroup{}, err
	}
	if err := checkPlace(tx, s, g); err != nil {
		return fleet.ThingGroup{}, err
	}
	if err := PutNewTags(tx, s, "thinggroup/"+g.Name, spec.Tags); err != nil {
		return fleet.ThingGroup{}, err
	}
	if err := tx.CreateGroup(s, g); err != nil {
		return g, err
	}
	return g, groupChanged(tx, s, created, g)
}

// checkPlace checks that the tree has room where a new group shall stand.
func checkPlace(tx *store.Tx, s fleet.Scope, g fleet.ThingGroup) error {
	if g.Parent == "" {
		return nil
	}
	if len(g.Path)+1 > maxGroupDepth {
		return fleet.Invalid("thing group", g.Name, "would be %d levels deep; at most %d are allowed", len(g.Path)+1, maxGroupDepth)
	}
	n, err := tx.CountChildGroups(s, g.Parent)
	if err == nil && n >= maxChildGroups {
		return fleet.Invalid("thing group", g.Name, "cannot be created: its parent %s has %d child groups, more are not allowed", g.Parent, n)
	}
	return err
}

// GroupChange says what UpdateGroup changes; nil fields are left alone.
type GroupChange struct {
	Description *string
	Attributes  map[string]string // an empty value removes the attribute
	Merge       bool
	Expected    *int64
}

// UpdateGroup changes a thing group and returns it with its new version.
func UpdateGroup(tx *store.Tx, s fleet.Scope, name string, c GroupChange) (fleet.ThingGroup, error) {
	g, err := tx.Group(s, name)
	if err != nil {
		return g, err
	}
	if err := checkVersion("thing group", name, g.Version, c.Expected); err != nil {
		return g, err
	}
	if c.Description != nil {
		g.Description = *c.Description
	}
	if c.Attributes != nil {
		g.Attributes = mergeAttributes(g.Attributes, c.Attributes, c.Merge)
	}
	if err := checkDescription("thing group", name, c.Description); err != nil {
		return g, err
	}
	if err := checkAttributes("thing group", name, g.Attributes, maxGroupAttributes); err != nil {
		return g, err
	}
	g.Version++
	if err := tx.UpdateGroup(s, g); err != nil {
		return g, err
	}
	return g, groupChanged(tx, s, updated, g)
}

// DeleteGroup deletes a group without children, with its policy attachments; its members leave it first, in chunks. A group
// that does not exist is no error.
func (r *Service) DeleteGroup(ctx context.Context, s fleet.Scope, name string, expected *int64) error {
	for done := false; !done; {
		err := r.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			done, err = deleteGroupStep(tx, s, name, expected)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func deleteGroupStep(tx *store.Tx, s fleet.Scope, name string, expected *int64) (done bool, err error) {
	g, err := tx.Group(s, name)
	if missing(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if err := checkVersion("thing group", name, g.Version, expected); err != nil {
		return false, err
	}
	children, err := tx.CountChildGroups(s, name)
	if err != nil {
		return false, err
	}
	if children > 0 {
		return false, exact(fleet.KindInvalid, "Cannot delete thing group : %s when there are still child groups attached to it", name)
	}
	members, next, err := tx.Members(s, g, false, fleet.Page{Limit: chunk})
	if err != nil {
		return false, err
	}
	for _, thing := range members {
		if err := leave(tx, s, thing, name); err != nil {
			return false, err
		}
	}
	if next != "" {
		return false, nil
	}
	if err := tx.DeleteGroup(s, name); err != nil {
		return false, err
	}
	return true, groupChanged(tx, s, deleted, g)
}

// AddToGroup makes a thing a member of a static group; again is no error. A thing may be in one group of each tree and in ten
// groups in all.
func AddToGroup(tx *store.Tx, s fleet.Scope, thing, group string) error {
	return ChangeGroups(tx, s, thing, []string{group}, nil)
}

// RemoveFromGroup ends a membership; a thing that is no member is no error.
func RemoveFromGroup(tx *store.Tx, s fleet.Scope, thing, group string) error {
	return ChangeGroups(tx, s, thing, nil, []string{group})
}

// ChangeGroups takes a thing out of the groups in remove and puts it into those in add: all of it or nothing.
func ChangeGroups(tx *store.Tx, s fleet.Scope, thing string, add, remove []string) error {
	if _, err := tx.Thing(s, thing); err != nil {
		return err
	}
	for _, name := range remove {
		if _, err := tx.Group(s, name); err != nil {
			return err
		}
		if err := leave(tx, s, thing, name); err != nil {
			return err
		}
	}
	if len(add) == 0 {
		return nil
	}
	in, _, err := tx.GroupsOf(s, thing, fleet.Page{})
	if err != nil {
		return err
	}
	for _, name := range add {
		g, err := tx.Group(s, name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(in, func(o fleet.ThingGroup) bool { return o.Name == name }) {
			continue
		}
		if i := slices.IndexFunc(in, func(o fleet.ThingGroup) bool { return root(o) == root(g) }); i >= 0 {
			return fleet.Invalid("thing", thing, "cannot join thing group %s: it is in %s, which is in the same hierarchy", name, in[i].Name)
		}
		if len(in) >= maxGroupsPerThing {
			return fleet.Invalid("thing", thing, "cannot join thing group %s: it is in %d groups, more are not allowed", name, len(in))
		}
		if err := join(tx, s, thing, name); err != nil {
			return err
		}
		in = append(in, g)
	}
	return nil
}

// root is the name of the group at the top of g's tree.
func root(g fleet.ThingGroup) string {
	if len(g.Path) > 0 {
		return g.Path[0]
	}
	return g.Name
}
