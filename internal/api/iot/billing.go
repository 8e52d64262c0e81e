package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) billingRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateBillingGroup", a.createBillingGroup).
			On(named("billinggroup", func(in *CreateBillingGroupInput) string { return in.BillingGroupName })).
			Conditions(tagging(func(in *CreateBillingGroupInput) []Tag { return in.Tags })),
		wire.Do("DescribeBillingGroup", a.describeBillingGroup).On(named("billinggroup", func(in *DescribeBillingGroupInput) string { return in.BillingGroupName })),
		wire.Do("UpdateBillingGroup", a.updateBillingGroup).On(named("billinggroup", func(in *UpdateBillingGroupInput) string { return in.BillingGroupName })),
		wire.Do("DeleteBillingGroup", a.deleteBillingGroup).On(named("billinggroup", func(in *DeleteBillingGroupInput) string { return in.BillingGroupName })),
		wire.Do("ListBillingGroups", a.listBillingGroups),
		wire.Do("ListThingsInBillingGroup", a.listThingsInBillingGroup).On(named("billinggroup", func(in *ListThingsInBillingGroupInput) string { return in.BillingGroupName })),
		wire.Do("AddThingToBillingGroup", a.addThingToBillingGroup).On(func(s fleet.Scope, in *AddThingToBillingGroupInput) []string {
			return both(s, both(s, nil, "thing", in.ThingName, in.ThingArn), "billinggroup", in.BillingGroupName, in.BillingGroupArn)
		}),
		wire.Do("RemoveThingFromBillingGroup", a.removeThingFromBillingGroup).On(func(s fleet.Scope, in *RemoveThingFromBillingGroupInput) []string {
			return both(s, both(s, nil, "thing", in.ThingName, in.ThingArn), "billinggroup", in.BillingGroupName, in.BillingGroupArn)
		}),
	}
}

func billingDescription(p *BillingGroupProperties) *string {
	if p == nil {
		return nil
	}
	return p.BillingGroupDescription
}

func (a *API) createBillingGroup(ctx context.Context, in *CreateBillingGroupInput) (*CreateBillingGroupOutput, error) {
	var out CreateBillingGroupOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		g, err := registry.CreateBillingGroup(tx, s, in.BillingGroupName, wire.Value(billingDescription(in.BillingGroupProperties)), tagsFrom(in.Tags))
		out = CreateBillingGroupOutput{BillingGroupName: &g.Name, BillingGroupId: &g.ID, BillingGroupArn: new(s.IoT("billinggroup", g.Name))}
		return err
	})
	return &out, err
}

func (a *API) describeBillingGroup(ctx context.Context, in *DescribeBillingGroupInput) (*DescribeBillingGroupOutput, error) {
	var out DescribeBillingGroupOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		g, err := tx.BillingGroup(s, in.BillingGroupName)
		out = DescribeBillingGroupOutput{BillingGroupName: &g.Name, BillingGroupId: &g.ID, BillingGroupArn: new(s.IoT("billinggroup", g.Name)),
			Version: &g.Version, BillingGroupProperties: &BillingGroupProperties{BillingGroupDescription: wire.Optional(g.Description)},
			BillingGroupMetadata: &BillingGroupMetadata{CreationDate: &g.Created}}
		return err
	})
	return &out, err
}

func (a *API) updateBillingGroup(ctx context.Context, in *UpdateBillingGroupInput) (*UpdateBillingGroupOutput, error) {
	var out UpdateBillingGroupOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		g, err := registry.UpdateBillingGroup(tx, s, in.BillingGroupName, billingDescription(in.BillingGroupProperties), in.ExpectedVersion)
		out.Version = &g.Version
		return err
	})
	return &out, err
}

func (a *API) deleteBillingGroup(ctx context.Context, in *DeleteBillingGroupInput) (*DeleteBillingGroupOutput, error) {
	return nil, a.Registry.DeleteBillingGroup(ctx, scope(ctx), in.BillingGroupName, in.ExpectedVersion)
}

func (a *API) listBillingGroups(ctx context.Context, in *ListBillingGroupsInput) (*ListBillingGroupsOutput, error) {
	prefix := wire.Value(in.NamePrefixFilter)
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListBillingGroups", prefix)
	if err != nil {
		return nil, err
	}
	out := ListBillingGroupsOutput{BillingGroups: []GroupNameAndArn{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		groups, next, err := tx.BillingGroups(s, prefix, l.Page)
		for _, g := range groups {
			out.BillingGroups = append(out.BillingGroups, groupRef(s, "billinggroup", g.Name))
		}
		out.NextToken = l.Token(next)
		return err
	})
	return &out, err
}

func (a *API) listThingsInBillingGroup(ctx context.Context, in *ListThingsInBillingGroupInput) (*ListThingsInBillingGroupOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListThingsInBillingGroup", in.BillingGroupName)
	if err != nil {
		return nil, err
	}
	out := ListThingsInBillingGroupOutput{}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if _, err := tx.BillingGroup(s, in.BillingGroupName); err != nil {
			return err
		}
		things, next, err := tx.BilledThings(s, in.BillingGroupName, l.Page)
		out.Things, out.NextToken = append([]string{}, things...), l.Token(next)
		return err
	})
	return &out, err
}

func (a *API) addThingToBillingGroup(ctx context.Context, in *AddThingToBillingGroupInput) (*AddThingToBillingGroupOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, g, err := thingAndGroup(s, in.ThingName, in.ThingArn, "billinggroup", "billing group", in.BillingGroupName, in.BillingGroupArn)
		if err != nil {
			return err
		}
		return registry.AddToBillingGroup(tx, s, t, g)
	})
}

func (a *API) removeThingFromBillingGroup(ctx context.Context, in *RemoveThingFromBillingGroupInput) (*RemoveThingFromBillingGroupOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, g, err := thingAndGroup(s, in.ThingName, in.ThingArn, "billinggroup", "billing group", in.BillingGroupName, in.BillingGroupArn)
		if err != nil {
			return err
		}
		return registry.RemoveFromBillingGroup(tx, s, t, g)
	})
}
