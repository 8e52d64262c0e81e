package iot

import (
	"context"
	"strconv"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) thingRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateThing", a.createThing).On(func(s fleet.Scope, in *CreateThingInput) []string {
			return both(s, []string{s.IoT("thing", in.ThingName)}, "billinggroup", in.BillingGroupName, nil)
		}),
		wire.Do("DescribeThing", a.describeThing).On(named("thing", func(in *DescribeThingInput) string { return in.ThingName })),
		wire.Do("UpdateThing", a.updateThing).On(named("thing", func(in *UpdateThingInput) string { return in.ThingName })),
		wire.Do("DeleteThing", a.deleteThing).On(named("thing", func(in *DeleteThingInput) string { return in.ThingName })),
		wire.Do("ListThings", a.listThings),
		wire.Do("AttachThingPrincipal", a.attachThingPrincipal),
		wire.Do("DetachThingPrincipal", a.detachThingPrincipal),
		wire.Do("ListThingPrincipals", a.listThingPrincipals),
		wire.Do("ListThingPrincipalsV2", a.listThingPrincipalsV2).Action("ListThingPrincipals"),
		wire.Do("ListPrincipalThings", a.listPrincipalThings),
		wire.Do("ListPrincipalThingsV2", a.listPrincipalThingsV2).Action("ListPrincipalThings"),

		wire.Do("CreateThingType", a.createThingType).
			On(named("thingtype", func(in *CreateThingTypeInput) string { return in.ThingTypeName })).
			Conditions(tagging(func(in *CreateThingTypeInput) []Tag { return in.Tags })),
		wire.Do("DescribeThingType", a.describeThingType).On(named("thingtype", func(in *DescribeThingTypeInput) string { return in.ThingTypeName })),
		wire.Do("UpdateThingType", a.updateThingType).On(named("thingtype", func(in *UpdateThingTypeInput) string { return in.ThingTypeName })),
		wire.Do("DeprecateThingType", a.deprecateThingType).On(named("thingtype", func(in *DeprecateThingTypeInput) string { return in.ThingTypeName })),
		wire.Do("DeleteThingType", a.deleteThingType).On(named("thingtype", func(in *DeleteThingTypeInput) string { return in.ThingTypeName })),
		wire.Do("ListThingTypes", a.listThingTypes),
	}
}

func (a *API) createThing(ctx context.Context, in *CreateThingInput) (*CreateThingOutput, error) {
	spec := registry.ThingSpec{Name: in.ThingName, Type: wire.Value(in.ThingTypeName), BillingGroup: wire.Value(in.BillingGroupName)}
	if in.AttributePayload != nil {
		spec.Attributes = in.AttributePayload.Attributes
	}
	var out CreateThingOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, err := registry.CreateThing(tx, s, spec)
		out = CreateThingOutput{ThingName: &t.Name, ThingId: &t.ID, ThingArn: new(s.IoT("thing", t.Name))}
		return err
	})
	return &out, err
}

func (a *API) describeThing(ctx context.Context, in *DescribeThingInput) (*DescribeThingOutput, error) {
	var out DescribeThingOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, err := tx.Thing(s, in.ThingName)
		out = DescribeThingOutput{DefaultClientId: &t.Name, ThingName: &t.Name, ThingId: &t.ID, ThingArn: new(s.IoT("thing", t.Name)),
			ThingTypeName: wire.Optional(t.Type), Attributes: present(t.Attributes), Version: &t.Version, BillingGroupName: wire.Optional(t.BillingGroup)}
		return err
	})
	return &out, err
}

func (a *API) updateThing(ctx context.Context, in *UpdateThingInput) (*UpdateThingOutput, error) {
	change := registry.ThingChange{Type: in.ThingTypeName, RemoveType: wire.Value(in.RemoveThingType), Expected: in.ExpectedVersion}
	change.Attributes, change.Merge = attributesFrom(in.AttributePayload)
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		_, err := registry.UpdateThing(tx, s, in.ThingName, change)
		return err
	})
}

// attributesFrom gives nil attributes if the payload leaves them alone: without merge, a payload without attributes clears them.
func attributesFrom(p *AttributePayload) (attributes map[string]string, merge bool) {
	if p == nil {
		return nil, false
	}
	return present(p.Attributes), wire.Value(p.Merge)
}

func (a *API) deleteThing(ctx context.Context, in *DeleteThingInput) (*DeleteThingOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DeleteThing(tx, s, in.ThingName, in.ExpectedVersion)
	})
}

func (a *API) listThings(ctx context.Context, in *ListThingsInput) (*ListThingsOutput, error) {
	filter := store.ThingFilter{Type: wire.Value(in.ThingTypeName), Attribute: wire.Value(in.AttributeName), Value: wire.Value(in.AttributeValue),
		Prefix: wire.Value(in.UsePrefixAttributeValue)}
	if filter.Attribute == "" && filter.Value != "" {
		return nil, fleet.Invalid("attribute value", filter.Value, "needs attributeName, too")
	}
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListThings", filter.Type, filter.Attribute, filter.Value, strconv.FormatBool(filter.Prefix))
	if err != nil {
		return nil, err
	}
	out := ListThingsOutput{Things: []ThingAttribute{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		things, next, err := tx.Things(s, filter, l.Page)
		for _, t := range things {
			out.Things = append(out.Things, ThingAttribute{ThingName: &t.Name, ThingTypeName: wire.Optional(t.Type), ThingArn: new(s.IoT("thing", t.Name)),
				Attributes: present(t.Attributes), Version: &t.Version})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return &out, err
}

func (a *API) attachThingPrincipal(ctx context.Context, in *AttachThingPrincipalInput) (*AttachThingPrincipalOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.AttachPrincipal(tx, s, in.ThingName, in.Principal, fleet.PrincipalType(wire.Value(in.ThingPrincipalType)))
	})
}

func (a *API) detachThingPrincipal(ctx context.Context, in *DetachThingPrincipalInput) (*DetachThingPrincipalOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DetachPrincipal(tx, s, in.ThingName, in.Principal)
	})
}

// thingPrincipals is a page of the principals of a thing.
func (a *API) thingPrincipals(ctx context.Context, thing string, only *string, token *string, limit *int) ([]fleet.Attachment, *string, error) {
	l, err := list(ctx, token, limit, "ListThingPrincipals", thing, wire.Value(only))
	if err != nil {
		return nil, nil, err
	}
	var page []fleet.Attachment
	var next string
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if _, err := tx.Thing(s, thing); err != nil {
			return err
		}
		page, next, err = tx.PrincipalsOf(s, thing, fleet.PrincipalType(wire.Value(only)), l.Page)
		return err
	})
	return page, l.Token(next), err
}

func (a *API) listThingPrincipals(ctx context.Context, in *ListThingPrincipalsInput) (*ListThingPrincipalsOutput, error) {
	page, next, err := a.thingPrincipals(ctx, in.ThingName, nil, in.NextToken, in.MaxResults)
	out := ListThingPrincipalsOutput{Principals: []string{}, NextToken: next}
	for _, p := range page {
		out.Principals = append(out.Principals, p.Principal)
	}
	return &out, err
}

func (a *API) listThingPrincipalsV2(ctx context.Context, in *ListThingPrincipalsV2Input) (*ListThingPrincipalsV2Output, error) {
	page, next, err := a.thingPrincipals(ctx, in.ThingName, in.ThingPrincipalType, in.NextToken, in.MaxResults)
	out := ListThingPrincipalsV2Output{ThingPrincipalObjects: []ThingPrincipalObject{}, NextToken: next}
	for _, p := range page {
		out.ThingPrincipalObjects = append(out.ThingPrincipalObjects, ThingPrincipalObject{Principal: p.Principal, ThingPrincipalType: new(string(p.Type))})
	}
	return &out, err
}

// principalThings is a page of the things of a principal.
func (a *API) principalThings(ctx context.Context, principal string, only *string, token *string, limit *int) ([]fleet.Attachment, *string, error) {
	l, err := list(ctx, token, limit, "ListPrincipalThings", principal, wire.Value(only))
	if err != nil {
		return nil, nil, err
	}
	var page []fleet.Attachment
	var next string
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if err := registry.CheckPrincipal(tx, s, principal); err != nil {
			return err
		}
		page, next, err = tx.ThingsOf(s, principal, fleet.PrincipalType(wire.Value(only)), l.Page)
		return err
	})
	return page, l.Token(next), err
}

func (a *API) listPrincipalThings(ctx context.Context, in *ListPrincipalThingsInput) (*ListPrincipalThingsOutput, error) {
	page, next, err := a.principalThings(ctx, in.Principal, nil, in.NextToken, in.MaxResults)
	out := ListPrincipalThingsOutput{Things: []string{}, NextToken: next}
	for _, p := range page {
		out.Things = append(out.Things, p.Thing)
	}
	return &out, err
}

func (a *API) listPrincipalThingsV2(ctx context.Context, in *ListPrincipalThingsV2Input) (*ListPrincipalThingsV2Output, error) {
	page, next, err := a.principalThings(ctx, in.Principal, in.ThingPrincipalType, in.NextToken, in.MaxResults)
	out := ListPrincipalThingsV2Output{PrincipalThingObjects: []PrincipalThingObject{}, NextToken: next}
	for _, p := range page {
		out.PrincipalThingObjects = append(out.PrincipalThingObjects, PrincipalThingObject{ThingName: p.Thing, ThingPrincipalType: new(string(p.Type))})
	}
	return &out, err
}
