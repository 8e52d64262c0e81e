package iot

import (
	"context"
	"strconv"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) groupRows() []wire.Row {
	return append([]wire.Row{
		wire.Do("CreateThingGroup", a.createThingGroup).
			On(named("thinggroup", func(in *CreateThingGroupInput) string { return in.ThingGroupName })).
			Conditions(tagging(func(in *CreateThingGroupInput) []Tag { return in.Tags })),
		wire.Do("DescribeThingGroup", a.describeThingGroup).On(named("thinggroup", func(in *DescribeThingGroupInput) string { return in.ThingGroupName })),
		wire.Do("UpdateThingGroup", a.updateThingGroup).On(named("thinggroup", func(in *UpdateThingGroupInput) string { return in.ThingGroupName })),
		wire.Do("DeleteThingGroup", a.deleteThingGroup).On(named("thinggroup", func(in *DeleteThingGroupInput) string { return in.ThingGroupName })),
		wire.Do("ListThingGroups", a.listThingGroups),
		wire.Do("AddThingToThingGroup", a.addThingToThingGroup).On(func(s fleet.Scope, in *AddThingToThingGroupInput) []string {
			return both(s, both(s, nil, "thing", in.ThingName, in.ThingArn), "thinggroup", in.ThingGroupName, in.ThingGroupArn)
		}),
		wire.Do("RemoveThingFromThingGroup", a.removeThingFromThingGroup).On(func(s fleet.Scope, in *RemoveThingFromThingGroupInput) []string {
			return both(s, both(s, nil, "thing", in.ThingName, in.ThingArn), "thinggroup", in.ThingGroupName, in.ThingGroupArn)
		}),
		wire.Do("UpdateThingGroupsForThing", a.updateThingGroupsForThing).On(func(s fleet.Scope, in *UpdateThingGroupsForThingInput) []string {
			arns := both(s, nil, "thing", in.ThingName, nil)
			for _, g := range append(in.ThingGroupsToRemove, in.ThingGroupsToAdd...) {
				arns = append(arns, s.IoT("thinggroup", g))
			}
			return arns
		}),
		wire.Do("ListThingGroupsForThing", a.listThingGroupsForThing).On(named("thing", func(in *ListThingGroupsForThingInput) string { return in.ThingName })),
		wire.Do("ListThingsInThingGroup", a.listThingsInThingGroup).On(named("thinggroup", func(in *ListThingsInThingGroupInput) string { return in.ThingGroupName })),
	}, a.billingRows()...)
}

func groupRef(s fleet.Scope, kind, name string) GroupNameAndArn {
	return GroupNameAndArn{GroupName: &name, GroupArn: new(s.IoT(kind, name))}
}

func (a *API) createThingGroup(ctx context.Context, in *CreateThingGroupInput) (*CreateThingGroupOutput, error) {
	spec := registry.GroupSpec{Name: in.ThingGroupName, Parent: wire.Value(in.ParentGroupName), Tags: tagsFrom(in.Tags)}
	if p := in.ThingGroupProperties; p != nil {
		spec.Description = wire.Value(p.ThingGroupDescription)
		spec.Attributes, _ = attributesFrom(p.AttributePayload)
	}
	var out CreateThingGroupOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		g, err := registry.CreateGroup(tx, s, spec)
		out = CreateThingGroupOutput{ThingGroupName: &g.Name, ThingGroupId: &g.ID, ThingGroupArn: new(s.IoT("thinggroup", g.Name))}
		return err
	})
	return &out, err
}

func (a *API) describeThingGroup(ctx context.Context, in *DescribeThingGroupInput) (*DescribeThingGroupOutput, error) {
	var out DescribeThingGroupOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		g, err := tx.Group(s, in.ThingGroupName)
		meta := &ThingGroupMetadata{ParentGroupName: wire.Optional(g.Parent), RootToParentThingGroups: []GroupNameAndArn{}, CreationDate: &g.Created}
		for _, name := range g.Path {
			meta.RootToParentThingGroups = append(meta.RootToParentThingGroups, groupRef(s, "thinggroup", name))
		}
		out = DescribeThingGroupOutput{ThingGroupName: &g.Name, ThingGroupId: &g.ID, ThingGroupArn: new(s.IoT("thinggroup", g.Name)),
			Version: &g.Version, ThingGroupMetadata: meta, ThingGroupProperties: groupProperties(g)}
		return err
	})
	return &out, err
}

// groupProperties has only what was given: Terraform takes an empty object for a difference from a configuration without one.
func groupProperties(g fleet.ThingGroup) *ThingGroupProperties {
	var p ThingGroupProperties
	if len(g.Attributes) > 0 {
		p.AttributePayload = &AttributePayload{Attributes: g.Attributes}
	}
	if p.ThingGroupDescription = wire.Optional(g.Description); p == (ThingGroupProperties{}) {
		return nil
	}
	return &p
}

func (a *API) updateThingGroup(ctx context.Context, in *UpdateThingGroupInput) (*UpdateThingGroupOutput, error) {
	change := registry.GroupChange{Expected: in.ExpectedVersion}
	if p := in.ThingGroupProperties; p != nil {
		change.Description = p.ThingGroupDescription
		change.Attributes, change.Merge = attributesFrom(p.AttributePayload)
	}
	var out UpdateThingGroupOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		g, err := registry.UpdateGroup(tx, s, in.ThingGroupName, change)
		out.Version = &g.Version
		return err
	})
	return &out, err
}

func (a *API) deleteThingGroup(ctx context.Context, in *DeleteThingGroupInput) (*DeleteThingGroupOutput, error) {
	return nil, a.Registry.DeleteGroup(ctx, scope(ctx), in.ThingGroupName, in.ExpectedVersion)
}

func (a *API) listThingGroups(ctx context.Context, in *ListThingGroupsInput) (*ListThingGroupsOutput, error) {
	parent, flat := wire.Value(in.ParentGroup), in.Recursive != nil && !*in.Recursive
	if parent != "" { // below a parent, only children unless recursive; without one, all unless recursive is false
		flat = !wire.Value(in.Recursive)
	}
	filter := store.GroupFilter{Depth1: flat, Prefix: wire.Value(in.NamePrefixFilter)}
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListThingGroups", parent, filter.Prefix, strconv.FormatBool(flat))
	if err != nil {
		return nil, err
	}
	out := ListThingGroupsOutput{ThingGroups: []GroupNameAndArn{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if parent != "" {
			g, err := tx.Group(s, parent)
			if err != nil {
				return err
			}
			filter.Under = &g
		}
		groups, next, err := tx.Groups(s, filter, l.Page)
		for _, g := range groups {
			out.ThingGroups = append(out.ThingGroups, groupRef(s, "thinggroup", g.Name))
		}
		out.NextToken = l.Token(next)
		return err
	})
	return &out, err
}

// thingAndGroup finds out which thing and which group of a kind are meant.
func thingAndGroup(s fleet.Scope, thing, thingARN *string, kind, resource string, group, groupARN *string) (string, string, error) {
	t, err := resolveName(s, "thing", "thing", thing, thingARN)
	if err != nil {
		return "", "", err
	}
	g, err := resolveName(s, kind, resource, group, groupARN)
	return t, g, err
}

func (a *API) addThingToThingGroup(ctx context.Context, in *AddThingToThingGroupInput) (*AddThingToThingGroupOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, g, err := thingAndGroup(s, in.ThingName, in.ThingArn, "thinggroup", "thing group", in.ThingGroupName, in.ThingGroupArn)
		if err != nil {
			return err
		}
		return registry.AddToGroup(tx, s, t, g)
	})
}

func (a *API) removeThingFromThingGroup(ctx context.Context, in *RemoveThingFromThingGroupInput) (*RemoveThingFromThingGroupOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, g, err := thingAndGroup(s, in.ThingName, in.ThingArn, "thinggroup", "thing group", in.ThingGroupName, in.ThingGroupArn)
		if err != nil {
			return err
		}
		return registry.RemoveFromGroup(tx, s, t, g)
	})
}

func (a *API) updateThingGroupsForThing(ctx context.Context, in *UpdateThingGroupsForThingInput) (*UpdateThingGroupsForThingOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		thing, err := resolveName(s, "thing", "thing", in.ThingName, nil)
		if err != nil {
			return err
		}
		return registry.ChangeGroups(tx, s, thing, in.ThingGroupsToAdd, in.ThingGroupsToRemove)
	})
}

func (a *API) listThingGroupsForThing(ctx context.Context, in *ListThingGroupsForThingInput) (*ListThingGroupsForThingOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListThingGroupsForThing", in.ThingName)
	if err != nil {
		return nil, err
	}
	out := ListThingGroupsForThingOutput{ThingGroups: []GroupNameAndArn{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if _, err := tx.Thing(s, in.ThingName); err != nil {
			return err
		}
		groups, next, err := tx.GroupsOf(s, in.ThingName, l.Page)
		for _, g := range groups {
			out.ThingGroups = append(out.ThingGroups, groupRef(s, "thinggroup", g.Name))
		}
		out.NextToken = l.Token(next)
		return err
	})
	return &out, err
}

func (a *API) listThingsInThingGroup(ctx context.Context, in *ListThingsInThingGroupInput) (*ListThingsInThingGroupOutput, error) {
	recursive := wire.Value(in.Recursive)
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListThingsInThingGroup", in.ThingGroupName, strconv.FormatBool(recursive))
	if err != nil {
		return nil, err
	}
	out := ListThingsInThingGroupOutput{}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		g, err := tx.Group(s, in.ThingGroupName)
		if err != nil {
			return err
		}
		things, next, err := tx.Members(s, g, recursive, l.Page)
		out.Things, out.NextToken = append([]string{}, things...), l.Token(next)
		return err
	})
	return &out, err
}
