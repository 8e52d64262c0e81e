package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) getUser(ctx context.Context, in *GetUserInput) (*GetUserOutput, error) {
	u, err := a.pools.Self(ctx, in.AccessToken)
	if err != nil {
		return nil, err
	}
	return &GetUserOutput{Username: u.Username, UserAttributes: attributesOut(u.Attributes), UserMFASettingList: u.MFA, PreferredMfaSetting: text(u.PreferredMFA)}, nil
}

func (a *api) globalSignOut(ctx context.Context, in *GlobalSignOutInput) (*GlobalSignOutOutput, error) {
	return nil, a.pools.SignOutEverywhere(ctx, in.AccessToken)
}

func (a *api) changePassword(ctx context.Context, in *ChangePasswordInput) (*ChangePasswordOutput, error) {
	return nil, a.pools.ChangePassword(ctx, in.AccessToken, wire.Value(in.PreviousPassword), in.ProposedPassword)
}

func (a *api) updateUserAttributes(ctx context.Context, in *UpdateUserAttributesInput) (*UpdateUserAttributesOutput, error) {
	sent, err := a.pools.UpdateSelf(userpool.WithMetadata(ctx, in.ClientMetadata), in.AccessToken, attributesIn(in.UserAttributes))
	if err != nil {
		return nil, err
	}
	out := &UpdateUserAttributesOutput{}
	for _, d := range sent {
		out.CodeDeliveryDetailsList = append(out.CodeDeliveryDetailsList, *deliveryDetails(d))
	}
	return out, nil
}

func (a *api) deleteUserAttributes(ctx context.Context, in *DeleteUserAttributesInput) (*DeleteUserAttributesOutput, error) {
	changes := make(map[string]string, len(in.UserAttributeNames))
	for _, name := range in.UserAttributeNames {
		changes[name] = ""
	}
	_, err := a.pools.UpdateSelf(ctx, in.AccessToken, changes)
	return nil, err
}

func (a *api) getUserAttributeVerificationCode(ctx context.Context, in *GetUserAttributeVerificationCodeInput) (*GetUserAttributeVerificationCodeOutput, error) {
	d, err := a.pools.RequestVerification(userpool.WithMetadata(ctx, in.ClientMetadata), in.AccessToken, in.AttributeName)
	if err != nil {
		return nil, err
	}
	return &GetUserAttributeVerificationCodeOutput{CodeDeliveryDetails: deliveryDetails(d)}, nil
}

func (a *api) verifyUserAttribute(ctx context.Context, in *VerifyUserAttributeInput) (*VerifyUserAttributeOutput, error) {
	return nil, a.pools.VerifyAttribute(ctx, in.AccessToken, in.AttributeName, in.Code)
}

func (a *api) deleteUser(ctx context.Context, in *DeleteUserInput) (*DeleteUserOutput, error) {
	return nil, a.pools.DeleteSelf(ctx, in.AccessToken)
}
