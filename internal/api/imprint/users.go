package imprint

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// What administrators of user pools need and Cognito does not offer. The rules are in package userpool.

// ResetSoftwareTokenInput names a user whose software token is lost.
type ResetSoftwareTokenInput struct {
	UserPoolId string `wire:"userPoolId,required,uri" shape:"UserPoolId"`
	Username   string `wire:"username,required" shape:"Username"`
}

type ResetSoftwareTokenOutput struct{}

func userPool(s fleet.Scope, id string) []string { return []string{userpool.ARN(s, id)} }

func (a *api) resetSoftwareToken(ctx context.Context, in *ResetSoftwareTokenInput) (*ResetSoftwareTokenOutput, error) {
	return nil, a.Pools.ResetSoftwareToken(ctx, fleet.CallerFrom(ctx).Scope, in.UserPoolId, in.Username)
}
