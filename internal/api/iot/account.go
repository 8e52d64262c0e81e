package iot

import (
	"context"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// accountRows are tags, endpoints and what else belongs to the account as a whole.
func (a *API) accountRows() []wire.Row {
	return []wire.Row{
		wire.Do("TagResource", a.tagResource).
			On(target(func(in *TagResourceInput) string { return in.ResourceArn })).
			Conditions(tagging(func(in *TagResourceInput) []Tag { return in.Tags })),
		wire.Do("UntagResource", a.untagResource).
			On(target(func(in *UntagResourceInput) string { return in.ResourceArn })).
			Conditions(func(_ fleet.Scope, in *UntagResourceInput) map[string][]string {
				return map[string][]string{"aws:TagKeys": in.TagKeys}
			}),
		wire.Do("ListTagsForResource", a.listTagsForResource).On(target(func(in *ListTagsForResourceInput) string { return in.ResourceArn })),
		wire.Do("DescribeEndpoint", a.describeEndpoint),
		wire.Do("DescribeEventConfigurations", a.describeEventConfigurations),
		wire.Do("UpdateEventConfigurations", a.updateEventConfigurations),
	}
}

func (a *API) tagResource(ctx context.Context, in *TagResourceInput) (*TagResourceOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.Tag(tx, s, in.ResourceArn, tagsFrom(in.Tags)) })
}

func (a *API) untagResource(ctx context.Context, in *UntagResourceInput) (*UntagResourceOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.Untag(tx, s, in.ResourceArn, in.TagKeys) })
}

// listTagsForResource answers all tags at once: there are at most 50, so it gives no token and none is valid.
func (a *API) listTagsForResource(ctx context.Context, in *ListTagsForResourceInput) (*ListTagsForResourceOutput, error) {
	if _, err := list(ctx, in.NextToken, nil, "ListTagsForResource", in.ResourceArn); err != nil {
		return nil, err
	}
	out := ListTagsForResourceOutput{Tags: []Tag{}}
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		tags, err := registry.Tags(tx, s, in.ResourceArn)
		for _, t := range tags {
			out.Tags = append(out.Tags, Tag{Key: t.Key, Value: &t.Value})
		}
		return err
	})
	return &out, err
}

func (a *API) describeEndpoint(ctx context.Context, in *DescribeEndpointInput) (*DescribeEndpointOutput, error) {
	host, err := a.Registry.Endpoint(ctx, scope(ctx), wire.Value(in.EndpointType))
	return &DescribeEndpointOutput{EndpointAddress: &host}, err
}

func (a *API) describeEventConfigurations(ctx context.Context, _ *DescribeEventConfigurationsInput) (*DescribeEventConfigurationsOutput, error) {
	out := DescribeEventConfigurationsOutput{EventConfigurations: map[string]Configuration{}}
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		e, err := tx.EventConfigurations(s)
		for _, name := range registry.EventTypes {
			out.EventConfigurations[name] = Configuration{Enabled: new(slices.Contains(e.Enabled, name))}
		}
		if !e.Created.IsZero() {
			out.CreationDate, out.LastModifiedDate = &e.Created, &e.Modified
		}
		return err
	})
	return &out, err
}

func (a *API) updateEventConfigurations(ctx context.Context, in *UpdateEventConfigurationsInput) (*UpdateEventConfigurationsOutput, error) {
	enabled := map[string]bool{}
	for name, c := range in.EventConfigurations {
		enabled[name] = wire.Value(c.Enabled)
	}
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.UpdateEvents(tx, s, enabled) })
}
