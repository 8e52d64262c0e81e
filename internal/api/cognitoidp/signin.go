package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

// AnalyticsMetadata, UserContextData and ContextData are accepted in any shape and not used: they are for statistics and risk scores, which this
// version does not have (identity spec 1.5). DeviceKey likewise: no device is tracked. ClientMetadata goes to the triggers that AWS gives
// it to: none of those here gets that of InitiateAuth.

func (a *api) initiateAuth(ctx context.Context, in *InitiateAuthInput) (*InitiateAuthOutput, error) {
	o, err := a.pools.InitiateAuth(ctx, userpool.SignIn{ClientID: in.ClientId, Flow: in.AuthFlow, Parameters: in.AuthParameters})
	if err != nil {
		return nil, err
	}
	out := outcome(o)
	return &InitiateAuthOutput{ChallengeName: out.ChallengeName, Session: out.Session, ChallengeParameters: out.ChallengeParameters,
		AuthenticationResult: out.AuthenticationResult, AvailableChallenges: o.Available}, nil
}

func (a *api) adminInitiateAuth(ctx context.Context, in *AdminInitiateAuthInput) (*AdminInitiateAuthOutput, error) {
	o, err := a.pools.AdminInitiateAuth(ctx, scope(ctx), in.UserPoolId,
		userpool.SignIn{ClientID: in.ClientId, Flow: in.AuthFlow, Parameters: in.AuthParameters})
	if err != nil {
		return nil, err
	}
	out := outcome(o)
	return &AdminInitiateAuthOutput{ChallengeName: out.ChallengeName, Session: out.Session, ChallengeParameters: out.ChallengeParameters,
		AuthenticationResult: out.AuthenticationResult, AvailableChallenges: o.Available}, nil
}

func (a *api) respondToAuthChallenge(ctx context.Context, in *RespondToAuthChallengeInput) (*RespondToAuthChallengeOutput, error) {
	o, err := a.pools.Respond(userpool.WithMetadata(ctx, in.ClientMetadata), userpool.Answer{ClientID: in.ClientId, Challenge: in.ChallengeName, Session: wire.Value(in.Session),
		Responses: in.ChallengeResponses})
	if err != nil {
		return nil, err
	}
	return outcome(o), nil
}

func (a *api) adminRespondToAuthChallenge(ctx context.Context, in *AdminRespondToAuthChallengeInput) (*AdminRespondToAuthChallengeOutput, error) {
	o, err := a.pools.AdminRespond(userpool.WithMetadata(ctx, in.ClientMetadata), scope(ctx), in.UserPoolId, userpool.Answer{ClientID: in.ClientId, Challenge: in.ChallengeName,
		Session: wire.Value(in.Session), Responses: in.ChallengeResponses})
	if err != nil {
		return nil, err
	}
	out := outcome(o)
	return &AdminRespondToAuthChallengeOutput{ChallengeName: out.ChallengeName, Session: out.Session, ChallengeParameters: out.ChallengeParameters,
		AuthenticationResult: out.AuthenticationResult}, nil
}

// outcome is the shape that all four share. Success has neither ChallengeName nor Session: clients branch on them.
func outcome(o userpool.Outcome) *RespondToAuthChallengeOutput {
	out := &RespondToAuthChallengeOutput{ChallengeName: text(o.Challenge), ChallengeParameters: o.Parameters}
	if o.Session != "" {
		out.Session = new(o.Session)
	}
	if o.Tokens != nil {
		out.AuthenticationResult = result(o.Tokens)
	}
	return out
}

func result(t *userpool.Tokens) *AuthenticationResultType {
	r := &AuthenticationResultType{AccessToken: new(t.Access), TokenType: new("Bearer"), ExpiresIn: new(t.ExpiresIn)}
	if t.ID != "" { // a session of hosted sign-in that is being renewed may have none
		r.IdToken = new(t.ID)
	}
	if t.Refresh != "" {
		r.RefreshToken = new(t.Refresh)
	}
	return r
}

func (a *api) getTokensFromRefreshToken(ctx context.Context, in *GetTokensFromRefreshTokenInput) (*GetTokensFromRefreshTokenOutput, error) {
	t, err := a.pools.Refresh(userpool.WithMetadata(ctx, in.ClientMetadata), in.ClientId, wire.Value(in.ClientSecret), in.RefreshToken)
	if err != nil {
		return nil, err
	}
	return &GetTokensFromRefreshTokenOutput{AuthenticationResult: result(t)}, nil
}

func (a *api) revokeToken(ctx context.Context, in *RevokeTokenInput) (*RevokeTokenOutput, error) {
	return nil, a.pools.Revoke(ctx, in.ClientId, wire.Value(in.ClientSecret), in.Token)
}

func (a *api) signUp(ctx context.Context, in *SignUpInput) (*SignUpOutput, error) {
	made, err := a.pools.SignUp(userpool.WithMetadata(ctx, in.ClientMetadata), userpool.Registration{ClientID: in.ClientId, SecretHash: wire.Value(in.SecretHash),
		Username: in.Username, Password: wire.Value(in.Password), Attributes: attributesIn(in.UserAttributes), Validation: attributesIn(in.ValidationData)})
	if err != nil {
		return nil, err
	}
	out := &SignUpOutput{UserConfirmed: made.Confirmed, UserSub: made.Sub}
	if made.Delivery != nil {
		out.CodeDeliveryDetails = deliveryDetails(*made.Delivery)
	}
	return out, nil
}

func deliveryDetails(d userpool.CodeDelivery) *CodeDeliveryDetailsType {
	return &CodeDeliveryDetailsType{AttributeName: new(d.Attribute), DeliveryMedium: new(d.Medium), Destination: new(d.Destination)}
}

func (a *api) confirmSignUp(ctx context.Context, in *ConfirmSignUpInput) (*ConfirmSignUpOutput, error) {
	r := userpool.CodeRequest{ClientID: in.ClientId, SecretHash: wire.Value(in.SecretHash), Username: in.Username}
	return nil, a.pools.ConfirmSignUp(userpool.WithMetadata(ctx, in.ClientMetadata), r, in.ConfirmationCode, wire.Value(in.ForceAliasCreation))
}

func (a *api) resendConfirmationCode(ctx context.Context, in *ResendConfirmationCodeInput) (*ResendConfirmationCodeOutput, error) {
	d, err := a.pools.ResendCode(userpool.WithMetadata(ctx, in.ClientMetadata), userpool.CodeRequest{ClientID: in.ClientId, SecretHash: wire.Value(in.SecretHash), Username: in.Username})
	if err != nil {
		return nil, err
	}
	return &ResendConfirmationCodeOutput{CodeDeliveryDetails: deliveryDetails(d)}, nil
}

func (a *api) forgotPassword(ctx context.Context, in *ForgotPasswordInput) (*ForgotPasswordOutput, error) {
	d, err := a.pools.ForgotPassword(userpool.WithMetadata(ctx, in.ClientMetadata), userpool.CodeRequest{ClientID: in.ClientId, SecretHash: wire.Value(in.SecretHash), Username: in.Username})
	if err != nil {
		return nil, err
	}
	return &ForgotPasswordOutput{CodeDeliveryDetails: deliveryDetails(d)}, nil
}

func (a *api) confirmForgotPassword(ctx context.Context, in *ConfirmForgotPasswordInput) (*ConfirmForgotPasswordOutput, error) {
	r := userpool.CodeRequest{ClientID: in.ClientId, SecretHash: wire.Value(in.SecretHash), Username: in.Username}
	return nil, a.pools.ConfirmForgotPassword(userpool.WithMetadata(ctx, in.ClientMetadata), r, in.ConfirmationCode, in.Password)
}
