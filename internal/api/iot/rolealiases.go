package iot

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// roleAliasKind is the resource type of role aliases in ARNs.
const roleAliasKind = "rolealias"

func (a *API) roleAliasRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateRoleAlias", a.createRoleAlias).
			On(named(roleAliasKind, func(in *CreateRoleAliasInput) string { return in.RoleAlias })).
			Conditions(tagging(func(in *CreateRoleAliasInput) []Tag { return in.Tags })),
		wire.Do("DescribeRoleAlias", a.describeRoleAlias).On(named(roleAliasKind, func(in *DescribeRoleAliasInput) string { return in.RoleAlias })),
		wire.Do("UpdateRoleAlias", a.updateRoleAlias).On(named(roleAliasKind, func(in *UpdateRoleAliasInput) string { return in.RoleAlias })),
		wire.Do("DeleteRoleAlias", a.deleteRoleAlias).On(named(roleAliasKind, func(in *DeleteRoleAliasInput) string { return in.RoleAlias })),
		wire.Do("ListRoleAliases", a.listRoleAliases),
	}
}

// passRole asks whether the caller may hand a role to a service (identity spec 4.4).
func (a *API) passRole(ctx context.Context, role, service string) error {
	return a.Roles.PassRole(ctx, fleet.CallerFrom(ctx), role, service)
}

func (a *API) createRoleAlias(ctx context.Context, in *CreateRoleAliasInput) (*CreateRoleAliasOutput, error) {
	if err := a.passRole(ctx, in.RoleArn, iam.CredentialProvider); err != nil {
		return nil, err
	}
	d := time.Duration(wire.Value(in.CredentialDurationSeconds)) * time.Second
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		_, err := registry.CreateRoleAlias(tx, s, in.RoleAlias, in.RoleArn, d, tagsFrom(in.Tags))
		return err
	})
	return &CreateRoleAliasOutput{RoleAlias: &in.RoleAlias, RoleAliasArn: new(scope(ctx).IoT(roleAliasKind, in.RoleAlias))}, err
}

func (a *API) describeRoleAlias(ctx context.Context, in *DescribeRoleAliasInput) (*DescribeRoleAliasOutput, error) {
	var out DescribeRoleAliasOutput
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		r, err := tx.RoleAlias(s, in.RoleAlias)
		out.RoleAliasDescription = &RoleAliasDescription{RoleAlias: &r.Name, RoleAliasArn: new(s.IoT(roleAliasKind, r.Name)), RoleArn: &r.RoleARN, Owner: &s.Account,
			CredentialDurationSeconds: new(int(r.Duration / time.Second)), CreationDate: &r.Created, LastModifiedDate: &r.Modified}
		return err
	})
	return &out, err
}

func (a *API) updateRoleAlias(ctx context.Context, in *UpdateRoleAliasInput) (*UpdateRoleAliasOutput, error) {
	if in.RoleArn != nil {
		if err := a.passRole(ctx, *in.RoleArn, iam.CredentialProvider); err != nil {
			return nil, err
		}
	}
	var d *time.Duration
	if in.CredentialDurationSeconds != nil {
		d = new(time.Duration(*in.CredentialDurationSeconds) * time.Second)
	}
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.UpdateRoleAlias(tx, s, in.RoleAlias, in.RoleArn, d)
	})
	return &UpdateRoleAliasOutput{RoleAlias: &in.RoleAlias, RoleAliasArn: new(scope(ctx).IoT(roleAliasKind, in.RoleAlias))}, err
}

func (a *API) deleteRoleAlias(ctx context.Context, in *DeleteRoleAliasInput) (*DeleteRoleAliasOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.DeleteRoleAlias(tx, s, in.RoleAlias) })
}

// listRoleAliases lists names alone, in the order of the alphabet if that is asked for, else in the opposite one.
func (a *API) listRoleAliases(ctx context.Context, in *ListRoleAliasesInput) (*ListRoleAliasesOutput, error) {
	desc, sorted := order(in.AscendingOrder)
	l, err := list(ctx, in.Marker, in.PageSize, "ListRoleAliases", sorted)
	if err != nil {
		return nil, err
	}
	l.Desc = desc
	out := ListRoleAliasesOutput{RoleAliases: []string{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		page, next, err := tx.RoleAliases(s, l.Page)
		for _, r := range page {
			out.RoleAliases = append(out.RoleAliases, r.Name)
		}
		out.NextMarker = l.Token(next)
		return err
	})
	return &out, err
}
