package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

func thingTypeSpec(p *ThingTypeProperties) (spec registry.ThingTypeSpec) {
	if p == nil {
		return spec
	}
	spec.Description, spec.Searchable = p.ThingTypeDescription, p.SearchableAttributes
	if p.Mqtt5Configuration != nil {
		spec.Propagating = []fleet.PropagatingAttribute{}
		for _, a := range p.Mqtt5Configuration.PropagatingAttributes {
			spec.Propagating = append(spec.Propagating, fleet.PropagatingAttribute{UserPropertyKey: wire.Value(a.UserPropertyKey),
				ThingAttribute: wire.Value(a.ThingAttribute), ConnectionAttribute: wire.Value(a.ConnectionAttribute)})
		}
	}
	return spec
}

func thingTypeProperties(t fleet.ThingType) *ThingTypeProperties {
	p := &ThingTypeProperties{ThingTypeDescription: wire.Optional(t.Description), SearchableAttributes: t.Searchable}
	for _, a := range t.Propagating {
		if p.Mqtt5Configuration == nil {
			p.Mqtt5Configuration = &Mqtt5Configuration{}
		}
		p.Mqtt5Configuration.PropagatingAttributes = append(p.Mqtt5Configuration.PropagatingAttributes, PropagatingAttribute{
			UserPropertyKey: &a.UserPropertyKey, ThingAttribute: wire.Optional(a.ThingAttribute), ConnectionAttribute: wire.Optional(a.ConnectionAttribute)})
	}
	return p
}

func thingTypeMetadata(t fleet.ThingType) *ThingTypeMetadata {
	m := &ThingTypeMetadata{Deprecated: new(!t.Deprecated.IsZero()), CreationDate: &t.Created}
	if *m.Deprecated {
		m.DeprecationDate = &t.Deprecated
	}
	return m
}

func (a *API) createThingType(ctx context.Context, in *CreateThingTypeInput) (*CreateThingTypeOutput, error) {
	spec := thingTypeSpec(in.ThingTypeProperties)
	spec.Tags = tagsFrom(in.Tags)
	var out CreateThingTypeOutput
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, err := registry.CreateThingType(tx, s, in.ThingTypeName, spec)
		out = CreateThingTypeOutput{ThingTypeName: &t.Name, ThingTypeId: &t.ID, ThingTypeArn: new(s.IoT("thingtype", t.Name))}
		return err
	})
	return &out, err
}

func (a *API) describeThingType(ctx context.Context, in *DescribeThingTypeInput) (*DescribeThingTypeOutput, error) {
	var out DescribeThingTypeOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		t, err := tx.ThingType(s, in.ThingTypeName)
		out = DescribeThingTypeOutput{ThingTypeName: &t.Name, ThingTypeId: &t.ID, ThingTypeArn: new(s.IoT("thingtype", t.Name)),
			ThingTypeProperties: thingTypeProperties(t), ThingTypeMetadata: thingTypeMetadata(t)}
		return err
	})
	return &out, err
}

func (a *API) updateThingType(ctx context.Context, in *UpdateThingTypeInput) (*UpdateThingTypeOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.UpdateThingType(tx, s, in.ThingTypeName, thingTypeSpec(in.ThingTypeProperties))
	})
}

func (a *API) deprecateThingType(ctx context.Context, in *DeprecateThingTypeInput) (*DeprecateThingTypeOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DeprecateThingType(tx, s, in.ThingTypeName, wire.Value(in.UndoDeprecate))
	})
}

func (a *API) deleteThingType(ctx context.Context, in *DeleteThingTypeInput) (*DeleteThingTypeOutput, error) {
	return nil, a.Registry.DeleteThingType(ctx, scope(ctx), in.ThingTypeName)
}

func (a *API) listThingTypes(ctx context.Context, in *ListThingTypesInput) (*ListThingTypesOutput, error) {
	prefix := wire.Value(in.ThingTypeName)
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListThingTypes", prefix)
	if err != nil {
		return nil, err
	}
	out := ListThingTypesOutput{ThingTypes: []ThingTypeDefinition{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		types, next, err := tx.ThingTypes(s, prefix, l.Page)
		for _, t := range types {
			out.ThingTypes = append(out.ThingTypes, ThingTypeDefinition{ThingTypeName: &t.Name, ThingTypeArn: new(s.IoT("thingtype", t.Name)),
				ThingTypeProperties: thingTypeProperties(t), ThingTypeMetadata: thingTypeMetadata(t)})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return &out, err
}
