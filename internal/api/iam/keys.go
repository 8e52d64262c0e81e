package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Status of access keys.
const (
	active   = "Active"
	inactive = "Inactive"
)

// keys are the operations on access keys. UserName may be absent from all but the last: see self.
func (a *api) keys() []wire.Row {
	return []wire.Row{
		wire.Do("CreateAccessKey", a.createAccessKey).NoPermission(),
		wire.Do("ListAccessKeys", a.listAccessKeys).NoPermission(),
		wire.Do("UpdateAccessKey", a.updateAccessKey).NoPermission(),
		wire.Do("DeleteAccessKey", a.deleteAccessKey).NoPermission(),
		wire.Do("GetAccessKeyLastUsed", a.getAccessKeyLastUsed).On(func(s fleet.Scope, in *GetAccessKeyLastUsedInput) []string {
			user, err := a.IAM.KeyOwner(context.Background(), s, in.AccessKeyId)
			if err != nil {
				return nil
			}
			return []string{a.entity(s, store.IAMUser, user).ARN(s)}
		}),
	}
}

func status(k store.AccessKey) string {
	if k.Active {
		return active
	}
	return inactive
}

func (a *api) createAccessKey(ctx context.Context, in *CreateAccessKeyInput) (*CreateAccessKeyOutput, error) {
	user, err := a.self(ctx, "CreateAccessKey", in.UserName)
	if err != nil {
		return nil, err
	}
	k, err := a.IAM.CreateKey(ctx, scope(ctx), user)
	if err != nil {
		return nil, err
	}
	return &CreateAccessKeyOutput{AccessKey: &AccessKey{AccessKeyId: k.ID, CreateDate: new(k.Created), SecretAccessKey: k.Secret,
		Status: status(k.AccessKey), UserName: k.User}}, nil
}

func (a *api) listAccessKeys(ctx context.Context, in *ListAccessKeysInput) (*ListAccessKeysOutput, error) {
	user, err := a.self(ctx, "ListAccessKeys", in.UserName)
	if err != nil {
		return nil, err
	}
	l, err := list(ctx, in.Marker, in.MaxItems, "ListAccessKeys", user)
	if err != nil {
		return nil, err
	}
	keys, err := a.IAM.Keys(ctx, scope(ctx), user)
	if err != nil {
		return nil, err
	}
	out := &ListAccessKeysOutput{AccessKeyMetadata: []AccessKeyMetadata{}}
	keys, out.IsTruncated, out.Marker = cut(l, keys, func(k store.AccessKey) string { return k.ID })
	for _, k := range keys {
		out.AccessKeyMetadata = append(out.AccessKeyMetadata,
			AccessKeyMetadata{AccessKeyId: new(k.ID), CreateDate: new(k.Created), Status: new(status(k)), UserName: new(k.User)})
	}
	return out, nil
}

func (a *api) updateAccessKey(ctx context.Context, in *UpdateAccessKeyInput) (*UpdateAccessKeyOutput, error) {
	user, err := a.self(ctx, "UpdateAccessKey", in.UserName)
	if err != nil {
		return nil, err
	}
	if in.Status != active && in.Status != inactive {
		return nil, fleet.Invalid("", "", "A key cannot be made %s: Status is Active or Inactive", in.Status).WithCode("InvalidInput")
	}
	return nil, a.IAM.SetKeyActive(ctx, scope(ctx), user, in.AccessKeyId, in.Status == active)
}

func (a *api) deleteAccessKey(ctx context.Context, in *DeleteAccessKeyInput) (*DeleteAccessKeyOutput, error) {
	user, err := a.self(ctx, "DeleteAccessKey", in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, a.IAM.DeleteKey(ctx, scope(ctx), user, in.AccessKeyId)
}

// getAccessKeyLastUsed tells whose key it is. When keys were used is not recorded: N/A is AWS's word for that.
func (a *api) getAccessKeyLastUsed(ctx context.Context, in *GetAccessKeyLastUsedInput) (*GetAccessKeyLastUsedOutput, error) {
	user, err := a.IAM.KeyOwner(ctx, scope(ctx), in.AccessKeyId)
	if err != nil {
		return nil, err
	}
	return &GetAccessKeyLastUsedOutput{UserName: new(user), AccessKeyLastUsed: &AccessKeyLastUsed{Region: "N/A", ServiceName: "N/A"}}, nil
}
