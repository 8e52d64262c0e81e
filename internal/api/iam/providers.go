package iam

import (
	"context"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// providers are the operations on OpenID Connect providers.
func (a *api) providers() []wire.Row {
	return []wire.Row{
		wire.Do("CreateOpenIDConnectProvider", a.createProvider).
			On(func(s fleet.Scope, in *CreateOpenIDConnectProviderInput) []string {
				return []string{s.IAM("oidc-provider/" + issuer(in.Url))}
			}).
			Conditions(func(_ fleet.Scope, in *CreateOpenIDConnectProviderInput) facts { return requestTags(in.Tags) }),
		aboutProvider(a, wire.Do("GetOpenIDConnectProvider", a.getProvider),
			func(in *GetOpenIDConnectProviderInput) string { return in.OpenIDConnectProviderArn }),
		wire.Do("ListOpenIDConnectProviders", a.listProviders).
			On(func(s fleet.Scope, _ *ListOpenIDConnectProvidersInput) []string {
				return []string{s.IAM("oidc-provider/*")}
			}),
		aboutProvider(a, act[TagOpenIDConnectProviderOutput]("TagOpenIDConnectProvider", func(ctx context.Context, s fleet.Scope, in *TagOpenIDConnectProviderInput) error {
			return a.tagARN(ctx, s, in.OpenIDConnectProviderArn, in.Tags)
		}), func(in *TagOpenIDConnectProviderInput) string { return in.OpenIDConnectProviderArn },
			func(in *TagOpenIDConnectProviderInput) facts { return requestTags(in.Tags) }),
		aboutProvider(a, act[UntagOpenIDConnectProviderOutput]("UntagOpenIDConnectProvider", func(ctx context.Context, s fleet.Scope, in *UntagOpenIDConnectProviderInput) error {
			return a.IAM.UntagARN(ctx, s, in.OpenIDConnectProviderArn, in.TagKeys)
		}), func(in *UntagOpenIDConnectProviderInput) string { return in.OpenIDConnectProviderArn },
			func(in *UntagOpenIDConnectProviderInput) facts { return facts{"aws:TagKeys": in.TagKeys} }),
		aboutProvider(a, wire.Do("ListOpenIDConnectProviderTags", a.listProviderTags), func(in *ListOpenIDConnectProviderTagsInput) string { return in.OpenIDConnectProviderArn }),
		aboutProvider(a, act[DeleteOpenIDConnectProviderOutput]("DeleteOpenIDConnectProvider", func(ctx context.Context, s fleet.Scope, in *DeleteOpenIDConnectProviderInput) error {
			return a.IAM.DeleteProvider(ctx, s, in.OpenIDConnectProviderArn)
		}), func(in *DeleteOpenIDConnectProviderInput) string { return in.OpenIDConnectProviderArn }),
		aboutProvider(a, act[AddClientIDToOpenIDConnectProviderOutput]("AddClientIDToOpenIDConnectProvider", func(ctx context.Context, s fleet.Scope, in *AddClientIDToOpenIDConnectProviderInput) error {
			return a.IAM.ChangeProvider(ctx, s, in.OpenIDConnectProviderArn, func(e *iam.Entity) { e.ClientIDs = append(e.ClientIDs, in.ClientID) })
		}), func(in *AddClientIDToOpenIDConnectProviderInput) string { return in.OpenIDConnectProviderArn }),
		aboutProvider(a, act[RemoveClientIDFromOpenIDConnectProviderOutput]("RemoveClientIDFromOpenIDConnectProvider", func(ctx context.Context, s fleet.Scope, in *RemoveClientIDFromOpenIDConnectProviderInput) error {
			return a.IAM.ChangeProvider(ctx, s, in.OpenIDConnectProviderArn, func(e *iam.Entity) {
				e.ClientIDs = slices.DeleteFunc(e.ClientIDs, func(id string) bool { return id == in.ClientID })
			})
		}), func(in *RemoveClientIDFromOpenIDConnectProviderInput) string { return in.OpenIDConnectProviderArn }),
		aboutProvider(a, act[UpdateOpenIDConnectProviderThumbprintOutput]("UpdateOpenIDConnectProviderThumbprint", func(ctx context.Context, s fleet.Scope, in *UpdateOpenIDConnectProviderThumbprintInput) error {
			return a.IAM.ChangeProvider(ctx, s, in.OpenIDConnectProviderArn, func(e *iam.Entity) { e.Thumbprints = in.ThumbprintList })
		}), func(in *UpdateOpenIDConnectProviderThumbprintInput) string { return in.OpenIDConnectProviderArn }),
	}
}

func (a *api) listProviderTags(ctx context.Context, in *ListOpenIDConnectProviderTagsInput) (*ListOpenIDConnectProviderTagsOutput, error) {
	e, err := a.IAM.Provider(ctx, scope(ctx), in.OpenIDConnectProviderArn)
	if err != nil {
		return nil, err
	}
	out := &ListOpenIDConnectProviderTagsOutput{}
	out.Tags, out.IsTruncated, out.Marker, err = pageOfTags(ctx, e.Tags, in.Marker, in.MaxItems, "ListOpenIDConnectProviderTags", in.OpenIDConnectProviderArn)
	return out, err
}

func (a *api) createProvider(ctx context.Context, in *CreateOpenIDConnectProviderInput) (*CreateOpenIDConnectProviderOutput, error) {
	tags, err := tagsIn(in.Tags)
	if err != nil {
		return nil, err
	}
	e, err := a.IAM.CreateProvider(ctx, scope(ctx), in.Url, in.ClientIDList, in.ThumbprintList, tags)
	if err != nil {
		return nil, err
	}
	return &CreateOpenIDConnectProviderOutput{OpenIDConnectProviderArn: new(e.ARN(scope(ctx))), Tags: tagsOut(e.Tags)}, nil
}

func (a *api) getProvider(ctx context.Context, in *GetOpenIDConnectProviderInput) (*GetOpenIDConnectProviderOutput, error) {
	e, err := a.IAM.Provider(ctx, scope(ctx), in.OpenIDConnectProviderArn)
	if err != nil {
		return nil, err
	}
	return &GetOpenIDConnectProviderOutput{ClientIDList: orEmpty(e.ClientIDs), CreateDate: new(e.Created), Tags: tagsOut(e.Tags),
		ThumbprintList: orEmpty(e.Thumbprints), Url: new(e.URL)}, nil
}

// orEmpty makes a list that is shown although it is empty.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (a *api) listProviders(ctx context.Context, _ *ListOpenIDConnectProvidersInput) (*ListOpenIDConnectProvidersOutput, error) {
	found, _, err := a.IAM.Entities(ctx, scope(ctx), store.IAMOIDC, "", fleet.Page{})
	if err != nil {
		return nil, err
	}
	out := &ListOpenIDConnectProvidersOutput{OpenIDConnectProviderList: []OpenIDConnectProviderListEntry{}}
	for _, e := range found {
		out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList, OpenIDConnectProviderListEntry{Arn: new(e.ARN(scope(ctx)))})
	}
	return out, nil
}
